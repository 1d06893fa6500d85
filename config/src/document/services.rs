//! Services, routes and previews, exactly as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Access;
use super::text::{
    Duration, Endpoint, FilePath, HostName, HostRewrite, Key, RouteHost, ServerName, ServiceName, UrlPath,
};

/// A service of the estate.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// The shared endpoints. Without it the service exists only in previews.
    #[schemars(length(min = 1))]
    pub baseline: Option<Vec<Endpoint>>,
    /// What its endpoints speak, forks included.
    #[schemars(extend("default" = "http1"))]
    pub protocol: Option<Protocol>,
    /// How its endpoints are proved, with the protocols `https` and `h2`.
    pub tls: Option<UpstreamTls>,
    /// The active health check. Passive ejection is always on.
    pub health_check: Option<HealthCheck>,
    /// Time-outs; 0 means none.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What `Host` says upstream: what the client said, the host without the key, or this name.
    #[schemars(extend("default" = "keep"))]
    pub host: Option<HostRewrite>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1 in clear.
    Http1,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    H2,
}

/// How an upstream is proved.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM roots to trust. Without it: the system's.
    pub ca_file: Option<FilePath>,
    /// The name on the certificate. Without it: the host of the endpoint.
    pub server_name: Option<ServerName>,
}

/// A GET that any 2xx or 3xx answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub struct HealthCheck {
    /// The path asked for.
    pub path: Option<UrlPath>,
    /// From one check to the next.
    #[schemars(extend("default" = "5s"))]
    pub interval: Option<Duration>,
    /// How long one check may take, at most the interval.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Duration>,
}

/// Time-outs of a service; 0 means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    #[schemars(extend("default" = "2s"))]
    pub connect: Option<Duration>,
    /// Until the head of the answer.
    #[schemars(extend("default" = "0s"))]
    pub response: Option<Duration>,
    /// Between two pieces of a body.
    #[schemars(extend("default" = "5m"))]
    pub idle: Option<Duration>,
}

/// Host and path prefix to service. The most specific host wins, then the longest path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["host", "service"]))]
pub struct Route {
    /// Which hosts.
    pub host: Option<RouteHost>,
    /// Which paths: those that begin with these whole segments.
    #[schemars(extend("default" = "/"))]
    pub path: Option<UrlPath>,
    /// To which service.
    pub service: Option<ServiceName>,
}

/// All forks of one PR, and their settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    /// The endpoints of each service that this PR changed; a list may be empty while a fork starts.
    #[serde(default)]
    pub forks: BTreeMap<String, Vec<Endpoint>>,
    /// Previews whose forks serve where this one has none, in order.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub parents: Vec<Key>,
    /// Other names of this preview.
    #[serde(default)]
    pub aliases: Vec<Key>,
    /// Host names of this preview.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// How long after its first appearance it ends. Without it: never.
    pub ttl: Option<Duration>,
    /// What happens when a fork has no endpoint that works.
    #[schemars(extend("default" = "fail"))]
    pub on_fork_down: Option<OnForkDown>,
    /// Who may reach it, in place of the `access` of the whole file.
    pub access: Option<Access>,
}

/// What happens when a fork has no endpoint that works.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnForkDown {
    /// 503 `fork_unavailable`.
    Fail,
    /// The baseline answers.
    Baseline,
    /// Wait for `limits.holdTimeout`, then fail.
    Hold,
}
