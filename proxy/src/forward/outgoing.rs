//! The request as it goes upstream, ready to be sent and, within the rules, to be sent again.

use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Method, Version};
use sidetrack_config::model::{HostRewrite, Role};

use super::body::Source;
use super::http2::hpack::{Encoder, Known};
use super::upload::Framing;
use super::{carriers, filters, forwarded, rewrite};
use crate::accept::connection::Connection;
use crate::accept::hints::Hints;
use crate::context::signature;
use crate::decision::Decision;
use crate::error::{Code, Failure};
use crate::fields::{Fields, Skips};
use crate::h1::write;
use crate::head::{HttpHead, RequestHead};
use crate::identify::{Onward, strip_query};
use crate::pick::{Lineage, lineage};
use crate::route::table::Table;
use crate::worker::Worker;

/// Room for the lines of a head that are not among its fields.
const HEAD: usize = 128;

/// A request on its way upstream.
pub struct Outgoing<'h> {
    /// The head, as it goes onward.
    pub head: &'h mut RequestHead,
    /// What `Host` says upstream; `None`: what the client said.
    host: Option<Box<str>>,
    /// The body.
    pub source: Rc<Source>,
    /// Whether it asks for an upgrade.
    pub upgrades: bool,
    /// Takes 1xx answers to the client.
    pub hints: &'h Hints,
    /// The path segment that carried the key.
    pub path_prefix: Box<str>,
    /// The authority that the client asked for.
    pub authority: Box<str>,
    /// Whether the client waits for `100 Continue`.
    pub expects: bool,
    /// How long one upstream may take to its head, where the route says so; zero: for ever.
    pub response_timeout: Option<Duration>,
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
    pub request_id: &'a [u8],
    /// The id that says its key, for a trace that begins here.
    pub hidden: Option<u128>,
}

impl<'h> Outgoing<'h> {
    /// Rewrites the head of a request for its next hop.
    ///
    /// # Errors
    /// `loop_detected` where this process has forwarded the request before; `malformed_request` where what is left of
    /// its target is none.
    pub fn new(
        head: &'h mut RequestHead,
        source: Source,
        decision: &Decision<'_>,
        authority: Box<str>,
        hints: &'h Hints,
        via: &Via<'_>,
    ) -> Result<Self, Failure> {
        let Via { worker, connection, table, request_id, hidden } = *via;
        let identity = &decision.identity;
        let view = HttpHead::new(head, &authority, connection.secure);
        let path_prefix: Box<str> = identity.path_prefix(&view).into();
        let host = match (filters::host(decision), &decision.service.host) {
            (Some(host), _) => Some(host.into()),
            (None, HostRewrite::Keep) => None,
            (None, HostRewrite::Base) => Some(with_port(&identity.host_text(&view), &authority).into()),
            (None, HostRewrite::Name(name)) => Some(name.clone()),
        };
        let changed_target = changed_target(head, &view, decision, table)?;
        let turns = turns(&head.fields, worker.shared.via.as_bytes());
        if turns > 0 && turns >= allowed_turns(table.estate.role) {
            let name = &decision.service.name;
            let detail = format!(
                "this proxy has forwarded the request before, and was to send it to service {name} again: {name} or its \
                 endpoints lead back here"
            );
            return Err(Failure::new(Code::LoopDetected, detail));
        }
        if let Some(left) = max_forwards(head) {
            head.fields.insert("max-forwards", left.saturating_sub(1).to_string().as_bytes());
        }
        let has_body = source.left() != Some(0);
        let upgrades = upgrade(head, has_body, connection, worker);
        if let Some(target) = changed_target {
            head.target = target;
        }
        let fields = &mut head.fields;
        let expects = fields.get("expect").is_some_and(|e| e.eq_ignore_ascii_case(b"100-continue"));
        filters::request(fields, decision);
        for name in secrets(decision, table) {
            fields.remove(name);
        }
        if fields.has_underscores() {
            rewrite::strip_twins(fields);
        }
        rewrite::join_cookies(fields);
        let proof = signature::onward(fields, identity, &table.estate, worker.seconds());
        carriers::stamp(fields, identity, &table.estate, hidden, proof.as_ref(), || worker.random());
        let role = table.estate.role;
        forwarded::write(fields, connection, role, &authority, &path_prefix, request_id);
        // Some servers treat what comes by a proxy in another way, and who is not ours need not know of us.
        if identity.onward != Onward::Left {
            fields.add_item("via", worker.shared.via.as_bytes());
        }
        Ok(Self {
            head,
            host,
            source: Rc::new(source),
            upgrades,
            hints,
            path_prefix,
            authority,
            expects,
            response_timeout: decision.rule.timeouts.backend_request,
            secure: connection.secure,
        })
    }

