//! The body of an answer, with the record that ends with it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Record;
use super::review::{Review, Verdict};
use crate::fields::Fields;
use crate::forward::tunnel::Tunnel;
use crate::forward::upstream_body::{BodyError, UpstreamBody};
use crate::respond::grpc_status;

/// The status of gRPC that says: try again.
const UNAVAILABLE: u8 = 14;
/// What a call of gRPC is told that ends since its decision has changed.
const MOVED: &str = "decision_changed: another target is decided by now; try again";

/// The body of an answer, with the record that ends with it.
pub struct ResponseBody {
    content: Content,
    pub(super) record: Option<Box<Record>>,
    /// When it is cut, through or not.
    deadline: Option<Pin<Box<Sleep>>>,
    review: Review,
}

/// Where a body comes from.
enum Content {
    Own(Bytes),
    Upstream(Box<UpstreamBody>),
    /// None: a tunnel follows, and wants the record.
    Tunnel(Box<Tunnel>),
    /// It has ended before its end, with these trailers.
    Ended(Option<Box<Fields>>),
}

impl ResponseBody {
    const fn of(content: Content) -> Self {
        Self { content, record: None, deadline: None, review: Review::NEW }
    }

    /// No body.
    pub const fn empty() -> Self {
        Self::of(Content::Own(Bytes::new()))
    }

    /// A body of our own.
    pub const fn own(bytes: Bytes) -> Self {
        Self::of(Content::Own(bytes))
    }

    /// The body that the upstream sends.
    pub fn upstream(body: Box<UpstreamBody>) -> Self {
        Self::of(Content::Upstream(body))
    }

    /// No body, but a tunnel behind the head.
    pub fn tunnel(tunnel: Tunnel) -> Self {
        Self::of(Content::Tunnel(Box::new(tunnel)))
    }

    /// The same, cut at `deadline`. A tunnel has no end that a time-out could ask for.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        if matches!(self.content, Content::Upstream(_)) && !self.is_ended() {
            self.deadline = Some(Box::pin(sleep_until(deadline)));
        }
        self
    }

    /// The tunnel that follows, where one does, and the record that goes with it.
    pub fn take_tunnel(&mut self) -> Option<(Tunnel, Box<Record>)> {
        let record = self.record.take_if(|_| matches!(self.content, Content::Tunnel(_)))?;
        match std::mem::replace(&mut self.content, Content::Own(Bytes::new())) {
            Content::Tunnel(tunnel) => Some((*tunnel, record)),
            Content::Own(_) | Content::Upstream(_) | Content::Ended(_) => None,
        }
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended, and its record is written.
    ///
    /// # Errors
    /// It broke off; what came so far is not the whole.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            // Dropping what is left ends the upstream's connection.
            *self = Self::empty();
            return Poll::Ready(Err(BodyError::Late));
        }
        let verdict = self.verdict(cx);
        if verdict == Verdict::End {
            return Poll::Ready(self.end(false));
        }
        let polled = match &mut self.content {
            Content::Own(bytes) => Ok(bytes.len()),
            Content::Upstream(body) => match body.poll_data(cx) {
                Poll::Ready(polled) => polled,
                Poll::Pending if verdict == Verdict::Pause => return Poll::Ready(self.end(true)),
                Poll::Pending => {
                    self.wait(cx);
                    return Poll::Pending;
                }
            },
            Content::Tunnel(_) | Content::Ended(_) => Ok(0),
        };
        if polled.is_err() {
            self.record = None;
        }
        Poll::Ready(polled)
    }

    /// Whether it has to end though the client has not yet taken what waits; it can be cut only.
    pub fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.verdict(cx) == Verdict::End {
            *self = Self::empty();
            return true;
        }
        self.wait(cx);
        false
    }

    /// Somebody waits, and wants to be woken when there is another table.
    fn wait(&mut self, cx: &Context<'_>) {
        if let (Content::Upstream(_), Some(record)) = (&self.content, &self.record) {
            self.review.wait(record, cx);
        }
    }

    fn verdict(&mut self, cx: &mut Context<'_>) -> Verdict {
        match (&self.content, &mut self.record) {
            (Content::Upstream(_), Some(record)) => self.review.verdict(record, cx),
            _ => Verdict::Go,
        }
    }

    /// Ends it before its end. In a `pause` a call of gRPC can be told why.
    fn end(&mut self, pause: bool) -> Result<usize, BodyError> {
        match &mut self.record {
            Some(record) if pause && record.is_grpc() && record.is_http2() => {
                let mut trailers = Fields::default();
                grpc_status(&mut trailers, UNAVAILABLE, MOVED);
                self.content = Content::Ended(Some(Box::new(trailers)));
                Ok(0)
            }
            _ => {
                *self = Self::empty();
                Err(BodyError::Moved)
            }
        }
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        match &self.content {
            Content::Own(bytes) => bytes,
            Content::Upstream(body) => body.data(),
            Content::Tunnel(_) | Content::Ended(_) => &[],
        }
    }

    /// The first `count` of the bytes that wait are with the client.
    pub fn consume(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        match &mut self.content {
            Content::Own(bytes) => bytes.advance(count.min(bytes.len())),
            Content::Upstream(body) => body.consume(count),
            Content::Tunnel(_) | Content::Ended(_) => {}
        }
        self.note(count);
    }

    /// Takes the first `most` of the bytes that wait, or as many as there are.
    pub fn take(&mut self, most: usize) -> Bytes {
        let data = match &mut self.content {
            Content::Own(bytes) => bytes.split_to(most.min(bytes.len())),
            Content::Upstream(body) => body.take(most),
            Content::Tunnel(_) | Content::Ended(_) => Bytes::new(),
        };
        self.note(data.len());
        data
    }

    fn note(&mut self, count: usize) {
        if let Some(record) = &mut self.record {
            record.response_bytes += u64::try_from(count).unwrap_or(0);
        }
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        let mut trailers = match &mut self.content {
            Content::Upstream(body) => body.take_trailers(),
            Content::Ended(trailers) => trailers.take().map(|trailers| *trailers),
            Content::Own(_) | Content::Tunnel(_) => None,
        };
        if let (Some(trailers), Some(record)) = (&mut trailers, &self.record) {
            record.tell_in(trailers);
        }
        trailers
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Upstream(body) => body.is_ended(),
            Content::Tunnel(_) => true,
            Content::Ended(trailers) => trailers.is_none(),
        }
    }

    /// Whether what is here of it may show that it is broken: what goes on for a known length can't, as long as it does.
    pub fn may_be_broken(&self) -> bool {
        matches!(&self.content, Content::Upstream(body) if body.may_be_broken())
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.content {
            Content::Own(bytes) => u64::try_from(bytes.len()).ok(),
            Content::Upstream(body) => body.left(),
            Content::Tunnel(_) | Content::Ended(_) => Some(0),
        }
    }

    /// Whether the body of the request is still on its way upstream.
    pub fn is_uploading(&self) -> bool {
        matches!(&self.content, Content::Upstream(body) if body.is_uploading())
    }

    /// Lets what still goes upstream go on, while nothing of the answer is asked for.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Content::Upstream(body) = &mut self.content {
            body.drive(cx);
        }
    }

    /// All of the answer is with the client.
    pub fn complete(&mut self) {
        if let Some(record) = &mut self.record {
            record.complete = !matches!(self.content, Content::Ended(_));
        }
    }
}
