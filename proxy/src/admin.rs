//! The admin listener, on the control thread: health, metrics, the table, previews, `explain`, receipts.

mod receipts;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use sidetrack_config::Key;
use sidetrack_config::model::{Admin as Settings, Role};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::context::edges::{OTHER, UNKNOWN};
use crate::context::memory::Memory;
use crate::drain::Phase;
use crate::explain::explain;
use crate::head::PlainHead;
use crate::identify::host_of;
use crate::record::metrics::{CONTENT_TYPE, Contact, Inside, Metrics};
use crate::route::table::{Endpoint, Estate, Preview, Table};
use crate::source::files::MAX_BYTES;
use crate::source::keeper::{Keeper, Refused, Status};
use crate::source::resolve::resolve;
use crate::worker::Shared;

/// Admin connections at once.
const CONNECTIONS: usize = 256;
/// Those of one address: a stranger that reaches the port must not be able to keep probes and scrapes out.
const PER_ADDRESS: usize = 32;
/// How long a connection lives: longer than any answer takes, and a client that reads nothing is gone after it.
const LIFE: Duration = Duration::from_secs(30);

/// What the admin listener answers from.
pub struct Admin {
    /// The owner of the table.
    pub keeper: Rc<RefCell<Keeper>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Its settings.
    pub settings: Settings,
    /// What the workers share.
    pub shared: Arc<Shared>,
}

/// Where receipts are asked for, by trace.
const RECEIPTS: &str = "/v1/receipts/";

type Answer = Response<Full<Bytes>>;

/// Answers on `listener` for as long as the process lives.
pub async fn serve(admin: Rc<Admin>, listener: StdListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener can't be used");
            return;
        }
    };
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    let peers = Rc::new(RefCell::new(HashMap::<IpAddr, usize>::new()));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(seat) = Seat::take(&peers, peer.ip()) else {
            tracing::debug!(%peer, "admin: connection closed, this address has {PER_ADDRESS} of them");
            continue;
        };
        let admin = Rc::clone(&admin);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let admin = Rc::clone(&admin);
                async move { Ok::<_, Infallible>(answer(&admin, request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(LIFE, serving).await {
                tracing::debug!(%error, "admin connection ended");
            }
            drop((seat, slot));
        });
    }
}

