//! One watch: list, watch, and after a failure again.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use prometheus::IntCounter;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Change, Message};
use crate::observe::{Fact, name};
use crate::world::Name;

/// The longest pause after a failure. kube's own back-off grows to 30 s; an API server that is back is worth a list
/// sooner, since every second of it is a stale table.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The first pause. A watch closed with 410 Gone lists again after it.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// After so long without a failure the next one is a new one: longer than an attempt to connect takes to fail.
const QUIET: Duration = Duration::from_secs(15);

/// How long a page of a list may take. An answer that never comes, from a machine that has gone without a word, would be
/// waited for for ever.
const LIST: Duration = Duration::from_secs(30);

/// How long a kind that one can do without is waited for while it is forbidden. An API server that has just started
/// forbids everything for some seconds.
const FORBIDDEN: Duration = Duration::from_secs(30);

/// What becomes of the objects of one watch.
pub(super) trait Sink<K>: Send {
    /// This object is there, like this.
    fn apply(&mut self, object: K) -> Option<Change>;
    /// This object is gone.
    fn delete(&mut self, object: K) -> Option<Change>;
    /// A list begins.
    fn list(&mut self);
    /// This object is on the list.
    fn listed(&mut self, object: K);
    /// The list is whole: what is not on it is gone.
    fn complete(&mut self) -> Option<Change>;
}

/// Why a watch ended.
pub(super) enum End {
    /// The kind is not served (any more).
    NoSuchKind,
    /// Nobody listens.
    Closed,
}

/// One watch.
pub(super) struct Follow<K, S> {
    /// For the log.
    pub(super) what: &'static str,
    /// The number of the source.
    pub(super) source: usize,
    /// Where the objects are.
    pub(super) api: Api<K>,
    /// Which of them.
    pub(super) config: watcher::Config,
    /// What becomes of them.
    pub(super) sink: S,
    /// Where that goes.
    pub(super) sender: mpsc::Sender<Message>,
    /// Counts restarts.
    pub(super) restarts: IntCounter,
    /// Whether the world is whole without it, should it stay forbidden.
    pub(super) is_optional: bool,
}

impl<K, S> Follow<K, S>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    S: Sink<K>,
{
    /// Watches until the kind is no longer served, or nobody listens.
    pub(super) async fn run(&mut self) -> End {
        self.run_for_lists_within(LIST).await
    }

    /// The same; a page of a list may take `patience`.
    async fn run_for_lists_within(&mut self, patience: Duration) -> End {
        let mut stream = Box::pin(watcher(self.api.clone(), self.config.clone()));
        let mut pauses = Pauses::default();
        let mut forbidden = Forbidden::default();
        let mut is_listing = false;
        loop {
            let bound = if is_listing { patience } else { Duration::MAX };
            let Ok(next) = tokio::time::timeout(bound, stream.try_next()).await else {
                stream = Box::pin(watcher(self.api.clone(), self.config.clone()));
                is_listing = false;
                let pause = pauses.next(Instant::now(), false);
                self.failed(&format!("no answer to a list within {patience:?}"), pause).await;
                continue;
            };
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => return End::Closed,
                Err(error) if is_missing(&error) => return End::NoSuchKind,
                Err(error) => {
                    if self.is_optional && forbidden.is_news(&error, Instant::now()) {
                        warn!("{} may not be read, and are left out", self.what);
                        if self.sender.send(Message::Complete(self.source)).await.is_err() {
                            return End::Closed;
                        }
                    }
                    let pause = pauses.next(Instant::now(), is_expired(&error));
                    self.failed(&error, pause).await;
                    continue;
                }
            };
            is_listing = match event {
                Event::Init | Event::InitApply(_) => true,
                Event::InitDone | Event::Apply(_) | Event::Delete(_) => false,
            };
            if self.take(event).await.is_err() {
                return End::Closed;
            }
        }
    }

    /// Counts a failure, tells of it, and waits before the next attempt.
    async fn failed(&mut self, error: &(dyn Display + Sync), pause: Duration) {
        say(self.what, error, pause);
        self.restarts.inc();
        tokio::time::sleep(pause).await;
    }

    async fn take(&mut self, event: Event<K>) -> Result<(), mpsc::error::SendError<Message>> {
        let is_done = matches!(event, Event::InitDone);
        let change = match event {
            Event::Apply(object) => self.sink.apply(object),
            Event::Delete(object) => self.sink.delete(object),
            Event::Init => {
                self.sink.list();
                None
            }
            Event::InitApply(object) => {
                self.sink.listed(object);
                None
            }
            Event::InitDone => self.sink.complete(),
        };
        if let Some(change) = change {
            self.sender.send(Message::Change(change)).await?;
        }
        if is_done {
            self.sender.send(Message::Complete(self.source)).await?;
        }
        Ok(())
    }
}

