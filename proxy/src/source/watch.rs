//! What changes on disk. Folders are watched, not files: an atomic rename or a ConfigMap's swapped `..data` link
//! replaces the file, and a watch on the file itself would die with the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Paths that may wait to be looked at; where more change, everything is read again.
const MOST: usize = 4096;
/// A file that is being written says little: this long after the first event of it it is looked at, unless an event
/// says before that the writer has finished.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches folders.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Which they were: another one may have their place by now, and what was watched is gone.
    folders: BTreeMap<PathBuf, Option<(u64, u64)>>,
    noted: Arc<Noted>,
}

/// What the system has said since somebody looked.
#[derive(Debug, Default)]
struct Noted {
    news: Mutex<News>,
    /// Wakes who waits when there is something to look at, or sooner than was known: what is written again and again, as a log
    /// beside the configuration, wakes nobody for every line.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct News {
    changed: Changed,
    /// When it is looked at.
    due: Option<Instant>,
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
        let noted = Arc::<Noted>::default();
        let watcher = notify::recommended_watcher({
            let noted = Arc::clone(&noted);
            move |event| noted.note(event)
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched; changes are seen within 30 s"),
            )
            .ok();
        Self { watcher, folders: BTreeMap::new(), noted }
    }

    /// Watches exactly the folders of `files`, and `folders`; whether there is one that was not watched before, in which
    /// something may have changed meanwhile.
    pub fn only(
        &mut self,
        files: impl IntoIterator<Item = PathBuf>,
        folders: impl IntoIterator<Item = PathBuf>,
    ) -> bool {
        let of_files = files.into_iter().map(|file| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        });
        let identified = |folder: PathBuf| {
            let identity = std::fs::metadata(&folder).ok().map(|found| (found.dev(), found.ino()));
            (folder, identity)
        };
        let wanted: BTreeMap<_, _> = of_files.chain(folders).map(identified).collect();
        let Some(watcher) = &mut self.watcher else { return false };
        let mut has_new = false;
        self.folders.retain(|folder, identity| {
            let is_same = wanted.get(folder) == Some(identity);
            if !is_same {
                let _ = watcher.unwatch(folder);
            }
            is_same
        });
        for (folder, identity) in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, identity);
                    has_new = true;
                }
                // It may not be there yet; it is tried again with the next poll.
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "not watched"),
            }
        }
        has_new
    }

    /// Waits for a change, and for those that come with it. Dropped while it waits, it loses none.
    pub async fn changed(&mut self) -> Changed {
        loop {
            let due = self.noted.news().due;
            let sooner = self.noted.sooner.notified();
            match due {
                Some(due) => {
                    if tokio::time::timeout_at(due, sooner).await.is_err() {
                        break;
                    }
                }
                // Where there is no watcher, the poll is all there is.
                None => sooner.await,
            }
        }
        std::mem::take(&mut *self.noted.news()).changed
    }
}

impl Noted {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the system says.
    fn note(&self, event: notify::Result<notify::Event>) {
        // Whether it is whole: renamed, removed, or closed by who wrote it.
        let is_whole = match event.as_ref().map(|event| event.kind) {
            Ok(
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Remove(_),
            ) => true,
            Ok(EventKind::Access(_)) => return,
            _ => false,
        };
        let now = Instant::now();
        let due = if is_whole { now } else { now + SETTLE };
        let mut news = self.news();
        match event {
            Ok(event) => {
                news.changed.all |= event.need_rescan();
                event.paths.into_iter().for_each(|path| news.changed.note(path));
            }
            Err(_) => news.changed.all = true,
        }
        if news.due.is_none_or(|before| due < before) {
            news.due = Some(due);
            self.sooner.notify_one();
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Changed {
    /// Anything may have changed.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    fn note(&mut self, path: PathBuf) {
        if self.paths.len() < MOST || self.paths.contains(&path) {
            self.paths.insert(path);
        } else {
            self.all = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use notify::event::DataChange;

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

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    impl Watch {
        fn note(&self, kind: EventKind, path: &str) {
            self.noted.note(Ok(notify::Event::new(kind).add_path(path.into())));
        }

        /// Whether who waits was to be woken since this was asked.
        fn wakes(&self) -> bool {
            self.noted.sooner.notified().now_or_never().is_some()
        }
    }

    fn only(path: &str) -> Changed {
        Changed { paths: BTreeSet::from([path.into()]), all: false }
    }

    #[tokio::test]
    async fn what_is_written_again_and_again_wakes_once_until_somebody_looks() {
        let mut watch = Watch::new();
        for _ in 0..3 {
            watch.note(WRITTEN, "/etc/access.log");
            assert!(watch.wakes());
            (0..100).for_each(|_| watch.note(WRITTEN, "/etc/access.log"));
            assert!(!watch.wakes());
            // That it is whole now is news.
            watch.note(CLOSED, "/etc/access.log");
            assert!(watch.wakes());
            assert_eq!(watch.changed().await, only("/etc/access.log"));
        }
    }

    #[tokio::test]
    async fn where_more_changes_than_may_wait_everything_is_looked_at() {
        let mut watch = Watch::new();
        (0..=MOST).for_each(|number| watch.note(WRITTEN, &format!("/etc/{number}.yaml")));
        let changed = watch.changed().await;
        assert!(changed.all && changed.paths.len() == MOST);
        watch.note(WRITTEN, "/etc/0.yaml");
        assert_eq!(watch.changed().await, only("/etc/0.yaml"));
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
        while !watch.noted.news().changed.paths.contains(&file) {
            tokio::task::yield_now().await;
        }
        assert!(watch.noted.news().due.unwrap() <= Instant::now());
        watch.changed().await;
        // It is open still.
        let mut open = std::fs::File::create(&file).unwrap();
        std::io::Write::write_all(&mut open, b"y").unwrap();
        watch.noted.sooner.notified().await;
        assert!(watch.noted.news().due.unwrap() > Instant::now());
    }
}
