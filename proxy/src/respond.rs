//! The answers that the proxy gives by itself, in three dresses, and what every answer gets on its way out.

mod redirect;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use sidetrack_config::model::Carriers;

use crate::error::Failure;
use crate::fields::Fields;
use crate::forward::rewrite::vary;
use crate::head::RequestHead;
use crate::identify::{CookieChange, Onward, join};
use crate::record::{Record, ResponseBody};
use crate::route::table::Table;
pub use redirect::{location, redirect};

/// An answer, of an upstream or our own.
pub struct Answer<B = ResponseBody> {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: Fields,
    /// The body.
    pub body: B,
}

/// What an error looks like for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// A page for people.
    Page,
    /// A trailers-only gRPC answer.
    Grpc,
    /// The head of a problem, for HEAD.
    HeadOnly,
}

impl Dress {
    /// What an error looks like to who sent `head`.
    pub fn of(head: &RequestHead) -> Self {
        let fields = &head.fields;
        if is_grpc(fields) {
            Self::Grpc
        } else if head.method == Method::HEAD {
            Self::HeadOnly
        } else if fields.get("accept").is_some_and(prefers_html) {
            Self::Page
        } else {
            Self::Problem
        }
    }
}

/// Whether a request with these `fields` is one of gRPC.
fn is_grpc(fields: &Fields) -> bool {
    let after = fields.get("content-type").and_then(|kind| kind.strip_prefix(b"application/grpc"));
    after.is_some_and(|after| after.first().is_none_or(|next| b"+; ".contains(next)))
}

/// Whether `text/html` is named, and nothing of JSON is liked better (RFC 9110 section 12.5.1).
fn prefers_html(accept: &[u8]) -> bool {
    // Most clients that are no browsers name it nowhere. Looked for without a way out of the loop, which takes many bytes
    // at a time.
    let has_h = accept.iter().fold(false, |found, byte| found | (byte | 0x20 == b'h'));
    if !has_h || !accept.windows(4).any(|word| word.eq_ignore_ascii_case(b"html")) {
        return false;
    }
    let Ok(accept) = std::str::from_utf8(accept) else { return false };
    let quality = |wanted: &dyn Fn(&str) -> bool| {
        let mut best: Option<f32> = None;
        for item in accept.split(',') {
            let mut parts = item.split(';').map(str::trim);
            if parts.next().is_some_and(wanted) {
                let q = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .and_then(|q| q.parse().ok())
                    .unwrap_or(1.0);
                best = Some(best.map_or(q, |before| before.max(q)));
            }
        }
        best
    };
    let html = quality(&|kind| kind.eq_ignore_ascii_case("text/html"));
    let json = quality(&|kind| {
        let kind = kind.to_ascii_lowercase();
        kind == "application/json" || kind == "application/problem+json"
    });
    html.is_some_and(|html| html > 0.0 && html >= json.unwrap_or(0.0))
}

/// The answer for a failure, which is then on the record.
pub fn failure(failure: &Failure, dress: Dress, record: &mut Record) -> Answer {
    record.failed(failure);
    let request_id = std::str::from_utf8(record.request_id()).unwrap_or_default();
    let context = Context { service: record.service_name(), request_id };
    let close = failure.code.answer().close && !record.is_http2();
    let Answer { status, mut fields, body } = dressed(failure, dress, &context);
    if close {
        fields.insert("connection", b"close");
    }
    Answer { status, fields, body: ResponseBody::own(body) }
}

/// What an error says besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The service that the route named.
    pub service: Option<&'a str>,
    /// The id of the request.
    pub request_id: &'a str,
}

/// An error in its dress; nothing but its arguments decides what it says.
pub fn dressed(failure: &Failure, dress: Dress, context: &Context<'_>) -> Answer<Bytes> {
    let (kind, body) = match dress {
        Dress::Problem => ("application/problem+json", problem(failure, context)),
        Dress::HeadOnly => ("application/problem+json", String::new()),
        Dress::Page => ("text/html; charset=utf-8", page(failure, context)),
        Dress::Grpc => ("application/grpc", String::new()),
    };
    let mut fields = Fields::default();
    fields.append("cache-control", b"no-store");
    fields.append("content-type", kind.as_bytes());
    let mut status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if dress == Dress::Grpc {
        // Trailers-only: the status of HTTP is 200, and gRPC's stands in the one head that there is.
        status = StatusCode::OK;
        grpc_status(&mut fields, failure.grpc(), &format!("{}: {}", failure.code, failure.detail));
    } else {
        explain_status(&mut fields, failure);
    }
    Answer { status, fields, body: Bytes::from(body) }
}

/// What we forward, as `Allow` says it.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The answer to an OPTIONS that is not to go any further (RFC 9110 section 7.6.2).
pub fn options() -> Answer {
    let mut fields = Fields::default();
    fields.append("allow", ALLOW);
    fields.append("cache-control", b"no-store");
    Answer { status: StatusCode::OK, fields, body: ResponseBody::empty() }
}

