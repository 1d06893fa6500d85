//! Upstream connections of one worker, per endpoint. They live and die with their endpoint; nothing is shared with
//! another worker, so nothing is locked.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use rustix::io::Errno;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::Protocol;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Wire;
use super::http1::Http1;
use super::http2::{Http2, Link, STREAMS};
use crate::pick::View;
use crate::pick::passive::Passive;
use crate::record::metrics::WorkerStats;
use crate::route::table::Endpoint;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Refused, unreachable, or out of descriptors.
    #[error("connect: {0}")]
    Io(#[from] std::io::Error),
    /// Not within the service's connect time-out.
    #[error("connect: timed out")]
    TimedOut,
    /// A new HTTP/2 connection took no request.
    #[error("handshake: no request is taken")]
    TakesNone,
    /// The service wants TLS and no name is known to prove.
    #[error("TLS: no server name")]
    NoServerName,
    /// The upstream did not agree to HTTP/2 (ALPN).
    #[error("TLS: the upstream does not speak HTTP/2")]
    NoHttp2,
}

impl ConnectError {
    /// Whether TLS failed: a certificate that is not believed is nothing that waiting mends, and its owner has to know why.
    pub fn is_of_tls(&self) -> bool {
        match self {
            Self::NoServerName | Self::NoHttp2 => true,
            Self::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
            Self::TimedOut | Self::TakesNone => false,
        }
    }

    /// Whether it is this machine that lacks something: descriptors, ports or memory.
    pub fn is_ours(&self) -> bool {
        let Self::Io(error) = self else { return false };
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
    }
}

/// How many times longer than others a shared connection may idle: one stands for many.
const LINKS: u32 = 15;
/// From how many shared connections of an endpoint a request goes on to another one that stands. Of those that others opened
/// more than one may be at its end, or full though it did not say so.
const MOVES: usize = 4;
/// The id of none: they count from 1.
const NO_LINK: u64 = 0;
/// How long no shared connection is opened for requests that others did not take, once a new one did not either: a service
/// that refuses all would be given one by each request.
const REFUSED: Duration = Duration::from_secs(1);

struct Idle {
    conn: Http1,
    since: Instant,
}

/// What one worker keeps for one endpoint.
pub struct Local {
    endpoint: Weak<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    links: RefCell<Vec<Link>>,
    /// Of those that speak HTTP/2.
    opening: OnceCell<Box<Opening>>,
    outstanding: Cell<u32>,
    passive: Cell<Passive>,
}

/// Shared connections on their way: a burst of requests waits for the first instead of opening one each.
#[derive(Default)]
struct Opening {
    links: Cell<usize>,
    waiting: Cell<usize>,
    done: Notify,
    /// When a new one took no request.
    refused: Cell<Option<Instant>>,
}

impl Opening {
    /// Whether another one would take none either, as far as can be said `now`.
    fn is_fruitless(&self, now: Instant) -> bool {
        self.refused.get().is_some_and(|since| now.saturating_duration_since(since) < REFUSED)
    }
}

/// One that waits for a connection on its way, until it has it or gives up.
struct Waiter<'a>(&'a Opening);

impl<'a> Waiter<'a> {
    fn new(opening: &'a Opening) -> Self {
        opening.waiting.set(opening.waiting.get() + 1);
        Self(opening)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

/// One that opens a connection. However that ends, those who wait for it look again.
struct Opener<'a>(&'a Opening);

impl<'a> Opener<'a> {
    fn new(opening: &'a Opening) -> Self {
        opening.links.set(opening.links.get() + 1);
        Self(opening)
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.links.set(self.0.links.get().saturating_sub(1));
        self.0.done.notify_waiters();
    }
}

/// All connections of one worker.
pub struct Pool {
    locals: RefCell<HashMap<u64, Rc<Local>, RandomState>>,
    start: Instant,
    /// The time of the last sweep: good enough for what is closed after minutes.
    now: Cell<Instant>,
    idle_timeout: Duration,
    idle_limit: usize,
    /// Shared connections that were ever opened.
    links: Cell<u64>,
    stats: Arc<WorkerStats>,
}

/// A connection for one exchange. Dropped, it closes, or what was sent over it is given up; given back, it serves again.
pub struct Leased<C> {
    /// The connection.
    pub conn: C,
    /// Whether it has served before.
    pub reused: bool,
    counted: Counted,
}

impl<C> Leased<C> {
    /// The connection, and what counts it.
    pub fn split(self) -> (Counted, C) {
        (self.counted, self.conn)
    }
}

/// What a request that is sent again keeps away from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Avoid {
    /// Nothing: it is the first time.
    #[default]
    Nothing,
    /// Connections that were kept: more of them may have died.
    Kept,
    /// Shared connections, by their ids, that did not take it. Others do, or one more for all that they did not take.
    Links([u64; MOVES]),
}

