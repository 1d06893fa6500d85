//! HTTP/2 to an upstream. Whoever answers the client's stream drives both halves of the exchange in its own task: nothing
//! goes through a channel, and no stream costs a task. One task per connection moves its bytes.
//!
//! The frames are our own: a request goes from its [`Fields`] into them and an answer out of them, without a map of fields
//! between. The h2 crate, which serves clients, is the second opinion in every test.

mod driver;
mod frame;
pub mod hpack;
mod output;
mod pulse;
mod section;
pub mod session;
mod state;
pub mod stream;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::Reason;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::hpack::Encoder;
use self::pulse::{Beat, Pulse};
use self::session::{Ended, Session};
use self::stream::Stream;
use super::body::{Source, Upload};
use super::http1::Open;
use crate::fields::Fields;
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

/// A connection that many exchanges share. Dropped, it ends with the last of them.
pub struct Link {
    id: u64,
    session: Rc<RefCell<Session>>,
    streams: Rc<Cell<u32>>,
    used: Instant,
    pulse: Pulse,
}

/// A stream of a shared connection, not yet opened.
pub struct Http2 {
    link: u64,
    session: Rc<RefCell<Session>>,
    /// Of the connection, those that wait to be opened among them.
    streams: Rc<Cell<u32>>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum NoAnswer {
    /// The body of the request broke off.
    Client,
    /// What came is no answer.
    Malformed,
    /// The stream ended, or its connection.
    Ended {
        /// Why.
        why: Ended,
        /// Whether any of the request was written.
        is_written: bool,
        /// Whether anything came over the connection since.
        is_heard: bool,
    },
}

/// The head of an answer, where its body comes from, and what is left of the request.
pub type Answered = (StatusCode, Fields, Stream, Option<Upload>);

impl Link {
    /// A connection over `wire`, which `id` tells from all others.
    pub fn open<W>(id: u64, wire: W, stats: &Arc<WorkerStats>, now: Instant) -> Self
    where
        W: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let session = Rc::new(RefCell::new(Session::default()));
        tokio::task::spawn_local(driver::drive(Rc::clone(&session), wire, Open::new(stats)));
        Self { id, session, streams: Rc::default(), used: now, pulse: Pulse::new(now) }
    }

    /// What tells it from all others.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// A stream of it, to be sent at once; `None` where it takes no more.
    pub fn stream(&mut self, now: Instant) -> Option<Http2> {
        let session = self.session.borrow();
        // A peer that allows none for a while is waited for, or each request would open a connection.
        let most = match session.most_streams() {
            0 => STREAMS,
            most => most.min(STREAMS),
        };
        let is_full = usize::try_from(self.streams.get()).is_ok_and(|streams| streams >= most);
        if is_full || session.is_going() || session.is_doubted() {
            return None;
        }
        self.used = now;
        Some(Http2 { link: self.id, session: Rc::clone(&self.session), streams: Rc::clone(&self.streams) })
    }

    /// Its streams that are under way, for who counts them.
    pub const fn streams(&self) -> &Rc<Cell<u32>> {
        &self.streams
    }

    /// Looks after it, about once a second; whether it is worth keeping. One on which something is under way and whose
    /// peer gives no sign of life is ended, and so are its streams.
    pub fn tend(&mut self, now: Instant, idle: Duration) -> bool {
        let mut session = self.session.borrow_mut();
        let busy = self.streams.get() > 0;
        session.ticks = session.ticks.wrapping_add(1);
        match self.pulse.beats(session.read, session.opened(), busy || session.is_doubted(), now) {
            Beat::Alive => {}
            Beat::Ask => session.ping(),
            Beat::Dead => {
                tracing::debug!("HTTP/2 connection to an upstream ended: no answer to a ping");
                session.close(std::io::ErrorKind::TimedOut);
            }
        }
        // What is under way on one that is going may end, and is looked after until then.
        if busy { !session.is_ended() } else { !session.is_going() && now - self.used <= idle }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.session.borrow_mut().retire();
    }
}

impl Http2 {
    /// The connection that it is of.
    pub const fn link(&self) -> u64 {
        self.link
    }

    /// Waits until the stream may be opened, for as long as `patience` (zero: for ever).
    async fn vacancy(&self, patience: Duration) -> Result<(), Ended> {
        let poll = |cx: &mut Context<'_>| {
            let mut session = self.session.borrow_mut();
            let polled = session.poll_vacancy(cx);
            // More were lent than it takes, now that it has said so: they go elsewhere.
            if polled.is_pending() && session.takes_fewer_than(self.streams.get()) {
                return Poll::Ready(Err(Ended::Left(Reason::NO_ERROR)));
            }
            polled
        };
        // Nearly always it is there.
        if let Poll::Ready(vacancy) = poll_fn(|cx| Poll::Ready(poll(cx))).await {
            return vacancy;
        }
        if patience.is_zero() {
            return poll_fn(poll).await;
        }
        let late = Ended::Closed(std::io::ErrorKind::TimedOut);
        tokio::time::timeout(patience, poll_fn(poll)).await.unwrap_or(Err(late))
    }

    /// Sends the head that `write` writes and as much of `body` as there is, and waits for the head of the answer, which may
    /// come before all is sent. `hint` is told of 1xx answers. With `expects` the body waits for the first of them. The peer
    /// may take no stream for as long as `patience` (zero: for ever).
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(
        &self,
        is_head: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
        body: Option<Rc<Source>>,
        expects: bool,
        patience: Duration,
        mut hint: impl FnMut(StatusCode, Fields),
    ) -> Result<Answered, NoAnswer> {
        let session = &self.session;
        let vacancy = self.vacancy(patience).await;
        vacancy.map_err(|why| NoAnswer::Ended { why, is_written: false, is_heard: false })?;
        let (position, read) = (session.borrow().out.position(), session.borrow().read);
        let mut stream = Stream::open(session, is_head, body.is_none(), write);
        let mut upload = body.map(|source| Upload::new(source, expects));
        let head = poll_fn(|cx| {
            loop {
                match upload.as_mut().map(|upload| upload.poll(&stream, cx)) {
                    Some(Poll::Ready(Err(()))) => return Poll::Ready(Err(NoAnswer::Client)),
                    Some(Poll::Ready(Ok(()))) => upload = None,
                    Some(Poll::Pending) | None => {}
                }
                let (status, fields) = match ready!(stream.poll_answer(cx)) {
                    Ok(head) => head,
                    Err(why) => {
                        let session = session.borrow();
                        let (is_written, is_heard) = (session.out.written() > position, session.read > read);
                        return Poll::Ready(Err(NoAnswer::Ended { why, is_written, is_heard }));
                    }
                };
                if !status.is_informational() {
                    return Poll::Ready(Ok((status, fields)));
                }
                match status {
                    // There is no upgrade here (RFC 9113 section 8.6), and who hears of one stops speaking HTTP.
                    StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Err(NoAnswer::Malformed)),
                    StatusCode::CONTINUE => {
                        if let Some(upload) = &mut upload {
                            upload.open();
                        }
                    }
                    _ => {}
                }
                hint(status, fields);
            }
        });
        let (status, fields) = head.await?;
        // A body that nobody asked for is not sent behind a final answer.
        Ok((status, fields, stream, upload.take_if(|upload| !upload.is_held())))
    }
}
