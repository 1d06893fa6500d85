//! One client connection: PROXY protocol, TLS, the choice between HTTP/1.1 and HTTP/2, and its end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proxy_protocol_rs::ParseError;
use sidetrack_config::model::{Listener, Place, Spoken, contains};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::gate::Entry;
use super::hints::Hints;
use super::opaque::{self, Arrival};
use super::original;
use super::sniff::PREFACE;
use super::tls::ServerTls;
use super::wire::{Prefixed, Wire};
use super::{http1, http2};
use crate::fields::Fields;
use crate::forward::forwarded::{FOR, FORWARDED, HOST, PORT, PROTO, node};
use crate::forward::relay::reset;
use crate::limit::Limit;
use crate::worker::Worker;

/// The longest PROXY protocol header that is read.
const PROXY_HEADER: usize = 4 << 10;

/// A listener as the workers see it.
#[derive(Debug)]
pub struct Door {
    listener: RwLock<Arc<Listener>>,
    /// Its TLS side, which reloads by itself.
    pub tls: Option<Arc<ServerTls>>,
}

impl Door {
    /// A door with these settings.
    pub fn new(listener: Listener, tls: Option<Arc<ServerTls>>) -> Self {
        Self { listener: RwLock::new(Arc::new(listener)), tls }
    }

    /// Its settings now; asked once per connection, which keeps them.
    pub fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives connections from now on other settings.
    pub fn set_listener(&self, listener: Listener) {
        *self.listener.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listener);
    }
}

/// What is known about a client connection.
#[derive(Debug)]
pub struct Connection {
    /// Its number in this process.
    pub id: u64,
    /// The other side, from the PROXY protocol where there is one.
    pub peer: SocketAddr,
    /// Where it was meant to go, where the system redirected it to us; boxed, since only a sidecar's connections have it.
    pub original: Option<Box<SocketAddr>>,
    /// The settings of its listener.
    pub listener: Arc<Listener>,
    /// Whether what the peer says of others is believed.
    pub trusted: bool,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Whether it speaks HTTP/2.
    pub is_http2: bool,
    /// It is one too many, and all that it asks for is refused.
    pub refused: Option<Limit>,
    /// `X-Forwarded-For` of this peer.
    forwarded_for: Box<str>,
    /// `X-Forwarded-Port`.
    port: Box<str>,
    /// 1xx answers on their way to the client.
    pub hints: Rc<Hints>,
    /// Its phases, for time-outs and the drain.
    pub lifeline: Rc<Lifeline>,
    /// `for=` of our element of `Forwarded`.
    node: Box<str>,
    /// What we tell upstreams of this client for the last authority that was asked for, which is among it.
    forwarded: RefCell<Fields>,
}

impl Connection {
    /// `http` or `https`.
    pub const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Shows `using` the fields that tell an upstream of this client, for a request to `authority`; the last ones are
    /// kept, since most connections ask for one host.
    pub fn with_forwarded(&self, authority: &[u8], using: impl FnOnce(&Fields)) {
        let fields = &mut *self.forwarded.borrow_mut();
        if fields.get(HOST) != Some(authority) {
            // A host with a port or in brackets is no token, and has to be quoted (RFC 7239 section 4).
            let quote: &[u8] = if authority.iter().any(|byte| b":[".contains(byte)) { b"\"" } else { b"" };
            let (node, scheme) = (self.node.as_bytes(), self.scheme().as_bytes());
            let element = [b"for=", node, b";host=", quote, authority, quote, b";proto=", scheme].concat();
            *fields = Fields::default();
            fields.append(FOR, self.forwarded_for.as_bytes());
            fields.append(FORWARDED, &element);
            fields.append(HOST, authority);
            fields.append(PROTO, scheme);
            fields.append(PORT, self.port.as_bytes());
        }
        using(fields);
    }
}

/// What ends a connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Nothing.
    None,
    /// Finish what is under way, take nothing new.
    Finish,
    /// The client was too slow: with a head, or to go.
    Cut,
}

