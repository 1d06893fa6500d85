//! An answer as HTTP/1.1 writes it.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::io::Io;
use crate::fields::{Fields, Skips};
use crate::forward::gap::Gap;
use crate::h1::response::has_no_body;
use crate::h1::write;
use crate::record::ResponseBody;

/// The most bytes of chunks that wait to be written.
const PIECE: usize = 16 << 10;
/// The most bytes of head and body that are put together. To write two pieces at once costs the system more than that, and
/// TLS makes a record of each.
const JOINED: usize = 4 << 10;
/// Room for the head of a common answer and a small body. The allocator has a quick way to no more than 1 KiB.
const COMMON: usize = 1000;

/// How a client wants its answer.
#[derive(Debug, Default)]
pub struct Answering {
    /// Whether the connection may stay open.
    pub persists: bool,
    /// Whether the client speaks HTTP/1.0: no chunks, and the connection stays only if we say so.
    pub is_http10: bool,
    /// Whether it asked for the head only.
    pub is_head: bool,
    /// How long it may take nothing; zero: for ever.
    pub patience: Duration,
    /// For an answer that has no `Date`.
    pub date: Option<HeaderValue>,
}

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By its length, or by the end of the connection: its bytes go as they are.
    Plain,
    Chunked,
    /// There is none, or all of it is on its way.
    Ended,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Message {
    framing: Framing,
    persists: bool,
    patience: Duration,
    gap: Gap,
    /// Bytes that had gone over the connection when it was last waited for.
    sent: u64,
}

/// Why an answer was not written to its end; the connection can only be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// The client has gone, or the answer broke off.
    Broken,
    /// The client took nothing for too long.
    Stalled,
}

impl Answering {
    /// Writes the head.
    pub fn begin(self, io: &mut Io, status: StatusCode, fields: &Fields, body: &ResponseBody) -> Message {
        let is_upgrade = status == StatusCode::SWITCHING_PROTOCOLS;
        let bare = is_upgrade || has_no_body(status, self.is_head);
        let left = body.left();
        let framing = match left {
            _ if bare => Framing::Ended,
            Some(0) => Framing::Ended,
            Some(_) => Framing::Plain,
            None if self.is_http10 => Framing::Plain,
            None => Framing::Chunked,
        };
        let says_close = fields.get("connection") == Some(b"close");
        // A body that nobody has read ends the connection, unless it is here and can be thrown away.
        let unread = !body.is_uploading() && !io.discard();
        let until_close = left.is_none() && self.is_http10 && !bare;
        let persists = self.persists && !says_close && !unread && !until_close;
        let out = &mut io.output;
        out.reserve(COMMON);
        write::status_line(out, status);
        // What we say of framing and of the connection we say by ourselves.
        match (is_upgrade, self.is_head || status == StatusCode::NOT_MODIFIED) {
            (true, _) => fields.write(out, const { Skips::new(["transfer-encoding", "content-length"]) }),
            (false, true) => fields.write(out, const { Skips::new(["transfer-encoding", "connection"]) }),
            (false, false) => {
                fields.write(out, const { Skips::new(["transfer-encoding", "connection", "content-length"]) })
            }
        }
        match framing {
            Framing::Chunked => write::field(out, "transfer-encoding", b"chunked"),
            _ if bare => {}
            _ => {
                if let Some(length) = left {
                    write::content_length(out, length);
                }
            }
        }
        if let Some(date) = self.date.filter(|_| !fields.contains("date")) {
            write::field(out, "date", date.as_bytes());
        }
        match persists {
            _ if is_upgrade => {}
            true if self.is_http10 => write::field(out, "connection", b"keep-alive"),
            true => {}
            false => write::field(out, "connection", b"close"),
        }
        out.extend_from_slice(b"\r\n");
        Message { framing, persists, patience: self.patience, gap: Gap::default(), sent: 0 }
    }
}

impl Message {
    /// Whether the connection may serve another request.
    pub const fn persists(&self) -> bool {
        self.persists
    }

    /// Writes as much as there is and the client takes; ready when all is written.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn poll(
        &mut self,
        io: &RefCell<Io>,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unwritten>> {
        let written = self.poll_write(io, body, cx);
        if written.is_pending() {
            // While the client takes nothing, what it sends may still go on, and have its turn.
            body.drive(cx);
            let sent = io.borrow().sent();
            if std::mem::replace(&mut self.sent, sent) != sent {
                self.gap.end();
            }
            if body.is_over(cx) {
                return Poll::Ready(Err(Unwritten::Broken));
            }
            let waits_for_client =
                self.framing == Framing::Ended || io.borrow().waiting() > 0 || !body.data().is_empty();
            if waits_for_client && self.gap.is_over(self.patience, cx) {
                return Poll::Ready(Err(Unwritten::Stalled));
            }
        }
        written.map_err(|()| Unwritten::Broken)
    }

    fn poll_write(
        &mut self,
        io: &RefCell<Io>,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        loop {
            let waits = match self.framing {
                Framing::Ended => false,
                Framing::Plain => match body.poll_data(cx) {
                    Poll::Ready(Ok(0)) => {
                        self.framing = Framing::Ended;
                        false
                    }
                    Poll::Ready(Ok(_)) => false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                    Poll::Pending => true,
                },
                Framing::Chunked => self.gather(io, body, cx)?,
            };
            let io = &mut *io.borrow_mut();
            let data = if self.framing == Framing::Plain { body.data() } else { &[] };
            if io.waiting() == 0 && data.is_empty() {
                return match (self.framing, io.poll_flush(cx)) {
                    (_, Poll::Ready(Err(_))) => Poll::Ready(Err(())),
                    (Framing::Ended, flushed) => flushed.map(|_| Ok(())),
                    // Nothing to write, and nothing has come: only here a client that goes is not seen by itself.
                    _ if waits && io.is_gone(cx) => Poll::Ready(Err(())),
                    _ if waits => Poll::Pending,
                    _ => continue,
                };
            }
            if io.waiting() > 0 && !data.is_empty() && io.waiting() + data.len() <= JOINED {
                io.output.extend_from_slice(data);
                let count = data.len();
                self.used(body, count);
                continue;
            }
            match io.poll_write(cx, data) {
                Poll::Ready(Ok(count)) => self.used(body, count),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// `count` bytes of the body are on their way.
    fn used(&mut self, body: &mut ResponseBody, count: usize) {
        body.consume(count);
        if self.framing == Framing::Plain && body.is_ended() {
            self.framing = Framing::Ended;
        }
    }

    /// Puts chunks together from what there is; whether more is waited for.
    fn gather(
        &mut self,
        io: &RefCell<Io>,
        body: &mut ResponseBody,
        cx: &mut Context<'_>,
    ) -> Result<bool, ()> {
        while io.borrow().waiting() < PIECE {
            match body.poll_data(cx) {
                Poll::Ready(Ok(0)) => {
                    write::last_chunk(&mut io.borrow_mut().output, body.take_trailers().as_ref());
                    self.framing = Framing::Ended;
                    return Ok(false);
                }
                Poll::Ready(Ok(count)) => {
                    write::chunk(&mut io.borrow_mut().output, body.data());
                    body.consume(count);
                }
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(true),
            }
        }
        // While the client takes nothing, what it sends may still go on.
        body.drive(cx);
        Ok(false)
    }
}
