//! A request on its way over an HTTP/1.1 connection: its head, and its body as it comes from the client.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Sleep;

use super::Wire;
use super::body::{CONTINUE_WAIT, Source};
use crate::h1::write;

/// The most bytes of chunks that wait to be written.
const PIECE: usize = 16 << 10;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no more of it.
    Ended,
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The client broke off.
    Client,
    /// The upstream takes no more.
    Upstream(io::Error),
}

/// One request on its way.
pub struct Upload {
    out: Vec<u8>,
    at: usize,
    source: Rc<Source>,
    framing: Framing,
    /// The client waits for `100 Continue`, and so does its body, for as long as this.
    gate: Option<Pin<Box<Sleep>>>,
    written: u64,
}

impl Upload {
    /// Begins with `head`; with `expects` the body waits for [`Upload::open`].
    pub fn new(head: Vec<u8>, source: Rc<Source>, framing: Framing, expects: bool) -> Self {
        let gate = expects.then(|| Box::pin(tokio::time::sleep(CONTINUE_WAIT)));
        Self { out: head, at: 0, source, framing, gate, written: 0 }
    }

    /// The upstream wants the body.
    pub fn open(&mut self) {
        self.gate = None;
    }

    /// Whether the body still waits to be asked for.
    pub const fn is_held(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether all is sent, as far as that is known.
    pub fn is_sent(&self) -> bool {
        self.framing == Framing::Ended && self.out.is_empty()
    }

    /// Bytes of the body that have gone.
    pub fn sent(&self) -> u64 {
        self.source.bytes()
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Sends as much as there is and the upstream takes; ready when all is sent.
    ///
    /// # Errors
    /// Why it can't go on.
    pub fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            self.gather(cx)?;
            let head = self.out.get(self.at..).unwrap_or_default();
            let from_head = head.len();
            let mut pending = false;
            let mut count = 0;
            let mut put = |body: &[u8]| -> Result<usize, Stopped> {
                if head.is_empty() && body.is_empty() {
                    return Ok(0);
                }
                match write_both(wire, cx, head, body) {
                    Poll::Ready(Ok(0)) => Err(Stopped::Upstream(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        count = written;
                        Ok(written.saturating_sub(from_head))
                    }
                    Poll::Ready(Err(error)) => Err(Stopped::Upstream(error)),
                    Poll::Pending => {
                        pending = true;
                        Ok(0)
                    }
                }
            };
            let of_body = match self.framing {
                Framing::Length(left) => self.source.with_data(|data| {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    put(data.get(..most).unwrap_or_default())
                })?,
                _ => put(&[])?,
            };
            if pending {
                return Poll::Pending;
            }
            if count == 0 {
                break;
            }
            self.wrote(count, of_body);
        }
        ready!(Pin::new(wire).poll_flush(cx)).map_err(Stopped::Upstream)?;
        if self.framing == Framing::Ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn wrote(&mut self, count: usize, of_body: usize) {
        self.written += u64::try_from(count).unwrap_or(0);
        self.at += count - of_body;
        if self.at >= self.out.len() {
            self.out.clear();
            self.at = 0;
        }
        if let Framing::Length(left) = &mut self.framing {
            *left = left.saturating_sub(u64::try_from(of_body).unwrap_or(u64::MAX));
        }
    }

    /// Gets what there is of the body. Chunks are put together here; a body with a length is written from where it
    /// lies.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Stopped> {
        if let Some(gate) = &mut self.gate {
            if gate.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.gate = None;
        }
        match self.framing {
            Framing::Ended => {}
            Framing::Length(0) => {
                self.source.complete();
                self.framing = Framing::Ended;
            }
            Framing::Length(_) => match self.source.poll_data(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Err(Stopped::Client),
                Poll::Pending => {}
            },
            // The head goes first and alone: as long as nothing is written, no byte of the body must be used.
            Framing::Chunked if self.written == 0 => {}
            Framing::Chunked => self.chunks(cx)?,
        }
        Ok(())
    }

    fn chunks(&mut self, cx: &mut Context<'_>) -> Result<(), Stopped> {
        while self.out.len() - self.at < PIECE {
            match self.source.poll_data(cx) {
                Poll::Ready(Ok(0)) => {
                    write::last_chunk(&mut self.out, self.source.take_trailers().as_ref());
                    self.framing = Framing::Ended;
                    break;
                }
                Poll::Ready(Ok(_)) => {
                    let out = &mut self.out;
                    self.source.with_data(|data| {
                        write::chunk(out, data);
                        Ok::<usize, Stopped>(data.len())
                    })?;
                }
                Poll::Ready(Err(_)) => return Err(Stopped::Client),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

fn write_both(wire: &mut Wire, cx: &mut Context<'_>, head: &[u8], body: &[u8]) -> Poll<io::Result<usize>> {
    match (head, body) {
        (_, []) => Pin::new(wire).poll_write(cx, head),
        ([], _) => Pin::new(wire).poll_write(cx, body),
        _ => Pin::new(wire).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
    }
}
