//! Step 5: sends the request to an endpoint of its target, and the answer back. What may be sent again, and what
//! becomes of a fork that is down, is decided here and nowhere else.

pub mod body;
pub mod carriers;
pub mod deadline;
pub mod filters;
pub mod forwarded;
pub mod hold;
pub mod io;
pub mod outgoing;
pub mod pool;
pub mod rewrite;
pub mod tunnel;
pub mod upstream_body;
pub mod upstream_tls;

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode, Version};
use hyper::body::Incoming;
use sidetrack_config::Key;
use sidetrack_config::model::OnForkDown;
use smallvec::SmallVec;

use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::decision::{Decision, Reason, Target};
use crate::error::{Code, Failure};
use crate::pick;
use crate::record::{Record, ResponseBody};
use crate::route::table::{Endpoint, Service, Table};
use crate::worker::Worker;
use body::Gate;
pub use outgoing::Outgoing;
use pool::{ConnectError, Lease, Sender};
use upstream_body::UpstreamBody;

/// How often a held request looks for its fork: a pod that has just begun to listen tells nobody.
const HOLD_STEP: Duration = Duration::from_millis(100);

/// What came of trying a set of endpoints.
enum Unsent {
    /// No endpoint took the connection; nothing was written, so that something else may still be tried.
    Unreached(Option<ConnectError>),
    /// Something was written and no answer came.
    Failed(Failure),
}

/// One exchange with an upstream, its head received.
struct Exchange {
    response: Response<Incoming>,
    lease: Lease,
}

/// Forwards a request, and gives the answer with its body still streaming.
///
/// # Errors
/// `fork_unavailable`, `upstream_unavailable`, `upstream_timeout` or `upstream_protocol`.
pub async fn forward(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    decision: &Decision<'_>,
    mut outgoing: Outgoing,
    record: &mut Record,
) -> Result<Response<ResponseBody>, Failure> {
    let sent = send(worker, connection, decision.service, decision.target, &mut outgoing, record).await;
    let exchange = match (sent, decision.target) {
        (Ok(exchange), _) => exchange,
        (Err(Unsent::Failed(failure)), _) => return Err(failure),
        (Err(Unsent::Unreached(error)), Target::Baseline(_)) => {
            return Err(unavailable(decision.service, error));
        }
        (Err(Unsent::Unreached(error)), Target::Fork(preview, _)) => {
            tracing::debug!(preview = %preview.key, service = %decision.service.name, ?error, "fork is down");
            fork_down(worker, connection, decision, &mut outgoing, record).await?
        }
    };
    record.answered();
    answer(worker, decision.service, exchange, outgoing, record)
}

/// What becomes of a request whose fork can't be reached.
async fn fork_down(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    decision: &Decision<'_>,
    outgoing: &mut Outgoing,
    record: &mut Record,
) -> Result<Exchange, Failure> {
    let Target::Fork(preview, _) = decision.target else { return Err(unavailable(decision.service, None)) };
    let key = preview.key;
    let down = || fork_unavailable(decision.service, key);
    record.decided(&Decision { reason: Reason::ForkDown, ..decision.clone() });
    match preview.on_fork_down {
        OnForkDown::Hold => hold(worker, connection, decision, outgoing, record).await?.ok_or_else(down),
        OnForkDown::Baseline if !decision.identity.strict => {
            let target = pick::baseline(decision.service, Some(&key))?;
            record.decided(&Decision { reason: Reason::ForkDown, target, ..decision.clone() });
            match send(worker, connection, decision.service, target, outgoing, record).await {
                Ok(exchange) => Ok(exchange),
                Err(Unsent::Failed(failure)) => Err(failure),
                Err(Unsent::Unreached(error)) => Err(unavailable(decision.service, error)),
            }
        }
        OnForkDown::Fail | OnForkDown::Baseline => Err(down()),
    }
}

