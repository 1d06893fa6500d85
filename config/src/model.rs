//! What is true: the checked configuration. Every name in here has been resolved, every value is in range.

mod route;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::carriers::{self, Tool};
use crate::key::Key;
use crate::limits::Limits;
use crate::stamp::Seen;
pub use route::{
    Action, Backend, FieldChanges, FieldMatch, Filters, HostPattern, PathMatch, PathRewrite, Redirect,
    Rewrite, Route, RouteTimeouts, Scheme, is_protected_request_field, is_protected_response_field,
};

/// One configuration file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// The admin listener.
    pub admin: Admin,
    /// The domains below which a label may carry a key: lower case, no trailing dot, longest first.
    pub domains: Vec<Box<str>>,
    /// Which carriers are read, and under which names.
    pub carriers: Carriers,
    /// Who may send a keyed request to a preview that says nothing else.
    pub access: Option<Access>,
    /// What happens to a key that names no preview.
    pub unknown_preview: UnknownPreview,
    /// The services, in the order of their names.
    pub services: Vec<Service>,
    /// The routes, as written.
    pub routes: Vec<Route>,
    /// The previews of the main file. Those of `previewsDir` are read one by one with [`crate::parse_preview`].
    pub previews: BTreeMap<Key, Preview>,
    /// Where CI adds and removes previews, `KEY.yaml` each.
    pub previews_dir: Option<PathBuf>,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// Edge of the estate, or in front of services inside it.
    pub role: Role,
    /// The workload that a sidecar belongs to; present exactly where the role is [`Role::Sidecar`].
    pub workload: Option<Workload>,
    /// How the key survives applications that hand on less than all carriers.
    pub context: Context,
    /// Every limit and time-out.
    pub limits: Limits,
    /// The access log.
    pub access_log: AccessLog,
    /// Worker threads; `None`: as many as this process has CPUs.
    pub workers: Option<NonZeroUsize>,
    /// The files whose content is in here: this one, unless it came as a text, and those of secrets.
    pub files: Vec<Seen>,
}

/// One address where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP and port; port 0 asks the system for a free one.
    pub address: SocketAddr,
    /// How TLS ends here; `None`: cleartext.
    pub tls: Option<Tls>,
    /// Peers that must begin with a PROXY protocol header; empty: nobody may.
    pub proxy_protocol: Vec<IpNet>,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What decides about the service of a request that comes in here.
    pub place: Place,
    /// Whether where connections were meant to go is asked of the system, which redirected them.
    pub redirected: bool,
    /// What is spoken here.
    pub spoken: Spoken,
}

impl Listener {
    /// A plain listener of HTTP at the edge, in clear.
    pub const fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            place: Place::Edge,
            redirected: false,
            spoken: Spoken::Http,
        }
    }
}

/// What decides about the service of a request, by the listener that it came in on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its host and path, by the routes.
    Edge,
    /// The listener: everything is for this service.
    Service(Box<str>),
    /// It is for the workload of this sidecar.
    Inbound,
    /// It is a call of the workload of this sidecar: to this service, or to whichever its destination or host says.
    Outbound(Option<Box<str>>),
}

/// What clients of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP.
    Http,
    /// Something else.
    Tcp,
    /// HTTP where it looks like that.
    Detect,
}

/// The workload that a sidecar belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The services that it is an endpoint of, at least one.
    pub services: Vec<Box<str>>,
    /// The key of the preview that it is a fork of; `None`: the baseline.
    pub key: Option<Key>,
    /// Its port on 127.0.0.1, where that is known.
    pub app: Option<NonZeroU16>,
}

impl Workload {
    /// The first of its services.
    pub fn service(&self) -> &str {
        self.services.first().map_or("", AsRef::as_ref)
    }
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From files, picked by SNI: exact, one-label wildcard, else the first.
    Files(Vec<CertificateFiles>),
    /// Issued by the development CA that is kept under `stateDir`.
    SelfSigned {
        /// DNS names, `*.` allowed as first label, or IP addresses.
        names: Vec<Box<str>>,
    },
    /// From the controller alone: none until it has sent one.
    Controller,
}

