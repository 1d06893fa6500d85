use std::io;
use std::pin::Pin;

use tokio::io::AsyncWrite;

use super::super::output::Output;
use super::*;

/// A socket that takes so many octets at once, and TLS before it that keeps the last ones until it is flushed.
struct Slow {
    takes: usize,
    is_stuck: bool,
    flushed: usize,
    got: Vec<u8>,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let takes = std::mem::take(&mut self.takes).min(bytes.len());
        if takes == 0 {
            return Poll::Pending;
        }
        self.got.extend_from_slice(&bytes[..takes]);
        Poll::Ready(Ok(takes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_stuck {
            return Poll::Pending;
        }
        self.flushed = self.got.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn slow() -> Slow {
    Slow { takes: 0, is_stuck: false, flushed: 0, got: Vec::new() }
}

#[test]
fn what_is_written_is_also_flushed_however_long_that_takes() {
    let (mut out, mut wire) = (Output::default(), slow());
    out.bytes.extend_from_slice(b"the last words");
    (wire.takes, wire.is_stuck) = (100, true);
    assert!(out.poll_write(&mut wire, &mut noop()).is_pending());
    assert!(out.poll_write(&mut wire, &mut noop()).is_pending(), "they are not out yet");
    wire.is_stuck = false;
    assert!(out.poll_write(&mut wire, &mut noop()).is_ready());
    assert_eq!(wire.flushed, 14);
}

#[test]
fn what_a_slow_peer_takes_is_written_in_order_and_counted() {
    let (mut out, mut wire) = (Output::default(), slow());
    let all: Vec<u8> = (0..200_000_u32).map(|at| at as u8).collect();
    out.bytes.extend_from_slice(&all);
    assert_eq!((out.room(), out.position()), (0, 200_000));
    for step in [1, 70_000, 9_999, 80_000] {
        wire.takes = step;
        let before = out.written();
        assert!(out.poll_write(&mut wire, &mut noop()).is_pending());
        assert_eq!(out.written() - before, step as u64);
        assert_eq!(out.position(), 200_000);
    }
    assert_eq!(out.room(), (64 << 10) - 40_000);
    wire.takes = usize::MAX;
    assert!(out.poll_write(&mut wire, &mut noop()).is_ready());
    assert_eq!((out.written(), out.room()), (200_000, 64 << 10));
    assert!(wire.got == all);
}

#[test]
fn the_writer_is_woken_once_until_it_has_looked() {
    let (count, waker) = counted();
    let mut out = Output::default();
    let look = |out: &mut Output| {
        assert!(out.poll_write(&mut slow(), &mut Context::from_waker(&waker)).is_ready());
    };
    out.tell();
    look(&mut out);
    out.tell();
    out.tell();
    assert_eq!(count.take(), 1);
    look(&mut out);
    out.tell();
    assert_eq!(count.take(), 1);
}

#[test]
fn a_peer_that_asks_and_does_not_read_is_not_listened_to() {
    for asks in [settings(&[]), frame(PING, 0, 0, b"12345678"), reset(1, 0)] {
        let mut server = Server::new();
        let _stream = server.opened(true);
        let mut asked = 0;
        while !server.session.borrow().out.is_flooded() && asked < 10_000 {
            server.says(&asks);
            asked += 1;
        }
        // A stream that has gone is reset in vain, and nothing is said to that.
        assert_eq!(asked < 10_000, asks[3] != RESET, "{asked}");
        server.write();
        assert!(!server.session.borrow().out.is_flooded(), "it reads");
    }
}

#[test]
fn nothing_begins_while_the_peer_takes_nothing() {
    let mut server = Server::new();
    let (count, waker) = counted();
    let secret = "x".repeat(1_000);
    let stream = server.opened(false);
    stream.send(&[0; 65_535], false);
    let mut begun = 0;
    // Clients come and go.
    while server.vacancy(&waker).is_ready() && begun < 10_000 {
        drop(server.open(true, &[("cookie", &secret)]));
        begun += 1;
    }
    assert!((50..70).contains(&begun), "{begun}");
    assert_eq!(count.take(), 0);
    server.write();
    assert_eq!(count.take(), 1);
    assert!(server.vacancy(&waker).is_ready());
}
