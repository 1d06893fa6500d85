//! Read buffers, from a pool of the thread: a connection holds one only while there is something in it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a buffer that the pool knows: a head and a small body, or one TLS record.
pub const SIZE: usize = 16 << 10;

/// Buffers that a thread keeps for the next connection: 1 MiB.
const SPARE: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is in it.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Lets the first `count` bytes go.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for more; `false` where `limit` bytes are in it.
    fn has_room(&mut self, limit: usize) -> bool {
        let held = self.end - self.start;
        if self.end < self.bytes.len() {
            return held < limit;
        }
        if held >= limit {
            return false;
        }
        if self.bytes.is_empty() {
            self.bytes = take();
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            // It is full, so that the limit is beyond what the pool has.
            let mut larger = vec![0; limit.min(self.bytes.len().saturating_mul(4))].into_boxed_slice();
            if let Some(place) = larger.get_mut(..held) {
                place.copy_from_slice(self.filled());
            }
            self.give_back();
            self.bytes = larger;
        }
        (self.start, self.end) = (0, held);
        true
    }

    /// Reads once. Zero: the other side has ended. Holds no memory while it waits with nothing read.
    ///
    /// # Errors
    /// Those of reading; `OutOfMemory` where `limit` bytes wait already.
    pub fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.has_room(limit) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let mut free = ReadBuf::new(self.bytes.get_mut(self.end..).unwrap_or_default());
        let polled = Pin::new(from).poll_read(cx, &mut free);
        let count = free.filled().len();
        self.end += count;
        if self.is_empty() {
            self.give_back();
        }
        ready!(polled)?;
        Poll::Ready(Ok(count))
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        (self.start, self.end) = (0, 0);
        if bytes.len() == SIZE {
            POOL.with_borrow_mut(|pool| {
                if pool.len() < SPARE {
                    pool.push(bytes);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn take() -> Box<[u8]> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

/// A byte stream of which some was read before: that comes first.
#[derive(Debug)]
pub struct Rejoined<S> {
    /// What was read before.
    pub read: Buffer,
    /// What follows.
    pub stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rejoined<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.read.filled().len().min(buf.remaining());
        buf.put_slice(self.read.filled().get(..count).unwrap_or_default());
        self.read.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Rejoined<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn grows_to_its_limit_and_gives_memory_back() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut buffer = Buffer::default();
        let mut from: &[u8] = &[7; 100_000];
        let mut total = 0;
        while let Poll::Ready(Ok(count)) = buffer.poll_read(&mut from, &mut cx, 40_000) {
            total += count;
        }
        assert_eq!((total, buffer.filled().len()), (40_000, 40_000));
        buffer.consume(39_999);
        assert_eq!(buffer.filled(), [7]);
        buffer.consume(5);
        assert!(buffer.is_empty());
        let mut end: &[u8] = &[];
        assert!(matches!(buffer.poll_read(&mut end, &mut cx, SIZE), Poll::Ready(Ok(0))));
        assert!(buffer.bytes.is_empty(), "nothing is held while nothing is in it");
    }

    #[test]
    fn what_is_left_moves_to_the_front() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut buffer = Buffer::default();
        let mut full: &[u8] = &[1; SIZE];
        assert!(matches!(buffer.poll_read(&mut full, &mut cx, SIZE), Poll::Ready(Ok(SIZE))));
        buffer.consume(SIZE - 2);
        let mut from: &[u8] = &[2; 10];
        assert!(matches!(buffer.poll_read(&mut from, &mut cx, SIZE), Poll::Ready(Ok(10))));
        assert_eq!(buffer.filled(), [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
