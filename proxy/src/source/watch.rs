//! What changes on disk. Folders are watched, not files: an atomic rename or a ConfigMap's swapped `..data` link
//! replaces the file, and a watch on the file itself would die with the old one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Events that may wait; when more come, everything is read again.
const QUEUE: usize = 4096;
/// Changes come in bursts (write, rename, chmod): this long after the first one they are looked at together.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches folders.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<Option<PathBuf>>,
    folders: BTreeSet<PathBuf>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// These paths, as far as they are known.
    pub paths: BTreeSet<PathBuf>,
    /// Something was missed: look at everything.
    pub all: bool,
}

impl Watch {
    /// A watch that watches nothing yet. Where the system gives none, changes are still seen by the poll.
    pub fn new() -> Self {
        let (send, events) = mpsc::channel(QUEUE);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else {
                let _ = send.try_send(None);
                return;
            };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            if event.need_rescan() {
                let _ = send.try_send(None);
            }
            for path in event.paths {
                // A full queue already says that there is something to look at.
                let _ = send.try_send(Some(path));
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched; changes are seen within 30 s"),
            )
            .ok();
        Self { watcher, events, folders: BTreeSet::new() }
    }

    /// Watches exactly the folders of `files`, and `folders`.
    pub fn only(
        &mut self,
        files: impl IntoIterator<Item = PathBuf>,
        folders: impl IntoIterator<Item = PathBuf>,
    ) {
        let of_files = files.into_iter().map(|file| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        });
        let wanted: BTreeSet<PathBuf> = of_files.chain(folders).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(folder);
        }
        let mut watched: BTreeSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for folder in wanted.difference(&self.folders) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder.clone());
                }
                // It may not be there yet; it is tried again with the next poll.
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "not watched"),
            }
        }
        self.folders = watched;
    }

    /// Whether this folder is watched.
    pub fn has(&self, folder: &Path) -> bool {
        self.folders.contains(folder)
    }

    /// Waits for a change, and for those that come with it.
    pub async fn changed(&mut self) -> Changed {
        let mut changed = Changed::default();
        match self.events.recv().await {
            Some(first) => note(&mut changed, first),
            // No watcher: the poll is all there is.
            None => std::future::pending::<()>().await,
        }
        tokio::time::sleep(SETTLE).await;
        let mut more = 0;
        while let Ok(event) = self.events.try_recv() {
            note(&mut changed, event);
            more += 1;
        }
        changed.all |= more >= QUEUE;
        changed
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

fn note(changed: &mut Changed, event: Option<PathBuf>) {
    match event {
        Some(path) => {
            changed.paths.insert(path);
        }
        None => changed.all = true,
    }
}
