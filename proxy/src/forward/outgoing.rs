//! The request as it goes upstream, ready to be sent and, within the rules, to be sent again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Extensions, Method, Request, Uri, Version};
use sidetrack_config::model::HostRewrite;

use super::body::{Gate, RequestBody, Source};
use super::upload::Framing;
use super::{carriers, filters, forwarded, rewrite};
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::decision::Decision;
use crate::error::{Code, Failure};
use crate::h1::write;
use crate::head::HttpHead;
use crate::identify::strip_query;
use crate::route::table::Table;
use crate::worker::Worker;

const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Fields that a request may get on its way.
const ADDED: usize = 12;

/// Room for the head of a common request.
const HEAD: usize = 1 << 10;

/// A request on its way upstream.
pub struct Outgoing {
    /// The head; `None` while an attempt has it.
    head: Option<Parts>,
    /// A copy of the head that an attempt has.
    kept: Option<Kept>,
    /// The body.
    pub source: Rc<Source>,
    /// Whether it asks for an upgrade.
    pub upgrades: bool,
    /// Takes 1xx answers to the client.
    pub hints: Arc<Hints>,
    /// The path segment that carried the key.
    pub path_prefix: Box<str>,
    /// The authority that the client asked for.
    pub authority: HeaderValue,
    /// Whether the client waits for `100 Continue`.
    pub expects: bool,
    /// How long one upstream may take to its head, where the route says so; zero: for ever.
    pub response_timeout: Option<Duration>,
    is_idempotent: bool,
    target: PathAndQuery,
    upstream_authority: HeaderValue,
    secure: bool,
}

/// By which proxy, connection and table a request goes.
pub struct Via<'a> {
    /// The worker that forwards it.
    pub worker: &'a Worker,
    /// The connection that it came on.
    pub connection: &'a Connection,
    /// The table that was asked.
    pub table: &'a Table,
    /// Its id.
    pub request_id: &'a HeaderValue,
}

impl Outgoing {
    /// Rewrites the head of a request for its next hop.
    ///
    /// # Errors
    /// `loop_detected` where this process has forwarded the request before; `malformed_request` where what is left of
    /// its target is none.
    pub fn new(
        mut parts: Parts,
        source: Source,
        decision: &Decision<'_>,
        authority: HeaderValue,
        hints: Arc<Hints>,
        via: &Via<'_>,
    ) -> Result<Self, Failure> {
        let Via { worker, connection, table, request_id } = *via;
        let identity = &decision.identity;
        let head = HttpHead::new(&parts, authority.to_str().unwrap_or_default(), connection.secure);
        let path_prefix: Box<str> = identity.path_prefix(&head).into();
        let base_host: Option<HeaderValue> = match &decision.service.host {
            HostRewrite::Keep => None,
            HostRewrite::Base => {
                HeaderValue::from_str(&with_port(&identity.host_text(&head), &authority)).ok()
            }
            HostRewrite::Name(name) => HeaderValue::from_str(name).ok(),
        };
        let target = target(&parts, &head, decision, table)?;
        if comes_from(&parts, &worker.shared.via) {
            return Err(Failure::new(Code::LoopDetected, "this proxy has forwarded the request before"));
        }
        let upgrades = upgrade(&mut parts, connection, worker);
        let expects = parts
            .headers
            .get(header::EXPECT)
            .is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        filters::request(&mut parts.headers, decision);
        for name in secrets(decision, table) {
            parts.headers.remove(name);
        }
        rewrite::join_cookies(&mut parts.headers);
        // Once, and not twice on the way.
        parts.headers.reserve(ADDED);
        carriers::stamp(&mut parts.headers, identity, &table.estate.carriers, || worker.random());
        forwarded::write(
            &mut parts.headers,
            connection,
            table.estate.role,
            &authority,
            &path_prefix,
            request_id,
        );
        forwarded::append(&mut parts.headers, &header::VIA, &worker.shared.via);
        parts.extensions = Extensions::new();
        Ok(Self {
            source: Rc::new(source),
            upgrades,
            hints,
            path_prefix,
            expects,
            response_timeout: decision.rule.timeouts.backend_request,
            is_idempotent: parts.method.is_idempotent(),
            target,
            upstream_authority: filters::host(decision).or(base_host).unwrap_or_else(|| authority.clone()),
            authority,
            secure: connection.secure,
            head: Some(parts),
            kept: None,
        })
    }

