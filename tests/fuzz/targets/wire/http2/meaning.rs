//! The request that a stream is, where its lists of fields are ones that everybody reads alike (RFC 9113 section 8).

use super::super::judge::Sent;
use super::super::strict::{Lines, Request};
use super::script::Stream;

/// What a stream means; `None`: it is malformed, and nothing of it may arrive.
pub(super) fn sent(stream: Stream) -> Option<Sent> {
    let count = stream.fields.iter().take_while(|field| is_pseudo(field)).count();
    let (pseudo, fields) = stream.fields.split_at(count);
    let Pseudo { method, path, authority, is_websocket } = Pseudo::read(pseudo)?;
    let fields = without_quotes(fields.to_vec());
    if !fields.iter().all(is_field) {
        return None;
    }
    // Those that come first the library drops, where section 8.1 has it refuse them: they say nothing.
    let trailers: Lines = stream.trailers.into_iter().skip_while(is_pseudo).collect();
    let trailers = without_quotes(trailers);
    let is_whole = stream.is_ended && trailers.iter().all(is_field);
    let request = Request { method, target: path, fields, trailers, ..Request::default() };
    let authority = host(authority, &request);
    if is_websocket {
        // What would be a body is for the tunnel.
        return Some(Sent { request, authority, is_whole: true, behind: stream.body });
    }
    let (body, is_whole) = bounded(stream.body, is_whole, &request)?;
    Some(Sent { request: Request { body, ..request }, authority, is_whole, behind: Vec::new() })
}

/// What the fields before the others say.
struct Pseudo {
    method: String,
    path: String,
    authority: Option<String>,
    /// Whether it is a WebSocket (RFC 8441), which goes on as the handshake of HTTP/1.1.
    is_websocket: bool,
}

impl Pseudo {
    fn read(fields: &[(String, Vec<u8>)]) -> Option<Self> {
        let known = [":method", ":path", ":scheme", ":authority", ":protocol"];
        if fields.iter().any(|(name, _)| !known.contains(&name.as_str())) {
            return None;
        }
        // Outer `None`: it is there twice.
        let one = |name: &str| {
            let mut values = fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value);
            let value = values.next().and_then(|value| String::from_utf8(value.clone()).ok());
            values.next().is_none().then_some(value)
        };
        let (method, path) = (one(":method")??, one(":path")??);
        one(":scheme")??;
        let is_websocket = match one(":protocol")? {
            Some(protocol) if method == "CONNECT" && protocol == "websocket" => true,
            Some(_) => return None,
            None => false,
        };
        let method = if is_websocket { "GET".to_owned() } else { method };
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        // The library cuts a fragment and does not refuse it; of one alone it makes `/`.
        let path = match path.split('#').next() {
            Some("") if !path.is_empty() => "/".to_owned(),
            before => before.unwrap_or_default().to_owned(),
        };
        Some(Self { method, path, authority: one(":authority")?, is_websocket })
    }
}

/// The host that a request is for: both that name one must name the same.
fn host(authority: Option<String>, request: &Request) -> Option<String> {
    let hosts: Vec<_> = request.all("host").map(|host| String::from_utf8(host.to_vec()).ok()).collect();
    match (authority, hosts.as_slice()) {
        (Some(authority), []) => Some(authority),
        (None, [host]) => host.clone(),
        (Some(authority), [Some(host)]) if authority.eq_ignore_ascii_case(host) => Some(host.clone()),
        (None, []) => Some(String::new()),
        _ => None,
    }
}

/// The body as far as it was announced, and whether that is all of it: what has its length goes on, and what comes behind
/// that does not. Twice the same length is one, and the library takes an empty one for zero.
fn bounded(mut body: Vec<u8>, mut is_whole: bool, request: &Request) -> Option<(Vec<u8>, bool)> {
    for length in request.all("content-length").filter(|length| !length.is_empty()) {
        let length = std::str::from_utf8(length).ok()?.parse().ok()?;
        is_whole = body.len() >= length;
        body.truncate(length);
    }
    Some((body, is_whole))
}

fn is_pseudo((name, _): &(String, Vec<u8>)) -> bool {
    name.starts_with(':')
}

/// A name with a quote is left out by the proxy, and not refused.
fn without_quotes(mut lines: Lines) -> Lines {
    lines.retain(|(name, _)| !name.contains('"'));
    lines
}

/// A name in lower case that is a token, a value without an end of line, and none of one connection.
fn is_field((name, value): &(String, Vec<u8>)) -> bool {
    let of_connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name.bytes().all(is_name)
        && !value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        && !of_connection.contains(&name.as_str())
        && (name != "te" || value == b"trailers")
}