/// One of the connections of an address.
struct Seat {
    peers: Rc<RefCell<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Seat {
    fn take(peers: &Rc<RefCell<HashMap<IpAddr, usize>>>, address: IpAddr) -> Option<Self> {
        let mut all = peers.borrow_mut();
        let count = all.entry(address).or_insert(0);
        (*count < PER_ADDRESS).then(|| {
            *count += 1;
            Self { peers: Rc::clone(peers), address }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.peers.borrow_mut();
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

async fn answer(admin: &Admin, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/livez") => text(StatusCode::OK, "alive\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => ready(admin),
        (&Method::GET, "/metrics") => metrics(admin),
        (_, path) if path.starts_with("/v1/") => match may_ask(admin, &request) {
            Ok(()) => v1(admin, request).await,
            Err(refusal) => *refusal,
        },
        (_, "/livez" | "/readyz" | "/metrics") => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here")
        }
        _ => problem(
            StatusCode::NOT_FOUND,
            "nothing is here; see /livez, /readyz, /metrics, /v1/table, /v1/previews, /v1/explain, /v1/context",
        ),
    }
}

/// Whether this client may ask `/v1`: with a token where one is set; else only on loopback, and there only by a name
/// that a web page can't have (DNS rebinding), and from no foreign page.
fn may_ask(admin: &Admin, request: &Request<Incoming>) -> Result<(), Box<Answer>> {
    let refuse = |status, detail: &str| Err(Box::new(problem(status, detail)));
    let field = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_loopback = admin.settings.address.ip().to_canonical().is_loopback();
    if let Some(token) = &admin.settings.token {
        let sent = field(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
        if !bool::from(sent.trim().as_bytes().ct_eq(token.0.as_slice())) {
            let mut refusal = problem(
                StatusCode::UNAUTHORIZED,
                "send Authorization: Bearer with the token of admin.tokenFile",
            );
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(Box::new(refusal));
        }
    } else if !is_loopback {
        return refuse(
            StatusCode::FORBIDDEN,
            "on an address that is not loopback only /livez, /readyz and /metrics answer; set admin.tokenFile",
        );
    }
    let host = field(header::HOST).unwrap_or("");
    if is_loopback && !is_local_name(host_of(host)) {
        return refuse(StatusCode::FORBIDDEN, "the Host must be localhost or an IP address");
    }
    match field(header::ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, authority)| authority != host) => {
            refuse(StatusCode::FORBIDDEN, "requests of other pages are not answered")
        }
        _ => Ok(()),
    }
}

fn is_local_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

async fn v1(admin: &Admin, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let key = path.strip_prefix("/v1/previews/").map(str::to_owned);
    match (request.method(), path.as_str(), key) {
        (&Method::GET, "/v1/table", _) => {
            json_answer(StatusCode::OK, &table(&admin.keeper.borrow().published().load()))
        }
        (&Method::GET, "/v1/previews", _) => json_answer(StatusCode::OK, &previews(&admin.keeper.borrow())),
        (&Method::GET, "/v1/explain", _) => explained(admin, &query),
        (&Method::GET, "/v1/context", _) => json_answer(StatusCode::OK, &context(admin)),
        (&Method::GET, path, _) if path.starts_with(RECEIPTS) => {
            match receipts::answer(admin, path.strip_prefix(RECEIPTS).unwrap_or_default()) {
                Ok(value) => json_answer(StatusCode::OK, &value),
                Err((status, detail)) => problem(status, &detail),
            }
        }
        (&Method::PUT, _, Some(key)) => put(admin, &key, request.into_body()).await,
        (&Method::DELETE, _, Some(key)) => delete(admin, &key),
        (&Method::GET, _, Some(key)) => one(admin, &key),
        (_, "/v1/table" | "/v1/previews" | "/v1/explain" | "/v1/context", _) => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here")
        }
        (_, _, Some(_)) => {
            problem(StatusCode::METHOD_NOT_ALLOWED, "only GET, PUT and DELETE are answered here")
        }
        _ => problem(
            StatusCode::NOT_FOUND,
            "nothing is here; see /v1/table, /v1/previews, /v1/explain, /v1/context, /v1/receipts/TRACEID",
        ),
    }
}

fn ready(admin: &Admin) -> Answer {
    let keeper = admin.keeper.borrow();
    let draining = *admin.shared.drain.borrow() != Phase::Serving;
    let status = keeper.status();
    let previews: serde_json::Map<String, Value> =
        status.previews.iter().take(100).map(|(key, problem)| (key.to_string(), json!(problem))).collect();
    let controller = keeper.controller();
    let is_ready = !draining && controller.is_none_or(|(_, has_table)| has_table);
    let body = json!({
        "ready": is_ready,
        "draining": draining,
        "generation": keeper.generation(),
        "configuration": {"ok": status.main.is_none(), "error": status.main},
        "previewsWithProblems": previews,
        "controller": controller.map(|(url, _)| followed(url, admin.metrics.contact(), status)),
    });
    // A bad file, or a controller that is away, is no reason to take traffic away: the last good table serves.
    json_answer(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

/// How it stands with the controller at `url`.
fn followed(url: &str, contact: Option<Contact>, status: &Status) -> Value {
    let connected = contact.is_some_and(|contact| contact.connected);
    let certificates: serde_json::Map<String, Value> =
        status.certificates.iter().take(100).map(|(name, why)| (name.to_string(), json!(why))).collect();
    json!({
        "url": url,
        "connected": connected,
        "stale": !connected,
        "lastContactSeconds": contact.map(|contact| contact.last.elapsed().as_secs()),
        "version": contact.map(|contact| contact.version),
        "error": status.version,
        "certificatesWithProblems": certificates,
    })
}

fn metrics(admin: &Admin) -> Answer {
    let table = admin.keeper.borrow().published().load();
    let services = table.estate.services.iter().map(|service| &*service.stats);
    let previews: Vec<_> = table.previews().collect();
    let inside = Inside { caller: caller(&table.estate), memory: admin.shared.memory.get() };
    let page = admin.metrics.encode(services, previews.iter().map(|p| (p.key.as_str(), &p.stats)), inside);
    let mut answer = text(StatusCode::OK, page);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    answer
}

/// Who makes the calls that are counted here.
fn caller(estate: &Estate) -> &str {
    match (&estate.workload, estate.role) {
        (Some(workload), _) => workload.service(),
        (None, Role::Gateway) => "",
        (None, Role::Waypoint | Role::Sidecar) => UNKNOWN,
    }
}

/// What became of the keys of the calls that were seen here, callee by callee.
fn context(admin: &Admin) -> Value {
    let table = admin.keeper.borrow().published().load();
    let estate = &table.estate;
    let services = estate.services.iter().map(|service| &*service.stats);
    let edges = services.chain([admin.metrics.unrouted()]).filter_map(|stats| {
        let edge = stats.edge().filter(|edge| edge.kept + edge.lost > 0)?;
        let callee = if stats.name().is_empty() { OTHER } else { stats.name() };
        let mut edge = serde_json::to_value(edge).ok()?;
        let about = edge.as_object_mut()?;
        about.insert("service".into(), caller(estate).into());
        about.insert("callee".into(), callee.into());
        Some(edge)
    });
    let memory = admin.shared.memory.get();
    json!({
        "role": match estate.role {
            Role::Gateway => "gateway",
            Role::Waypoint => "waypoint",
            Role::Sidecar => "sidecar",
        },
        "generation": table.generation,
        "readsTraceIds": estate.role != Role::Gateway && !estate.context.secrets.is_empty(),
        "remembered": memory.map_or(0, Memory::len),
        "edges": edges.collect::<Vec<_>>(),
    })
}

fn addresses(endpoints: &[Arc<Endpoint>]) -> Vec<Value> {
    endpoints
        .iter()
        .map(|endpoint| json!({"address": endpoint.address.to_string(), "healthy": endpoint.is_healthy()}))
        .collect()
}

fn table(table: &Table) -> Value {
    let services: serde_json::Map<String, Value> = table
        .estate
        .services
        .iter()
        .map(|service| {
            let about = json!({
                "baseline": service.baseline.as_deref().map(addresses),
                "connectTimeoutMs": service.timeouts.connect.as_millis(),
            });
            (service.name.to_string(), about)
        })
        .collect();
    json!({
        "generation": table.generation,
        "domains": table.estate.domains,
        "services": services,
        "previews": table.preview_count(),
        "forks": table.fork_count(),
    })
}

fn preview(preview: &Preview, table: &Table, others: &str) -> Value {
    let forks: serde_json::Map<String, Value> = preview
        .forks
        .iter()
        .filter_map(|(index, endpoints)| {
            Some((table.estate.services.get(index)?.name.to_string(), Value::Array(addresses(endpoints))))
        })
        .collect();
    json!({
        "key": preview.key,
        "forks": forks,
        "parents": preview.parents(),
        "aliases": preview.aliases(),
        "hosts": preview.hosts(),
        "expires": preview.expires(),
        "source": if preview.of_main_file { "file" } else { others },
    })
}

/// Where previews are from that are not of the main file.
fn source(keeper: &Keeper) -> &'static str {
    if keeper.controller().is_some() { "controller" } else { "previewsDir" }
}

fn previews(keeper: &Keeper) -> Value {
    let table = keeper.published().load();
    let mut all: Vec<_> = table.previews().collect();
    all.sort_unstable_by_key(|preview| preview.key);
    let problems: serde_json::Map<String, Value> =
        keeper.status().previews.iter().map(|(key, problem)| (key.to_string(), json!(problem))).collect();
    json!({
        "generation": table.generation,
        "previews": all.iter().map(|one| preview(one, &table, source(keeper))).collect::<Vec<_>>(),
        "problems": problems,
    })
}

fn read_key(admin: &Admin, text: &str) -> Result<Key, Box<Answer>> {
    let keeper = admin.keeper.borrow();
    Key::parse(text, keeper.config().carriers.prefix()).map_err(|why| {
        Box::new(problem(
            StatusCode::BAD_REQUEST,
            &format!("the key {text:?} {why}; write one such as 42 or shop-42"),
        ))
    })
}

fn one(admin: &Admin, key: &str) -> Answer {
    let key = match read_key(admin, key) {
        Ok(key) => key,
        Err(answer) => return *answer,
    };
    let table = admin.keeper.borrow().published().load();
    match table.preview(&key) {
        Some(found) => json_answer(StatusCode::OK, &preview(found, &table, source(&admin.keeper.borrow()))),
        None => problem(StatusCode::NOT_FOUND, &format!("no preview {key} is known here")),
    }
}

async fn put(admin: &Admin, key: &str, body: Incoming) -> Answer {
    let key = match read_key(admin, key) {
        Ok(key) => key,
        Err(answer) => return *answer,
    };
    let limit = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
    let read = tokio::time::timeout(Duration::from_secs(30), Limited::new(body, limit).collect()).await;
    let Ok(Ok(body)) = read else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 1 MiB, or broke off");
    };
    let Ok(text) = String::from_utf8(body.to_bytes().into()) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not UTF-8 text");
    };
    // Names are resolved before the preview is put, so that it works when this is answered.
    let checked = admin.keeper.borrow().check_put(key, &text);
    match checked {
        Ok(preview) => {
            let names = preview.forks.values().flatten().filter_map(|endpoint| match endpoint {
                sidetrack_config::model::Endpoint::Name(name, port) => Some((name.clone(), *port)),
                sidetrack_config::model::Endpoint::Address(_) => None,
            });
            let found = resolve(names.collect::<Vec<_>>()).await;
            admin.keeper.borrow_mut().learn_names(found);
        }
        Err(refused) => return refusal(&refused),
    }
    let put = admin.keeper.borrow_mut().put(key, &text, Timestamp::now());
    let table = admin.keeper.borrow().published().load();
    match put {
        Ok(is_new) => {
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            let about = table.preview(&key).map(|found| preview(found, &table, "previewsDir"));
            json_answer(status, &json!({"generation": table.generation, "preview": about}))
        }
        Err(refused) => refusal(&refused),
    }
}