impl Avoid {
    /// The same, and the connection that did not take it either: a shared one, or one of those that were kept.
    pub fn and(self, link: Option<u64>) -> Self {
        let mut links = match self {
            Self::Nothing => [NO_LINK; MOVES],
            Self::Links(links) => links,
            Self::Kept => return Self::Kept,
        };
        match (link, links.iter_mut().find(|id| **id == NO_LINK)) {
            (Some(link), Some(free)) => {
                *free = link;
                Self::Links(links)
            }
            // By now it gets one of its own.
            _ => Self::Kept,
        }
    }

    fn has(&self, link: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Kept => true,
            Self::Links(links) => links.contains(&link),
        }
    }
}

/// A connection of either version.
pub enum Lease {
    /// One exchange at a time.
    Http1(Leased<Http1>),
    /// A stream of a shared connection.
    Http2(Leased<Http2>),
}

impl Lease {
    /// Whether the connection has served before.
    pub const fn is_reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.reused,
            Self::Http2(lease) => lease.reused,
        }
    }

    /// The id of a shared one.
    pub const fn link(&self) -> Option<u64> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(lease) => Some(lease.conn.link()),
        }
    }
}

/// Counts one request as under way, at its endpoint and on its shared connection.
pub struct Counted {
    local: Rc<Local>,
    streams: Option<Rc<Cell<u32>>>,
}

impl Counted {
    fn new(local: &Rc<Local>, streams: Option<&Rc<Cell<u32>>>) -> Self {
        local.outstanding.set(local.outstanding.get() + 1);
        if let Some(streams) = streams {
            streams.set(streams.get() + 1);
        }
        Self { local: Rc::clone(local), streams: streams.cloned() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.local.outstanding.set(self.local.outstanding.get().saturating_sub(1));
        if let Some(streams) = &self.streams {
            streams.set(streams.get().saturating_sub(1));
        }
    }
}

impl View for Pool {
    fn outstanding(&self, endpoint: &Endpoint) -> u32 {
        self.locals.borrow().get(&endpoint.id).map_or(0, |local| local.outstanding.get())
    }

    fn is_ejected(&self, endpoint: &Endpoint) -> bool {
        self.locals
            .borrow()
            .get(&endpoint.id)
            .is_some_and(|local| local.passive.get().is_ejected(self.start.elapsed()))
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: &Limits, stats: Arc<WorkerStats>) -> Self {
        Self {
            locals: RefCell::default(),
            start: Instant::now(),
            now: Cell::new(Instant::now()),
            idle_timeout: limits.upstream_idle_timeout,
            idle_limit: limits.upstream_idle_connections,
            links: Cell::new(0),
            stats,
        }
    }

    fn local(&self, endpoint: &Arc<Endpoint>) -> Rc<Local> {
        let mut locals = self.locals.borrow_mut();
        let local = locals.entry(endpoint.id).or_insert_with(|| {
            Rc::new(Local {
                endpoint: Arc::downgrade(endpoint),
                idle: RefCell::default(),
                links: RefCell::default(),
                opening: OnceCell::new(),
                outstanding: Cell::new(0),
                passive: Cell::default(),
            })
        });
        Rc::clone(local)
    }

