//! The request body on its way upstream: streamed, counted, and recoverable as long as no byte of it was used, or the first
//! piece alone for an upstream that says that it has not processed the request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use super::gap::Gap;
use super::http2::stream::Stream;
use super::rewrite::strip_trailers;
use crate::accept::body::{Broken, ClientBody};
use crate::error::Failure;
use crate::fields::Fields;
use crate::identify::is_twin;

/// How long a client that expects `100 Continue` is kept waiting for an upstream that does not say it. The time
/// that curl waits by itself; RFC 9110 section 10.1.1 forbids to wait for ever.
pub const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Where the body of one request comes from; shared between the attempts to send it.
#[derive(Debug)]
pub struct Source {
    incoming: RefCell<ClientBody>,
    /// What was used first, as long as that is all, and no answer has begun.
    first: RefCell<Option<Bytes>>,
    /// What was used and is to be used again.
    again: RefCell<Bytes>,
    bytes: Cell<u64>,
    touched: Cell<bool>,
    done: Cell<bool>,
    /// Why the client's side of it failed.
    broken: RefCell<Option<Broken>>,
    /// The most bytes of it; zero: any number.
    most: u64,
    /// How long nothing may come of it; zero: for ever.
    patience: Cell<Duration>,
    gap: RefCell<Gap>,
    /// What trailers may not say either.
    own_fields: Rc<[Box<str>]>,
}

impl Source {
    /// Takes the body of a client, of at most so many bytes (zero: any number), that may say nothing for `patience`, and whose
    /// trailers say nothing of `own_fields`.
    ///
    /// # Errors
    /// `request_too_large` where its head says that it is longer.
    pub fn new(
        incoming: ClientBody,
        most: u64,
        patience: Duration,
        own_fields: &Rc<[Box<str>]>,
    ) -> Result<Self, Failure> {
        if most > 0 && incoming.left().is_some_and(|left| left > most) {
            return Err(Broken::TooLarge(most).failure());
        }
        Ok(Self {
            incoming: RefCell::new(incoming),
            first: RefCell::default(),
            again: RefCell::default(),
            bytes: Cell::new(0),
            touched: Cell::new(false),
            done: Cell::new(false),
            broken: RefCell::new(None),
            most,
            patience: Cell::new(patience),
            gap: RefCell::default(),
            own_fields: Rc::clone(own_fields),
        })
    }

    /// Whether any of it was used, so that it can't be sent again.
    pub fn is_touched(&self) -> bool {
        self.touched.get()
    }

    /// Takes back what was used, since nobody has processed it; whether all of it is there again.
    pub fn restore(&self) -> bool {
        if let Some(first) = self.first.take() {
            self.again.replace(first);
            self.bytes.set(0);
            self.touched.set(false);
        }
        !self.touched.get()
    }

    /// What the client is told where its side of it failed.
    pub fn failure(&self) -> Failure {
        match &*self.broken.borrow() {
            Some(broken) => broken.failure(),
            None => Broken::Io(io::ErrorKind::UnexpectedEof.into()).failure(),
        }
    }

    /// The answer has begun: its own idle time-out bounds the exchange from now on, and a client that only listens may be
    /// silent.
    pub fn be_patient(&self) {
        self.first.take();
        self.patience.set(Duration::ZERO);
    }

    /// Whether all of it was used.
    pub fn is_done(&self) -> bool {
        self.again.borrow().is_empty() && (self.done.get() || self.incoming.borrow().is_ended())
    }

