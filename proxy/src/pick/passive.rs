//! Passive ejection: an endpoint that fails to connect, resets before an answer, or breaks the protocol several
//! times in a row rests for a while. Never for a status that the application sent: a fork's own 503 must reach
//! its tester.

use std::time::Duration;

/// Failures in a row that eject.
const THRESHOLD: u8 = 3;
/// The first rest; each further one in a row is twice as long.
const BASE: Duration = Duration::from_secs(5);
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(60);

/// What one worker has seen of one endpoint. Times count from a fixed point, and are arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passive {
    failures: u8,
    rests: u8,
    until: Option<Duration>,
}

impl Passive {
    /// An exchange went well: everything is forgotten.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// An exchange failed at `now`. It ejects only if `others` can serve: never the last of its set.
    pub fn failed(&mut self, now: Duration, others: bool) {
        // After a rest one more failure ejects again: the count stays at the threshold.
        self.failures = self.failures.saturating_add(1).min(THRESHOLD);
        if self.failures == THRESHOLD && others && !self.is_ejected(now) {
            let rest = BASE.saturating_mul(1 << self.rests.min(6)).min(LONGEST);
            self.rests = self.rests.saturating_add(1);
            self.until = Some(now + rest);
        }
    }

    /// Whether it rests at `now`.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn three_in_a_row_eject_then_it_recovers() {
        let mut passive = Passive::default();
        passive.failed(at(0), true);
        passive.failed(at(0), true);
        assert!(!passive.is_ejected(at(0)));
        passive.failed(at(0), true);
        assert!(passive.is_ejected(at(4)));
        assert!(!passive.is_ejected(at(5)), "it gets another chance");
        passive.failed(at(5), true);
        assert!(passive.is_ejected(at(14)), "and one failure is enough then, for twice as long");
        passive.succeeded();
        assert!(!passive.is_ejected(at(14)));
    }

    #[test]
    fn a_success_between_resets_the_count() {
        let mut passive = Passive::default();
        for _ in 0..10 {
            passive.failed(at(0), true);
            passive.failed(at(0), true);
            passive.succeeded();
        }
        assert!(!passive.is_ejected(at(0)));
    }

    #[test]
    fn never_the_last_one() {
        let mut passive = Passive::default();
        for _ in 0..10 {
            passive.failed(at(0), false);
        }
        assert!(!passive.is_ejected(at(0)));
    }
}
