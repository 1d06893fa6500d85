//! An HTTP/1.1 connection to an upstream. Whoever has it sends one request and reads one answer, in its own task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::{Method, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};

use super::Wire;
use super::upload::{Stopped, Upload};
use crate::fields::Fields;
use crate::h1::Fault;
use crate::h1::body::{Decoder, Next};
use crate::h1::buffer::{Buffer, Rejoined};
use crate::h1::response::{ResponseHead, parse};
use crate::limit::Limit;
use crate::record::metrics::WorkerStats;

/// The most bytes of the head of an answer.
const HEAD: usize = 64 << 10;

/// The most 1xx answers before the final one: who sends more never comes to an end.
pub const EARLY: usize = 100;

/// A connection.
pub struct Http1 {
    /// What carries the bytes.
    pub wire: Wire,
    input: Buffer,
    _open: Open,
}

/// Why no answer came.
#[derive(Debug)]
pub enum NoAnswer {
    /// The body of the request broke off.
    Client,
    /// What came is no answer.
    Fault(Fault),
    /// The connection ended.
    Closed(io::Error),
}

impl Http1 {
    /// A connection over `wire`.
    pub fn new(wire: Wire, stats: &Arc<WorkerStats>) -> Self {
        Self { wire, input: Buffer::default(), _open: Open::new(stats) }
    }

    /// Whether it is open and says nothing: anything that comes between two exchanges belongs to none. Costs a system
    /// call only where something came.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // Whoever is not quiet is closed, so that nobody misses the byte.
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        self.input.is_empty() && Pin::new(&mut self.wire).poll_read(&mut cx, &mut byte).is_pending()
    }

    /// Whether nothing came after the last answer.
    pub const fn is_through(&self) -> bool {
        self.input.is_empty()
    }

    /// Sends `upload` as far as there is something to send, and waits for the head of the answer, which may come before
    /// all is sent. `hint` is told of 1xx answers. `heard` is set when a byte has come.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn exchange(
        &mut self,
        upload: &mut Upload,
        method: &Method,
        heard: &mut bool,
        mut hint: impl FnMut(StatusCode, Fields),
    ) -> Result<ResponseHead, NoAnswer> {
        let mut writable = true;
        let mut early = 0;
        poll_fn(move |cx| {
            loop {
                if writable {
                    match upload.poll(&mut self.wire, cx) {
                        Poll::Ready(Err(Stopped::Client)) => return Poll::Ready(Err(NoAnswer::Client)),
                        // It may have answered before it closed: that is read first.
                        Poll::Ready(Err(Stopped::Upstream(_)) | Ok(())) => writable = false,
                        Poll::Pending => {}
                    }
                }
                let head = ready!(self.poll_head(cx, method, heard))?;
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(head));
                }
                if head.status == StatusCode::CONTINUE {
                    upload.open();
                }
                early += 1;
                if early > EARLY {
                    return Poll::Ready(Err(NoAnswer::Fault(Fault::Malformed(
                        "there are too many 1xx answers",
                    ))));
                }
                hint(head.status, head.fields);
            }
        })
        .await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        heard: &mut bool,
    ) -> Poll<Result<ResponseHead, NoAnswer>> {
        loop {
            if !self.input.is_empty()
                && let Some((head, length)) = parse(self.input.filled(), method).map_err(NoAnswer::Fault)?
            {
                self.input.consume(length);
                return Poll::Ready(Ok(head));
            }
            match ready!(self.input.poll_read(&mut self.wire, cx, HEAD)) {
                Ok(0) => return Poll::Ready(Err(NoAnswer::Closed(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => *heard = true,
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(NoAnswer::Fault(Fault::TooLarge(Limit::HeaderBytes))));
                }
                Err(error) => return Poll::Ready(Err(NoAnswer::Closed(error))),
            }
        }
    }

    /// Waits for bytes of the body, and says how many there are; zero: it has ended.
    ///
    /// # Errors
    /// The body broke off, or its framing did.
    pub fn poll_data(&mut self, decoder: &mut Decoder, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match decoder
                .next(self.input.filled())
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?
            {
                Next::Framing(count) => self.input.consume(count),
                Next::Data(count) => return Poll::Ready(Ok(count)),
                Next::End => return Poll::Ready(Ok(0)),
                Next::More => match ready!(self.input.poll_read(&mut self.wire, cx, decoder.most_at_once()))?
                {
                    0 if decoder.closed() => return Poll::Ready(Ok(0)),
                    0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    _ => {}
                },
            }
        }
    }

    /// The first `count` bytes that were read.
    pub fn data(&self, count: usize) -> &[u8] {
        self.input.filled().get(..count).unwrap_or_default()
    }

    /// `count` bytes of the body were used. What is there of the framing behind them is read, so that the end is seen
    /// as soon as it is here.
    pub fn consume(&mut self, decoder: &mut Decoder, count: usize) {
        self.input.consume(count);
        decoder.took(count);
        while let Ok(Next::Framing(count)) = decoder.next(self.input.filled()) {
            self.input.consume(count);
        }
    }

    /// The byte stream that an upgraded connection becomes.
    pub fn into_stream(self) -> (Rejoined<Wire>, Open) {
        (Rejoined { read: self.input, stream: self.wire }, self._open)
    }
}

/// Counts an upstream connection for as long as it is open.
pub struct Open(Arc<WorkerStats>);

impl Open {
    /// One more.
    pub fn new(stats: &Arc<WorkerStats>) -> Self {
        let stats = Arc::clone(stats);
        stats.upstream_connections.inc();
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.upstream_connections.dec();
    }
}