/// Waits for the fork to come up; `None`: it did not, or too much waits already.
async fn hold(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    decision: &Decision<'_>,
    outgoing: &mut Outgoing,
    record: &mut Record,
) -> Result<Option<Exchange>, Failure> {
    let mut table = worker.table.get();
    let limits = table.estate.hold;
    let bytes = outgoing.held_bytes(u64::from(worker.limits.http2_stream_window));
    let Some(_held) = worker.shared.holding.take(bytes, &limits) else { return Ok(None) };
    let deadline = Instant::now() + limits.timeout;
    let mut changed = worker.table.subscribe();
    while Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(HOLD_STEP) => {}
            result = changed.changed() => if result.is_err() { break },
        }
        // The fork may have come up where it is declared, or be declared elsewhere by now.
        table = worker.table.get();
        let Some(service) = same_service(&table, decision.service) else { break };
        let (target, reason) = pick::target(&decision.identity, service, &table)?;
        let now = Decision { service, target, reason, generation: table.generation, ..decision.clone() };
        match send(worker, connection, service, target, outgoing, record).await {
            Ok(exchange) => {
                record.decided(&now);
                return Ok(Some(exchange));
            }
            Err(Unsent::Failed(failure)) => return Err(failure),
            Err(Unsent::Unreached(_)) => {}
        }
    }
    Ok(None)
}

/// The service of that name in another table.
fn same_service<'t>(table: &'t Table, service: &Service) -> Option<&'t Service> {
    table.estate.services.iter().find(|other| other.name == service.name).map(AsRef::as_ref)
}

/// Tries the endpoints of a target until one answers, or none is left.
async fn send(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    service: &Service,
    target: Target<'_>,
    outgoing: &mut Outgoing,
    record: &mut Record,
) -> Result<Exchange, Unsent> {
    let set = target.endpoints();
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    let mut last = None;
    let mut fresh = false;
    let mut repeated = false;
    let mut first = true;
    while let Some(endpoint) = pick::endpoint(set, &worker.pool, &tried, worker.random()) {
        if !std::mem::take(&mut first) {
            record.retried();
        }
        let lease = match worker.pool.lease(endpoint, fresh).await {
            Ok(lease) => lease,
            Err(error) => {
                worker.pool.failed(endpoint, set);
                tried.push(endpoint.id);
                last = Some(error);
                continue;
            }
        };
        let reused = lease.reused;
        record.sending(endpoint.address, &outgoing.source);
        match attempt(connection, service, endpoint, lease, outgoing).await {
            Ok(exchange) => {
                worker.pool.succeeded(endpoint);
                return Ok(exchange);
            }
            // Nothing was written: it may go anywhere. A kept connection that had died says nothing about its endpoint.
            Err(Lost::Unwritten) if reused => fresh = true,
            Err(Lost::Unwritten) => {
                worker.pool.failed(endpoint, set);
                tried.push(endpoint.id);
            }
            // The race with an upstream that closes a kept connection: once more, on a new one.
            Err(Lost::Silent) if !repeated => {
                repeated = true;
                fresh = true;
            }
            Err(Lost::Silent) => return Err(Unsent::Failed(broke_off(service))),
            Err(Lost::Failed(failure, whose)) => {
                if whose == Whose::Upstream {
                    worker.pool.failed(endpoint, set);
                }
                return Err(Unsent::Failed(failure));
            }
        }
    }
    Err(Unsent::Unreached(last))
}

/// Why one attempt brought no answer.
enum Lost {
    /// No byte of the request was written.
    Unwritten,
    /// Written on a kept connection, not a byte came back, and the request may be repeated.
    Silent,
    /// Anything else.
    Failed(Failure, Whose),
}

/// Whose fault a failure is: only the upstream's own count towards its ejection.
#[derive(PartialEq, Eq)]
enum Whose {
    Upstream,
    Other,
}

