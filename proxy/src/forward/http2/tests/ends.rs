//! How a connection ends: what is not written then stays so, and what has come by then is heard.

use std::io;
use std::pin::Pin;
use std::time::Duration;

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
                stream.exchange(false, write, None, false, Duration::ZERO, |_, _| {}).await.map(|_| ())
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
    let mut waited = |ticks: u32, octets_come: u64| {
        let stream = server.opened(true);
        server.session.borrow_mut().ticks += ticks;
        server.session.borrow_mut().read += octets_come;
        drop(stream);
        server.heard();
        server.session.borrow().is_doubted()
    };
    assert!(!waited(2, 17), "something came meanwhile");
    assert!(!waited(1, 0), "a tick may fall between any two moments");
    assert!(waited(2, 0));
    server.session.borrow_mut().read += 1;
    assert!(!server.session.borrow().is_doubted());
}

/// Those that it would refuse would have begun to send their bodies.
#[test]
fn one_stream_is_opened_before_the_peer_says_how_many_it_takes() {
    let mut server = Server::silent();
    let (count, waker) = counted();
    assert!(server.vacancy(&waker).is_ready());
    let _first = server.opened(true);
    assert!(server.vacancy(&waker).is_pending());
    server.says(&settings(&[(3, 2)]));
    assert_eq!(count.take(), 1);
    assert!(server.vacancy(&waker).is_ready());
}

/// Who was lent a stream before that goes elsewhere, and so does, after a while, who is let in by nobody.
#[test]
fn who_has_no_place_does_not_wait_behind_those_who_have() {
    run(async {
        for (said, why) in [
            (Some(settings(&[(3, 1)])), Ended::Left(h2::Reason::NO_ERROR)),
            (None, Ended::Closed(io::ErrorKind::TimedOut)),
            (Some(settings(&[(3, 0)])), Ended::Closed(io::ErrorKind::TimedOut)),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(2_000);
            let now = tokio::time::Instant::now();
            let mut link = Link::open(1, ours, &Arc::new(WorkerStats::default()), now);
            let ask = |link: &mut Link| {
                link.streams().set(link.streams().get() + 1);
                let stream = link.stream(now).unwrap();
                let patience = Duration::from_millis(20);
                spawn_local(async move {
                    stream.exchange(false, |_, _| {}, None, false, patience, |_, _| {}).await.map(|_| ())
                })
            };
            let first = ask(&mut link);
            let second = ask(&mut link);
            yield_now().await;
            if let Some(said) = said {
                theirs.write_all(&said).await.unwrap();
            }
            let lost = second.await.unwrap();
            assert!(
                matches!(lost, Err(NoAnswer::Ended { why: met, is_written: false, .. }) if met == why),
                "{lost:?}"
            );
            assert!(!first.is_finished(), "what is under way goes on");
            first.abort();
        }
    });
}

/// All others on the connection would end with it.
#[test]
fn a_head_that_is_too_long_ends_its_stream_alone() {
    let mut server = Server::new();
    let (mut long, mut other) = (server.opened(true), server.opened(true));
    let value = "x".repeat(90_000);
    let section = server.section(&[(":status", "200"), ("x-big", &value)]);
    let mut pieces = section.chunks(16_000);
    server.says(&frame(HEADERS, 0, 1, pieces.next().unwrap()));
    let pieces: Vec<_> = pieces.collect();
    for (at, piece) in pieces.iter().enumerate() {
        let flags = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        server.says(&frame(CONTINUATION, flags, 1, piece));
    }
    assert!(matches!(status(&mut long), Err(Ended::Malformed(_))));
    server.answers(3, &[(":status", "204")], true);
    assert_eq!(status(&mut other), Ok(204));
}
