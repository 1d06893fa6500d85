//! HTTP/2 on the client's side, on h2 itself: hyper's server can't send 1xx answers, and takes a channel and a boxed
//! future per stream that we have no use for. One task per connection accepts, one task per stream answers.

mod guard;
pub mod incoming;
mod meter;
mod tunnel;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response};
use tokio::time::{Instant, Sleep};

use super::body::ClientBody;
use super::connection::{Connection, Signal, timeout};
use super::hints::Hints;
use super::wire::Wire;
use crate::error::{Code, Failure};
use crate::fields::{Fields, ROOM_OF_REQUEST, Turn};
use crate::forward::gap::Gap;
use crate::head::RequestHead;
use crate::limit::Limit;
use crate::record::ResponseBody;
use crate::respond::Answer;
use crate::walk;
use crate::worker::Worker;
use guard::Breach;
use incoming::Incoming;
use meter::{Meter, Metered};
pub use tunnel::StreamIo;

/// From one sign of life to the next; a peer that gives none is gone.
const PING: Duration = Duration::from_secs(20);

/// How long a client whose connection we end may take to its last frames.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The stream that a client opens first (RFC 9113 section 5.1.1), if it leaves no number out.
const FIRST: u32 = 1;

type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

/// What a connection has to see to.
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart in one place of the stack")]
enum Event {
    /// A request, or the end.
    Accepted(Option<Accepted>),
    /// It is told to end.
    Told(Signal),
    /// The client has done what it may not.
    Broke(Breach),
    /// The client is gone.
    Died,
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, wire: Wire) {
    let limits = worker.limits;
    let lifeline = Rc::clone(&connection.lifeline);
    let meter = Meter::new(&limits, &lifeline);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_send_buffer_size(limits.connection_buffer)
        .max_local_error_reset_streams(usize::try_from(limits.http2_resets).ok())
        // Streams that are reset before they are answered are counted by the guard; where many come in one read, the
        // library's own bound of 20 would act first.
        .max_pending_accept_reset_streams(usize::try_from(limits.http2_resets).unwrap_or(usize::MAX))
        .enable_connect_protocol();
    let handshake = builder.handshake::<_, Bytes>(Metered::new(wire, Rc::clone(&meter)));
    let Ok(Ok(mut streams)) = timeout(limits.handshake_timeout, handshake).await else { return };
    let mut seen = Signal::None;
    let mut alive = streams.ping_pong().map(Alive::new);
    loop {
        let event = poll_fn(|cx| {
            let accepted = streams.poll_accept(cx);
            meter.settle();
            if let Some(breach) = meter.breach() {
                return Poll::Ready(Event::Broke(breach));
            }
            if let Poll::Ready(accepted) = accepted {
                return Poll::Ready(Event::Accepted(accepted));
            }
            if let Poll::Ready(signal) = lifeline.poll_changed(seen, cx) {
                return Poll::Ready(Event::Told(signal));
            }
            match &mut alive {
                Some(alive) => alive.poll(cx).map(|()| Event::Died),
                None => Poll::Pending,
            }
        });
        match event.await {
            Event::Accepted(Some(Ok((request, respond)))) => {
                if connection.refused.is_some() {
                    streams.graceful_shutdown();
                }
                // The future is large, and a task moves it about: boxed it stays where it is, and in a box that is there
                // before it, it is made where it stays.
                let (worker, connection, meter) =
                    (Rc::clone(&worker), Rc::clone(&connection), Rc::clone(&meter));
                let stream =
                    Box::write(Box::new_uninit(), stream(worker, connection, meter, request, respond));
                tokio::task::spawn_local(Box::into_pin(stream));
            }
            Event::Accepted(Some(Err(error))) => {
                if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                    // A flood that the library ends by itself is one of frames, whatever their kind.
                    worker.stats.reached(Limit::Http2ControlFrames);
                }
                return tracing::debug!(%error, "HTTP/2 connection ended");
            }
            Event::Accepted(None) | Event::Told(Signal::Cut) => return,
            Event::Told(signal) => {
                seen = signal;
                streams.graceful_shutdown();
            }
            Event::Broke(breach) => {
                tracing::debug!(?breach, peer = %connection.peer, "HTTP/2 connection ended");
                let reason = match breach {
                    Breach::Limit(limit) => {
                        worker.stats.reached(limit);
                        Reason::ENHANCE_YOUR_CALM
                    }
                    Breach::Trailers => Reason::PROTOCOL_ERROR,
                };
                streams.abrupt_shutdown(reason);
                let last = poll_fn(|cx| streams.poll_closed(cx));
                let _ = tokio::time::timeout(LAST_WORDS, last).await;
                return;
            }
            Event::Died => return tracing::debug!("HTTP/2 connection ended: no answer to a ping"),
        }
    }
}

