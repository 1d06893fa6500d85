//! The answers that the proxy gives by itself, in three dresses, and what every answer gets on its way out.

mod redirect;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use sidetrack_config::model::Carriers;

use crate::error::Failure;
use crate::forward::rewrite::vary;
use crate::identify::{CookieChange, join};
use crate::record::{Record, ResponseBody, receipt};
use crate::route::table::Table;
use crate::worker::Worker;
pub use redirect::{location, redirect};

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

/// What a request says of itself that decides how an error would look. Kept of every request and read only where there
/// is an error.
#[derive(Clone, Debug)]
pub struct Tastes {
    content_type: Option<HeaderValue>,
    accept: Option<HeaderValue>,
    is_head: bool,
}

impl Tastes {
    /// Those of `request`.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            content_type: request.headers().get(header::CONTENT_TYPE).cloned(),
            accept: request.headers().get(header::ACCEPT).cloned(),
            is_head: *request.method() == Method::HEAD,
        }
    }

    /// What an error looks like to them.
    pub fn dress(&self) -> Dress {
        if text(self.content_type.as_ref()).starts_with("application/grpc") {
            Dress::Grpc
        } else if self.is_head {
            Dress::HeadOnly
        } else if prefers_html(text(self.accept.as_ref())) {
            Dress::Page
        } else {
            Dress::Problem
        }
    }
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Whether `text/html` is named, and nothing of JSON is liked better (RFC 9110 section 12.5.1).
fn prefers_html(accept: &str) -> bool {
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
pub fn failure(failure: &Failure, dress: Dress, record: &mut Record) -> Response<ResponseBody> {
    record.failed(failure.code);
    let context = Context {
        service: record.service_name(),
        request_id: record.request_id().to_str().unwrap_or_default(),
    };
    let close = failure.code.answer().close && !record.is_http2();
    let mut response = dressed(failure, dress, &context);
    if close {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(ResponseBody::own)
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
pub fn dressed(failure: &Failure, dress: Dress, context: &Context<'_>) -> Response<Bytes> {
    let body = match dress {
        Dress::Problem | Dress::HeadOnly => problem(failure, context),
        Dress::Page => page(failure, context),
        Dress::Grpc => String::new(),
    };
    let mut response = Response::new(if dress == Dress::HeadOnly { Bytes::new() } else { Bytes::from(body) });
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(match dress {
            Dress::Problem | Dress::HeadOnly => "application/problem+json",
            Dress::Page => "text/html; charset=utf-8",
            Dress::Grpc => "application/grpc",
        }),
    );
    if dress == Dress::Grpc {
        // Trailers-only: the status of HTTP is 200, and gRPC's stands in the one head that there is.
        fields.insert(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from(u16::from(failure.code.answer().grpc)),
        );
        let message = percent_encoded(&format!("{}: {}", failure.code, failure.detail));
        if let Ok(message) = HeaderValue::try_from(message) {
            fields.insert(HeaderName::from_static("grpc-message"), message);
        }
        return response;
    }
    explain_status(fields, failure);
    *response.status_mut() =
        StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Fields that RFC 9110 wants beside a status.
fn explain_status(fields: &mut HeaderMap, failure: &Failure) {
    match failure.status() {
        // RFC 9110 section 15.5.2: a 401 names a way to authenticate.
        401 => fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("PreviewToken")),
        405 => fields
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
        503 => fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
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
pub fn finish(response: &mut Response<ResponseBody>, worker: &Worker, table: &Table, record: &Record) {
    let carriers = &table.estate.carriers;
    let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    if worker.leaving.get() && !record.is_http2() && !is_tunnel {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(name) = carriers.header.as_deref() {
        match name {
            "x-pr-id" => vary(fields, &HeaderValue::from_static("X-PR-ID")),
            other => {
                if let Ok(name) = HeaderValue::from_str(other) {
                    vary(fields, &name);
                }
            }
        }
    }
    if let Some(entry) = record.receipt() {
        receipt::prepend(fields, entry);
    }
    if record.identity().is_some_and(|identity| identity.is_private) {
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    cookie(fields, carriers, record);
}

/// Sets, or clears, the cookie that lets the further requests of a page follow.
fn cookie(fields: &mut HeaderMap, carriers: &Carriers, record: &Record) {
    let (Some(name), Some(identity)) = (carriers.cookie.as_deref(), record.identity()) else { return };
    let secure = if record.is_secure() { "; Secure" } else { "" };
    let text = match record.cookie() {
        CookieChange::Keep => return,
        CookieChange::Set => {
            format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", join(&identity.keys, "."))
        }
        CookieChange::Clear => format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}"),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        fields.append(header::SET_COOKIE, value);
    }
    // What the browser has cached belongs to the other version. The field works on TLS only.
    if record.is_secure() {
        fields.insert(HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""));
    }
}
