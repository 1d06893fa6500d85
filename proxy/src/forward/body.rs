//! The request body on its way upstream: streamed, counted, and recoverable as long as no byte of it was used.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::accept::body::{Broken, ClientBody};
use crate::fields::Fields;

/// How long a client that expects `100 Continue` is kept waiting for an upstream that does not say it. The time
/// that curl waits by itself; RFC 9110 section 10.1.1 forbids to wait for ever.
pub const CONTINUE_WAIT: Duration = Duration::from_secs(1);

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

    /// Whether any of it was used, so that it can't be sent again.
    pub fn is_touched(&self) -> bool {
        self.touched.get()
    }

    /// Whether the client's side of it failed.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether all of it was used.
    pub fn is_done(&self) -> bool {
        self.done.get() || self.incoming.borrow().is_ended()
    }

    /// Bytes of it that were used.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.incoming.borrow().left()
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// The client broke off.
    pub fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        let polled = ready!(self.incoming.borrow_mut().poll_data(cx));
        match &polled {
            Ok(0) => self.done.set(true),
            Ok(_) => {}
            Err(_) => {
                self.touched.set(true);
                self.broken.set(true);
            }
        }
        Poll::Ready(polled)
    }

    /// Shows the bytes that wait to `using`, which says how many it has used.
    ///
    /// # Errors
    /// Those of `using`.
    pub fn with_data<E>(&self, using: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        let count = self.incoming.borrow_mut().with_data(using)?;
        if count > 0 {
            self.used(count);
        }
        Ok(count)
    }

    /// Takes all bytes that wait.
    fn take(&self) -> Bytes {
        let data = self.incoming.borrow_mut().take();
        self.used(data.len());
        data
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&self) -> Option<Fields> {
        self.incoming.borrow_mut().take_trailers()
    }

    fn used(&self, count: usize) {
        self.touched.set(true);
        self.bytes.set(self.bytes.get() + u64::try_from(count).unwrap_or(0));
    }

    /// The length that was announced has been used: whatever else would come is no part of the body.
    pub fn complete(&self) {
        self.done.set(true);
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

/// A request body as one attempt sends it over HTTP/2.
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
        Poll::Ready(match ready!(source.poll_data(cx)) {
            Ok(0) => source.take_trailers().map(|trailers| Ok(Frame::trailers(trailers.to_map()))),
            Ok(_) => Some(Ok(Frame::data(source.take()))),
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.incoming.borrow().is_ended())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.source.as_ref().map_or(Some(0), |source| source.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
