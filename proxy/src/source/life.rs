//! When each key first appeared and when it went: what TTLs count from, and what tells an expired preview from one
//! that never was. Kept in `stateDir`, so that a restart prolongs nothing: one line for each change, so that a change
//! costs the same with 10 previews and with 100,000.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sidetrack_config::Key;

use super::disk;
use crate::route::former::Names;
use crate::route::table::{Moment, Table};

/// How long an ended key is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many ended keys are remembered; the oldest are forgotten first.
const MOST: usize = 10_000;
/// The name of the file.
const FILE: &str = "previews.jsonl";
/// Lines beyond two for each key before the file is written anew.
const SPARE: usize = 10_000;

/// The lives of all keys.
#[derive(Debug, Default)]
pub struct Lives {
    /// When the keys appeared that are not in the table; a preview of the table knows its own.
    seen: BTreeMap<Key, Moment>,
    /// The names that they had.
    names: BTreeMap<Key, Arc<Names>>,
    gone: BTreeMap<Key, Timestamp>,
    /// The same, the oldest first.
    by_age: BTreeSet<(Timestamp, Key)>,
    /// `None`: not kept.
    path: Option<PathBuf>,
    /// Lines that the file lacks.
    pending: Vec<u8>,
    /// Lines that the file has, and those.
    lines: usize,
    /// The file does not say what it should, and is to be written anew.
    is_stale: bool,
    /// The last attempt to write failed, and the log says so.
    is_failing: bool,
}

/// What is remembered of one key beside the table.
#[derive(Debug)]
pub struct Life {
    seen: Option<Moment>,
    names: Option<Arc<Names>>,
    gone: Option<Timestamp>,
}

/// What the file says about one key; a later line counts, and neither time says that it is forgotten.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<Timestamp>,
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<&'a str>,
}

impl Line<'_> {
    /// The names in it; `None`: it has none.
    fn names(&self) -> Option<Arc<Names>> {
        let aliases = self.aliases.iter().filter_map(|alias| Key::bare(alias).ok()).collect::<Vec<_>>();
        let hosts = self.hosts.iter().map(|host| Box::from(*host)).collect::<Vec<_>>();
        Names::new(&aliases, &hosts)
    }
}

