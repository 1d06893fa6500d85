//! The control thread: keeps the table in step with the world, and knows when it is time to go.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sidetrack_config::Key;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::Listener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::signals::Signals;
use crate::accept::connection::Door;
use crate::drain::Phase;
use crate::record::access_log::AccessLog;
use crate::source::files::Folder;
use crate::source::health::{self, Checks};
use crate::source::keeper::Keeper;
use crate::source::origin::Origin;
use crate::source::resolve::{self, resolve};
use crate::source::watch::{Changed, Watch};

/// How often everything is looked at, events or not: some file systems give none.
const POLL: Duration = Duration::from_secs(30);

/// What the control thread looks after.
pub(super) struct Control {
    /// The main file, or what stands for it.
    pub(super) origin: Origin,
    /// The owner of the table.
    pub(super) keeper: Rc<RefCell<Keeper>>,
    /// The listeners.
    pub(super) doors: Vec<Arc<Door>>,
    /// How far the drain is.
    pub(super) phase: watch::Sender<Phase>,
    /// Told by each worker that has finished.
    pub(super) done: mpsc::UnboundedReceiver<()>,
    /// How many workers there are.
    pub(super) threads: usize,
    /// The limits of this process.
    pub(super) limits: Limits,
    /// The access log.
    pub(super) log: Option<AccessLog>,
    /// Follows the controller, where there is one.
    pub(super) following: Option<AbortHandle>,
}

impl Control {
    /// Serves until told to stop, and drains.
    pub(super) async fn run(
        mut self,
        signals: Signals,
        stop: Option<oneshot::Receiver<()>>,
        successor: mpsc::UnboundedReceiver<()>,
    ) {
        let why = self.serve(signals, stop, successor).await;
        tracing::info!("draining: {why}");
        // A successor keeps the table on disk from now on.
        if let Some(following) = &self.following {
            following.abort();
        }
        self.phase.send_replace(Phase::Draining);
        let all = async {
            for _ in 0..self.threads {
                if self.done.recv().await.is_none() {
                    break;
                }
            }
        };
        if tokio::time::timeout(self.limits.drain_timeout, all).await.is_err() {
            tracing::warn!("drainTimeout is over: what is left is cut");
            self.phase.send_replace(Phase::Over);
            let _ = tokio::time::timeout(Duration::from_secs(1), self.done.recv()).await;
        }
        self.keeper.borrow_mut().save();
    }

