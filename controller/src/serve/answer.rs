//! The paths of the server, and what each wants of who asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use sidetrack_config::Key;
use sidetrack_config::key::DEFAULT_PREFIX;
use sidetrack_config::stream::Report;
use tokio::sync::{SemaphorePermit, watch};

use super::auth::{Grant, Refused, Right};
use super::body::{Answer, Content};
use super::connection::Busy;
use super::desk::Desk;
use super::places::Class;
use super::{Shared, stream};
use crate::publish::Publisher;
use crate::publish::acks::AckError;

/// The most bytes of a report.
const MAX_REPORT: usize = 64 << 10;
/// The most bytes of an object that is under review: an API server takes no larger request.
const MAX_OBJECT: usize = 3 << 20;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name of a proxy: that of a pod.
const MAX_NODE: usize = 253;

/// An answer before it is bound to its connection.
type Reply = Response<Content>;

/// Answers a request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    busy: Busy,
    ended: watch::Receiver<bool>,
) -> Response<Answer> {
    let path = request.uri().path().to_owned();
    let reply = match (path.as_str(), request.method().as_str()) {
        ("/livez", "GET") => text("alive\n"),
        ("/readyz", "GET") if shared.publisher.table().is_some() => text("ready\n"),
        ("/readyz", "GET") => not_yet(),
        // An update comes with what was there before.
        ("/validate", "POST") => review(&shared, request, &shared.validation, 2 * MAX_OBJECT).await,
        ("/mutate", "POST") => review(&shared, request, &shared.mutation, MAX_OBJECT).await,
        ("/v1/stream", "GET") => follow(&shared, &request, &busy, ended).await,
        ("/v1/report", "POST") => report(&shared, request).await,
        ("/v1/proxies", "GET") => proxies(&shared, &request).await,
        ("/v1/previews", "GET") => previews(&shared, &request).await,
        (_, "GET") if path.starts_with("/v1/previews/") => preview(&shared, &request).await,
        ("/livez" | "/readyz" | "/v1/stream" | "/v1/proxies" | "/v1/previews", _) => not_allowed("GET"),
        ("/validate" | "/mutate" | "/v1/report", _) => not_allowed("POST"),
        _ => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    reply.map(|content| content.with(busy))
}

async fn follow(
    shared: &Shared,
    request: &Request<Incoming>,
    busy: &Busy,
    ended: watch::Receiver<bool>,
) -> Reply {
    let (publisher, grant) = match table(shared, request).await {
        Ok(found) => found,
        Err(reply) => return *reply,
    };
    let Some(node) = parameter(request, "node").filter(|node| is_node(node)) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "say who you are: /v1/stream?node=NAME, the name of your pod",
        );
    };
    let name = match name(shared, &grant, node) {
        Ok(name) => name,
        Err(reply) => return *reply,
    };
    let version = match parameter(request, "version").filter(|version| !version.is_empty()) {
        None => None,
        Some(version) => match version.parse() {
            Ok(version) => Some(version),
            Err(_) => return problem(StatusCode::BAD_REQUEST, "version is a number, or left out"),
        },
    };
    let epoch = parameter(request, "epoch").unwrap_or_default();
    if shared.publisher.is_cut_off() && !epoch.is_empty() && epoch != publisher.epoch() {
        return behind();
    }
    let Some(subscription) = publisher.subscribe(epoch, version) else { return not_yet() };
    let (class, who) = match &grant {
        Grant::All => (Class::Gateway, name.to_string()),
        Grant::Waypoint(pod) => (Class::Waypoint, pod.to_string()),
        Grant::Sidecar(pod) => (Class::Sidecar, pod.to_string()),
    };
    if !busy.is_of(class, &who) {
        shared.counters.refused("proxies");
        return later("this controller has no room for another connection of yours, or of your like", "5");
    }
    let connected = match publisher.acks().connect(&name) {
        Ok(connected) => connected,
        Err(error) => {
            shared.counters.refused("proxies");
            return later(&error.to_string(), "5");
        }
    };
    let lines = stream::start(subscription, connected, Arc::clone(&shared.counters), busy.cutter(), ended);
    with_type(StatusCode::OK, "application/x-ndjson", Content::Lines(lines))
}

