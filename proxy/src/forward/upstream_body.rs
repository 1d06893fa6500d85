//! The answer's body on its way to the client. When it ends, its connection goes back to the pool; when it stalls,
//! the service's idle time-out ends it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::body;
use super::gap::Gap;
use super::http1::Http1;
use super::http2::Http2;
use super::http2::session::Ended;
use super::http2::stream::Stream;
use super::pool::{Counted, Leased};
use super::rewrite::strip_trailers;
use super::upload::{Stopped, Upload};
use crate::fields::Fields;
use crate::h1::body::Decoder;
use crate::worker::Worker;

/// Why a body ended before its end; the client sees a cut connection or a reset stream.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] std::io::Error),
    /// The upstream broke off, over HTTP/2.
    #[error("the upstream broke off: {0}")]
    Http2(#[from] Ended),
    /// The body of the request broke off.
    #[error("the body of the request broke off")]
    Client,
    /// Nothing came for the service's idle time-out.
    #[error("the upstream stalled")]
    Stalled,
    /// The time of its route was over.
    #[error("the time-out of the route is over")]
    Late,
    /// It would come from elsewhere by now, and its time is over.
    #[error("another target is decided by now")]
    Moved,
}

impl BodyError {
    /// What the client's stream is reset with: what the upstream said of its own, where it did.
    pub fn reset(&self) -> Reason {
        match self {
            // What is not whole must not look so, and what was answered was not refused.
            Self::Http2(Ended::Reset(Reason::NO_ERROR | Reason::REFUSED_STREAM)) => Reason::INTERNAL_ERROR,
            Self::Http2(Ended::Reset(reason)) => *reason,
            Self::Moved => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        }
    }
}

/// A body from upstream, and the connection that it comes over.
pub struct UpstreamBody {
    from: From,
    /// How long nothing may move in either direction.
    idle: Duration,
    gap: Gap,
    /// Bytes of the request that had gone when it was last waited for.
    sent: u64,
}

enum From {
    Http1(FromHttp1),
    Http2(FromHttp2),
}

/// A body over HTTP/1.1.
pub struct FromHttp1 {
    /// The connection, until the body has ended.
    pub lease: Option<Leased<Http1>>,
    /// Reads the body.
    pub decoder: Decoder,
    /// What is still sent: a connection that is not through with it can't serve another request.
    pub upload: Option<Upload>,
    /// Whether the connection may serve another request.
    pub reusable: bool,
    /// Whose pool it is of.
    pub worker: Rc<Worker>,
    /// Bytes that wait to be used.
    pub ready: usize,
}

/// A body over HTTP/2.
pub struct FromHttp2 {
    stream: Stream,
    /// What is still sent.
    upload: Option<body::Upload>,
    _counted: Counted,
}

impl FromHttp1 {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.poll_upload(cx)?;
        let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(0)) };
        let polled = ready!(lease.conn.poll_data(&mut self.decoder, cx));
        match &polled {
            Ok(count) => self.ready = *count,
            Err(_) => self.lease = None,
        }
        self.settle();
        Poll::Ready(polled.map_err(BodyError::Upstream))
    }

    /// Goes on sending what is left of the request.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let (Some(upload), Some(lease)) = (&mut self.upload, &mut self.lease) else { return Ok(()) };
        match upload.poll(&mut lease.conn.wire, cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.upload = None,
            Poll::Ready(Err(Stopped::Upstream(_))) => {
                self.upload = None;
                self.reusable = false;
            }
            Poll::Ready(Err(Stopped::Client)) => {
                self.lease = None;
                return Err(BodyError::Client);
            }
        }
        Ok(())
    }

    /// Gives the connection back when all is over.
    fn settle(&mut self) {
        if self.decoder.is_ended()
            && let Some(lease) = self.lease.take()
            && self.reusable
            && self.upload.is_none()
            && lease.conn.is_through()
        {
            self.worker.pool.give_back(lease);
        }
    }
}

impl FromHttp2 {
    /// What comes over `stream`, while `upload` goes on.
    pub fn new(stream: Stream, upload: Option<body::Upload>, lease: Leased<Http2>) -> Self {
        Self { stream, upload, _counted: lease.split().0 }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.poll_upload(cx)?;
        self.stream.poll_data(cx).map_err(BodyError::Http2)
    }

