//! The body of a client's request, the same over both versions of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
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
    /// It ended before its length.
    #[error("the body is shorter than its length")]
    Short,
}

/// The body of a client's request. A piece of it waits here until it is used, so that what is not used is not lost.
#[derive(Debug)]
pub enum ClientBody {
    /// None.
    Empty,
    /// HTTP/1.1.
    Http1(Incoming, Waiting),
    /// HTTP/2.
    Http2(h2::RecvStream, Waiting),
}

/// What has come and was not used yet.
#[derive(Debug, Default)]
pub struct Waiting {
    piece: Bytes,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// What is left of the length that the head announced.
    left: Option<u64>,
}

impl Waiting {
    /// Nothing yet of a body with this length, where it is known.
    pub fn of(left: Option<u64>) -> Self {
        Self { left, ..Self::default() }
    }
}

impl ClientBody {
    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// The client broke off.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        match self {
            Self::Empty => Poll::Ready(Ok(0)),
            Self::Http1(body, waiting) => {
                while waiting.piece.is_empty() && !waiting.ended {
                    match ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()? {
                        None => waiting.ended = true,
                        Some(frame) => match frame.into_data() {
                            Ok(data) => waiting.piece = data,
                            Err(frame) => waiting.trailers = frame.into_trailers().ok(),
                        },
                    }
                }
                Poll::Ready(Ok(waiting.piece.len()))
            }
            Self::Http2(stream, waiting) => {
                while waiting.piece.is_empty() && !waiting.ended {
                    match ready!(stream.poll_data(cx)).transpose()? {
                        Some(data) => waiting.piece = data,
                        None => {
                            waiting.trailers = ready!(stream.poll_trailers(cx))?;
                            waiting.ended = true;
                        }
                    }
                }
                Poll::Ready(Ok(waiting.piece.len()))
            }
        }
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Http1(_, waiting) | Self::Http2(_, waiting) => &waiting.piece,
        }
    }

    /// The first `count` of the bytes that wait were used.
    pub fn consume(&mut self, count: usize) {
        self.split(count);
    }

    /// Takes all bytes that wait.
    pub fn take(&mut self) -> Bytes {
        self.split(usize::MAX)
    }

    fn split(&mut self, count: usize) -> Bytes {
        let (Self::Http1(_, waiting) | Self::Http2(_, waiting)) = self else { return Bytes::new() };
        let part = waiting.piece.split_to(count.min(waiting.piece.remaining()));
        if let Some(left) = &mut waiting.left {
            *left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        if let Self::Http2(stream, _) = self {
            // The window opens again as the data is used, and no sooner: that is the back-pressure.
            let _ = stream.flow_control().release_capacity(part.len());
        }
        part
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Empty => None,
            Self::Http1(_, waiting) | Self::Http2(_, waiting) => waiting.trailers.take(),
        }
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body, waiting) => {
                waiting.piece.is_empty()
                    && waiting.trailers.is_none()
                    && (waiting.ended || body.is_end_stream())
            }
            Self::Http2(stream, waiting) => {
                waiting.piece.is_empty()
                    && waiting.trailers.is_none()
                    && (waiting.ended || stream.is_end_stream())
            }
        }
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            _ if self.is_ended() => Some(0),
            Self::Empty => Some(0),
            Self::Http1(_, waiting) | Self::Http2(_, waiting) => waiting.left,
        }
    }
}
