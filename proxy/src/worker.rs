//! One worker: a thread with a runtime of its own, its own listening sockets, its own upstream connections and its
//! own reference to the table. Nothing in here is shared with another worker.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use sidetrack_config::limits::Limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::accept::connection::{Connection, Door, Lifeline, serve};
use crate::accept::gate::{Entry, Gate, no_room};
use crate::drain::Phase;
use crate::error::Failure;
use crate::forward::hold::Holding;
use crate::forward::pool::Pool;
use crate::limit::Limit;
use crate::record::access_log::AccessLog;
use crate::record::metrics::{Metrics, WorkerStats};
use crate::route::snapshot::{Cached, Published};

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
    /// This process in `Via`, so that it knows its own requests.
    pub via: HeaderValue,
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
    /// Whether answers tell clients to go.
    pub leaving: Cell<bool>,
    lifelines: RefCell<Vec<Weak<Lifeline>>>,
    /// Requests under way, tunnels included.
    pub in_flight: Cell<usize>,
    /// Its share of the requests that may be under way.
    share: usize,
    random: Cell<u64>,
    date: RefCell<Option<HeaderValue>>,
}

impl Worker {
    /// The worker of this thread, whose random numbers begin at `seed`, which is not zero.
    pub fn new(index: usize, workers: usize, seed: u64, shared: Arc<Shared>) -> Rc<Self> {
        let stats = Arc::clone(shared.metrics.worker(index));
        let limits = shared.limits;
        Rc::new(Self {
            index,
            table: Cached::new(Arc::clone(&shared.published)),
            pool: Pool::new(&limits, Arc::clone(&stats)),
            stats,
            leaving: Cell::new(false),
            lifelines: RefCell::default(),
            in_flight: Cell::new(0),
            share: limits.max_in_flight / workers.max(1),
            random: Cell::new(seed),
            date: RefCell::new(date()),
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

    /// Accepts on `listeners` until the drain ends, and finishes what is under way.
    pub async fn run(self: Rc<Self>, listeners: Vec<(Arc<Door>, StdListener)>) {
        let accepting: Vec<_> = listeners
            .into_iter()
            .filter_map(|(door, listener)| match TcpListener::from_std(listener) {
                Ok(listener) => Some(tokio::task::spawn_local(accept(Rc::clone(&self), door, listener))),
                Err(error) => {
                    tracing::error!(%error, "a listener can't be used");
                    None
                }
            })
            .collect();
        let mut drain = self.shared.drain.clone();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while *drain.borrow_and_update() == Phase::Serving {
            tokio::select! {
                _ = tick.tick() => self.sweep(),
                changed = drain.changed() => if changed.is_err() { break },
            }
        }
        for task in accepting {
            // The accept loop sees the drain by itself, after it has emptied its queue.
            let _ = task.await;
        }
        self.drain(&mut drain).await;
    }

    fn sweep(&self) {
        // Also lets go of a table that is no longer the current one.
        drop(self.table.get());
        self.pool.sweep();
        self.date.replace(date());
        let is_pressed = self.shared.gate.is_pressed();
        self.each_lifeline(|lifeline| {
            if let Some(limit) = lifeline.check(self.limits.header_timeout, self.limits.client_idle_timeout) {
                self.stats.reached(limit);
            }
            if is_pressed {
                // Who asks for nothing gives its memory to those who do.
                lifeline.leave(Duration::ZERO);
            }
        });
    }

    /// Tells clients to go, and waits until they have, or the time for it is over.
    async fn drain(&self, drain: &mut watch::Receiver<Phase>) {
        self.leaving.set(true);
        let linger = LINGER.min(self.limits.drain_timeout / 2);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.is_busy() && *drain.borrow() != Phase::Over {
            tokio::select! {
                _ = tick.tick() => self.each_lifeline(|lifeline| {
                    lifeline.leave(linger);
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

/// Accepts until the drain begins. No error ends it: a listener that is gone for good would be a silent outage.
async fn accept(worker: Rc<Worker>, door: Arc<Door>, listener: TcpListener) {
    let mut drain = worker.shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|phase| *phase != Phase::Serving) => break,
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
