//! The body of a client's request, the same over both versions of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// The body of a client's request.
#[derive(Debug)]
pub enum ClientBody {
    /// None.
    Empty,
    /// HTTP/1.1.
    Http1(Incoming),
    /// HTTP/2, with the length that the head announced.
    Http2(h2::RecvStream, Option<u64>),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Broken::from),
            Self::Http2(stream, left) => {
                while let Some(data) = ready!(stream.poll_data(cx)) {
                    let data = data?;
                    // The window opens again as the data is taken, and no sooner: that is the back-pressure.
                    stream.flow_control().release_capacity(data.len())?;
                    if data.is_empty() && !stream.is_end_stream() {
                        continue;
                    }
                    if let Some(left) = left {
                        *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                match ready!(stream.poll_trailers(cx))? {
                    Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(stream, _) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(_, Some(left)) => SizeHint::with_exact(*left),
            Self::Http2(stream, None) if stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(_, None) => SizeHint::default(),
        }
    }
}
