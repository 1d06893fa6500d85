//! HTTP/2 on the client's side, on h2 itself: hyper's server can't send 1xx answers, and takes a channel and a boxed
//! future per stream that we have no use for. One task per connection accepts, one task per stream answers.

mod tunnel;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::body::{ClientBody, Waiting};
use super::connection::{Connection, Signal};
use super::early::Client;
use super::hints::Hints;
use crate::record::ResponseBody;
use crate::walk::{self, Asked};
use crate::worker::Worker;
pub use tunnel::StreamIo;

/// From one sign of life to the next; a peer that gives none is gone.
const PING: Duration = Duration::from_secs(20);

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, client: Client) {
    let limits = worker.limits;
    let lifeline = Rc::clone(&connection.lifeline);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_send_buffer_size(limits.connection_buffer)
        .enable_connect_protocol();
    let handshake =
        tokio::time::timeout(limits.handshake_timeout, builder.handshake::<_, Bytes>(client)).await;
    let Ok(Ok(mut streams)) = handshake else { return };
    let mut alive = streams.ping_pong().map(Alive::new);
    loop {
        tokio::select! {
            biased;
            accepted = streams.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    tokio::task::spawn_local(stream(Rc::clone(&worker), Rc::clone(&connection), request, respond));
                }
                Some(Err(error)) => return tracing::debug!(%error, "HTTP/2 connection ended"),
                None => return,
            },
            () = lifeline.notified() => if lifeline.signal() == Signal::Finish {
                streams.graceful_shutdown();
            },
            () = died(&mut alive) => return tracing::debug!("HTTP/2 connection ended: no answer to a ping"),
        }
    }
}

/// Waits until the peer leaves a ping unanswered.
async fn died(alive: &mut Option<Alive>) {
    match alive {
        Some(alive) => poll_fn(|cx| alive.poll(cx)).await,
        None => std::future::pending().await,
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
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let hints = Arc::<Hints>::default();
    let mut asked = Asked { hints: Arc::clone(&hints), stream: None };
    let mut give = None;
    // An extended CONNECT (RFC 8441): its body is the tunnel.
    let (body, recv) = match parts.extensions.get::<Protocol>() {
        Some(_) => {
            let (tell, stream) = oneshot::channel();
            asked.stream = Some(stream);
            give = Some(tell);
            (ClientBody::Empty, Some(body))
        }
        None => {
            let length =
                parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            (ClientBody::Http2(body, Waiting::of(length)), None)
        }
    };
    let walking = walk::serve(worker, connection, Request::from_parts(parts, body), asked);
    let Some(response) = answered(walking, &hints, &mut respond).await else { return };
    let (mut parts, body) = response.into_parts();
    let tunnel = give.zip(recv).filter(|_| parts.status.is_success());
    parts.headers.entry(DATE).or_insert_with(now);
    let ends = tunnel.is_none() && body.is_end_stream();
    let Ok(send) = respond.send_response(Response::from_parts(parts, ()), ends) else { return };
    match tunnel {
        Some((give, recv)) => drop(give.send(StreamIo::new(send, recv))),
        None if ends => {}
        None => pump(send, body).await,
    }
}

/// Waits for the answer, and sends 1xx answers meanwhile. `None`: the client reset the stream; dropping the walk then
/// ends what was under way for it.
async fn answered(
    walking: impl Future<Output = Response<ResponseBody>>,
    hints: &Hints,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ResponseBody>> {
    let mut walking = pin!(walking);
    poll_fn(|cx| {
        hints.register(cx.waker());
        let answer = walking.as_mut().poll(cx);
        if hints.any() {
            for hint in hints.take() {
                let _ = respond.send_informational(hint);
            }
        }
        match answer {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    })
    .await
}

/// Sends a body, as fast as the client's windows open.
async fn pump(mut send: SendStream<Bytes>, body: ResponseBody) {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Pending => send.poll_reset(cx).map(|_| Err(())),
            ready => ready.map(Ok),
        });
        let frame = match frame.await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return drop(send.send_data(Bytes::new(), true)),
            // The client must see that this is not the end.
            Ok(Some(Err(_))) => return send.send_reset(Reason::INTERNAL_ERROR),
            Err(()) => return,
        };
        let sent = match frame.into_data() {
            Ok(data) => send_data(&mut send, data, body.is_end_stream()).await,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return drop(send.send_trailers(trailers)),
                Err(_) => continue,
            },
        };
        match sent {
            Some(()) if !body.is_end_stream() => {}
            _ => return,
        }
    }
}

/// Sends one piece; `None`: the stream is gone.
async fn send_data(send: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Option<()> {
    if data.is_empty() && last {
        return send.send_data(data, true).ok();
    }
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        if send.capacity() == 0 {
            poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?;
            continue;
        }
        let part = data.split_to(send.capacity().min(data.len()));
        let ends = last && data.is_empty();
        send.send_data(part, ends).ok()?;
    }
    Some(())
}

/// The date of an answer (RFC 9110 section 6.6.1), where the upstream gave none.
fn now() -> HeaderValue {
    let text = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
