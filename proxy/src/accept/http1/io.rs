//! The bytes of an HTTP/1.1 client: what was read and not yet used, what waits to be written, and how far the body of
//! the request under way is.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::accept::body::Broken;
use crate::accept::wire::Wire;
use crate::h1::body::{Decoder, Next};
use crate::h1::buffer::{Buffer, SIZE};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection; shared by whoever answers and the body of the request under way, which run in one task.
pub type Shared = Rc<RefCell<Io>>;

/// A client's connection.
#[derive(Debug)]
pub struct Io {
    wire: Wire,
    /// What was read.
    pub input: Buffer,
    /// What waits to be written.
    pub output: Vec<u8>,
    written: usize,
    sent: u64,
    /// Reads the body of the request under way.
    pub body: Decoder,
    /// Whether the client still waits to be told to send it.
    pub expects: bool,
}

impl Io {
    /// A connection over `wire`, with no request under way.
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            input: Buffer::default(),
            output: Vec::new(),
            written: 0,
            sent: 0,
            body: Decoder::length(0),
            expects: false,
        }
    }

    /// Reads once. Zero: the client has ended.
    ///
    /// # Errors
    /// Those of reading; `OutOfMemory` where `limit` bytes wait already.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.input.poll_read(&mut self.wire, cx, limit)
    }

    /// Waits for bytes of the request's body, and says how many there are; zero: it has ended.
    ///
    /// # Errors
    /// The client broke off, or what it sends is no body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        if std::mem::take(&mut self.expects) {
            self.output.extend_from_slice(CONTINUE);
        }
        if !self.output.is_empty() {
            // It goes as the client takes it; what it sends does not depend on that.
            let _ = self.poll_write(cx, &[])?;
        }
        loop {
            match self.body.next(self.input.filled())? {
                Next::Framing(count) => self.input.consume(count),
                Next::Data(count) => return Poll::Ready(Ok(count)),
                Next::End => return Poll::Ready(Ok(0)),
                Next::More => {
                    let most = self.body.most_at_once();
                    if ready!(self.poll_read(cx, most))? == 0 {
                        return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                    }
                }
            }
        }
    }

    /// The bytes of the body that wait.
    pub fn data(&mut self) -> &[u8] {
        let count = match self.body.next(self.input.filled()) {
            Ok(Next::Data(count)) => count,
            _ => 0,
        };
        self.input.filled().get(..count).unwrap_or_default()
    }

    /// `count` bytes of the body were used. What is there of the framing behind them is read, so that the end is seen
    /// as soon as it is here.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.body.took(count);
        while let Ok(Next::Framing(count)) = self.body.next(self.input.filled()) {
            self.input.consume(count);
        }
    }

    /// Throws away what is here of the body; whether that was the rest of it.
    pub fn discard(&mut self) -> bool {
        loop {
            match self.body.next(self.input.filled()) {
                Ok(Next::Framing(count)) => self.input.consume(count),
                Ok(Next::Data(count)) => {
                    self.input.consume(count);
                    self.body.took(count);
                }
                Ok(Next::End) => return true,
                Ok(Next::More) | Err(_) => return false,
            }
        }
    }

    /// Writes what waits, and `data` behind it, as far as the client takes it. Ready when all that waited is written;
    /// gives how much of `data` was.
    ///
    /// # Errors
    /// Those of writing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.output.get(self.written..).unwrap_or_default();
            let length = waiting.len();
            let wire = Pin::new(&mut self.wire);
            let count = ready!(match (waiting, data) {
                ([], []) => return Poll::Ready(Ok(0)),
                ([], _) => wire.poll_write(cx, data),
                (_, []) => wire.poll_write(cx, waiting),
                _ => wire.poll_write_vectored(cx, &[IoSlice::new(waiting), IoSlice::new(data)]),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += u64::try_from(count).unwrap_or(0);
            self.written += count.min(length);
            if self.written < self.output.len() {
                continue;
            }
            self.output.clear();
            self.written = 0;
            if count > length || data.is_empty() {
                return Poll::Ready(Ok(count.saturating_sub(length)));
            }
        }
    }

    /// Bytes that have been written so far.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// How much waits to be written.
    pub fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    /// Sees to it that what was written leaves.
    ///
    /// # Errors
    /// Those of writing.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, &[]))?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    /// Ends our side.
    ///
    /// # Errors
    /// Those of writing.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    /// Whether the client has gone, as far as that can be seen: what it says meanwhile, of its body or of the next
    /// request, is kept while there is room. A client that ends its side is taken as gone; who waits for an answer keeps
    /// it open.
    pub fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.poll_read(cx, SIZE) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return error.kind() != io::ErrorKind::OutOfMemory,
            }
        }
    }

    /// Lets go of memory that an idle connection does not need.
    pub fn rest(&mut self) {
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }
}

/// The byte stream that an upgraded connection becomes: what was read behind the request comes first.
#[derive(Debug)]
pub struct Upgraded(pub Shared);

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.borrow_mut();
        if io.input.is_empty() {
            return Pin::new(&mut io.wire).poll_read(cx, buf);
        }
        let count = io.input.filled().len().min(buf.remaining());
        buf.put_slice(io.input.filled().get(..count).unwrap_or_default());
        io.input.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_shutdown(cx)
    }
}
