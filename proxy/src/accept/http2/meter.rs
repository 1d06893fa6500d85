//! Between the HTTP library and the bytes of an HTTP/2 client: shows what comes to the guard, and keeps what waits to be
//! written within its bound, over all streams of the connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use sidetrack_config::limits::Limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Breach, Guard};
use crate::accept::connection::Lifeline;
use crate::accept::wire::Wire;

/// The least room that is worth a frame.
const LEAST: usize = 8 << 10;

/// What is known of the bytes of a connection; shared by who moves them and who answers its streams.
#[derive(Debug)]
pub(super) struct Meter {
    guard: RefCell<Guard>,
    lifeline: Rc<Lifeline>,
    breach: Cell<Option<Breach>>,
    /// Whether the client takes no more bytes for now.
    is_blocked: Cell<bool>,
    /// Bytes given to the library since all that it had was written.
    queued: Cell<usize>,
    most_queued: usize,
    waiting: RefCell<Vec<Waker>>,
}

impl Meter {
    /// Watches a client within `limits`.
    pub(super) fn new(limits: &Limits, lifeline: &Rc<Lifeline>) -> Rc<Self> {
        Rc::new(Self {
            guard: RefCell::new(Guard::new(limits.http2_resets, limits.http2_control_frames, Instant::now())),
            lifeline: Rc::clone(lifeline),
            breach: Cell::new(None),
            is_blocked: Cell::new(false),
            queued: Cell::new(0),
            most_queued: limits.connection_buffer,
            waiting: RefCell::default(),
        })
    }

    /// What the client has done that ends its connection.
    pub(super) fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// Waits until a piece of an answer may be given to the library, and says how large it may be: what is held for all
    /// streams together is bounded, since the windows of a client that reads nothing may be as large as it likes.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let room = self.most_queued.saturating_sub(self.queued.get());
        // Not the last few bytes of it: a frame costs nine, and a record of TLS more.
        if room >= LEAST.min(self.most_queued) && !self.is_blocked.get() {
            return Poll::Ready(room);
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// So many bytes were given to the library.
    pub(super) fn gave(&self, count: usize) {
        self.queued.set(self.queued.get().saturating_add(count));
    }

    /// The library has written what it could. Unless the client takes no more, that was all.
    pub(super) fn settle(&self) {
        if !self.is_blocked.get() {
            self.queued.set(0);
            self.wake();
        }
    }

    /// Lets those who wait look again.
    fn wake(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    fn read(&self, bytes: &[u8]) {
        let mut guard = self.guard.borrow_mut();
        if let Some(breach) = guard.read(bytes, Instant::now) {
            self.breach.set(self.breach.get().or(Some(breach)));
        }
        if guard.is_in_head() {
            self.lifeline.arriving();
        } else {
            self.lifeline.arrived();
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>, pieces: &[&[u8]]) {
        self.is_blocked.set(written.is_pending());
        let Poll::Ready(Ok(mut count)) = *written else { return };
        for piece in pieces {
            let part = piece.get(..count.min(piece.len())).unwrap_or_default();
            count -= part.len();
            self.guard.borrow_mut().wrote(part);
        }
    }
}

/// The bytes of a client, watched.
#[derive(Debug)]
pub(super) struct Metered {
    wire: Wire,
    meter: Rc<Meter>,
}

impl Metered {
    /// `wire`, watched by `meter`.
    pub(super) const fn new(wire: Wire, meter: Rc<Meter>) -> Self {
        Self { wire, meter }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // Nobody will write any more, and nobody shall wait for that.
        self.meter.is_blocked.set(false);
        self.meter.settle();
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.wire).poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            self.meter.read(new);
        }
        if self.meter.breach().is_some() {
            // The library must not act on it; who serves the connection looks here after each step, and ends it.
            buf.set_filled(before);
            return Poll::Pending;
        }
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.meter.wrote(&result, &[buf]);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        // The library writes a head and a body.
        match bufs {
            [one] => self.meter.wrote(&result, &[one]),
            [one, two] => self.meter.wrote(&result, &[one, two]),
            _ => {
                let pieces: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
                self.meter.wrote(&result, &pieces);
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.wire).poll_flush(cx);
        self.meter.is_blocked.set(result.is_pending());
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
