//! Which table generation of each preview all proxies have acknowledged, for the status of its object.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sidetrack_config::Key;
use sidetrack_config::stream::TableHash;

use crate::apply::Outbox;
use crate::leader::Leader;
use crate::publish::Publisher;
use crate::serve::previews::Previews;

/// How long it is waited between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Generations by key, and what they are of.
type Generations = BTreeMap<Key, (TableHash, i64)>;

/// What is acknowledged, by key; `None`: it was not looked since this replica leads.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    by_key: Mutex<Option<Generations>>,
}

impl Acknowledged {
    /// The generation of a preview that all proxies have, if it is known whether there is one.
    pub(crate) fn of(&self, key: &Key) -> Option<Option<i64>> {
        let known = self.lock();
        Some(known.as_ref()?.get(key).map(|(_, generation)| *generation))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Generations>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for as long as this replica leads, and wakes the writer when something is news.
    pub(crate) async fn keep(
        &self,
        previews: &Previews,
        publisher: &Publisher,
        leader: &Leader,
        outbox: &Outbox,
    ) {
        loop {
            tokio::time::sleep(EVERY).await;
            if publisher.table().is_none() || !leader.may_write() {
                *self.lock() = None;
                continue;
            }
            if self.look(previews).await {
                outbox.wake();
            }
        }
    }

    /// Asks all replicas; says whether something is news. A preview that is the same in the table keeps the generation
    /// that was first acknowledged, so that the change of one does not rewrite the status of all.
    async fn look(&self, previews: &Previews) -> bool {
        let Some(all) = previews.all().await else { return false };
        let mut known = self.lock();
        let mut fresh = BTreeMap::new();
        for view in &all.previews {
            let Some(hash) = view.hash else { continue };
            let before = known.as_ref().and_then(|known| known.get(&view.key)).filter(|(of, _)| *of == hash);
            let is_acknowledged = view.proxies.connected > 0 && view.proxies.all_acknowledged();
            let generation = match before {
                Some((_, generation)) => Some(*generation),
                None if is_acknowledged => i64::try_from(view.generation).ok(),
                None => None,
            };
            fresh.extend(generation.map(|generation| (view.key, (hash, generation))));
        }
        let fresh = Some(fresh);
        let changed = *known != fresh;
        *known = fresh;
        changed
    }
}
