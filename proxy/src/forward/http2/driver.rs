//! Moves the bytes of one connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{HEAD, PAYLOAD};
use super::session::Session;
use crate::forward::http1::Open;
use crate::h1::buffer::Buffer;

/// How long a connection may take to its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Moves bytes until the connection has ended, which `open` counts until then.
pub(super) async fn drive<W: AsyncRead + AsyncWrite + Unpin>(
    session: Rc<RefCell<Session>>,
    mut wire: W,
    open: Open,
) {
    let mut input = Buffer::default();
    let ended = poll_fn(|cx| poll(&mut session.borrow_mut(), &mut wire, &mut input, cx)).await;
    match ended {
        Ok(()) => session.borrow_mut().leave_peer(),
        Err(why) => session.borrow_mut().close(why),
    }
    let last = poll_fn(|cx| {
        ready!(session.borrow_mut().out.poll_write(&mut wire, cx))?;
        Pin::new(&mut wire).poll_shutdown(cx)
    });
    // Where they can't be said nobody hears them.
    let _ = tokio::time::timeout(LAST_WORDS, last).await;
    drop(open);
}

/// Writes what waits and reads what comes, until nothing is left to do.
fn poll<W: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session,
    wire: &mut W,
    input: &mut Buffer,
    cx: &mut Context<'_>,
) -> Poll<Result<(), io::ErrorKind>> {
    loop {
        match session.out.poll_write(wire, cx) {
            Poll::Ready(Err(error)) => {
                // The peer may have answered before it closed.
                while let Poll::Ready(Ok(1..)) = hear(session, wire, input, cx) {}
                return Poll::Ready(Err(error.kind()));
            }
            Poll::Ready(Ok(())) => session.written(),
            Poll::Pending => session.wrote(),
        }
        if session.is_through() {
            return Poll::Ready(Ok(()));
        }
        // Who asks again and again and does not take the answers is not listened to.
        if session.out.is_flooded() {
            return Poll::Pending;
        }
        match ready!(hear(session, wire, input, cx)) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof)),
            Err(error) => return Poll::Ready(Err(error.kind())),
            Ok(_) => {}
        }
    }
}

/// Reads what comes; zero: nothing more does.
fn hear<W: AsyncRead + Unpin>(
    session: &mut Session,
    wire: &mut W,
    input: &mut Buffer,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let count = ready!(input.poll_read(wire, cx, HEAD + PAYLOAD))?;
    session.read += u64::try_from(count).unwrap_or(u64::MAX);
    let used = session.receive(input.filled());
    input.consume(used);
    Poll::Ready(Ok(count))
}