/// One certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// IP and port.
    pub address: SocketAddr,
    /// The bearer token that `/v1/*` wants, read from `tokenFile`.
    pub token: Option<Secret>,
}

/// A secret: never printed, compared in constant time by the proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which carriers are read; `None`: that carrier is off. Names of headers are lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carriers {
    /// The request header, `x-pr-id`.
    pub header: Option<Box<str>>,
    /// The prefix of a label that carries a key, `pr-`; `None`: the host carries none.
    pub host_prefix: Option<Box<str>>,
    /// Whether the first path segment may carry a key.
    pub path: bool,
    /// The query parameter, `pr-id`.
    pub query: Option<Box<str>>,
    /// The member of `baggage`, `pr-id`.
    pub baggage: Option<Box<str>>,
    /// The member of `tracestate`, `pr-id`.
    pub tracestate: Option<Box<str>>,
    /// The cookie, `pr-id`.
    pub cookie: Option<Box<str>>,
    /// Whether `Origin` may carry a key.
    pub origin: bool,
    /// Other tools whose carriers are read too.
    pub aliases: Vec<Tool>,
    /// Clients whose carriers are read; `None`: everybody's.
    pub from: Option<Vec<IpNet>>,
}

impl Carriers {
    /// Whether `client` may name previews.
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|from| contains(from, client))
    }

    /// The headers that are read: our own, and those of other tools.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let of_tools = self.aliases.iter().flat_map(|tool| tool.places).filter_map(|place| match place {
            carriers::Place::Header(name) => Some(*name),
            carriers::Place::Baggage(_) | carriers::Place::Tracestate(_) | carriers::Place::Query(_) => None,
        });
        self.header.as_deref().into_iter().chain(of_tools)
    }

    /// The prefix that a key may be written with in any carrier.
    pub fn prefix(&self) -> &str {
        self.host_prefix.as_deref().unwrap_or(crate::key::DEFAULT_PREFIX)
    }
}

/// Who may send a keyed request. Any one of the ways that are set suffices.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Access {
    /// Networks of the client.
    pub allow: Vec<IpNet>,
    /// A header that holds a secret; it is stripped before forwarding.
    pub header: Option<AccessHeader>,
}

/// A header that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessHeader {
    /// Its name, lower case.
    pub name: Box<str>,
    /// What it must say, read from `secretFile`, without surrounding white space.
    pub secret: Secret,
}

/// What happens to a key that names no preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPreview {
    /// The request fails: a test that names a preview which is not there must not pass on baseline.
    Reject,
    /// The baseline answers.
    Baseline,
}

/// What happens when a fork is declared and no endpoint of it can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnForkDown {
    /// 503 `fork_unavailable`.
    Fail,
    /// The baseline answers.
    Baseline,
    /// Wait for an endpoint for at most `holdTimeout`, then fail.
    Hold,
}

/// Where the proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// At the edge: writes the forwarded headers and rejects unknown previews by default.
    Gateway,
    /// In front of services inside: leaves the forwarded headers as they came.
    Waypoint,
    /// In front of one workload and behind it: leaves them, too.
    Sidecar,
}

/// How the key survives applications that hand on less than all carriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The secrets of `keyFile`, at least one: the first one writes, all are read. `None`: no such file was named.
    pub secrets: Option<Vec<Secret>>,
    /// Whether a trace that this proxy begins says the key in its id.
    pub trace: bool,
    /// Whether the key is read from a trace id of which only 64 bits came.
    pub trace64: bool,
    /// Whether a trace that this proxy begins is sampled.
    pub sampled: bool,
    /// In which formats such a trace is told beside `traceparent`.
    pub formats: Vec<TraceFormat>,
    /// Whether the keys of what is forwarded are signed.
    pub sign: bool,
    /// Whether only signed keys are taken.
    pub require_signed: bool,
    /// How long a sidecar remembers which ids came in with which key; zero: not at all.
    pub remember: Duration,
    /// How many ids it remembers at once.
    pub remember_entries: usize,
    /// Where proxies inside report their receipts to this gateway (UDP); `None`: nowhere.
    pub reports: Option<SocketAddr>,
    /// The address that they are told, where it is another one; port 0 is that of `reports`.
    pub reports_as: Option<SocketAddr>,
    /// Networks of gateways that this proxy reports to.
    pub report_to: Vec<IpNet>,
    /// Domains that belong to the estate, besides [`Config::domains`]; lower case.
    pub declared_domains: Vec<Box<str>>,
}

