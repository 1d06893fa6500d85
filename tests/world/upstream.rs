//! A scripted upstream: it names itself in `x-upstream`, says in JSON what it received, and obeys the request.
//!
//! `x-act` of the request says what it does:
//!
//! | `x-act` | what happens |
//! |---|---|
//! | `status N` | the usual answer with this status |
//! | `hold` | the usual answer once [`Upstream::release`] was called |
//! | `bytes N` | N bytes with a `Content-Length` |
//! | `stream N` | N bytes without one |
//! | `events` | one server-sent event, the second once [`Upstream::release`] was called |
//! | `trailers` | the usual answer and the trailer `x-checksum: 42` |
//! | `echo` | the body of the request, piece by piece |
//! | `early` | 200 before the body of the request is read |
//! | `cut` | half of a body, then the connection breaks |
//!
//! Each `x-answer: NAME: VALUE` adds a header line to the answer. `/healthz` answers 200 or, after
//! [`Upstream::set_healthy`], 503. A request with `Upgrade` gets its 101 and then its own bytes back.

mod act;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::certs::Identity;
use crate::wait::{eventually, within};

/// What an upstream speaks.
#[derive(Clone)]
pub enum Wire {
    /// HTTP/1.1 in clear.
    Http1,
    /// HTTP/2 in clear.
    H2c,
    /// HTTP/1.1 over TLS.
    Https(Identity),
    /// HTTP/2 over TLS.
    H2(Identity),
}

impl Wire {
    /// The `protocol` of a service that speaks so.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::Https(_) => "https",
            Self::H2(_) => "h2",
        }
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        match self {
            Self::Http1 | Self::H2c => None,
            Self::Https(identity) => Some(TlsAcceptor::from(identity.server(&["http/1.1"]))),
            Self::H2(identity) => Some(TlsAcceptor::from(identity.server(&["h2"]))),
        }
    }

    fn is_http2(&self) -> bool {
        matches!(self, Self::H2c | Self::H2(_))
    }
}

/// One request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and target: `GET /a?b`.
    pub line: String,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    checks: AtomicUsize,
    healthy: AtomicBool,
    holding: watch::Sender<usize>,
    gate: Semaphore,
}

/// A scripted upstream. It goes away with its value.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    wire: Wire,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// Starts one that calls itself `name` and speaks HTTP/1.1.
    pub async fn start(name: &str) -> Self {
        Self::start_on(name, Wire::Http1).await
    }

    /// Starts one that calls itself `name` and speaks `wire`.
    pub async fn start_on(name: &str, wire: Wire) -> Self {
        Self::start_at(name, wire, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts one that calls itself `name`, speaks `wire` and listens on `address`.
    pub async fn start_at(name: &str, wire: Wire, address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            checks: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            holding: watch::Sender::new(0),
            gate: Semaphore::new(0),
        });
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, wire.clone(), shared.clone()));
        Self { address, wire, shared, accepting }
    }

    /// The name it answers with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The address as a configuration writes it.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Its `protocol`.
    pub(crate) fn protocol(&self) -> &'static str {
        self.wire.protocol()
    }

    /// Every request so far, health checks left out.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests came, health checks left out.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// How many health checks came.
    pub fn checks(&self) -> usize {
        self.shared.checks.load(Ordering::SeqCst)
    }

    /// What health checks hear from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Waits until `count` requests that were told to hold are here.
    pub async fn holding(&self, count: usize) {
        let mut holding = self.shared.holding.subscribe();
        let what = format!("{count} held requests at {}", self.name());
        within(&what, holding.wait_for(|&now| now >= count)).await.unwrap();
    }

    /// Lets one held request go on.
    pub fn release(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Stops listening and resets every connection; the port refuses from now on.
    pub async fn stop(&mut self) {
        self.accepting.abort();
        // Aborted is what it should be.
        let _ = (&mut self.accepting).await;
        self.shared.open.send_replace(0);
    }

    /// Listens on the same port again.
    pub async fn resume(&mut self) {
        let address = self.address;
        let mut listener = None;
        eventually("the port can be had again", async || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            listener = socket.bind(address).and_then(|()| socket.listen(1024)).ok();
            listener.is_some()
        })
        .await;
        self.accepting = tokio::spawn(accept(listener.unwrap(), self.wire.clone(), self.shared.clone()));
    }
}

/// Serves every connection; all of them end with this task.
async fn accept(listener: TcpListener, wire: Wire, shared: Arc<Shared>) {
    let acceptor = wire.acceptor();
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        stream.set_nodelay(true).unwrap();
        let index = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, acceptor, http2) = (shared.clone(), acceptor.clone(), wire.is_http2());
        connections.spawn(async move {
            shared.open.send_modify(|open| *open += 1);
            match acceptor {
                None => serve(stream, http2, index, shared.clone()).await,
                // A handshake that fails is the client's to report.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, http2, index, shared.clone()).await;
                    }
                }
            }
            shared.open.send_modify(|open| *open = open.saturating_sub(1));
        });
    }
}

async fn serve<S>(stream: S, http2: bool, connection: usize, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(act::answer(request, connection, &shared).await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is seen from the other side.
    if http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(1000)
            .max_header_list_size(1 << 20)
            .serve_connection(io, service)
            .await;
    } else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ca, Conn, get, pattern, request};

    async fn each_wire() -> Vec<(Upstream, Conn)> {
        let ca = Ca::new();
        let identity = ca.issue(&["inner.test"]);
        let mut pairs = Vec::new();
        for wire in [Wire::Http1, Wire::H2c, Wire::Https(identity.clone()), Wire::H2(identity)] {
            let upstream = Upstream::start_on("it", wire.clone()).await;
            let conn = match &wire {
                Wire::Http1 => Conn::http1(upstream.address).await,
                Wire::H2c => Conn::http2(upstream.address).await,
                Wire::Https(_) => Conn::tls(upstream.address, "inner.test", &["http/1.1"], ca.roots()).await,
                Wire::H2(_) => Conn::tls(upstream.address, "inner.test", &["h2"], ca.roots()).await,
            };
            pairs.push((upstream, conn.unwrap()));
        }
        pairs
    }

    #[tokio::test]
    async fn the_world_works_without_a_gateway() {
        for (mut upstream, mut conn) in each_wire().await {
            let what = upstream.protocol();
            let call = request("POST", "a.test", "/x?y").header("te", "trailers").act("trailers");
            let reply = conn.send(call.body(pattern(1 << 20))).await;
            let echo = reply.echo();
            assert_eq!((echo.target(), echo.host(), echo.body_len()), ("/x?y", "a.test", 1 << 20), "{what}");
            assert_eq!(reply.trailers["x-checksum"], "42", "{what}");
            let call = get("a.test", "/").act("status 418").answer_with("x-a", "b");
            let reply = conn.send(call).await;
            assert_eq!((reply.status, reply.header("x-a")), (418, Some("b")), "{what}");
            assert_eq!(
                conn.send(get("a.test", "/").act("stream 100000")).await.body.len(),
                100_000,
                "{what}"
            );
            assert!(conn.try_send(get("a.test", "/").act("cut")).await.is_err(), "{what}");
            assert_eq!((upstream.count(), upstream.connections()), (4, 1), "{what}");
            upstream.stop().await;
            assert!(Conn::http1(upstream.address).await.is_err(), "{what}");
            upstream.resume().await;
            assert!(Conn::http1(upstream.address).await.is_ok(), "{what}");
        }
    }
}
