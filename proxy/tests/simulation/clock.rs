//! Time, which only the director moves, and the order of what happens.
//!
//! The clock of the runtime is paused, and the director never lets the runtime park: so no timer fires because nothing
//! seems to happen while a byte is between two sockets. Time moves in small steps, and after each of them, as after all
//! that the director does, everybody runs until nothing moves any more.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How often in a row the sockets are looked at, and nobody has anything to do, before nothing moves. A connect that is
/// refused, and the next one, take the proxy two looks each, and no actor of ours hears of it.
const QUIET: usize = 16;
/// Looks after which something moves for ever.
const MOST: usize = 100_000;

pub(crate) struct Clock {
    start: Instant,
    wall: Timestamp,
    moved: Cell<u64>,
    step: Cell<usize>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), wall: Timestamp::now(), moved: Cell::new(0), step: Cell::new(0) }
    }

    /// The time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time as the owner of the table is told it.
    pub(crate) fn wall(&self) -> Timestamp {
        self.wall_at(self.now())
    }

    pub(crate) fn wall_at(&self, at: Duration) -> Timestamp {
        self.wall + at
    }

    /// The number of the thing that the director does now.
    pub(crate) fn step(&self) -> usize {
        self.step.get()
    }

    pub(crate) fn next_step(&self) {
        self.step.set(self.step.get() + 1);
    }

    /// Told by an actor that has heard or done something.
    pub(crate) fn moved(&self) {
        self.moved.set(self.moved.get() + 1);
    }

    /// Lets everybody run until nothing moves; time stands still.
    pub(crate) async fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..MOST {
            let before = self.moved.get();
            tokio::task::yield_now().await;
            quiet = if self.moved.get() == before { quiet + 1 } else { 0 };
            if quiet == QUIET {
                return;
            }
        }
        panic!("something moves for ever, though no time passes");
    }

    /// One step of time.
    pub(crate) async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
        self.settle().await;
    }
}