/// The table of whoever asks, and who that is.
async fn table(shared: &Shared, request: &Request<Incoming>) -> Result<(Arc<Publisher>, Grant), Box<Reply>> {
    let grant = allowed(shared, request, Right::Table).await.map_err(|refused| refusal(&refused))?;
    let publisher = match &grant {
        Grant::All => Arc::clone(&shared.publisher),
        Grant::Waypoint(pod) => {
            shared.publisher.view(&pod.namespace).ok_or_else(|| no_view(&pod.namespace))?
        }
        Grant::Sidecar(_) => shared.publisher.sidecars().ok_or_else(not_yet)?,
    };
    Ok((publisher, grant))
}

/// The name in its table of a proxy that calls itself `node`.
fn name(shared: &Shared, grant: &Grant, node: &str) -> Result<Box<str>, Box<Reply>> {
    grant.name(node).map_err(|refused| {
        shared.counters.refused(refused.status());
        Box::new(refusal(&refused))
    })
}

async fn report(shared: &Shared, request: Request<Incoming>) -> Reply {
    let (publisher, grant) = match table(shared, &request).await {
        Ok(found) => found,
        Err(reply) => return *reply,
    };
    let body = match whole(shared, request, MAX_REPORT).await {
        Ok(body) => body,
        Err(reply) => return *reply,
    };
    let mut report: Report = match serde_json::from_slice(&body.bytes) {
        Ok(report) => report,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("this is no report: {error}")),
    };
    report.node = match name(shared, &grant, &report.node) {
        Ok(name) => name,
        Err(reply) => return *reply,
    };
    let Some(table) = publisher.table() else { return not_yet() };
    if let Err(error) = publisher.acks().report(&report, publisher.epoch(), table.version()) {
        let status = match error {
            // RFC 9110 section 15.5.20: the client may try another connection.
            AckError::OtherEpoch | AckError::Stranger(_) => StatusCode::MISDIRECTED_REQUEST,
            AckError::Future(_) => StatusCode::CONFLICT,
            AckError::TooMany | AckError::TooManyStreams(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        return problem(status, &error.to_string());
    }
    if let Some(error) = &report.error {
        shared.counters.rejections.inc();
        tracing::warn!(
            node = &*report.node,
            version = report.version,
            error = &**error,
            "a proxy refused a table"
        );
    }
    let mut reply = Response::new(Content::Whole(None));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

async fn proxies(shared: &Shared, request: &Request<Incoming>) -> Reply {
    if let Err(refused) = allowed(shared, request, Right::Previews).await {
        return refusal(&refused);
    }
    let Some(table) = shared.publisher.table() else { return not_yet() };
    let nodes = shared.publisher.acks().nodes(Instant::now());
    let views = shared.publisher.views();
    let waypoints = views.iter().filter_map(|(namespace, view)| {
        let table = view.table()?;
        let nodes = view.acks().nodes(Instant::now());
        let said = serde_json::json!({"generation": table.version(), "items": table.len(), "proxies": nodes});
        Some((namespace.to_string(), said))
    });
    let waypoints: serde_json::Map<_, _> = waypoints.collect();
    let said = serde_json::json!({
        "epoch": shared.publisher.epoch(), "generation": table.version(), "items": table.len(),
        "hash": table.hash(), "proxies": nodes, "waypoints": waypoints,
    });
    json(StatusCode::OK, &said)
}

async fn previews(shared: &Shared, request: &Request<Incoming>) -> Reply {
    if let Err(refused) = allowed(shared, request, Right::Previews).await {
        return refusal(&refused);
    }
    if is_local(request) {
        return shared.previews.local(None).map_or_else(not_yet, |local| json(StatusCode::OK, &local));
    }
    shared.previews.all().await.map_or_else(not_yet, |all| json(StatusCode::OK, &all))
}

async fn preview(shared: &Shared, request: &Request<Incoming>) -> Reply {
    if let Err(refused) = allowed(shared, request, Right::Previews).await {
        return refusal(&refused);
    }
    let written = request.uri().path().strip_prefix("/v1/previews/").unwrap_or_default();
    let key = match Key::parse(written, DEFAULT_PREFIX) {
        Ok(key) => key,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{written:?} is no key: {error}")),
    };
    if is_local(request) {
        return shared.previews.local(Some(&key)).map_or_else(not_yet, |local| json(StatusCode::OK, &local));
    }
    let Some(view) = shared.previews.one(&key).await else { return not_yet() };
    json(if view.known { StatusCode::OK } else { StatusCode::NOT_FOUND }, &view)
}

async fn review(shared: &Shared, request: Request<Incoming>, desk: &Desk, most: usize) -> Reply {
    let body = match whole(shared, request, most).await {
        Ok(body) => body,
        Err(reply) => return *reply,
    };
    // While it waits its body counts among those that are held.
    match desk.ask(body.bytes.clone()).await {
        Some(answer) => with_type(StatusCode::OK, "application/json", Content::whole(answer)),
        None => {
            shared.counters.refused("reviews");
            later("too many reviews wait here for an answer", "1")
        }
    }
}

async fn allowed(shared: &Shared, request: &Request<Incoming>, right: Right) -> Result<Grant, Refused> {
    let field = request.headers().get(AUTHORIZATION).and_then(|field| field.to_str().ok());
    let token = field.and_then(|field| {
        let (scheme, token) = field.split_once(' ')?;
        // RFC 9110 section 11.1: schemes are compared without case.
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    shared.auth.check(token, right).await
}

/// A body, and the room that it takes among all of them.
struct Body<'s> {
    bytes: Bytes,
    _room: SemaphorePermit<'s>,
}

/// Reads a body, within what all bodies together may hold.
async fn whole(shared: &Shared, request: Request<Incoming>, most: usize) -> Result<Body<'_>, Box<Reply>> {
    let read = tokio::time::timeout(PATIENCE, pieces(shared, Limited::new(request.into_body(), most)));
    let (status, detail) = match read.await {
        Ok(Ok(Some(body))) => return Ok(body),
        Ok(Ok(None)) => {
            shared.counters.refused("bodies");
            (StatusCode::SERVICE_UNAVAILABLE, "too many bodies are on their way here".to_owned())
        }
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, format!("the body broke off, or is over {most} bytes")),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
    };
    Err(Box::new(problem(status, &detail)))
}

/// The body; `None` where there is no room for it.
async fn pieces(
    shared: &Shared,
    mut body: Limited<Incoming>,
) -> Result<Option<Body<'_>>, <Limited<Incoming> as hyper::body::Body>::Error> {
    let mut whole = BytesMut::new();
    let Ok(mut held) = shared.bodies.try_acquire_many(0) else { return Ok(None) };
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        let room = u32::try_from(piece.len()).ok().and_then(|size| shared.bodies.try_acquire_many(size).ok());
        let Some(room) = room else { return Ok(None) };
        held.merge(room);
        whole.extend_from_slice(&piece);
    }
    Ok(Some(Body { bytes: whole.freeze(), _room: held }))
}

