//! Where a request came in decides who says what service it is for: at the edge its host and path, inside the estate the
//! listener, the address that its connection was meant for, or the host as a service's name. It decides, too, what stands
//! for the baseline ([`Here`]), and which calls get a key or lose it. Nothing else of the walk differs.

mod here;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sidetrack_config::model::{Place, Workload};

use crate::error::{Code, Failure};
use crate::head::Head;
use crate::identify::{Identity, Onward, host_of};
use crate::route::hosts::is_within;
use crate::route::route;
use crate::route::rule::Rule;
use crate::route::table::{Endpoint, Estate, Service, Table};

pub use here::Here;

/// What the cluster's DNS lets follow the name and namespace of a Service. A cluster may call its domain otherwise; then
/// applications that write it in full are not understood here, and their calls go where they would without us.
const CLUSTER: [&str; 2] = [".svc.cluster.local", ".svc"];

/// The port of a host that names none.
const HTTP: u16 = 80;

/// The rule that says what becomes of a request that came in at `place`. What is for no service that is known goes on to
/// where it was meant to go, where that is known.
///
/// # Errors
/// As [`route`] where host and path decide; `upstream_unavailable` where no table has come yet, `no_route` where the
/// service is not in the table and nothing else says where the request was to go.
pub fn rule<'t, H: Head>(
    place: &Place,
    head: &H,
    identity: &Identity,
    table: &'t Table,
    here: &Here<'_>,
) -> Result<&'t Rule, Failure> {
    let estate = &table.estate;
    let onward = here.passes().then_some(&estate.elsewhere.direct);
    let name = match place {
        Place::Edge => return route(head, identity, table),
        Place::Outbound(None) => {
            let called = called(here.original, head.authority(), estate);
            if let Some(service) = called {
                return Ok(&service.direct);
            }
            if identity.onward == Onward::Left {
                let nowhere =
                    "the host is no service of the estate, and nothing else says where the call was to go";
                return onward.ok_or_else(|| Failure::new(Code::NoRoute, nowhere));
            }
            let is_lost =
                |failure: &Failure| matches!(failure.code, Code::NoRoute | Code::UpstreamUnavailable);
            return route(head, identity, table)
                .or_else(|failure| onward.filter(|_| is_lost(&failure)).ok_or(failure));
        }
        Place::Service(name) | Place::Outbound(Some(name)) => name,
        Place::Inbound => estate.workload.as_ref().map_or("", Workload::service),
    };
    if let Some(service) = destined(place, here.original, table).filter(|_| estate.waiting.is_none()) {
        return Ok(&service.direct);
    }
    onward.ok_or_else(|| match &estate.waiting {
        Some(why) => Failure::new(Code::UpstreamUnavailable, &**why),
        None => Failure::new(
            Code::NoRoute,
            format!("this listener is for service {name:?}, which is not in the table"),
        ),
    })
}

/// The service that a connection is for, as far as that is known before anything is said on it.
pub fn destined<'t>(place: &Place, original: Option<SocketAddr>, table: &'t Table) -> Option<&'t Service> {
    let estate = &table.estate;
    match place {
        Place::Edge => None,
        Place::Service(name) | Place::Outbound(Some(name)) => estate.service(name),
        Place::Outbound(None) => estate.at(original?),
        Place::Inbound => received(estate.workload.as_ref()?, original, table),
    }
}

/// The service that a call is for: the one at the address that its connection was meant for, else the one that its host
/// names.
fn called<'t>(original: Option<SocketAddr>, authority: &str, estate: &'t Estate) -> Option<&'t Service> {
    let by_address = original.and_then(|address| estate.at(address));
    by_address.or_else(|| service_of_host(authority, original.map(|address| address.port()), estate))
}

/// The service that a host names as callers inside write it: `payment`, `payment.shop`, `payment.shop.svc.cluster.local`.
/// A bare name is one of the namespace of this sidecar's workload. Of a Service of several ports it is the one of the port
/// that the connection was meant for, else of the host's.
pub fn service_of_host<'t>(authority: &str, meant: Option<u16>, estate: &'t Estate) -> Option<&'t Service> {
    let lower = host_of(authority).to_ascii_lowercase();
    let name = CLUSTER.iter().find_map(|suffix| lower.strip_suffix(suffix)).unwrap_or(&lower);
    let port = || meant.or_else(|| port_of(authority)).unwrap_or(HTTP);
    let named = |name: &str| estate.service(name).or_else(|| at_port(estate.ports(name), port()));
    named(name).or_else(|| {
        let (_, namespace) = estate.workload.as_ref()?.service().split_once('.')?;
        let namespace = namespace.split(':').next()?;
        (!name.contains('.')).then(|| named(&format!("{name}.{namespace}")))?
    })
}

