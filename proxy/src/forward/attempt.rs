//! One attempt to get an answer: the request goes out over one connection, and the head of the answer comes back.
//! What is told of a failure decides whether there may be another attempt (`send`).

use std::error::Error as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::body::Gate;
use super::broke_off;
use super::http1::{Http1, NoAnswer};
use super::outgoing::Outgoing;
use super::pool::{Http2, Lease, Leased};
use super::upload::{Framing, Upload};
use super::upstream_body::{FromHttp1, FromHttp2};
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::h1::response::ResponseHead;
use crate::route::table::{Endpoint, Service};
use crate::worker::Worker;

/// One exchange with an upstream, its head received.
pub(super) struct Exchange {
    pub(super) status: StatusCode,
    pub(super) fields: Fields,
    pub(super) body: Received,
}

/// What follows the head.
pub(super) enum Received {
    Http1(FromHttp1),
    Http2(FromHttp2),
    /// The connection is no longer HTTP.
    Upgrade(Leased<Http1>),
}

/// Why one attempt brought no answer.
pub(super) enum Lost {
    /// No byte of the request was written.
    Unwritten,
    /// Written on a kept connection, not a byte came back, and the request may be repeated.
    Silent,
    /// Anything else.
    Failed(Failure, Whose),
}

/// Whose fault a failure is: only the upstream's own count towards its ejection.
#[derive(PartialEq, Eq)]
pub(super) enum Whose {
    Upstream,
    Other,
}

/// Fields that an answer may get on its way.
const ADDED: usize = 6;

/// Sends the request over one connection and waits for the head of the answer.
pub(super) async fn attempt(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    lease: Lease,
    outgoing: &Outgoing,
) -> Result<Exchange, Lost> {
    let limit = outgoing.response_timeout.unwrap_or(service.timeouts.response);
    match lease {
        Lease::Http1(lease) => {
            timed(limit, service, pin!(over_http1(worker, connection, service, lease, outgoing))).await
        }
        Lease::Http2(_) if outgoing.upgrades => {
            let detail = format!("service {} speaks HTTP/2, over which nothing is upgraded", service.name);
            Err(Lost::Failed(Failure::new(Code::UpstreamProtocol, detail), Whose::Other))
        }
        Lease::Http2(lease) => {
            timed(limit, service, pin!(over_http2(connection, service, endpoint, lease, outgoing))).await
        }
    }
}

/// Bounds an attempt by the time-out of its route or service.
async fn timed(
    limit: Duration,
    service: &Service,
    attempt: Pin<&mut impl Future<Output = Result<Exchange, Lost>>>,
) -> Result<Exchange, Lost> {
    if limit.is_zero() {
        return attempt.await;
    }
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| {
        let detail = format!("service {} did not answer within {limit:?}", service.name);
        Err(Lost::Failed(Failure::new(Code::UpstreamTimeout, detail), Whose::Other))
    })
}

async fn over_http1(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    service: &Service,
    mut lease: Leased<Http1>,
    outgoing: &Outgoing,
) -> Result<Exchange, Lost> {
    let (head, framing) = outgoing.http1();
    let expects = outgoing.expects && framing != Framing::Ended;
    let mut upload = Upload::new(head, Rc::clone(&outgoing.source), framing, expects);
    let says_continue = outgoing.expects && connection.is_http2;
    let mut heard = false;
    let exchanged = lease.conn.exchange(&mut upload, &outgoing.method, &mut heard, |status, fields| {
        // Over HTTP/1.1 100 is said to the client when its body is first asked for.
        if status != StatusCode::CONTINUE || says_continue {
            outgoing.hints.send(status, fields);
        }
    });
    match exchanged.await {
        Ok(head) => Ok(received(worker, lease, upload, head)),
        Err(NoAnswer::Client) => Err(Lost::Failed(client_broke_off(), Whose::Other)),
        Err(NoAnswer::Fault(fault)) => {
            tracing::debug!(service = %service.name, %fault, "no answer");
            Err(Lost::Failed(not_http(service), Whose::Upstream))
        }
        Err(NoAnswer::Closed(_)) if upload.written() == 0 && !outgoing.source.is_touched() => {
            Err(Lost::Unwritten)
        }
        Err(NoAnswer::Closed(_)) if lease.reused && !heard && outgoing.is_repeatable() => Err(Lost::Silent),
        Err(NoAnswer::Closed(error)) => {
            tracing::debug!(service = %service.name, %error, "no answer");
            Err(Lost::Failed(broke_off(service), Whose::Upstream))
        }
    }
}

