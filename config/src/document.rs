//! What a person wrote, exactly as written: the shapes of the configuration file and nothing more.
//!
//! Everything may be missing here, and every text is still a text. The docstrings are the descriptions of the
//! JSON Schema; `default` in it is told from here and held against the model by a test.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

pub mod services;
pub mod text;

pub use services::{HealthCheck, OnForkDown, Preview, Protocol, Route, Service, Timeouts, UpstreamTls};
use text::{
    Address, CarrierName, CertificateName, Domain, Duration, FilePath, HeaderName, Key, Network, Size,
    ToolName, TraceFormat,
};

/// The configuration of one Sidetrack proxy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Where clients connect, at least one. A waypoint that follows a controller needs none: it opens the ports that it is
    /// sent, on the IP address of its first listener, else on all.
    #[schemars(length(min = 1))]
    pub listeners: Option<Vec<Listener>>,
    /// The admin listener: health, metrics, the table and its previews.
    pub admin: Option<Admin>,
    /// The domains below which a label of the host may carry a key.
    #[serde(default)]
    pub domains: Vec<Domain>,
    /// Where in a request a key is found: each a name, or `false`.
    #[serde(default)]
    pub carriers: Carriers,
    /// Who may send a request with a key. A preview may say otherwise for itself.
    pub access: Option<Access>,
    /// What happens to a key that names no preview. A gateway rejects, a waypoint takes the baseline.
    pub unknown_preview: Option<UnknownPreview>,
    /// The services of the estate by name.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Which host and path belongs to which service.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The previews by key.
    #[serde(default)]
    pub previews: BTreeMap<String, Preview>,
    /// A folder of further previews, one `KEY.yaml` each, with content as under `previews.KEY`.
    pub previews_dir: Option<FilePath>,
    /// A folder for what must survive a restart.
    #[schemars(extend("default" = ".sidetrack"))]
    pub state_dir: Option<FilePath>,
    /// Where this proxy stands.
    #[schemars(extend("default" = "gateway"))]
    pub role: Option<Role>,
    /// The workload that a sidecar belongs to. For `role: sidecar` only.
    pub sidecar: Option<Workload>,
    /// How the key survives applications that hand on less than all carriers.
    #[serde(default)]
    pub context: Context,
    /// Limits and time-outs; each has a default.
    #[serde(default)]
    pub limits: Limits,
    /// Where the access log goes, or `off`.
    pub access_log: Option<AccessLog>,
    /// Worker threads. Without it: the CPUs that this process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u32>,
}

/// One address where clients connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub struct Listener {
    /// IP and port; port 0 takes a free one.
    pub address: Option<Address>,
    /// How TLS ends here. Without it: HTTP/1.1 and h2c in clear.
    pub tls: Option<Tls>,
    /// Peers that speak the PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Everything that comes in here is for this service, whatever its host and path. Without it they say which.
    pub service: Option<String>,
    /// Of a sidecar: whether requests come in to its workload, or go out from it.
    pub direction: Option<Direction>,
    /// Connections were redirected here by the system (iptables, nftables), and where they were meant to go is asked
    /// of it.
    #[schemars(extend("default" = false))]
    pub redirected: Option<bool>,
    /// What is spoken here.
    #[schemars(extend("default" = "http"))]
    pub protocol: Option<Spoken>,
}

/// Which way the requests of a sidecar's listener go.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// To the workload that the sidecar belongs to.
    Inbound,
    /// From that workload to others.
    Outbound,
}

/// What clients of a listener speak.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Spoken {
    /// HTTP.
    Http,
    /// Something else: bytes pass as they are, to the baseline.
    Tcp,
    /// HTTP where it looks like that, else bytes. Whoever speaks first is heard first.
    Detect,
}

/// The workload that a sidecar belongs to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["service"]))]
pub struct Workload {
    /// The service that it is an endpoint of; several are separated by commas.
    pub service: Option<String>,
    /// The key of the preview that it is a fork of. Without it: the baseline.
    pub key: Option<Key>,
    /// The port of the workload on 127.0.0.1, where connections are not redirected to this sidecar but made to it.
    #[schemars(range(min = 1))]
    pub app: Option<u16>,
}

