//! A scripted controller: a table that a test writes, given to real gateways over HTTP/2 and TLS in the protocol of
//! `config/src/stream.rs`, of which this is an implementation of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::body::{Body, empty, feed};
use crate::certs::Ca;
use crate::gateway::Gateway;
use crate::wait::eventually;
use crate::{Estate, World};

/// A controller. Its pings come every second.
pub struct Controller {
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    acceptor: TlsAcceptor,
    state: Arc<Mutex<State>>,
    serving: Option<JoinHandle<()>>,
}

/// One request for the stream, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// `Authorization`.
    pub authorization: Option<String>,
}

impl Asked {
    /// Whether it asked for deltas.
    pub fn resumes(&self) -> bool {
        self.target.contains("version=")
    }
}

struct State {
    epoch: String,
    version: u64,
    items: BTreeMap<String, String>,
    /// What changed since the last publication.
    staged: BTreeMap<String, Option<String>>,
    /// Lines of deltas, by the version that they change.
    deltas: BTreeMap<u64, String>,
    streams: Vec<UnboundedSender<String>>,
    asked: Vec<Asked>,
    reports: Vec<Value>,
    items_per_part: usize,
    is_quiet: bool,
    refusal: Option<u16>,
}

impl Controller {
    /// Starts one with an empty table of version 0, which it does not publish.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let ca = Ca::new();
        fs::write(folder.path().join("ca.pem"), &ca.pem).unwrap();
        fs::write(folder.path().join("token"), "first").unwrap();
        let state = State {
            epoch: "epoch-1".to_owned(),
            version: 0,
            items: BTreeMap::new(),
            staged: BTreeMap::new(),
            deltas: BTreeMap::new(),
            streams: Vec::new(),
            asked: Vec::new(),
            reports: Vec::new(),
            items_per_part: usize::MAX,
            is_quiet: false,
            refusal: None,
        };
        let mut controller = Self {
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            acceptor: TlsAcceptor::from(ca.issue(&["127.0.0.1"]).server(&["h2"])),
            state: Arc::new(Mutex::new(state)),
            serving: None,
        };
        controller.resume().await;
        controller
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Replaces the token that gateways show.
    pub fn set_token(&self, token: &str) {
        fs::write(self.folder.path().join("fresh"), token).unwrap();
        fs::rename(self.folder.path().join("fresh"), self.folder.path().join("token")).unwrap();
    }