fn received(worker: &Rc<Worker>, lease: Leased<Http1>, upload: Upload, received: ResponseHead) -> Exchange {
    let (status, fields) = (received.status, received.fields);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Exchange { status, fields, body: Received::Upgrade(lease) };
    }
    // A body that nobody asked for is not sent behind a final answer.
    let reusable = received.persists && !upload.is_held();
    let upload = (!upload.is_held() && !upload.is_sent()).then_some(upload);
    let body = FromHttp1 {
        lease: Some(lease),
        decoder: received.body,
        upload,
        reusable,
        worker: Rc::clone(worker),
        ready: 0,
    };
    Exchange { status, fields, body: Received::Http1(body) }
}

async fn over_http2(
    connection: &Rc<Connection>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    mut lease: Leased<Http2>,
    outgoing: &Outgoing,
) -> Result<Exchange, Lost> {
    let gate = outgoing.expects.then(Arc::<Gate>::default);
    let (read, written) = (lease.conn.traffic.read(), lease.conn.traffic.written());
    let mut request = outgoing.http2(gate.clone()).ok_or_else(unbuilt)?;
    listen_for_hints(&mut request, Arc::clone(&outgoing.hints), connection.is_http2, gate);
    let mut error = match lease.conn.sender.try_send_request(request).await {
        Ok(response) => {
            let (parts, incoming) = response.into_parts();
            let body = FromHttp2 { incoming, lease, piece: Bytes::new(), trailers: None };
            let fields = Fields::of(&parts.headers, ADDED);
            return Ok(Exchange { status: parts.status, fields, body: Received::Http2(body) });
        }
        Err(error) => error,
    };
    if error.take_message().is_some() {
        return Err(Lost::Unwritten);
    }
    let error = error.into_error();
    let unwritten = lease.conn.traffic.written() == written || was_refused(&error);
    let silent = lease.conn.traffic.read() == read;
    if unwritten && !outgoing.source.is_touched() {
        return Err(Lost::Unwritten);
    }
    if lease.reused && silent && outgoing.is_repeatable() {
        return Err(Lost::Silent);
    }
    tracing::debug!(service = %service.name, endpoint = %endpoint.address, %error, source = ?error.source(), "no answer");
    if outgoing.source.is_broken() {
        return Err(Lost::Failed(client_broke_off(), Whose::Other));
    }
    if error.is_parse() {
        return Err(Lost::Failed(not_http(service), Whose::Upstream));
    }
    Err(Lost::Failed(broke_off(service), Whose::Upstream))
}

/// Whether an HTTP/2 server says that it has not processed the request (RFC 9113 section 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let reason =
        error.source().and_then(|source| source.downcast_ref::<h2::Error>()).and_then(h2::Error::reason);
    reason == Some(h2::Reason::REFUSED_STREAM)
}

/// Passes 1xx answers on. 100 opens the gate of the body, whereupon it is said to an HTTP/1.1 client when its body is
/// first asked for; over HTTP/2 it is said here.
fn listen_for_hints<B>(
    request: &mut http::Request<B>,
    hints: Arc<Hints>,
    is_http2: bool,
    gate: Option<Arc<Gate>>,
) {
    hyper::ext::on_informational(request, move |response| {
        let is_continue = response.status() == StatusCode::CONTINUE;
        if let Some(gate) = gate.as_ref().filter(|_| is_continue) {
            gate.open();
        }
        if !is_continue || (is_http2 && gate.is_some()) {
            hints.send(response.status(), Fields::of(response.headers(), 0));
        }
    });
}

fn unbuilt() -> Lost {
    Lost::Failed(Failure::new(Code::Internal, "the request could not be built"), Whose::Other)
}

fn client_broke_off() -> Failure {
    Failure::new(Code::MalformedRequest, "the request body broke off")
}

fn not_http(service: &Service) -> Failure {
    Failure::new(Code::UpstreamProtocol, format!("service {} did not answer in HTTP", service.name))
}
