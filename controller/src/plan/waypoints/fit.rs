//! Which Services a waypoint can be put in front of, and which of their ports it understands.

use super::super::index::Index;
use super::super::services::{self, TablePort};
use super::companion;
use crate::interposed::Unfit;
use crate::names::WAYPOINT;
use crate::world::{Name, Service, ServicePort};
use sidetrack_config::stream::{Protocol, Spoken};

/// First words of names of ports that do not speak HTTP, as Istio and others read them.
const OPAQUE_NAMES: [&str; 9] =
    ["tcp", "tls", "mysql", "mongo", "redis", "postgres", "postgresql", "amqp", "kafka"];
/// Numbers of ports that say nothing else and are known for something else than HTTP: the server speaks first there, or
/// in its own way, and a proxy that waits for a request would keep both waiting.
const OPAQUE_NUMBERS: [u16; 14] = [21, 22, 25, 110, 143, 389, 587, 1433, 3306, 4222, 5432, 5672, 6379, 27017];

/// First words of names of ports that speak HTTP.
const HTTP_NAMES: [&str; 4] = ["http", "http2", "h2c", "grpc"];
/// The label that Argo Rollouts selects one of its ReplicaSets by. It writes it into the selector again whenever it is
/// not there.
const ROLLOUTS: &str = "rollouts-pod-template-hash";

/// What a Service asks for itself, by its annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No waypoint, ever.
    Never,
    /// One while it is forked, though it is reached from outside.
    Forked,
    /// One whether it is forked or not.
    Always,
}

/// What it asks for.
pub(super) fn asked(service: &Service) -> Option<Asked> {
    match &**service.meta.annotations.get(WAYPOINT)? {
        "false" => Some(Asked::Never),
        "true" => Some(Asked::Forked),
        "always" => Some(Asked::Always),
        _ => None,
    }
}

/// Why no waypoint can be put in front of a Service.
pub(super) fn unfit(index: &Index<'_>, name: &Name, service: &Service) -> Option<Unfit> {
    let asked = asked(service);
    if asked == Some(Asked::Never) {
        return Some(Unfit::OptedOut);
    }
    if let Some(unfit) = service.unfit.filter(|unfit| *unfit != Unfit::Exposed || asked.is_none()) {
        return Some(unfit);
    }
    if service.selector.is_empty() {
        return Some(Unfit::NoSelector);
    }
    if service.selector.contains_key(ROLLOUTS) {
        return Some(Unfit::Rollouts);
    }
    // Its selector counts for all its ports, and a waypoint has only TCP.
    if service.ports.iter().any(|port| !port.is_tcp) {
        return Some(Unfit::NotTcp);
    }
    if services::ports(name, service).iter().all(|TablePort { port, .. }| spoken(port) == Spoken::Tcp) {
        return Some(Unfit::NoHttp);
    }
    companion::is_taken(index.world, name).then_some(Unfit::NameTaken)
}

/// What clients of a port speak, as far as it says. What is encrypted is not for a waypoint to read, and what says
/// nothing is looked at when it comes.
pub(super) fn spoken(port: &ServicePort) -> Spoken {
    let first = port.name.split('-').next().unwrap_or_default();
    match services::protocol(port) {
        None | Some(Protocol::Https | Protocol::H2) => Spoken::Tcp,
        Some(_) if port.app_protocol.as_deref().is_some_and(|text| !text.is_empty()) => Spoken::Http,
        Some(_) if HTTP_NAMES.contains(&first) => Spoken::Http,
        Some(_) if OPAQUE_NAMES.contains(&first) || OPAQUE_NUMBERS.contains(&port.port) => Spoken::Tcp,
        Some(_) => Spoken::Detect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_looked_at_and_what_says_something_is_believed() {
        for (name, number, protocol, wanted) in [
            ("", 80, None, Spoken::Detect),
            ("web", 8080, None, Spoken::Detect),
            ("main", 9000, Some(""), Spoken::Detect),
            ("http", 80, None, Spoken::Http),
            ("http-admin", 5432, None, Spoken::Http),
            ("grpc-api", 9090, None, Spoken::Http),
            ("http2", 80, None, Spoken::Http),
            ("h2c", 80, None, Spoken::Http),
            ("main", 5432, Some("http"), Spoken::Http),
            ("main", 80, Some("kubernetes.io/h2c"), Spoken::Http),
            ("redis", 80, Some("grpc"), Spoken::Http),
            ("https", 80, None, Spoken::Tcp),
            ("main", 443, Some("https"), Spoken::Tcp),
            ("main", 80, Some("example.com/own"), Spoken::Tcp),
            ("tcp-db", 80, None, Spoken::Tcp),
            ("postgres", 9999, None, Spoken::Tcp),
            ("main", 5432, None, Spoken::Tcp),
            ("db", 3306, None, Spoken::Tcp),
            ("", 6379, None, Spoken::Tcp),
        ] {
            let port = ServicePort {
                name: name.into(),
                port: number,
                app_protocol: protocol.map(Into::into),
                ..ServicePort::default()
            };
            assert_eq!(spoken(&port), wanted, "{name} {number} {protocol:?}");
        }
    }
}
