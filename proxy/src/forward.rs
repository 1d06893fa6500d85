//! Step 5: sends the request to an endpoint of its target, and the answer back. What may be sent again, and what
//! becomes of a fork that is down, is decided here and nowhere else.

mod attempt;
pub mod body;
pub mod carriers;
pub mod deadline;
pub mod filters;
pub mod forwarded;
pub mod gap;
pub mod hold;
pub mod http1;
pub mod http2;
pub mod meant;
pub mod outgoing;
pub mod pool;
pub mod relay;
pub mod rewrite;
mod trace;
pub mod tunnel;
pub mod upload;
pub mod upstream_body;
pub mod upstream_tls;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use sidetrack_config::Key;
use sidetrack_config::model::OnForkDown;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::accept::connection::Connection;
use crate::decision::{Decision, Reason, Target};
use crate::error::{Code, Failure};
use crate::pick;
use crate::record::Record;
use crate::respond::Answer;
use crate::route::table::{Service, Table};
use crate::worker::Worker;
use attempt::{Exchange, Lost, Received, Whose, attempt};
use body::Source;
pub use outgoing::Outgoing;
use pool::{Avoid, ConnectError};
use upstream_body::BodyError;

/// What carries the bytes of a connection to an upstream.
pub type Wire = crate::wire::Wire<TcpStream, TlsStream<TcpStream>>;

/// How often a held request looks for its fork: a pod that has just begun to listen tells nobody.
const HOLD_STEP: Duration = Duration::from_millis(100);

/// What came of trying a set of endpoints.
enum Unsent {
    /// No endpoint took the connection; nothing was written, so that something else may still be tried.
    Unreached(Option<ConnectError>),
    /// Something was written and no answer came.
    Failed(Failure),
}

/// Forwards a request, and gives the answer with its body still streaming.
///
/// # Errors
/// `fork_unavailable`, `upstream_unavailable`, `upstream_timeout` or `upstream_protocol`.
pub async fn forward(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    decision: &Decision<'_>,
    outgoing: &Outgoing<'_>,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let sent = send(worker, connection, decision.service, decision.target, outgoing, record).await;
    let exchange = match sent {
        Ok(exchange) => exchange,
        Err(Unsent::Failed(failure)) => return Err(failure),
        Err(Unsent::Unreached(error)) => {
            Box::pin(instead(worker, connection, decision, outgoing, record, error)).await?
        }
    };
    record.answered();
    let mut answer = answer(worker, decision.service, exchange, outgoing, record)?;
    if answer.body.may_be_broken() {
        // What is broken behind its very head can still be told; a moment later the client has the head.
        let first = poll_fn(|cx| Poll::Ready(answer.body.poll_data(cx))).await;
        if let Poll::Ready(Err(error)) = first {
            tracing::debug!(service = %decision.service.name, %error, "no body");
            return Err(broken(decision.service, &error, &outgoing.source));
        }
    }
    Ok(answer)
}

/// The failure of an answer whose body is broken from its first byte.
fn broken(service: &Service, error: &BodyError, source: &Source) -> Failure {
    match error {
        BodyError::Client => source.failure(),
        BodyError::Upstream(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            attempt::not_http(service)
        }
        BodyError::Http2(why) => attempt::reset(service, *why),
        BodyError::Upstream(_) | BodyError::Stalled | BodyError::Late | BodyError::Moved => {
            broke_off(service)
        }
    }
}

