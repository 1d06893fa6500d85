//! One worker: a thread with a runtime of its own, its own listening sockets, its own upstream connections and its
//! own reference to the table. Nothing in here is shared with another worker.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::Place;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::accept::connection::{Connection, Door, Lifeline, serve};
use crate::accept::gate::{Entry, Gate, no_room};
use crate::batch::Batch;
use crate::chain::calls::Opened;
use crate::chain::wire::{Receiver, Sender};
use crate::context::memory::Memory;
use crate::drain::Phase;
use crate::error::Failure;
use crate::forward::hold::Holding;
use crate::forward::meant::Meant;
use crate::forward::pool::Pool;
use crate::limit::Limit;
use crate::record::access_log::AccessLog;
use crate::record::metrics::{Metrics, WorkerStats};
use crate::route::snapshot::{Cached, Published};
use crate::watch::Watchers;

/// Runs futures on the thread they were made on.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What all workers share. None of it is written on the path of a request, but for the counts of open connections
/// and held requests.
#[derive(Debug)]
pub struct Shared {
    /// The current table.
    pub published: Arc<Published>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where requests are written down.
    pub log: Option<AccessLog>,
    /// The limits of this process.
    pub limits: Limits,
    /// How far the drain is.
    pub drain: watch::Receiver<Phase>,
    /// Requests that wait for forks.
    pub holding: Arc<Holding>,
    /// Who may come in.
    pub gate: Gate,
    /// The number of the next connection.
    pub next_connection: AtomicU64,
    /// What a sidecar remembers; made at its first request.
    pub memory: OnceLock<Memory>,
    /// What a sidecar remembers of the requests that its workload has open.
    pub opened: Arc<Opened>,
    /// What hops inside report to this gateway, where it listens for that.
    pub reports: Option<Arc<Receiver>>,
    /// This process in `Via`, so that it knows its own requests.
    pub via: HeaderValue,
}

/// What becomes of the listeners of a worker while it serves.
#[derive(Debug)]
pub enum Change {
    /// One more.
    Open(Arc<Door>, StdListener),
    /// No more connections on this port; those that it has brought are asked to go.
    Close(u16),
}

/// One worker.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What it shares.
    pub shared: Arc<Shared>,
    /// The limits of this process.
    pub limits: Limits,
    /// Its counters.
    pub stats: Arc<WorkerStats>,
    /// Its reference to the table.
    pub table: Cached,
    /// Its upstream connections.
    pub pool: Pool,
    /// Its endpoints that no table names.
    pub meant: Meant,
    /// What is about to be written.
    batch: Batch,
    /// Whether answers tell clients to go.
    pub leaving: Cell<bool>,
    lifelines: RefCell<Vec<Weak<Lifeline>>>,
    /// Ports that were closed while it serves: what came in there is asked to go.
    closed: RefCell<HashSet<u16>>,
    /// Who waits, and asks again what is decided once there is another table.
    pub watchers: Rc<Watchers>,
    /// The table that they were last woken for.
    told: Cell<u64>,
    /// What reports to a gateway go out with.
    pub reporter: Sender,
    /// Requests under way, tunnels included.
    pub in_flight: Cell<usize>,
    /// Its share of the requests that may be under way.
    share: usize,
    random: Cell<u64>,
    date: RefCell<Option<HeaderValue>>,
    seconds: Cell<u64>,
}

impl Worker {
    /// The worker of this thread, whose random numbers begin at `seed`, which is not zero.
    pub fn new(index: usize, workers: usize, seed: u64, shared: Arc<Shared>) -> Rc<Self> {
        let stats = Arc::clone(shared.metrics.worker(index));
        let limits = shared.limits;
        Rc::new(Self {
            index,
            told: Cell::new(0),
            watchers: Rc::default(),
            table: Cached::new(Arc::clone(&shared.published)),
            pool: Pool::new(&limits, Arc::clone(&stats)),
            meant: Meant::default(),
            stats,
            batch: Batch::default(),
            leaving: Cell::new(false),
            reporter: Sender::default(),
            lifelines: RefCell::default(),
            closed: RefCell::default(),
            in_flight: Cell::new(0),
            share: limits.max_in_flight / workers.max(1),
            random: Cell::new(seed),
            date: RefCell::new(date()),
            seconds: Cell::new(seconds()),
            limits,
            shared,
        })
    }

    /// A random number: for picking and ids, not for secrets (xorshift64*, Vigna 2016).
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The date of an answer (RFC 9110 section 6.6.1), where the upstream gave none; at most a second old.
    pub fn date(&self) -> Option<HeaderValue> {
        self.date.borrow().clone()
    }