    /// A connection to `endpoint`: one that idles and still stands, else a new one.
    ///
    /// # Errors
    /// Why a new one could not be had; nothing was written then.
    pub async fn lease(&self, endpoint: &Arc<Endpoint>, avoid: Avoid) -> Result<Lease, ConnectError> {
        let local = self.local(endpoint);
        if endpoint.upstream.protocol.is_http2() {
            if let Some(lease) = self.stream(&local, avoid) {
                return Ok(lease);
            }
            let now = self.now.get();
            if avoid != Avoid::Nothing && local.opening.get().is_some_and(|opening| opening.is_fruitless(now))
            {
                return Err(ConnectError::TakesNone);
            }
            return self.limited(endpoint, Box::pin(self.open_http2(endpoint, &local, avoid))).await;
        }
        while avoid != Avoid::Kept
            && let Some(mut conn) = pop(&local)
        {
            // Those that have idled too long are swept away, so that no clock has to be read here.
            if conn.is_quiet() {
                return Ok(Lease::Http1(Leased { conn, reused: true, counted: Counted::new(&local, None) }));
            }
        }
        self.limited(endpoint, Box::pin(self.open_http1(endpoint, &local))).await
    }

    /// Opens a connection within the time for it. Few requests need that and all have room for it, so that it is boxed.
    async fn limited(
        &self,
        endpoint: &Endpoint,
        open: Pin<Box<impl Future<Output = Result<Lease, ConnectError>>>>,
    ) -> Result<Lease, ConnectError> {
        let limit = endpoint.upstream.connect_timeout;
        if limit.is_zero() {
            return open.await;
        }
        tokio::time::timeout(limit, open).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    async fn open_http1(&self, endpoint: &Endpoint, local: &Rc<Local>) -> Result<Lease, ConnectError> {
        let conn = Http1::new(connect(endpoint).await?, &self.stats);
        Ok(Lease::Http1(Leased { conn, reused: false, counted: Counted::new(local, None) }))
    }

    async fn open_http2(
        &self,
        endpoint: &Endpoint,
        local: &Rc<Local>,
        avoid: Avoid,
    ) -> Result<Lease, ConnectError> {
        let opening = local.opening.get_or_init(Box::default);
        while avoid != Avoid::Kept && opening.waiting.get() < opening.links.get() * STREAMS {
            let done = opening.done.notified();
            let waiter = Waiter::new(opening);
            done.await;
            drop(waiter);
            // Where the other one failed, or has no room for all, and no more are on their way, this one sees to itself.
            if let Some(lease) = self.stream(local, avoid) {
                return Ok(lease);
            }
        }
        let _opener = Opener::new(opening);
        let mut link = self.link(connect(endpoint).await?);
        let lease = leased(local, &mut link, false, self.now.get()).ok_or(ConnectError::TakesNone)?;
        local.links.borrow_mut().push(link);
        Ok(lease)
    }

    /// A new shared connection.
    fn link(&self, wire: Wire) -> Link {
        self.links.set(self.links.get() + 1);
        Link::open(self.links.get(), wire, &self.stats, self.now.get())
    }

    /// A stream of a connection that stands.
    fn stream(&self, local: &Rc<Local>, avoid: Avoid) -> Option<Lease> {
        let now = self.now.get();
        let mut links = local.links.borrow_mut();
        let mut links = links.iter_mut().filter(|link| !avoid.has(link.id()));
        links.find_map(|link| leased(local, link, true, now))
    }

    /// Takes back a connection whose answer was read to its end.
    pub fn give_back(&self, lease: Leased<Http1>) {
        self.keep(&lease.counted.local, lease.conn);
    }

    /// Takes in a new connection to `endpoint` that nobody has used, where it may serve requests.
    pub fn lend(&self, endpoint: &Arc<Endpoint>, stream: TcpStream) {
        let (local, wire) = (self.local(endpoint), Wire::Clear(stream));
        match endpoint.upstream.protocol {
            Protocol::Http1 => self.keep(&local, Http1::new(wire, &self.stats)),
            // Where there is one that takes requests already, another would only idle.
            Protocol::H2c if self.stream(&local, Avoid::Nothing).is_none() => {
                local.links.borrow_mut().push(self.link(wire));
            }
            Protocol::H2c | Protocol::Https | Protocol::H2 => {}
        }
    }

    /// Keeps a connection for the next request, where not too many idle.
    fn keep(&self, local: &Local, conn: Http1) {
        let mut idle = local.idle.borrow_mut();
        if idle.len() < self.idle_limit {
            idle.push(Idle { conn, since: self.now.get() });
        }
    }

    /// Counts what is no request as one under way to `endpoint`.
    pub fn count(&self, endpoint: &Arc<Endpoint>) -> Counted {
        Counted::new(&self.local(endpoint), None)
    }

    /// An exchange with `endpoint` went well.
    pub fn succeeded(&self, endpoint: &Endpoint) {
        if let Some(local) = self.locals.borrow().get(&endpoint.id)
            && local.passive.get() != Passive::default()
        {
            local.passive.set(Passive::default());
        }
    }

    /// A new connection to `endpoint` took no request.
    pub fn refused(&self, endpoint: &Arc<Endpoint>) {
        if let Some(opening) = self.local(endpoint).opening.get() {
            opening.refused.set(Some(self.now.get()));
        }
    }

    /// An exchange with `endpoint` failed before an answer; it may be ejected if another of `set` can serve.
    pub fn failed(&self, endpoint: &Arc<Endpoint>, set: &[Arc<Endpoint>]) {
        let others =
            set.iter().any(|other| other.id != endpoint.id && other.is_healthy() && !self.is_ejected(other));
        let local = self.local(endpoint);
        let mut passive = local.passive.get();
        passive.failed(self.start.elapsed(), others);
        local.passive.set(passive);
    }

    /// Closes every connection that idles.
    pub fn close_idle(&self) {
        for local in self.locals.borrow().values() {
            local.idle.borrow_mut().clear();
            local.links.borrow_mut().retain(|link| link.streams().get() > 0);
        }
    }

    /// Closes what idled too long, and forgets endpoints that no table names any more. Called once a second.
    pub fn sweep(&self) {
        let limit = self.idle_timeout;
        let now = Instant::now();
        self.now.set(now);
        self.locals.borrow_mut().retain(|_, local| {
            local.idle.borrow_mut().retain_mut(|idle| idle.since.elapsed() < limit && idle.conn.is_quiet());
            let mut idle = 0;
            local.links.borrow_mut().retain_mut(|link| {
                let is_idle = link.streams().get() == 0;
                idle += usize::from(is_idle);
                link.tend(now, LINKS * limit) && (!is_idle || idle <= self.idle_limit)
            });
            local.endpoint.strong_count() > 0 || local.outstanding.get() > 0
        });
    }
}

fn pop(local: &Local) -> Option<Http1> {
    local.idle.borrow_mut().pop().map(|idle| idle.conn)
}

fn leased(local: &Rc<Local>, link: &mut Link, reused: bool, now: Instant) -> Option<Lease> {
    let conn = link.stream(now)?;
    Some(Lease::Http2(Leased { conn, reused, counted: Counted::new(local, Some(link.streams())) }))
}

/// A new connection to `endpoint`, TLS done.
///
/// # Errors
/// Why there is none.
pub async fn connect(endpoint: &Endpoint) -> Result<Wire, ConnectError> {
    let stream = TcpStream::connect(endpoint.address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &endpoint.upstream.tls else { return Ok(Wire::Clear(stream)) };
    let name = endpoint.server_name.as_deref().cloned().ok_or(ConnectError::NoServerName)?;
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    if endpoint.upstream.protocol.is_http2() && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(ConnectError::NoHttp2);
    }
    Ok(Wire::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_four_shared_connections_and_then_has_one_of_its_own() {
        let first = Avoid::Nothing.and(Some(7));
        assert!(first.has(7) && !first.has(8));
        let four = [8, 9, 3].into_iter().fold(first, |avoid, link| avoid.and(Some(link)));
        assert!([7, 8, 9, 3].into_iter().all(|link| four.has(link)) && !four.has(4));
        assert_eq!(four.and(Some(4)), Avoid::Kept);
        assert_eq!(Avoid::Nothing.and(None), Avoid::Kept, "any other one that was kept may have died");
    }
}