/// Asks the peer for a sign of life again and again.
struct Alive {
    ping: PingPong,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Alive {
    fn new(ping: PingPong) -> Self {
        Self { ping, timer: Box::pin(tokio::time::sleep(PING)), asked: false }
    }

    /// Ready when the peer is gone.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked && self.ping.poll_pong(cx).is_ready() {
                self.asked = false;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.asked || self.ping.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + PING);
        }
    }
}

/// Answers one stream.
async fn stream(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    meter: Rc<Meter>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let hints = Hints::default();
    let Some((head, body, recv)) = read(request) else {
        // It has its record as every request, and no answer (RFC 9113 section 8.1.1).
        let failure = Failure::new(Code::MalformedRequest, "the head is none that HTTP/1.1 would read alike");
        drop(walk::refuse(&worker, &connection, &failure));
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    };
    // In a block of its own, so that the reply takes the room of the walk, and the head is let go of.
    let answer = {
        let mut head = head;
        let walking = pin!(walk::serve(&worker, &connection, &mut head, body, &hints));
        answered(walking, &hints, &mut respond).await
    };
    if let Some(answer) = answer {
        reply(answer, &worker, meter, respond, recv).await;
    }
}

/// The head of a request, its body, and what an extended CONNECT (RFC 8441) has in place of a body: the tunnel. `None`:
/// the head is malformed.
fn read(request: Request<RecvStream>) -> Option<(RequestHead, ClientBody, Option<RecvStream>)> {
    let (parts, body) = request.into_parts();
    let protocol = parts.extensions.get::<Protocol>();
    let is_websocket = protocol.is_some_and(|name| name.as_str() == "websocket");
    let is_tunnel = protocol.is_some();
    let head = head(parts, is_websocket)?;
    if is_tunnel {
        return Some((head, ClientBody::Empty, Some(body)));
    }
    let body = Incoming::new(body, &head.fields);
    Some((head, ClientBody::Http2(Box::new(body)), None))
}

