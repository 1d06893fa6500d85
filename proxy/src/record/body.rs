//! The body of an answer, with the record that ends with it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Record;
use crate::forward::upstream_body::{BodyError, UpstreamBody};

/// The body of an answer, with the record that ends with it.
pub struct ResponseBody {
    pub(super) content: Content,
    pub(super) record: Option<Record>,
    /// When it is cut, through or not.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Where a body comes from.
pub(super) enum Content {
    Own(Option<Bytes>),
    Upstream(Box<UpstreamBody>),
    /// None: a tunnel follows, and wants the record.
    Tunnel(oneshot::Sender<Record>),
}

impl ResponseBody {
    /// No body.
    pub const fn empty() -> Self {
        Self { content: Content::Own(None), record: None, deadline: None }
    }

    /// A body of our own.
    pub fn own(bytes: Bytes) -> Self {
        Self {
            content: Content::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            record: None,
            deadline: None,
        }
    }

    /// The body that the upstream sends.
    pub fn upstream(body: UpstreamBody) -> Self {
        Self { content: Content::Upstream(Box::new(body)), record: None, deadline: None }
    }

    /// No body, but a tunnel that wants the record.
    pub const fn tunnel(give: oneshot::Sender<Record>) -> Self {
        Self { content: Content::Tunnel(give), record: None, deadline: None }
    }

    /// The same, cut at `deadline`. A tunnel has no end that a time-out could ask for.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        if matches!(self.content, Content::Upstream(_)) && !self.is_end_stream() {
            self.deadline = Some(Box::pin(sleep_until(deadline)));
        }
        self
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let ended = match &self.content {
            Content::Own(left) => left.is_none(),
            Content::Upstream(body) => body.is_ended(),
            Content::Tunnel(_) => true,
        };
        if let Some(record) = &mut self.record {
            let count = frame.data_ref().map_or(0, Bytes::len);
            record.response_bytes += u64::try_from(count).unwrap_or(0);
            record.complete |= ended || frame.is_trailers();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            // Dropping what is left ends the upstream's connection.
            self.content = Content::Own(None);
            self.deadline = None;
            self.record = None;
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        let polled = match &mut self.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Upstream(body) => Poll::Ready(match ready!(body.poll_data(cx)) {
                Ok(0) => body.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))),
                Ok(_) => Some(Ok(Frame::data(body.take()))),
                Err(error) => Some(Err(error)),
            }),
            Content::Tunnel(_) => Poll::Ready(None),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.note(frame),
            Poll::Ready(None) => {
                if let Some(record) = &mut self.record {
                    record.complete = true;
                }
                self.record = None;
            }
            Poll::Ready(Some(Err(_))) => self.record = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Upstream(body) => body.is_ended(),
            Content::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(0)),
            ),
            Content::Upstream(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Content::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}