impl Lives {
    /// Reads what `state_dir` keeps. What can't be read is begun anew, with a warning: a proxy that serves beats one
    /// that waits for somebody to mend a file.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let mut lives = Self { path: Some(path.clone()), ..Self::default() };
        disk::remove_left_of(&path);
        match lives.read(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the lives of previews can't be read; TTLs count anew");
            }
            _ => {}
        }
        // Much of it is likely to change now, and with the whole file written half a line does no harm.
        lives.is_stale = true;
        lives
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = line?;
            let read = serde_json::from_slice::<Line<'_>>(&line).ok();
            let Some((key, line)) = read.and_then(|line| Some((Key::bare(line.key).ok()?, line))) else {
                // A crash may leave half a line.
                tracing::warn!(path = %path.display(), "a line about the life of a preview can't be read");
                continue;
            };
            self.forget_key(&key);
            self.seen.extend(line.seen.map(|at| (key, at.into())));
            self.names.extend(line.names().map(|names| (key, names)));
            if let Some(at) = line.gone {
                self.set_gone(key, at);
            }
        }
        Ok(())
    }

    /// Lives that nobody keeps: a controller says when previews end.
    pub fn unkept() -> Self {
        Self::default()
    }

    /// When `key`, which is not in the table, first appeared: now, unless it is known.
    pub fn first(&mut self, key: Key, now: Timestamp) -> Moment {
        if let Some(at) = self.seen.get(&key) {
            return *at;
        }
        let at = Moment::from(now);
        self.seen.insert(key, at);
        let gone = self.gone.get(&key).copied();
        self.note(key, Some(at), gone);
        at
    }

    /// When `key`, which is not in the table, first appeared; `None`: it has not.
    pub fn seen(&self, key: &Key) -> Option<Timestamp> {
        self.seen.get(key)?.get()
    }

    /// The preview of `key` is in the table, which knows from now on that it appeared at `since`, and which names it has.
    pub fn joined(&mut self, key: Key, since: Moment, names: Option<Arc<Names>>) {
        self.seen.remove(&key);
        let had = self.names.remove(&key);
        if self.take_gone(&key) || had != names {
            self.names.extend(names.map(|names| (key, names)));
            self.note(key, Some(since), None);
            self.names.remove(&key);
        }
    }

    /// The preview of `key` is no longer in the table, but is still written down somewhere: it stays ended. `since`:
    /// when it appeared, where the table knew; `names`: those that it had there.
    pub fn ended(&mut self, key: Key, since: Option<Moment>, names: Option<Arc<Names>>, now: Timestamp) {
        self.seen.extend(since.map(|at| (key, at)));
        self.names.extend(names.map(|names| (key, names)));
        if !self.gone.contains_key(&key) {
            self.set_gone(key, now);
            let seen = self.seen.get(&key).copied();
            self.note(key, seen, Some(now));
        }
    }

    /// The table is made anew: what it knew of `key` is to be known here.
    pub fn put_back(&mut self, key: Key, since: Moment, names: Option<Arc<Names>>) {
        self.seen.insert(key, since);
        self.names.extend(names.map(|names| (key, names)));
    }

    /// The preview of `key` was taken away, with the `names` that the table knew: should it come again, it begins a new
    /// life.
    pub fn removed(&mut self, key: Key, names: Option<Arc<Names>>, now: Timestamp) {
        self.seen.remove(&key);
        self.names.extend(names.map(|names| (key, names)));
        self.take_gone(&key);
        self.set_gone(key, now);
        self.note(key, None, Some(now));
    }

    /// Lets `key` begin a new life. `true`: it had one, which must not come back with the next start.
    pub fn renew(&mut self, key: Key) -> bool {
        let is_known = self.forget_key(&key);
        if is_known {
            self.note(key, None, None);
        }
        is_known
    }

    /// What is remembered of `key`.
    pub fn life(&self, key: &Key) -> Life {
        Life {
            seen: self.seen.get(key).copied(),
            names: self.names.get(key).cloned(),
            gone: self.gone.get(key).copied(),
        }
    }

    /// A change of `key` did not come about: it has the life that it had. `since`: when it appeared, where the table
    /// knows.
    pub fn set_back(&mut self, key: Key, life: &Life, since: Option<Moment>) {
        self.forget_key(&key);
        self.seen.extend(life.seen.map(|at| (key, at)));
        self.names.extend(life.names.clone().map(|names| (key, names)));
        if let Some(at) = life.gone {
            self.set_gone(key, at);
        }
        self.note(key, since.or(life.seen), life.gone);
    }

    /// The keys that appeared once and are not in the table, with when they ended if they have.
    pub fn outside(&self) -> impl Iterator<Item = (Key, Option<Timestamp>)> {
        self.seen.keys().map(|key| (*key, self.gone.get(key).copied()))
    }

    /// Forgets what ended long ago, and the oldest where there are too many; gives what it forgot.
    pub fn forget(&mut self, now: Timestamp) -> Vec<Key> {
        let mut forgotten = Vec::new();
        while let Some((at, key)) = self.by_age.first().copied() {
            if self.gone.len() <= MOST && now.duration_since(at).unsigned_abs() <= REMEMBERED {
                break;
            }
            self.take_gone(&key);
            let seen = self.seen.get(&key).copied();
            if seen.is_none() {
                self.names.remove(&key);
            }
            self.note(key, seen, None);
            forgotten.push(key);
        }
        forgotten
    }

    /// The names of keys that are not in the table.
    pub fn names(&self) -> impl Iterator<Item = (Key, &Arc<Names>)> {
        self.names.iter().map(|(key, names)| (*key, names))
    }

    /// The names of `key`, where it is not in the table.
    pub fn names_of(&self, key: &Key) -> Option<&Arc<Names>> {
        self.names.get(key)
    }

    /// The keys that ended and are remembered.
    pub fn gone(&self) -> impl Iterator<Item = Key> {
        self.gone.keys().copied()
    }

    fn set_gone(&mut self, key: Key, at: Timestamp) {
        self.gone.insert(key, at);
        self.by_age.insert((at, key));
    }

    fn take_gone(&mut self, key: &Key) -> bool {
        self.gone.remove(key).is_some_and(|at| self.by_age.remove(&(at, *key)))
    }

    fn forget_key(&mut self, key: &Key) -> bool {
        self.names.remove(key);
        self.take_gone(key) | self.seen.remove(key).is_some()
    }

    fn note(&mut self, key: Key, seen: Option<Moment>, gone: Option<Timestamp>) {
        if self.path.is_none() || self.is_stale {
            return;
        }
        // Writing to memory does not fail.
        let names = self.names.get(&key).map(AsRef::as_ref);
        let _ = write_line(&mut self.pending, key, (seen, gone), names);
        self.lines += 1;
    }

    /// Writes what has changed; `table` knows of the keys that are in it. A failure is a warning: routing goes on, and
    /// the next call tries again.
    ///
    /// # Errors
    /// What the file system says, for whom it is more than a warning.
    pub fn save(&mut self, table: &Table) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let keys = self.seen.len() + self.gone.len() + table.preview_count();
        let saved = if self.is_stale || self.lines > 2 * keys + SPARE {
            self.lines = keys;
            disk::make_private_folder(path.parent().unwrap_or(path))
                .and_then(|()| disk::replace_with(path, |file| self.write_all(file, table)))
        } else if self.pending.is_empty() {
            return Ok(());
        } else {
            disk::append(path, &self.pending)
        };
        match &saved {
            Ok(()) if self.is_failing => {
                tracing::info!(path = %path.display(), "the lives of previews are kept again")
            }
            Err(error) if !self.is_failing => {
                tracing::warn!(path = %path.display(), %error, "the lives of previews can't be kept: TTLs count anew after a restart; trying on");
            }
            _ => {}
        }
        // After a failure nobody knows what of it is there.
        self.is_stale = saved.is_err();
        self.is_failing = saved.is_err();
        self.pending = Vec::new();
        saved
    }

    fn write_all(&self, file: &mut BufWriter<File>, table: &Table) -> io::Result<()> {
        for preview in table.previews().filter(|preview| preview.since.get().is_some()) {
            let names = Names::of(preview);
            write_line(file, preview.key, (Some(preview.since), None), names.as_deref())?;
        }
        for (key, seen) in &self.seen {
            let times = (Some(*seen), self.gone.get(key).copied());
            write_line(file, *key, times, self.names.get(key).map(AsRef::as_ref))?;
        }
        for (key, gone) in self.gone.iter().filter(|(key, _)| !self.seen.contains_key(*key)) {
            write_line(file, *key, (None, Some(*gone)), self.names.get(key).map(AsRef::as_ref))?;
        }
        Ok(())
    }
}

