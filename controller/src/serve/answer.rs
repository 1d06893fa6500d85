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
use tokio::sync::watch;

use super::auth::{Refused, Right};
use super::body::{Answer, Content};
use super::connection::Busy;
use super::{Shared, stream};
use crate::publish::acks::AckError;

/// The most bytes of a report.
const MAX_REPORT: usize = 64 << 10;
/// The most bytes of an AdmissionReview: the object and its predecessor, each as large as etcd takes, and managed
/// fields.
const MAX_REVIEW: usize = 8 << 20;
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
        ("/validate", "POST") => validate(&shared, request).await,
        ("/v1/stream", "GET") => follow(&shared, &request, &busy, ended).await,
        ("/v1/report", "POST") => report(&shared, request).await,
        ("/v1/proxies", "GET") => proxies(&shared, &request).await,
        ("/v1/previews", "GET") => previews(&shared, &request).await,
        (_, "GET") if path.starts_with("/v1/previews/") => preview(&shared, &request).await,
        ("/livez" | "/readyz" | "/v1/stream" | "/v1/proxies" | "/v1/previews", _) => not_allowed("GET"),
        ("/validate" | "/v1/report", _) => not_allowed("POST"),
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
    if let Err(refused) = allowed(shared, request, Right::Table).await {
        return refusal(&refused);
    }
    let Some(node) = parameter(request, "node").filter(|node| is_node(node)) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "say who you are: /v1/stream?node=NAME, the name of your pod",
        );
    };
    let version = match parameter(request, "version").filter(|version| !version.is_empty()) {
        None => None,
        Some(version) => match version.parse() {
            Ok(version) => Some(version),
            Err(_) => return problem(StatusCode::BAD_REQUEST, "version is a number, or left out"),
        },
    };
    let epoch = parameter(request, "epoch").unwrap_or_default();
    if shared.publisher.is_cut_off() && !epoch.is_empty() && epoch != shared.publisher.epoch() {
        return behind();
    }
    let Some(subscription) = shared.publisher.subscribe(epoch, version) else { return not_yet() };
    let connected = match shared.publisher.acks().connect(node) {
        Ok(connected) => connected,
        Err(error) => {
            shared.counters.refused("proxies");
            return problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    };
    let lines = stream::start(subscription, connected, Arc::clone(&shared.counters), busy.cutter(), ended);
    with_type(StatusCode::OK, "application/x-ndjson", Content::Lines(lines))
}

async fn report(shared: &Shared, request: Request<Incoming>) -> Reply {
    if let Err(refused) = allowed(shared, &request, Right::Table).await {
        return refusal(&refused);
    }
    let body = match whole(shared, request, MAX_REPORT).await {
        Ok(body) => body,
        Err(reply) => return *reply,
    };
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("this is no report: {error}")),
    };
    let Some(table) = shared.publisher.table() else { return not_yet() };
    let publisher = &shared.publisher;
    if let Err(error) = publisher.acks().report(&report, publisher.epoch(), table.version()) {
        let status = match error {
            // RFC 9110 section 15.5.20: the client may try another connection.
            AckError::OtherEpoch | AckError::Stranger(_) => StatusCode::MISDIRECTED_REQUEST,
            AckError::Future(_) => StatusCode::CONFLICT,
            AckError::TooMany => StatusCode::SERVICE_UNAVAILABLE,
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
    let said = serde_json::json!({
        "epoch": shared.publisher.epoch(), "generation": table.version(), "items": table.len(),
        "hash": table.hash(), "proxies": nodes,
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

async fn validate(shared: &Shared, request: Request<Incoming>) -> Reply {
    match whole(shared, request, MAX_REVIEW).await {
        Ok(body) => with_type(StatusCode::OK, "application/json", Content::whole((shared.admission)(body))),
        Err(reply) => *reply,
    }
}

async fn allowed(shared: &Shared, request: &Request<Incoming>, right: Right) -> Result<(), Refused> {
    let field = request.headers().get(AUTHORIZATION).and_then(|field| field.to_str().ok());
    let token = field.and_then(|field| {
        let (scheme, token) = field.split_once(' ')?;
        // RFC 9110 section 11.1: schemes are compared without case.
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    shared.auth.check(token, right).await
}

/// Reads a body, within what all bodies together may hold.
async fn whole(shared: &Shared, request: Request<Incoming>, most: usize) -> Result<Bytes, Box<Reply>> {
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
) -> Result<Option<Bytes>, <Limited<Incoming> as hyper::body::Body>::Error> {
    let mut whole = BytesMut::new();
    let mut held = shared.bodies.try_acquire_many(0).ok();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        let room = u32::try_from(piece.len()).ok().and_then(|size| shared.bodies.try_acquire_many(size).ok());
        let (Some(held), Some(room)) = (&mut held, room) else { return Ok(None) };
        held.merge(room);
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole.freeze()))
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
        Refused::NotAProxy { .. } | Refused::NotAReader { .. } => StatusCode::FORBIDDEN,
        Refused::NoAnswer { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut reply = problem(status, &refused.to_string());
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

fn not_yet() -> Reply {
    let detail = "this controller has not read the whole cluster yet, and so has no table";
    let mut reply = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// To a proxy that has the table of another replica: ours would take it back in time.
fn behind() -> Reply {
    let detail = "this controller hears nothing from the API server, and the table that you have may be newer than ours: \
                  keep it, and ask again";
    let mut reply = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
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
