//! The guard at the door: what would let a pull request reach every user is refused when it is created, not only left
//! unrouted afterwards.
//!
//! The question is put to the plan itself: the world with the object under review in it is planned, and if a fork leaks
//! that does not leak now, the object is refused with what the plan says about it. So door and plan can't disagree.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde::de::DeserializeOwned;
use sidetrack_config::Key;

use crate::names::PR;
use crate::observe::{self, Fact};
use crate::plan::{self, Fork, ForkState, Settings};
use crate::run::SharedWorld;
use crate::world::{Labels, Preview, WorkloadKind, World};

/// Answers the body of a webhook's request with the body of its answer. One that comes before the cluster is known gets
/// nothing, which is no answer: the webhook's `failurePolicy` decides.
pub(crate) fn answer(world: &SharedWorld, settings: &Settings, is_whole: bool, body: &Bytes) -> Bytes {
    if !is_whole {
        return Bytes::new();
    }
    let review = match serde_json::from_slice(body) {
        Ok(asked) => {
            // A copy of the maps, not of what is in them: the planning thread must not wait for a review.
            let world = world.read().unwrap_or_else(PoisonError::into_inner).clone();
            review(world, settings, Timestamp::now(), asked)
        }
        Err(error) => {
            AdmissionResponse::invalid(format!("this is no AdmissionReview: {error}")).into_review()
        }
    };
    serde_json::to_vec(&review).unwrap_or_default().into()
}

/// Judges the object of a review in `world`.
pub fn review(
    world: World,
    settings: &Settings,
    now: Timestamp,
    asked: AdmissionReview<DynamicObject>,
) -> AdmissionReview<DynamicObject> {
    let mut request: AdmissionRequest<DynamicObject> = match asked.try_into() {
        Ok(request) => request,
        Err(error) => return AdmissionResponse::invalid(error).into_review(),
    };
    let response = AdmissionResponse::from(&request);
    let is_write = matches!(request.operation, Operation::Create | Operation::Update);
    let is_part = request.sub_resource.as_deref().is_some_and(|part| !part.is_empty());
    let Some(mut object) = request.object.take().filter(|_| is_write && !is_part) else {
        return response.into_review();
    };
    // An object that is created may leave its namespace, and even its name, to the API server.
    object.metadata.namespace = object.metadata.namespace.or(request.namespace);
    object.metadata.name = object.metadata.name.or_else(|| object.metadata.generate_name.clone());
    match judge(world, settings, now, &request.kind.kind, object) {
        Ok(()) => response.into_review(),
        Err(why) => {
            let mut denied = response.deny(why);
            // Else an API server answers 400, as if the object could not be read.
            denied.result.code = 403;
            denied.into_review()
        }
    }
}

fn judge(
    world: World,
    settings: &Settings,
    now: Timestamp,
    kind: &str,
    object: DynamicObject,
) -> Result<(), String> {
    let name = observe::name(&object.metadata);
    let prefix = &*settings.host_prefix;
    let mut next = world.clone();
    let is_suspect = match kind {
        "Preview" => return observe::preview(object).map_or(Ok(()), |preview| preview_keys(&preview)),
        "Service" => {
            put(&mut next, name, typed(object, observe::service), |service| Ok(!service.selector.is_empty()))?
        }
        "Pod" => put(&mut next, name, typed(object, observe::pod), |pod| is_fork(&pod.meta.labels, prefix))?,
        _ => {
            let (kind, workload) = match kind {
                "Deployment" => (WorkloadKind::Deployment, typed(object, observe::deployment)),
                "StatefulSet" => (WorkloadKind::StatefulSet, typed(object, observe::stateful_set)),
                "ReplicaSet" => (WorkloadKind::ReplicaSet, typed(object, observe::replica_set)),
                "Rollout" => (WorkloadKind::Rollout, observe::rollout(object)),
                _ => return Ok(()),
            };
            put(&mut next, (kind, name), workload, |workload| is_fork(&workload.pod_labels, prefix))?
        }
    };
    if is_suspect { new_leak(&world, &next, settings, now) } else { Ok(()) }
}

/// An object of one of Kubernetes' own kinds.
fn typed<K: DeserializeOwned, F>(object: DynamicObject, read: fn(K) -> Option<F>) -> Option<F> {
    // A webhook never sees what the API server can't read itself: what we can't read is not ours to refuse.
    let value = serde_json::to_value(object).ok()?;
    read(serde_json::from_value(value).ok()?)
}

/// Puts a fact into the world where it might make a fork leak; says whether it might.
fn put<F: Fact>(
    world: &mut World,
    id: F::Id,
    fact: Option<F>,
    is_suspect: impl Fn(&F) -> Result<bool, String>,
) -> Result<bool, String> {
    let Some(fact) = fact else { return Ok(false) };
    let suspect = is_suspect(&fact)?;
    F::all(world).insert(id, Arc::new(fact));
    Ok(suspect)
}

/// Whether these are labels of a fork's pods.
fn is_fork(labels: &Labels, prefix: &str) -> Result<bool, String> {
    let Some(key) = labels.get(PR) else { return Ok(false) };
    Key::parse(key, prefix).map(|_| true).map_err(|error| format!("label {PR}: {error}"))
}

/// The schema of the CRD says the same where it is in force; an older one may be.
fn preview_keys(preview: &Preview) -> Result<(), String> {
    let spec = &preview.spec;
    let all = [
        ("spec.key", std::slice::from_ref(&spec.key)),
        ("spec.parents", &spec.parents),
        ("spec.aliases", &spec.aliases),
    ];
    for (field, keys) in all {
        for key in keys {
            Key::bare(key).map_err(|error| format!("{field}: {error}"))?;
        }
    }
    Ok(())
}

/// The first fork that leaks in `next` and not in `world`.
fn new_leak(world: &World, next: &World, settings: &Settings, now: Timestamp) -> Result<(), String> {
    let leaking = |world| -> Vec<Fork> {
        let forks = plan::plan(world, settings, now).forks;
        forks.into_iter().filter(|fork| fork.state == ForkState::Leaks).collect()
    };
    let after = leaking(next);
    if after.is_empty() {
        return Ok(());
    }
    let before = leaking(world);
    let same =
        |a: &Fork, b: &Fork| (&a.key, &a.service, &a.source.name) == (&b.key, &b.service, &b.source.name);
    match after.into_iter().find(|fork| !before.iter().any(|known| same(fork, known))) {
        Some(fork) => Err(format!("fork {} of Service {}: {}", fork.key, fork.service, fork.message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
