//! Services of the table: what they are called, what they speak, and which endpoints everybody shares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sidetrack_config::stream::{self, Item, Protocol};

use super::index::Index;
use super::{Notice, ObjectId};
use crate::world::{Name, Service, ServicePort};

/// A port of a Service under its name in the table.
#[derive(Clone, Debug)]
pub(super) struct TablePort<'a> {
    /// `checkout.shop`, or `checkout.shop:grpc` where the Service has more than one TCP port.
    pub(super) name: Box<str>,
    /// The port itself.
    pub(super) port: &'a ServicePort,
    /// What it speaks; `None`: nothing that we can.
    pub(super) protocol: Option<Protocol>,
}

/// The TCP ports of a Service.
pub(super) fn ports<'a>(name: &Name, service: &'a Service) -> Vec<TablePort<'a>> {
    let tcp: Vec<&ServicePort> = service.ports.iter().filter(|port| port.is_tcp).collect();
    let single = tcp.len() == 1;
    let table_name = |port: &ServicePort| match (single, &*port.name) {
        (true, _) => format!("{}.{}", name.name, name.namespace),
        (false, "") => format!("{}.{}:{}", name.name, name.namespace, port.port),
        (false, port) => format!("{}.{}:{port}", name.name, name.namespace),
    };
    tcp.into_iter()
        .map(|port| TablePort { name: table_name(port).into(), port, protocol: protocol(port) })
        .collect()
}

/// What a port speaks. `appProtocol` decides; without it a name such as `grpc` or `grpc-api`, as Istio and others read
/// it; HTTP/1.1 otherwise.
pub(super) fn protocol(port: &ServicePort) -> Option<Protocol> {
    let Some(written) = port.app_protocol.as_deref().filter(|text| !text.is_empty()) else {
        let first = port.name.split('-').next().unwrap_or_default();
        return Some(match first {
            "grpc" | "h2c" | "http2" => Protocol::H2c,
            "https" => Protocol::Https,
            _ => Protocol::Http1,
        });
    };
    match &*written.to_ascii_lowercase() {
        "http" | "kubernetes.io/ws" => Some(Protocol::Http1),
        "h2c" | "grpc" | "http2" | "kubernetes.io/h2c" => Some(Protocol::H2c),
        "https" | "kubernetes.io/wss" => Some(Protocol::Https),
        _ => None,
    }
}

/// The services that the table has to hold: those that a route refers to, by port, and all ports of those that
/// somebody forks.
pub(super) fn plan(
    index: &Index<'_>,
    routed: &BTreeSet<(Name, u16)>,
    forked: &BTreeSet<Name>,
    notices: &mut Vec<Notice>,
) -> Vec<Item> {
    let mut wanted: BTreeMap<&Name, Option<BTreeSet<u16>>> = forked.iter().map(|name| (name, None)).collect();
    for (name, port) in routed {
        if let Some(ports) = wanted.entry(name).or_insert_with(|| Some(BTreeSet::new())) {
            ports.insert(*port);
        }
    }
    let mut items = Vec::new();
    for (name, numbers) in wanted {
        let Some((name, service)) = index.world.services.get_key_value(name) else { continue };
        if service.external {
            let message = "it is of type ExternalName and has no endpoints: it can be neither routed to nor forked; \
                           use a Service without a selector and EndpointSlices of your own instead";
            notices.push(notice(name, service, message.into()));
            continue;
        }
        for port in ports(name, service) {
            let is_routed = routed.contains(&(name.clone(), port.port.port));
            if numbers.as_ref().is_some_and(|numbers| !numbers.contains(&port.port.port)) {
                continue;
            }
            match port.protocol {
                Some(protocol) => {
                    // A Service of a fork is nobody's without its key, whether its pods are labelled or not.
                    let is_shared = !index.is_of_fork(name, service);
                    let baseline = is_shared.then(|| baseline(index, name, port.port));
                    let addresses = addresses(service, port.port);
                    items.push(item(name, port, protocol, baseline, addresses));
                }
                None if is_routed => notices.push(unspoken(name, service, port.port)),
                // A database beside the HTTP port of a forked Service is nobody's mistake.
                None => {}
            }
        }
    }
    items
}

/// The Services that are not `told` of otherwise, for sidecars: what they don't know of is outside to them, and loses
/// every key. What stands for their pods is the address of the Service, so that no pod that comes or goes is news; where it
/// has none, it is the pods. One that has no ports of ours, or is a name of something else, has a name to be known by.
pub(super) fn inside(index: &Index<'_>, told: &BTreeMap<Box<str>, Item>) -> BTreeMap<Box<str>, Item> {
    let mut items = Vec::new();
    for (name, service) in &index.world.services {
        let ports = if service.external { Vec::new() } else { ports(name, service) };
        if ports.is_empty() {
            let name = format!("{}.{}", name.name, name.namespace).into();
            let (baseline, protocol, server_name, addresses) = (None, Protocol::Http1, None, Vec::new());
            items.push(Item::Service(stream::Service { name, baseline, protocol, server_name, addresses }));
        }
        let is_shared = !index.is_of_fork(name, service);
        for port in ports {
            let baseline = is_shared.then(|| match service.addresses.is_empty() {
                true => baseline(index, name, port.port),
                false => addresses(service, port.port),
            });
            // Whoever speaks HTTP to a port that says otherwise means the first version.
            let protocol = port.protocol.unwrap_or(Protocol::Http1);
            let addresses = addresses(service, port.port);
            items.push(item(name, port, protocol, baseline, addresses));
        }
    }
    let items = items.into_iter().map(|item| (item.id().into(), item));
    items.filter(|(id, _)| !told.contains_key(id)).collect()
}

/// Where callers inside the cluster reach a port.
pub(super) fn addresses(service: &Service, port: &ServicePort) -> Vec<SocketAddr> {
    service.addresses.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect()
}

/// A service of the table, which is called at `addresses`.
pub(super) fn item(
    name: &Name,
    port: TablePort<'_>,
    protocol: Protocol,
    baseline: Option<Vec<SocketAddr>>,
    addresses: Vec<SocketAddr>,
) -> Item {
    let tls = matches!(protocol, Protocol::Https | Protocol::H2);
    let server_name = tls.then(|| format!("{}.{}.svc", name.name, name.namespace).into());
    Item::Service(stream::Service { name: port.name, baseline, protocol, server_name, addresses })
}

/// The ready endpoints that everybody shares. A pod that carries a key is never among them, whatever selects it: the
/// guard reports such a pod, and this keeps it from users even so.
pub(super) fn baseline(index: &Index<'_>, service: &Name, port: &ServicePort) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for (slice, endpoint, number) in index.ready(service, port) {
        if index.keyed_pod(&service.namespace, slice, endpoint).is_none() {
            found.push(SocketAddr::new(endpoint.address, number));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn unspoken(name: &Name, service: &Service, port: &ServicePort) -> Notice {
    let written = port.app_protocol.as_deref().unwrap_or_default();
    let message = format!(
        "port {} has appProtocol `{written}`, which Sidetrack does not speak: use `http`, `kubernetes.io/h2c`, \
         `kubernetes.io/ws` or `https`",
        port.port
    );
    notice(name, service, message)
}

fn notice(name: &Name, service: &Service, message: String) -> Notice {
    let about = ObjectId::new("v1", "Service", name, &service.meta.uid);
    Notice { about, warning: true, reason: "ServiceNotRouted", message: message.into() }
}
