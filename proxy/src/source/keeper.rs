//! The one owner of the routing table, whoever says what is in it. Every change comes here, makes the next snapshot and publishes it; a change
//! that can't be made leaves the last good one in force and says why.

mod followed;
mod refused;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use sidetrack_config::check::{Checked, PreviewParser};
use sidetrack_config::model::{self, Config, Endpoint, Role};
use sidetrack_config::stamp::Seen;
use sidetrack_config::{Key, Owner};

use super::context_key;
use super::disk;
use super::files::{Change, Folder};
use super::life::{Life, Lives};
use super::memory::{Settling, load_apart};
use super::origin::Origin;
use super::resolve::Found;
use crate::context::hidden::Secrets;
use crate::record::metrics::{Metrics, TableSize};
use crate::route::build::{About, Builder, Conflict};
use crate::route::former::Names;
use crate::route::snapshot::Published;
use crate::route::table::{self, Estate, Preview, Table};
use followed::Followed;
pub use refused::Refused;

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

/// What is kept of the previews of the main file beside the table.
#[derive(Default)]
struct Main {
    /// Those that the table has not: their time is over, or another preview has one of their names.
    left_out: BTreeSet<Key>,
    /// A hash of all of them, by a secret of this process: whether a file says something else.
    print: u64,
    secret: RandomState,
}

/// The owner of the table.
pub struct Keeper {
    origin: Origin,
    /// Without its previews, which the table has, and would be there twice.
    config: Config,
    /// What its previews were.
    main: Main,
    builder: Builder,
    table: Table,
    published: Arc<Published>,
    metrics: Arc<Metrics>,
    lives: Lives,
    folder: Folder,
    /// Previews that have endpoints with names, which resolve anew.
    named: BTreeMap<Key, model::Preview>,
    /// Previews of the folder that another one keeps out, by a name that it has.
    refused: BTreeSet<Key>,
    endings: BTreeSet<(Timestamp, Key)>,
    settling: Settling,
    status: Status,
    /// Present where a controller owns services, routes and previews.
    followed: Option<Box<Followed>>,
}

impl Keeper {
    /// Makes the first table of a checked configuration, previews included, and publishes it.
    ///
    /// # Errors
    /// A TLS setting of a service that can't be used, in words.
    pub fn new(
        origin: impl Into<Origin>,
        config: Config,
        workers: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let lives = Lives::open(&config.state_dir);
        let mut builder = Builder::new(workers);
        give_secret(&mut builder, &config);
        let mut keeper = Self::empty(origin.into(), &config, builder, metrics, lives)?;
        keeper.fill(config.previews, &BTreeMap::new(), Timestamp::now());
        keeper.save();
        Ok(keeper)
    }