    /// The time in seconds since 1970, at most a second old.
    pub fn seconds(&self) -> u64 {
        self.seconds.get()
    }

    /// The number of the next connection.
    pub fn next_connection(&self) -> u64 {
        self.shared.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A request begins.
    pub fn began(&self) {
        let count = self.in_flight.get() + 1;
        self.in_flight.set(count);
        if count == self.share + 1 {
            self.shared.gate.borrow();
        }
    }

    /// A request has ended.
    pub fn ended(&self) {
        let count = self.in_flight.get();
        self.in_flight.set(count.saturating_sub(1));
        if count == self.share + 1 {
            self.shared.gate.give_back();
        }
    }

    /// Waits before a message is written until all that is ready has been looked at; not at all where only one request is
    /// under way, which nobody's can be written with.
    pub async fn turn(&self) {
        if self.in_flight.get() > 1 {
            self.batch.join().await;
        }
    }

    /// Whether there is room for the request that has just begun. As long as every worker keeps to its share, none has to
    /// ask the others, and no request is counted where workers meet.
    ///
    /// # Errors
    /// `overloaded`, or `rate_limited`.
    pub fn has_room(&self, connection: &Connection) -> Result<(), Failure> {
        let gate = &self.shared.gate;
        let is_full = || {
            let all = self.shared.metrics.in_flight();
            usize::try_from(all).is_ok_and(|all| all > self.limits.max_in_flight)
        };
        match connection.refused {
            Some(limit) => Err(no_room(limit)),
            None if gate.is_borrowed() && is_full() => Err(no_room(Limit::MaxInFlight)),
            None if gate.is_pressed() => Err(no_room(Limit::MaxMemory)),
            None => Ok(()),
        }
    }

    /// Watches the phases of a connection.
    pub fn watch(&self, lifeline: &Rc<Lifeline>) {
        self.lifelines.borrow_mut().push(Rc::downgrade(lifeline));
    }

    fn each_lifeline(&self, act: impl Fn(&Lifeline)) {
        self.lifelines.borrow_mut().retain(|lifeline| match lifeline.upgrade() {
            Some(lifeline) => {
                act(&lifeline);
                true
            }
            None => false,
        });
    }

    /// Accepts on `listeners`, and on those that `changes` bring, until the drain ends, and finishes what is under way.
    pub async fn run(
        self: Rc<Self>,
        listeners: Vec<(Arc<Door>, StdListener)>,
        mut changes: mpsc::UnboundedReceiver<Change>,
    ) {
        let mut accepting = JoinSet::new();
        // Calls of a workload: it may make some while it ends.
        let mut staying = JoinSet::new();
        // Dropping one of these closes its port.
        let mut open = HashMap::new();
        for (door, listener) in listeners {
            let stays = matches!(door.listener().place, Place::Outbound(_));
            let (until, tasks) =
                if stays { (Phase::Over, &mut staying) } else { (Phase::Draining, &mut accepting) };
            self.open(door, listener, (until, std::future::pending()), tasks);
        }
        let mut drain = self.shared.drain.clone();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while *drain.borrow_and_update() == Phase::Serving {
            tokio::select! {
                _ = tick.tick() => {
                    self.sweep();
                    while accepting.try_join_next().is_some() {}
                }
                Some(change) = changes.recv() => match change {
                    Change::Open(door, listener) => {
                        let (hold, closed) = oneshot::channel::<()>();
                        let port = door.listener().address.port();
                        self.closed.borrow_mut().remove(&port);
                        open.insert(port, hold);
                        let closed = async { drop(closed.await) };
                        self.open(door, listener, (Phase::Draining, closed), &mut accepting);
                    }
                    Change::Close(port) => {
                        open.remove(&port);
                        self.closed.borrow_mut().insert(port);
                    }
                },
                changed = drain.changed() => if changed.is_err() { break },
            }
        }
        // The accept loops see the drain by themselves, after they have emptied their queues.
        while accepting.join_next().await.is_some() {}
        self.drain(&mut drain, !staying.is_empty()).await;
    }

    /// Accepts on one more listener, until this phase or `closed`.
    fn open(
        self: &Rc<Self>,
        door: Arc<Door>,
        listener: StdListener,
        (until, closed): (Phase, impl Future<Output = ()> + 'static),
        accepting: &mut JoinSet<()>,
    ) {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn_local(accept(Rc::clone(self), door, listener, (until, closed)));
            }
            Err(error) => tracing::error!(%error, "a listener can't be used"),
        }
    }