    /// Goes on sending what is left of the request.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        match self.upload.as_mut().map(|upload| upload.poll(&self.stream, cx)) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(Ok(()))) => self.upload = None,
            Some(Poll::Ready(Err(_))) => return Err(BodyError::Client),
        }
        Ok(())
    }
}

impl UpstreamBody {
    /// The body that `from` brings; zero `idle`: it may stall for ever.
    pub fn http1(mut from: FromHttp1, idle: Duration) -> Box<Self> {
        from.settle();
        Self::new(From::Http1(from), idle)
    }

    /// The same over HTTP/2.
    pub fn http2(from: FromHttp2, idle: Duration) -> Box<Self> {
        Self::new(From::Http2(from), idle)
    }

    /// It goes through many hands, and stays where it is.
    fn new(from: From, idle: Duration) -> Box<Self> {
        Box::write(Box::new_uninit(), Self { from, idle, gap: Gap::default(), sent: 0 })
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// It broke off or stalled.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let polled = match &mut self.from {
            From::Http1(from) => from.poll_data(cx),
            From::Http2(from) => from.poll_data(cx),
        };
        if polled.is_pending() {
            return if self.stalled(cx) { Poll::Ready(Err(BodyError::Stalled)) } else { Poll::Pending };
        }
        self.gap.end();
        polled
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        match &self.from {
            From::Http1(from) => from.lease.as_ref().map_or(&[], |lease| lease.conn.data(from.ready)),
            From::Http2(from) => from.stream.data(),
        }
    }

    /// The first `count` of the bytes that wait were used.
    pub fn consume(&mut self, count: usize) {
        match &mut self.from {
            From::Http1(from) => {
                from.ready = from.ready.saturating_sub(count);
                if let Some(lease) = &mut from.lease {
                    lease.conn.consume(&mut from.decoder, count);
                }
                from.settle();
            }
            From::Http2(from) => drop(from.stream.split(count)),
        }
    }

    /// Takes the first `most` of the bytes that wait, or as many as there are.
    pub fn take(&mut self, most: usize) -> Bytes {
        if let From::Http2(from) = &mut self.from {
            return from.stream.split(most);
        }
        let data = self.data();
        let data = Bytes::copy_from_slice(data.get(..most.min(data.len())).unwrap_or_default());
        self.consume(data.len());
        data
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.from {
            From::Http1(from) => from.decoder.take_trailers().map(strip_trailers),
            From::Http2(from) => from.stream.take_trailers().map(strip_trailers),
        }
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub fn is_ended(&self) -> bool {
        match &self.from {
            From::Http1(from) => from.decoder.is_ended() && !from.decoder.has_trailers(),
            From::Http2(from) => from.stream.is_ended(),
        }
    }

    /// Whether what is here of it may show that it is broken.
    pub fn may_be_broken(&self) -> bool {
        match &self.from {
            From::Http1(from) => {
                let goes_on = from.lease.as_ref().is_some_and(|lease| !lease.conn.is_through());
                !(from.decoder.is_ended() || goes_on && from.decoder.left().is_some())
            }
            From::Http2(from) => !from.stream.is_ended(),
        }
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.from {
            From::Http1(from) => from.decoder.left(),
            From::Http2(from) => from.stream.left(),
        }
    }

    /// Whether the body of the request is still on its way.
    pub const fn is_uploading(&self) -> bool {
        match &self.from {
            From::Http1(from) => from.upload.is_some(),
            From::Http2(from) => from.upload.is_some(),
        }
    }

    /// Lets what still goes upstream go on. A fault of it shows when the answer is asked for.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        let _ = match &mut self.from {
            From::Http1(from) => from.poll_upload(cx),
            From::Http2(from) => from.poll_upload(cx),
        };
    }

    /// Whether nothing has moved for too long.
    fn stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let sent = match &self.from {
            From::Http1(from) => from.upload.as_ref().map_or(0, Upload::sent),
            From::Http2(from) => from.upload.as_ref().map_or(0, body::Upload::sent),
        };
        if std::mem::replace(&mut self.sent, sent) != sent {
            self.gap.end();
        }
        self.gap.is_over(self.idle, cx)
    }
}
