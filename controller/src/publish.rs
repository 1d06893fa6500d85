//! The table as its subscribers get it: versions, deltas, snapshots, and who has acknowledged what.
//!
//! [`Publisher::update`] takes a whole table and finds out what of it is new: an item is serialised when it changes and
//! never again. A delta is one line, made once and shared by all streams; a snapshot is made when the first asks for it,
//! away from the lock that an update takes. Nothing here knows a socket or a cluster.

mod about;
pub mod acks;
mod log;
mod subscription;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod views;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use sidetrack_config::stream::{Hello, Item, Message, PROTOCOL, Ping};
use tokio::sync::watch;

pub use about::About;
use acks::Acks;
use log::Log;
pub use subscription::Subscription;
pub use table::{Need, Table};
pub use views::Items;
use views::Views;

/// Holds the table of this process and wakes those who follow it.
#[derive(Debug)]
pub struct Publisher {
    epoch: Box<str>,
    first: u64,
    settle: Duration,
    /// One update at a time; readers never wait for it.
    writer: Mutex<()>,
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    acks: Arc<Acks>,
    cut_off: AtomicBool,
    ended: AtomicBool,
    views: Views,
}

#[derive(Debug, Default)]
struct State {
    table: Option<Arc<Table>>,
    about: Arc<About>,
    log: Log,
}

/// What an update came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Updated {
    /// The version that is in force now.
    pub version: u64,
    /// Whether it is a new one.
    pub changed: bool,
    /// Items that are larger than [`sidetrack_config::stream::MAX_ITEM`] and so are not in the table.
    pub left_out: Vec<Box<str>>,
    /// Bytes of the delta, its line feed included; zero where there was none to send.
    pub delta_bytes: usize,
}

/// What a subscriber at some version lacks.
#[derive(Debug)]
enum Lack {
    Nothing,
    Deltas { lines: Vec<Bytes>, to: u64 },
    Everything(Arc<Table>),
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// One without a table: nobody can subscribe before the first [`Publisher::update`], since an empty table would tell
    /// proxies to forget a good one.
    pub fn new() -> Self {
        // Later processes have higher versions, which is for people who compare them: the epoch is what is compared.
        let first = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        Self {
            epoch: format!("{first:x}-{:016x}", RandomState::new().hash_one(first)).into(),
            first,
            settle: Duration::ZERO,
            writer: Mutex::default(),
            state: Mutex::default(),
            newest: watch::Sender::new(0),
            acks: Arc::default(),
            cut_off: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            views: Views::default(),
        }
    }

    /// For so long after its first table nothing counts as acknowledged: see [`Acks::settle`].
    #[must_use]
    pub fn with_settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Makes `items` what gateways have, with `inside` what sidecars have, and `views` with what it takes of `items` what
    /// the waypoints of each namespace have. Gateways last: what is said of previews is never ahead of any table.
    pub fn publish(
        &self,
        items: Items,
        inside: Items,
        views: BTreeMap<Box<str>, Items>,
        about: About,
    ) -> Updated {
        let too_large = self.views.update(&items, inside, views);
        let mut updated = self.update(views::of_gateways(items), about);
        updated.left_out.extend(too_large);
        updated
    }

    /// Keeps a table for sidecars, too.
    #[must_use]
    pub fn with_sidecars(mut self) -> Self {
        self.views.sidecars = Some(Arc::new(Self::new()));
        self
    }

    /// What sidecars follow; `None`: this controller keeps none.
    pub fn sidecars(&self) -> Option<Arc<Self>> {
        self.views.sidecars.clone()
    }

    /// What the waypoints of a namespace follow; `None`: this controller keeps none there.
    pub fn view(&self, namespace: &str) -> Option<Arc<Self>> {
        self.views.of(namespace)
    }

    /// What waypoints follow, by namespace.
    pub fn views(&self) -> Vec<(Box<str>, Arc<Self>)> {
        self.views.all()
    }

    /// Ends every stream.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.newest.send_modify(|_| {});
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Makes `items` the table, and `about` what is said of it: both at once, so that no preview is called ready by a
    /// table that does not hold it yet. A table that is equal to the last one makes no version.
    pub fn update(&self, items: BTreeMap<Box<str>, Item>, about: About) -> Updated {
        let _one_at_a_time = lock(&self.writer);
        let old = self.table();
        let version = old.as_ref().map_or(self.first, |old| old.version() + 1);
        let change = table::change(old.as_deref(), items, version);
        let left_out = change.left_out;
        let mut state = lock(&self.state);
        state.about = Arc::new(about);
        let Some((table, delta)) = change.table else {
            return Updated { version: version.saturating_sub(1), left_out, ..Updated::default() };
        };
        let delta_bytes = delta.as_ref().map_or(0, Bytes::len);
        if old.is_none() {
            self.acks.settle(Instant::now() + self.settle);
        }
        state.log.push(delta);
        state.table = Some(Arc::new(table));
        drop(state);
        self.newest.send_replace(version);
        Updated { version, changed: true, left_out, delta_bytes }
    }

    /// The life of this process: versions can be compared within it only.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The table in force; `None` before the first update.
    pub fn table(&self) -> Option<Arc<Table>> {
        lock(&self.state).table.clone()
    }

    /// The table in force and what is known of its previews, which belong together.
    pub fn current(&self) -> Option<(Arc<Table>, Arc<About>)> {
        let state = lock(&self.state);
        state.table.clone().map(|table| (table, Arc::clone(&state.about)))
    }

    /// Who follows, and what they have acknowledged.
    pub fn acks(&self) -> &Arc<Acks> {
        &self.acks
    }

    /// Follows the table from what a subscriber says it has; anything but a version of this epoch that is still in the
    /// log begins with a snapshot. `None` before the first update.
    pub fn subscribe(self: &Arc<Self>, epoch: &str, version: Option<u64>) -> Option<Subscription> {
        self.table()?;
        let at = version.filter(|_| epoch == &*self.epoch);
        Some(Subscription::new(Arc::clone(self), at, self.newest.subscribe()))
    }

    /// Notes whether the API server is silent for so long that other replicas may know more.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    /// Whether this table may be older than those of other replicas.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Waits for a version above `version`.
    pub async fn newer_than(&self, version: u64) {
        // The sender lives in `self`: it can't be gone.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > version).await;
    }

    fn lack(&self, at: Option<u64>) -> Lack {
        let state = lock(&self.state);
        let Some(table) = &state.table else { return Lack::Nothing };
        let newest = table.version();
        match at {
            Some(at) if at == newest => Lack::Nothing,
            Some(at) => match state.log.since(at, newest) {
                Some(lines) => Lack::Deltas { lines, to: newest },
                None => Lack::Everything(Arc::clone(table)),
            },
            None => Lack::Everything(Arc::clone(table)),
        }
    }

    fn hello(&self) -> Bytes {
        line(&Message::Hello(Hello { protocol: PROTOCOL, epoch: self.epoch.clone() }))
    }
}

fn ping(version: u64) -> Bytes {
    line(&Message::Ping(Ping { version }))
}

/// A message as a line. Nothing that is sent can fail to be JSON: its maps have texts for keys.
fn line(message: &impl serde::Serialize) -> Bytes {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// A poisoned lock guards values that are replaced whole: they are good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
