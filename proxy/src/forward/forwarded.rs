//! Who asked, and for what: `X-Forwarded-*`, `Forwarded` (RFC 7239), `X-Request-Id`, `Via`. What an untrusted client
//! sent of the first three is dropped: upstreams believe them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use sidetrack_config::model::{Role, Scheme, contains};

use crate::accept::connection::Connection;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// The id of a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most proxies before us that are read, so that a long header costs no more than this.
const HOPS: usize = 32;

/// The client of a request: the peer, or, where trusted proxies stand before us, the last address that is not one
/// of theirs. Counted from the right, since what stands left of it anybody can have written.
pub fn client(connection: &Connection, fields: &HeaderMap) -> IpAddr {
    let mut client = connection.peer.ip().to_canonical();
    if !connection.trusted {
        return client;
    }
    let lines: Vec<&str> = fields.get_all(FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS) {
        let Some(address) = address(hop.trim()) else { break };
        client = address;
        if !contains(&connection.listener.trusted_proxies, address) {
            break;
        }
    }
    client
}

/// An address as `X-Forwarded-For` has it: with or without port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    let address = plain.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bare).map(|address: IpAddr| address.to_canonical())
}

/// The scheme that the client used: of its connection, or what a trusted proxy says.
pub fn scheme(connection: &Connection, fields: &HeaderMap) -> Scheme {
    let said = fields.get(PROTO).filter(|_| connection.trusted).map(HeaderValue::as_bytes);
    match said {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ if connection.secure => Scheme::Https,
        _ => Scheme::Http,
    }
}

/// Writes the fields for the next hop. A waypoint leaves them as they came.
pub fn write(
    fields: &mut HeaderMap,
    connection: &Connection,
    role: Role,
    authority: &HeaderValue,
    path_prefix: &str,
    request_id: &HeaderValue,
) {
    if role == Role::Waypoint {
        return;
    }
    fields.insert(REQUEST_ID, request_id.clone());
    if !path_prefix.is_empty()
        && let Ok(prefix) = HeaderValue::from_str(path_prefix)
    {
        fields.insert(PREFIX, prefix);
    } else if !connection.trusted {
        fields.remove(PREFIX);
    }
    if connection.trusted {
        append(fields, &FOR, &connection.forwarded_for);
        append(fields, &FORWARDED, &connection.forwarded(authority));
        fields.entry(HOST).or_insert_with(|| authority.clone());
        fields.entry(PROTO).or_insert_with(|| connection.scheme_value());
        fields.entry(PORT).or_insert_with(|| connection.port_value.clone());
    } else {
        fields.insert(FOR, connection.forwarded_for.clone());
        fields.insert(FORWARDED, connection.forwarded(authority));
        fields.insert(HOST, authority.clone());
        fields.insert(PROTO, connection.scheme_value());
        fields.insert(PORT, connection.port_value.clone());
    }
}

/// Adds an item to a list field, in one line.
pub fn append(fields: &mut HeaderMap, name: &HeaderName, item: &HeaderValue) {
    let before: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if before.is_empty() {
        fields.insert(name, item.clone());
        return;
    }
    let mut list = before.join(&b", "[..]);
    list.extend_from_slice(b", ");
    list.extend_from_slice(item.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        fields.insert(name, value);
    }
}

/// `for=` of RFC 7239 section 6: IPv6 in brackets and quotes.
pub fn node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}
