//! The answer's body on its way to the client. When it ends, its connection goes back to the pool; when it stalls,
//! the service's idle time-out ends it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::body::Source;
use super::pool::Lease;
use crate::worker::Worker;

/// Why a body ended before its end; the client sees a cut connection or a reset stream.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream broke off.
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] hyper::Error),
    /// Nothing came for the service's idle time-out.
    #[error("the upstream stalled")]
    Stalled,
    /// The time of its route was over.
    #[error("the time-out of the route is over")]
    Late,
}

/// A body from upstream, and the connection that it comes over.
pub struct UpstreamBody {
    incoming: Incoming,
    /// What is still sent; a connection that is not through with it can't serve another request.
    source: Rc<Source>,
    lease: Option<(Lease, Rc<Worker>)>,
    idle: Duration,
    /// Made when the body is first waited for, so that one that is there at once costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    /// The body `incoming`, which came over `lease`; zero `idle`: it may stall for ever.
    pub fn new(
        incoming: Incoming,
        source: Rc<Source>,
        lease: Lease,
        worker: &Rc<Worker>,
        idle: Duration,
    ) -> Self {
        let mut body = Self { incoming, source, lease: Some((lease, Rc::clone(worker))), idle, timer: None };
        if body.is_end_stream() {
            body.ended();
        }
        body
    }

    fn ended(&mut self) {
        if let Some((lease, worker)) = self.lease.take()
            && self.source.is_done()
        {
            worker.pool.give_back(lease);
        }
    }

    /// Whether the body has stalled for too long.
    fn stalled(&mut self, cx: &mut Context<'_>) -> bool {
        if self.idle.is_zero() {
            return false;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.idle)));
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                let idle = self.idle;
                if let Some(timer) = &mut self.timer {
                    timer.as_mut().reset(Instant::now() + idle);
                }
                if self.is_end_stream() {
                    self.ended();
                }
            }
            Poll::Ready(None) => self.ended(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Pending if self.stalled(cx) => {
                self.lease = None;
                return Poll::Ready(Some(Err(BodyError::Stalled)));
            }
            Poll::Pending => {}
        }
        polled.map_err(BodyError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
