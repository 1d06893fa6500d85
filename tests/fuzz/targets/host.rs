//! Hosts and paths: the forms that hold a key, what is left of them, and that no second reading of either leads elsewhere.

use http::uri::PathAndQuery;
use http::{Method, Version};
use sidetrack_config::carriers::Carrier;
use sidetrack_config::limits::Limits;
use sidetrack_proxy::accept::request::check as checked;
use sidetrack_proxy::decision::Target;
use sidetrack_proxy::fields::Fields;
use sidetrack_proxy::head::{PlainHead, RequestHead};
use sidetrack_proxy::identify::{Identity, RouteHost, host_of, identify};
use sidetrack_proxy::pick;
use sidetrack_proxy::route::hosts::normalised;
use sidetrack_proxy::route::route;

use crate::estate::table;

/// Host, path and query as a URL writes them.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(url) = std::str::from_utf8(bytes) else { return };
    let head = PlainHead::get(url);
    if !is_request(&head) {
        return;
    }
    same_in_capitals(&head);
    let Ok(identity) = identify(&head, table()) else { return };
    what_is_left(&head, &identity);
    let Ok(rule) = route(&head, &identity, table()) else { return };
    leads_nowhere_else(&head, &identity, rule.index);
    never_silent(&head, &identity);
}

/// Whether these are a host and a path that a request can have.
fn is_request(head: &PlainHead) -> bool {
    let Ok(target) = PathAndQuery::try_from(head.path.as_str()) else { return false };
    let fields = Fields::from_iter([("host", head.authority.as_bytes())]);
    let (method, version) = (Method::GET, Version::HTTP_11);
    let request = RequestHead { method, authority: None, target, version, is_websocket: false, fields };
    checked(&request, &Limits::default()).is_ok_and(|authority| *authority == *head.authority)
}

/// A host is the same in capitals, and with the dot of an absolute name behind it.
fn same_in_capitals(head: &PlainHead) {
    let host = host_of(&head.authority);
    let read = |authority: String| {
        let other = PlainHead { authority, ..head.clone() };
        identify(&other, table()).map_err(|failure| failure.code).map(|identity| {
            let host = identity.host_text(&other).to_ascii_lowercase();
            (identity.keys, identity.carrier, host, identity.path_skip)
        })
    };
    let plain = read(head.authority.clone());
    assert_eq!(plain, read(head.authority.to_ascii_uppercase()), "in capitals");
    // A name that is one: an address in brackets, or one with a port, has no dot behind it.
    if host == head.authority && !host.is_empty() && !host.contains(['[', ']', ':']) {
        assert_eq!(plain, read(format!("{host}.")), "with a last dot");
        assert_eq!(plain, read(format!("{host}:8080")), "with a port");
    }
}

/// What is left is of the host and the path that came; a key that was taken out is no longer there.
fn what_is_left(head: &PlainHead, identity: &Identity) {
    let (path, prefix) = (identity.path(head), identity.path_prefix(head));
    assert!(path.starts_with('/') && head.path.starts_with(prefix));
    assert!(head.path == format!("{prefix}{path}") || (head.path == prefix && path == "/"));
    if identity.keys.is_empty() {
        assert_eq!(prefix, "", "a path that lost a part has a key");
        return;
    }
    let rest = identity.host_text(head);
    // An alias may stand in a second place, as the name of a service; the prefix is refused there.
    let has_prefix = |label: &str| label.starts_with("pr-");
    if identity.carrier == Some(Carrier::Host) && identity.host != RouteHost::OfPreview {
        assert!(!rest.split('.').any(has_prefix), "{rest:?} still names a preview");
    }
}

/// A server that resolves dot segments and decodes slashes comes to the same route.
fn leads_nowhere_else(head: &PlainHead, identity: &Identity, rule: usize) {
    let Some(lenient) = normalised(identity.path(head)) else { return };
    assert!(
        normalised(&lenient).is_none_or(|again| again == lenient),
        "what is resolved has nothing left to resolve"
    );
    let resolved = PlainHead { path: format!("{}{lenient}", identity.path_prefix(head)), ..head.clone() };
    let again = identify(&resolved, table()).expect("a path that was resolved");
    assert_eq!(again.keys, identity.keys);
    assert_eq!(route(&resolved, &again, table()).map(|rule| rule.index).ok(), Some(rule));
}

/// A label that begins with the prefix means a key: it is none that ends on baseline without one.
fn never_silent(head: &PlainHead, identity: &Identity) {
    let host = host_of(&head.authority).to_ascii_lowercase();
    let domains = ["preview.localhost", "example.net"];
    let ours = domains.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
    let names_one = ours.is_some_and(|below| below.split('.').any(|label| label.starts_with("pr-")));
    if names_one || head.path.starts_with("/pr-") {
        assert!(!identity.keys.is_empty(), "{head:?} names a preview, and none was read");
    }
    let way = route(head, identity, table()).and_then(|rule| pick::way(rule, table(), 7));
    if identity.keys.is_empty()
        && let Some(service) = way.ok().and_then(pick::Way::service)
    {
        let target = pick::target(identity, service, table()).map(|(target, _)| target);
        assert!(!matches!(target, Ok(Target::Fork(..))), "without a key at a fork");
    }
}
