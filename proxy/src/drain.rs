//! The way out: stop accepting, finish what is under way, end.

/// How far the drain is. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No drain.
    Serving,
    /// Nothing new is accepted.
    Draining,
    /// Its time is over: what is left is cut.
    Over,
}
