//! HTTP/1.1 on the client's side: one task reads a request, walks it and writes the answer, then the next.

pub mod answer;
pub mod io;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use self::answer::{Answering, Unwritten};
use self::io::{Io, Shared, Upgraded};
use super::body::ClientBody;
use super::connection::{Connection, Signal};
use super::hints::Hints;
use super::wire::Wire;
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::h1::Bounds;
use crate::h1::body::Decoder;
use crate::h1::buffer::SIZE;
use crate::h1::request::{Received, parse};
use crate::limit::Limit;
use crate::respond::Answer;
use crate::walk;
use crate::worker::Worker;

/// How long we listen to a client whose connection we end, so that the end does not destroy the answer on its way
/// (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// How much it may say meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// How a message ended.
enum End {
    /// The next request may come.
    Keep,
    /// The connection ends, perhaps with something unread.
    Close,
    /// There is nobody any more.
    Gone,
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, wire: Wire) {
    let io = Rc::new(RefCell::new(Io::new(wire)));
    loop {
        let end = match next(&worker, &connection, &io).await {
            Ok(Some(mut received)) => one(&worker, &connection, &io, &mut received).await,
            Ok(None) => End::Gone,
            Err(failure) => {
                let response = walk::refuse(&worker, &connection, &failure);
                let patience = worker.limits.stream_idle_timeout;
                let date = worker.date();
                answer(&worker, &io, response, Answering { patience, date, ..Answering::default() }).await
            }
        };
        match end {
            End::Keep => io.borrow_mut().rest(),
            End::Close => return linger(&io).await,
            End::Gone => return,
        }
    }
}

/// Reads the next head; `None`: the client, or we, ended the connection between two requests.
///
/// # Errors
/// What came is no request that we read; the answer ends the connection.
async fn next(worker: &Worker, connection: &Connection, io: &Shared) -> Result<Option<Received>, Failure> {
    let limits = &worker.limits;
    let most = limits.header_bytes.max(SIZE);
    let mut seen = 0;
    poll_fn(|cx| {
        let io = &mut *io.borrow_mut();
        connection.lifeline.register(cx.waker());
        match connection.lifeline.signal() {
            Signal::Cut => return Poll::Ready(Err(too_slow())),
            Signal::Finish if io.input.is_empty() => return Poll::Ready(Ok(None)),
            _ => {}
        }
        loop {
            let read = io.input.filled();
            if is_worth_reading(read, seen) {
                match parse(read, Bounds::of(limits)) {
                    Ok(Some((_, length))) if length > limits.header_bytes => {
                        return Poll::Ready(Err(too_large(read)));
                    }
                    Ok(Some((head, length))) => {
                        io.input.consume(length);
                        return Poll::Ready(Ok(Some(head)));
                    }
                    Ok(None) => connection.lifeline.arriving(),
                    Err(fault) => return Poll::Ready(Err(fault.failure())),
                }
            }
            seen = read.len();
            match ready!(io.poll_read(cx, most)) {
                Ok(0) => return Poll::Ready(Ok(None)),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(too_large(io.input.filled())));
                }
                Err(_) => return Poll::Ready(Ok(None)),
            }
        }
    })
    .await
}

/// Whether a head may have come to its end since `seen` bytes of it were looked at, so that one that comes byte by byte
/// is not read again for each.
fn is_worth_reading(read: &[u8], seen: usize) -> bool {
    let new = read.get(seen.saturating_sub(3)..).unwrap_or_default();
    !read.is_empty()
        && (seen == 0
            || new.windows(3).any(|end| end == b"\n\r\n")
            || new.windows(2).any(|end| end == b"\n\n"))
}

fn too_large(read: &[u8]) -> Failure {
    let limit = if read.contains(&b'\n') { Limit::HeaderBytes } else { Limit::UriBytes };
    limit.too_large()
}

fn too_slow() -> Failure {
    Failure::new(Code::RequestTimeout, "the head of the request did not come in time")
        .over(Limit::HeaderTimeout)
}

