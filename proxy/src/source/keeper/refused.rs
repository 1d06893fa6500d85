//! Why a preview is not set or removed, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use sidetrack_config::{Key, Problems};

use crate::route::build::Conflict;

/// Why a preview could not be set or removed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is not a preview.
    #[error("{0}")]
    Problems(#[from] Problems),
    /// A name of it is another preview's.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// It is of the main file, which only its author changes.
    #[error("preview {0} is in the configuration file; change it there")]
    MainFile(Key),
    /// There is no folder to keep it in.
    #[error("previewsDir is not set in the configuration file; set it to keep previews that are put")]
    NoFolder,
    /// A controller says what there is.
    #[error("the controller at {0} owns the previews; ask it, or change what it reads in the cluster")]
    Controller(Box<str>),
    /// No such preview.
    #[error("no preview {0} is known here")]
    Unknown(Key),
    /// It can't be kept.
    #[error("{} can't be written: {error}; {}, and send it again", .path.display(), way_out(.error))]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// What a person can do about an error of the file system.
fn way_out(error: &io::Error) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => "make room there",
        PermissionDenied | ReadOnlyFilesystem => "let the user of the gateway write there",
        NotADirectory | AlreadyExists => "make its folder a folder",
        _ => "mend that",
    }
}

impl Refused {
    /// The file system says no at `path`.
    pub(super) fn unkept(path: &Path, error: io::Error) -> Self {
        Self::Disk { path: path.to_owned(), error }
    }
}
