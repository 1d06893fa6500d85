//! Whether the peer of a connection still lives: one that dies without a word leaves its connection open for minutes.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing may come while something is under way, before the peer is asked; and how long it may take to its
/// answer.
const QUIET: Duration = Duration::from_secs(20);

/// Asks a peer that says nothing for a sign of life. One that nothing is asked of may be silent: servers count pings
/// on an idle connection as abuse.
pub(super) struct Pulse {
    /// Bytes that had come, and since when there are no more.
    read: u64,
    since: Instant,
    asked: bool,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Alive,
    /// It is to be asked.
    Ask,
    Dead,
}

impl Pulse {
    pub(super) const fn new(now: Instant) -> Self {
        Self { read: 0, since: now, asked: false }
    }

    /// Whether the peer is alive, as far as can be said `now`, when `read` bytes have come.
    pub(super) fn beats(&mut self, read: u64, busy: bool, now: Instant) -> Beat {
        // An answer to a ping shows in the bytes.
        if read != self.read || !busy {
            *self = Self { read, since: now, asked: false };
        } else if now.saturating_duration_since(self.since) >= QUIET {
            if self.asked {
                return Beat::Dead;
            }
            (self.since, self.asked) = (now, true);
            return Beat::Ask;
        }
        Beat::Alive
    }
}

#[cfg(test)]
mod tests {
    use super::Beat::{Alive, Ask, Dead};
    use super::*;

    #[test]
    fn who_does_not_answer_is_dead() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pulse.beats(0, true, at(19)), Alive);
        assert_eq!(pulse.beats(0, true, at(20)), Ask);
        assert_eq!(pulse.beats(0, true, at(39)), Alive, "has time");
        assert_eq!(pulse.beats(0, true, at(40)), Dead);
    }

    #[test]
    fn who_says_something_or_has_nothing_to_say_is_not_asked() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pulse.beats(9, true, at(20)), Alive, "bytes came");
        assert_eq!(pulse.beats(9, false, at(50)), Alive, "nothing is under way");
        assert_eq!(pulse.beats(9, true, at(69)), Alive, "and now something, since 19 s");
        assert_eq!(pulse.beats(9, true, at(70)), Ask);
        assert_eq!(pulse.beats(26, true, at(71)), Alive, "the answer, or anything else");
        assert_eq!(pulse.beats(26, true, at(91)), Ask, "and again");
    }
}
