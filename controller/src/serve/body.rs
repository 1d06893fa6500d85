//! Bodies of answers: whole ones, and lines as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::connection::Busy;

/// The body of an answer. It keeps its connection from counting as idle.
pub(super) struct Answer {
    content: Content,
    _busy: Busy,
}

/// What is in it.
pub(super) enum Content {
    /// Everything; `None` once it was taken.
    Whole(Option<Bytes>),
    /// Lines until the sender is dropped.
    Lines(mpsc::Receiver<Bytes>),
}

impl Content {
    /// A body that is here.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }

    /// With what keeps the connection busy.
    pub(super) fn with(self, busy: Busy) -> Answer {
        Answer { content: self, _busy: busy }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.get_mut().content {
            Content::Whole(bytes) => Poll::Ready(bytes.take()),
            Content::Lines(lines) => lines.poll_recv(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Lines(_) => SizeHint::default(),
        }
    }
}
