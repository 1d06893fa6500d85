//! Whether a clone is as it should be. Asked with a few fields rather than all: the API server fills in defaults and
//! writes quantities anew, and a comparison that saw those would write for ever.

use serde_json::Value;

use super::build::labels_of;
use crate::names::CLONE_HASH;
use crate::world::Workload;

/// Whether the clone that is there was made from `wanted`, and nobody has changed it since.
pub(super) fn is_in_step(there: &Workload, wanted: &Value) -> bool {
    let hash = wanted.pointer("/metadata/annotations").and_then(|annotations| annotations.get(CLONE_HASH));
    if there.meta.annotations.get(CLONE_HASH).map(|text| &**text) != hash.and_then(Value::as_str) {
        return false;
    }
    let metadata = wanted.get("metadata").map(labels_of).unwrap_or_default();
    let pods = wanted.pointer("/spec/template/metadata").map(labels_of).unwrap_or_default();
    let replicas = wanted.pointer("/spec/replicas").and_then(Value::as_i64);
    let has_all = |wanted: &crate::world::Labels, there: &crate::world::Labels| {
        wanted.iter().all(|(name, value)| there.get(name) == Some(value))
    };
    has_all(&metadata, &there.meta.labels)
        && has_all(&pods, &there.pod_labels)
        && replicas == Some(i64::from(there.replicas))
        && there.meta.owner.is_some()
        && there.manifest.as_deref().is_none_or(|there| same_containers(there, wanted))
}

fn same_containers(there: &Value, wanted: &Value) -> bool {
    ["/spec/template/spec/containers", "/spec/template/spec/initContainers"].iter().all(|list| {
        let of =
            |whole: &'_ Value| whole.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let there = of(there);
        of(wanted).iter().all(|container| {
            let found = there.iter().find(|other| other.get("name") == container.get("name"));
            found.is_some_and(|other| same_container(other, container))
        })
    })
}

fn same_container(there: &Value, wanted: &Value) -> bool {
    let same = |field: &str| {
        let value = |container: &'_ Value| {
            container.get(field).cloned().filter(|value| *value != Value::Array(vec![]))
        };
        value(there) == value(wanted)
    };
    let variables = |container: &'_ Value| {
        let list = container.get("env").and_then(Value::as_array);
        let plain = list.into_iter().flatten().filter_map(|variable| {
            Some((variable.get("name")?.as_str()?.to_owned(), variable.get("value")?.as_str()?.to_owned()))
        });
        plain.collect::<std::collections::BTreeMap<_, _>>()
    };
    let there_too = variables(there);
    same("image")
        && same("args")
        && same("command")
        && variables(wanted)
            .iter()
            .all(|(name, value)| value.is_empty() || there_too.get(name) == Some(value))
}
