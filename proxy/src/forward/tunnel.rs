//! An upgraded connection: bytes both ways until a side ends, nothing comes for the idle time-out, or the drain is
//! over. It begins only after the upstream's 101, so that nothing of the client goes upstream unasked. One whose target
//! is another by now is closed as its protocol closes, so that the client comes again.

pub mod close;
pub mod frames;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::frames::Frames;
use super::gap::stalled;
use super::http1::Http1;
use super::pool::Leased;
use crate::accept::connection::timeout;
use crate::drain::Phase;
use crate::fields::Fields;
use crate::record::standing::Moved;
use crate::record::{Record, ResponseBody};
use crate::respond::Answer;
use crate::worker::Worker;

/// Bytes that one direction holds at most.
const BUFFER: usize = 16 << 10;
/// How long the second direction may go on when the first has ended: long enough for a closing handshake.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a client that was told to close may take to its own Close, which goes upstream as it is.
const CLOSING: Duration = Duration::from_secs(2);

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
        let activity = Activity {
            sent: Cell::new(0),
            received: Cell::new(0),
            last: Cell::new(Instant::now()),
            stage: Cell::new(Stage::Open),
            mask: mask(self.worker.random()),
        };
        let mut drain = self.worker.shared.drain.clone();
        // It counts as a request under way until the end.
        let (_counted, conn) = self.lease.split();
        let (upstream, _open) = conn.into_stream();
        tokio::select! {
            () = activity.copy_both(client, upstream) => {}
            () = stalled(&activity.last, self.idle) => {}
            () = activity.closed(&mut record, self.worker.limits.decision_drain) => {}
            _ = drain.wait_for(|phase| *phase == Phase::Over) => {}
        }
        record.tunnelled(activity.sent.get(), activity.received.get());
    }
}

/// How far the end is of a tunnel whose target is another by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It is the right one.
    Open,
    /// The client is told to close, between two frames.
    Closing,
    /// It was told.
    Told,
    /// It did not close: the upstream is told.
    Over,
}

/// What went through, when the last of it did, and whether it goes on.
struct Activity {
    sent: Cell<u64>,
    received: Cell<u64>,
    last: Cell<Instant>,
    stage: Cell<Stage>,
    mask: [u8; 4],
}

/// The mask of one frame.
const fn mask(random: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = random.to_be_bytes();
    [a, b, c, d]
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
        let mut sending = pin!(self.send(from_client, to_upstream));
        let mut receiving = pin!(self.receive(from_upstream, to_client));
        let _ = tokio::select! {
            _ = &mut sending => tokio::time::timeout(LAST_WORDS, receiving).await,
            _ = &mut receiving => tokio::time::timeout(LAST_WORDS, sending).await,
        };
    }

    /// Copies what the client says.
    async fn send(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        self.copy(&mut from, &mut to, &mut frames, Stage::Over, &self.sent).await?;
        if self.stage.get() != Stage::Open && frames.is_between() && !frames.has_closed() {
            to.write_all(&close::to_upstream(self.mask)).await?;
        }
        to.shutdown().await
    }

    /// Copies what the upstream says, until the client is told to close; what it says then, nobody hears.
    async fn receive(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        if self.copy(&mut from, &mut to, &mut frames, Stage::Closing, &self.received).await? {
            if !frames.has_closed() {
                to.write_all(close::TO_CLIENT).await?;
                to.flush().await?;
            }
            self.enter(Stage::Told).await;
            tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
        }
        to.shutdown().await
    }

    /// Copies one direction to its end, or to the first place between two frames once `until` has come; whether that is
    /// why.
    async fn copy(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        frames: &mut Frames,
        until: Stage,
        count: &Cell<u64>,
    ) -> io::Result<bool> {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let is_over = || self.stage.get() >= until;
            let read = {
                let mut reading = pin!(from.read_buf(&mut buffer));
                poll_fn(|cx| match is_over() && frames.is_between() {
                    true => Poll::Ready(None),
                    false => reading.as_mut().poll(cx).map(Some),
                })
                .await
            };
            let Some(read) = read.transpose()? else { return Ok(true) };
            if read == 0 {
                return Ok(false);
            }
            if is_over() {
                buffer.truncate(frames.pass_to_end(&buffer));
            } else {
                frames.pass(&buffer);
            }
            to.write_all(&buffer).await?;
            count.set(count.get() + u64::try_from(buffer.len()).unwrap_or(0));
            self.last.set(Instant::now());
        }
    }

    /// Returns when the tunnel has to end since its target is another by now: it was closed as far as both sides let it.
    /// The frame under way may take `limit`.
    async fn closed(&self, record: &mut Record, limit: Duration) {
        let mut watch = None;
        poll_fn(|cx| {
            record.watch(&mut watch, cx);
            match record.is_outdated() && !record.stands() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        drop(watch);
        record.moved(Moved::WebSocket);
        record.cut();
        self.enter(Stage::Closing).await;
        let told = poll_fn(|_| if self.stage.get() == Stage::Told { Poll::Ready(()) } else { Poll::Pending });
        if timeout(limit, told).await.is_ok() {
            tokio::time::sleep(CLOSING).await;
        }
        self.enter(Stage::Over).await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// Goes on to `stage`. Whoever looks for it does so in this very task, and shall look once more.
    async fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        tokio::task::yield_now().await;
    }
}
