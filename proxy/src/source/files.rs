//! `previewsDir`: one file per preview, `KEY.yaml`. A bad file affects its own preview only, whose last good version
//! stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sidetrack_config::Key;
use sidetrack_config::stamp::Stamp;

use super::disk;

/// The biggest file of one preview.
pub const MAX_BYTES: u64 = 1 << 20;

/// The files that were seen.
#[derive(Debug, Default)]
pub struct Folder {
    path: Option<PathBuf>,
    /// `None`: to be looked at anew.
    seen: BTreeMap<Key, Option<Stamp>>,
    /// The last scan could not see which files there are.
    is_hidden: bool,
}

/// What became of one file.
#[derive(Debug)]
pub enum Change {
    /// It is new, or says something else.
    Text(Key, PathBuf, String),
    /// It can't be read.
    Unreadable(Key, PathBuf, io::Error),
    /// It is gone.
    Removed(Key),
}

impl Change {
    /// Whose file it is.
    pub const fn key(&self) -> Key {
        match self {
            Self::Text(key, ..) | Self::Unreadable(key, ..) | Self::Removed(key) => *key,
        }
    }
}

impl Folder {
    /// The folder at `path`; `None`: there is none.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file of a preview.
    pub fn file(&self, key: &Key) -> Option<PathBuf> {
        Some(self.path.as_ref()?.join(format!("{key}.yaml")))
    }

    /// The key that a file is for: only `KEY.yaml` in canonical spelling counts, dot-files don't.
    pub fn key_of(path: &Path) -> Option<Key> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".yaml")?;
        Key::bare(stem).ok().filter(|key| key.as_str() == stem)
    }

    /// Whether a file of `key` was there at the last look, or nobody can say.
    pub fn may_have(&self, key: &Key) -> bool {
        self.is_hidden || self.seen.contains_key(key)
    }

    /// Whether nobody could see at the last look which files there are.
    pub const fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// What the file of one key says, be it new or not.
    pub fn look_again(&mut self, key: Key) -> Option<Change> {
        if let Some(stamp) = self.seen.get_mut(&key) {
            *stamp = None;
        }
        self.look(key)
    }

    /// Everything that has changed since the last look. What crashes have left of files of ours is removed.
    pub fn scan(&mut self) -> Vec<Change> {
        let Some(path) = &self.path else { return Vec::new() };
        let mut present = BTreeSet::new();
        let entries = fs::read_dir(path);
        self.is_hidden = entries.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
        match entries {
            Ok(entries) => {
                for path in entries.flatten().map(|entry| entry.path()) {
                    present.extend(Self::key_of(&path));
                    if disk::left_of(&path).is_some_and(|name| Self::key_of(Path::new(name)).is_some()) {
                        disk::remove_left(&path);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                // A folder that can't be listed now says nothing about its files.
                tracing::warn!(path = %path.display(), %error, "previewsDir can't be read");
                return Vec::new();
            }
        }
        let known: Vec<Key> = self.seen.keys().copied().collect();
        present.extend(known);
        present.into_iter().filter_map(|key| self.look(key)).collect()
    }

    /// What has changed about the file of one key since the last look.
    pub fn look(&mut self, key: Key) -> Option<Change> {
        let path = self.file(&key)?;
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.seen.remove(&key).map(|_| Change::Removed(key));
            }
            Err(error) => {
                self.seen.insert(key, None);
                return Some(Change::Unreadable(key, path, error));
            }
        };
        if self.seen.get(&key) == Some(&Some(stamp)) {
            return None;
        }
        self.seen.insert(key, Some(stamp));
        Some(match read(&path) {
            Ok(text) => Change::Text(key, path, text),
            Err(error) => Change::Unreadable(key, path, error),
        })
    }

    /// Looks at every file anew the next time: what a text means depends on the main file.
    pub fn forget(&mut self) {
        for stamp in self.seen.values_mut() {
            *stamp = None;
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = String::new();
    let length = fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a preview's file is at most 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_count() {
        let folder = Path::new("/x");
        assert!(Folder::key_of(&folder.join("42.yaml")).is_some());
        for name in ["42.yml", ".42.yaml", "PR.yaml", "4--2.yaml", "42.yaml~", "42.yaml.tmp", "..data"] {
            assert!(Folder::key_of(&folder.join(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn a_scan_says_what_changed() {
        let temporary = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(Some(temporary.path().to_owned()));
        fs::write(temporary.path().join("42.yaml"), "a").unwrap();
        assert!(matches!(folder.scan().as_slice(), [Change::Text(_, _, text)] if text == "a"));
        assert!(folder.scan().is_empty());
        fs::write(temporary.path().join("42.yaml"), "other").unwrap();
        assert!(matches!(folder.scan().as_slice(), [Change::Text(_, _, text)] if text == "other"));
        fs::remove_file(temporary.path().join("42.yaml")).unwrap();
        assert!(matches!(folder.scan().as_slice(), [Change::Removed(_)]));
        assert!(folder.scan().is_empty());
    }
}
