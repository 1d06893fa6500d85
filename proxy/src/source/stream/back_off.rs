//! How long to wait before a controller is asked again, and how often to say so.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use super::client::Failed;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// At most.
const MOST: Duration = Duration::from_secs(10);
/// The same failure is told again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// Another one after so long.
const OTHER: Duration = Duration::from_secs(5);

/// Waits that double, with jitter, so that two hundred proxies do not ask a controller that is back all at once.
#[derive(Debug)]
pub(super) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl BackOff {
    /// The next wait: between half and all of its turn.
    pub(super) fn next_wait(&mut self) -> Duration {
        let turn = self.0;
        self.0 = (turn * 2).min(MOST);
        // Each state of this kind has its own seed, which is random enough to spread proxies.
        let random = std::collections::hash_map::RandomState::new().hash_one(0) % 1000;
        turn / 2 + (turn / 2000) * u32::try_from(random).unwrap_or(0)
    }
}

/// Tells of connections in the log, and not of each of a thousand attempts.
#[derive(Debug, Default)]
pub(super) struct Teller {
    last: Option<(Instant, String)>,
}

impl Teller {
    /// A controller is heard.
    pub(super) fn connected(&mut self, url: &str) {
        self.last = None;
        tracing::info!("following the controller at {url}");
    }

    /// It is not, for this reason.
    pub(super) fn failed(&mut self, url: &str, error: &Failed) {
        let text = error.to_string();
        let is_due = self
            .last
            .as_ref()
            .is_none_or(|(at, before)| at.elapsed() > if *before == text { AGAIN } else { OTHER });
        if is_due {
            tracing::warn!("the controller at {url} is not followed, the last table stays: {text}");
            self.last = Some((Instant::now(), text));
        } else {
            tracing::debug!("the controller at {url} is not followed: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let mut back_off = BackOff::default();
        let mut turn = FIRST;
        for _ in 0..20 {
            let wait = back_off.next_wait();
            assert!(wait >= turn / 2 && wait <= turn, "{wait:?} of {turn:?}");
            turn = (turn * 2).min(MOST);
        }
        let waits: std::collections::BTreeSet<_> = (0..50).map(|_| BackOff::default().next_wait()).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
