//! An upgraded connection: bytes both ways until a side ends, nothing comes for the idle time-out, or the drain is
//! over. It begins only after the upstream's 101, so that nothing of the client goes upstream unasked.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::http1::Http1;
use super::pool::Leased;
use crate::drain::Phase;
use crate::fields::Fields;
use crate::record::{Record, ResponseBody};
use crate::respond::Answer;
use crate::worker::Worker;

/// Bytes that one direction holds at most.
const BUFFER: usize = 16 << 10;
/// How long the second direction may go on when the first has ended: long enough for a closing handshake.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A tunnel that begins once the answer is sent.
pub struct Tunnel {
    worker: Rc<Worker>,
    lease: Leased<Http1>,
    idle: Duration,
}

/// The answer to an upgrade: 101 (200 on HTTP/2, RFC 8441 section 5), and the tunnel behind it.
pub fn open(
    worker: &Rc<Worker>,
    mut fields: Fields,
    lease: Leased<Http1>,
    idle: Duration,
    record: &Record,
) -> Answer {
    let mut status = StatusCode::SWITCHING_PROTOCOLS;
    if record.is_http2() {
        status = StatusCode::OK;
        for name in ["connection", "upgrade", "sec-websocket-accept"] {
            fields.remove(name);
        }
    }
    let body = ResponseBody::tunnel(Tunnel { worker: Rc::clone(worker), lease, idle });
    Answer { status, fields, body }
}

impl Tunnel {
    /// Runs to its end, and writes the record then.
    pub async fn run(self, client: impl AsyncRead + AsyncWrite, mut record: Box<Record>) {
        let activity =
            Activity { sent: Cell::new(0), received: Cell::new(0), last: Cell::new(Instant::now()) };
        let mut drain = self.worker.shared.drain.clone();
        // It counts as a request under way until the end.
        let (_counted, conn) = self.lease.split();
        let (upstream, _open) = conn.into_stream();
        tokio::select! {
            () = activity.copy_both(client, upstream) => {}
            () = activity.stalled(self.idle) => {}
            _ = drain.wait_for(|phase| *phase == Phase::Over) => {}
        }
        record.tunnelled(activity.sent.get(), activity.received.get());
    }
}

/// What went through, and when the last of it did.
struct Activity {
    sent: Cell<u64>,
    received: Cell<u64>,
    last: Cell<Instant>,
}

impl Activity {
    /// Copies both directions; when one ends, the other gets a moment for its last words.
    async fn copy_both<C, U>(&self, client: C, upstream: U)
    where
        C: AsyncRead + AsyncWrite,
        U: AsyncRead + AsyncWrite,
    {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let mut sending = std::pin::pin!(self.copy(from_client, to_upstream, &self.sent));
        let mut receiving = std::pin::pin!(self.copy(from_upstream, to_client, &self.received));
        let _ = tokio::select! {
            _ = &mut sending => tokio::time::timeout(LAST_WORDS, receiving).await,
            _ = &mut receiving => tokio::time::timeout(LAST_WORDS, sending).await,
        };
    }

    /// Copies one direction to its end.
    async fn copy(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        count: &Cell<u64>,
    ) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let read = from.read_buf(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer).await?;
            count.set(count.get() + u64::try_from(read).unwrap_or(0));
            self.last.set(Instant::now());
        }
    }

    /// Returns when nothing went through for `idle`; never, where that is zero.
    async fn stalled(&self, idle: Duration) {
        if idle.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let quiet = self.last.get().elapsed();
            if quiet >= idle {
                return;
            }
            tokio::time::sleep(idle - quiet).await;
        }
    }
}
