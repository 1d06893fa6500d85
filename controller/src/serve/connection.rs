//! One connection: handshake, HTTP/2 or HTTP/1.1 by ALPN, and its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::places::{Class, Place};
use super::{Shared, answer};

/// How long a handshake, or a head, may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection on which nothing is asked is kept.
const IDLE: Duration = Duration::from_secs(60);
/// How long one that shall end may take.
const LAST: Duration = Duration::from_secs(8);
/// How often an HTTP/2 client is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(10);
/// How long the kernel waits for an acknowledgement of what was sent: the same for HTTP/1.1, which has no ping.
const UNHEARD: Duration = Duration::from_secs(20);
/// Bytes of a head: tokens are the largest in it.
const MAX_HEAD: u32 = 32 << 10;
/// Bytes that a stream may hold back towards a slow reader.
const SEND_BUFFER: usize = 256 << 10;
/// Requests at once on one connection.
const STREAMS: u32 = 32;

/// Whether a connection is in use.
#[derive(Debug)]
struct Use {
    requests: AtomicUsize,
    last: Mutex<Instant>,
    cut: Notify,
    place: Mutex<Place>,
}

/// Ends a connection at once: what HTTP/2 holds back for a reader that does not read would stay otherwise.
#[derive(Debug)]
pub(super) struct Cutter(Arc<Use>);

impl Cutter {
    /// Ends it.
    pub(super) fn cut(&self) {
        self.0.cut.notify_one();
    }
}

/// A request that is not answered yet, or whose answer is not sent yet.
#[derive(Debug)]
pub(super) struct Busy(Arc<Use>);

impl Use {
    fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.requests.load(Ordering::Relaxed) == 0 && last.elapsed() >= IDLE
    }
}

impl Busy {
    /// What ends this connection.
    pub(super) fn cutter(&self) -> Cutter {
        Cutter(Arc::clone(&self.0))
    }

    /// Says whose connection this is; `false` where these have no place left.
    pub(super) fn is_of(&self, class: Class, name: &str) -> bool {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner).become_one(class, name)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves it to its end.
pub(super) async fn serve(
    tcp: TcpStream,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    place: Place,
    ended: watch::Receiver<bool>,
) {
    let _ = tcp.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(UNHEARD));
    let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(tcp)).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let usage = Arc::new(Use {
        requests: AtomicUsize::new(0),
        last: Mutex::new(Instant::now()),
        cut: Notify::new(),
        place: Mutex::new(place),
    });
    let service = service_fn(|request| {
        let (shared, busy, ended) = (Arc::clone(&shared), usage.begin(), ended.clone());
        async move { Ok::<_, Infallible>(answer::answer(shared, request, busy, ended).await) }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(MAX_HEAD)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(io, service);
        drive(connection, http2::Connection::graceful_shutdown, &usage, ended.clone()).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD as usize)
            .serve_connection(io, service);
        drive(connection, http1::Connection::graceful_shutdown, &usage, ended.clone()).await;
    }
}

/// Runs a connection until it ends, is idle for too long, or the server ends.
async fn drive<C: Future>(
    connection: C,
    finish: fn(Pin<&mut C>),
    usage: &Use,
    mut ended: watch::Receiver<bool>,
) {
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            _ = &mut connection => return,
            () = usage.cut.notified() => return,
            _ = ended.wait_for(|ended| *ended) => break,
            () = tokio::time::sleep(IDLE / 4) => if usage.is_idle() { break },
        }
    }
    finish(connection.as_mut());
    let _ = tokio::time::timeout(LAST, connection).await;
}
