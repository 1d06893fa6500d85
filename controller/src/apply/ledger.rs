//! Which writes are due. Pure: the clock is an argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::wants::{Target, Write};

/// The first pause after a failure.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long it is remembered what was written.
const MEMORY: Duration = Duration::from_secs(3600);
/// How many targets are remembered; beyond that the memory is given up, at the price of repeated writes.
const MAX_ENTRIES: usize = 50_000;

/// What was written, and what failed.
#[derive(Default)]
pub(super) struct Ledger {
    entries: HashMap<Target, Entry>,
}

struct Entry {
    content: u64,
    at: Instant,
    failures: u32,
    message: Box<str>,
}

impl Entry {
    fn pause(&self) -> Duration {
        MIN_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(MAX_PAUSE)
    }
}

impl Ledger {
    /// Whether `write` should be tried now.
    pub(super) fn is_due(&self, write: &Write, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&write.target()) else { return true };
        let age = now.saturating_duration_since(entry.at);
        // Something else is another try, whatever came of the last one: it may be what mends a Service.
        let wait = if entry.failures > 0 { entry.pause() } else { write.again() };
        entry.content != write.content() || age >= wait
    }

    /// It went well.
    pub(super) fn done(&mut self, write: &Write, now: Instant) {
        let entry = Entry { content: write.content(), at: now, failures: 0, message: Box::default() };
        self.entries.insert(write.target(), entry);
    }

    /// It failed; says whether that is news.
    pub(super) fn failed(&mut self, write: &Write, now: Instant, message: &str) -> bool {
        let before = self.entries.remove(&write.target()).filter(|entry| entry.failures > 0);
        let is_news = before.as_ref().is_none_or(|entry| &*entry.message != message);
        let failures = before.map_or(0, |entry| entry.failures).saturating_add(1);
        let entry = Entry { content: write.content(), at: now, failures, message: message.into() };
        self.entries.insert(write.target(), entry);
        is_news
    }

    /// How long it is until a write that failed is due again.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Duration> {
        let failed = self.entries.values().filter(|entry| entry.failures > 0);
        failed.map(|entry| entry.pause().saturating_sub(now.saturating_duration_since(entry.at))).min()
    }

    /// Forgets what is old, and failures of what is not wanted any more.
    pub(super) fn prune(&mut self, wanted: &HashSet<Target>, now: Instant) {
        self.entries.retain(|target, entry| match entry.failures {
            0 => now.saturating_duration_since(entry.at) < MEMORY,
            _ => wanted.contains(target),
        });
        if self.entries.len() > MAX_ENTRIES {
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Deletion;
    use crate::world::{Name, WorkloadKind};

    fn deletion(uid: &str) -> Write {
        let name = Name::new("shop", "checkout-pr-42");
        Write::Delete(Deletion {
            kind: WorkloadKind::Deployment,
            name,
            uid: uid.into(),
            orphan_of: None,
            why: "its end".into(),
        })
    }

    #[test]
    fn what_was_written_is_not_written_again_at_once() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert!(ledger.is_due(&deletion("a"), now));
        ledger.done(&deletion("a"), now);
        assert!(!ledger.is_due(&deletion("a"), now + Duration::from_secs(29)));
        assert!(ledger.is_due(&deletion("b"), now), "another content is another write");
        assert!(ledger.is_due(&deletion("a"), now + Duration::from_secs(30)), "somebody else undid it");
        assert_eq!(ledger.next_retry(now), None);
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_is_news_once() {
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            ledger.failed(&deletion("a"), now, "forbidden");
            let wait = ledger.next_retry(now).unwrap();
            assert!(!ledger.is_due(&deletion("a"), now + wait - Duration::from_millis(1)));
            assert!(ledger.is_due(&deletion("a"), now + wait));
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!ledger.failed(&deletion("a"), now, "forbidden"));
        assert!(ledger.failed(&deletion("a"), now, "not found"));
        ledger.done(&deletion("a"), now);
        assert!(ledger.failed(&deletion("a"), now, "not found"));
    }

    #[test]
    fn something_else_is_tried_at_once_after_a_failure() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.failed(&deletion("a"), now, "it is another one than a moment ago");
        assert!(!ledger.is_due(&deletion("a"), now));
        assert!(ledger.is_due(&deletion("b"), now));
        ledger.failed(&deletion("b"), now, "it is another one than a moment ago");
        assert!(!ledger.is_due(&deletion("b"), now + Duration::from_secs(1)), "the second failure in a row");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.done(&deletion("a"), now);
        let none = HashSet::new();
        ledger.prune(&none, now + Duration::from_secs(3599));
        assert_eq!(ledger.entries.len(), 1);
        ledger.prune(&none, now + Duration::from_secs(3600));
        assert_eq!(ledger.entries.len(), 0);
    }

    #[test]
    fn a_failure_of_what_nobody_wants_any_more_is_forgotten() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.failed(&deletion("a"), now, "forbidden");
        ledger.prune(&HashSet::from([deletion("a").target()]), now);
        assert!(ledger.next_retry(now).is_some());
        ledger.prune(&HashSet::new(), now);
        assert_eq!(ledger.next_retry(now), None);
    }
}
