//! What changes on disk. Folders are watched, not files: an atomic rename or a ConfigMap's swapped `..data` link
//! replaces the file, and a watch on the file itself would die with the old one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that may wait; when more come, everything is read again.
const QUEUE: usize = 4096;
/// A file that is being written says little: this long after the first event of it it is looked at, unless an event
/// says before that the writer has finished.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches folders.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<Event>,
    folders: BTreeSet<PathBuf>,
    /// What was noted, and when it is looked at.
    pending: Changed,
    due: Option<Instant>,
}

/// What the system says.
enum Event {
    /// Something about this path, and whether it is whole: renamed, removed, or closed by who wrote it.
    Path(PathBuf, bool),
    /// Something was missed.
    Missed,
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
                let _ = send.try_send(Event::Missed);
                return;
            };
            let is_whole = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Remove(_) => true,
                EventKind::Access(_) => return,
                _ => false,
            };
            if event.need_rescan() {
                let _ = send.try_send(Event::Missed);
            }
            for path in event.paths {
                // A full queue already says that there is something to look at.
                let _ = send.try_send(Event::Path(path, is_whole));
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched; changes are seen within 30 s"),
            )
            .ok();
        Self { watcher, events, folders: BTreeSet::new(), pending: Changed::default(), due: None }
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

    /// Waits for a change, and for those that come with it. Dropped while it waits, it loses none.
    pub async fn changed(&mut self) -> Changed {
        loop {
            let event = match self.due {
                None => self.events.recv().await,
                Some(due) => match tokio::time::timeout_at(due, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => break,
                },
            };
            match event {
                Some(event) => self.note(event),
                // No watcher: the poll is all there is.
                None => std::future::pending::<()>().await,
            }
        }
        self.due = None;
        let mut more = 0;
        while let Ok(event) = self.events.try_recv() {
            self.pending.note(event);
            more += 1;
        }
        self.pending.all |= more >= QUEUE;
        std::mem::take(&mut self.pending)
    }

    fn note(&mut self, event: Event) {
        let now = Instant::now();
        let is_whole = matches!(event, Event::Path(_, true));
        self.pending.note(event);
        let due = if is_whole { now } else { now + SETTLE };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Changed {
    fn note(&mut self, event: Event) {
        match event {
            Event::Path(path, _) => {
                self.paths.insert(path);
            }
            Event::Missed => self.all = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_survives_a_dropped_wait() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("42.yaml");
        let mut watch = Watch::new();
        watch.only([], [folder.path().to_owned()]);
        std::fs::write(&file, "x").unwrap();
        // As the control loop does: another branch wins again and again while the change settles.
        let seen = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                tokio::select! {
                    changed = watch.changed() => break changed,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        });
        assert!(seen.await.unwrap().paths.contains(&file));
    }

    #[tokio::test]
    async fn a_file_that_is_whole_is_seen_at_once_and_another_later() {
        let folder = tempfile::tempdir().unwrap();
        let (hidden, file) = (folder.path().join(".42"), folder.path().join("42.yaml"));
        std::fs::write(&hidden, "x").unwrap();
        let mut watch = Watch::new();
        watch.only([], [folder.path().to_owned()]);
        if watch.watcher.is_none() {
            return;
        }
        std::fs::rename(&hidden, &file).unwrap();
        while !watch.pending.paths.contains(&file) {
            let event = watch.events.recv().await.unwrap();
            watch.note(event);
        }
        assert!(watch.due.unwrap() <= Instant::now());
        watch.changed().await;
        // It is open still.
        let mut open = std::fs::File::create(&file).unwrap();
        std::io::Write::write_all(&mut open, b"y").unwrap();
        let event = watch.events.recv().await.unwrap();
        watch.note(event);
        assert!(watch.due.unwrap() > Instant::now());
    }
}
