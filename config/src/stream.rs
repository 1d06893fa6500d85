//! The routing table as it travels from a controller to its proxies: what it consists of, and the messages.
//!
//! One HTTP/2 response carries one message a line (JSON, each a map with one entry: its kind). First [`Message::Hello`],
//! then either a snapshot, in as many parts as its size asks for, or the deltas since the version that the proxy said
//! it has; then deltas as they come, and a ping where nothing does. A proxy applies a delta only where `from` is its
//! version and what it gets has the hash that the controller says; else it asks for a snapshot. It answers with
//! [`Report`]s. Nothing here knows a socket.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Key;

/// The protocol that this code speaks. A proxy refuses another one: what it does not understand may be a rule.
pub const PROTOCOL: u32 = 1;

/// The most bytes that one line may have, its line feed included.
pub const MAX_LINE: usize = 4 << 20;

/// The most bytes that one item may have. The controller leaves a larger one out and says so.
pub const MAX_ITEM: usize = 1 << 20;

/// One piece of the table. Its name in the table is [`Item::id`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    /// A service and its shared endpoints.
    Service(Service),
    /// One way from a request to a service.
    Route(Box<Route>),
    /// One preview.
    Preview(Preview),
    /// A key that named a preview within the last seven days.
    Gone(Gone),
    /// A certificate for TLS listeners.
    Certificate(Certificate),
    /// A port of waypoints.
    Port(Port),
    /// The secrets that gateways and the proxies inside share.
    Secrets(Secrets),
}

impl Item {
    /// Its name in the table: `service/NAME`, `route/NAME`, `preview/KEY`, `gone/KEY`, `certificate/NAME`,
    /// `port/NAMESPACE/PORT`, `secrets/context`.
    pub fn id(&self) -> String {
        match self {
            Self::Service(service) => format!("service/{}", service.name),
            Self::Route(route) => format!("route/{}", route.name),
            Self::Preview(preview) => format!("preview/{}", preview.key),
            Self::Gone(gone) => format!("gone/{}", gone.key),
            Self::Certificate(certificate) => format!("certificate/{}", certificate.name),
            Self::Port(port) => format!("port/{}/{}", port.namespace, port.port),
            Self::Secrets(_) => Secrets::ID.to_owned(),
        }
    }
}

/// A service. In a cluster it is called `NAME.NAMESPACE`, and `NAME.NAMESPACE:PORT-NAME` where its Service has more
/// than one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name, unique.
    pub name: Box<str>,
    /// The shared endpoints that are ready; `None`: it exists only in previews.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Vec<SocketAddr>>,
    /// What its endpoints speak, forks included.
    pub protocol: Protocol,
    /// The name on its certificate, where the protocol has TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Box<str>>,
    /// Where callers inside a cluster reach it: each address of its Service with the number of this port. A sidecar
    /// knows by them whom a call is for; gateways have no use for them and are not told. To a waypoint they are those of the
    /// Service that stands for its baseline. One of them that is in `baseline`, too, is tried where none of the others can
    /// be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
}

/// A port of the waypoints of a namespace: everything that comes in on it is for one service of that namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The namespace.
    pub namespace: Box<str>,
    /// The number.
    pub port: u16,
    /// The service's name.
    pub service: Box<str>,
    /// What comes in. What is no HTTP goes to the baseline as it is.
    #[serde(default, skip_serializing_if = "is_http")]
    pub spoken: Spoken,
}

/// What clients of a port speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Spoken {
    /// HTTP.
    #[default]
    Http,
    /// HTTP where it looks like that.
    Detect,
    /// Something else.
    Tcp,
}

/// The secrets by which proxies of an estate know trace ids and signatures of each other, at most [`Secrets::MOST`] of at
/// least [`Secrets::SHORTEST`] visible characters: the first one writes, all are read. They travel over TLS and are kept
/// readable for their owner only. A file that a proxy's own configuration names counts in their place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// The texts.
    pub secrets: Vec<Box<str>>,
}

impl Secrets {
    /// Their name in the table: there is one item of them.
    pub const ID: &str = "secrets/context";
    /// The most of them: each makes it likelier that a foreign id passes, and two are enough to change them.
    pub const MOST: usize = 4;
    /// Bytes of the shortest: what is shorter can be guessed.
    pub const SHORTEST: usize = 16;
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.secrets.len()).finish()
    }
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A preview as it is now. A fork that must not be routed for what it is (its pods leak into the baseline, it can't be
/// made) is in it without endpoints: a test that means to reach it must not pass on the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    /// Its key.
    pub key: Key,
    /// Service name -> endpoints that are ready. An empty list is a fork that is down or refused.
    pub forks: BTreeMap<Box<str>, Vec<SocketAddr>>,
    /// Keys whose forks serve where this preview has none, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Key>,
    /// Other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Key>,
    /// Exact host names, lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Box<str>>,
    /// What happens when a fork is down.
    pub on_fork_down: OnForkDown,
    /// When it ends. The controller takes it out of the table then; a proxy that has lost its controller does so
    /// by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What happens when a fork is declared and can't be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnForkDown {
    /// 503 `fork_unavailable`.
    #[default]
    Fail,
    /// The baseline answers.
    Baseline,
    /// Wait for an endpoint, then fail.
    Hold,
}

