//! Where a configuration is written: in a file, or in the options of a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidetrack_config::check::Checked;
use sidetrack_config::{Owner, Problems, load_for, parse_for};

/// Where a configuration is written.
#[derive(Clone, Debug)]
pub struct Origin {
    path: PathBuf,
    text: Option<Arc<str>>,
}

impl Origin {
    /// A text that options were put together to. Problems name it as `name`, and paths in it are relative to the
    /// folder of that.
    pub fn text(name: impl Into<PathBuf>, text: &str) -> Self {
        Self { path: name.into(), text: Some(text.into()) }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file to watch; `None`: there is none.
    pub fn file(&self) -> Option<&Path> {
        self.text.is_none().then_some(&self.path)
    }

    /// The same, whatever the working directory will be.
    ///
    /// # Errors
    /// There is no working directory.
    pub fn absolute(self) -> std::io::Result<Self> {
        Ok(Self { path: std::path::absolute(self.path)?, ..self })
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, owner: Owner) -> Result<Checked, Problems> {
        match &self.text {
            None => load_for(&self.path, owner),
            Some(text) => parse_for(&self.path, text, owner),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Origin {
    fn from(path: &P) -> Self {
        Self { path: path.as_ref().to_owned(), text: None }
    }
}