/// A parameter of the query. Names of pods, epochs and numbers need no escapes, and get none.
fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn is_local(request: &Request<Incoming>) -> bool {
    parameter(request, "local") == Some("1")
}

fn is_node(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=MAX_NODE).contains(&name.len()) && name.bytes().all(fits)
}

fn refusal(refused: &Refused) -> Reply {
    let status = match refused {
        Refused::NoToken | Refused::BadToken => StatusCode::UNAUTHORIZED,
        Refused::NotAProxy { .. }
        | Refused::NotAReader { .. }
        | Refused::NotAPod { .. }
        | Refused::NotThisPod { .. }
        | Refused::OtherNode { .. } => StatusCode::FORBIDDEN,
        Refused::NoAnswer { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut reply = problem(status, &refused.to_string());
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

fn not_yet() -> Reply {
    later("this controller has not read the whole cluster yet, and so has no table", "1")
}

/// To a waypoint that is earlier than what this replica knows, or that nothing needs any more.
fn no_view(namespace: &str) -> Reply {
    later(&format!("this controller keeps no waypoints in namespace {namespace}"), "1")
}

/// To a proxy that has the table of another replica: ours would take it back in time.
fn behind() -> Reply {
    let detail = "this controller hears nothing from the API server, and the table that you have may be newer than ours: \
                  keep it, and ask again";
    later(detail, "5")
}

/// A moment later it may be otherwise.
fn later(detail: &str, seconds: &'static str) -> Reply {
    let mut reply = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    reply
}

fn not_allowed(method: &'static str) -> Reply {
    let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {method}"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    reply
}

fn text(text: &'static str) -> Reply {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", Content::whole(text))
}

fn json(status: StatusCode, said: &impl Serialize) -> Reply {
    // Only maps whose keys are no texts fail, and there is none.
    let body = serde_json::to_vec(said).unwrap_or_default();
    with_type(status, "application/json", Content::whole(body))
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Reply {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"title": title, "status": status.as_u16(), "detail": detail}).to_string();
    with_type(status, "application/problem+json", Content::whole(body))
}

fn with_type(status: StatusCode, media_type: &'static str, content: Content) -> Reply {
    let mut reply = Response::new(content);
    *reply.status_mut() = status;
    let fields = reply.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