/// Sends an answer to its end.
async fn reply(
    answer: Answer,
    worker: &Worker,
    meter: Rc<Meter>,
    mut respond: SendResponse<Bytes>,
    recv: Option<RecvStream>,
) {
    let Answer { status, mut fields, mut body } = answer;
    if let Some(date) = worker.date().filter(|_| !fields.contains("date")) {
        fields.append("date", date.as_bytes());
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    let turn = if respond.stream_id().as_u32() == FIRST { Turn::First } else { Turn::Later };
    *response.headers_mut() = fields.into_map(turn);
    let tunnel = body.take_tunnel();
    let ends = tunnel.is_none() && body.is_ended();
    let Ok(send) = respond.send_response(response, ends) else { return };
    match (tunnel, recv) {
        (Some((tunnel, record)), Some(recv)) => {
            Box::pin(tunnel.run(StreamIo::new(send, recv, meter), record)).await;
        }
        (None, _) if !ends => pump(worker, &meter, send, body).await,
        _ => {}
    }
}

/// The head of a request as every reader of ours has it; `None`: the library has let something pass that HTTP/1.1 would
/// read as something else, or a scheme that is not ours to serve.
fn head(parts: http::request::Parts, is_websocket: bool) -> Option<RequestHead> {
    let uri = parts.uri.into_parts();
    if uri.scheme.is_some_and(|scheme| scheme != Scheme::HTTP && scheme != Scheme::HTTPS) {
        return None;
    }
    // Only a CONNECT has none, and is refused for its method.
    let target = uri.path_and_query.unwrap_or(PathAndQuery::from_static("*"));
    Some(RequestHead {
        fields: Fields::of(&parts.headers, ROOM_OF_REQUEST)?,
        method: parts.method,
        authority: uri.authority,
        target,
        version: parts.version,
        is_websocket,
    })
}

/// Waits for the answer, and sends 1xx answers meanwhile. `None`: the client reset the stream; dropping the walk then
/// ends what was under way for it.
async fn answered(
    mut walking: Pin<&mut impl Future<Output = Answer>>,
    hints: &Hints,
    respond: &mut SendResponse<Bytes>,
) -> Option<Answer> {
    poll_fn(|cx| {
        let answer = walking.as_mut().poll(cx);
        for hint in hints.take() {
            let _ = respond.send_informational(hint.into_http2());
        }
        match answer {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    })
    .await
}

/// Why an answer ends while the client takes nothing of it.
enum Stop {
    /// It took nothing for too long.
    Stalled,
    /// Another target is decided by now, and its time is over.
    Moved,
}

/// Whether an answer that waits for its client has to end.
fn stop(body: &mut ResponseBody, gap: &mut Gap, patience: Duration, cx: &mut Context<'_>) -> Option<Stop> {
    if body.is_over(cx) {
        return Some(Stop::Moved);
    }
    gap.is_over(patience, cx).then_some(Stop::Stalled)
}

/// Sends a body, as fast as the client's windows open. What the client does not take stays where it is: no more is read
/// than what waits for it.
async fn pump(worker: &Worker, meter: &Meter, mut send: SendStream<Bytes>, mut body: ResponseBody) {
    let mut gap = Gap::default();
    let patience = worker.limits.stream_idle_timeout;
    let stopped = |send: &mut SendStream<Bytes>, stop: Stop| {
        if matches!(stop, Stop::Stalled) {
            worker.stats.reached(Limit::StreamIdleTimeout);
        }
        send.send_reset(Reason::CANCEL);
    };
    loop {
        let piece = poll_fn(|cx| {
            if body.data().is_empty() && meter.poll_room(cx).is_pending() {
                // What the client sends may still go on, and have its turn.
                body.drive(cx);
                return match stop(&mut body, &mut gap, patience, cx) {
                    Some(stop) => Poll::Ready(Err(stop)),
                    None => send.poll_reset(cx).map(|_| Ok(None)),
                };
            }
            match body.poll_data(cx) {
                Poll::Pending => send.poll_reset(cx).map(|_| Ok(None)),
                ready => ready.map(|piece| Ok(Some(piece))),
            }
        });
        let piece = match piece.await {
            Ok(piece) => piece,
            Err(stop) => return stopped(&mut send, stop),
        };
        match piece {
            Some(Ok(0)) => {
                body.complete();
                return match body.take_trailers() {
                    Some(trailers) => drop(send.send_trailers(trailers.into_map(Turn::Later))),
                    None => drop(send.send_data(Bytes::new(), true)),
                };
            }
            Some(Ok(count)) => {
                send.reserve_capacity(count);
                let room = poll_fn(|cx| {
                    let room = poll_room(&mut send, meter, cx);
                    if room.is_ready() {
                        gap.end();
                        return room.map(Ok);
                    }
                    // While the client takes nothing, what it sends may still go on.
                    body.drive(cx);
                    stop(&mut body, &mut gap, patience, cx)
                        .map_or(Poll::Pending, |stop| Poll::Ready(Err(stop)))
                });
                match room.await {
                    Ok(Some(room)) => {
                        let data = body.take(room);
                        let last = body.is_ended();
                        meter.gave(data.len());
                        if send.send_data(data, last).is_err() {
                            return;
                        }
                        if last {
                            return body.complete();
                        }
                    }
                    Ok(None) => return,
                    Err(stop) => return stopped(&mut send, stop),
                }
            }
            // The client must see that this is not the end.
            Some(Err(error)) => return send.send_reset(error.reset()),
            None => return,
        }
    }
}

/// Waits until the client and the connection take something, and says how much; `None`: the stream is gone.
fn poll_room(send: &mut SendStream<Bytes>, meter: &Meter, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    // The library takes a lock for each question.
    let mut capacity = send.capacity();
    while capacity == 0 {
        let Some(Ok(more)) = ready!(send.poll_capacity(cx)) else { return Poll::Ready(None) };
        capacity = more;
    }
    match meter.poll_room(cx) {
        Poll::Ready(room) => Poll::Ready(Some(room.min(capacity))),
        Poll::Pending => send.poll_reset(cx).map(|_| None),
    }
}
