//! How a connection ends: what is not written then stays so, and what has come by then is heard.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;
use crate::forward::http1::Open;
use crate::forward::http2::driver::drive;
use crate::forward::http2::{Link, NoAnswer};
use crate::record::metrics::WorkerStats;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A peer that has said something, and has reset the connection since.
struct Broken(Vec<u8>);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.0.len().min(buffer.remaining());
        buffer.put_slice(&self.0.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_came_before_a_write_failed_is_heard() {
    let mut server = Server::new();
    let mut stream = server.opened(false);
    let section = server.section(&[(":status", "413")]);
    let answer = [frame(HEADERS, END_HEADERS | END_STREAM, 1, &section), reset(1, 0)].concat();
    stream.send(&[0; 1000], false);
    let session = Rc::clone(&server.session);
    run(drive(session, Broken(answer), Open::new(&Arc::new(WorkerStats::default()))));
    assert_eq!(status(&mut stream), Ok(413));
    assert!(server.session.borrow().is_ended());
}

/// A request that was said not to have been written, and was sent elsewhere, came to the peer with the last words.
#[test]
fn what_was_not_written_stays_so() {
    run(async {
        let (ours, mut theirs) = tokio::io::duplex(2_000);
        let now = tokio::time::Instant::now();
        let mut link = Link::open(1, ours, &Arc::new(WorkerStats::default()), now);
        theirs.write_all(&settings(&[])).await.unwrap();
        let send = |link: &mut Link, name: &'static str, value: String| {
            let stream = link.stream(now).unwrap();
            spawn_local(async move {
                let write = |encoder: &mut Encoder, out: &mut Vec<u8>| {
                    encoder.line(out, name.as_bytes(), tag(name.as_bytes()), value.as_bytes());
                };
                stream.exchange(false, write, None, false, |_, _| {}).await.map(|_| ())
            })
        };
        // The first takes all the room there is on the way, and the other waits behind it.
        let first = send(&mut link, "x-big", "x".repeat(3_000));
        let second = send(&mut link, "x-order", "once".to_owned());
        for _ in 0..20 {
            yield_now().await;
        }
        theirs.write_all(&update(0, 0)).await.unwrap();
        assert!(matches!(first.await.unwrap(), Err(NoAnswer::Ended { .. })));
        let lost = second.await.unwrap();
        assert!(matches!(lost, Err(NoAnswer::Ended { is_written: false, .. })), "{lost:?}");
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        let has = |text: &[u8]| all.windows(text.len()).any(|window| window == text);
        assert!(has(b"x-big") && !has(b"x-order"));
    });
}

#[test]
fn a_peer_that_says_nothing_while_somebody_waits_is_doubted_until_it_does() {
    let mut server = Server::new();
    drop(server.opened(true));
    server.heard();
    assert!(!server.session.borrow().is_doubted(), "who leaves at once has not waited");
    let mut waited = |octets_come: u64| {
        let stream = server.opened(true);
        server.session.borrow_mut().ticks += 1;
        server.session.borrow_mut().read += octets_come;
        drop(stream);
        server.heard();
        server.session.borrow().is_doubted()
    };
    assert!(!waited(17), "something came meanwhile");
    assert!(waited(0));
    server.session.borrow_mut().read += 1;
    assert!(!server.session.borrow().is_doubted());
}
