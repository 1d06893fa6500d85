//! The request body on its way upstream: streamed, counted, and recoverable as long as no byte of it was taken.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::accept::body::{Broken, ClientBody};

/// How long a client that expects `100 Continue` is kept waiting for an upstream that does not say it. The time
/// that curl waits by itself; RFC 9110 section 10.1.1 forbids to wait for ever.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Where the body of one request comes from; shared between the attempts to send it.
#[derive(Debug)]
pub struct Source {
    incoming: RefCell<ClientBody>,
    bytes: Cell<u64>,
    touched: Cell<bool>,
    done: Cell<bool>,
    /// The client was cut off in the middle.
    broken: Cell<bool>,
}

impl Source {
    /// Takes the body of a client.
    pub fn new(incoming: ClientBody) -> Self {
        Self {
            incoming: RefCell::new(incoming),
            bytes: Cell::new(0),
            touched: Cell::new(false),
            done: Cell::new(false),
            broken: Cell::new(false),
        }
    }

    /// Whether any of it was read, so that it can't be sent again.
    pub fn is_touched(&self) -> bool {
        self.touched.get()
    }

    /// Whether the client's side of it failed.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.done.get() || self.incoming.borrow().is_end_stream()
    }

    /// Bytes read from the client.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

/// Opens when the upstream says `100 Continue`.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    /// Lets the body go.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[derive(Debug)]
struct Waiting {
    gate: Arc<Gate>,
    at_most: Pin<Box<Sleep>>,
}

/// A request body as one attempt sends it.
#[derive(Debug)]
pub struct RequestBody {
    source: Option<Rc<Source>>,
    waiting: Option<Waiting>,
}

impl RequestBody {
    /// The body of `source`; `None`: no body. With a `gate` it waits for `100 Continue`.
    pub fn new(source: Option<Rc<Source>>, gate: Option<Arc<Gate>>) -> Self {
        let waiting = gate.map(|gate| Waiting { gate, at_most: Box::pin(tokio::time::sleep(CONTINUE_WAIT)) });
        Self { source, waiting }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(waiting) = &mut self.waiting {
            waiting.gate.waker.register(cx.waker());
            let open = waiting.gate.open.load(Ordering::Acquire);
            if !open && waiting.at_most.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.waiting = None;
        }
        let Some(source) = &self.source else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *source.incoming.borrow_mut()).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                source.touched.set(true);
                if let Some(data) = frame.data_ref() {
                    source.bytes.set(source.bytes.get() + u64::try_from(data.len()).unwrap_or(0));
                }
            }
            Poll::Ready(Some(Err(_))) => {
                source.touched.set(true);
                source.broken.set(true);
            }
            Poll::Ready(None) => source.done.set(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.incoming.borrow().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or(SizeHint::with_exact(0), |source| source.incoming.borrow().size_hint())
    }
}