/// A key that was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gone {
    /// The key.
    pub key: Key,
    /// When it ended.
    pub at: Timestamp,
}

/// A certificate chain and its key. Secret: it travels over TLS and is kept readable for its owner only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// `NAMESPACE/NAME` of its Secret.
    pub name: Box<str>,
    /// The chain, PEM, leaf first.
    pub chain: Box<str>,
    /// The private key, PEM.
    pub key: Box<str>,
    /// The hosts of the listeners that name it, `*.example.com` allowed, for which it is preferred; empty: whatever its
    /// leaf says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Box<str>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One match of one rule, and what happens to a request that it matches. Among the routes that match a request the
/// order of the Gateway API decides: the most specific host, an exact path before the longest prefix, one with a
/// method, most fields, most query parameters, and then the smaller [`Route::rank`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Unique: `NAMESPACE/NAME/RULE/MATCH/HOST` or the like.
    pub name: Box<str>,
    /// `shop.example.com`, `*.example.com` (any depth below) or `*`.
    pub host: Box<str>,
    /// Which paths.
    pub path: PathMatch,
    /// The method, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Box<str>>,
    /// Header fields that must be there, names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<FieldMatch>,
    /// Query parameters that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<FieldMatch>,
    /// On which listeners; `None`: on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Breaks ties, the smaller first: age and name of the object, then position in it. Compared as text.
    pub rank: Box<str>,
    /// Changes for requests and answers of every backend.
    #[serde(default, skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
    /// Time-outs, in milliseconds.
    #[serde(default, skip_serializing_if = "RouteTimeouts::is_empty")]
    pub timeouts: RouteTimeouts,
    /// What happens.
    pub action: Action,
}

/// Which paths a route matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// This one only.
    Exact(Box<str>),
    /// This one and all below it, in whole segments; `/` for all, no trailing slash otherwise.
    Prefix(Box<str>),
}

/// A name and the value that it must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldMatch {
    /// The name.
    pub name: Box<str>,
    /// Its exact value.
    pub value: Box<str>,
}

/// Which listeners a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// Those in clear.
    Http,
    /// Those with TLS.
    Https,
}

/// What happens to a request that a route matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// To one of these by weight. None, or none with a weight: 500, as the Gateway API asks for.
    Forward(Vec<Backend>),
    /// A redirect.
    Redirect(Redirect),
}

/// A service that takes a share of a route's requests. A fork of it takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// The service's name; `None`: the reference can't be resolved, and its share of requests gets 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Box<str>>,
    /// Its share among the backends of the route.
    pub weight: u32,
    /// Changes for its share only.
    #[serde(default, skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
}

/// Changes to requests and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filters {
    /// To the head of the request.
    #[serde(default, skip_serializing_if = "FieldChanges::is_empty")]
    pub request: FieldChanges,
    /// To the head of the answer.
    #[serde(default, skip_serializing_if = "FieldChanges::is_empty")]
    pub response: FieldChanges,
    /// To the target of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
}

impl Filters {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes to header fields, in this order: set, add, remove. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldChanges {
    /// In place of what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<FieldMatch>,
    /// Beside what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<FieldMatch>,
    /// Away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Box<str>>,
}

impl FieldChanges {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Another target for the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewrite {
    /// What `Host` says upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// This one.
    Full(Box<str>),
    /// This in place of the prefix that matched.
    Prefix(Box<str>),
}

/// A redirect: what is `None` stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// The scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Time-outs of a route, in milliseconds; `None`: the service's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTimeouts {
    /// Until the whole answer has been given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Until the head of one upstream's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<u64>,
}

impl RouteTimeouts {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Items as they travel: the JSON text of each, which is what is hashed.
pub type RawItems = BTreeMap<Box<str>, Box<RawValue>>;

/// What a controller says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// The first line.
    Hello(Hello),
    /// A part of a whole table.
    Snapshot(Snapshot),
    /// A change.
    Delta(Delta),
    /// There is nothing new, and the controller is there.
    Ping(Ping),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Versions can be compared within one epoch only: the life of one controller process.
    pub epoch: Box<str>,
}

/// A part of a whole table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The version that it is.
    pub version: u64,
    /// The items of this part.
    pub items: RawItems,
    /// The hash of the whole table, with its last part; `None`: more parts come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<TableHash>,
}