/// Tells of a failure. The first of a row is news; while an API server is away the same line would come every few
/// seconds.
fn say(what: &str, error: &dyn Display, pause: Duration) {
    if pause == MIN_PAUSE {
        warn!("the watch of {what} failed and is taken up again: {error}");
    } else {
        debug!("the watch of {what} failed again: {error}");
    }
}

/// Whether the API server has no such kind: its CRD is not there.
fn is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Since when a kind is forbidden, and whether that was told.
#[derive(Default)]
struct Forbidden {
    since: Option<Instant>,
    is_told: bool,
}

impl Forbidden {
    /// Whether this failure, after others, is the one to give up on; once.
    fn is_news(&mut self, error: &watcher::Error, now: Instant) -> bool {
        let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
        if status.code != 403 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= FORBIDDEN && !std::mem::replace(&mut self.is_told, true)
    }
}

/// Pauses between attempts: twice as long each time, short again after [`QUIET`]. 410 Gone ends a row of other failures:
/// the API server is back, and the list that it asks for is not made to wait for the outage before it. A row of its own,
/// which lists the whole kind each time, grows like any other.
#[derive(Default)]
struct Pauses {
    last: Option<Failed>,
}

/// The last failure.
struct Failed {
    at: Instant,
    pause: Duration,
    is_expired: bool,
}

impl Pauses {
    fn next(&mut self, now: Instant, is_expired: bool) -> Duration {
        let goes_on = |last: &&Failed| {
            let is_recent = now.saturating_duration_since(last.at) < last.pause + QUIET;
            is_recent && (last.is_expired || !is_expired)
        };
        let pause = self.last.as_ref().filter(goes_on);
        let pause = pause.map_or(MIN_PAUSE, |last| (last.pause * 2).min(MAX_PAUSE));
        self.last = Some(Failed { at: now, pause, is_expired });
        pause
    }
}

/// Whether the watch has lost its place: 410 Gone, as an answer or as an event.
fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// Says which facts are a watch's.
type Ours<I> = Arc<dyn Fn(&I) -> bool + Send + Sync>;

/// Objects that become facts.
pub(super) struct Facts<K, F: Fact> {
    /// From the object to the fact.
    read: fn(K) -> Option<F>,
    /// From its name to the fact's.
    id: fn(Name) -> F::Id,
    /// Which facts of the world are this watch's: those that a whole list replaces.
    is_ours: Ours<F::Id>,
    list: BTreeMap<F::Id, Arc<F>>,
}

impl<K, F: Fact> Facts<K, F> {
    /// Facts that `read` makes.
    pub(super) fn new(
        read: fn(K) -> Option<F>,
        id: fn(Name) -> F::Id,
        is_ours: impl Fn(&F::Id) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { read, id, is_ours: Arc::new(is_ours), list: BTreeMap::new() }
    }

    /// The change by which there are none: the kind is not served.
    pub(super) fn none(&mut self) -> Change {
        self.list.clear();
        self.replace()
    }

    fn replace(&mut self) -> Change {
        let list = std::mem::take(&mut self.list);
        let ours = Arc::clone(&self.is_ours);
        Box::new(move |world| replace(F::all(world), list, &*ours))
    }
}

impl<K: Resource + 'static, F: Fact> Sink<K> for Facts<K, F> {
    fn apply(&mut self, object: K) -> Option<Change> {
        let id = (self.id)(name(object.meta()));
        Some(match (self.read)(object) {
            Some(fact) => Box::new(move |world| upsert(F::all(world), id, fact)),
            None => Box::new(move |world| F::all(world).remove(&id).is_some()),
        })
    }

    fn delete(&mut self, object: K) -> Option<Change> {
        let id = (self.id)(name(object.meta()));
        Some(Box::new(move |world| F::all(world).remove(&id).is_some()))
    }

    fn list(&mut self) {
        self.list.clear();
    }

    fn listed(&mut self, object: K) {
        let id = (self.id)(name(object.meta()));
        if let Some(fact) = (self.read)(object) {
            self.list.insert(id, Arc::new(fact));
        }
    }

    fn complete(&mut self) -> Option<Change> {
        Some(self.replace())
    }
}

/// Puts `fact` in; says whether it is another one than before.
fn upsert<F: Fact>(facts: &mut BTreeMap<F::Id, Arc<F>>, id: F::Id, fact: F) -> bool {
    if facts.get(&id).is_some_and(|known| **known == fact) {
        return false;
    }
    facts.insert(id, Arc::new(fact));
    true
}

/// Makes `list` all that there is of what `is_ours`.
fn replace<F: Fact>(
    facts: &mut BTreeMap<F::Id, Arc<F>>,
    list: BTreeMap<F::Id, Arc<F>>,
    is_ours: &dyn Fn(&F::Id) -> bool,
) -> bool {
    let before = facts.len();
    facts.retain(|id, _| !is_ours(id) || list.contains_key(id));
    let mut changed = facts.len() != before;
    for (id, fact) in list {
        if facts.get(&id).is_none_or(|known| *known != fact) {
            facts.insert(id, fact);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests;
