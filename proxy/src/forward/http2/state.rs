//! One stream, as its connection and who answers the client both see it.

use std::task::{Context, Poll, Waker};

use h2::Reason;
use http::StatusCode;

use super::section::Section;
use super::session::{Ended, Fault, Room};
use super::{HEAD, STREAM_WINDOW};
use crate::fields::Fields;
use crate::forward::http1::EARLY;
use crate::h1::response::has_no_body;

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    Over,
}

/// Whether a body waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Outside,
    Waits,
    /// It is its turn.
    In,
}

/// A stream.
pub(super) struct State {
    /// What the peer takes of the body.
    pub(super) window: i64,
    /// What is left of its turn, where others wait.
    pub(super) share: i64,
    /// What may come.
    pub(super) room: Room,
    /// Whether all of the request is sent.
    pub(super) is_sent: bool,
    /// How much had come over the connection when it began, and how often that was looked after.
    pub(super) began: (u64, u32),
    is_head: bool,
    phase: Phase,
    queue: Queue,
    waker: Option<Waker>,
    ended: Option<Ended>,
    early: Vec<(StatusCode, Fields)>,
    heard_early: usize,
    head: Option<(StatusCode, Fields)>,
    data: Vec<u8>,
    trailers: Option<Fields>,
    /// What is to come of the length that the head announced.
    left: Option<u64>,
}

impl State {
    pub(super) const fn new(window: i64, is_head: bool, is_sent: bool, began: (u64, u32)) -> Self {
        Self {
            window,
            share: 0,
            room: Room::new(STREAM_WINDOW),
            is_sent,
            began,
            is_head,
            phase: Phase::Head,
            queue: Queue::Outside,
            waker: None,
            ended: None,
            early: Vec::new(),
            heard_early: 0,
            head: None,
            data: Vec::new(),
            trailers: None,
            left: None,
        }
    }

