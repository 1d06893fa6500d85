//! Clones: Deployments that the controller makes from those of the baseline, keeps in step, and takes away again.

mod build;
mod drift;
mod merge;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::claims::{Asked, Claim, Means};
use super::index::Index;
use super::labels::{bounded, is_subset};
use super::{CloneWrite, Deletion, ForkState};
use crate::names::{CLONE_HASH, CLONE_WORKER, FORK_OF, FORK_OF_NAMESPACE, PR, PREVIEW_UID};
use crate::preview::CloneSpec;
use crate::world::{Name, Pod, Service, Workload, WorkloadKind, World};

/// Whether the controller made a workload: it has our labels and annotation, and nobody but its Preview owns it. Only
/// such a one is ever deleted.
pub(super) fn is_ours(kind: WorkloadKind, workload: &Workload) -> bool {
    let Some(uid) = workload.meta.labels.get(PREVIEW_UID) else { return false };
    let owned = match &workload.meta.owner {
        Some((kind, owner)) => &**kind == "Preview" && owner == uid,
        // Whoever deletes a Preview with `--cascade=orphan` leaves its clones without an owner.
        None => true,
    };
    kind == WorkloadKind::Deployment && owned && workload.meta.annotations.contains_key(CLONE_HASH)
}

/// Whether a pod is one of a clone.
pub(super) fn is_cloned_pod(pod: &Pod) -> bool {
    pod.meta.labels.contains_key(PREVIEW_UID)
}

/// Whether a pod is one of a clone of the Preview with this uid.
pub(super) fn is_pod_of(pod: &Pod, uid: &str) -> bool {
    pod.meta.labels.get(PREVIEW_UID).is_some_and(|label| **label == *uid)
}

/// The Deployments whose manifests planning needs: those that a Preview clones, and those that are clones.
pub fn clone_sources(world: &World) -> BTreeSet<Name> {
    let ours = world.workloads.iter().filter(|((kind, _), workload)| is_ours(*kind, workload));
    let mut names: BTreeSet<Name> = ours.map(|((_, name), _)| name.clone()).collect();
    for (name, preview) in &world.previews {
        for fork in &preview.spec.forks {
            let Some(clone) = &fork.clone else { continue };
            let namespace = fork.namespace.as_deref().filter(|text| !text.is_empty());
            let service = Name::new(namespace.unwrap_or(&name.namespace), &fork.service);
            let service = world.services.get_key_value(&service);
            if let Some((name, service)) = service
                && let Ok((source, _)) = source(world, name, service, clone)
            {
                names.insert(source.clone());
            }
        }
    }
    names
}

/// The Deployment that a fork is made of: the one that is named, else the one whose pods the Service selects.
fn source<'a>(
    world: &'a World,
    name: &Name,
    service: &Service,
    clone: &CloneSpec,
) -> Result<(&'a Name, &'a Workload), String> {
    if let Some(deployment) = clone.deployment.as_deref().filter(|text| !text.is_empty()) {
        let key = (WorkloadKind::Deployment, Name::new(&name.namespace, deployment));
        let found = world.workloads.get_key_value(&key).map(|((_, name), workload)| (name, &**workload));
        return found.ok_or_else(|| format!("there is no Deployment {}", key.1));
    }
    let from = (WorkloadKind::Deployment, Name::new(&name.namespace, ""));
    let here = world.workloads.range(from..).take_while(|((kind, other), _)| {
        *kind == WorkloadKind::Deployment && other.namespace == name.namespace
    });
    let selected = here.filter(|(_, workload)| {
        let selects = !service.selector.is_empty() && is_subset(&service.selector, &workload.pod_labels);
        selects && !workload.pod_labels.contains_key(PR)
    });
    let mut found = selected.map(|((_, name), workload)| (name, &**workload));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("Service {name} selects no Deployment: name one as `clone.deployment`")),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "Service {name} selects Deployments {} and {}: name one as `clone.deployment`",
            one.name, other.name
        )),
    }
}

/// What the clones of a plan come to.
#[derive(Debug, Default)]
pub(super) struct Clones {
    /// To write.
    pub(super) writes: Vec<CloneWrite>,
    /// Names that are wanted, by the uid of the Preview: what else it has goes.
    wanted: BTreeMap<Box<str>, BTreeSet<Name>>,
    /// Forks whose clone can't be told at the moment, by uid, Service namespace and name: what they have stays.
    unsure: BTreeSet<(Box<str>, Name)>,
}

