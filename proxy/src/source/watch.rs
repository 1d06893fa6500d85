//! What changes on disk. Folders are watched, not files: an atomic rename or a ConfigMap's swapped `..data` link
//! replaces the file, and a watch on the file itself would die with the old one.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    told: Arc<Mutex<Told>>,
    folders: BTreeSet<PathBuf>,
    /// What was noted, and when it is looked at.
    pending: Changed,
    due: Option<Instant>,
}

/// What was said since somebody looked.
#[derive(Debug, Default)]
struct Told {
    /// These paths change. Each is said once: what is written again and again, as a log beside the configuration, would wake us
    /// for every line.
    paths: HashSet<PathBuf>,
    /// More was to be said than may wait.
    is_lacking: bool,
}

/// What the system says.
#[derive(Debug)]
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
        let told = Arc::<Mutex<Told>>::default();
        let watcher = notify::recommended_watcher({
            let told = Arc::clone(&told);
            move |event| told.lock().unwrap_or_else(PoisonError::into_inner).tell(event, &send)
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched; changes are seen within 30 s"),
            )
            .ok();
        Self { watcher, events, told, folders: BTreeSet::new(), pending: Changed::default(), due: None }
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
        while let Ok(event) = self.events.try_recv() {
            self.pending.note(event);
        }
        // From now on each is said again. What was not said until now is seen by who looks next.
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.pending.all |= told.is_lacking;
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

impl Told {
    /// Passes on what the system says.
    fn tell(&mut self, event: notify::Result<notify::Event>, send: &mpsc::Sender<Event>) {
        let Ok(event) = event else { return self.say(Event::Missed, send) };
        let is_whole = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => true,
            EventKind::Access(_) => return,
            _ => false,
        };
        if event.need_rescan() {
            self.say(Event::Missed, send);
        }
        for path in event.paths {
            if self.paths.insert(path.clone()) || is_whole {
                self.say(Event::Path(path, is_whole), send);
            }
        }
    }

    fn say(&mut self, event: Event, send: &mpsc::Sender<Event>) {
        // Whoever looks empties the queue first, and is told then.
        self.is_lacking |= send.try_send(event).is_err();
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

    /// A watch that is told by hand.
    fn by_hand() -> (Watch, impl Fn(&Watch, EventKind, &str)) {
        let (send, events) = mpsc::channel(QUEUE);
        let say = move |watch: &Watch, kind, path: &str| {
            watch.told.lock().unwrap().tell(Ok(notify::Event::new(kind).add_path(path.into())), &send);
        };
        (Watch { events, ..Watch::new() }, say)
    }

    #[tokio::test]
    async fn what_is_written_again_and_again_is_said_once_until_somebody_looks() {
        let (mut watch, say) = by_hand();
        for _ in 0..3 {
            (0..100).for_each(|_| say(&watch, WRITTEN, "/etc/access.log"));
            assert_eq!(watch.events.len(), 1);
            // That it is whole now is news.
            say(&watch, CLOSED, "/etc/access.log");
            assert_eq!(watch.events.len(), 2);
            let changed = watch.changed().await;
            assert_eq!(changed, Changed { paths: BTreeSet::from(["/etc/access.log".into()]), all: false });
        }
    }

    #[tokio::test]
    async fn where_more_changes_than_may_wait_everything_is_looked_at() {
        let (mut watch, say) = by_hand();
        (0..=QUEUE).for_each(|number| say(&watch, WRITTEN, &format!("/etc/{number}.yaml")));
        let changed = watch.changed().await;
        assert!(changed.all && changed.paths.len() == QUEUE);
        say(&watch, WRITTEN, "/etc/0.yaml");
        assert_eq!(
            watch.changed().await,
            Changed { paths: BTreeSet::from(["/etc/0.yaml".into()]), all: false }
        );
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
