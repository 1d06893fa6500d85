//! The body of a client's request, the same over both versions of HTTP.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::http1::io::Shared;
use crate::fields::Fields;
use crate::h1::Fault;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection did.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no body.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// The body of a client's request. What has come waits until it is used, so that what is not used is not lost.
#[derive(Debug)]
pub enum ClientBody {
    /// None.
    Empty,
    /// HTTP/1.1.
    Http1(Shared),
    /// HTTP/2.
    Http2(Stream),
}

/// A body over HTTP/2.
#[derive(Debug)]
pub struct Stream {
    frames: h2::RecvStream,
    piece: Bytes,
    trailers: Option<Fields>,
    ended: bool,
    /// What is left of the length that the head announced.
    left: Option<u64>,
}

impl Stream {
    /// The body that `frames` bring, of this length where it is known.
    pub const fn new(frames: h2::RecvStream, left: Option<u64>) -> Self {
        Self { frames, piece: Bytes::new(), trailers: None, ended: false, left }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        while self.piece.is_empty() && !self.ended {
            match ready!(self.frames.poll_data(cx)).transpose()? {
                Some(data) => self.piece = data,
                None => {
                    self.trailers = ready!(self.frames.poll_trailers(cx))?.map(|map| Fields::of(&map, 0));
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(self.piece.len()))
    }

    fn split(&mut self, count: usize) -> Bytes {
        let part = self.piece.split_to(count.min(self.piece.remaining()));
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        // The window opens again as the data is used, and no sooner: that is the back-pressure.
        let _ = self.frames.flow_control().release_capacity(part.len());
        part
    }

    fn is_ended(&self) -> bool {
        self.piece.is_empty() && self.trailers.is_none() && (self.ended || self.frames.is_end_stream())
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
            Self::Http1(io) => io.borrow_mut().poll_body(cx),
            Self::Http2(stream) => stream.poll_data(cx),
        }
    }

    /// Shows the bytes that wait to `using`, which says how many it has used.
    ///
    /// # Errors
    /// Those of `using`.
    pub fn with_data<E>(&mut self, using: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        match self {
            Self::Empty => using(&[]),
            Self::Http1(io) => {
                let mut io = io.borrow_mut();
                let count = using(io.data())?;
                if count > 0 {
                    io.consume(count);
                }
                Ok(count)
            }
            Self::Http2(stream) => {
                let count = using(&stream.piece)?;
                stream.split(count);
                Ok(count)
            }
        }
    }

    /// Takes all bytes that wait.
    pub fn take(&mut self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Http1(io) => {
                let mut io = io.borrow_mut();
                let data = Bytes::copy_from_slice(io.data());
                io.consume(data.len());
                data
            }
            Self::Http2(stream) => stream.split(usize::MAX),
        }
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Empty => None,
            Self::Http1(io) => io.borrow_mut().body.take_trailers(),
            Self::Http2(stream) => stream.trailers.take(),
        }
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(io) => {
                let io = io.borrow();
                io.body.is_ended() && !io.body.has_trailers()
            }
            Self::Http2(stream) => stream.is_ended(),
        }
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(io) => io.borrow().body.left(),
            Self::Http2(stream) if stream.is_ended() => Some(0),
            Self::Http2(stream) => stream.left,
        }
    }
}
