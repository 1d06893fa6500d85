//! The ready endpoints of a fork: from the EndpointSlices of its own Service if it has one, else from its pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::claims::{Claim, Means};
use super::clones::{is_cloned_pod, is_pod_of};
use super::index::Index;
use super::services::TablePort;
use crate::world::{Labels, Name, Pod, Service, ServicePort, Slice, SliceEndpoint, TargetPort};

/// The endpoints of a fork, by the name of the service in the table, and what to say where there are none.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Each port of the forked Service, even without an endpoint.
    pub(super) ports: BTreeMap<Box<str>, Vec<SocketAddr>>,
    /// What is missing, for a person.
    pub(super) missing: Option<String>,
}

impl Found {
    /// Endpoints over all ports.
    pub(super) fn count(&self) -> usize {
        self.ports.values().map(Vec::len).sum()
    }
}

/// Finds them.
pub(super) fn find<'a>(index: &Index<'a>, claim: &Claim<'a>, ports: &[TablePort<'_>]) -> Found {
    let mut found = match &claim.means {
        Means::Service(name, service) => from_service(index, claim, ports, name, service),
        Means::NoSource(name) => none(ports, format!("there is no Service {}/{name}", claim.id.namespace)),
        Means::Awaited => none(ports, "nothing is labelled as this fork yet"),
        Means::Workload(..) | Means::Pods | Means::Clone(_) => match own_service(index, claim, ports) {
            Some((name, service)) => from_service(index, claim, ports, name, service),
            None => from_pods(index, claim, ports),
        },
    };
    for addresses in found.ports.values_mut() {
        addresses.sort_unstable();
        addresses.dedup();
    }
    found
}

fn none(ports: &[TablePort<'_>], missing: impl Into<String>) -> Found {
    Found {
        ports: ports.iter().map(|port| (port.name.clone(), Vec::new())).collect(),
        missing: Some(missing.into()),
    }
}

/// The fork's own Service: one that carries its labels before one that merely selects its pods, the oldest first. One
/// that has none of the ports is no use.
fn own_service<'a>(
    index: &Index<'a>,
    claim: &Claim<'a>,
    ports: &[TablePort<'_>],
) -> Option<(&'a Name, &'a Service)> {
    let useful = |service: &Service| ports.iter().any(|port| counterpart(service, port, ports).is_some());
    let labelled = index.labelled_services(&claim.id).iter().copied().find(|(_, service)| useful(service));
    if labelled.is_some() {
        return labelled;
    }
    let labels: Option<&Labels> = match &claim.means {
        Means::Workload(_, _, workload) => Some(&workload.pod_labels),
        _ => index
            .pods(&claim.id)
            .iter()
            .find(|(_, pod)| is_theirs(claim, pod))
            .map(|(_, pod)| &pod.meta.labels),
    };
    let selecting = index.selectors.matching(claim.id.namespace, labels?);
    selecting
        .filter(|(name, service)| {
            !service.external && useful(service) && index.is_own(&claim.id, name, service)
        })
        .min_by_key(|(name, service)| (service.meta.created, *name))
}

/// The port of the fork's own Service that stands for `port`: of the same name, else the only one for the only one,
/// else of the same number.
fn counterpart<'s>(
    own: &'s Service,
    port: &TablePort<'_>,
    ports: &[TablePort<'_>],
) -> Option<&'s ServicePort> {
    let tcp: Vec<&ServicePort> = own.ports.iter().filter(|port| port.is_tcp).collect();
    let named = tcp.iter().find(|own| own.name == port.port.name).copied();
    let single = || match (&*tcp, ports) {
        ([own], [_]) => Some(*own),
        _ => None,
    };
    named.or_else(single).or_else(|| tcp.iter().find(|own| own.port == port.port.port).copied())
}

fn from_service(
    index: &Index<'_>,
    claim: &Claim<'_>,
    ports: &[TablePort<'_>],
    name: &Name,
    own: &Service,
) -> Found {
    let mut found = none(ports, format!("Service {name} has no ready endpoint"));
    for port in ports {
        let Some(counterpart) = counterpart(own, port, ports) else {
            found.missing =
                Some(format!("Service {name} has no port like {} ({})", port.port.port, port.port.name));
            continue;
        };
        let theirs = index.ready(name, counterpart).filter(|(slice, endpoint, _)| {
            is_theirs_by_endpoint(index, claim, &name.namespace, slice, endpoint)
        });
        if let Some(list) = found.ports.get_mut(&port.name) {
            list.extend(theirs.map(|(_, endpoint, number)| SocketAddr::new(endpoint.address, number)));
        }
    }
    found
}

/// Whether an endpoint of the fork's own Service is the fork's. A Service may select pods of other forks as well; one
/// that a person named stands for whatever it has, but not for the pods of another key.
fn is_theirs_by_endpoint(
    index: &Index<'_>,
    claim: &Claim<'_>,
    namespace: &str,
    slice: &Slice,
    endpoint: &SliceEndpoint,
) -> bool {
    let keyed = index.keyed_pod(namespace, slice, endpoint);
    match (&claim.means, keyed) {
        (Means::Service(..), None) => true,
        (Means::Service(..), Some((pod, _))) => index.key_of(pod) == Some(claim.id.key),
        (_, Some((pod, Some(id)))) => {
            let name = endpoint.pod.as_deref().unwrap_or_default();
            *id == claim.id && is_theirs(claim, pod) && !is_rivals(claim, name)
        }
        (_, _) => false,
    }
}

fn from_pods(index: &Index<'_>, claim: &Claim<'_>, ports: &[TablePort<'_>]) -> Found {
    let mut found = none(ports, "no pod of it is ready");
    for (name, pod) in index.pods(&claim.id) {
        let theirs = pod.ready && is_theirs(claim, pod) && !is_rivals(claim, &name.name);
        let (true, Some(ip)) = (theirs, pod.ip) else { continue };
        for port in ports {
            let number = match &port.port.target {
                TargetPort::Number(0) => Some(port.port.port),
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => {
                    pod.ports.iter().find(|(own, _)| own == name).map(|(_, number)| *number)
                }
            };
            match (number, found.ports.get_mut(&port.name)) {
                (Some(number), Some(list)) => list.push(SocketAddr::new(ip, number)),
                _ => {
                    found.missing = Some(format!(
                        "its pods name no port as the Service's port {} asks for",
                        port.port.port
                    ))
                }
            }
        }
    }
    found
}

/// Whether a pod with the labels of the fork is of this claim: those of a clone are the Preview's.
fn is_theirs(claim: &Claim<'_>, pod: &Pod) -> bool {
    match &claim.means {
        Means::Clone(_) => is_pod_of(pod, &claim.source.uid),
        _ => !is_cloned_pod(pod),
    }
}

/// Whether a pod is of a workload whose claim is a younger one. Pods don't name their Deployment, but are called after
/// it.
fn is_rivals(claim: &Claim<'_>, pod: &str) -> bool {
    let length = |workload: &str| match pod.strip_prefix(workload) {
        Some(rest) if rest.starts_with('-') => workload.len(),
        _ => 0,
    };
    let Some(rivals) = claim.rivals.iter().map(|(_, name)| length(&name.name)).max() else { return false };
    let own = match &claim.means {
        Means::Workload(_, name, _) => length(&name.name),
        _ => 0,
    };
    rivals > own
}
