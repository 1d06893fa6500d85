//! What a plan wants written, as single writes. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sidetrack_config::Key;

use crate::names::WAYPOINT_NAME;
use crate::plan::waypoints::{FrontWrite, Gate, WaypointWrite};
use crate::plan::{CloneWrite, Deletion, Notice, ObjectId, Plan, StatusWrite};
use crate::preview::{Condition, Phase, PreviewStatus};
use crate::world::{Name, World};

/// How long the same Event is not written again. The API server forgets Events after as long.
const EVENT_AGAIN: Duration = Duration::from_secs(3600);
/// How long any other write is not repeated: until then the watch should have brought it back.
const AGAIN: Duration = Duration::from_secs(30);
/// The condition that says that a write was refused.
const APPLIED: &str = "Applied";

/// A clone that the API server refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Since when.
    pub(super) since: Timestamp,
    /// What, and why.
    pub(super) message: Box<str>,
}

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// The status of a Preview.
    Preview {
        /// Which Preview.
        name: Name,
        /// Its uid.
        uid: Box<str>,
        /// The status: fields that go are null.
        status: Value,
    },
    /// The status of another object.
    Status(StatusWrite),
    /// A clone.
    Clone(CloneWrite),
    /// A deletion.
    Delete(Deletion),
    /// Something about waypoints.
    Waypoint(WaypointWrite),
    /// An Event.
    Event(Notice),
    /// What the controller itself must not forget.
    State {
        /// When keys appeared.
        seen: BTreeMap<Key, Timestamp>,
        /// When keys ended.
        gone: BTreeMap<Key, Timestamp>,
    },
}

/// What a write is of: a later one for the same target takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    what: &'static str,
    kind: Box<str>,
    name: Name,
    /// Tells Events about one object apart.
    detail: u64,
}

impl Write {
    /// Which sort it is: a label of metrics.
    pub(super) const fn what(&self) -> &'static str {
        match self {
            Self::Preview { .. } => "preview_status",
            Self::Status(_) => "status",
            Self::Clone(_) => "clone",
            Self::Delete(_) => "deletion",
            Self::Waypoint(_) => "waypoint",
            Self::Event(_) => "event",
            Self::State { .. } => "state",
        }
    }

    /// For the log.
    pub(super) fn describe(&self) -> String {
        let Target { kind, name, .. } = self.target();
        match self {
            Self::Preview { .. } | Self::Status(_) => format!("the status of {kind} {name}"),
            Self::Clone(_) => format!("the clone {kind} {name}"),
            Self::Delete(deletion) => format!("the deletion of {kind} {name} ({})", deletion.why),
            Self::Waypoint(write) => format!("{} of {kind} {name}", waypoint_what(write)),
            Self::Event(notice) => format!("the Event {} about {kind} {name}", notice.reason),
            Self::State { .. } => "the state ConfigMap".to_owned(),
        }
    }

    /// What it is of.
    pub(super) fn target(&self) -> Target {
        let (kind, name) = match self {
            Self::Preview { name, .. } => ("Preview".into(), name.clone()),
            Self::Status(write) => (write.object.kind.clone(), write.object.name.clone()),
            Self::Clone(clone) => manifest_id(&clone.manifest),
            Self::Delete(deletion) => (deletion.kind.as_str().into(), deletion.name.clone()),
            Self::Waypoint(write) => waypoint_id(write),
            Self::Event(notice) => (notice.about.kind.clone(), notice.about.name.clone()),
            Self::State { .. } => ("ConfigMap".into(), Name::default()),
        };
        let detail = if matches!(self, Self::Event(_)) { self.content() } else { 0 };
        Target { what: self.what(), kind, name, detail }
    }

    /// The object that an Event about the write is about.
    pub(super) fn object(&self) -> Option<ObjectId> {
        match self {
            Self::Preview { name, uid, .. } => Some(ObjectId {
                api_version: "sidetrack.dev/v1alpha1".into(),
                kind: "Preview".into(),
                name: name.clone(),
                uid: uid.clone(),
            }),
            Self::Status(write) => Some(write.object.clone()),
            Self::Delete(deletion) => Some(ObjectId {
                api_version: api_version(deletion).into(),
                kind: deletion.kind.as_str().into(),
                name: deletion.name.clone(),
                uid: deletion.uid.clone(),
            }),
            Self::Waypoint(WaypointWrite::Front(front)) => {
                Some(ObjectId::new("v1", "Service", &front.name, &front.seen.meta.uid))
            }
            Self::Waypoint(WaypointWrite::Companion(manifest)) => {
                let owner = manifest.pointer("/metadata/ownerReferences/0")?;
                let text = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
                let namespace = manifest_id(manifest).1.namespace;
                Some(ObjectId::new("v1", "Service", &Name::new(&namespace, text("name")), text("uid")))
            }
            Self::Waypoint(_) | Self::Clone(_) | Self::Event(_) | Self::State { .. } => None,
        }
    }

    /// A hash of what it says.
    pub(super) fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Preview { uid, status, .. } => (uid, status.to_string()).hash(&mut hasher),
            Self::Status(write) => (&write.object.uid, write.status.to_string()).hash(&mut hasher),
            Self::Clone(clone) => clone.manifest.to_string().hash(&mut hasher),
            Self::Delete(deletion) => deletion.uid.hash(&mut hasher),
            Self::Waypoint(write) => waypoint_content(write).hash(&mut hasher),
            Self::Event(notice) => notice.hash(&mut hasher),
            Self::State { seen, gone } => {
                for (key, at) in seen.iter().chain(gone) {
                    (key.as_str(), at.as_second()).hash(&mut hasher);
                }
                seen.len().hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// How long the same is not written again.
    pub(super) const fn again(&self) -> Duration {
        match self {
            Self::Event(_) | Self::State { .. } => EVENT_AGAIN,
            _ => AGAIN,
        }
    }
}