/// Sends the request over one connection and waits for the head of the answer.
async fn attempt(
    connection: &Rc<Connection>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    mut lease: Lease,
    outgoing: &mut Outgoing,
) -> Result<Exchange, Lost> {
    let http2 = endpoint.upstream.protocol.is_http2();
    if http2 && outgoing.upgrade.is_some() {
        let detail = format!("service {} speaks HTTP/2, over which nothing is upgraded", service.name);
        return Err(Lost::Failed(Failure::new(Code::UpstreamProtocol, detail), Whose::Other));
    }
    let keep = lease.reused && outgoing.is_repeatable();
    let gate = outgoing.expects.then(Arc::<Gate>::default);
    let (read, written) = (lease.traffic.read(), lease.traffic.written());
    let Some(mut request) = outgoing.request(http2, keep, gate.clone()) else {
        return Err(Lost::Failed(
            Failure::new(Code::Internal, "the request could not be built"),
            Whose::Other,
        ));
    };
    listen_for_hints(&mut request, Arc::clone(&outgoing.hints), connection.is_http2, gate);
    let sending = async {
        match &mut lease.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    };
    let limit = outgoing.response_timeout.unwrap_or(service.timeouts.response);
    let sent = if limit.is_zero() {
        sending.await
    } else {
        let Ok(sent) = tokio::time::timeout(limit, sending).await else {
            let detail = format!("service {} did not answer within {limit:?}", service.name);
            return Err(Lost::Failed(Failure::new(Code::UpstreamTimeout, detail), Whose::Other));
        };
        sent
    };
    let mut error = match sent {
        Ok(response) => return Ok(Exchange { response, lease }),
        Err(error) => error,
    };
    if let Some(request) = error.take_message() {
        outgoing.put_back(request);
        return Err(Lost::Unwritten);
    }
    let error = error.into_error();
    let unwritten = lease.traffic.written() == written || was_refused(&error);
    let silent = lease.traffic.read() == read;
    if outgoing.has_head() && !outgoing.source.is_touched() {
        if unwritten {
            return Err(Lost::Unwritten);
        }
        if lease.reused && silent {
            return Err(Lost::Silent);
        }
    }
    tracing::debug!(service = %service.name, endpoint = %endpoint.address, %error, source = ?error.source(), "no answer");
    if outgoing.source.is_broken() {
        let failure = Failure::new(Code::MalformedRequest, "the request body broke off");
        return Err(Lost::Failed(failure, Whose::Other));
    }
    if error.is_parse() {
        let detail = format!("service {} did not answer in HTTP", service.name);
        return Err(Lost::Failed(Failure::new(Code::UpstreamProtocol, detail), Whose::Upstream));
    }
    Err(Lost::Failed(broke_off(service), Whose::Upstream))
}

/// Whether an HTTP/2 server says that it has not processed the request (RFC 9113 section 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let reason =
        error.source().and_then(|source| source.downcast_ref::<h2::Error>()).and_then(h2::Error::reason);
    reason == Some(h2::Reason::REFUSED_STREAM)
}

/// Passes 1xx answers on. 100 opens the gate of the body, whereupon the HTTP/1.1 library says it to the client by
/// itself; over HTTP/2 it is said here.
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
            hints.send(response.status(), response.headers());
        }
    });
}

/// The upstream's answer for the client: what belongs to the upstream's connection is cut, the body streams.
fn answer(
    worker: &Rc<Worker>,
    service: &Service,
    exchange: Exchange,
    mut outgoing: Outgoing,
    record: &mut Record,
) -> Result<Response<ResponseBody>, Failure> {
    let Exchange { mut response, lease } = exchange;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = outgoing.upgrade.take() else {
            let detail = format!("service {} switched protocols unasked", service.name);
            return Err(Failure::new(Code::UpstreamProtocol, detail));
        };
        return Ok(tunnel::open(worker, client, response, lease, service.timeouts.idle, record));
    }
    // An intermediary speaks its own version (RFC 9110 section 2.5), not an HTTP/1.0 upstream's.
    *response.version_mut() = Version::HTTP_11;
    rewrite::strip_hop_by_hop(response.headers_mut());
    if !outgoing.path_prefix.is_empty() {
        let authority = outgoing.authority.to_str().unwrap_or_default();
        rewrite::restore_prefix(response.headers_mut(), &outgoing.path_prefix, authority);
    }
    let idle = service.timeouts.idle;
    Ok(response
        .map(|body| ResponseBody::upstream(UpstreamBody::new(body, outgoing.source, lease, worker, idle))))
}

/// The failure of a request whose fork is down.
pub fn fork_unavailable(service: &Service, key: Key) -> Failure {
    let detail = format!(
        "the fork of {} for {key} is declared and none of its endpoints can be reached",
        service.name
    );
    Failure::new(Code::ForkUnavailable, detail).about(key)
}

/// The failure of a request whose baseline is down; `error` is what the last connect met.
pub fn unavailable(service: &Service, error: Option<ConnectError>) -> Failure {
    if let Some(error) = error {
        tracing::debug!(service = %service.name, %error, "no endpoint takes the connection");
    }
    let detail = format!("no endpoint of service {} can be reached", service.name);
    Failure::new(Code::UpstreamUnavailable, detail)
}

fn broke_off(service: &Service) -> Failure {
    let detail = format!("service {} closed the connection before it answered", service.name);
    Failure::new(Code::UpstreamUnavailable, detail).with_status(502)
}
