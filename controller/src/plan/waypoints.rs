//! Waypoints inside the cluster: put in front of a Service while some fork of it is in the table, and taken away after
//! the last; or for good, where the Service says so.
//!
//! Each step is read off the cluster as it is, and nothing is remembered elsewhere, so that whoever leads next goes on
//! where the last one stopped:
//!
//! 1. `SERVICE-baseline`, the companion, gets the Service's selector and ports, and a port of the waypoints for each;
//! 2. the waypoints of the namespace are told those ports, and that the baseline is what the companion selects;
//! 3. when all of them that are ready have said so, the Service is turned to them, by one patch that also notes what it
//!    was ([`crate::interposed`]);
//! 4. on the way out it is turned back; ports and companion go a while after its EndpointSlices have followed.
//!
//! It is turned back too while there is no waypoint that is ready: its own pods serve then, as ever.

mod companion;
mod fit;
mod front;
mod namespaces;
mod ports;
mod steps;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sidetrack_config::stream::{Item, Port, Protocol};

pub(super) use companion::Companion;
use fit::Asked;
pub use front::{FrontWrite, Gate};
use front::{Shape, shape};
pub use namespaces::Template;
use ports::Ports;
use steps::{Face, Steps};

use super::index::Index;
use super::{Notice, ObjectId, services};
use crate::interposed::{Unfit, is_ours, put_back};
use crate::world::{Name, Service, World};

/// What waypoints are made of and how long things stay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The objects of a namespace's waypoints.
    pub template: Arc<Template>,
    /// How long ports and companion stay after the Service was turned back.
    pub grace: Duration,
    /// How long the waypoints of a namespace stay that nothing needs.
    pub idle: Duration,
    /// Whether they are taken away everywhere, and none is put in front of anything.
    pub drain: bool,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub enum WaypointWrite {
    /// A companion, for server-side apply.
    Companion(Value),
    /// A Service to turn, or to turn back.
    Front(FrontWrite),
    /// A companion that is needed no more, and the Service that it was for.
    Forget {
        /// Where it is.
        name: Name,
        /// Its uid.
        uid: Box<str>,
        /// Name and uid of the Service.
        service: (Name, Box<str>),
    },
    /// The waypoints of a namespace, for server-side apply in this order.
    Make {
        /// The namespace.
        namespace: Box<str>,
        /// The objects.
        objects: Vec<Value>,
    },
    /// The waypoints of a namespace that nothing needs any more.
    Remove {
        /// The namespace.
        namespace: Box<str>,
        /// The uid of their Deployment.
        uid: Box<str>,
        /// What they are made of.
        objects: Vec<Value>,
    },
}

/// What a plan says of waypoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waypoints {
    /// What the waypoints of each namespace are told besides previews, by [`Item::id`].
    pub views: BTreeMap<Box<str>, BTreeMap<Box<str>, Item>>,
    /// What to write.
    pub writes: Vec<WaypointWrite>,
}

/// Where a forked Service is on its way behind a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Calls inside the cluster go through waypoints, on connections that were opened since.
    Interposed(Option<Timestamp>),
    /// Not yet, and why.
    Pending(String),
    /// Never, and why.
    Refused(Unfit),
}

/// What comes of it all.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) waypoints: Waypoints,
    /// By Service, for those that want a waypoint; empty where waypoints are off.
    pub(super) hops: BTreeMap<Name, Hop>,
    /// When something is due by the clock alone.
    pub(super) next: Option<Timestamp>,
}

impl Outcome {
    fn at(&mut self, time: Timestamp) {
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }
}

/// The world with every Service as it was before, those included whose note somebody took away: their companion has it
/// too.
pub(super) fn see_through(world: &World) -> Cow<'_, World> {
    let lost = |name: &&Name, service: &Service| {
        let has_note = service.front.original.is_some();
        is_ours(&service.selector) || (!has_note && companion::may_be_turned(world, name, service))
    };
    let lost: Vec<&Name> =
        world.services.iter().filter(|(name, service)| lost(name, service)).map(|(name, _)| name).collect();
    if lost.is_empty() {
        return Cow::Borrowed(world);
    }
    let companions = Companion::all(world);
    let mut seen = Cow::Borrowed(world);
    for name in lost {
        let Some(companion) = companions.get(name) else { continue };
        if let Some(service) = seen.to_mut().services.get_mut(name) {
            put_back(Arc::make_mut(service), &companion.original());
        }
    }
    seen
}

