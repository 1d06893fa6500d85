//! One attempt to get an answer: the request goes out over one connection, and the head of the answer comes back.
//! What is told of a failure decides whether there may be another attempt (`send`).

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::{Method, StatusCode};

use super::broke_off;
use super::http1::{Http1, NoAnswer};
use super::http2::hpack::Encoder;
use super::http2::session::Ended;
use super::http2::{self, Http2};
use super::outgoing::Outgoing;
use super::pool::{Lease, Leased};
use super::upload::{Framing, Upload};
use super::upstream_body::{FromHttp1, FromHttp2, UpstreamBody};
use crate::accept::connection::Connection;
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::h1::response::{ResponseHead, has_no_body};
use crate::record::ResponseBody;
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
    Body(ResponseBody),
    /// The connection is no longer HTTP.
    Upgrade(Box<Leased<Http1>>),
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

/// Sends the request over one connection and waits for the head of the answer.
pub(super) async fn attempt(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    lease: Lease,
    outgoing: &Outgoing<'_>,
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
    outgoing: &Outgoing<'_>,
) -> Result<Exchange, Lost> {
    let (head, framing) = outgoing.http1();
    let expects = outgoing.expects && framing != Framing::Ended;
    let mut upload = Upload::new(head, Rc::clone(&outgoing.source), framing, expects);
    let says_continue = outgoing.expects && connection.is_http2;
    let mut heard = false;
    let exchanged = lease.conn.exchange(&mut upload, &outgoing.head.method, &mut heard, |status, fields| {
        // Over HTTP/1.1 100 is said to the client when its body is first asked for.
        if status != StatusCode::CONTINUE || says_continue {
            outgoing.hints.send(status, fields);
        }
    });
    match exchanged.await {
        Ok(head) => Ok(received(worker, lease, upload, head, service.timeouts.idle)),
        Err(NoAnswer::Client) => Err(Lost::Failed(outgoing.source.failure(), Whose::Other)),
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

fn received(
    worker: &Rc<Worker>,
    lease: Leased<Http1>,
    upload: Upload,
    received: ResponseHead,
    idle: Duration,
) -> Exchange {
    let (status, fields) = (received.status, received.fields);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Exchange { status, fields, body: Received::Upgrade(Box::new(lease)) };
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
    let body = ResponseBody::upstream(UpstreamBody::http1(body, idle));
    Exchange { status, fields, body: Received::Body(body) }
}

async fn over_http2(
    connection: &Rc<Connection>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    lease: Leased<Http2>,
    outgoing: &Outgoing<'_>,
) -> Result<Exchange, Lost> {
    if !outgoing.fits_http2() {
        return Err(Lost::Failed(
            Failure::new(Code::Internal, "the request could not be built"),
            Whose::Other,
        ));
    }
    let body = (!outgoing.source.is_done()).then(|| Rc::clone(&outgoing.source));
    let says_continue = outgoing.expects && connection.is_http2;
    let is_head = outgoing.head.method == Method::HEAD;
    let write = |encoder: &mut Encoder, out: &mut Vec<u8>| outgoing.write_http2(encoder, out);
    let patience = endpoint.upstream.connect_timeout;
    let exchanged =
        lease.conn.exchange(is_head, write, body, outgoing.expects, patience, |status, fields| {
            // Over HTTP/1.1 100 is said to the client when its body is first asked for.
            if status != StatusCode::CONTINUE || says_continue {
                outgoing.hints.send(status, fields);
            }
        });
    let (why, is_written, is_heard) = match exchanged.await {
        Ok((status, mut fields, stream, upload)) => {
            // The stream has seen to it that they say the same.
            if fields.get_all("content-length").nth(1).is_some() {
                let length = fields.get("content-length").unwrap_or_default().to_vec();
                fields.insert("content-length", &length);
            }
            let body = FromHttp2::new(stream, upload, lease);
            // What has no body over HTTP/1.1 has none (RFC 9110 section 6.4.1), whatever frames come.
            let body = match has_no_body(status, is_head) {
                true => ResponseBody::empty(),
                false => ResponseBody::upstream(UpstreamBody::http2(body, service.timeouts.idle)),
            };
            return Ok(Exchange { status, fields, body: Received::Body(body) });
        }
        Err(http2::NoAnswer::Client) => return Err(Lost::Failed(outgoing.source.failure(), Whose::Other)),
        Err(http2::NoAnswer::Malformed) => return Err(Lost::Failed(not_http(service), Whose::Upstream)),
        Err(http2::NoAnswer::Ended { why, is_written, is_heard }) => (why, is_written, is_heard),
    };
    if (!is_written || is_unprocessed(why)) && outgoing.source.restore() {
        return Err(Lost::Unwritten);
    }
    if lease.reused && !is_heard && outgoing.is_repeatable() {
        return Err(Lost::Silent);
    }
    tracing::debug!(service = %service.name, endpoint = %endpoint.address, %why, "no answer");
    Err(Lost::Failed(reset(service, why), Whose::Upstream))
}

/// The failure of an exchange over HTTP/2 that ended so.
pub(super) fn reset(service: &Service, why: Ended) -> Failure {
    match why {
        Ended::Malformed(_) => not_http(service),
        Ended::Reset(reason) => Failure { grpc: grpc_status(reason), ..broke_off(service) },
        Ended::Left(_) | Ended::Closed(_) => broke_off(service),
    }
}

/// What a reset of a stream means to a call of gRPC, where that is something else than that the service is not there
/// (gRPC over HTTP/2, "Errors").
fn grpc_status(reason: Reason) -> Option<u8> {
    Some(match reason {
        Reason::CANCEL => 1,
        Reason::INADEQUATE_SECURITY => 7,
        Reason::ENHANCE_YOUR_CALM => 8,
        Reason::NO_ERROR
        | Reason::PROTOCOL_ERROR
        | Reason::INTERNAL_ERROR
        | Reason::FLOW_CONTROL_ERROR
        | Reason::SETTINGS_TIMEOUT
        | Reason::FRAME_SIZE_ERROR
        | Reason::COMPRESSION_ERROR
        | Reason::CONNECT_ERROR => 13,
        _ => return None,
    })
}

/// Whether an HTTP/2 server says that it has not processed the request: it refused the stream, or went away without it
/// (RFC 9113 section 8.7).
const fn is_unprocessed(why: Ended) -> bool {
    matches!(why, Ended::Reset(Reason::REFUSED_STREAM) | Ended::Left(_))
}

pub(super) fn not_http(service: &Service) -> Failure {
    Failure::new(Code::UpstreamProtocol, format!("service {} did not answer in HTTP", service.name))
}