/// What a connection is doing, and the way to end it from outside. Looked at once a second, so that no request has to
/// set a timer.
#[derive(Debug)]
pub struct Lifeline {
    /// Since when a head has been arriving that is not complete.
    arriving: Cell<Option<Instant>>,
    is_http2: Cell<bool>,
    /// Nobody has said anything, and it need not be the client who does.
    is_listening: Cell<bool>,
    under_way: Cell<u32>,
    idle_since: Cell<Instant>,
    signal: Cell<Signal>,
    /// Since when it should finish.
    leaving: Cell<Option<Instant>>,
    /// It is one too many: it gets little time.
    is_hurried: Cell<bool>,
    /// The port that it came in on.
    port: Cell<u16>,
    /// It brings calls of a workload, which go on while what comes in drains.
    stays: Cell<bool>,
    /// Nobody comes in there any more: its answers tell the client to go.
    is_going: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// How long a connection that is one too many may take to ask, and an HTTP/2 client to go once it was told to.
const HURRY: Duration = Duration::from_secs(2);

impl Default for Lifeline {
    fn default() -> Self {
        Self {
            arriving: Cell::new(None),
            is_http2: Cell::new(false),
            is_listening: Cell::new(false),
            under_way: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            signal: Cell::new(Signal::None),
            leaving: Cell::new(None),
            is_hurried: Cell::new(false),
            port: Cell::new(0),
            stays: Cell::new(false),
            is_going: Cell::new(false),
            waker: RefCell::new(None),
        }
    }
}

impl Lifeline {
    /// A part of a head is here.
    pub fn arriving(&self) {
        if self.arriving.get().is_none() {
            self.arriving.set(Some(Instant::now()));
        }
    }

    /// No part of a head is here that is not complete.
    pub fn arrived(&self) {
        self.arriving.set(None);
    }

    /// Either side may speak first, and whoever waits for that says for how long.
    pub fn listen(&self) {
        self.is_listening.set(true);
    }

    /// Somebody has spoken.
    pub fn heard(&self) {
        self.is_listening.set(false);
        self.idle_since.set(Instant::now());
    }

    /// A request began.
    pub fn began(&self) {
        // Over HTTP/2 the next head may be on its way already.
        if !self.is_http2.get() {
            self.arriving.set(None);
        }
        self.under_way.set(self.under_way.get() + 1);
    }

    /// A request ended, at this time.
    pub fn ended(&self, now: Instant) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        if self.under_way.get() == 0 {
            self.idle_since.set(now);
        }
    }

    /// Ends the connection if a head takes too long, or nothing was asked for too long; the limit that was reached.
    pub fn check(&self, head: Duration, idle: Duration) -> Option<Limit> {
        let most = |limit: Duration| if self.is_hurried.get() { HURRY.min(limit) } else { limit };
        let (head, idle) = (most(head), most(idle));
        let is_over = |since: Instant, limit: Duration| !limit.is_zero() && since.elapsed() > limit;
        let is_busy = self.under_way.get() > 0;
        // One that is one too many waits for nobody.
        let is_patient = self.is_listening.get() && !self.is_hurried.get();
        match self.arriving.get() {
            // A head of HTTP/2 that does not come to its end holds up all streams of its connection.
            Some(since) if (self.is_http2.get() || !is_busy) && is_over(since, head) => {
                self.raise(Signal::Cut).then_some(Limit::HeaderTimeout)
            }
            None if !is_busy && self.leaving.get().is_some_and(|since| is_over(since, HURRY)) => {
                self.raise(Signal::Cut);
                None
            }
            None if !is_busy && !is_patient && is_over(self.idle_since.get(), idle) => {
                self.raise(Signal::Finish).then_some(Limit::ClientIdleTimeout)
            }
            _ => None,
        }
    }

    /// Lets the connection finish what is under way and end. HTTP/2 can say so (GOAWAY) at any time. An idle HTTP/1.1
    /// connection stays for `linger`: its client may be sending just now, and would lose that request.
    pub fn leave(&self, linger: Duration) {
        let quiet = self.under_way.get() == 0 && self.arriving.get().is_none();
        if self.is_http2.get() || (quiet && self.idle_since.get().elapsed() >= linger) {
            self.raise(Signal::Finish);
        }
    }

    /// The port that it came in on.
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// Whether it goes on while the process drains.
    pub fn stays(&self) -> bool {
        self.stays.get()
    }

    /// Has its answers tell the client to go.
    pub fn go(&self) {
        self.is_going.set(true);
    }

