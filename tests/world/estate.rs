//! What the configuration file says, and the gateway that runs on it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::upstream::{Upstream, Wire};
use crate::wait::eventually;

/// An estate: a folder with a configuration, and the upstreams it names.
pub struct Estate {
    folder: TempDir,
    /// The document, as it will be written. JSON is YAML.
    pub config: Value,
    upstreams: BTreeMap<String, Upstream>,
}

impl Default for Estate {
    fn default() -> Self {
        Self::new()
    }
}

impl Estate {
    /// No service, no route, no preview: one cleartext listener and the domain `preview.localhost`.
    pub fn new() -> Self {
        let config = json!({
            "listeners": [{"address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"},
            "domains": ["preview.localhost"],
            "services": {},
            "routes": [],
            "previews": {},
            "accessLog": "off",
            "workers": 2,
        });
        Self { folder: TempDir::new().unwrap(), config, upstreams: BTreeMap::new() }
    }

    /// The estate that most tests need.
    ///
    /// | host | path | service | forks |
    /// |---|---|---|---|
    /// | `preview.localhost` | `/` | `shop` | `shop-57` of preview 57 |
    /// | `preview.localhost` | `/api/checkout` | `checkout` | `checkout-42` of preview 42 |
    /// | `checkout.preview.localhost` | `/` | `checkout` | the same |
    pub async fn standard() -> Self {
        let mut estate = Self::new();
        estate.baseline("shop").await;
        estate.baseline("checkout").await;
        estate.route("preview.localhost", "/", "shop");
        estate.route("preview.localhost", "/api/checkout", "checkout");
        estate.route("checkout.preview.localhost", "/", "checkout");
        estate.fork("42", "checkout").await;
        estate.fork("57", "shop").await;
        estate
    }

    /// A waypoint whose only listener belongs to `service`, forked by 42 as `SERVICE-42`.
    pub async fn waypoint(service: &str) -> Self {
        let mut estate = Self::new();
        estate.baseline(service).await;
        estate.fork("42", service).await;
        estate.config["role"] = "waypoint".into();
        estate.config["domains"] = json!([]);
        estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "service": service}]);
        estate
    }

    /// The lines of an access log in JSON so far, once there are `count` of them; `file` is in the estate's folder.
    pub async fn log_lines(&self, file: &str, count: usize) -> Vec<Value> {
        let path = self.folder().join(file);
        let mut lines: Vec<Value> = Vec::new();
        eventually(&format!("{count} lines are written to {file}"), async || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // A line that is still being written is none yet.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            lines.len() >= count
        })
        .await;
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// A folder that lives as long as the estate; the configuration is in it.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("sidetrack.yaml")
    }

    /// Starts an upstream of HTTP/1.1 that no configuration names yet.
    pub async fn upstream(&mut self, name: &str) -> String {
        self.upstream_on(name, Wire::Http1).await
    }

    /// Starts an upstream that no configuration names yet; its endpoint.
    pub async fn upstream_on(&mut self, name: &str, wire: Wire) -> String {
        let upstream = Upstream::start_on(name, wire).await;
        let endpoint = upstream.endpoint();
        self.upstreams.insert(name.to_owned(), upstream);
        endpoint
    }

    /// Adds a service whose only endpoint is an upstream of its own name.
    pub async fn baseline(&mut self, service: &str) {
        self.baseline_on(service, Wire::Http1).await;
    }

    /// The same in another protocol.
    pub async fn baseline_on(&mut self, service: &str, wire: Wire) {
        let endpoint = self.upstream_on(service, wire).await;
        self.service(service, json!({"baseline": [endpoint]}));
        let protocol = self.of(service).protocol();
        self.config["services"][service]["protocol"] = protocol.into();
    }

    /// Adds a fork whose only endpoint is an upstream called `SERVICE-KEY`.
    pub async fn fork(&mut self, key: &str, service: &str) {
        let endpoint = self.upstream(&format!("{service}-{key}")).await;
        self.preview(key)["forks"][service] = json!([endpoint]);
    }

    /// Says what a service is.
    pub fn service(&mut self, name: &str, service: Value) {
        self.config["services"][name] = service;
    }

    /// Adds a route.
    pub fn route(&mut self, host: &str, path: &str, service: &str) {
        let routes = self.config["routes"].as_array_mut().unwrap();
        routes.push(json!({"host": host, "path": path, "service": service}));
    }

    /// A preview, to be changed; made where there is none.
    pub fn preview(&mut self, key: &str) -> &mut Value {
        let preview = &mut self.config["previews"][key];
        if preview.is_null() {
            *preview = json!({"forks": {}});
        }
        preview
    }

    /// One upstream, by name.
    pub fn of(&self, name: &str) -> &Upstream {
        &self.upstreams[name]
    }

    /// One upstream, by name, to be stopped or resumed.
    pub fn of_mut(&mut self, name: &str) -> &mut Upstream {
        self.upstreams.get_mut(name).unwrap()
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes the configuration in place.
    pub fn save(&self) {
        fs::write(self.file(), serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
    }

    /// Saves and starts.
    pub async fn start(self) -> World {
        self.save();
        let gateway = Gateway::start(&self.file()).await;
        World { estate: self, gateway }
    }
}

/// An estate with a gateway in front of it; what a gateway can do, it can do.
pub struct World {
    /// The configuration and the upstreams.
    pub estate: Estate,
    /// The running gateway.
    pub gateway: Gateway,
}

impl World {
    /// Waits until `count` times something was refused or ended because this limit was reached.
    pub async fn reached(&self, limit: &str, count: f64) {
        eventually(&format!("{limit} was reached {count} times"), async || {
            self.gateway.metrics().await.sum("sidetrack_limits_reached_total", &[("reason", limit)]) >= count
        })
        .await;
    }

    /// The standard estate, running.
    pub async fn standard() -> Self {
        Estate::standard().await.start().await
    }

    /// One upstream, by name.
    pub fn of(&self, name: &str) -> &Upstream {
        self.estate.of(name)
    }
}

impl Deref for World {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }
}
