//! Domains and routes: which host and path belongs to which service.

use std::collections::HashMap;

use super::names::{begins_with_prefix, labels_below};
use super::report::Report;
use super::{grammar, services};
use crate::document;
use crate::document::text::{Domain, Text};
use crate::key::strip_prefix;
use crate::model::{Carriers, HostPattern, PathMatch, Route, Service};
use crate::source_map::At;

/// The domains, longest first, so that the first one that fits is the most specific.
pub(super) fn domains(written: &[Domain], carriers: &Carriers, report: &mut Report<'_>) -> Vec<Box<str>> {
    let root = At::ROOT;
    let at = root.key("domains");
    let mut domains: Vec<(usize, Box<str>)> = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let Some(domain) = report.read(&at.index(index), text, grammar::dns_name) else { continue };
        match domains.iter().any(|(_, other)| *other == domain) {
            true => {
                report.problem(&at.index(index), format!("`{domain}` is named twice"), "each domain once")
            }
            false => domains.push((index, domain)),
        }
    }
    domains.sort_by(|(_, a), (_, b)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    let names: Vec<_> = domains.iter().map(|(_, name)| name.clone()).collect();
    for (index, domain) in &domains {
        if let Some(label) = labels_below(domain, &names).find(|label| begins_with_prefix(label, carriers)) {
            let message =
                format!("`{label}` below another domain is read as a key, not as a part of a domain");
            report.problem(&at.index(*index), message, Domain::ALLOWED);
        }
    }
    names
}

pub(super) fn routes(
    written: &[document::Route],
    services: &[Service],
    domains: &[Box<str>],
    carriers: &Carriers,
    report: &mut Report<'_>,
) -> Vec<Route> {
    let root = At::ROOT;
    let at = root.key("routes");
    let mut seen: HashMap<(HostPattern, Box<str>), usize> = HashMap::new();
    let mut routes = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let at = at.index(index);
        let Some(route) = route(written, services, &at, report) else { continue };
        check_host(&route.host, domains, carriers, &at.key("host"), report);
        let (PathMatch::Prefix(path) | PathMatch::Exact(path)) = &route.path;
        check_path(path, carriers, &at.key("path"), report);
        if let Some(first) = seen.insert((route.host.clone(), path.clone()), index) {
            let message = format!("host `{}` with path `{path}` is already `routes[{first}]`", route.host);
            report.problem(&at, message, "each host and path once");
        }
        routes.push(route);
    }
    routes
}

fn route(
    written: &document::Route,
    services: &[Service],
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<Route> {
    let host = written.host.as_ref().and_then(|text| report.read(&at.key("host"), text, grammar::route_host));
    let path = match &written.path {
        Some(text) => report.read(&at.key("path"), text, grammar::path_prefix),
        None => Some("/".into()),
    };
    let service = written.service.as_ref().and_then(|name| {
        match services::find(services, name.text()) {
            Ok(service) => return Some(service),
            Err(_) if report.is_troubled(&At::ROOT, "services") => {}
            Err((message, allowed)) => report.problem(&at.key("service"), message, allowed),
        }
        None
    });
    Some(Route::to(host?, path?, service?))
}

/// A label that begins with the prefix is a key, so a route with one would never be met.
fn check_host(
    host: &HostPattern,
    domains: &[Box<str>],
    carriers: &Carriers,
    at: &At<'_>,
    report: &mut Report<'_>,
) {
    let (HostPattern::Exact(name) | HostPattern::Below(name)) = host else { return };
    if let Some(label) = labels_below(name, domains).find(|label| begins_with_prefix(label, carriers)) {
        let prefix = carriers.prefix();
        let message = format!("`{label}` begins with `{prefix}`, so below a domain it is read as a key");
        report.problem(at, message, format!("labels that do not begin with `{prefix}`"));
    }
}

/// The same for the first segment of a path, where that may carry a key; a wildcard host may still be met by it
/// through another carrier, so this only warns.
fn check_path(path: &str, carriers: &Carriers, at: &At<'_>, report: &mut Report<'_>) {
    let first = path.split('/').nth(1).unwrap_or_default();
    if carriers.path && strip_prefix(first, carriers.prefix()).is_some() {
        let message = format!("`/{first}` is read as a key, since `carriers.path` is on");
        report.warning(at, message, format!("a path that does not begin with `/{}`", carriers.prefix()));
    }
}