/// Walks one request and answers it.
async fn one(worker: &Rc<Worker>, connection: &Rc<Connection>, io: &Shared, received: &mut Received) -> End {
    let Received { head, body, persists, is_http10, expects } = received;
    let (persists, is_http10) = (*persists, *is_http10);
    let is_head = head.method == http::Method::HEAD;
    let is_empty = body.is_ended();
    {
        let mut io = io.borrow_mut();
        io.body = std::mem::replace(body, Decoder::length(0));
        io.expects = *expects;
    }
    let body = if is_empty { ClientBody::Empty } else { ClientBody::Http1(Rc::clone(io)) };
    let hints = &connection.hints;
    // In a block of its own, so that the answer takes the room of the walk.
    let response = {
        let walking = pin!(walk::serve(worker, connection, head, body, hints));
        answered(walking, io, hints, is_http10).await
    };
    // The answer may go on for hours.
    head.fields = Fields::default();
    let Some(response) = response else { return End::Gone };
    let persists = persists && connection.lifeline.signal() != Signal::Finish && connection.refused.is_none();
    let patience = worker.limits.stream_idle_timeout;
    answer(worker, io, response, Answering { persists, is_http10, is_head, patience, date: worker.date() })
        .await
}

/// Waits for the answer, and sends 1xx answers meanwhile. `None`: the client has gone; dropping the walk then ends what
/// was under way for it.
async fn answered(
    mut walking: Pin<&mut impl Future<Output = Answer>>,
    io: &Shared,
    hints: &Hints,
    is_http10: bool,
) -> Option<Answer> {
    poll_fn(|cx| {
        let answer = walking.as_mut().poll(cx);
        let io = &mut *io.borrow_mut();
        for hint in hints.take().iter().filter(|_| !is_http10) {
            hint.write(&mut io.output);
        }
        match answer {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => {
                let broken = io.waiting() > 0 && matches!(io.poll_flush(cx), Poll::Ready(Err(_)));
                if broken || io.is_gone(cx) { Poll::Ready(None) } else { Poll::Pending }
            }
        }
    })
    .await
}

/// Writes an answer; a tunnel that begins with it is run to its end.
async fn answer(worker: &Worker, io: &Shared, answer: Answer, how: Answering) -> End {
    let Answer { status, fields, mut body } = answer;
    let mut message = how.begin(&mut io.borrow_mut(), status, &fields, &body);
    drop(fields);
    worker.turn().await;
    let written = poll_fn(|cx| message.poll(io, &mut body, cx)).await;
    match written {
        Ok(()) => {}
        Err(Unwritten::Broken) => {
            // What came of it before it broke is better than nothing, where it can leave at once.
            let _ = poll_fn(|cx| Poll::Ready(io.borrow_mut().poll_flush(cx))).await;
            return End::Gone;
        }
        Err(Unwritten::Stalled) => {
            worker.stats.reached(Limit::StreamIdleTimeout);
            return End::Gone;
        }
    }
    if let Some((tunnel, record)) = body.take_tunnel() {
        Box::pin(tunnel.run(Upgraded(Rc::clone(io)), record)).await;
        return End::Gone;
    }
    body.complete();
    if message.persists() && io.borrow_mut().discard() { End::Keep } else { End::Close }
}

/// Ends our side, and listens for a moment to what the client still says.
async fn linger(io: &Shared) {
    let ending = async {
        let _ = poll_fn(|cx| io.borrow_mut().poll_shutdown(cx)).await;
        let mut heard = 0;
        while heard < LINGER_BYTES {
            match poll_fn(|cx| drain(&mut io.borrow_mut(), cx)).await {
                0 => break,
                count => heard += count,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, ending).await;
}

fn drain(io: &mut Io, cx: &mut Context<'_>) -> Poll<usize> {
    let held = io.input.filled().len();
    io.input.consume(held);
    io.poll_read(cx, SIZE).map(|read| read.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_again_only_when_it_may_have_ended() {
        assert!(!is_worth_reading(b"", 0) && is_worth_reading(b"G", 0));
        assert!(!is_worth_reading(b"GET / HTTP/1.1\r\na: b\r\n", 3));
        assert!(is_worth_reading(b"GET / HTTP/1.1\r\na: b\r\n\r\n", 23));
        assert!(is_worth_reading(b"GET / HTTP/1.1\na: b\n\n", 20));
    }
}
