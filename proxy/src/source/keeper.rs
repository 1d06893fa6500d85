//! The one owner of the routing table, whoever says what is in it. Every change comes here, makes the next snapshot and publishes it; a change
//! that can't be made leaves the last good one in force and says why.

mod followed;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use sidetrack_config::check::{Checked, PreviewParser};
use sidetrack_config::model::{self, Config, Endpoint};
use sidetrack_config::{Key, Owner, Problems};

use super::disk;
use super::files::{Change, Folder};
use super::life::Lives;
use super::resolve::Found;
use crate::record::metrics::{Metrics, PreviewStats, TableSize};
use crate::route::build::{Builder, Conflict};
use crate::route::snapshot::Published;
use crate::route::table::{Preview, Table};
use followed::Followed;

/// What is wrong with what was written, while the last good table is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The main file.
    pub main: Option<String>,
    /// Files of `previewsDir`, and previews that conflict with others.
    pub previews: BTreeMap<Key, String>,
    /// Why the newest version of the controller is not in force.
    pub version: Option<String>,
    /// Certificates of the controller that can't be used.
    pub certificates: BTreeMap<Box<str>, String>,
}

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
    #[error("the preview can't be kept: {0}")]
    Io(#[from] io::Error),
}

/// The owner of the table.
pub struct Keeper {
    path: PathBuf,
    config: Config,
    builder: Builder,
    table: Table,
    published: Arc<Published>,
    metrics: Arc<Metrics>,
    lives: Lives,
    folder: Folder,
    /// Previews that have endpoints with names, which resolve anew.
    named: BTreeMap<Key, model::Preview>,
    endings: BTreeSet<(Timestamp, Key)>,
    status: Status,
    /// Present where a controller owns services, routes and previews.
    followed: Option<Box<Followed>>,
}

impl Keeper {
    /// Makes the first table of a checked configuration, previews included, and publishes it.
    ///
    /// # Errors
    /// A TLS setting of a service that can't be used, in words.
    pub fn new(path: &Path, config: Config, workers: usize, metrics: Arc<Metrics>) -> Result<Self, String> {
        let lives = Lives::open(&config.state_dir);
        let mut keeper = Self::empty(path, config, workers, metrics, lives)?;
        keeper.fill(&BTreeMap::new());
        keeper.lives.save();
        Ok(keeper)
    }

    /// A keeper whose table has no preview yet.
    fn empty(
        path: &Path,
        config: Config,
        workers: usize,
        metrics: Arc<Metrics>,
        lives: Lives,
    ) -> Result<Self, String> {
        let mut builder = Builder::new(workers);
        let estate = builder.estate(&config)?;
        let table = Table::new(0, estate);
        Ok(Self {
            path: path.to_owned(),
            builder,
            published: Arc::new(Published::new(Arc::new(table.clone()))),
            table,
            metrics,
            lives,
            folder: Folder::new(config.previews_dir.clone()),
            named: BTreeMap::new(),
            endings: BTreeSet::new(),
            status: Status::default(),
            followed: None,
            config,
        })
    }

    /// Where the table is published.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Who says which services, routes and previews there are.
    const fn owner(&self) -> Owner {
        if self.followed.is_some() { Owner::Controller } else { Owner::File }
    }

    /// The configuration in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What is wrong now.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// The folder of previews.
    pub fn previews_dir(&self) -> Option<&Path> {
        self.folder.path()
    }

    /// The generation in force.
    pub const fn generation(&self) -> u64 {
        self.table.generation
    }

    /// Puts all previews, of the main file and of the folder, into a table that has none; `last` is what was there
    /// before, by key.
    fn fill(&mut self, last: &BTreeMap<Key, Arc<Preview>>) {
        let now = Timestamp::now();
        self.status.previews.clear();
        for key in self.lives.gone() {
            self.table.set_gone(key, true);
        }
        let main: Vec<_> =
            self.config.previews.iter().map(|(key, preview)| (*key, preview.clone())).collect();
        for (key, preview) in main {
            if let Err(conflict) = self.join(key, preview, now) {
                self.status.previews.insert(key, conflict.to_string());
            }
        }
        self.folder.forget();
        let changes = self.folder.scan();
        self.take_changes(changes, last, now);
        self.publish();
    }