/// Fields that RFC 9110 wants beside a status.
fn explain_status(fields: &mut Fields, failure: &Failure) {
    match failure.status() {
        // RFC 9110 section 15.5.2: a 401 names a way to authenticate.
        401 => fields.append("www-authenticate", b"PreviewToken"),
        405 => fields.append("allow", ALLOW),
        503 => fields.append("retry-after", b"1"),
        _ => {}
    }
}

fn problem(failure: &Failure, context: &Context<'_>) -> String {
    let answer = failure.code.answer();
    json!({
        "type": format!("urn:sidetrack:error:{}", answer.word),
        "title": answer.title,
        "status": failure.status(),
        "detail": failure.detail,
        "code": answer.word,
        "preview": failure.preview,
        "service": context.service,
        "requestId": context.request_id,
    })
    .to_string()
}

fn page(failure: &Failure, context: &Context<'_>) -> String {
    let answer = failure.code.answer();
    let row = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!("<dt>{name}</dt><dd>{}</dd>", escaped(value)),
    };
    let rows = [
        row("Code", answer.word),
        row("Preview", failure.preview.as_ref().map_or("", |key| key.as_str())),
        row("Service", context.service.unwrap_or("")),
        row("Request", context.request_id),
    ]
    .concat();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;color:#222;background:#fff}}\
         h1{{font-size:1.4rem}}dl{{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;color:#555}}dd{{margin:0;overflow-wrap:anywhere}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}dl{{color:#aaa}}}}</style></head>\
         <body><h1>{status} {title}</h1><p>{detail}</p><dl>{rows}</dl></body></html>\n",
        status = failure.status(),
        title = answer.title,
        detail = escaped(&failure.detail),
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// How a call of gRPC ended, for its head where that is all of the answer, or for its trailers.
pub fn grpc_status(fields: &mut Fields, status: u8, message: &str) {
    fields.append("grpc-status", status.to_string().as_bytes());
    fields.append("grpc-message", percent_encoded(message).as_bytes());
}

/// `grpc-message`: printable ASCII but `%` as it is, all else percent-encoded (gRPC over HTTP/2, "Responses").
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What every answer gets: `Vary`, and for keyed ones the receipt, cache safety and the cookie.
pub fn finish(answer: &mut Answer, table: &Table, record: &mut Record) {
    let carriers = &table.estate.carriers;
    let is_tunnel = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let fields = &mut answer.fields;
    if record.is_going() && !record.is_http2() && !is_tunnel {
        fields.insert("connection", b"close");
    }
    if record.onward() == Onward::Left {
        // Nothing of ours went there, so that nothing of it is about us.
        return;
    }
    match carriers.header.as_deref() {
        Some("x-pr-id") => vary(fields, "X-PR-ID"),
        Some(other) => vary(fields, other),
        None => {}
    }
    record.tell(fields);
    if record.identity().is_some_and(|identity| identity.is_private) {
        keep_private(fields);
    }
    cookie(fields, carriers, record);
}

/// Keeps caches from an answer, whatever the service tells one of them by itself (RFC 9213): that would count for more.
fn keep_private(fields: &mut Fields) {
    fields.retain(|name| {
        !name.ends_with(b"-cache-control")
            && !matches!(name, b"edge-control" | b"expires" | b"surrogate-control" | b"x-accel-expires")
    });
    fields.insert("cache-control", b"private, no-store");
}

/// The name of the cookie that a `Set-Cookie` sets. One without a name is sent back as its value alone (RFC 6265bis section
/// 5.8.3), which may read as a name and a value.
fn cookie_name(cookie: &[u8]) -> &[u8] {
    let parts = cookie.split(|byte| matches!(byte, b'=' | b';'));
    let mut names = parts.map(<[u8]>::trim_ascii);
    names.find(|name| !name.is_empty()).unwrap_or_default()
}

/// Sets, or clears, the cookie that lets the further requests of a page follow.
fn cookie(fields: &mut Fields, carriers: &Carriers, record: &Record) {
    let Some(name) = carriers.cookie.as_deref() else { return };
    // Which preview a browser sees is not for a service to say, least of all for the code of another preview.
    fields.retain_values("set-cookie", |cookie| cookie_name(cookie) != name.as_bytes());
    let Some(identity) = record.identity() else { return };
    let secure = if record.is_secure() { "; Secure" } else { "" };
    let text = match record.cookie() {
        CookieChange::Keep => return,
        CookieChange::Set => {
            format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", join(&identity.keys, "."))
        }
        CookieChange::Clear => format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}"),
    };
    fields.append("set-cookie", text.as_bytes());
    // What the browser has cached belongs to the other version. The field works on TLS only.
    if record.is_secure() {
        fields.insert("clear-site-data", b"\"cache\"");
    }
}
