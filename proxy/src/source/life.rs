//! When each key first appeared and when it went: what TTLs count from, and what tells an expired preview from one
//! that never was. Kept in `stateDir`, so that a restart prolongs nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sidetrack_config::Key;

use super::disk;

/// How long an ended key is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many ended keys are remembered; the oldest are forgotten first.
const MOST: usize = 10_000;
/// The name of the file.
const FILE: &str = "previews.json";

/// The lives of all keys.
#[derive(Debug, Default)]
pub struct Lives {
    seen: BTreeMap<Key, Timestamp>,
    gone: BTreeMap<Key, Timestamp>,
    /// `None`: not kept.
    path: Option<PathBuf>,
    changed: bool,
}

/// As it is written.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    seen: BTreeMap<String, Timestamp>,
    gone: BTreeMap<String, Timestamp>,
}

impl Lives {
    /// Reads what `state_dir` keeps. What can't be read is begun anew, with a warning: a proxy that serves beats one
    /// that waits for somebody to mend a file.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let stored = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the lives of previews can't be read; TTLs count anew");
                Stored::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Stored::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the lives of previews can't be read; TTLs count anew");
                Stored::default()
            }
        };
        let keys = |map: BTreeMap<String, Timestamp>| {
            map.into_iter().filter_map(|(key, at)| Some((Key::bare(&key).ok()?, at))).collect()
        };
        Self { seen: keys(stored.seen), gone: keys(stored.gone), path: Some(path), changed: false }
    }

    /// Lives that nobody keeps: a controller says when previews end.
    pub fn unkept() -> Self {
        Self::default()
    }

    /// When `key` first appeared: now, unless it is known.
    pub fn appeared(&mut self, key: Key, now: Timestamp) -> Timestamp {
        if self.gone.remove(&key).is_some() {
            self.changed = true;
        }
        *self.seen.entry(key).or_insert_with(|| {
            self.changed = true;
            now
        })
    }

    /// When a preview of this age limit ends; `None`: never.
    pub fn end(&mut self, key: Key, ttl: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
        let first = *self.seen.entry(key).or_insert_with(|| {
            self.changed = true;
            now
        });
        first.checked_add(ttl?).ok()
    }

    /// The preview of `key` ended, but is still written down somewhere: it stays ended.
    pub fn ended(&mut self, key: Key, now: Timestamp) {
        self.changed |= self.gone.insert(key, now).is_none();
    }

    /// The preview of `key` was taken away: should it come again, it begins a new life.
    pub fn removed(&mut self, key: Key, now: Timestamp) {
        self.seen.remove(&key);
        self.gone.insert(key, now);
        self.changed = true;
    }

    /// Lets `key` begin a new life.
    pub fn renew(&mut self, key: Key) {
        self.changed |= self.seen.remove(&key).is_some() | self.gone.remove(&key).is_some();
    }

    /// Forgets what ended long ago, and the oldest where there are too many; gives what it forgot.
    pub fn forget(&mut self, now: Timestamp) -> Vec<Key> {
        let old = |at: &Timestamp| now.duration_since(*at).unsigned_abs() > REMEMBERED;
        let mut forgotten: Vec<Key> =
            self.gone.iter().filter(|(_, at)| old(at)).map(|(key, _)| *key).collect();
        let excess = (self.gone.len() - forgotten.len()).saturating_sub(MOST);
        if excess > 0 {
            let mut by_age: Vec<_> =
                self.gone.iter().filter(|(_, at)| !old(at)).map(|(k, at)| (*at, *k)).collect();
            by_age.sort_unstable();
            forgotten.extend(by_age.into_iter().take(excess).map(|(_, key)| key));
        }
        for key in &forgotten {
            self.gone.remove(key);
            self.changed = true;
        }
        forgotten
    }

    /// The keys that ended and are remembered.
    pub fn gone(&self) -> impl Iterator<Item = Key> {
        self.gone.keys().copied()
    }

    /// Writes what has changed. A failure is a warning: routing goes on, and the next change tries again.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return };
        let texts =
            |map: &BTreeMap<Key, Timestamp>| map.iter().map(|(key, at)| (key.to_string(), *at)).collect();
        let stored = Stored { seen: texts(&self.seen), gone: texts(&self.gone) };
        let saved =
            serde_json::to_vec(&stored).map_err(std::io::Error::from).and_then(|b| disk::replace(path, &b));
        match saved {
            Ok(()) => self.changed = false,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the lives of previews can't be kept")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::bare(text).unwrap()
    }

    #[test]
    fn a_restart_prolongs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_000_000).unwrap();
        let hour = Duration::from_secs(3600);
        let mut lives = Lives::open(folder.path());
        let end = lives.end(key("42"), Some(hour), start);
        lives.removed(key("7"), start);
        lives.save();
        let mut lives = Lives::open(folder.path());
        let later = start + hour / 2;
        assert_eq!(lives.end(key("42"), Some(hour), later), end);
        assert_eq!(lives.gone().collect::<Vec<_>>(), [key("7")]);
        lives.renew(key("42"));
        assert!(lives.end(key("42"), Some(hour), later) > end);
    }

    #[test]
    fn what_is_gone_is_bounded_in_number_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut lives = Lives::open(folder.path());
        let start = Timestamp::from_second(1_000_000).unwrap();
        for number in 0..MOST + 5 {
            let at = start + Duration::from_secs(u64::try_from(number).unwrap());
            lives.removed(key(&number.to_string()), at);
        }
        let forgotten = lives.forget(start);
        assert_eq!(forgotten, ["0", "1", "2", "3", "4"].map(key));
        assert_eq!(lives.forget(start + REMEMBERED * 2).len(), MOST);
    }

    #[test]
    fn a_broken_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Lives::open(folder.path()).gone().count(), 0);
    }
}
