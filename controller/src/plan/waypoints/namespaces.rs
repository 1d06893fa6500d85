//! The waypoints themselves: one Deployment in each namespace that has a Service to serve, and what belongs to it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use sidetrack_config::stream::item_hash;

use super::super::index::Index;
use super::{Outcome, Settings, WaypointWrite};
use crate::names::{IDLE_SINCE, WAYPOINT, WAYPOINT_HASH, WAYPOINT_NAME};
use crate::world::{Name, Workload, WorkloadKind};

/// What stands in a template for the certificates by which waypoints know the controller.
const CA: &str = "$(CONTROLLER_CA)";

/// The objects of the waypoints of a namespace. The Deployment comes last: it needs the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    objects: Vec<Value>,
    hash: String,
}

impl Template {
    /// Reads a list of objects, as JSON; `ca` is PEM.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(text: &str, ca: &str) -> Result<Self, String> {
        let mut objects: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| format!("this is no JSON list of objects: {error}"))?;
        for object in &mut objects {
            fill(object, ca);
            for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
                if object.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
                    return Err(format!("an object has no `{pointer}`"));
                }
            }
            if object.pointer("/metadata/labels").and_then(|labels| labels.get(WAYPOINT))
                != Some(&"true".into())
            {
                return Err(format!("an object is not labelled `{WAYPOINT}: \"true\"`"));
            }
        }
        let is_deployment = |object: &Value| {
            object.get("kind") == Some(&"Deployment".into())
                && object.pointer("/metadata/name") == Some(&WAYPOINT_NAME.into())
        };
        objects.sort_by_key(is_deployment);
        if objects.iter().filter(|object| is_deployment(object)).count() != 1 {
            return Err(format!("it must hold one Deployment {WAYPOINT_NAME}"));
        }
        // Objects of `serde_json` are sorted, so the same template is the same text.
        let hash = format!("{:016x}", item_hash("waypoint", &Value::from(objects.clone()).to_string()));
        Ok(Self { objects, hash })
    }

    /// The objects in `namespace`; the Deployment says since when nothing needs it.
    fn objects(&self, namespace: &str, idle: Option<Timestamp>) -> Vec<Value> {
        let mut objects = self.objects.clone();
        for object in &mut objects {
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.insert("namespace".to_owned(), namespace.into());
            }
        }
        if let Some(meta) = objects.last_mut().and_then(|last| last.get_mut("metadata")?.as_object_mut()) {
            let annotations = meta.entry("annotations").or_insert_with(|| Value::Object(Default::default()));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(WAYPOINT_HASH.to_owned(), self.hash.as_str().into());
                if let Some(idle) = idle {
                    annotations.insert(IDLE_SINCE.to_owned(), idle.to_string().into());
                }
            }
        }
        objects
    }
}

/// Puts the certificates where they are asked for.
fn fill(value: &mut Value, ca: &str) {
    match value {
        Value::String(text) if text == CA => ca.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(|value| fill(value, ca)),
        Value::Object(map) => map.values_mut().for_each(|value| fill(value, ca)),
        _ => {}
    }
}

/// Makes the waypoints of the namespaces that need some, and takes away those that nothing needs.
pub(super) fn plan(
    index: &Index<'_>,
    settings: &Settings,
    needed: &BTreeSet<&str>,
    now: Timestamp,
    outcome: &mut Outcome,
) {
    let workloads = &index.world.workloads;
    let deployment =
        |namespace: &str| workloads.get(&(WorkloadKind::Deployment, Name::new(namespace, WAYPOINT_NAME)));
    let template = &settings.template;
    for namespace in needed {
        outcome.waypoints.views.entry((*namespace).into()).or_default();
        let there = deployment(namespace);
        // What the others of its objects are is not watched: while no pod of it is ready they are written anew.
        let is_good =
            there.is_some_and(|there| is_in_step(there, template, None) && there.ready_replicas > 0);
        if !is_good {
            let objects = template.objects(namespace, None);
            outcome.waypoints.writes.push(WaypointWrite::Make { namespace: (*namespace).into(), objects });
        }
    }
    let ours = workloads.iter().filter(|((kind, name), workload)| {
        *kind == WorkloadKind::Deployment
            && &*name.name == WAYPOINT_NAME
            && workload.meta.labels.get(WAYPOINT).is_some_and(|value| &**value == "true")
            && !needed.contains(&*name.namespace)
    });
    for ((_, name), there) in ours.filter(|(_, workload)| !workload.meta.deleting) {
        // It follows on until it ends.
        outcome.waypoints.views.entry(name.namespace.clone()).or_default();
        let since = there.meta.annotations.get(IDLE_SINCE).and_then(|text| text.parse().ok());
        let idle: Timestamp = since.unwrap_or(now);
        let namespace = name.namespace.clone();
        match idle.checked_add(settings.idle) {
            Ok(end) if end > now => outcome.at(end),
            _ => {
                let (uid, objects) = (there.meta.uid.clone(), template.objects(&namespace, None));
                outcome.waypoints.writes.push(WaypointWrite::Remove { namespace, uid, objects });
                continue;
            }
        }
        if !is_in_step(there, template, Some(idle)) {
            let objects = template.objects(&namespace, Some(idle));
            outcome.waypoints.writes.push(WaypointWrite::Make { namespace, objects });
        }
    }
}

fn is_in_step(there: &Workload, template: &Template, idle: Option<Timestamp>) -> bool {
    let said = |name: &str| there.meta.annotations.get(name).map(|text| &**text);
    let idle = idle.map(|idle| idle.to_string());
    said(WAYPOINT_HASH) == Some(&*template.hash) && said(IDLE_SINCE) == idle.as_deref()
}