/// A change. It is never in parts: what would be too long for a line is sent as a snapshot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    /// The version that it changes.
    pub from: u64,
    /// The version that comes of it.
    pub to: u64,
    /// Items that are new or other ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upsert: RawItems,
    /// Names of items that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Box<str>>,
    /// The hash of what comes of it.
    pub hash: TableHash,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// The newest version.
    pub version: u64,
}

/// What a proxy says about a version: the body of `POST /v1/report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Its name, unique among the proxies: that of its pod.
    pub node: Box<str>,
    /// The epoch that it heard.
    pub epoch: Box<str>,
    /// The version.
    pub version: u64,
    /// Why it was not taken; `None`: it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
}

/// The hash of a table: a sum over its items, so that it costs a change and not a table to keep, and no order
/// matters. It finds mistakes, not forgers: those TLS keeps out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableHash(u64);

impl TableHash {
    /// Adds an item.
    pub fn add(&mut self, id: &str, json: &str) {
        self.0 = self.0.wrapping_add(item_hash(id, json));
    }

    /// Takes an item out again.
    pub fn take(&mut self, id: &str, json: &str) {
        self.0 = self.0.wrapping_sub(item_hash(id, json));
    }

    /// Adds what [`item_hash`] gave.
    pub fn add_hash(&mut self, hash: u64) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// Takes out what [`item_hash`] gave.
    pub fn take_hash(&mut self, hash: u64) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

/// The hash of one item under its name.
pub fn item_hash(id: &str, json: &str) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(id.as_bytes());
    hasher.write_u8(0);
    hasher.write(json.as_bytes());
    // FNV's last bytes reach few bits, and a sum would keep it so: the finaliser of SplitMix64 spreads them.
    let mut hash = hasher.finish();
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl fmt::Display for TableHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for TableHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Box<str>>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// For `skip_serializing_if`, which hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_http(spoken: &Spoken) -> bool {
    *spoken == Spoken::Http
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview() -> Item {
        Item::Preview(Preview {
            key: Key::bare("42").unwrap(),
            forks: BTreeMap::from([("checkout.shop".into(), vec!["10.0.0.1:8080".parse().unwrap()])]),
            parents: Vec::new(),
            aliases: Vec::new(),
            hosts: Vec::new(),
            on_fork_down: OnForkDown::Fail,
            expires: None,
        })
    }

    #[test]
    fn a_message_is_one_line_and_reads_back() {
        let item = preview();
        let json = serde_json::value::to_raw_value(&item).unwrap();
        assert_eq!(
            json.get(),
            r#"{"preview":{"key":"42","forks":{"checkout.shop":["10.0.0.1:8080"]},"onForkDown":"fail"}}"#
        );
        let mut hash = TableHash::default();
        hash.add(&item.id(), json.get());
        let upsert = BTreeMap::from([(item.id().into(), json)]);
        let delta = Message::Delta(Delta { from: 1, to: 2, upsert, remove: vec!["gone/42".into()], hash });
        let line = serde_json::to_string(&delta).unwrap();
        assert!(!line.contains('\n'));
        let Message::Delta(read) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let text = read.upsert["preview/42"].get();
        assert_eq!(serde_json::from_str::<Item>(text).unwrap(), item);
        assert_eq!(read.hash, hash);
        let mut empty = hash;
        empty.take("preview/42", text);
        assert_eq!(empty, TableHash::default());
    }

    #[test]
    fn what_is_not_said_takes_no_room() {
        let port = |spoken| Port { namespace: "shop".into(), port: 15200, service: "db.shop".into(), spoken };
        let (open, opaque) = (Item::Port(port(Spoken::Http)), Item::Port(port(Spoken::Tcp)));
        assert_eq!(open.id(), "port/shop/15200");
        let json = serde_json::to_string(&open).unwrap();
        assert_eq!(json, r#"{"port":{"namespace":"shop","port":15200,"service":"db.shop"}}"#);
        assert_eq!(serde_json::from_str::<Item>(&json).unwrap(), open);
        let json = serde_json::to_string(&opaque).unwrap();
        assert!(json.contains(r#""spoken":"tcp""#), "{json}");
        let json = r#"{"service":{"name":"a.b","protocol":"http1"}}"#;
        let service: Item = serde_json::from_str(json).unwrap();
        assert_eq!(
            serde_json::to_string(&service).unwrap(),
            json,
            "as a controller before it would have said it"
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let text = r#"{"preview":{"key":"42","forks":{},"onForkDown":"fail","mirror":true}}"#;
        let error = serde_json::from_str::<Item>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field `mirror`"), "{error}");
        assert!(serde_json::from_str::<Item>(r#"{"rule":{}}"#).is_err());
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        let mut hash = TableHash::default();
        hash.add("service/a", "{}");
        hash.add("service/b", "{}");
        let mut other = TableHash::default();
        other.add("service/b", "{}");
        other.add("service/a", "{}");
        assert_eq!(hash, other);
        assert_eq!(hash.to_string(), "9bd433fcb0fa0e7b");
    }
}
