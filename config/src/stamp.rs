//! What tells one version of a file from another without reading it.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The version that is at `path` now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        Self::new(&std::fs::metadata(path)?)
    }

    /// The version that `about` is about.
    ///
    /// # Errors
    /// Where the file system keeps no times.
    pub fn new(about: &Metadata) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        Ok(Self { modified: about.modified()?, length: about.len(), inode: about.ino() })
    }
}

/// A file that was read, and the version that it had before it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub path: PathBuf,
    /// `None`: the file system does not say.
    pub stamp: Option<Stamp>,
}

impl Seen {
    /// Whether another version is there now, or none, or nobody can say.
    pub fn has_changed(&self) -> bool {
        self.stamp.is_none() || self.stamp != Stamp::of(&self.path).ok()
    }
}