    /// What `Host`, or `:authority`, says upstream.
    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(&self.authority)
    }

    /// Whether the request may be sent again after it was written: its method allows it (RFC 9110 section 9.2.2), and
    /// nothing of its body is lost.
    pub fn is_repeatable(&self) -> bool {
        self.head.method.is_idempotent() && !self.upgrades && !self.source.is_touched()
    }

    /// The head as HTTP/1.1 writes it, and how the body behind it is delimited.
    pub fn http1(&self) -> (Vec<u8>, Framing) {
        let mut out = Vec::with_capacity(HEAD + self.head.target.as_str().len() + self.head.fields.bytes());
        for text in [
            self.head.method.as_str(),
            " ",
            self.head.target.as_str(),
            " HTTP/1.1\r\nhost: ",
            self.host(),
            "\r\n",
        ] {
            out.extend_from_slice(text.as_bytes());
        }
        self.head
            .fields
            .write(&mut out, const { Skips::new(["host", "content-length", "transfer-encoding"]) });
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
                if matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH)
                    || self.head.fields.contains("content-length") =>
            {
                write::content_length(&mut out, 0);
            }
            Framing::Ended => {}
        }
        out.extend_from_slice(b"\r\n");
        (out, framing)
    }

    /// Whether HTTP/2 has a form for the head.
    pub fn fits_http2(&self) -> bool {
        self.host().bytes().all(|octet| octet.is_ascii_graphic())
    }

    /// Writes the head as HTTP/2 has it.
    pub fn write_http2(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        match self.head.method {
            Method::GET => encoder.known(out, Known::MethodGet),
            Method::POST => encoder.known(out, Known::MethodPost),
            ref other => encoder.named(out, ":method", other.as_str().as_bytes()),
        }
        encoder.known(out, if self.secure { Known::SchemeHttps } else { Known::SchemeHttp });
        encoder.named(out, ":authority", self.host().as_bytes());
        encoder.named(out, ":path", self.head.target.as_str().as_bytes());
        for (name, tag, value) in self.head.fields.tagged(const { Skips::new(["host", "content-length"]) }) {
            encoder.line(out, name, tag, value);
        }
        // A method that has a body says how long it is, or that there is none (RFC 9110 section 8.6). What the client said is
        // not repeated: it may have said it twice, or nothing with it.
        if let Some(length) = self.source.left()
            && (length > 0
                || matches!(self.head.method, Method::POST | Method::PUT | Method::PATCH)
                || self.head.fields.contains("content-length"))
        {
            encoder.named(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
        }
    }

    /// Bytes that are kept while the request waits: its head, and what may be buffered of its body.
    pub fn held_bytes(&self, window: u64) -> u64 {
        let body = self.source.left().unwrap_or(window).min(window);
        u64::try_from(self.head.fields.bytes()).unwrap_or(u64::MAX).saturating_add(body)
    }
}

/// How many more proxies an OPTIONS may pass (RFC 9110 section 7.6.2); `None`: any number.
pub fn max_forwards(head: &RequestHead) -> Option<u32> {
    if head.method != Method::OPTIONS {
        return None;
    }
    head.fields.text("max-forwards")?.parse().ok()
}

/// The target for upstream, without the key's path segment and without our query parameter; `None`: it is as it came.
fn changed_target(
    head: &RequestHead,
    view: &HttpHead<'_>,
    decision: &Decision<'_>,
    table: &Table,
) -> Result<Option<PathAndQuery>, Failure> {
    let identity = &decision.identity;
    // `*` asks about the server, not about a path.
    let rewrites = filters::rewrites_path(decision) && head.target.path() != "*";
    if identity.path_skip == 0 && !identity.strip_query && !rewrites {
        return Ok(None);
    }
    let mut text = filters::path(decision, identity.path(view)).into_owned();
    let query = head.target.query().and_then(|query| match &table.estate.carriers.query {
        Some(name) if identity.strip_query => strip_query(query, name),
        _ => Some(query.to_owned()),
    });
    if let Some(query) = query {
        text.push('?');
        text.push_str(&query);
    }
    PathAndQuery::try_from(text)
        .map(Some)
        .map_err(|_| Failure::new(Code::MalformedRequest, "the request target is no path"))
}

/// Whether the client asks for a WebSocket (RFC 6455 section 4.1), and the fields that ask the upstream for it; the other
/// fields of the connection are cut. An extended CONNECT (RFC 8441) becomes the HTTP/1.1 handshake that it stands for. A
/// request that asks for something else, or not as it should, goes on as what it is without that.
fn upgrade(head: &mut RequestHead, has_body: bool, connection: &Connection, worker: &Worker) -> bool {
    let fields = &mut head.fields;
    let upgrades = if head.method == Method::CONNECT {
        head.method = Method::GET;
        fields.insert("sec-websocket-key", websocket_key(worker).as_bytes());
        if !fields.contains("sec-websocket-version") {
            fields.append("sec-websocket-version", b"13");
        }
        true
    } else {
        fields.contains("upgrade")
            && !connection.is_http2
            && head.version != Version::HTTP_10
            && head.method == Method::GET
            && !has_body
            && fields.contains("sec-websocket-key")
            && rewrite::is_websocket(fields)
    };
    rewrite::strip_hop_by_hop(fields);
    if upgrades {
        fields.append("connection", b"upgrade");
        fields.append("upgrade", b"websocket");
    }
    upgrades
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

/// Fields that hold secrets of ours: those of the file, of the previews that this request names, and of their parents, wherever
/// it goes: a client sends them all with each request.
fn secrets<'t>(decision: &Decision<'_>, table: &'t Table) -> impl Iterator<Item = &'t str> {
    let named = decision.identity.keys.iter().filter_map(|key| table.preview(key).map(AsRef::as_ref));
    let lineage = if table.restricted == 0 { Lineage::new() } else { lineage(named, table) };
    let theirs = lineage.into_iter().filter_map(|preview| Some(&*preview.access()?.header.as_ref()?.name));
    table.estate.secret_headers.iter().map(http::HeaderName::as_str).chain(theirs)
}

/// How often `Via` names this process.
fn turns(fields: &Fields, via: &[u8]) -> usize {
    fields.items("via").filter(|hop| *hop == via).count()
}

/// How often a request may have been here before. Inside the estate an application that hands on all fields of a request
/// with its own calls, as reverse proxies do, hands on `Via` too, and may well call a service that is behind the same
/// proxy; a loop of proxies has no end, so that it is found all the same.
const fn allowed_turns(role: Role) -> usize {
    match role {
        Role::Gateway => 1,
        Role::Waypoint | Role::Sidecar => 8,
    }
}

/// `host` with the port of `authority`.
fn with_port(host: &str, authority: &str) -> String {
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    match after.rsplit_once(':') {
        Some((_, port)) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