    /// A keeper whose table has no preview yet.
    fn empty(
        origin: Origin,
        config: &Config,
        mut builder: Builder,
        metrics: Arc<Metrics>,
        lives: Lives,
    ) -> Result<Self, String> {
        let estate = builder.estate(config)?;
        let table = Table::new(0, estate);
        Ok(Self {
            origin,
            builder,
            published: Arc::new(Published::new(Arc::new(table.clone()))),
            table,
            metrics,
            lives,
            folder: Folder::new(config.previews_dir.clone()),
            named: BTreeMap::new(),
            refused: BTreeSet::new(),
            endings: BTreeSet::new(),
            settling: Settling::default(),
            status: Status::default(),
            followed: None,
            main: Main::default(),
            config: without_previews(config),
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

    /// Puts all previews, `main` of the main file and those of the folder, into a table that has none; `last` is what
    /// was there before, by key.
    fn fill(
        &mut self,
        main: BTreeMap<Key, model::Preview>,
        last: &BTreeMap<Key, Arc<Preview>>,
        now: Timestamp,
    ) {
        self.status.previews.clear();
        self.refused.clear();
        for key in self.lives.gone() {
            self.table.set_gone(key, true);
        }
        for (key, names) in self.lives.names() {
            self.table.set_former(key, Some(Arc::clone(names)));
        }
        self.main.print = self.main.secret.hash_one(&main);
        self.main.left_out.clear();
        for (key, preview) in main {
            self.main.left_out.insert(key);
            match self.join(key, preview, now) {
                Ok(()) if self.table.preview(&key).is_some() => {
                    self.main.left_out.remove(&key);
                }
                Ok(()) => {}
                Err(conflict) => {
                    self.status.previews.insert(key, conflict.to_string());
                }
            }
        }
        self.folder.forget();
        let mut changes = self.folder.scan();
        // Of two that claim one name the older has it, whatever their keys are; those in force have theirs.
        changes.sort_by_cached_key(|change| {
            let (key, seen) = (change.key(), self.lives.seen(&change.key()));
            (!last.contains_key(&key), seen.is_none(), seen, key)
        });
        self.take_changes(changes, last, now);
        if self.folder.is_hidden() {
            // Nobody can say that their files are gone.
            last.values().filter(|good| !good.of_main_file).for_each(|good| self.retain(good));
        }
        self.end_absent(now);
        self.publish();
    }

    /// Ends those that are written down nowhere any more, be it that they went while no process looked.
    fn end_absent(&mut self, now: Timestamp) {
        let is_absent = |key: &Key| !self.folder.may_have(key) && !self.is_of_main_file(key);
        let absent: Vec<_> = self.lives.outside().filter(|(key, _)| is_absent(key)).collect();
        for (key, ended) in absent {
            self.lives.removed(key, None, ended.unwrap_or(now));
            self.table.set_gone(key, true);
        }
    }

    /// Whether the main file, and what it names, are those that were read last, and are in force.
    fn is_current(&mut self) -> bool {
        self.status.main.is_none()
            && !self.config.files.iter().any(Seen::has_changed)
            && self.builder.has_other_roots(&self.config.services) == Ok(false)
    }

    /// Reads the main file, and what it names, again, unless nothing can have changed and it is not `forced`. `true`:
    /// what they say is in force, be it new or not.
    pub fn reload(&mut self, forced: bool, now: Timestamp) -> bool {
        if !forced && self.is_current() {
            return true;
        }
        let loaded = load_apart(&self.origin, self.owner()).map_err(|problems| problems.to_string());
        let loaded = loaded.map(|checked| self.with_services(checked));
        let has_roots = self.config.services.iter().any(|service| {
            service.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some() || self.followed.is_none())
        });
        let adopted = match loaded {
            // Nothing new, and no roots that could be: that is no reload.
            Ok(checked) if self.says(&checked.config) && !has_roots && self.status.main.is_none() => {
                self.config.files = checked.config.files;
                return true;
            }
            Ok(checked) if self.followed.is_some() => self.adopt_settings(checked),
            Ok(checked) => self.adopt(checked, now),
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

    /// Whether `config` is the one in force.
    fn says(&self, config: &Config) -> bool {
        let files = self.config.files.clone();
        self.main.secret.hash_one(&config.previews) == self.main.print
            && Config { files, ..without_previews(config) } == self.config
    }

    fn adopt(&mut self, checked: Checked, now: Timestamp) -> Result<(), String> {
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        give_secret(&mut self.builder, &checked.config);
        let estate = self.builder.estate(&checked.config)?;
        warn_of_restart(&self.config, &checked.config);
        let last = self.table.previews().map(|preview| (preview.key, Arc::clone(preview))).collect();
        let folder = checked.config.previews_dir.clone();
        if folder.as_deref() != self.folder.path() {
            self.folder = Folder::new(folder);
        }
        let old = std::mem::replace(&mut self.config, without_previews(&checked.config));
        let last = self.renumbered(&old, last);
        for preview in last.values() {
            self.lives.put_back(preview.key, preview.since, Names::of(preview));
            self.release(preview);
        }
        self.table = Table::new(self.table.generation, estate);
        self.named.clear();
        self.endings.clear();
        self.fill(checked.config.previews, &last, now);
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
            let forks = forks
                .filter_map(|(index, list)| Some((number(index)?, list.iter().cloned().collect())))
                .collect();
            Arc::new(Preview {
                forks,
                key: preview.key,
                rare: preview.rare.clone(),
                on_fork_down: preview.on_fork_down,
                since: preview.since,
                expires: preview.expires,
                of_main_file: preview.of_main_file,
                stats: preview.stats.share(),
            })
        };
        last.into_iter().map(|(key, preview)| (key, moved(&preview))).collect()
    }

    /// Reads what has changed in the folder: these keys, or all where none is named.
    pub fn reread_previews(&mut self, keys: &[Key], now: Timestamp) {
        let changes = match keys {
            [] => self.folder.scan(),
            keys => keys.iter().filter_map(|key| self.folder.look(*key)).collect(),
        };
        if !changes.is_empty() {
            let looked: BTreeSet<Key> = changes.iter().map(Change::key).collect();
            self.take_changes(changes, &BTreeMap::new(), now);
            // Their names may be free by now.
            let refused: Vec<Key> = self.refused.difference(&looked).copied().collect();
            let again = refused.into_iter().filter_map(|key| self.folder.look_again(key)).collect();
            self.take_changes(again, &BTreeMap::new(), now);
            self.publish();
        }
    }

    /// Puts a preview that was there before back into the table, where nothing else has its key.
    fn retain(&mut self, good: &Arc<Preview>) {
        let key = good.key;
        // It can only fail where another preview has taken one of its names meanwhile.
        if self.table.preview(&key).is_none() && self.table.insert(Arc::clone(good)).is_ok() {
            self.endings.extend(good.expires().map(|end| (end, key)));
        }
    }

    fn take_changes(&mut self, changes: Vec<Change>, last: &BTreeMap<Key, Arc<Preview>>, now: Timestamp) {
        // A copy of what is small: previews are not in it.
        let config = self.config.clone();
        let parser = PreviewParser::new(&config);
        for change in changes {
            self.refused.remove(&change.key());
            let (key, problem) = match change {
                Change::Removed(key) => {
                    self.status.previews.remove(&key);
                    if !self.is_of_main_file(&key) {
                        self.leave(key, now);
                    }
                    continue;
                }
                Change::Unreadable(key, path, error) => (key, format!("{}: {error}", path.display())),
                Change::Text(key, path, _) if self.is_of_main_file(&key) => (
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
                            self.join(key, preview, now).map_err(|conflict| {
                                self.refused.insert(key);
                                format!("{}: {conflict}", path.display())
                            })
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
            if self.status.previews.get(&key) != Some(&problem) {
                tracing::error!(%key, "preview not applied, its last good version stays:\n{problem}");
            }
            self.status.previews.insert(key, problem);
            if let Some(good) = last.get(&key) {
                self.retain(good);
            }
        }
    }

    /// Whether the main file has a preview of `key`.
    fn is_of_main_file(&self, key: &Key) -> bool {
        let known = self.table.preview(key).is_some_and(|preview| preview.of_main_file);
        known || self.main.left_out.contains(key)
    }

    /// Puts a preview of a file into the table, unless its time is over.
    fn join(&mut self, key: Key, preview: model::Preview, now: Timestamp) -> Result<(), Conflict> {
        let known = self.table.preview(&key).map(|before| before.since);
        let since = known.unwrap_or_else(|| self.lives.first(key, now));
        let end = |ttl| since.get()?.checked_add(ttl).ok();
        let expires = preview.ttl.and_then(end);
        let has_names =
            preview.forks.values().flatten().any(|endpoint| matches!(endpoint, Endpoint::Name(..)));
        let of_main_file = self.is_of_main_file(&key);
        self.place(key, &preview, About { since, expires, of_main_file, ..About::default() }, now)?;
        if self.table.preview(&key).is_none() {
            return Ok(());
        }
        let names = self.table.preview(&key).and_then(|preview| Names::of(preview));
        self.lives.joined(key, since, names);
        if has_names {
            self.named.insert(key, preview);
        } else {
            self.named.remove(&key);
        }
        Ok(())
    }

    /// Puts a preview into the table, whoever says it; one whose time is over ends. The counters of the one before it
    /// go on.
    fn place(
        &mut self,
        key: Key,
        preview: &model::Preview,
        about: About,
        now: Timestamp,
    ) -> Result<(), Conflict> {
        let expires = about.expires;
        if expires.is_some_and(|end| end <= now) {
            self.expire(key, Names::new(&preview.aliases, &preview.hosts), now);
            return Ok(());
        }
        let before = self.table.preview(&key).map(Arc::clone);
        let stats = before.as_ref().map_or(about.stats, |before| before.stats.share());
        let built = self.builder.preview(key, preview, &self.config, About { stats, ..about });
        let end = built.expires();
        self.table.insert(built)?;
        if let Some(before) = before {
            self.release(&before);
            if let Some(end) = before.expires() {
                self.endings.remove(&(end, key));
            }
        }
        self.endings.extend(end.map(|end| (end, key)));
        Ok(())
    }

    fn leave(&mut self, key: Key, now: Timestamp) {
        if self.take_out(&key).is_some() || self.table.is_gone(&key) {
            self.lives.removed(key, self.table.former(&key).cloned(), now);
            self.table.set_gone(key, true);
        }
    }

    /// Ends a preview, whose `names` are these, where nobody here knows better.
    fn expire(&mut self, key: Key, names: Option<Arc<Names>>, now: Timestamp) {
        let before = self.take_out(&key);
        if before.as_ref().is_some_and(|before| before.of_main_file) {
            self.main.left_out.insert(key);
        }
        self.table.set_gone(key, true);
        let names = self.table.former(&key).cloned().or(names);
        self.table.set_former(key, names.clone());
        self.lives.ended(key, before.map(|before| before.since), names, now);
    }

    /// Takes a preview out of the table, and out of what is kept beside it.
    fn take_out(&mut self, key: &Key) -> Option<Arc<Preview>> {
        self.named.remove(key);
        let before = self.table.remove(key)?;
        if let Some(end) = before.expires() {
            self.endings.remove(&(end, *key));
        }
        self.release(&before);
        Some(before)
    }

    /// Lets the builder know that the endpoints of `preview` may have left the table.
    fn release(&mut self, preview: &Preview) {
        preview.forks.iter().for_each(|(_, endpoints)| self.builder.released(endpoints));
    }

    /// Ends previews whose time is over, forgets keys that ended long ago, and keeps what has changed on disk.
    pub fn tick(&mut self, now: Timestamp) {
        let mut changed = false;
        while let Some((end, key)) = self.endings.first().copied().filter(|(end, _)| *end <= now) {
            tracing::info!(%key, %end, "preview ended: its ttl is over");
            self.expire(key, None, now);
            self.endings.remove(&(end, key));
            changed = true;
        }
        for key in self.lives.forget(now) {
            self.table.set_gone(key, false);
            self.table.set_former(key, self.lives.names_of(&key).cloned());
            changed = true;
        }
        if changed {
            self.publish();
        }
        self.builder.sweep();
        self.save();
        self.settling.step();
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

    /// Sets a preview `now`: in the table, and in the folder for the next start. `true`: it is a new one.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn put(&mut self, key: Key, text: &str, now: Timestamp) -> Result<bool, Refused> {
        let preview = self.check_put(key, text)?;
        let file = self.file_for(key)?;
        let before = Before {
            table: self.table.clone(),
            named: self.named.get(&key).cloned(),
            life: self.lives.life(&key),
        };
        let is_new = self.table.preview(&key).is_none();
        // Put again after its end, it begins a new life.
        let is_renewed = is_new && self.lives.renew(key);
        if let Err(conflict) = self.join(key, preview, now) {
            self.take_back(key, before);
            return Err(conflict.into());
        }
        // In force before it is safe on disk, which takes longer than all else; answered when both are true.
        self.publish();
        if let Err(error) = self.keep(&file, text, is_renewed) {
            self.take_back(key, before);
            self.publish();
            self.save();
            self.follow_folder(key, now, |_| false);
            return Err(error);
        }
        self.status.previews.remove(&key);
        self.follow_folder(key, now, |change| matches!(change, Change::Text(_, _, there) if there == text));
        Ok(is_new)
    }

    /// Puts on disk what the next start must know of a preview that was put.
    fn keep(&mut self, file: &Path, text: &str, is_renewed: bool) -> Result<(), Refused> {
        let saved = self.lives.save(&self.table);
        if is_renewed {
            // With the life that it had, it would have ended when this process starts again.
            saved.map_err(|error| Refused::unkept(&self.config.state_dir, error))?;
        }
        let folder = file.parent().unwrap_or(file);
        disk::make_folder(folder)
            .and_then(|()| disk::replace(file, text.as_bytes()))
            .map_err(|error| Refused::unkept(folder, error))
    }

    /// Undoes what has changed about `key`, on disk with the next save.
    fn take_back(&mut self, key: Key, before: Before) {
        self.take_out(&key);
        let preview = before.table.preview(&key);
        self.endings.extend(preview.and_then(|preview| Some((preview.expires()?, key))));
        self.lives.set_back(key, &before.life, preview.map(|preview| preview.since));
        self.named.extend(before.named.map(|preview| (key, preview)));
        self.table = Table { generation: self.table.generation, ..before.table };
    }

    /// The file of `key` was touched by us, which is no news; what another process has done to it meanwhile is.
    fn follow_folder(&mut self, key: Key, now: Timestamp, is_ours: impl FnOnce(&Change) -> bool) {
        if let Some(change) = self.folder.look(key)
            && !is_ours(&change)
        {
            self.take_changes(vec![change], &BTreeMap::new(), now);
            self.publish();
        }
    }

    /// Removes a preview from the table and from the folder.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn delete(&mut self, key: Key, now: Timestamp) -> Result<(), Refused> {
        let file = self.file_for(key)?;
        if self.table.preview(&key).is_none() && !file.exists() {
            return Err(Refused::Unknown(key));
        }
        if let Err(error) = disk::remove(&file) {
            self.follow_folder(key, now, |_| false);
            return Err(Refused::unkept(&file, error));
        }
        self.status.previews.remove(&key);
        self.leave(key, now);
        self.publish();
        self.follow_folder(key, now, |change| matches!(change, Change::Removed(_)));
        Ok(())
    }

    fn file_for(&self, key: Key) -> Result<PathBuf, Refused> {
        if let Some(followed) = &self.followed {
            return Err(Refused::Controller(followed.url().into()));
        }
        if self.is_of_main_file(&key) {
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
        let mut changed = BTreeSet::new();
        for ((name, port), addresses) in found {
            if self.builder.resolved(&name, port, addresses) {
                changed.insert((name, port));
            }
        }
        let wanted = self.names();
        self.builder.forget_names(|name, port| wanted.contains(&(Box::from(name), port)));
        if changed.is_empty() {
            return;
        }
        match self.builder.estate(&self.config) {
            Ok(estate) => {
                // Those of the main file's previews too, which this configuration is without.
                let secret_headers = self.table.estate.secret_headers.clone();
                self.table.estate = Arc::new(Estate { secret_headers, ..estate });
            }
            Err(problem) => tracing::error!("{problem}"),
        }
        let now = Timestamp::now();
        let has_changed = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Name(name, port) if changed.contains(&(name.clone(), *port)));
        let meant =
            self.named.iter().filter(|(_, preview)| preview.forks.values().flatten().any(has_changed));
        let meant: Vec<_> = meant.map(|(key, preview)| (*key, preview.clone())).collect();
        for (key, preview) in meant {
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
        self.settling.begin();
        self.metrics.set_table(TableSize {
            generation: self.table.generation,
            services: self.table.estate.services.len(),
            previews: self.table.preview_count(),
            forks: self.table.fork_count(),
        });
    }

    /// Keeps on disk what the next start must know.
    pub fn save(&mut self) {
        // Lives has said so, and tries again.
        let _ = self.lives.save(&self.table);
    }

    /// The endpoints with an active check that are new since this was last asked.
    pub fn take_unchecked(&mut self) -> Vec<Weak<table::Endpoint>> {
        self.builder.take_unchecked()
    }
}

/// What a change of one preview may have to be undone to.
struct Before {
    table: Table,
    named: Option<model::Preview>,
    life: Life,
}

/// A copy without the previews.
fn without_previews(config: &Config) -> Config {
    let Config {
        listeners,
        admin,
        domains,
        carriers,
        access,
        unknown_preview,
        services,
        routes,
        previews: _,
        previews_dir,
        state_dir,
        role,
        workload,
        context,
        limits,
        access_log,
        workers,
        files,
    } = config;
    Config {
        listeners: listeners.clone(),
        admin: admin.clone(),
        domains: domains.clone(),
        carriers: carriers.clone(),
        access: access.clone(),
        unknown_preview: *unknown_preview,
        services: services.clone(),
        routes: routes.clone(),
        previews: BTreeMap::new(),
        previews_dir: previews_dir.clone(),
        state_dir: state_dir.clone(),
        role: *role,
        workload: workload.clone(),
        context: context.clone(),
        limits: *limits,
        access_log: access_log.clone(),
        workers: *workers,
        files: files.clone(),
    }
}

/// Gives a gateway that says keys in trace ids, and was given no secret for it, one of its own.
fn give_secret(builder: &mut Builder, config: &Config) {
    let Config { context, role, state_dir, .. } = config;
    if builder.has_secrets() || context.secrets.is_some() || !context.trace || *role != Role::Gateway {
        return;
    }
    match context_key::open(state_dir) {
        Ok(secret) => builder.set_secrets(Secrets::new([&secret])),
        Err(error) => tracing::warn!(
            %error,
            state_dir = %state_dir.display(),
            "no secret can be kept there, so that trace ids say no keys; name one with context.keyFile"
        ),
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
        (
            (old.context.reports, old.context.reports_as) != (new.context.reports, new.context.reports_as),
            "context.reports or context.reportsAs",
        ),
    ] {
        if changed {
            tracing::warn!(
                "{what} has changed in the file and takes effect with the next start (start a second process: it takes over)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
