//! The heart: from what the cluster says to what shall be. Pure; the clock is an argument. The same world gives the
//! same plan, whatever order its events came in.

mod aliases;
mod certificates;
mod claims;
mod clones;
mod endpoints;
mod forks;
mod guard;
mod index;
mod labels;
mod life;
mod links;
mod routes;
mod selectors;
mod services;
mod settle;
mod status;
mod terms;
pub mod waypoints;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sidetrack_config::Key;
use sidetrack_config::stream::Item;

pub use clones::clone_sources;
use index::Index;
pub use links::Links;

use waypoints::Waypoints;

use crate::preview::PreviewStatus;
use crate::world::{Name, WorkloadKind, World};

/// What planning goes by besides the world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domains below which a label may carry a key, as the gateways have them: URLs are made of the first.
    pub domains: Vec<Box<str>>,
    /// The scheme and the port of those URLs, `https` and `None` in a usual cluster.
    pub url_scheme: Box<str>,
    /// A port that is not the scheme's own.
    pub url_port: Option<u16>,
    /// The prefix of a key in a host, `pr-`.
    pub host_prefix: Box<str>,
    /// Ports of Gateway listeners that the gateways serve in clear.
    pub http_ports: Vec<u16>,
    /// Ports of Gateway listeners that the gateways serve with TLS.
    pub https_ports: Vec<u16>,
    /// Addresses to report in the status of Gateways and Ingresses.
    pub addresses: Vec<Box<str>>,
    /// How long before its end a preview is marked as expiring.
    pub warn_before: std::time::Duration,
    /// What waypoints inside the cluster are made of; `None`: there are none.
    pub waypoints: Option<waypoints::Settings>,
    /// Whether there are sidecars, which have to know every Service.
    pub sidecars: bool,
}

/// What shall be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The table, by [`Item::id`].
    pub items: BTreeMap<Box<str>, Item>,
    /// What sidecars alone are told besides: the Services that nobody forks and no route refers to.
    pub inside: BTreeMap<Box<str>, Item>,
    /// Every fork that somebody asks for, routed or not.
    pub forks: Vec<Fork>,
    /// What to say about each Preview. `acknowledged_generation` is filled in by `report`.
    pub previews: BTreeMap<Name, PreviewStatus>,
    /// What to say about objects of the Gateway API and Ingresses; only those that say something else now.
    pub statuses: Vec<StatusWrite>,
    /// Clones to make or to bring in step: whole objects, for server-side apply.
    pub clones: Vec<CloneWrite>,
    /// Objects of ours to delete.
    pub deletions: Vec<Deletion>,
    /// What to tell people.
    pub notices: Vec<Notice>,
    /// Keys that ended within the last seven days, at most 10,000, to be kept: those of the world, those of which the
    /// TTL is over, and those that the world has `seen` and nobody claims any more.
    pub gone: BTreeMap<Key, Timestamp>,
    /// When each key that is there first appeared, to be kept; those of `Preview` objects are among them, so that
    /// their end is noticed.
    pub seen: BTreeMap<Key, Timestamp>,
    /// What links to previews are made of.
    pub links: Links,
    /// When the plan changes though nothing in the cluster does: an end, a warning.
    pub next: Option<Timestamp>,
    /// Waypoints inside the cluster.
    pub waypoints: Waypoints,
}

/// One fork that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// For this key.
    pub key: Key,
    /// Of this Service.
    pub service: Name,
    /// The object that asks for it.
    pub source: ObjectId,
    /// What came of it.
    pub state: ForkState,
    /// For a person.
    pub message: Box<str>,
    /// How many endpoints are ready, over all ports.
    pub endpoints: usize,
}

impl ObjectId {
    pub(crate) fn new(api_version: &str, kind: &str, name: &Name, uid: &str) -> Self {
        Self { api_version: api_version.into(), kind: kind.into(), name: name.clone(), uid: uid.into() }
    }
}

/// What came of a fork. A closed set: conditions, metrics and `GET /v1/previews` use these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForkState {
    /// It is routed, and an endpoint is ready.
    Routed,
    /// It is routed, and no endpoint is ready: requests get `fork_unavailable`.
    NotReady,
    /// It is routed and an endpoint is ready, and calls from inside the cluster do not reach it yet: its Service is not
    /// behind a waypoint.
    NotInterposed,
    /// The Service that it forks is not there.
    NoService,
    /// The Service's namespace does not allow it.
    NotAllowed,
    /// Its pods match the selector of a baseline Service, and every user would reach them.
    Leaks,
    /// An older claim to the key, or to this fork, stands.
    Conflict,
    /// What it is made of or says can't be used.
    Invalid,
    /// The preview's TTL is over.
    Expired,
}