/// How a trace is told beside `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// `b3`, and `X-B3-TraceId`, `X-B3-SpanId`, `X-B3-Sampled`.
    B3,
    /// `x-datadog-trace-id` and the fields that belong to it.
    Datadog,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            secrets: None,
            trace: true,
            trace64: false,
            sampled: true,
            sign: false,
            require_signed: false,
            formats: vec![TraceFormat::B3, TraceFormat::Datadog],
            // Longer than a call that a person waits for, and soon over.
            remember: Duration::from_secs(30),
            remember_entries: 65_536,
            reports: None,
            reports_as: None,
            report_to: loopback(),
            declared_domains: ["svc.cluster.local", "svc"].map(Box::from).to_vec(),
        }
    }
}

/// This machine. A request must not be able to make proxies send to anybody else, unless the file says so.
fn loopback() -> Vec<IpNet> {
    let net = |ip: IpAddr, length| IpNet::new(ip, length).ok();
    let v4 = net(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
    [v4, net(Ipv6Addr::LOCALHOST.into(), 128)].into_iter().flatten().collect()
}

/// A named service of the estate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique.
    pub name: Box<str>,
    /// The shared endpoints; `None`: the service exists only in previews.
    pub baseline: Option<Vec<Endpoint>>,
    /// What its endpoints, forks included, speak.
    pub protocol: Protocol,
    /// Present exactly where the protocol has TLS.
    pub tls: Option<UpstreamTls>,
    /// The active check.
    pub health_check: Option<HealthCheck>,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// What `Host` says upstream.
    pub host: HostRewrite,
    /// Where callers inside a cluster reach it; none where a file says what it is.
    pub addresses: Vec<SocketAddr>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Protocol {
    /// Whether it runs over TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether it is HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }
}

/// How the proxy proves an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// PEM roots to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The name on the certificate; `None`: the host of the endpoint.
    pub server_name: Option<Box<str>>,
}

/// One endpoint as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// An IP and a port.
    Address(SocketAddr),
    /// A name to resolve, and a port.
    Name(Box<str>, u16),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// An active health check: a GET that any 2xx or 3xx answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path asked for.
    pub path: Box<str>,
    /// From one check to the next.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}

/// Time-outs of a service; zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until the head of the answer.
    pub response: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), response: Duration::ZERO, idle: Duration::from_secs(300) }
    }
}

/// What `Host` says upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// What the client said.
    Keep,
    /// The host with the key taken out.
    Base,
    /// This name.
    Name(Box<str>),
}

/// All forks of one PR and their settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Preview {
    /// Index into [`Config::services`] -> endpoints of the fork, which may be none yet.
    pub forks: BTreeMap<usize, Vec<Endpoint>>,
    /// Keys whose forks serve where this preview has none, in order.
    pub parents: Vec<Key>,
    /// Other names of this preview, each in the grammar of a key.
    pub aliases: Vec<Key>,
    /// Exact host names of this preview.
    pub hosts: Vec<Box<str>>,
    /// How long after its first appearance it ends; `None`: never.
    pub ttl: Option<Duration>,
    /// What happens when a fork is down.
    pub on_fork_down: OnForkDown,
    /// Who may reach it, in place of [`Config::access`].
    pub access: Option<Access>,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// One JSON object a line, to this place.
    Json(LogPath),
    /// One `name=value` line, to this place.
    Text(LogPath),
}

/// A place that lines are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPath {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

/// Whether `ip` is in one of `nets`; an IPv4 address that came over an IPv6 socket counts as IPv4.
pub fn contains(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}