    /// Bytes of it that were used.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// How many bytes are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        let again = u64::try_from(self.again.borrow().len()).unwrap_or(u64::MAX);
        self.incoming.borrow().left().map(|left| left.saturating_add(again))
    }

    /// Waits for bytes, and says how many there are; zero: the body has ended.
    ///
    /// # Errors
    /// The client broke off, says nothing, or says too much; [`Source::failure`] has the answer to that.
    pub fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Result<usize, ()>> {
        let again = self.again.borrow().len();
        if again > 0 {
            return Poll::Ready(Ok(again));
        }
        let mut gap = self.gap.borrow_mut();
        let broken = match self.incoming.borrow_mut().poll_data(cx) {
            Poll::Ready(Ok(0)) => {
                self.done.set(true);
                return Poll::Ready(Ok(0));
            }
            Poll::Ready(Ok(count)) if self.most == 0 || self.used_with(count) <= self.most => {
                gap.end();
                return Poll::Ready(Ok(count));
            }
            Poll::Ready(Ok(_)) => Broken::TooLarge(self.most),
            Poll::Ready(Err(broken)) => broken,
            Poll::Pending if gap.is_over(self.patience.get(), cx) => Broken::Stalled(self.patience.get()),
            Poll::Pending => return Poll::Pending,
        };
        self.touched.set(true);
        self.first.take();
        self.broken.replace(Some(broken));
        Poll::Ready(Err(()))
    }

    /// Bytes that were used once `count` more are.
    fn used_with(&self, count: usize) -> u64 {
        self.bytes.get().saturating_add(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Shows the bytes that wait to `using`, which says how many it has used.
    ///
    /// # Errors
    /// Those of `using`.
    pub fn with_data<E>(&self, using: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        let mut again = self.again.borrow_mut();
        let count = if again.is_empty() {
            self.incoming.borrow_mut().with_data(using)?
        } else {
            let count = using(&again)?;
            let used = count.min(again.len());
            again.split_to(used).len()
        };
        if count > 0 {
            self.first.take();
            self.used(count);
        }
        Ok(count)
    }

    /// Takes all bytes that wait.
    fn take(&self) -> Bytes {
        let again = self.again.take();
        let data = if again.is_empty() { self.incoming.borrow_mut().take() } else { again };
        let is_first = self.bytes.get() == 0 && !self.touched.get();
        self.first.replace(is_first.then(|| data.clone()));
        self.used(data.len());
        data
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&self) -> Option<Fields> {
        let trailers = self.incoming.borrow_mut().take_trailers()?;
        self.first.take();
        let mut trailers = strip_trailers(trailers);
        // Some services read both as one.
        for ours in &*self.own_fields {
            trailers.retain(|name| !is_twin(name, ours.as_bytes()));
        }
        Some(trailers)
    }

    fn used(&self, count: usize) {
        self.touched.set(true);
        self.bytes.set(self.used_with(count));
    }

    /// The length that was announced has been used: whatever else would come is no part of the body.
    pub fn complete(&self) {
        self.done.set(true);
    }
}

/// The body of a request on its way over HTTP/2.
pub struct Upload {
    source: Rc<Source>,
    /// What was taken of the source, and waits for the upstream's windows.
    piece: Bytes,
    /// The client waits for `100 Continue`, and so does its body, for as long as this.
    gate: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// The body of `source` for a stream whose head is sent; with `expects` it waits for [`Upload::open`].
    pub fn new(source: Rc<Source>, expects: bool) -> Self {
        let gate = expects.then(|| Box::pin(tokio::time::sleep(CONTINUE_WAIT)));
        Self { source, piece: Bytes::new(), gate }
    }

    /// The upstream wants the body.
    pub fn open(&mut self) {
        self.gate = None;
    }

    /// Whether the body still waits to be asked for.
    pub const fn is_held(&self) -> bool {
        self.gate.is_some()
    }

    /// Bytes of the body that have gone.
    pub fn sent(&self) -> u64 {
        self.source.bytes()
    }

    /// Sends as much over `stream` as there is and the upstream takes; ready when there is nothing more to send, be it that
    /// the upstream wants no more: what it thinks of the request its answer says, or the fault of its stream.
    ///
    /// # Errors
    /// The client broke off.
    pub fn poll(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        loop {
            while !self.piece.is_empty() {
                let Some(room) = ready!(stream.poll_room(cx)) else { return Poll::Ready(Ok(())) };
                let part = self.piece.split_to(room.min(self.piece.len()));
                let is_last = self.piece.is_empty() && self.source.is_done();
                stream.send(&part, is_last);
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            if ready!(self.source.poll_data(cx))? == 0 {
                match self.source.take_trailers() {
                    Some(trailers) => stream.send_trailers(&trailers),
                    None => stream.send(&[], true),
                }
                return Poll::Ready(Ok(()));
            }
            self.piece = self.source.take();
        }
    }
}