fn delete(admin: &Admin, key: &str) -> Answer {
    let key = match read_key(admin, key) {
        Ok(key) => key,
        Err(answer) => return *answer,
    };
    let deleted = admin.keeper.borrow_mut().delete(key, Timestamp::now());
    match deleted {
        Ok(()) => json_answer(
            StatusCode::OK,
            &json!({"generation": admin.keeper.borrow().generation(), "deleted": key}),
        ),
        Err(refused) => refusal(&refused),
    }
}

fn refusal(refused: &Refused) -> Answer {
    let status = match refused {
        Refused::Problems(_) => StatusCode::BAD_REQUEST,
        Refused::Conflict(_) | Refused::MainFile(_) | Refused::NoFolder | Refused::Controller(_) => {
            StatusCode::CONFLICT
        }
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Disk { .. } => StatusCode::INSUFFICIENT_STORAGE,
    };
    problem(status, &refused.to_string())
}

/// `?url=...&method=...&header=Name: value&client=IP`; `header` may be repeated.
fn explained(admin: &Admin, query: &str) -> Answer {
    let mut head = None;
    let mut method = "GET".to_owned();
    let mut fields = Vec::new();
    let mut client: IpAddr = SocketAddr::from(([127, 0, 0, 1], 0)).ip();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = decoded(value) else {
            return problem(StatusCode::BAD_REQUEST, "the query holds a broken percent escape");
        };
        match name {
            "url" => head = Some(PlainHead::get(&value)),
            "method" => method = value,
            "header" => match value.split_once(':') {
                Some((name, value)) => {
                    fields.push((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
                }
                None => return problem(StatusCode::BAD_REQUEST, "write header=Name: value"),
            },
            "client" => match value.parse() {
                Ok(address) => client = address,
                Err(_) => return problem(StatusCode::BAD_REQUEST, "client must be an IP address"),
            },
            other => {
                let detail = format!("parameter {other:?} is none of url, method, header, client");
                return problem(StatusCode::BAD_REQUEST, &detail);
            }
        }
    }
    let Some(mut head) = head else {
        return problem(StatusCode::BAD_REQUEST, "write url=http://HOST/PATH, percent-encoded");
    };
    head.method = method;
    if let Some(host) = fields.iter().position(|(name, _)| name == "host").map(|at| fields.remove(at).1) {
        head.authority = String::from_utf8_lossy(&host).into_owned();
    }
    head.fields = fields;
    let table = admin.keeper.borrow().published().load();
    match serde_json::to_value(explain(&head, client, &table, Some(&admin.shared))) {
        Ok(value) => json_answer(StatusCode::OK, &value),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn decoded(text: &str) -> Option<String> {
    crate::identify::percent_decoded(&text.replace('+', "%20")).map(std::borrow::Cow::into_owned)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = text(status, format!("{body}\n"));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or(""),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut answer = json_answer(status, &body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    answer
}
