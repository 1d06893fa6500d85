//! What waits to be written to a peer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;

/// Octets that wait before no more of any body is taken.
const MOST: usize = 64 << 10;
/// Octets of replies that wait before nothing more is heard of a peer that asks and does not read.
const REPLIES: usize = 16 << 10;
/// The memory that is kept for what comes next.
const KEPT: usize = 16 << 10;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Frames, one behind the other.
    pub(super) bytes: Vec<u8>,
    /// How many of them are written.
    at: usize,
    /// Octets that were ever written.
    written: u64,
    /// How far what waits holds replies to the peer.
    replies: usize,
    /// Who writes.
    writer: Option<Waker>,
    is_told: bool,
    /// What is written may not be out yet: TLS keeps what the socket does not take.
    is_unflushed: bool,
    /// Octets before those that wait were let go of.
    is_cut: bool,
}

impl Output {
    /// Lets the writer look at what waits.
    pub(super) fn tell(&mut self) {
        if !std::mem::replace(&mut self.is_told, true)
            && let Some(writer) = &self.writer
        {
            writer.wake_by_ref();
        }
    }

    /// Where a reply is written, which the peer has asked for. Who reads what comes writes it behind that.
    pub(super) fn reply(&mut self) -> &mut Vec<u8> {
        // More than any of them has.
        self.replies += 32;
        &mut self.bytes
    }

    /// How much of bodies may be added.
    pub(super) const fn room(&self) -> usize {
        MOST.saturating_sub(self.bytes.len() - self.at)
    }

    /// Whether a head may be added: what waits of bodies alone keeps none from it.
    pub(super) const fn takes_heads(&self) -> bool {
        self.bytes.len() - self.at < 2 * MOST
    }

    /// Whether the peer asks and does not read.
    pub(super) const fn is_flooded(&self) -> bool {
        self.replies > REPLIES
    }

    /// Octets that will be written before the next one that is added.
    pub(super) fn position(&self) -> u64 {
        self.written + u64::try_from(self.bytes.len() - self.at).unwrap_or(u64::MAX)
    }

    /// Octets that are written.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Lets go of what waits: who sent it is told that it was not written, and may send it elsewhere. Whether what was
    /// written ends with a whole frame, so that last words can follow.
    pub(super) fn discard(&mut self) -> bool {
        let is_whole = self.at == 0 && !self.is_cut;
        self.bytes.clear();
        self.at = 0;
        is_whole
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// Those of the peer.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_told = false;
        if !self.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
            self.writer = Some(cx.waker().clone());
        }
        if self.bytes.is_empty() && !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            let polled = Pin::new(&mut *to).poll_write(cx, rest);
            if polled.is_pending() && self.at > MOST {
                self.bytes.drain(..self.at);
                self.at = 0;
                self.is_cut = true;
            }
            match ready!(polled)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.is_unflushed = true;
                    self.at += count;
                    self.written += u64::try_from(count).unwrap_or(u64::MAX);
                }
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        (self.at, self.replies, self.is_cut) = (0, 0, false);
        ready!(Pin::new(to).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }
}