    /// Keeps the table in step with the world; returns why it is time to drain.
    async fn serve(
        &mut self,
        mut signals: Signals,
        stop: Option<oneshot::Receiver<()>>,
        mut successor: mpsc::UnboundedReceiver<()>,
    ) -> &'static str {
        let mut watch = Watch::new();
        let mut checks = Checks::default();
        let mut stop = std::pin::pin!(async {
            match stop {
                Some(stop) => drop(stop.await),
                None => std::future::pending().await,
            }
        });
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut poll = tokio::time::interval(POLL);
        let mut names = tokio::time::interval(resolve::EVERY);
        let mut health = tokio::time::interval(health::STEP);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut published = self.keeper.borrow().published().subscribe();
        published.mark_changed();
        let (found_send, mut found) = mpsc::channel(1);
        self.rewatch(&mut watch);
        loop {
            tokio::select! {
                changed = watch.changed() => {
                    self.apply(&changed, false);
                    if self.rewatch(&mut watch) {
                        self.apply(&Changed::all(), false);
                    }
                }
                _ = poll.tick() => {
                    self.apply(&Changed::all(), false);
                    self.rewatch(&mut watch);
                }
                _ = second.tick() => {
                    let mut keeper = self.keeper.borrow_mut();
                    keeper.tick(Timestamp::now());
                    // Of a change that was refused there is no table.
                    checks.learn(keeper.take_unchecked(), Instant::now());
                }
                _ = names.tick() => {
                    let wanted = self.keeper.borrow().names();
                    // One look at a time: a slow name server must not pile them up.
                    if let (false, Ok(permit)) = (wanted.is_empty(), found_send.clone().try_reserve_owned()) {
                        tokio::task::spawn_local(async move { permit.send(resolve(wanted).await) });
                    }
                }
                Some(found) = found.recv() => self.keeper.borrow_mut().resolved(found),
                Ok(()) = published.changed() => {
                    checks.learn(self.keeper.borrow_mut().take_unchecked(), Instant::now());
                }
                _ = health.tick(), if !checks.is_empty() => checks.run(Instant::now()),
                Some(()) = signals.reread.recv() => self.reread(),
                Some(why) = signals.end.recv() => return why,
                Some(()) = successor.recv() => return "a successor has taken over",
                () = &mut stop => return "stopped",
            }
        }
    }

    fn reread(&self) {
        tracing::info!("SIGHUP: reading everything again");
        if let Some(log) = &self.log {
            log.reopen();
        }
        self.apply(&Changed::all(), true);
    }

    /// Applies what has changed on disk; where it is `forced`, files too that seem to be the same.
    fn apply(&self, changed: &Changed, forced: bool) {
        let folder = self.keeper.borrow().previews_dir().map(Path::to_owned);
        let in_folder = |path: &&PathBuf| folder.is_some() && path.parent() == folder.as_deref();
        let (previews, others): (Vec<_>, Vec<_>) = changed.paths.iter().partition(in_folder);
        // A dot-file is one that is being written, or an editor's; two dots are the link that a ConfigMap swaps.
        let is_visible = |path: &&&PathBuf| {
            path.file_name().is_none_or(|name| {
                !name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"..")
            })
        };
        // Something else in the folder, such as a swapped link, may stand for any of its files.
        let keys: Option<Vec<Key>> =
            previews.iter().filter(is_visible).map(|path| Folder::key_of(path)).collect();
        if changed.all || !others.is_empty() {
            self.reload_main(forced);
        }
        let (mut keeper, now) = (self.keeper.borrow_mut(), Timestamp::now());
        match keys {
            _ if changed.all => keeper.reread_previews(&[], now),
            None => keeper.reread_previews(&[], now),
            Some(keys) if !keys.is_empty() => keeper.reread_previews(&keys, now),
            Some(_) => {}
        }
    }

    fn reload_main(&self, forced: bool) {
        if !self.keeper.borrow_mut().reload(forced, Timestamp::now()) {
            return;
        }
        let keeper = self.keeper.borrow();
        let config = keeper.config();
        for (place, door) in self.doors.iter().enumerate() {
            let is_its = |listener: &&Listener| listener.address == door.listener().address;
            // Several may ask for any free port with one address: then it is the order that tells them apart.
            let same_place = config.listeners.get(place).filter(is_its);
            let Some(listener) = same_place.or_else(|| config.listeners.iter().find(is_its)) else {
                continue;
            };
            door.set_listener(listener.clone());
            let (Some(server), Some(tls)) = (&door.tls, &listener.tls) else { continue };
            match server.replace(tls, &config.state_dir) {
                Ok(true) => tracing::info!(address = %listener.address, "certificates reloaded"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(address = %listener.address, %error, "certificates not reloaded, the last good ones stay")
                }
            }
        }
    }

    /// Watches what counts by now; whether something of it may have changed before it was watched.
    fn rewatch(&self, watch: &mut Watch) -> bool {
        let keeper = self.keeper.borrow();
        let certificates = self.doors.iter().filter_map(|door| door.tls.as_ref()).flat_map(|tls| tls.files());
        let roots =
            keeper.config().services.iter().filter_map(|service| service.tls.as_ref()?.ca_file.clone());
        let files =
            certificates.chain(roots).chain(self.origin.file().map(Path::to_owned)).collect::<Vec<_>>();
        watch.only(files, keeper.previews_dir().map(Path::to_owned))
    }
}