impl ForkState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Routed => "Routed",
            Self::NotReady => "NotReady",
            Self::NotInterposed => "NotInterposed",
            Self::NoService => "NoService",
            Self::NotAllowed => "NotAllowed",
            Self::Leaks => "Leaks",
            Self::Conflict => "Conflict",
            Self::Invalid => "Invalid",
            Self::Expired => "Expired",
        }
    }

    /// Whether its endpoints are in the table. One that `Leaks`, is `Invalid`, or is `NotAllowed` where its key is at home
    /// is there too where its Service is, without an endpoint, so that its requests get `fork_unavailable` and not the
    /// baseline.
    pub const fn is_routed(self) -> bool {
        matches!(self, Self::Routed | Self::NotReady | Self::NotInterposed)
    }
}

/// An object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// `apps/v1` and the like.
    pub api_version: Box<str>,
    /// `Deployment` and the like.
    pub kind: Box<str>,
    /// Where it is.
    pub name: Name,
    /// Its uid.
    pub uid: Box<str>,
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// Of this object.
    pub object: ObjectId,
    /// Its plural, for the path of the API.
    pub plural: &'static str,
    /// The whole status.
    pub status: Value,
}

/// A clone to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct CloneWrite {
    /// The Preview that asks for it.
    pub preview: Name,
    /// The whole object, `apiVersion` and `kind` included.
    pub manifest: Value,
}

/// An object of ours to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// What makes its pods.
    pub kind: WorkloadKind,
    /// Where it is.
    pub name: Name,
    /// Its uid: one that took its name meanwhile is not ours.
    pub uid: Box<str>,
    /// The uid of its Preview where the world does not have that. It may be the world that lags behind, or a Preview
    /// that can't be read: the API server has to be asked before.
    pub orphan_of: Option<Box<str>>,
    /// Why, for the log and the Event.
    pub why: Box<str>,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Notice {
    /// About this object.
    pub about: ObjectId,
    /// Whether somebody should act on it.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// For a person.
    pub message: Box<str>,
}

/// Makes the plan of a world.
pub fn plan(world: &World, settings: &Settings, now: Timestamp) -> Plan {
    let world = &*waypoints::see_through(world);
    let mut routed = routes::plan(world, settings, now);
    let mut notices = std::mem::take(&mut routed.notices);
    let index = Index::new(world, settings, &routed.services);
    let mut asked = claims::previews(&index);
    let labelled = claims::by_labels(&index, &mut notices);
    let mut groups = settle::settle(&index, &mut asked, labelled, now, &mut notices);
    aliases::settle(&mut groups, &mut asked, settings, &routed.hosts, &mut notices);
    guard::strays(&index, &mut notices);
    let mut judged = forks::judge(&index, &asked, &mut groups);
    let interposed = waypoints::plan(&index, &judged.services, now, &mut notices);
    judged.reach(&interposed.hops);
    let life = life::plan(world, &groups, |key| judged.previews.contains_key(key), settings.warn_before, now);
    let alive = asked.iter().filter(|preview| preview.terms.expires.is_none_or(|end| now < end));
    let alive: BTreeSet<Box<str>> = alive.map(|preview| preview.object.meta.uid.clone()).collect();
    let links = Links::new(settings, &routed.hosts);
    let report =
        forks::Reporter { asked: &asked, groups: &groups, judged: &judged, links: &links, settings, now };
    let previews = report.previews(&mut notices);
    report.forks(&mut notices);
    let services = services::plan(&index, &routed.services, &judged.services, &mut notices);
    let deletions = judged.clones.sweep(world, &alive);
    let items = routed.items.into_iter().chain(services).chain(life.items());
    let items = items.chain(judged.previews.into_values().map(Item::Preview));
    let items = items.map(|item| (item.id().into(), item)).collect();
    let inside = if settings.sidecars { services::inside(&index, &items) } else { BTreeMap::new() };
    notices.sort();
    notices.dedup();
    Plan {
        items,
        inside,
        forks: judged.forks.into_values().flatten().collect(),
        previews,
        statuses: routed.statuses,
        clones: judged.clones.writes,
        deletions,
        notices,
        gone: life.gone,
        seen: life.seen,
        next: life.next.into_iter().chain(interposed.next).min(),
        links,
        waypoints: interposed.waypoints,
    }
}

#[cfg(test)]
mod tests;