/// Where certificates come from: one of the two; with `--controller` neither, where the controller's suffice.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Certificate files, picked by SNI: exact, one-label wildcard, else the first.
    #[schemars(length(min = 1))]
    pub certificates: Option<Vec<Certificate>>,
    /// A certificate of the development CA that is kept under `stateDir`.
    pub self_signed: Option<SelfSigned>,
}

/// One certificate chain and its key, PEM.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["certFile", "keyFile"]))]
pub struct Certificate {
    /// The chain, leaf first.
    pub cert_file: Option<FilePath>,
    /// The private key.
    pub key_file: Option<FilePath>,
}

/// What the development CA issues.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["names"]))]
pub struct SelfSigned {
    /// DNS names, wildcards and IP addresses.
    #[schemars(length(min = 1))]
    pub names: Option<Vec<CertificateName>>,
}

/// Peers that speak the PROXY protocol.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["trusted"]))]
pub struct ProxyProtocol {
    /// Connections from here begin with a PROXY protocol header, versions 1 and 2; others may not.
    #[schemars(length(min = 1))]
    pub trusted: Option<Vec<Network>>,
}

/// The admin listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Admin {
    /// IP and port.
    #[schemars(extend("default" = "127.0.0.1:9901"))]
    pub address: Option<Address>,
    /// A file with the bearer token that `/v1/*` then wants. Off loopback there is no `/v1/*` without it.
    pub token_file: Option<FilePath>,
}

/// Where in a request a key is found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Carriers {
    /// The request header.
    #[schemars(extend("default" = "x-pr-id"))]
    pub header: Option<Carrier>,
    /// What a label of the host begins with that carries a key.
    #[schemars(extend("default" = "pr-"))]
    pub host_prefix: Option<Carrier>,
    /// Whether the first segment of the path may carry a key: `/pr-42/api`.
    #[schemars(extend("default" = false))]
    pub path: Option<bool>,
    /// The query parameter.
    #[schemars(extend("default" = "pr-id"))]
    pub query: Option<Carrier>,
    /// The member of W3C `baggage`.
    #[schemars(extend("default" = "pr-id"))]
    pub baggage: Option<Carrier>,
    /// The member of W3C `tracestate`.
    #[schemars(extend("default" = "pr-id"))]
    pub tracestate: Option<Carrier>,
    /// The cookie.
    #[schemars(extend("default" = "pr-id"))]
    pub cookie: Option<Carrier>,
    /// Whether the host of `Origin` may carry a key.
    #[schemars(extend("default" = true))]
    pub origin: Option<bool>,
    /// Other tools whose carriers are read too.
    #[serde(default)]
    pub aliases: Vec<ToolName>,
    /// Clients whose carriers are read. What others send in header fields is taken out, so that their requests have no key,
    /// and a key in their URL is `access_denied`; so is a key beside `X-PR-Strict: 1`, which forbids the baseline. Without it:
    /// everybody's are read. For gateways only.
    pub from: Option<Vec<Network>>,
}

/// The name of a carrier, or `false`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Carrier {
    /// Turns it off.
    Off(#[schemars(schema_with = "only_false")] bool),
    /// Its name.
    Name(CarrierName),
}

fn only_false(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": false })
}

/// Who may send a request with a key. Any one of the ways that are set suffices.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Access {
    /// Networks of the client.
    #[serde(default)]
    pub allow: Vec<Network>,
    /// A header that holds a secret.
    pub header: Option<AccessHeader>,
}

/// A header that holds a secret. It goes no further than this proxy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["name", "secretFile"]))]
pub struct AccessHeader {
    /// The header.
    pub name: Option<HeaderName>,
    /// The file with the secret, without surrounding white space.
    pub secret_file: Option<FilePath>,
}

/// What happens to a key that names no preview.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UnknownPreview {
    /// The request fails with 404 `unknown_preview`.
    Reject,
    /// The baseline answers.
    Baseline,
}