/// The group and version of what makes pods.
pub(super) const fn api_version(deletion: &Deletion) -> &'static str {
    match deletion.kind {
        crate::world::WorkloadKind::Rollout => "argoproj.io/v1alpha1",
        _ => "apps/v1",
    }
}

fn manifest_id(manifest: &Value) -> (Box<str>, Name) {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/kind").into(), Name::new(text("/metadata/namespace"), text("/metadata/name")))
}

/// What is done, before the object that it is done to.
const fn waypoint_what(write: &WaypointWrite) -> &'static str {
    match write {
        WaypointWrite::Companion(_) => "the making",
        WaypointWrite::Front(front) if front.goal.is_some() => "the turning to waypoints",
        WaypointWrite::Front(_) => "the turning back from waypoints",
        WaypointWrite::Forget { .. } => "the deletion",
        WaypointWrite::Make { .. } => "the making",
        WaypointWrite::Remove { .. } => "the deletion",
    }
}

fn waypoint_id(write: &WaypointWrite) -> (Box<str>, Name) {
    match write {
        WaypointWrite::Companion(manifest) => manifest_id(manifest),
        WaypointWrite::Front(FrontWrite { name, .. }) | WaypointWrite::Forget { name, .. } => {
            ("Service".into(), name.clone())
        }
        WaypointWrite::Make { namespace, .. } | WaypointWrite::Remove { namespace, .. } => {
            ("Deployment".into(), Name::new(namespace, WAYPOINT_NAME))
        }
    }
}

fn waypoint_content(write: &WaypointWrite) -> String {
    match write {
        WaypointWrite::Companion(manifest) => manifest.to_string(),
        WaypointWrite::Front(front) => format!("{} {}", front.seen.meta.uid, front.patch()),
        WaypointWrite::Forget { uid, .. } | WaypointWrite::Remove { uid, .. } => format!("not {uid}"),
        WaypointWrite::Make { objects, .. } => objects.iter().map(Value::to_string).collect(),
    }
}

/// Everything that `plan` wants and that the world does not say already. `acknowledged` gives the generation of a
/// preview that all proxies have, if it is known whether there is one.
pub(super) fn wants(
    plan: &Plan,
    notices: Vec<Notice>,
    world: &World,
    refused: &BTreeMap<Name, Refused>,
    acknowledged: &dyn Fn(&Key) -> Option<Option<i64>>,
) -> Vec<Write> {
    let mut writes = Vec::new();
    writes.extend(plan.clones.iter().cloned().map(Write::Clone));
    writes.extend(plan.deletions.iter().cloned().map(Write::Delete));
    for (name, status) in &plan.previews {
        let Some(preview) = world.previews.get(name) else { continue };
        let mut status = status.clone();
        let key = Key::bare(&preview.spec.key).ok();
        // A new leader does not know at first, and leaves what the last one wrote of the same spec.
        let same =
            preview.status.as_ref().filter(|old| old.observed_generation == status.observed_generation);
        let known = same.and_then(|old| old.acknowledged_generation);
        status.acknowledged_generation = key.and_then(|key| acknowledged(&key).unwrap_or(known));
        if let Some(refused) =
            refused.get(name).filter(|_| plan.clones.iter().any(|clone| clone.preview == *name))
        {
            say_refused(&mut status, refused);
        }
        if preview.status.as_ref() != Some(&status) {
            let status = patch(preview.status.as_ref(), &status);
            writes.push(Write::Preview { name: name.clone(), uid: preview.meta.uid.clone(), status });
        }
    }
    writes.extend(plan.statuses.iter().cloned().map(Write::Status));
    writes.extend(notices.into_iter().map(Write::Event));
    writes.push(Write::State { seen: plan.seen.clone(), gone: plan.gone.clone() });
    writes
}

/// Everything that `plan` wants about waypoints. `is_open` says whether those of a namespace have what a gate asks for.
pub(super) fn waypoints(plan: &Plan, is_open: &dyn Fn(&str, &Gate) -> bool) -> Vec<Write> {
    plan.waypoints.writes.iter().filter_map(|write| due(write, is_open)).map(Write::Waypoint).collect()
}

/// What of a write about waypoints is due: what has a gate waits until that is open.
fn due(write: &WaypointWrite, is_open: &dyn Fn(&str, &Gate) -> bool) -> Option<WaypointWrite> {
    match write {
        WaypointWrite::Front(front) => match &front.gate {
            Some(gate) if !is_open(&front.name.namespace, gate) => {
                front.meanwhile().map(WaypointWrite::Front)
            }
            _ => Some(write.clone()),
        },
        _ => Some(write.clone()),
    }
}

/// A refused clone makes its Preview degraded, and says so.
fn say_refused(status: &mut PreviewStatus, refused: &Refused) {
    status.phase = Some(Phase::Degraded);
    status.conditions.retain(|condition| condition.type_ != APPLIED);
    status.conditions.push(Condition {
        type_: APPLIED.to_owned(),
        status: "False".to_owned(),
        reason: "WriteRefused".to_owned(),
        message: refused.message.chars().take(1024).collect(),
        last_transition_time: Timestamp::from_second(refused.since.as_second()).unwrap_or_default(),
        observed_generation: status.observed_generation,
    });
}

/// A merge patch that makes `wanted` of `known`: what is in `known` only has to be taken away by a null.
fn patch(known: Option<&PreviewStatus>, wanted: &PreviewStatus) -> Value {
    let mut patch = json!(wanted);
    let known = json!(known);
    if let (Some(patch), Some(known)) = (patch.as_object_mut(), known.as_object()) {
        for name in known.keys() {
            patch.entry(name).or_insert(Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests;