    /// Wakes whoever waits for something to happen here.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    pub(super) const fn is_sending(&self) -> bool {
        !self.is_sent && self.ended.is_none()
    }

    /// Whether more may come.
    pub(super) fn is_receiving(&self) -> bool {
        self.phase != Phase::Over && self.ended.is_none()
    }

    /// Whether all of the answer has come.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn has_head(&self) -> bool {
        self.phase != Phase::Head
    }

    /// Takes its turn to send, if it has one.
    pub(super) fn takes_turn(&mut self) -> bool {
        self.queue == Queue::In && {
            self.queue = Queue::Outside;
            true
        }
    }

    /// Whether it waits for a turn.
    pub(super) fn is_queued(&self) -> bool {
        self.queue == Queue::Waits
    }

    /// It waits for a turn from now on; `false`: it did before.
    pub(super) fn queues(&mut self) -> bool {
        std::mem::replace(&mut self.queue, Queue::Waits) != Queue::Waits
    }

    /// It is its turn to send; `false`: it does not wait any more.
    pub(super) fn let_in(&mut self) -> bool {
        let waits = self.queue == Queue::Waits && self.is_sending();
        if waits {
            self.queue = Queue::In;
            self.wake();
        }
        waits
    }

    /// Nobody is there any more; whether it had a turn.
    pub(super) fn leaves(&mut self) -> bool {
        self.is_sent = true;
        self.takes_turn()
    }

    /// So much of the body is sent.
    pub(super) const fn sends(&mut self, count: i64) {
        self.window -= count;
        self.share -= count;
    }

    /// The peer takes so much more of the body; whether it may say so.
    pub(super) fn widen(&mut self, more: i64) -> bool {
        self.window = self.window.saturating_add(more);
        self.wake();
        self.window <= 0x7fff_ffff
    }

    /// It ended before its end. What came before stays, and may be used.
    pub(super) fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
        self.wake();
    }

    /// Whether the head has announced so much more.
    pub(super) fn announced(&mut self, count: usize) -> bool {
        let Some(left) = &mut self.left else { return true };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let is_so = count <= *left;
        *left = left.saturating_sub(count);
        is_so
    }

    /// Some of the body came.
    pub(super) fn arrived(&mut self, data: &[u8]) {
        if !data.is_empty() {
            // Most bodies are one piece, of which no more is held than there is.
            if self.data.is_empty() {
                self.data.reserve_exact(data.len());
            }
            self.data.extend_from_slice(data);
            self.wake();
        }
    }

    /// A section came.
    ///
    /// # Errors
    /// What is wrong with it, or with its place.
    pub(super) fn heard(&mut self, section: Section, is_last: bool) -> Result<(), Fault> {
        let Section { status, fields, fault, .. } = section;
        let bad = |why| Err((Reason::PROTOCOL_ERROR, why));
        if let Some(why) = fault {
            return bad(why);
        }
        match (self.phase, status) {
            (Phase::Over, _) => {
                return Err((Reason::STREAM_CLOSED, "a section came behind the end of its answer"));
            }
            (Phase::Head, None) => return bad("an answer has no status"),
            (Phase::Body, Some(_)) => return bad("an answer has two heads"),
            (Phase::Head, Some(status)) if status.is_informational() => {
                if is_last {
                    return bad("an answer ends with one that comes before it");
                }
                self.heard_early += 1;
                let size: usize = self.early.iter().map(|(_, early)| early.bytes()).sum();
                if self.heard_early > EARLY || size + fields.bytes() > HEAD as usize {
                    return bad("there are too many 1xx answers");
                }
                self.early.push((status, fields));
            }
            (Phase::Head, Some(status)) => {
                let length = length(&fields)?;
                // It says how long another answer would be, and is none itself (RFC 9113 section 8.1.1).
                self.left = if has_no_body(status, self.is_head) { Some(0) } else { length };
                self.head = Some((status, fields));
                self.phase = Phase::Body;
            }
            (Phase::Body, None) => {
                if !is_last {
                    return bad("something follows trailers");
                }
                self.trailers = Some(fields);
            }
        }
        self.wake();
        Ok(())
    }

    /// All has come.
    ///
    /// # Errors
    /// The head has announced more.
    pub(super) fn finish(&mut self) -> Result<(), &'static str> {
        if self.left.is_some_and(|left| left > 0) {
            return Err("a body is shorter than its head says");
        }
        self.phase = Phase::Over;
        self.wake();
        Ok(())
    }

    /// The head of an answer, or one of those before it; waits where there is none.
    ///
    /// # Errors
    /// None will come.
    pub(super) fn poll_answer(&mut self, cx: &Context<'_>) -> Poll<Result<(StatusCode, Fields), Ended>> {
        if !self.early.is_empty() {
            return Poll::Ready(Ok(self.early.remove(0)));
        }
        if let Some(head) = self.head.take() {
            return Poll::Ready(Ok(head));
        }
        self.poll_nothing(cx).map(Err)
    }

    /// Waits for some of the body; nothing: it has ended.
    ///
    /// # Errors
    /// It broke off.
    pub(super) fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Result<Vec<u8>, Ended>> {
        if self.data.is_empty() && self.phase != Phase::Over {
            return self.poll_nothing(cx).map(Err);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.data)))
    }

    /// Waits, where the stream has not ended.
    fn poll_nothing(&mut self, cx: &Context<'_>) -> Poll<Ended> {
        if let Some(why) = self.ended {
            return Poll::Ready(why);
        }
        self.wait(cx);
        Poll::Pending
    }

    /// Octets of the body that came and nobody has taken.
    pub(super) fn unused(&self) -> usize {
        self.data.len()
    }

    /// The trailers, once, after the end.
    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// Whether nothing more comes, and nothing is here.
    pub(super) fn is_used_up(&self) -> bool {
        self.phase == Phase::Over && self.data.is_empty() && self.trailers.is_none()
    }
}

/// The length that a head announces.
///
/// # Errors
/// It is none, or there are two.
fn length(fields: &Fields) -> Result<Option<u64>, Fault> {
    let mut lines = fields.get_all("content-length");
    let Some(first) = lines.next() else { return Ok(None) };
    let digits =
        Some(first).filter(|text| text.iter().all(u8::is_ascii_digit) && lines.all(|line| line == *text));
    let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    length.map(Some).ok_or((Reason::PROTOCOL_ERROR, "an answer has a length that is none, or two"))
}
