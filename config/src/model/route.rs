//! Routes: which requests, and what happens to them. What a route says is held as it travels where nothing needs to
//! be resolved.

use std::fmt;
use std::time::Duration;

pub use crate::stream::{
    FieldChanges, FieldMatch, Filters, PathMatch, PathRewrite, Redirect, Rewrite, Scheme,
};

/// Which requests, and what happens to them. Among the routes that match a request decide: the most specific host,
/// an exact path before the longest prefix, one with a method, most header fields, most query parameters, then the
/// smaller rank, then the order in which they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, unique; empty for the routes of a file, which go by their position.
    pub name: Box<str>,
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths.
    pub path: PathMatch,
    /// The method, where it matters.
    pub method: Option<Box<str>>,
    /// Header fields that must be there, names in lower case.
    pub headers: Vec<FieldMatch>,
    /// Query parameters that must be there.
    pub query: Vec<FieldMatch>,
    /// On which listeners; `None`: on all.
    pub scheme: Option<Scheme>,
    /// Breaks ties, the smaller first.
    pub rank: Box<str>,
    /// Changes for requests and answers of every backend.
    pub filters: Filters,
    /// Time-outs in place of the service's.
    pub timeouts: RouteTimeouts,
    /// What happens.
    pub action: Action,
}

impl Route {
    /// All requests for a host and a path prefix (`/` for all; no trailing slash otherwise) to one service, by its
    /// index in [`crate::Config::services`].
    pub fn to(host: HostPattern, path: impl Into<Box<str>>, service: usize) -> Self {
        let backend = Backend { service: Some(service), weight: 1, filters: Filters::default() };
        Self {
            name: Box::default(),
            host,
            path: PathMatch::Prefix(path.into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            scheme: None,
            rank: Box::default(),
            filters: Filters::default(),
            timeouts: RouteTimeouts::default(),
            action: Action::Forward(vec![backend]),
        }
    }
}

/// Which hosts a route matches; names are lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(Box<str>),
    /// Any below this one: `*.example.com` is held as `example.com`.
    Below(Box<str>),
    /// Any at all.
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// What happens to a request that a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one of these by weight. None, or none with a weight: 500, as the Gateway API asks for.
    Forward(Vec<Backend>),
    /// A redirect.
    Redirect(Redirect),
}

/// A service that takes a share of a route's requests. A fork of it takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Index into [`crate::Config::services`]; `None`: there is no such service, and its share of requests gets 500.
    pub service: Option<usize>,
    /// Its share among the backends of the route.
    pub weight: u32,
    /// Changes for its share only, after those of the route.
    pub filters: Filters,
}

/// Time-outs of a route: `None`: the service's; zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// Until the whole answer has been given.
    pub request: Option<Duration>,
    /// Until the head of one upstream's answer.
    pub backend_request: Option<Duration>,
}

/// Request fields that no filter may change: they frame the message, belong to one connection, say who asked, or carry
/// the key, so that a user without a key could be led to a fork. Such a change is left out; a controller should say
/// so where it was asked for. `name` is in lower case.
pub fn is_protected_request_field(name: &str) -> bool {
    const PROTECTED: &[&str] = &[
        "host",
        "expect",
        "via",
        "forwarded",
        "x-request-id",
        "x-pr-id",
        "x-pr-strict",
        "baggage",
        "traceparent",
        "tracestate",
    ];
    is_framing(name) || name.starts_with("x-forwarded-") || PROTECTED.contains(&name)
}

/// The same for the fields of an answer.
pub fn is_protected_response_field(name: &str) -> bool {
    is_framing(name) || name == "x-pr-route"
}

/// Fields that frame a message or belong to one connection (RFC 9110 section 7.6.1).
fn is_framing(name: &str) -> bool {
    const FRAMING: &[&str] = &[
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FRAMING.contains(&name)
}
