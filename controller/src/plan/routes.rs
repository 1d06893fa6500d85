//! Routes: from Gateways, HTTPRoutes and Ingresses to the routes of the table, and what is said about each of them.
//!
//! The gateways are shared by all Gateways of our classes: a listener decides which hosts and which of HTTP and HTTPS
//! a route is served on, and not which port.

mod gateway;
mod gateway_conditions;
mod gateway_hosts;
mod gateway_listener;
mod gateway_status;
mod grants;
mod http_route;
mod http_route_backends;
mod http_route_filters;
mod http_route_match;
mod http_route_rule;
mod http_route_status;
mod http_route_timeouts;
mod ingress;
mod same;

use std::collections::BTreeSet;

use jiff::Timestamp;
use sidetrack_config::stream::{Item, Route};

use super::certificates::Certificates;
use super::{Notice, ObjectId, Settings, StatusWrite};
use crate::world::{Name, World};

/// What the routes of a world come to.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// Routes and certificates for the table.
    pub(super) items: Vec<Item>,
    /// What to say about the objects that they come from.
    pub(super) statuses: Vec<StatusWrite>,
    /// What to tell people.
    pub(super) notices: Vec<Notice>,
    /// The Services that a route refers to, each with the number of its port: the table has to hold them.
    pub(super) services: BTreeSet<(Name, u16)>,
    /// The hosts of routes: no preview may be called like one, and its URLs are made of them.
    pub(super) hosts: BTreeSet<Box<str>>,
}

/// Makes the routes of a world.
pub(super) fn plan(world: &World, settings: &Settings, now: Timestamp) -> Routed {
    let mut certificates = Certificates::new(world);
    let mut collected = Collected::default();
    let mut gateways = gateway::read(world, settings, &mut certificates);
    let mut statuses: Vec<StatusWrite> = gateway_status::classes(world, now).collect();
    let routes = http_route::attach(world, settings, now, &mut gateways, &mut collected);
    statuses.extend(gateway_status::gateways(&gateways, settings, now));
    statuses.extend(routes);
    statuses.extend(ingress::plan(world, settings, &mut certificates, &mut collected));
    same::warn(&mut collected);
    let Collected { routes, services, notices, .. } = collected;
    let hosts = routes.iter().map(|(_, route)| route.host.clone()).collect();
    let mut items = certificates.into_items();
    items.extend(routes.into_iter().map(|(_, route)| Item::Route(Box::new(route))));
    Routed { items, statuses, notices, services, hosts }
}

/// What the objects come to, before it is looked at as a whole.
#[derive(Debug, Default)]
struct Collected {
    /// The objects.
    sources: Vec<ObjectId>,
    /// Their routes, each with the index of its object.
    routes: Vec<(usize, Route)>,
    /// The Services that they name.
    services: BTreeSet<(Name, u16)>,
    /// What to tell people.
    notices: Vec<Notice>,
}

impl Collected {
    /// The index of a new object.
    fn source(&mut self, object: ObjectId) -> usize {
        self.sources.push(object);
        self.sources.len() - 1
    }

    /// Tells people what is wrong with an object.
    fn warn(&mut self, about: ObjectId, reason: &'static str, message: impl Into<Box<str>>) {
        self.notices.push(Notice { about, warning: true, reason, message: message.into() });
    }
}

/// The rank of a route. As text it has the order of the specification: the oldest object, then the first by
/// `NAMESPACE/NAME`, then the first rule, then the first match. A space stands before all that a name may hold.
fn rank(created: Timestamp, name: &Name, rule: usize, position: usize) -> String {
    let created = created.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{created} {name} {rule:06} {position:06}")
}

#[cfg(test)]
mod tests;