/// What becomes of a request whose target can't be reached; `error` is what the last connect met.
async fn instead(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    decision: &Decision<'_>,
    outgoing: &Outgoing<'_>,
    record: &mut Record,
    error: Option<ConnectError>,
) -> Result<Exchange, Failure> {
    let preview = match decision.target {
        Target::Baseline(_) => return Err(unavailable(decision.service, error)),
        Target::Own(key, _) => return Err(fork_unavailable(decision.service, *key)),
        Target::Fork(preview, _) => preview,
    };
    tracing::debug!(preview = %preview.key, service = %decision.service.name, ?error, "fork is down");
    let key = preview.key;
    let down = || fork_unavailable(decision.service, key);
    record.decided(&Decision { reason: Reason::ForkDown, ..decision.clone() });
    match preview.on_fork_down {
        OnForkDown::Hold => hold(worker, connection, decision, outgoing, record).await?.ok_or_else(down),
        OnForkDown::Baseline if !decision.identity.strict => {
            let baseline = decision.here.baseline(decision.service, Some(&key));
            let target = baseline.map_err(|_| nothing_instead(decision.service, key))?;
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
    outgoing: &Outgoing<'_>,
    record: &mut Record,
) -> Result<Option<Exchange>, Failure> {
    let mut table = worker.table.get();
    let limits = table.estate.hold;
    let bytes = outgoing.held_bytes(u64::from(worker.limits.http2_stream_window));
    let _held = match worker.shared.holding.take(bytes, &limits) {
        Ok(held) => held,
        Err(limit) => {
            worker.stats.reached(limit);
            return Ok(None);
        }
    };
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
        let picked = decision.here.target(&decision.identity, service, &table);
        let (target, reason) = picked.inspect_err(|failure| record.refused(failure, table.generation))?;
        if let (Target::Fork(preview, _), Reason::ParentFork) = (target, reason)
            && decision.target.preview() != Some(preview.key)
            && table.access(&preview.key).is_some()
        {
            // Another parent's by now, of which nobody has asked whether this client may see it.
            break;
        }
        let now = Decision { service, target, reason, generation: table.generation, ..decision.clone() };
        match send(worker, connection, service, target, outgoing, record).await {
            Ok(exchange) => {
                record.decided(&now);
                record.renewed(Rc::clone(&table), service.index);
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
    table.estate.service(&service.name)
}

/// Tries the endpoints of a target until one answers, or none is left.
async fn send(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    service: &Service,
    target: Target<'_>,
    outgoing: &Outgoing<'_>,
    record: &mut Record,
) -> Result<Exchange, Unsent> {
    let set = target.endpoints();
    // Over HTTP/2 a connection is written to once for all of its streams anyway. Nothing is picked before, or all who wait
    // for their turn would pick by counts in which none of them is, and hold connections that may close meanwhile.
    if set.first().is_some_and(|endpoint| !endpoint.upstream.protocol.is_http2()) {
        worker.turn().await;
    }
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    let mut last = None;
    let mut avoid = Avoid::Nothing;
    let mut repeated = false;
    let mut first = true;
    let mut made_room = false;
    while let Some(endpoint) = pick::endpoint(set, &worker.pool, &tried, worker.random()) {
        if !std::mem::take(&mut first) {
            record.retried();
        }
        let lease = match worker.pool.lease(endpoint, avoid).await {
            Ok(lease) => lease,
            // What this machine lacks says nothing about the endpoint: what idles is let go, and the same tried again.
            Err(error) if error.is_ours() && !made_room => {
                tracing::warn!(%error, "idle upstream connections are closed");
                worker.pool.close_idle();
                made_room = true;
                continue;
            }
            Err(error) if error.is_ours() => return Err(Unsent::Failed(no_sockets(&error))),
            Err(error) => {
                worker.pool.failed(endpoint, set);
                tried.push(endpoint.id);
                last = Some(error);
                continue;
            }
        };
        let (reused, link) = (lease.is_reused(), lease.link());
        record.sending(endpoint.address, &outgoing.source);
        match attempt(worker, connection, service, endpoint, lease, outgoing).await {
            Ok(exchange) => {
                worker.pool.succeeded(endpoint);
                return Ok(exchange);
            }
            // Nothing was written: it may go anywhere. A kept connection that had died says nothing about its endpoint.
            Err(Lost::Unwritten) if reused => avoid = avoid.and(link),
            Err(Lost::Unwritten) => {
                worker.pool.refused(endpoint);
                worker.pool.failed(endpoint, set);
                tried.push(endpoint.id);
            }
            // The race with an upstream that closes a kept connection: once more, on a new one.
            Err(Lost::Silent) if !repeated => {
                repeated = true;
                avoid = Avoid::Kept;
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

/// The upstream's answer for the client: what belongs to the upstream's connection is cut, the body streams.
fn answer(
    worker: &Rc<Worker>,
    service: &Service,
    exchange: Exchange,
    outgoing: &Outgoing<'_>,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let Exchange { status, mut fields, body } = exchange;
    outgoing.source.be_patient();
    let body = match body {
        Received::Upgrade(lease) => {
            if !outgoing.upgrades || !rewrite::is_websocket(&fields) {
                let detail = format!("service {} switched protocols unasked", service.name);
                return Err(Failure::new(Code::UpstreamProtocol, detail));
            }
            return Ok(tunnel::open(worker, fields, *lease, service.timeouts.idle, record));
        }
        // To a client of HTTP/2 that would say that its tunnel is open (RFC 8441 section 5).
        _ if outgoing.upgrades && record.is_http2() && status.is_success() => {
            let detail = format!("service {} did not switch to WebSocket", service.name);
            return Err(Failure::new(Code::UpstreamProtocol, detail));
        }
        Received::Body(body) => body,
    };
    rewrite::strip_hop_by_hop(&mut fields);
    fields.remove("te");
    if !outgoing.path_prefix.is_empty() {
        rewrite::restore_prefix(&mut fields, &outgoing.path_prefix, &outgoing.authority);
    }
    Ok(Answer { status, fields, body })
}

/// The failure of a request whose fork is down.
pub fn fork_unavailable(service: &Service, key: Key) -> Failure {
    let detail = format!(
        "the fork of {} for {key} is declared and none of its endpoints can be reached",
        service.name
    );
    Failure::new(Code::ForkUnavailable, detail).about(key)
}

/// The failure of a request whose fork is down, and that the baseline may answer, where there is none.
pub fn nothing_instead(service: &Service, key: Key) -> Failure {
    let Failure { detail, .. } = fork_unavailable(service, key);
    Failure::new(Code::NoRoute, format!("{detail}, and the service has no baseline")).about(key)
}

/// The failure of a request whose baseline is down; `error` is what the last connect met.
pub fn unavailable(service: &Service, error: Option<ConnectError>) -> Failure {
    let mut detail = format!("no endpoint of service {} can be reached", service.name);
    if let Some(error) = error {
        tracing::debug!(service = %service.name, %error, "no endpoint takes the connection");
        if error.is_of_tls() {
            detail = format!("{detail}: {error}");
        }
    }
    Failure::new(Code::UpstreamUnavailable, detail)
}

fn no_sockets(error: &ConnectError) -> Failure {
    tracing::error!(%error, "no connection to an upstream can be opened");
    Failure::new(Code::Overloaded, "the proxy can open no more connections; try again")
}

fn broke_off(service: &Service) -> Failure {
    let detail = format!("service {} closed the connection before it answered", service.name);
    Failure::new(Code::UpstreamUnavailable, detail).with_status(502)
}
