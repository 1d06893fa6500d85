//! The body of an answer, with the record that ends with it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Record;
use crate::fields::Fields;
use crate::forward::tunnel::Tunnel;
use crate::forward::upstream_body::{BodyError, UpstreamBody};

/// The body of an answer, with the record that ends with it.
pub struct ResponseBody {
    content: Content,
    pub(super) record: Option<Box<Record>>,
    /// When it is cut, through or not.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Where a body comes from.
enum Content {
    Own(Bytes),
    Upstream(Box<UpstreamBody>),
    /// None: a tunnel follows, and wants the record.
    Tunnel(Box<Tunnel>),
}

impl ResponseBody {
    const fn of(content: Content) -> Self {
        Self { content, record: None, deadline: None }
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
    pub fn upstream(body: UpstreamBody) -> Self {
        Self::of(Content::Upstream(Box::new(body)))
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
            Content::Own(_) | Content::Upstream(_) => None,
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
        let polled = match &mut self.content {
            Content::Own(bytes) => Ok(bytes.len()),
            Content::Upstream(body) => ready!(body.poll_data(cx)),
            Content::Tunnel(_) => Ok(0),
        };
        if polled.is_err() {
            self.record = None;
        }
        Poll::Ready(polled)
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        match &self.content {
            Content::Own(bytes) => bytes,
            Content::Upstream(body) => body.data(),
            Content::Tunnel(_) => &[],
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
            Content::Tunnel(_) => {}
        }
        self.note(count);
    }

    /// Takes the first `most` of the bytes that wait, or as many as there are.
    pub fn take(&mut self, most: usize) -> Bytes {
        let data = match &mut self.content {
            Content::Own(bytes) => bytes.split_to(most.min(bytes.len())),
            Content::Upstream(body) => body.take(most),
            Content::Tunnel(_) => Bytes::new(),
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
        match &mut self.content {
            Content::Upstream(body) => body.take_trailers(),
            Content::Own(_) | Content::Tunnel(_) => None,
        }
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Upstream(body) => body.is_ended(),
            Content::Tunnel(_) => true,
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
            Content::Tunnel(_) => Some(0),
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
            record.complete = true;
        }
    }
}