/// Makes the plan. `forked` are the Services that the table has a fork of.
pub(super) fn plan(
    index: &Index<'_>,
    forked: &BTreeSet<Name>,
    now: Timestamp,
    notices: &mut Vec<Notice>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let turned = index.world.services.iter().filter(|(_, service)| shape(service) != Shape::Plain);
    let Some(settings) = index.settings.waypoints.as_ref() else {
        let why = "it points to a waypoint, and this controller keeps none: give it --waypoint-template, or put back what \
                   its annotation `sidetrack.dev/original` says";
        notices.extend(turned.map(|(name, service)| notice(name, service, true, "WaypointsOff", why)));
        return outcome;
    };
    let noted = index.world.services.iter().filter(|(_, service)| service.front.noted);
    let always =
        index.world.services.iter().filter(|(_, service)| fit::asked(service) == Some(Asked::Always));
    let names = forked.iter().chain(index.companions.keys());
    let names: BTreeSet<&Name> =
        names.chain(turned.chain(noted).chain(always).map(|(name, _)| name)).collect();
    let mut steps = Steps { index, settings, now, ports: Ports::new(index), outcome: &mut outcome, notices };
    let mut needed = BTreeSet::new();
    for name in names {
        let Some((name, service)) = index.world.services.get_key_value(name) else { continue };
        let face = Face { name, service, companion: index.companions.get(name) };
        if steps.step(&face, forked.contains(name)) {
            needed.insert(&*name.namespace);
        }
    }
    let ports = steps.ports;
    companion::sweep(index, &mut outcome.waypoints.writes);
    namespaces::plan(index, settings, &needed, now, &mut outcome);
    for (name, companion) in &index.companions {
        let Some(view) = outcome.waypoints.views.get_mut(&name.namespace) else { continue };
        view.extend(items(index, &ports, name, companion).map(|item| (item.id().into(), item)));
    }
    outcome
}

/// What waypoints are told of a Service: for each of its ports theirs, and the service of the table behind it.
fn items<'i>(
    index: &'i Index<'_>,
    ports: &'i Ports<'_>,
    name: &'i Name,
    companion: &'i Companion<'_>,
) -> impl Iterator<Item = Item> + 'i {
    let service = index.world.services.get_key_value(name);
    let table = service
        .into_iter()
        .flat_map(|(name, service)| services::ports(name, service).into_iter().map(move |port| (name, port)));
    table.flat_map(move |(name, port)| {
        let number = companion.ports.get(&port.port.port).copied();
        let number = number.filter(|number| ports.is_of(name, port.port.port, *number));
        number.into_iter().flat_map(move |number| {
            let spoken = fit::spoken(port.port);
            let at =
                Port { namespace: name.namespace.clone(), port: number, service: port.name.clone(), spoken };
            let mut baseline = services::baseline(index, name, port.port);
            // Behind it Kubernetes keeps the list of pods even while no controller tells of them. Where that is empty by
            // what we know, there is nobody to ask. By the Service's own addresses the waypoint would call itself.
            let standby = companion.addresses(port.port);
            if !baseline.is_empty() {
                baseline.extend(&standby);
            }
            let protocol = port.protocol.unwrap_or(Protocol::Http1);
            [Item::Port(at), services::item(name, port.clone(), protocol, Some(baseline), standby)]
        })
    })
}

fn notice(
    name: &Name,
    service: &Service,
    warning: bool,
    reason: &'static str,
    message: impl Into<Box<str>>,
) -> Notice {
    let about = ObjectId::new("v1", "Service", name, &service.meta.uid);
    Notice { about, warning, reason, message: message.into() }
}
