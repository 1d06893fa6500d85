//! What the cluster itself remembers of a Service that a waypoint is in front of.
//!
//! Such a Service selects the waypoints of its namespace, each port of it their port for it. What it was before is in the
//! annotation [`ORIGINAL`], which goes with the very write that changes it: no crash can lose it. Everybody else in here
//! sees the Service as it was: [`crate::observe`] puts the original back where the fact is made.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::names::{ORIGINAL, WAYPOINT, WAYPOINT_NAME};
use crate::world::{Labels, Service, TargetPort};

/// The ports of waypoints that Services get, in each namespace anew.
pub const PORTS: RangeInclusive<u16> = 15_200..=16_199;

/// The most bytes of the annotation: more than any Service needs, whose selector alone could not be that large.
const MAX: usize = 64 << 10;

/// What a Service was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Original {
    /// Which pods it selects.
    pub selector: Labels,
    /// By the number of the Service's port.
    pub ports: BTreeMap<u16, OriginalPort>,
    /// How often a waypoint was put in front of it, this time included.
    pub turn: u32,
}

/// A port of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginalPort {
    /// Its `targetPort`.
    pub target: TargetPort,
    /// The waypoints' port that it points to meanwhile.
    pub waypoint: u16,
}

/// Whether a selector is that of waypoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Points {
    /// It selects what the Service is for.
    #[default]
    Away,
    /// It selects waypoints.
    There,
    /// Somebody merged another selector into that of waypoints: it selects nothing.
    Nowhere,
}

/// What of a Service points to waypoints, as far as it says so itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Whether its selector does.
    pub selector: Points,
    /// What it was, if it has the annotation and that can be read.
    pub original: Option<Original>,
    /// Whether it has the annotation.
    pub noted: bool,
}

/// Why no waypoint is put in front of a Service. A closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unfit {
    /// It is of type ExternalName.
    ExternalName,
    /// It has no address of its own: callers connect to its pods.
    Headless,
    /// It selects no pods.
    NoSelector,
    /// It says so: `sidetrack.dev/waypoint: "false"`.
    OptedOut,
    /// It has a port that is not TCP.
    NotTcp,
    /// None of its ports speaks HTTP in clear.
    NoHttp,
    /// Its callers stay with one pod, by `sessionAffinity`.
    SessionAffinity,
    /// Its calls stay on their node, by a traffic policy `Local`.
    NodeLocal,
    /// It sends callers to pods that are not ready, and so it would to waypoints.
    NotReadyAddresses,
    /// Argo Rollouts writes its selector, and would again after every turn.
    Rollouts,
    /// It is reached from outside, and does not say that waypoints may be in front of it all the same.
    Exposed,
    /// The name that its baseline needs belongs to something else.
    NameTaken,
    /// The waypoints of its namespace have no port left.
    NoPort,
}

impl Unfit {
    /// For a person, after the name of the Service.
    pub const fn why(self) -> &'static str {
        match self {
            Self::ExternalName => "it is of type ExternalName",
            Self::Headless => "it is headless: callers connect to its pods, not to it",
            Self::NoSelector => "it has no selector",
            Self::OptedOut => "its annotation `sidetrack.dev/waypoint` says `false`",
            Self::NotTcp => "it has a port that is not TCP",
            Self::NoHttp => "none of its ports speaks HTTP in clear",
            Self::SessionAffinity => {
                "its `sessionAffinity` keeps callers with one pod, which a waypoint would not"
            }
            Self::NodeLocal => {
                "its traffic policy `Local` keeps calls on their node, where there may be no waypoint"
            }
            Self::NotReadyAddresses => {
                "its `publishNotReadyAddresses` would send callers to waypoints that are not ready"
            }
            Self::Rollouts => "Argo Rollouts writes its selector (`rollouts-pod-template-hash`)",
            Self::Exposed => {
                "it is reached from outside (type `LoadBalancer` or `NodePort`, or `externalIPs`), and whoever sends a key \
                 there would reach forks, past a gateway's `access`; if that is right, annotate it \
                 `sidetrack.dev/waypoint: \"true\"`"
            }
            Self::NameTaken => {
                "the Service that would be called after it and `-baseline` is there and is not ours"
            }
            Self::NoPort => "the waypoints of its namespace have no port left",
        }
    }
}

/// What waypoints are selected by.
pub fn selector() -> Labels {
    [("app.kubernetes.io/name", WAYPOINT_NAME), (WAYPOINT, "true")]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

/// Whether a selector is made of that of waypoints. The one label tells: a merge may give the other one a value of its own.
pub fn is_ours(selector: &Labels) -> bool {
    selector.get(WAYPOINT).is_some_and(|value| &**value == "true")
}

/// What of a selector is not that of waypoints.
fn others(written: &Labels) -> impl Iterator<Item = (Box<str>, Box<str>)> {
    let ours = selector();
    let others = written.iter().filter(move |(name, value)| ours.get(*name) != Some(*value));
    others.map(|(name, value)| (name.clone(), value.clone()))
}

/// Puts the original back into a Service as it is written: its selector and the target of each port, each where it
/// points to waypoints. What points elsewhere was said by somebody later, and is the original now: a whole selector
/// replaces that of the note, and one that was merged into ours is merged into that of the note.
pub fn see_through(service: &mut Service) {
    let note = service.meta.annotations.get(ORIGINAL);
    service.front = Front {
        selector: match is_ours(&service.selector) {
            false => Points::Away,
            true if service.selector == selector() => Points::There,
            true => Points::Nowhere,
        },
        original: note.filter(|text| text.len() <= MAX).and_then(|text| serde_json::from_str(text).ok()),
        noted: note.is_some(),
    };
    if let Some(original) = service.front.original.clone() {
        put_back(service, &original);
    }
}

/// The same by what `original` says, where the Service itself does not.
pub fn put_back(service: &mut Service, original: &Original) {
    let mut before: Labels = others(&original.selector).collect();
    // What selects waypoints by its own word is no original.
    if is_ours(&service.selector) && !before.is_empty() {
        before.extend(others(&service.selector));
        service.selector = before;
    }
    for port in &mut service.ports {
        let Some(before) = original.ports.get(&port.port).filter(|_| port.is_tcp) else { continue };
        if port.target == TargetPort::Number(before.waypoint) {
            port.target = before.target.clone();
            port.turned = Some(before.waypoint);
        }
    }
}