    /// What `sidetrack gateway` is given beside its file.
    pub fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let pairs = [
            ("--controller", self.url()),
            ("--controller-ca", file("ca.pem")),
            ("--controller-token", file("token")),
            ("--node", "gw-1".to_owned()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Starts a gateway on what is left of `estate` without services, routes and previews.
    pub async fn gateway(&self, mut estate: Estate) -> World {
        let config = estate.config.as_object_mut().unwrap();
        for key in ["services", "routes", "previews"] {
            config.remove(key);
        }
        config.insert("stateDir".to_owned(), "state".into());
        estate.save();
        let gateway = {
            let arguments = self.arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Gateway::start_with(&estate.file(), &arguments).await
        };
        World { estate, gateway }
    }

    /// Sets an item in the next version: `set("service/a", json!({...}))`.
    pub fn set(&self, id: &str, item: Value) {
        let (kind, _) = id.split_once('/').unwrap();
        self.set_raw(id, &json!({ kind: item }).to_string());
    }

    /// The same with the text of the item.
    pub fn set_raw(&self, id: &str, text: &str) {
        self.lock().staged.insert(id.to_owned(), Some(text.to_owned()));
    }

    /// Takes an item out in the next version.
    pub fn remove(&self, id: &str) {
        self.lock().staged.insert(id.to_owned(), None);
    }

    /// Sets a service with these endpoints.
    pub fn service(&self, name: &str, baseline: &[String]) {
        self.set(
            &format!("service/{name}"),
            json!({"name": name, "baseline": baseline, "protocol": "http1"}),
        );
    }

    /// Sets a route: all below `path` of `host` to `service`.
    pub fn route(&self, host: &str, path: &str, service: &str) {
        let name = format!("{host}{path}");
        let action = json!({"forward": [{"service": service, "weight": 1}]});
        let route =
            json!({"name": name, "host": host, "path": {"prefix": path}, "rank": "", "action": action});
        self.set(&format!("route/{name}"), route);
    }

    /// Sets a preview with one fork.
    pub fn preview(&self, key: &str, service: &str, endpoints: &[String]) {
        self.set(
            &format!("preview/{key}"),
            json!({"key": key, "forks": {service: endpoints}, "onForkDown": "fail"}),
        );
    }

    /// Publishes what was set: a delta to every stream that is open. Gives the version.
    pub fn publish(&self) -> u64 {
        let mut state = self.lock();
        let line = state.next_delta();
        state.tell(&line);
        state.version
    }

    /// The same, and waits until the gateway reports it: its `error`, or `null`.
    pub async fn acknowledged(&self) -> Value {
        let version = self.publish();
        self.reported(version).await
    }

    /// Waits for the report of a version: its `error`, or `null`.
    pub async fn reported(&self, version: u64) -> Value {
        let epoch = self.lock().epoch.clone();
        let mut found = None;
        eventually("the version is reported", async || {
            let reports = self.reports();
            found = reports.into_iter().rfind(|one| one["version"] == version && one["epoch"] == *epoch);
            found.is_some()
        })
        .await;
        found.unwrap()["error"].clone()
    }

    /// Sends a line as it is to every stream that is open.
    pub fn say(&self, line: &str) {
        self.lock().tell(line);
    }

    /// Publishes a version whose delta a test may spoil before it is sent.
    pub fn publish_spoiled(&self, spoil: impl FnOnce(&mut Value)) {
        let mut state = self.lock();
        let line = state.next_delta();
        let mut delta = serde_json::from_str(&line).unwrap();
        spoil(&mut delta);
        state.tell(&delta.to_string());
    }

    /// How many items a part of a snapshot has.
    pub fn items_per_part(&self, count: usize) {
        self.lock().items_per_part = count;
    }

    /// Says no more pings, or again.
    pub fn be_quiet(&self, is_quiet: bool) {
        self.lock().is_quiet = is_quiet;
    }

    /// Answers every request with this status; `None`: as usual.
    pub fn refuse(&self, status: Option<u16>) {
        self.lock().refusal = status;
    }

    /// Begins a new life, as a restart does: versions count anew, and no delta of before is known.
    pub fn begin_epoch(&self, epoch: &str) {
        let mut state = self.lock();
        state.epoch = epoch.to_owned();
        state.version = 1;
        state.deltas.clear();
    }

    /// The requests for the stream so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// The reports so far.
    pub fn reports(&self) -> Vec<Value> {
        self.lock().reports.clone()
    }

    /// The version that was published last.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Goes away: every connection breaks, and nobody listens.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.lock().streams.clear();
    }

    /// Comes back at the same address.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (acceptor, state) = (self.acceptor.clone(), Arc::clone(&self.state));
        self.serving = Some(tokio::spawn(serve(listener, acceptor, state)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn next_delta(&mut self) -> String {
        let mut upsert = Vec::new();
        let mut remove = Vec::new();
        for (id, text) in std::mem::take(&mut self.staged) {
            match text {
                Some(text) => {
                    upsert.push(format!("{}:{text}", json!(id)));
                    self.items.insert(id, text);
                }
                None => {
                    self.items.remove(&id);
                    remove.push(id);
                }
            }
        }
        let (from, to) = (self.version, self.version + 1);
        self.version = to;
        // Items travel as their own text, which is what is hashed.
        let line = format!(
            r#"{{"delta":{{"from":{from},"to":{to},"upsert":{{{}}},"remove":{},"hash":"{}"}}}}"#,
            upsert.join(","),
            json!(remove),
            self.hash()
        );
        self.deltas.insert(from, line.clone());
        line
    }

    fn hash(&self) -> String {
        let sum = self.items.iter().fold(0u64, |sum, (id, text)| sum.wrapping_add(hash_of(id, text)));
        format!("{sum:016x}")
    }

    fn tell(&mut self, line: &str) {
        self.streams.retain(|stream| stream.send(format!("{line}\n")).is_ok());
    }

    /// What a stream begins with.
    fn greeting(&self, target: &str) -> Vec<String> {
        let parameter = |name: &str| {
            let (_, query) = target.split_once('?')?;
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let mut lines = vec![json!({"hello": {"protocol": 1, "epoch": self.epoch}}).to_string()];
        let version = parameter("version").and_then(|text| text.parse::<u64>().ok());
        let known = version.filter(|version| {
            parameter("epoch") == Some(&*self.epoch)
                && (*version == self.version || self.deltas.contains_key(version))
        });
        match known {
            Some(version) => lines.extend(self.deltas.range(version..).map(|(_, line)| line.clone())),
            None if self.version > 0 => lines.extend(self.snapshot()),
            None => {}
        }
        lines
    }

    fn snapshot(&self) -> Vec<String> {
        let all: Vec<_> = self.items.iter().collect();
        let parts: Vec<_> = all.chunks(self.items_per_part.min(all.len().max(1))).collect();
        let count = parts.len().max(1);
        (0..count)
            .map(|number| {
                let items = parts.get(number).copied().unwrap_or_default().iter();
                let items: Vec<_> = items.map(|(id, text)| format!("{}:{text}", json!(id))).collect();
                let hash =
                    if number + 1 == count { format!(r#","hash":"{}""#, self.hash()) } else { String::new() };
                format!(
                    r#"{{"snapshot":{{"version":{},"items":{{{}}}{hash}}}}}"#,
                    self.version,
                    items.join(",")
                )
            })
            .collect()
    }
}

/// FNV-1a over name, zero byte and text, and the finaliser of SplitMix64.
fn hash_of(id: &str, text: &str) -> u64 {
    let bytes = id.bytes().chain([0]).chain(text.bytes());
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    // Dropped with this future, it ends every connection.
    let mut connections = JoinSet::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = second.tick() => {
                let mut state = state.lock().unwrap();
                if !state.is_quiet {
                    let ping = json!({"ping": {"version": state.version}}).to_string();
                    state.tell(&ping);
                }
                continue;
            }
        };
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A gateway that goes away is no failure.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Response<Body> {
    let target = request.uri().path_and_query().unwrap().to_string();
    let authorization =
        request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let method = request.method().clone();
    let is_stream = target.starts_with("/v1/stream");
    if is_stream {
        state.lock().unwrap().asked.push(Asked { target: target.clone(), authorization });
    }
    let refusal = state.lock().unwrap().refusal;
    if let Some(status) = refusal {
        return status_only(status);
    }
    if method == Method::POST && target == "/v1/report" {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        state.lock().unwrap().reports.push(serde_json::from_slice(&body).unwrap());
        return status_only(204);
    }
    if !is_stream {
        return status_only(404);
    }
    let (feed, body) = feed();
    let (sender, mut lines) = unbounded_channel();
    {
        let mut state = state.lock().unwrap();
        for line in state.greeting(&target) {
            sender.send(format!("{line}\n")).unwrap();
        }
        state.streams.push(sender);
    }
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if !feed.data(line).await {
                return;
            }
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", "application/x-ndjson".parse().unwrap());
    response
}

fn status_only(status: u16) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
