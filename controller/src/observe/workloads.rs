//! What makes pods: Deployments, StatefulSets, ReplicaSets, Argo Rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{labels, meta, ours};
use crate::names;
use crate::world::Workload;

/// `kubectl apply` keeps a second copy of the whole object in here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Deployment. Its manifest is kept unless it is a fork that somebody else deployed: such a one is never cloned,
/// and there may be a hundred for each baseline.
pub fn deployment(object: apps::Deployment) -> Option<Workload> {
    let spec = object.spec.as_ref()?;
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    let mut workload = workload(&object.metadata, Some(&spec.template), spec.replicas, ready);
    workload.updating = is_updating(&object);
    let is_fork = workload.pod_labels.contains_key(names::PR);
    if !is_fork || workload.meta.labels.contains_key(names::PREVIEW_UID) {
        workload.manifest = manifest("apps/v1", "Deployment", object.metadata, spec);
    }
    Some(workload)
}

/// Whether a rollout is under way, by the rules of `kubectl rollout status`. Without a status nobody rolls anything out.
fn is_updating(object: &apps::Deployment) -> bool {
    let Some((spec, status)) = object.spec.as_ref().zip(object.status.as_ref()) else { return false };
    let Some(observed) = status.observed_generation else { return false };
    let updated = status.updated_replicas.unwrap_or_default();
    object.metadata.generation.is_some_and(|generation| observed < generation)
        || updated < spec.replicas.unwrap_or(1)
        || status.replicas.unwrap_or_default() > updated
}

/// A StatefulSet.
pub fn stateful_set(object: apps::StatefulSet) -> Option<Workload> {
    let spec = object.spec.as_ref()?;
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    Some(workload(&object.metadata, Some(&spec.template), spec.replicas, ready))
}

/// A ReplicaSet that nobody owns; a Deployment's is not looked at, nor is a Rollout's.
pub fn replica_set(object: apps::ReplicaSet) -> Option<Workload> {
    let spec = object.spec.as_ref()?;
    let ready = object.status.as_ref().and_then(|status| status.ready_replicas);
    let found = workload(&object.metadata, spec.template.as_ref(), spec.replicas, ready);
    found.meta.owner.is_none().then_some(found)
}

/// What we read of a Rollout.
#[derive(Deserialize)]
struct RolloutParts {
    spec: RolloutSpec,
    #[serde(default)]
    status: RolloutStatus,
}

#[derive(Deserialize)]
struct RolloutSpec {
    replicas: Option<i32>,
    template: Option<Template>,
}

/// Only its metadata: the rest may have fields that this version of the Kubernetes types does not know well.
#[derive(Deserialize)]
struct Template {
    metadata: Option<ObjectMeta>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RolloutStatus {
    ready_replicas: Option<i32>,
}

/// An Argo Rollout with a pod template of its own.
pub fn rollout(object: DynamicObject) -> Option<Workload> {
    let parts = RolloutParts::deserialize(object.data).ok()?;
    let template = PodTemplateSpec { metadata: parts.spec.template?.metadata, spec: None };
    Some(workload(&object.metadata, Some(&template), parts.spec.replicas, parts.status.ready_replicas))
}

fn workload(
    object: &ObjectMeta,
    template: Option<&PodTemplateSpec>,
    replicas: Option<i32>,
    ready: Option<i32>,
) -> Workload {
    let pods = template.and_then(|template| template.metadata.as_ref());
    Workload {
        meta: meta(object),
        pod_labels: labels(pods.and_then(|pods| pods.labels.as_ref())),
        pod_annotations: ours(pods.and_then(|pods| pods.annotations.as_ref())),
        replicas: replicas.unwrap_or(1),
        ready_replicas: ready.unwrap_or_default(),
        updating: false,
        manifest: None,
    }
}

/// The object without its status and what changes with every write.
fn manifest(
    api_version: &str,
    kind: &str,
    mut object: ObjectMeta,
    spec: &impl serde::Serialize,
) -> Option<Arc<Value>> {
    object.managed_fields = None;
    object.resource_version = None;
    object.annotations = object.annotations.map(|mut all: BTreeMap<_, _>| {
        all.remove(LAST_APPLIED);
        // It changes with each rollout of the baseline, and says nothing about the baseline itself.
        all.remove("deployment.kubernetes.io/revision");
        all
    });
    let spec = serde_json::to_value(spec).ok()?;
    Some(Arc::new(json!({"apiVersion": api_version, "kind": kind, "metadata": object, "spec": spec})))
}