    /// Whether its answers tell the client to go.
    pub fn is_going(&self) -> bool {
        self.is_going.get()
    }

    /// Has an HTTP/2 client told to go on elsewhere, while what is under way goes on here; whether it is news.
    pub fn send_away(&self) -> bool {
        self.is_http2.get() && self.raise(Signal::Finish)
    }

    /// Has `waker` woken when there is a signal.
    pub fn register(&self, waker: &Waker) {
        let mut registered = self.waker.borrow_mut();
        if !registered.as_ref().is_some_and(|before| before.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }

    /// Waits for a signal that is not `seen`.
    pub fn poll_changed(&self, seen: Signal, cx: &mut Context<'_>) -> Poll<Signal> {
        self.register(cx.waker());
        match self.signal.get() {
            signal if signal == seen => Poll::Pending,
            signal => Poll::Ready(signal),
        }
    }

    /// The last signal.
    pub fn signal(&self) -> Signal {
        self.signal.get()
    }

    /// Tells the connection, which is never told to do less than before; whether it is news.
    fn raise(&self, signal: Signal) -> bool {
        if signal <= self.signal.get() {
            return false;
        }
        self.signal.set(signal);
        self.leaving.set(Some(Instant::now()));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
        true
    }
}

/// Serves one connection to its end; one that is `refused` is told so.
pub async fn serve(
    worker: Rc<Worker>,
    door: Arc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    mut refused: Option<Limit>,
) {
    let lifeline = Rc::new(Lifeline::default());
    let listener = door.listener();
    let local = stream.local_addr().unwrap_or(listener.address);
    lifeline.port.set(local.port());
    lifeline.stays.set(matches!(listener.place, Place::Outbound(_)));
    lifeline.is_hurried.set(refused.is_some());
    worker.watch(&lifeline);
    let original = match listener.redirected.then(|| original::destination(&stream, local)).transpose() {
        Ok(original) => original,
        Err(error) => {
            // Passed on to where it was meant to go, it would be here again.
            tracing::debug!(%peer, %local, %error, "connection refused");
            return reset(&stream);
        }
    };
    // Where the system refuses, the connection is gone, and whoever reads next meets that.
    let _ = stream.set_nodelay(true);
    let mut stream = Prefixed { prefix: Bytes::new(), stream };
    let mut seat = None;
    if listener.spoken != Spoken::Http {
        // Nobody speaks the PROXY protocol there: the client is known.
        let Ok(taken) = Seat::take(&worker, peer.ip()) else { return reset(&stream.stream) };
        refused = refused.or(taken.refused);
        lifeline.is_hurried.set(refused.is_some());
        seat = Some(taken);
        let arrival = Arrival { listener: &listener, peer, original, refused };
        match Box::pin(opaque::serve(&worker, &arrival, stream.stream, &lifeline)).await {
            Some(http) => stream = http,
            None => return,
        }
    }
    let opened = tokio::select! {
        opened = timeout(worker.limits.handshake_timeout, open(&worker, &door, &listener, (stream, peer), seat)) => opened,
        // The drain does not wait for a client that has said nothing yet.
        _ = poll_fn(|cx| lifeline.poll_changed(Signal::None, cx)) => return,
    };
    match opened {
        Ok(Ok(Opened { wire, is_http2, peer, seat })) => {
            let refused = refused.or(seat.refused);
            lifeline.is_hurried.set(refused.is_some());
            lifeline.is_http2.set(is_http2);
            let ends = (peer, local, original);
            let connection = connection(&worker, listener, ends, &wire, (is_http2, refused), &lifeline);
            match is_http2 {
                // Boxed, since every connection of HTTP/1.1 would have room for it.
                true => Box::pin(http2::serve(worker, connection, wire)).await,
                false => http1::serve(worker, connection, wire).await,
            }
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "connection not opened"),
        Err(_) => {
            worker.stats.reached(Limit::HandshakeTimeout);
            tracing::debug!(%peer, "connection not opened within the time for handshakes");
        }
    }
}

/// Bounds `work`; zero: it may take for ever.
pub async fn timeout<T>(
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    let limit = if limit.is_zero() { Duration::MAX } else { limit };
    tokio::time::timeout(limit, work).await
}

/// What is before the first request.
struct Opened {
    wire: Wire,
    is_http2: bool,
    peer: SocketAddr,
    seat: Seat,
}

/// One of the connections of a client.
struct Seat {
    worker: Rc<Worker>,
    client: IpAddr,
    refused: Option<Limit>,
}

impl Seat {
    fn take(worker: &Rc<Worker>, client: IpAddr) -> io::Result<Self> {
        let entry = worker.shared.gate.come(client);
        let seat = |refused| Self { worker: Rc::clone(worker), client, refused };
        match entry {
            Entry::Served => Ok(seat(None)),
            Entry::Refused(limit) => Ok(seat(Some(limit))),
            Entry::Closed(limit) => {
                worker.stats.reached(limit);
                drop(seat(None));
                Err(io::Error::other("too many connections of one address"))
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.shared.gate.go(self.client);
    }
}

fn connection(
    worker: &Worker,
    listener: Arc<Listener>,
    (peer, local, original): (SocketAddr, SocketAddr, Option<SocketAddr>),
    wire: &Wire,
    (is_http2, refused): (bool, Option<Limit>),
    lifeline: &Rc<Lifeline>,
) -> Rc<Connection> {
    Rc::new(Connection {
        id: worker.next_connection(),
        peer,
        original: original.map(Box::new),
        trusted: contains(&listener.trusted_proxies, peer.ip()),
        secure: matches!(wire, Wire::Tls(_)),
        is_http2,
        refused,
        forwarded_for: peer.ip().to_canonical().to_string().into(),
        port: local.port().to_string().into(),
        node: node(peer.ip().to_canonical()).into(),
        listener,
        hints: Rc::default(),
        lifeline: Rc::clone(lifeline),
        forwarded: RefCell::default(),
    })
}

/// Reads what stands before HTTP: the PROXY protocol header, the TLS handshake, the HTTP/2 preface. `seat` is that of the
/// client, where it has one already.
async fn open(
    worker: &Rc<Worker>,
    door: &Door,
    listener: &Listener,
    (mut stream, mut peer): (Prefixed, SocketAddr),
    seat: Option<Seat>,
) -> io::Result<Opened> {
    if contains(&listener.proxy_protocol, peer.ip()) {
        peer = proxy_header(&mut stream).await?.unwrap_or(peer);
    }
    let seat = seat.map_or_else(|| Seat::take(worker, peer.ip()), Ok)?;
    if let Some(tls) = &door.tls {
        let accepted = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream).await;
        worker.stats.tls_handshake(accepted.is_ok());
        let stream = accepted?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return Ok(Opened { wire: Wire::Tls(Box::new(stream)), is_http2, peer, seat });
    }
    let is_http2 = has_preface(&mut stream).await?;
    Ok(Opened { wire: Wire::Clear(stream), is_http2, peer, seat })
}

/// The client that a PROXY protocol header names (v1 or v2). Its absence is an error: a peer that is trusted to send
/// it always does, and a request without it would count as the load balancer's own.
async fn proxy_header(stream: &mut Prefixed) -> io::Result<Option<SocketAddr>> {
    let mut read = BytesMut::with_capacity(256);
    loop {
        match proxy_protocol_rs::parse(&read) {
            Ok((info, length)) => {
                let rest = read.split_off(length.min(read.len()));
                stream.prefix = rest.freeze();
                return Ok(info.source_inet());
            }
            Err(ParseError::Incomplete) if read.len() < PROXY_HEADER => {
                if stream.stream.read_buf(&mut read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("PROXY protocol: {error}")));
            }
        }
    }
}

/// Whether the client begins with the HTTP/2 preface; what was read is put back.
async fn has_preface(stream: &mut Prefixed) -> io::Result<bool> {
    let mut read = BytesMut::from(&*std::mem::take(&mut stream.prefix));
    loop {
        let length = read.len().min(PREFACE.len());
        let begins = length > 0 && read.get(..length) == PREFACE.get(..length);
        if length > 0 && (!begins || length == PREFACE.len()) {
            stream.prefix = read.freeze();
            return Ok(begins);
        }
        if stream.stream.read_buf(&mut read).await? == 0 {
            stream.prefix = read.freeze();
            return Ok(false);
        }
    }
}