    /// Whether the request may be sent again after it was written: its method allows it (RFC 9110 section 9.2.2), and
    /// nothing of its body is lost.
    pub fn is_repeatable(&self) -> bool {
        self.is_idempotent && !self.upgrades && !self.source.is_touched()
    }

    /// The head as HTTP/1.1 writes it, and how the body behind it is delimited; `None` where an attempt has the head.
    pub fn http1(&self) -> Option<(Vec<u8>, Framing)> {
        let parts = self.head.as_ref()?;
        let mut out = Vec::with_capacity(HEAD);
        for text in [parts.method.as_str(), " ", self.target.as_str(), " HTTP/1.1\r\n"] {
            out.extend_from_slice(text.as_bytes());
        }
        write::field(&mut out, "host", self.upstream_authority.as_bytes());
        for (name, value) in &parts.headers {
            if !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
                write::field(&mut out, name.as_str(), value.as_bytes());
            }
        }
        let framing = match self.source.left() {
            Some(0) => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        match framing {
            Framing::Length(length) => write::content_length(&mut out, length),
            Framing::Chunked => write::field(&mut out, "transfer-encoding", b"chunked"),
            // A method that has a body says that there is none (RFC 9110 section 8.6).
            Framing::Ended
                if parts.headers.contains_key(header::CONTENT_LENGTH)
                    || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) =>
            {
                write::content_length(&mut out, 0);
            }
            Framing::Ended => {}
        }
        out.extend_from_slice(b"\r\n");
        Some((out, framing))
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.head.as_ref().map_or(Method::GET, |head| head.method.clone())
    }

    /// The request for one attempt over HTTP/2. With `keep` a copy of the head stays, for another attempt.
    pub fn http2(&mut self, keep: bool, gate: Option<Arc<Gate>>) -> Option<Request<RequestBody>> {
        let mut parts = self.take_head()?;
        self.kept = keep.then(|| Kept::of(&parts));
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target.clone());
        uri.scheme = Some(if self.secure { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = http::uri::Authority::try_from(self.upstream_authority.as_bytes()).ok();
        parts.uri = Uri::from_parts(uri).ok()?;
        let body = (!self.source.is_done()).then(|| Rc::clone(&self.source));
        Some(Request::from_parts(parts, RequestBody::new(body, gate)))
    }

    fn take_head(&mut self) -> Option<Parts> {
        let kept = self.kept.take();
        self.head.take().or_else(|| kept.map(Kept::into_head))
    }

    /// Takes back the request of an attempt that wrote nothing.
    pub fn put_back(&mut self, request: Request<RequestBody>) {
        let (mut parts, _) = request.into_parts();
        parts.extensions = Extensions::new();
        self.head = Some(parts);
    }

    /// Whether there is a head to send.
    pub const fn has_head(&self) -> bool {
        self.head.is_some() || self.kept.is_some()
    }

    /// Bytes that are kept while the request waits: its head, and what may be buffered of its body.
    pub fn held_bytes(&self, window: u64) -> u64 {
        let fields = self.head.as_ref().map_or(0, |head| {
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
        });
        let body = self.source.left().unwrap_or(window).min(window);
        u64::try_from(fields).unwrap_or(u64::MAX).saturating_add(body)
    }
}

/// A copy of a head in one piece of memory. Nearly every request makes one and nearly none needs it, so that making it
/// must be cheap.
struct Kept {
    method: Method,
    /// `name:value`, each with a line feed, which neither of them can hold.
    fields: Vec<u8>,
}

