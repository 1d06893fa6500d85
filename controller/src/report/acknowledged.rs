//! Which table generation of each preview all proxies have acknowledged, for the status of its object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sidetrack_config::Key;
use sidetrack_config::stream::TableHash;

use crate::apply::Outbox;
use crate::leader::Leader;
use crate::publish::{Publisher, Table};
use crate::serve::previews::Previews;

/// How long it is waited between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Generations by key, and what they are of.
type Generations = BTreeMap<Key, (TableHash, i64)>;

/// What is acknowledged, by key; `None`: it was not looked since this replica leads.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    publisher: Arc<Publisher>,
    by_key: Mutex<Option<Generations>>,
}

impl Acknowledged {
    /// Nothing yet.
    pub(crate) fn new(publisher: Arc<Publisher>) -> Self {
        Self { publisher, by_key: Mutex::default() }
    }

    /// The generation of a preview that all proxies have, if it is known whether there is one: none where the table
    /// holds it otherwise by now, since the status that this goes into says what the newest plan says.
    pub(crate) fn of(&self, key: &Key) -> Option<Option<i64>> {
        let known = self.lock();
        let entry = known.as_ref()?.get(key).copied();
        let now = self.publisher.table().and_then(|table| table.need(key).hash);
        Some(entry.filter(|(hash, _)| Some(*hash) == now).map(|(_, generation)| generation))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Generations>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for as long as this replica leads, and wakes the writer when something is news.
    pub(crate) async fn keep(&self, previews: &Previews, leader: &Leader, outbox: &Outbox) {
        loop {
            tokio::time::sleep(EVERY).await;
            if !leader.may_write() {
                *self.lock() = None;
                continue;
            }
            if self.look(previews).await {
                outbox.wake();
            }
        }
    }

    /// Asks all replicas, where a preview is not known to be acknowledged as it is; says whether something is news. One
    /// that is the same in the table keeps the generation that was first acknowledged, so that the change of one does
    /// not rewrite the status of all.
    pub(crate) async fn look(&self, previews: &Previews) -> bool {
        let Some(table) = self.publisher.table() else { return false };
        let (mut fresh, missing) = self.kept(&table);
        if !missing.is_empty() {
            let Some(found) = previews.acknowledged(&missing).await else { return false };
            let Ok(generation) = i64::try_from(found.generation) else { return false };
            fresh.extend(found.hashes.into_iter().map(|(key, hash)| (key, (hash, generation))));
        }
        let mut known = self.lock();
        let fresh = Some(fresh);
        let changed = *known != fresh;
        *known = fresh;
        changed
    }

    /// What is known of previews that are the same in `table`, and those that are left to ask about.
    fn kept(&self, table: &Table) -> (Generations, BTreeSet<Key>) {
        let known = self.lock();
        let (mut kept, mut missing) = (Generations::new(), BTreeSet::new());
        for key in table.previews().map(|preview| &preview.key) {
            match known.as_ref().and_then(|known| known.get(key)) {
                Some(entry) if table.need(key).hash == Some(entry.0) => drop(kept.insert(*key, *entry)),
                _ => drop(missing.insert(*key)),
            }
        }
        (kept, missing)
    }
}
