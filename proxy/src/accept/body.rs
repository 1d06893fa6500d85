//! The body of a client's request, the same over both versions of HTTP.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::http1::io::Shared;
use super::http2::incoming::Incoming;
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::h1::Fault;
use crate::limit::Limit;

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
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Stalled(Duration),
    /// It is longer than it may be.
    #[error("it is longer than {0} bytes")]
    TooLarge(u64),
}

impl Broken {
    /// What the client is told, where it still can be.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Fault(fault) => fault.failure(),
            Self::TooLarge(most) => {
                let detail = format!("the body of the request is longer than {most} bytes");
                Failure::new(Code::RequestTooLarge, detail).over(Limit::BodyBytes)
            }
            Self::Stalled(limit) => {
                let detail = format!("nothing came of the body of the request for {limit:?}");
                Failure::new(Code::RequestTimeout, detail).over(Limit::BodyTimeout)
            }
            Self::Io(_) | Self::Http2(_) => {
                Failure::new(Code::MalformedRequest, "the body of the request broke off")
            }
        }
    }
}

/// The body of a client's request. What has come waits until it is used, so that what is not used is not lost.
#[derive(Debug)]
pub enum ClientBody {
    /// None.
    Empty,
    /// HTTP/1.1.
    Http1(Shared),
    /// HTTP/2; boxed, since those of HTTP/1.1 go through as many hands.
    Http2(Box<Incoming>),
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
            Self::Http2(body) => body.poll_data(cx).map_err(Broken::Http2),
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
            Self::Http2(body) => {
                let count = using(body.data())?;
                body.split(count);
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
            Self::Http2(body) => body.split(usize::MAX),
        }
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Empty => None,
            Self::Http1(io) => io.borrow_mut().body.take_trailers(),
            Self::Http2(body) => body.take_trailers(),
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
            Self::Http2(body) => body.is_ended(),
        }
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(io) => io.borrow().body.left(),
            Self::Http2(body) => body.left(),
        }
    }
}