impl Kept {
    fn of(head: &Parts) -> Self {
        let length = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut fields = Vec::with_capacity(length);
        for (name, value) in &head.headers {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(b':');
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Self { method: head.method.clone(), fields }
    }

    fn into_head(self) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.method;
        for line in self.fields.split(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let Some((name, value)) = line.split_at_checked(colon) else { continue };
            let value = value.strip_prefix(b":").unwrap_or(value);
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                head.headers.append(name, value);
            }
        }
        head
    }
}

/// The target for upstream: without the key's path segment and without our query parameter.
fn target(
    parts: &Parts,
    head: &HttpHead<'_>,
    decision: &Decision<'_>,
    table: &Table,
) -> Result<PathAndQuery, Failure> {
    let identity = &decision.identity;
    // `*` asks about the server, not about a path.
    let rewrites = filters::rewrites_path(decision) && parts.uri.path() != "*";
    if identity.path_skip == 0
        && !identity.strip_query
        && !rewrites
        && let Some(target) = parts.uri.path_and_query()
    {
        return Ok(target.clone());
    }
    let mut text = filters::path(decision, identity.path(head)).into_owned();
    let query = parts.uri.query().and_then(|query| match &table.estate.carriers.query {
        Some(name) if identity.strip_query => strip_query(query, name),
        _ => Some(query.to_owned()),
    });
    if let Some(query) = query {
        text.push('?');
        text.push_str(&query);
    }
    PathAndQuery::try_from(text)
        .map_err(|_| Failure::new(Code::MalformedRequest, "the request target is no path"))
}

/// Whether the client asks for an upgrade, and the fields that ask the upstream for it; the other fields of the
/// connection are cut. An extended CONNECT (RFC 8441) becomes the HTTP/1.1 handshake that it stands for.
fn upgrade(parts: &mut Parts, connection: &Connection, worker: &Worker) -> bool {
    let token = if parts.method == Method::CONNECT {
        parts.method = Method::GET;
        if let Ok(key) = HeaderValue::try_from(websocket_key(worker)) {
            parts.headers.insert(WEBSOCKET_KEY, key);
        }
        parts.headers.entry(WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        Some(HeaderValue::from_static("websocket"))
    } else if connection.is_http2 || parts.version == Version::HTTP_10 {
        None
    } else {
        rewrite::upgrade_of(&parts.headers)
    };
    rewrite::strip_hop_by_hop(&mut parts.headers);
    let Some(token) = token else { return false };
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, token);
    true
}

/// 16 random bytes in base64 (RFC 6455 section 4.1). They prove nothing; they only must differ.
fn websocket_key(worker: &Worker) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = (u128::from(worker.random()) << 64) | u128::from(worker.random());
    let digit = |value: u128| {
        usize::try_from(value & 63).ok().and_then(|at| DIGITS.get(at)).map_or('A', |digit| char::from(*digit))
    };
    // 128 bits are 21 digits of 6 bits and one of 2 bits, padded.
    let mut text: String = (0..21).map(|at| digit(bits >> (122 - 6 * at))).collect();
    text.push(digit((bits & 3) << 4));
    text + "=="
}

/// Fields that hold secrets of ours: those of the file, and those of the previews that this request names.
fn secrets<'t>(decision: &'t Decision<'_>, table: &'t Table) -> impl Iterator<Item = HeaderName> + 't {
    let named = decision.identity.keys.iter().filter_map(|key| table.access(key)?.header.as_ref());
    let named = named.filter_map(|rule| HeaderName::from_bytes(rule.name.as_bytes()).ok());
    table.estate.secret_headers.iter().cloned().chain(named)
}

/// Whether `Via` names this process.
fn comes_from(parts: &Parts, via: &HeaderValue) -> bool {
    parts
        .headers
        .get_all(header::VIA)
        .iter()
        .any(|line| line.as_bytes().split(|byte| *byte == b',').any(|hop| hop.trim_ascii() == via.as_bytes()))
}

/// `host` with the port of `authority`.
fn with_port(host: &str, authority: &HeaderValue) -> String {
    let authority = authority.to_str().unwrap_or_default();
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    match after.rsplit_once(':') {
        Some((_, port)) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
