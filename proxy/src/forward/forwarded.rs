//! Who asked, and for what: `X-Forwarded-*`, `Forwarded` (RFC 7239), `X-Request-Id`, `Via`. What an untrusted client
//! sent of the first three is dropped: upstreams believe them.

use std::net::IpAddr;

use sidetrack_config::model::{Role, Scheme, contains};

use crate::accept::connection::Connection;
use crate::fields::Fields;

/// The addresses of the client and of the proxies before us.
pub const FOR: &str = "x-forwarded-for";
/// The host that the client asked for.
pub const HOST: &str = "x-forwarded-host";
/// The scheme that it used.
pub const PROTO: &str = "x-forwarded-proto";
/// The port that it asked.
pub const PORT: &str = "x-forwarded-port";
const PREFIX: &str = "x-forwarded-prefix";
/// All of that in one field (RFC 7239).
pub const FORWARDED: &str = "forwarded";
/// The id of a request.
pub const REQUEST_ID: &str = "x-request-id";

/// The most proxies before us that are read, so that a long header costs no more than this.
const HOPS: usize = 32;

/// The client of a request: the peer, or, where trusted proxies stand before us, the last address that is not one
/// of theirs. Counted from the right, since what stands left of it anybody can have written.
pub fn client(connection: &Connection, fields: &Fields) -> IpAddr {
    let mut client = connection.peer.ip().to_canonical();
    if !connection.trusted {
        return client;
    }
    let lines: Vec<&[u8]> = fields.get_all(FOR).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for hop in hops.take(HOPS) {
        // What can't be read ends the search: what stands left of it nobody vouches for.
        let hop = std::str::from_utf8(hop).ok();
        let Some(address) = hop.and_then(|hop| address(hop.trim())) else { break };
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
pub fn scheme(connection: &Connection, fields: &Fields) -> Scheme {
    match fields.get(PROTO).filter(|_| connection.trusted) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ if connection.secure => Scheme::Https,
        _ => Scheme::Http,
    }
}

/// Writes the fields for the next hop. Inside the estate they stay as they came.
pub fn write(
    fields: &mut Fields,
    connection: &Connection,
    role: Role,
    authority: &str,
    path_prefix: &str,
    request_id: &[u8],
) {
    if role != Role::Gateway {
        return;
    }
    fields.insert(REQUEST_ID, request_id);
    if !connection.trusted {
        fields.retain(|name| !is_forwarded(name));
    }
    if !path_prefix.is_empty() {
        fields.insert(PREFIX, path_prefix.as_bytes());
    }
    connection.with_forwarded(authority.as_bytes(), |ours| {
        if connection.trusted {
            for name in [FOR, FORWARDED] {
                fields.add_item(name, ours.get(name).unwrap_or_default());
            }
            for name in [HOST, PROTO, PORT] {
                if !fields.contains(name) {
                    fields.append(name, ours.get(name).unwrap_or_default());
                }
            }
        } else {
            fields.extend(ours);
        }
    });
}

/// Whether only a proxy that is believed may say this. What others write besides the names above (`-User`, `-Client-Cert`,
/// `-Ssl`) services believe as much.
pub(super) fn is_forwarded(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded-") || matches!(name, b"forwarded" | b"x-real-ip")
}

/// `for=` of RFC 7239 section 6: IPv6 in brackets and quotes.
pub fn node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}