    /// Reads the main file, and what it names, again. `true`: what they say is in force, be it new or not.
    pub fn reload(&mut self) -> bool {
        let loaded =
            sidetrack_config::load_for(&self.path, self.owner()).map_err(|problems| problems.to_string());
        let loaded = loaded.map(|checked| self.with_services(checked));
        let has_roots = self.config.services.iter().any(|service| {
            service.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some() || self.followed.is_none())
        });
        let adopted = match loaded {
            // Nothing new, and no roots that could be: that is no reload.
            Ok(checked) if checked.config == self.config && !has_roots && self.status.main.is_none() => {
                return true;
            }
            Ok(checked) if self.followed.is_some() => self.adopt_settings(checked),
            Ok(checked) => self.adopt(checked),
            // The same mistake is told once.
            Err(problem) if self.status.main.as_ref() == Some(&problem) => return false,
            Err(problem) => Err(problem),
        };
        self.metrics.reloaded(adopted.is_ok());
        match adopted {
            Ok(()) => {
                self.status.main = None;
                true
            }
            Err(problem) => {
                tracing::error!(
                    generation = self.table.generation,
                    "configuration not applied, the last good one stays:\n{problem}"
                );
                self.status.main = Some(problem);
                false
            }
        }
    }

    fn adopt(&mut self, checked: Checked) -> Result<(), String> {
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        let estate = self.builder.estate(&checked.config)?;
        warn_of_restart(&self.config, &checked.config);
        let last = self.table.previews().map(|preview| (preview.key, Arc::clone(preview))).collect();
        let folder = checked.config.previews_dir.clone();
        if folder.as_deref() != self.folder.path() {
            self.folder = Folder::new(folder);
        }
        let old = std::mem::replace(&mut self.config, checked.config);
        let last = self.renumbered(&old, last);
        self.table = Table::new(self.table.generation, estate);
        self.named.clear();
        self.endings.clear();
        let before: Vec<Key> = last.keys().copied().collect();
        self.fill(&last);
        let now = Timestamp::now();
        for key in before {
            if self.table.preview(&key).is_none() && !self.table.is_gone(&key) {
                self.lives.removed(key, now);
                self.table.set_gone(key, true);
            }
        }
        self.publish();
        tracing::info!(generation = self.table.generation, "configuration applied");
        Ok(())
    }

    /// The previews of another configuration, with the numbers that services have in this one.
    fn renumbered(&self, old: &Config, last: BTreeMap<Key, Arc<Preview>>) -> BTreeMap<Key, Arc<Preview>> {
        let number = |before: usize| {
            let name = &old.services.get(before)?.name;
            self.config.services.iter().position(|service| service.name == *name)
        };
        let moved = |preview: &Preview| {
            let forks = preview.forks.iter();
            let mut forks: Vec<_> =
                forks.filter_map(|(index, list)| Some((number(*index)?, Arc::clone(list)))).collect();
            forks.sort_unstable_by_key(|(index, _)| *index);
            Arc::new(Preview {
                forks: forks.into(),
                key: preview.key,
                parents: preview.parents.clone(),
                aliases: preview.aliases.clone(),
                hosts: preview.hosts.clone(),
                on_fork_down: preview.on_fork_down,
                access: preview.access.clone(),
                expires: preview.expires,
                of_main_file: preview.of_main_file,
                stats: Arc::clone(&preview.stats),
            })
        };
        last.into_iter().map(|(key, preview)| (key, moved(&preview))).collect()
    }

    /// Reads what has changed in the folder: these keys, or all where none is named.
    pub fn reread_previews(&mut self, keys: &[Key]) {
        let changes = match keys {
            [] => self.folder.scan(),
            keys => keys.iter().filter_map(|key| self.folder.look(*key)).collect(),
        };
        if !changes.is_empty() {
            self.take_changes(changes, &BTreeMap::new(), Timestamp::now());
            self.publish();
        }
    }

    fn take_changes(&mut self, changes: Vec<Change>, last: &BTreeMap<Key, Arc<Preview>>, now: Timestamp) {
        let config = self.config.clone();
        let parser = PreviewParser::new(&config);
        for change in changes {
            let (key, problem) = match change {
                Change::Removed(key) => {
                    self.status.previews.remove(&key);
                    if !self.config.previews.contains_key(&key) {
                        self.leave(key, now);
                    }
                    continue;
                }
                Change::Unreadable(key, path, error) => (key, format!("{}: {error}", path.display())),
                Change::Text(key, path, _) if self.config.previews.contains_key(&key) => (
                    key,
                    format!(
                        "{}: preview {key} is in the configuration file too, which counts",
                        path.display()
                    ),
                ),
                Change::Text(key, path, text) => {
                    let joined = parser
                        .parse(&path, &key, &text)
                        .map_err(|problems| problems.to_string())
                        .and_then(|preview| {
                            self.join(key, preview, now)
                                .map_err(|conflict| format!("{}: {conflict}", path.display()))
                        });
                    match joined {
                        Ok(()) => {
                            self.status.previews.remove(&key);
                            continue;
                        }
                        Err(problem) => (key, problem),
                    }
                }
            };
            tracing::error!(%key, "preview not applied, its last good version stays:\n{problem}");
            self.status.previews.insert(key, problem);
            if let Some(good) = last.get(&key).filter(|_| self.table.preview(&key).is_none()) {
                // It can only fail where another preview has taken one of its names meanwhile.
                let _ = self.table.insert(Arc::clone(good));
            }
        }
    }

    /// Puts a preview of a file into the table, unless its time is over.
    fn join(&mut self, key: Key, preview: model::Preview, now: Timestamp) -> Result<(), Conflict> {
        let expires = self.lives.end(key, preview.ttl, now);
        let has_names =
            preview.forks.values().flatten().any(|endpoint| matches!(endpoint, Endpoint::Name(..)));
        self.place(key, &preview, expires, None, now)?;
        if self.table.preview(&key).is_none() {
            return Ok(());
        }
        self.lives.appeared(key, now);
        if has_names {
            self.named.insert(key, preview);
        } else {
            self.named.remove(&key);
        }
        Ok(())
    }

    /// Puts a preview into the table, whoever says it; one whose time is over ends. `stats` go on counting where the
    /// table has none for it.
    fn place(
        &mut self,
        key: Key,
        preview: &model::Preview,
        expires: Option<Timestamp>,
        stats: Option<Arc<PreviewStats>>,
        now: Timestamp,
    ) -> Result<(), Conflict> {
        if expires.is_some_and(|end| end <= now) {
            self.expire(key, now);
            return Ok(());
        }
        let before = self.table.preview(&key);
        let end_before = before.and_then(|before| before.expires);
        let stats = before.map(|before| Arc::clone(&before.stats)).or(stats);
        let built = self.builder.preview(key, preview, &self.config, expires, stats);
        self.table.insert(built)?;
        if let Some(end) = end_before {
            self.endings.remove(&(end, key));
        }
        self.endings.extend(expires.map(|end| (end, key)));
        Ok(())
    }

    fn leave(&mut self, key: Key, now: Timestamp) {
        self.forget(&key);
        if self.table.remove(&key).is_some() || self.table.is_gone(&key) {
            self.lives.removed(key, now);
            self.table.set_gone(key, true);
        }
    }

    fn expire(&mut self, key: Key, now: Timestamp) {
        self.forget(&key);
        self.table.remove(&key);
        self.table.set_gone(key, true);
        self.lives.ended(key, now);
    }

    fn forget(&mut self, key: &Key) {
        self.named.remove(key);
        if let Some(end) = self.table.preview(key).and_then(|preview| preview.expires) {
            self.endings.remove(&(end, *key));
        }
    }

    /// Ends previews whose time is over, forgets keys that ended long ago, and keeps what has changed on disk.
    pub fn tick(&mut self, now: Timestamp) {
        let mut changed = false;
        while let Some((end, key)) = self.endings.pop_first() {
            if end > now {
                self.endings.insert((end, key));
                break;
            }
            tracing::info!(%key, %end, "preview ended: its ttl is over");
            self.expire(key, now);
            changed = true;
        }
        for key in self.lives.forget(now) {
            self.table.set_gone(key, false);
            changed = true;
        }
        if changed {
            self.publish();
        }
        self.lives.save();
    }

    /// Checks a preview that is to be put; nothing changes yet. Gives the names that it needs resolved.
    ///
    /// # Errors
    /// Why it can't be put.
    pub fn check_put(&self, key: Key, text: &str) -> Result<model::Preview, Refused> {
        let file = self.file_for(key)?;
        let parsed = sidetrack_config::parse_preview(&file, &key, text, &self.config);
        Ok(parsed?)
    }

    /// Sets a preview: in the table, and in the folder for the next start. `true`: it is a new one.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn put(&mut self, key: Key, text: &str) -> Result<bool, Refused> {
        let preview = self.check_put(key, text)?;
        let file = self.file_for(key)?;
        let now = Timestamp::now();
        let table = self.table.clone();
        let is_new = table.preview(&key).is_none();
        if is_new {
            // Put again after its end, it begins a new life.
            self.lives.renew(key);
        }
        if let Err(conflict) = self.join(key, preview, now) {
            self.table = table;
            return Err(conflict.into());
        }
        if let Err(error) = disk::replace(&file, text.as_bytes()) {
            self.table = table;
            return Err(error.into());
        }
        // Our own change is no news.
        let _ = self.folder.look(key);
        self.status.previews.remove(&key);
        self.publish();
        Ok(is_new)
    }

    /// Removes a preview from the table and from the folder.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn delete(&mut self, key: Key) -> Result<(), Refused> {
        let file = self.file_for(key)?;
        if self.table.preview(&key).is_none() && !file.exists() {
            return Err(Refused::Unknown(key));
        }
        disk::remove(&file)?;
        let _ = self.folder.look(key);
        self.status.previews.remove(&key);
        self.leave(key, Timestamp::now());
        self.publish();
        Ok(())
    }

    fn file_for(&self, key: Key) -> Result<PathBuf, Refused> {
        if let Some(followed) = &self.followed {
            return Err(Refused::Controller(followed.url().into()));
        }
        if self.config.previews.contains_key(&key) {
            return Err(Refused::MainFile(key));
        }
        self.folder.file(&key).ok_or(Refused::NoFolder)
    }

    /// The names that endpoints are written with.
    pub fn names(&self) -> BTreeSet<(Box<str>, u16)> {
        let baselines = self.config.services.iter().filter_map(|service| service.baseline.as_ref()).flatten();
        let forks = self.named.values().flat_map(|preview| preview.forks.values().flatten());
        baselines
            .chain(forks)
            .filter_map(|endpoint| match endpoint {
                Endpoint::Name(name, port) => Some((name.clone(), *port)),
                Endpoint::Address(_) => None,
            })
            .collect()
    }

    /// Takes addresses of names that no table has yet.
    pub fn learn_names(&mut self, found: Vec<Found>) {
        for ((name, port), addresses) in found {
            self.builder.resolved(&name, port, addresses);
        }
    }

    /// Takes the addresses that names have now; publishes only if some are others than before.
    pub fn resolved(&mut self, found: Vec<Found>) {
        let mut changed = false;
        for ((name, port), addresses) in found {
            changed |= self.builder.resolved(&name, port, addresses);
        }
        let wanted = self.names();
        self.builder.forget_names(|name, port| wanted.contains(&(Box::from(name), port)));
        if !changed {
            return;
        }
        match self.builder.estate(&self.config) {
            Ok(estate) => self.table.estate = Arc::new(estate),
            Err(problem) => tracing::error!("{problem}"),
        }
        let now = Timestamp::now();
        for (key, preview) in self.named.clone() {
            if let Err(conflict) = self.join(key, preview, now) {
                tracing::error!(%key, "{conflict}");
            }
        }
        self.publish();
    }

    fn publish(&mut self) {
        if self.followed.is_none() {
            self.table.generation += 1;
        }
        self.published.publish(Arc::new(self.table.clone()));
        self.metrics.set_table(TableSize {
            generation: self.table.generation,
            services: self.table.estate.services.len(),
            previews: self.table.preview_count(),
            forks: self.table.fork_count(),
        });
    }

    /// Keeps on disk what the next start must know.
    pub fn save(&mut self) {
        self.lives.save();
    }
}

/// Says which changes wait for the next start.
fn warn_of_restart(old: &Config, new: &Config) {
    let doors = |config: &Config| -> Vec<(SocketAddr, bool)> {
        config.listeners.iter().map(|door| (door.address, door.tls.is_some())).collect()
    };
    for (changed, what) in [
        (doors(old) != doors(new), "listeners (an address, or whether it has TLS)"),
        (old.admin != new.admin, "admin"),
        (old.state_dir != new.state_dir, "stateDir"),
        (old.workers != new.workers, "workers"),
        (old.access_log != new.access_log, "accessLog"),
        (old.limits != new.limits, "limits"),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the file and takes effect with the next start (start a second process: it takes over)"
            );
        }
    }
}
