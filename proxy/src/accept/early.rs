//! The client's byte stream: bytes that were read too early come first, and 1xx answers of the upstream (RFC 9110
//! section 15.2) are written between the answers of the HTTP library, which can't send them by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connection::Arrival;
use super::hints::{Hints, as_http1};

/// A TCP stream with bytes that were read before.
#[derive(Debug)]
pub struct Prefixed {
    /// What is read first.
    pub prefix: Bytes,
    /// What follows.
    pub stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.prefix.len().min(buf.remaining());
        let part = self.prefix.split_to(count);
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What carries the bytes of a client.
#[derive(Debug)]
pub enum Wire {
    /// Cleartext.
    Clear(Prefixed),
    /// TLS, handshake done.
    Tls(Box<TlsStream<Prefixed>>),
}

impl Wire {
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    hints: Arc<Hints>,
    arrival: Arc<Arrival>,
    /// Whether nothing was written since the last complete flush: only then does a 1xx head stand between two
    /// messages, and not inside one.
    between: bool,
    /// A 1xx head that is being written.
    writing: Bytes,
}

impl Client {
    /// Wraps `wire`.
    pub fn new(wire: Wire, hints: Arc<Hints>, arrival: Arc<Arrival>) -> Self {
        Self { wire, hints, arrival, between: true, writing: Bytes::new() }
    }

    /// Writes the 1xx heads that wait, where they may stand.
    fn poll_hints(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hints.any() {
            let waiting = self.hints.take();
            if self.between {
                self.writing = waiting.iter().flat_map(as_http1).collect();
            }
        }
        while !self.writing.is_empty() {
            let count = std::task::ready!(self.wire.write(cx, &self.writing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = self.wire.read(cx, buf);
        if buf.filled().len() > before {
            self.arrival.received();
        }
        result
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_hints(cx))?;
        self.between = false;
        self.wire.write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_hints(cx))?;
        self.between = false;
        match &mut self.wire {
            Wire::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between {
            // The library has nothing to write: this is the place for what the upstream said early.
            self.hints.register(cx.waker());
            std::task::ready!(self.poll_hints(cx))?;
        }
        std::task::ready!(self.wire.flush(cx))?;
        if !self.between {
            // What came while an answer was being written belongs to that answer, and is too late.
            if self.hints.any() {
                self.hints.take();
            }
            self.between = true;
            self.hints.register(cx.waker());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