fn write_line(
    to: &mut impl Write,
    key: Key,
    (seen, gone): (Option<Moment>, Option<Timestamp>),
    names: Option<&Names>,
) -> io::Result<()> {
    let aliases = names.map(|names| names.aliases.iter().map(Key::as_str).collect());
    let hosts = names.map(|names| names.hosts.iter().map(AsRef::as_ref).collect());
    let line = Line {
        key: key.as_str(),
        seen: seen.and_then(Moment::get),
        gone,
        aliases: aliases.unwrap_or_default(),
        hosts: hosts.unwrap_or_default(),
    };
    serde_json::to_writer(&mut *to, &line)?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{estate, key};

    fn end(lives: &mut Lives, text: &str, now: Timestamp) -> Option<Timestamp> {
        lives.first(key(text), now).get()
    }

    #[test]
    fn a_restart_prolongs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_000_000).unwrap();
        let hour = Duration::from_secs(3600);
        let mut lives = Lives::open(folder.path());
        lives.save(estate()).unwrap();
        assert_eq!(end(&mut lives, "4", start), Some(start));
        lives.removed(key("7"), None, start);
        lives.save(estate()).unwrap();
        for _ in 0..2 {
            let mut lives = Lives::open(folder.path());
            assert_eq!(end(&mut lives, "4", start + hour), Some(start));
            assert_eq!(lives.gone().collect::<Vec<_>>(), [key("7")]);
            // The second time the whole file is what was written, the first time lines.
            lives.save(estate()).unwrap();
        }
        let mut lives = Lives::open(folder.path());
        lives.save(estate()).unwrap();
        assert!(lives.renew(key("4")) && lives.renew(key("7")) && !lives.renew(key("9")));
        lives.save(estate()).unwrap();
        let mut lives = Lives::open(folder.path());
        assert_eq!(end(&mut lives, "4", start + hour), Some(start + hour));
        assert_eq!(lives.gone().count(), 0);
    }

    #[test]
    fn names_are_kept_as_long_as_what_had_them_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_000_000).unwrap();
        let names = Names::new(&[key("demo")], &["uat.example.com".into()]);
        let mut lives = Lives::open(folder.path());
        lives.save(estate()).unwrap();
        for text in ["7", "8"] {
            end(&mut lives, text, start);
            lives.joined(key(text), start.into(), names.clone());
        }
        lives.removed(key("7"), names.clone(), start);
        lives.save(estate()).unwrap();
        for _ in 0..2 {
            // 8 is in no table yet, as after a start with a file that can't be read.
            let mut lives = Lives::open(folder.path());
            assert_eq!(lives.names_of(&key("7")), names.as_ref());
            assert_eq!(lives.names_of(&key("8")), names.as_ref());
            lives.save(estate()).unwrap();
        }
        let mut lives = Lives::open(folder.path());
        assert_eq!(lives.forget(start + REMEMBERED * 2), [key("7")]);
        assert!(lives.renew(key("8")));
        assert_eq!(lives.names().count(), 0);
    }

    #[test]
    fn what_is_gone_is_bounded_in_number_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut lives = Lives::open(folder.path());
        let start = Timestamp::from_second(1_000_000).unwrap();
        for number in 0..MOST + 5 {
            let at = start + Duration::from_secs(u64::try_from(number).unwrap());
            lives.removed(key(&number.to_string()), None, at);
        }
        let forgotten = lives.forget(start);
        assert_eq!(forgotten, ["0", "1", "2", "3", "4"].map(key));
        assert_eq!(lives.forget(start + REMEMBERED * 2).len(), MOST);
    }

    #[test]
    fn the_file_is_written_anew_before_it_grows_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut lives = Lives::open(folder.path());
        lives.save(estate()).unwrap();
        for number in 0..SPARE + 100 {
            lives.removed(key("9"), None, Timestamp::from_second(i64::try_from(number).unwrap()).unwrap());
        }
        lives.save(estate()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn half_a_line_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let start = Timestamp::from_second(1_000_000).unwrap();
        std::fs::write(&path, "{\"key\":\"9\",\"seen\":\"1970-01-12T13:46:40Z\"}\n{\"key\":\"8\",\"see")
            .unwrap();
        let mut lives = Lives::open(folder.path());
        lives.save(estate()).unwrap();
        assert_eq!(end(&mut lives, "9", start + REMEMBERED), Some(start));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<Line<'_>>(line).is_ok()), "{text}");
    }

    #[test]
    fn what_did_not_come_about_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_000_000).unwrap();
        let mut lives = Lives::open(folder.path());
        end(&mut lives, "4", start);
        lives.ended(key("4"), None, None, start + REMEMBERED / 2);
        lives.save(estate()).unwrap();
        let life = lives.life(&key("4"));
        assert!(lives.renew(key("4")));
        end(&mut lives, "4", start + REMEMBERED);
        lives.save(estate()).unwrap();
        lives.set_back(key("4"), &life, None);
        lives.save(estate()).unwrap();
        let mut again = Lives::open(folder.path());
        for lives in [&mut lives, &mut again] {
            assert_eq!(end(lives, "4", start + REMEMBERED), Some(start));
            assert_eq!(lives.gone().collect::<Vec<_>>(), [key("4")]);
        }
    }

    #[test]
    fn a_folder_that_is_none_is_an_error_and_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::write(&state, "").unwrap();
        let mut lives = Lives::open(&state);
        end(&mut lives, "4", Timestamp::from_second(1_000_000).unwrap());
        assert!(lives.save(estate()).is_err());
        assert!(lives.save(estate()).is_err());
        std::fs::remove_file(&state).unwrap();
        lives.save(estate()).unwrap();
        let mut lives = Lives::open(&state);
        assert_eq!(end(&mut lives, "4", Timestamp::MAX), Some(Timestamp::from_second(1_000_000).unwrap()));
    }
}
