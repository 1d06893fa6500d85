//! What the API server said about tokens lately. Bounded, and the bad ones apart from the good: a stranger who tries
//! tokens must not push a proxy's out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::User;

/// The SHA-256 of a token.
pub(super) type Digest = [u8; 32];

/// The most good tokens, and the most bad ones. Each sidecar has a token, for a while two: those that were not kept would
/// have the API server asked with every report.
const MAX: usize = 32_768;

/// A good token.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Whose it is.
    pub(super) user: Arc<User>,
    /// When the API server said so.
    pub(super) checked: Instant,
    /// Until when the token itself says that it is good.
    pub(super) until: Option<SystemTime>,
    /// Whether they may read previews, and when that was asked; `None`: it was not.
    pub(super) may_read: Option<(bool, Instant)>,
    /// Whether the pod that it is bound to may have a table, or why not, and when that was asked; `None`: it was not.
    pub(super) marked: Option<(Result<(), &'static str>, Instant)>,
}

impl Known {
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    good: HashMap<Digest, Known>,
    bad: HashMap<Digest, Instant>,
}

impl Cache {
    pub(super) fn good(&mut self, digest: &Digest) -> Option<Known> {
        self.good.get(digest).cloned()
    }

    pub(super) fn is_bad(&mut self, digest: &Digest, now: Instant, lasting: Duration) -> bool {
        self.bad.get(digest).is_some_and(|since| now.saturating_duration_since(*since) < lasting)
    }

    pub(super) fn put_good(&mut self, digest: Digest, known: Known) {
        if self.good.len() >= MAX && !self.good.contains_key(&digest) {
            let oldest = self.good.iter().min_by_key(|(_, known)| known.checked).map(|(digest, _)| *digest);
            oldest.map(|oldest| self.good.remove(&oldest));
        }
        self.bad.remove(&digest);
        self.good.insert(digest, known);
    }

    pub(super) fn put_bad(&mut self, digest: Digest, now: Instant) {
        if self.bad.len() >= MAX {
            self.bad.clear();
        }
        self.good.remove(&digest);
        self.bad.insert(digest, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn strangers_push_nobody_out() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let known = Known { user: Arc::default(), checked: now, until: None, may_read: None, marked: None };
        cache.put_good(digest(0), known.clone());
        for stranger in 1..3 * MAX {
            cache.put_bad(digest(stranger), now);
        }
        assert!(cache.bad.len() <= MAX);
        assert!(cache.good(&digest(0)).is_some());
        for other in 1..=MAX {
            let checked = now + Duration::from_secs(1);
            cache.put_good(digest(other), Known { checked, ..known.clone() });
        }
        assert_eq!(cache.good.len(), MAX);
        assert!(cache.good(&digest(0)).is_none(), "the one that was checked first goes");
    }
}