/// The one that is called at this port; without such a one that whose pods listen there: those of a headless Service are
/// called directly.
fn at_port<'t>(mut ports: impl Iterator<Item = &'t Service> + Clone, port: u16) -> Option<&'t Service> {
    let listens = |service: &&Service| service.baseline.as_deref().is_some_and(|set| has_port(set, port));
    ports.clone().find(|service| service.port == Some(port)).or_else(|| ports.find(listens))
}

fn port_of(authority: &str) -> Option<u16> {
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok()
}

fn has_port(set: &[Arc<Endpoint>], port: u16) -> bool {
    set.iter().any(|at| at.address.port() == port)
}

/// The service of the workload that a connection to `original` was meant for; the first one where that is not known. Of
/// several, that which the workload serves on that port: a port of one pod is one server's, whoever else listens on a port
/// of that number elsewhere. The workload was told names of Services, whose ports are services each where there are
/// several, from whenever there are. Where the table has the address of the only one and not its pods, no port says that it
/// is another.
fn received<'t>(workload: &Workload, original: Option<SocketAddr>, table: &'t Table) -> Option<&'t Service> {
    let estate = &table.estate;
    let own = workload.key.as_ref().and_then(|key| table.preview(key));
    let mut services =
        workload.services.iter().flat_map(|name| estate.service(name).into_iter().chain(estate.ports(name)));
    let Some(port) = original.map(|address| address.port()) else {
        // A name that has no endpoints may be what a Service of several ports was when it had one.
        return services.clone().find(|service| service.baseline.is_some()).or_else(|| services.next());
    };
    let serves = |service: &&'t Service| {
        let fork = own.and_then(|preview| preview.fork(service));
        let pods = service.baseline.as_deref().filter(|_| !service.hides_its_pods());
        fork.into_iter().chain(pods).any(|set| has_port(set, port))
    };
    services.clone().find(serves).or_else(|| match (services.next(), services.next()) {
        (only, None) => only.filter(|service| service.hides_its_pods()),
        _ => None,
    })
}

/// Whether a call leaves the estate: it is for no service, no route, no preview and no domain that belongs to it. An address
/// in place of a name is one of the estate's where it is private: callers that balance by themselves write those of pods.
pub fn leaves(place: &Place, here: &Here<'_>, authority: &str, table: &Table) -> bool {
    let estate = &table.estate;
    if *place != Place::Outbound(None)
        || estate.waiting.is_some()
        || called(here.original, authority, estate).is_some()
    {
        return false;
    }
    let host = host_of(authority).to_ascii_lowercase();
    let mut domains = estate.domains.iter().chain(&estate.context.declared);
    !is_bare_name(&host)
        && !host.parse().is_ok_and(is_private)
        && !is_of_service(&host, estate)
        && !domains.any(|domain| is_within(&host, domain))
        && table.host(&host).is_none()
        && !estate.routes.names(&host)
}

/// Whether a host is a Service of several ports, or a pod of a headless one: `db-0.db.shop`. Neither says which service of
/// the table a call is for.
fn is_of_service(host: &str, estate: &Estate) -> bool {
    let above = host.split_once('.').map(|(_, above)| above);
    let has_ports = |name: &str| estate.ports(name).next().is_some();
    has_ports(host)
        || above.is_some_and(|above| has_ports(above) || service_of_host(above, None, estate).is_some())
}

/// Whether a host is a name without a dot, which only the DNS of the estate itself can complete.
fn is_bare_name(host: &str) -> bool {
    !host.is_empty() && !host.contains(['.', ':'])
}

/// Whether an address is none of the public Internet: RFC 1918, RFC 6598, RFC 4193, link-local or loopback.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// Gives a call of a fork that names no preview the key of that fork; whether it did. What a cron job, a worker or the
/// start of a fork asks for then is of its own preview.
pub fn stamp(place: &Place, identity: &mut Identity, table: &Table) -> bool {
    let Place::Outbound(_) = place else { return false };
    let key = table.estate.workload.as_ref().and_then(|workload| workload.key);
    match key.filter(|_| identity.keys.is_empty() && identity.onward == Onward::Carried) {
        Some(key) => {
            identity.keys.push(table.canonical(key));
            identity.onward = Onward::Stamped;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
