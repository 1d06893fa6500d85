//! What proxies have acknowledged: which table generation of each preview all of them have, for the status of its object,
//! and which ports of waypoints, for the Services that wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidetrack_config::Key;
use sidetrack_config::stream::TableHash;

use crate::apply::Outbox;
use crate::leader::Leader;
use crate::plan::waypoints::Gate;
use crate::publish::{Publisher, Table};
use crate::serve::previews::Previews;

/// How long it is waited between two looks at previews.
const EVERY: Duration = Duration::from_secs(1);
/// The same where a Service waits to be turned to waypoints.
const SOON: Duration = Duration::from_millis(200);

/// Generations by key, and what they are of.
type Generations = BTreeMap<Key, (TableHash, i64)>;

/// What is acknowledged, by key; `None`: it was not looked since this replica leads.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    publisher: Arc<Publisher>,
    by_key: Mutex<Option<Generations>>,
    /// Gates that were open, and what of the table that was about.
    open: Mutex<Vec<(Gate, Vec<TableHash>)>>,
}

impl Acknowledged {
    /// Nothing yet.
    pub(crate) fn new(publisher: Arc<Publisher>) -> Self {
        Self { publisher, by_key: Mutex::default(), open: Mutex::default() }
    }

    /// The generation of a preview that all proxies have, if it is known whether there is one: none where the table
    /// holds it otherwise by now, since the status that this goes into says what the newest plan says.
    pub(crate) fn of(&self, key: &Key) -> Option<Option<i64>> {
        let known = self.lock();
        let entry = known.as_ref()?.get(key).copied();
        let now = self.publisher.table().and_then(|table| table.need(key).hash);
        Some(entry.filter(|(hash, _)| Some(*hash) == now).map(|(_, generation)| generation))
    }

    /// Whether every waypoint that a gate names has what it asks for, as it is in the table now.
    pub(crate) fn is_open(&self, namespace: &str, gate: &Gate) -> bool {
        self.hashes(namespace, gate).is_some_and(|now| self.was_open(gate, &now))
    }

    fn was_open(&self, gate: &Gate, now: &[TableHash]) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().any(|(known, of)| known == gate && of == now)
    }

    /// What the table has of the ports of a gate; `None`: not all of them are in it.
    fn hashes(&self, namespace: &str, gate: &Gate) -> Option<Vec<TableHash>> {
        let table = self.publisher.view(namespace)?.table()?;
        gate.ports.iter().map(|port| table.port(port)?.hash).collect()
    }

    /// Asks about gates that are not known to be open; says whether one is.
    pub(crate) async fn look_at_gates(&self, previews: &Previews, gates: Vec<(Box<str>, Gate)>) -> bool {
        // Of the table before anybody is asked: what changes meanwhile nobody has said to have.
        let (mut open, mut shut, mut of_shut) = (Vec::new(), Vec::new(), Vec::new());
        for (namespace, gate) in gates {
            match self.hashes(&namespace, &gate) {
                Some(of) if self.was_open(&gate, &of) => open.push((gate, of)),
                Some(of) => {
                    shut.push((namespace, gate));
                    of_shut.push(of);
                }
                None => {}
            }
        }
        let before = open.len();
        if !shut.is_empty() {
            let opened = previews.open(&shut).await;
            let gates = shut.into_iter().map(|(_, gate)| gate).zip(of_shut);
            open.extend(gates.zip(opened).filter(|(_, is_open)| *is_open).map(|(gate, _)| gate));
        }
        let is_news = open.len() > before;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, Option<Generations>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for as long as this replica leads, and wakes the writer when something is news.
    pub(crate) async fn keep(&self, previews: &Previews, leader: &Leader, outbox: &Outbox) {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(SOON).await;
            if !leader.may_write() {
                *self.lock() = None;
                continue;
            }
            let mut is_news = self.look_at_gates(previews, outbox.gates()).await;
            if looked.elapsed() >= EVERY {
                looked = Instant::now();
                is_news |= self.look(previews).await;
            }
            if is_news {
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