/// Where a proxy stands.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// At the edge.
    Gateway,
    /// In front of services inside, each on a port of its own.
    Waypoint,
    /// In front of one workload and behind it.
    Sidecar,
}

/// How the key survives applications that hand on less than all carriers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// A file with secrets, one a line: the first one writes, all are read. All proxies of an estate have the same. A
    /// gateway without it makes one under `stateDir`; a waypoint or sidecar without it reads no key from a trace id. Where
    /// a controller is followed, that one's count without it.
    pub key_file: Option<FilePath>,
    /// Whether a trace that this proxy begins says the key in its id.
    #[schemars(extend("default" = true))]
    pub trace: Option<bool>,
    /// Whether a waypoint or sidecar reads the key from a trace id of which only 64 bits came.
    #[schemars(extend("default" = false))]
    pub trace64: Option<bool>,
    /// Whether a trace that this proxy begins is sampled.
    #[schemars(extend("default" = true))]
    pub sampled: Option<bool>,
    /// In which formats a trace that says the key is told beside `traceparent`, for applications that hand on nothing else.
    #[schemars(extend("default" = ["b3", "datadog"]))]
    pub formats: Option<Vec<TraceFormat>>,
    /// Whether keys are signed with those secrets on their way onward: by a gateway, and by a waypoint or sidecar that takes
    /// signed ones only.
    #[schemars(extend("default" = false))]
    pub sign: Option<bool>,
    /// Which keys a waypoint or sidecar takes. One that follows a controller takes none before that has sent its secrets.
    #[schemars(extend("default" = "any"))]
    pub require: Option<Required>,
    /// How long a sidecar remembers which ids came in with which key; 0: not at all.
    #[schemars(extend("default" = "30s"))]
    pub remember: Option<Duration>,
    /// How many ids a sidecar remembers at once.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = 65_536))]
    pub remember_entries: Option<u32>,
    /// IP and port (UDP) where proxies inside report their receipts to this gateway; port 0 takes a free one. Without it:
    /// nowhere.
    pub reports: Option<Address>,
    /// The address that they are told, where it is another one. Where `reports` is on every address: the environment's
    /// `POD_IP`.
    pub reports_as: Option<Address>,
    /// Networks of gateways that this proxy reports to.
    #[schemars(extend("default" = ["127.0.0.0/8", "::1/128"]))]
    pub report_to: Option<Vec<Network>>,
    /// Domains that belong to the estate, besides `domains`. Calls of a sidecar's workload to hosts elsewhere, which are
    /// no service that is known either, leave it without any key.
    #[schemars(extend("default" = ["svc.cluster.local", "svc"]))]
    pub declared_domains: Option<Vec<Domain>>,
}

/// Which keys a waypoint or sidecar takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Required {
    /// Any.
    Any,
    /// Those that a gateway of this estate has signed, or hidden in a trace id. Others are `access_denied`.
    Signed,
}

