//! What a table means: DESIGN 2.2 read once more, as plainly as it can be, with no code of the proxy's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What happens when a fork is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDown {
    Fail,
    Baseline,
    Hold,
}

impl OnDown {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Baseline => "baseline",
            Self::Hold => "hold",
        }
    }
}

/// Numbers of upstreams.
pub(crate) type Set = Vec<usize>;

/// A preview as somebody writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preview {
    pub(crate) forks: BTreeMap<usize, Set>,
    pub(crate) parents: Vec<String>,
    pub(crate) on_down: OnDown,
    pub(crate) ttl: Option<Duration>,
}

/// A preview in force.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) preview: Preview,
    pub(crate) since: Duration,
    pub(crate) ends: Option<Duration>,
}

/// One snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// The baseline of each service.
    pub(crate) services: Vec<Option<Set>>,
    pub(crate) previews: BTreeMap<String, Live>,
    /// Keys that were there.
    pub(crate) gone: BTreeSet<String>,
    pub(crate) rejects_unknown: bool,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Fork { key: String, set: Set, is_parents: bool, on_down: OnDown, baseline: Option<Set> },
    Baseline { set: Set, reason: &'static str },
    Error(&'static str),
}

impl Table {
    pub(crate) fn decide(&self, keys: &[String], is_strict: bool, service: usize) -> Decision {
        let baseline = self.services[service].clone();
        let to_baseline = |reason| match baseline.clone() {
            Some(set) => Decision::Baseline { set, reason },
            None => Decision::Error("no_route"),
        };
        if keys.is_empty() {
            return to_baseline("no_key");
        }
        let unknown = keys.iter().find(|key| !self.previews.contains_key(*key));
        let absent = unknown.map(|key| match self.gone.contains(key) {
            true => Decision::Error("preview_expired"),
            false => Decision::Error("unknown_preview"),
        });
        if self.rejects_unknown
            && let Some(absent) = absent
        {
            return absent;
        }
        let fork = |key: &String, is_parents| {
            let live = &self.previews[key];
            let set = live.preview.forks.get(&service)?.clone();
            let (key, on_down, baseline) = (key.clone(), live.preview.on_down, baseline.clone());
            Some(Decision::Fork { key, set, is_parents, on_down, baseline })
        };
        let named: Vec<&String> = keys.iter().filter(|key| self.previews.contains_key(*key)).collect();
        if let Some(decided) = named.iter().find_map(|key| fork(key, false)) {
            return decided;
        }
        if let Some(decided) = self.parents(&named).into_iter().find_map(|key| fork(key, true)) {
            return decided;
        }
        match absent {
            Some(absent) if is_strict => absent,
            Some(_) => to_baseline("unknown_preview"),
            None => to_baseline("no_fork"),
        }
    }

    /// The ancestors of these previews, generation by generation, each once, at most eight.
    fn parents<'a>(&'a self, named: &[&'a String]) -> Vec<&'a String> {
        let mut found: Vec<&String> = Vec::new();
        let mut generation = named.to_vec();
        while !generation.is_empty() {
            let mut next = Vec::new();
            for parent in generation.iter().flat_map(|key| &self.previews[*key].preview.parents) {
                let is_new = !named.contains(&parent) && !found.contains(&parent);
                if is_new && self.previews.contains_key(parent) && found.len() < 8 {
                    found.push(parent);
                    next.push(parent);
                }
            }
            generation = next;
        }
        found
    }
}

/// What a file of the folder says.
#[derive(Clone, Debug)]
enum File {
    Good(Preview),
    Broken,
}

/// Who says what there is, and what follows from it in time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) table: Table,
    /// When keys first appeared that are not in the table, though somebody still writes them.
    seen: BTreeMap<String, Duration>,
    pub(crate) main: BTreeMap<String, Preview>,
    files: BTreeMap<String, File>,
}

impl Book {
    pub(crate) fn file_keys(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// What is written of `key` comes into force, unless its time is over.
    fn join(&mut self, key: &str, preview: Preview, now: Duration) {
        let known = self.table.previews.get(key).map(|live| live.since);
        let since = known.or_else(|| self.seen.get(key).copied()).unwrap_or(now);
        let ends = preview.ttl.map(|ttl| since + ttl);
        if ends.is_some_and(|ends| ends <= now) {
            self.expire(key, since);
            return;
        }
        self.seen.remove(key);
        self.table.gone.remove(key);
        self.table.previews.insert(key.to_owned(), Live { preview, since, ends });
    }

    fn expire(&mut self, key: &str, since: Duration) {
        self.table.previews.remove(key);
        self.table.gone.insert(key.to_owned());
        self.seen.insert(key.to_owned(), since);
    }

    /// Somebody puts a preview: one that is not there begins a new life.
    pub(crate) fn put(&mut self, key: &str, preview: Preview, now: Duration) {
        self.seen.remove(key);
        self.files.insert(key.to_owned(), File::Good(preview.clone()));
        self.join(key, preview, now);
    }

    /// A file appears or changes.
    pub(crate) fn write(&mut self, key: &str, preview: Preview, now: Duration) {
        self.files.insert(key.to_owned(), File::Good(preview.clone()));
        self.join(key, preview, now);
    }

    /// A file no longer says what it should: what it said last stays.
    pub(crate) fn break_file(&mut self, key: &str) {
        self.files.insert(key.to_owned(), File::Broken);
    }

    /// A file goes; `false`: there was none, and no preview.
    pub(crate) fn delete(&mut self, key: &str) -> bool {
        let had_file = self.files.remove(key).is_some();
        let had = self.table.previews.remove(key).is_some() || had_file;
        if had {
            self.seen.remove(key);
            self.table.gone.insert(key.to_owned());
        }
        had
    }

    /// The main file says something else.
    pub(crate) fn reload(
        &mut self,
        services: Vec<Option<Set>>,
        main: BTreeMap<String, Preview>,
        rejects_unknown: bool,
        now: Duration,
    ) {
        self.table.services = services;
        self.table.rejects_unknown = rejects_unknown;
        let is_written = |key: &String| main.contains_key(key) || self.files.contains_key(key);
        let left: Vec<String> = self.table.previews.keys().filter(|key| !is_written(key)).cloned().collect();
        for key in left {
            self.table.previews.remove(&key);
            self.table.gone.insert(key);
        }
        let files = self.files.clone().into_iter().filter_map(|(key, file)| match file {
            File::Good(preview) => Some((key, preview)),
            File::Broken => None,
        });
        for (key, preview) in main.clone().into_iter().chain(files) {
            self.join(&key, preview, now);
        }
        self.main = main;
    }

    /// A controller sets a preview, which ends when it says.
    pub(crate) fn set(&mut self, key: &str, preview: Preview, now: Duration) {
        let ends = preview.ttl.map(|ttl| now + ttl);
        self.table.gone.remove(key);
        self.table.previews.insert(key.to_owned(), Live { preview, since: now, ends });
    }

    /// A controller takes a preview away, and says perhaps that it was there.
    pub(crate) fn take(&mut self, key: &str, is_remembered: bool) {
        self.table.previews.remove(key);
        if is_remembered {
            self.table.gone.insert(key.to_owned());
        }
    }

    /// A second has passed; whether it ended anything.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<String> {
        let over = |live: &Live| live.ends.is_some_and(|ends| ends <= now);
        let ended = self.table.previews.iter().filter(|(_, live)| over(live));
        let ended: Vec<_> = ended.map(|(key, live)| (key.clone(), live.since)).collect();
        for (key, since) in &ended {
            self.expire(key, *since);
        }
        ended.into_iter().map(|(key, _)| key).collect()
    }
}
