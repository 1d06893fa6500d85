//! The answer of a route that sends the client elsewhere. What the route does not name stays as the client wrote it, so
//! that a key in the host, the path or the query is still there at the next request.

use http::StatusCode;
use sidetrack_config::model::{Redirect, Scheme};

use super::Answer;
use crate::fields::Fields;
use crate::forward::filters::{change, rewritten};
use crate::head::Head;
use crate::identify::Identity;
use crate::record::ResponseBody;
use crate::route::rule::Rule;

/// The redirect `to` of `rule`, for a client that asked over `scheme`.
pub fn redirect<H: Head>(
    to: &Redirect,
    rule: &Rule,
    head: &H,
    identity: &Identity,
    scheme: Scheme,
) -> Answer {
    let mut fields = Fields::default();
    fields.append("location", location(to, rule, head, identity, scheme).as_bytes());
    fields.append("content-length", b"0");
    fields.append("cache-control", b"no-store");
    if let Some(changes) = &rule.changes {
        change(&mut fields, &changes.response);
    }
    let status = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
    Answer { status, fields, body: ResponseBody::empty() }
}

/// Where a redirect leads.
pub fn location<H: Head>(
    to: &Redirect,
    rule: &Rule,
    head: &H,
    identity: &Identity,
    scheme: Scheme,
) -> String {
    let own = identity.path(head);
    let path = match &to.path {
        Some(new) => [identity.path_prefix(head), &rewritten(own, new, &rule.path)].concat(),
        None => [identity.path_prefix(head), own].concat(),
    };
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let (host, port) = split(head.authority());
    let host = to.host.as_deref().unwrap_or(host);
    if host.is_empty() {
        // A client of HTTP/1.0 that named no host. Two slashes would begin one.
        return format!("/{}{query}", path.trim_start_matches('/'));
    }
    let port = match (to.port, to.scheme) {
        (Some(port), _) => Some(port),
        // The scheme's own port.
        (None, Some(_)) => None,
        (None, None) => port.and_then(|port| port.parse().ok()),
    };
    let (scheme, usual) = match to.scheme.unwrap_or(scheme) {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    };
    let port = port.filter(|port| *port != usual).map(|port: u16| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{path}{query}")
}

/// The host, with the brackets of an IPv6 address, and the port.
fn split(authority: &str) -> (&str, Option<&str>) {
    let from = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(from..).and_then(|rest| rest.rfind(':')) {
        Some(at) => {
            let (host, port) = authority.split_at_checked(from + at).unwrap_or((authority, ""));
            (host, port.strip_prefix(':').filter(|port| !port.is_empty()))
        }
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests;