impl Clones {
    /// Makes the clone of a claim where it is not in step. A claim that can't be followed is refused; the message is
    /// for one that has to wait.
    pub(super) fn make<'a>(
        &mut self,
        index: &Index<'a>,
        asked: &Asked<'a>,
        claim: &mut Claim<'a>,
        service: &Service,
    ) -> Option<String> {
        let Means::Clone(clone) = claim.means else { return None };
        let kept = (asked.object.meta.uid.clone(), claim.service());
        self.unsure.insert(kept.clone());
        let (name, workload) = match self.baseline(index, claim, clone, service) {
            Ok(found) => found,
            Err(why) => {
                claim.refuse(ForkState::Invalid, why);
                return None;
            }
        };
        let Some(manifest) = workload.manifest.as_deref() else {
            return Some(format!("Deployment {name} has not been read yet"));
        };
        let target = self.name(asked, claim, name);
        let there = index.world.workloads.get(&(WorkloadKind::Deployment, target.clone()));
        let strange = |there: &Workload| {
            let uid = there.meta.labels.get(PREVIEW_UID);
            !is_ours(WorkloadKind::Deployment, there) || uid != Some(&asked.object.meta.uid)
        };
        if there.is_some_and(|there| strange(there)) {
            let why = format!("Deployment {target} is there already and is not of this Preview");
            claim.refuse(ForkState::Invalid, why);
            return None;
        }
        let order = build::Order { index, asked, claim, clone, name: &target };
        match order.build(manifest) {
            Ok(manifest) => {
                self.unsure.remove(&kept);
                let in_step = there.is_some_and(|there| drift::is_in_step(there, &manifest));
                if !in_step {
                    self.writes.push(CloneWrite { preview: asked.name.clone(), manifest });
                }
                // Its pods are routed as they are; but whoever waits for the preview waits for the new ones.
                let waits = there.is_some_and(|there| !in_step || there.updating);
                let why = waits.then(|| rolled_out(&target));
                self.wanted.entry(kept.0).or_default().insert(target);
                return why;
            }
            Err((state, why)) => claim.refuse(state, why),
        }
        None
    }

    /// The Deployment to clone, if it may be.
    fn baseline<'a>(
        &self,
        index: &Index<'a>,
        claim: &Claim<'_>,
        clone: &CloneSpec,
        service: &Service,
    ) -> Result<(&'a Name, &'a Workload), String> {
        let (name, workload) = source(index.world, &claim.service(), service, clone)?;
        if workload.pod_labels.contains_key(PR) {
            return Err(format!("Deployment {name} is a fork itself: clone a baseline"));
        }
        let selected = index.selectors.matching(&name.namespace, &workload.pod_labels).next().is_some();
        let allowed = [&workload.meta.annotations, &workload.pod_annotations]
            .iter()
            .any(|labels| labels.get(CLONE_WORKER).is_some_and(|value| &**value == "true"));
        if !selected && !allowed {
            return Err(format!(
                "no Service selects the pods of Deployment {name}: a clone of a worker would eat the shared queue; \
                 annotate it `{CLONE_WORKER}: \"true\"` if that is meant"
            ));
        }
        Ok((name, workload))
    }

    /// What the clone is called: after its Deployment and the key. A second clone of one Deployment, for another
    /// Service, has that in its name too.
    fn name(&self, asked: &Asked<'_>, claim: &Claim<'_>, source: &Name) -> Name {
        let namespace = &asked.name.namespace;
        let plain = format!("{}-pr-{}", source.name, claim.id.key);
        let name = Name::new(namespace, &bounded(&plain, MAX_NAME));
        let taken = self.wanted.get(&asked.object.meta.uid).is_some_and(|names| names.contains(&name));
        if !taken {
            return name;
        }
        let (home, service) = claim.id.service;
        let hash = sidetrack_config::stream::item_hash(home, service);
        Name::new(namespace, &bounded(&format!("{plain}-{:08x}", hash >> 32), MAX_NAME))
    }

    /// Notes that what a claim has is to stay, though nothing can be said about it now.
    pub(super) fn keep(&mut self, claim: &Claim<'_>) {
        self.unsure.insert((claim.source.uid.clone(), claim.service()));
    }

    /// What is ours and is not wanted any more: clones of Previews that are gone or have ended, and clones that their
    /// Preview does not ask for. `alive` are the Previews that may have clones, by uid.
    pub(super) fn sweep(&self, world: &World, alive: &BTreeSet<Box<str>>) -> Vec<Deletion> {
        let ours = world.workloads.iter().filter(|((kind, _), workload)| is_ours(*kind, workload));
        ours.filter_map(|((kind, name), workload)| {
            let uid = workload.meta.labels.get(PREVIEW_UID)?;
            let why = self.reason(uid, name, workload, alive)?;
            let why = why.into();
            let deleting = workload.meta.deleting;
            let is_known = world.previews.values().any(|preview| preview.meta.uid == *uid);
            (!deleting).then(|| Deletion {
                kind: *kind,
                name: name.clone(),
                uid: workload.meta.uid.clone(),
                orphan_of: (!is_known).then(|| uid.clone()),
                why,
            })
        })
        .collect()
    }

    fn reason(
        &self,
        uid: &str,
        name: &Name,
        workload: &Workload,
        alive: &BTreeSet<Box<str>>,
    ) -> Option<&'static str> {
        if !alive.contains(uid) {
            return Some("its Preview has ended or is gone");
        }
        if self.wanted.get(uid).is_some_and(|names| names.contains(name)) {
            return None;
        }
        let labels = &workload.meta.labels;
        let home = labels.get(FORK_OF_NAMESPACE).unwrap_or(&name.namespace);
        let service = labels.get(FORK_OF).map(|service| Name::new(home, service))?;
        let unsure = self.unsure.contains(&(uid.into(), service));
        (!unsure).then_some("its Preview asks for it no more")
    }
}

/// What a fork waits for while older pods still stand for it.
pub(super) fn rolled_out(deployment: &Name) -> String {
    format!("Deployment {deployment} is being rolled out")
}

/// The longest name of a Deployment: pods get it as a label.
const MAX_NAME: usize = 63;

/// The hash that a clone carries.
fn hash(manifest: &Value) -> String {
    // Objects of `serde_json` are sorted, so the same manifest is the same text.
    format!("{:016x}", sidetrack_config::stream::item_hash("clone", &manifest.to_string()))
}
