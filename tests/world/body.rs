//! Bodies that a test sends: whole, fed piece by piece, or generated to any length.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::HeaderMap;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of every request and answer that this world makes.
pub type Body = BoxBody<Bytes, io::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body that is there at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of `len` bytes in pieces of 64 KiB that are made when they are asked for.
pub fn pattern(len: u64) -> Body {
    Pattern { left: len, piece: Bytes::from(vec![b'x'; 64 << 10]) }.boxed()
}

/// A body that is written while it is being sent, and the end that writes it.
pub fn feed() -> (Feed, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (Feed(sender), Fed(receiver).boxed())
}

/// The writing end of a body. Dropping it ends the body.
pub struct Feed(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Feed {
    /// Writes one piece; `false`: nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Writes the trailers.
    pub async fn trailers(&self, trailers: HeaderMap) -> bool {
        self.0.send(Ok(Frame::trailers(trailers))).await.is_ok()
    }

    /// Breaks the body off, so that its connection or stream is reset.
    pub async fn abort(&self) {
        // Nobody left to tell is as good as told.
        let _ = self.0.send(Err(io::Error::other("broken off by the test"))).await;
    }
}

struct Fed(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl hyper::body::Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

struct Pattern {
    left: u64,
    piece: Bytes,
}

impl hyper::body::Body for Pattern {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = self.left.min(self.piece.len() as u64);
        self.left -= len;
        let piece = self.piece.slice(..usize::try_from(len).unwrap());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