/// Limits and time-outs. 0 means: by memory and descriptors for `max...`, none for times.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How long a drain may take before what is left is cut.
    #[schemars(extend("default" = "30s"))]
    pub drain_timeout: Option<Duration>,
    /// How long an answer may go on whose request would get another target by now; 0: to its own end.
    #[schemars(extend("default" = "30s"))]
    pub decision_drain: Option<Duration>,
    /// How long a request waits for an endpoint of a fork with `onForkDown: hold`.
    #[schemars(extend("default" = "30s"))]
    pub hold_timeout: Option<Duration>,
    /// How many requests may wait so at once.
    #[schemars(range(max = 1_000_000), extend("default" = 512))]
    pub hold_requests: Option<u32>,
    /// How many bytes of heads and bodies may wait with them.
    #[schemars(extend("default" = "8MiB"))]
    pub hold_bytes: Option<Size>,
    /// Open client connections.
    #[schemars(range(max = 10_000_000), extend("default" = 0))]
    pub max_connections: Option<u32>,
    /// Open client connections of one client address (IPv6: of one /64 network). A load balancer is one address.
    #[schemars(range(max = 10_000_000), extend("default" = 0))]
    pub max_connections_per_client: Option<u32>,
    /// Requests under way.
    #[schemars(range(max = 10_000_000), extend("default" = 0))]
    pub max_in_flight: Option<u32>,
    /// Memory of the process.
    #[schemars(extend("default" = "0"))]
    pub max_memory: Option<Size>,
    /// Bytes of a request head.
    #[schemars(extend("default" = "64KiB"))]
    pub header_bytes: Option<Size>,
    /// Fields of a request head.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub header_count: Option<u32>,
    /// Bytes of a request target.
    #[schemars(extend("default" = "16KiB"))]
    pub uri_bytes: Option<Size>,
    /// How long a client may take over a request head.
    #[schemars(extend("default" = "10s"))]
    pub header_timeout: Option<Duration>,
    /// Bytes of a request body; 0: any number.
    #[schemars(extend("default" = "0"))]
    pub body_bytes: Option<Size>,
    /// How long a client may send nothing of a request body that is waited for. It holds until the answer begins;
    /// afterwards, for gRPC and for upgraded connections `services.NAME.timeouts.idle` holds.
    #[schemars(extend("default" = "60s"))]
    pub body_timeout: Option<Duration>,
    /// Bytes of the extensions of all chunks of a body.
    #[schemars(extend("default" = "16KiB"))]
    pub chunk_extension_bytes: Option<Size>,
    /// Bytes of the trailers behind a chunked body.
    #[schemars(extend("default" = "16KiB"))]
    pub trailer_bytes: Option<Size>,
    /// How long a client may take nothing of an answer that waits for it.
    #[schemars(extend("default" = "5m"))]
    pub stream_idle_timeout: Option<Duration>,
    /// How long a TLS handshake, or a PROXY protocol header, may take.
    #[schemars(extend("default" = "10s"))]
    pub handshake_timeout: Option<Duration>,
    /// How long an idle client connection is kept.
    #[schemars(extend("default" = "75s"))]
    pub client_idle_timeout: Option<Duration>,
    /// How long an idle upstream connection is kept.
    #[schemars(extend("default" = "4s"))]
    pub upstream_idle_timeout: Option<Duration>,
    /// Idle upstream connections per endpoint and worker.
    #[schemars(range(max = 1_000_000), extend("default" = 128))]
    pub upstream_idle_connections: Option<u32>,
    /// Streams at once on one HTTP/2 connection.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 100))]
    pub http2_streams: Option<u32>,
    /// HTTP/2 flow-control window of a stream.
    #[schemars(extend("default" = "64KiB"))]
    pub http2_stream_window: Option<Size>,
    /// HTTP/2 flow-control window of a connection.
    #[schemars(extend("default" = "1MiB"))]
    pub http2_connection_window: Option<Size>,
    /// Streams that a client may reset on one HTTP/2 connection, beyond those that it lets end.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 500))]
    pub http2_resets: Option<u32>,
    /// Frames of HTTP/2 that carry nothing (settings, pings, window updates, priorities, empty data) that a client may send
    /// on one connection, beyond those that belong to what it is sent.
    #[schemars(range(min = 16, max = 1_000_000), extend("default" = 1000))]
    pub http2_control_frames: Option<u32>,
    /// Bytes a connection may buffer towards a slow reader.
    #[schemars(extend("default" = "64KiB"))]
    pub connection_buffer: Option<Size>,
}

/// Where the access log goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AccessLog {
    /// Nowhere: YAML's `false`.
    Off(#[schemars(schema_with = "only_false")] bool),
    /// Nowhere: the word.
    Word(Off),
    /// To a place.
    To(LogTo),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Off {
    /// Nowhere.
    Off,
}

/// Where the access log goes, and how it looks.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogTo {
    /// How a line looks.
    #[schemars(extend("default" = "json"))]
    pub format: Option<LogFormat>,
    /// `stdout`, `stderr` or a file that is appended to.
    #[schemars(extend("default" = "stdout"))]
    pub path: Option<FilePath>,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// `name=value` pairs.
    Text,
}
