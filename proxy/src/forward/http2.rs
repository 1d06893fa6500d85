//! HTTP/2 to an upstream, on h2 itself. Whoever answers the client's stream drives both halves of the exchange in its own
//! task: nothing goes through a channel, and no stream costs a task. One task per connection moves its frames.

mod pulse;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::pulse::Pulse;
use super::body::{Source, Upload};
use super::http1::{EARLY, Open};
use super::io::{Metered, Traffic, Wire};
use crate::fields::Turn;
use crate::record::metrics::WorkerStats;

/// Streams on one connection before another is opened; servers allow 100 by custom (RFC 9113 section 6.5.2).
pub(super) const STREAMS: usize = 100;
/// What an upstream may send of one answer before it is used: what a client pins that reads nothing.
const STREAM_WINDOW: u32 = 64 << 10;
/// What it may send of all answers of a connection: each stream can fill its window, so that those who read nothing never
/// hold up those who do.
const CONNECTION_WINDOW: u32 = (STREAMS as u32 + 1) * STREAM_WINDOW;
/// The most bytes of the head of an answer.
const HEAD: u32 = 64 << 10;
/// The most bytes of one request that wait to be written.
const SEND_BUFFER: usize = 1 << 20;

/// A connection that many exchanges share.
pub struct Link {
    sender: SendRequest<Bytes>,
    traffic: Arc<Traffic>,
    streams: Rc<Cell<u32>>,
    used: Instant,
    turn: Turn,
    pulse: Option<Pulse>,
    driver: AbortHandle,
}

/// A stream of a shared connection, not yet opened.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    /// Where on the connection its request is.
    pub turn: Turn,
    /// Bytes on the connection so far.
    pub traffic: Arc<Traffic>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum NoAnswer {
    /// The body of the request broke off.
    Client,
    /// What came is no answer.
    Malformed,
    /// The stream ended, or its connection.
    Ended(h2::Error),
}

/// The head of an answer, its body, and what is left of the request.
pub type Answered = (Response<RecvStream>, Option<Upload>);

impl Link {
    /// A connection over `wire`.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn open(wire: Wire, stats: &Arc<WorkerStats>, now: Instant) -> Result<Self, h2::Error> {
        let io = Metered::new(wire);
        let traffic = io.traffic();
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(SEND_BUFFER);
        let (sender, mut connection) = builder.handshake(io).await?;
        let pulse = connection.ping_pong().map(|ping| Pulse::new(ping, now));
        let open = Open::new(stats);
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
            drop(open);
        });
        let driver = driver.abort_handle();
        Ok(Self { sender, traffic, streams: Rc::default(), used: now, turn: Turn::First, pulse, driver })
    }

    /// A stream of it, to be sent at once; `None` where it takes no more.
    pub fn stream(&mut self, now: Instant) -> Option<Http2> {
        // A peer that allows none for a while is waited for, or each request would open a connection.
        let most = self.sender.current_max_send_streams().clamp(1, STREAMS);
        let is_full = usize::try_from(self.streams.get()).is_ok_and(|streams| streams >= most);
        if is_full || self.is_going() {
            return None;
        }
        self.used = now;
        let turn = std::mem::replace(&mut self.turn, Turn::Later);
        Some(Http2 { sender: self.sender.clone(), turn, traffic: Arc::clone(&self.traffic) })
    }

    /// Its streams that are under way, for who counts them.
    pub const fn streams(&self) -> &Rc<Cell<u32>> {
        &self.streams
    }

    /// Whether it opens no streams any more: the peer said so (GOAWAY), or it has ended.
    fn is_going(&mut self) -> bool {
        // Only who has sent is made to wait, and this handle never sends.
        !matches!(self.sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Looks after it, about once a second; whether it is worth keeping. One on which something is under way and whose
    /// peer gives no sign of life is ended, and so are its streams.
    pub fn tend(&mut self, now: Instant, idle: Duration) -> bool {
        let busy = self.streams.get() > 0;
        let alive = self.pulse.as_mut().is_none_or(|pulse| pulse.beats(self.traffic.read(), busy, now));
        if !alive {
            tracing::debug!("HTTP/2 connection to an upstream ended: no answer to a ping");
            self.driver.abort();
        }
        // What is under way on one that is going may end, and is looked after until then.
        alive && if busy { !self.driver.is_finished() } else { !self.is_going() && now - self.used <= idle }
    }
}

impl Http2 {
    /// Sends `head` and as much of `body` as there is, and waits for the head of the answer, which may come before all is
    /// sent. `hint` is told of 1xx answers. With `expects` the body waits for the first of them.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(
        &mut self,
        head: Request<()>,
        body: Option<Rc<Source>>,
        expects: bool,
        mut hint: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Answered, NoAnswer> {
        let (mut answer, stream) = self.sender.send_request(head, body.is_none()).map_err(NoAnswer::Ended)?;
        let mut count = 0;
        let mut upload = body.map(|source| Upload::new(stream, source, expects));
        poll_fn(move |cx| {
            loop {
                match upload.as_mut().map(|upload| upload.poll(cx)) {
                    Some(Poll::Ready(Err(_))) => return Poll::Ready(Err(NoAnswer::Client)),
                    Some(Poll::Ready(Ok(()))) => upload = None,
                    Some(Poll::Pending) | None => {}
                }
                let Some(Ok(early)) = ready!(answer.poll_informational(cx)) else { break };
                count += 1;
                match early.status() {
                    _ if count > EARLY => return Poll::Ready(Err(NoAnswer::Malformed)),
                    // There is no upgrade here (RFC 9113 section 8.6), and who hears of one stops speaking HTTP.
                    StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(Err(NoAnswer::Malformed));
                    }
                    StatusCode::CONTINUE => {
                        if let Some(upload) = &mut upload {
                            upload.open();
                        }
                    }
                    _ => {}
                }
                hint(early.status(), early.headers());
            }
            let head = ready!(Pin::new(&mut answer).poll(cx)).map_err(NoAnswer::Ended)?;
            // A body that nobody asked for is not sent behind a final answer.
            Poll::Ready(Ok((head, upload.take_if(|upload| !upload.is_held()))))
        })
        .await
    }
}