    fn sweep(&self) {
        // Also lets go of a table that is no longer the current one.
        let version = self.table.get().version();
        if self.told.replace(version) != version {
            tokio::task::spawn_local(Rc::clone(&self.watchers).wake());
        }
        self.meant.sweep();
        self.pool.sweep();
        self.date.replace(date());
        self.seconds.set(seconds());
        let is_pressed = self.shared.gate.is_pressed();
        let closed = self.closed.borrow();
        self.each_lifeline(|lifeline| {
            if let Some(limit) = lifeline.check(self.limits.header_timeout, self.limits.client_idle_timeout) {
                self.stats.reached(limit);
            }
            if !closed.is_empty() && closed.contains(&lifeline.port()) {
                lifeline.go();
                lifeline.leave(LINGER);
            }
            if is_pressed {
                // Who asks for nothing gives its memory to those who do.
                lifeline.leave(Duration::ZERO);
            }
        });
    }

    /// Tells clients to go, and waits until they have, or the time for it is over.
    /// Where it `calls` for a workload, that may have something more to say for a moment.
    async fn drain(&self, drain: &mut watch::Receiver<Phase>, calls: bool) {
        self.leaving.set(true);
        let linger = LINGER.min(self.limits.drain_timeout / 2);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let mut busy = Instant::now();
        while (self.is_busy() || (calls && busy.elapsed() < linger)) && *drain.borrow() != Phase::Over {
            if self.is_busy() {
                busy = Instant::now();
            }
            tokio::select! {
                _ = tick.tick() => self.each_lifeline(|lifeline| {
                    if !lifeline.stays() {
                        lifeline.leave(linger);
                    }
                    // Who was told to go and stays is cut.
                    lifeline.check(self.limits.header_timeout, self.limits.client_idle_timeout);
                }),
                changed = drain.changed() => if changed.is_err() { return },
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.stats.connections.get() > 0 || self.in_flight.get() > 0
    }
}

/// How long an idle connection is still served once a drain began.
const LINGER: Duration = Duration::from_secs(1);

/// Now, in seconds since 1970.
fn seconds() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// Now, as a field says it.
fn date() -> Option<HeaderValue> {
    let text = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text).ok()
}

/// A seed that differs from worker to worker and from start to start.
pub fn seed(index: usize) -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(index) | 1
}

/// Accepts until the drain is so far. No error ends it: a listener that is gone for good would be a silent outage.
async fn accept(
    worker: Rc<Worker>,
    door: Arc<Door>,
    listener: TcpListener,
    (until, closed): (Phase, impl Future<Output = ()>),
) {
    let mut closed = pin!(closed);
    let mut drain = worker.shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|phase| *phase >= until) => break,
            () = &mut closed => break,
        };
        match accepted {
            Ok((stream, peer)) => welcome(&worker, &door, stream, peer),
            Err(error) => {
                tracing::warn!(%error, address = %door.listener().address, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // What waits in the queue would be reset when the socket closes. Asked of the system: the runtime may not have
    // heard of the last ones.
    let Ok(listener) = listener.into_std() else { return };
    for (stream, peer) in std::iter::from_fn(|| listener.accept().ok()).take(QUEUE) {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            welcome(&worker, &door, stream, peer);
        }
    }
}

/// Connections that may wait in the queue of a socket that closes.
const QUEUE: usize = 4096;

fn welcome(worker: &Rc<Worker>, door: &Arc<Door>, stream: TcpStream, peer: SocketAddr) {
    let slot = Slot::take(worker);
    let refused = match slot.entry {
        Entry::Served => None,
        Entry::Refused(limit) => Some(limit),
        Entry::Closed(limit) => {
            tracing::debug!(%peer, %limit, "connection closed");
            return worker.stats.reached(limit);
        }
    };
    let (worker, door) = (Rc::clone(worker), Arc::clone(door));
    tokio::task::spawn_local(async move {
        serve(worker, door, stream, peer, refused).await;
        drop(slot);
    });
}

/// One of the connections that this process may have.
struct Slot {
    worker: Rc<Worker>,
    entry: Entry,
}

impl Slot {
    fn take(worker: &Rc<Worker>) -> Self {
        worker.stats.connections.inc();
        Self { worker: Rc::clone(worker), entry: worker.shared.gate.enter() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.stats.connections.dec();
        self.worker.shared.gate.leave();
    }
}
