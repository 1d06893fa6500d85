//! Who claims what: every fork that labels or `Preview` objects ask for, before anything is judged.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use sidetrack_config::Key;

use super::clones::{is_cloned_pod, is_ours};
use super::index::{ForkId, Index};
use super::labels::fork_of;
use super::terms::{self, ForkTerms, Terms};
use super::{ForkState, Notice, ObjectId, guard};
use crate::names::{FORK_OF, PR};
use crate::preview::{CloneSpec, ForkSpec};
use crate::world::{Labels, Name, Preview, Service, Workload, WorkloadKind};

/// One fork that somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    /// For this key, of this Service, with pods there.
    pub(super) id: ForkId<'a>,
    /// The object that asks.
    pub(super) source: ObjectId,
    /// Since when.
    pub(super) created: Timestamp,
    /// What it is made of.
    pub(super) means: Means<'a>,
    /// What its annotations say.
    pub(super) terms: ForkTerms,
    /// The repository of the change.
    pub(super) repository: Option<Box<str>>,
    /// The Preview that lists it.
    pub(super) preview: Option<&'a Name>,
    /// Why it is not routed, once that is known.
    pub(super) refusal: Option<(ForkState, String)>,
    /// Workloads with the same labels whose claim is a younger one: their pods are not this fork's.
    pub(super) rivals: Vec<(WorkloadKind, &'a Name)>,
}

impl Claim<'_> {
    /// The older claim stays: the smaller of these.
    pub(super) fn age(&self) -> (Timestamp, &str, &ObjectId) {
        (self.created, &self.source.uid, &self.source)
    }

    /// Notes why it is not routed, unless a reason is known already.
    pub(super) fn refuse(&mut self, state: ForkState, why: impl Into<String>) {
        self.refusal.get_or_insert_with(|| (state, why.into()));
    }

    /// Namespace and name of the Service.
    pub(super) fn service(&self) -> Name {
        Name::new(self.id.service.0, self.id.service.1)
    }
}

/// What a fork is made of.
#[derive(Clone, Debug)]
pub(super) enum Means<'a> {
    /// A workload whose pods carry the labels.
    Workload(WorkloadKind, &'a Name, &'a Workload),
    /// Pods with the labels that no workload we know of makes.
    Pods,
    /// A Service that stands for the fork: one that carries the labels, or that a Preview names.
    Service(&'a Name, &'a Service),
    /// A Service that a Preview names and that is not there.
    NoSource(&'a str),
    /// A clone of the baseline.
    Clone(&'a CloneSpec),
    /// Nothing yet: a Preview lists it, and nobody has deployed it.
    Awaited,
}

/// A `Preview` object that is read.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// Where it is.
    pub(super) name: &'a Name,
    /// The object.
    pub(super) object: &'a Preview,
    /// Its key, or why it is none.
    pub(super) key: Result<Key, String>,
    /// Its terms.
    pub(super) terms: Terms,
    /// What of it can't be read or is taken, a sentence each.
    pub(super) problems: Vec<String>,
    /// Why the key is not its own.
    pub(super) conflict: Option<String>,
}

impl Asked<'_> {
    /// It as an object.
    pub(super) fn id(&self) -> ObjectId {
        ObjectId::new("sidetrack.dev/v1alpha1", "Preview", self.name, &self.object.meta.uid)
    }

    /// The older one stays: the smaller of these.
    pub(super) fn age(&self) -> (Timestamp, &str, &Name) {
        (self.object.meta.created, &self.object.meta.uid, self.name)
    }
}

/// Reads all `Preview` objects that are there to stay.
pub(super) fn previews<'a>(index: &Index<'a>) -> Vec<Asked<'a>> {
    let prefix = &index.settings.host_prefix;
    let there = index.world.previews.iter().filter(|(_, preview)| !preview.meta.deleting);
    let read = |(name, object): (&'a Name, &'a std::sync::Arc<Preview>)| {
        let mut problems = Vec::new();
        let terms = terms::of_preview(&object.meta, &object.spec, prefix, &mut problems);
        let text = &object.spec.key;
        let key = Key::parse(text, prefix).map_err(|error| format!("`spec.key`: `{text}` {error}"));
        Asked { name, object, key, terms, problems, conflict: None }
    };
    there.map(read).collect()
}

/// Every fork that labels ask for. What makes pods speaks for them, a Service for pods that carry no labels.
pub(super) fn by_labels<'a>(index: &Index<'a>, notices: &mut Vec<Notice>) -> Vec<Claim<'a>> {
    let mut claims = Vec::new();
    let mut known: HashSet<ForkId<'a>> = HashSet::new();
    for ((kind, name), workload) in &index.world.workloads {
        if workload.meta.deleting || is_ours(*kind, workload) {
            continue;
        }
        let source = ObjectId::new(api_version(*kind), kind.as_str(), name, &workload.meta.uid);
        let Some(id) = read(index, &name.namespace, &workload.pod_labels, &source, notices) else {
            claims.extend(unlabelled(index, *kind, name, workload, source));
            continue;
        };
        let sources: Vec<&Labels> = vec![
            &workload.meta.annotations,
            &workload.pod_annotations,
            &workload.meta.labels,
            &workload.pod_labels,
        ];
        known.insert(id.clone());
        let means = Means::Workload(*kind, name, workload);
        claims.push(claim(index, id, source, workload.meta.created, means, sources));
    }
    for (name, service) in &index.world.services {
        if service.meta.deleting || service.external {
            continue;
        }
        let source = ObjectId::new("v1", "Service", name, &service.meta.uid);
        let Some(id) = read(index, &name.namespace, &service.meta.labels, &source, notices) else { continue };
        if id.service == (&*name.namespace, &*name.name) {
            let message = "it carries the labels of a fork of itself: take them off, key-less requests would be \
                           the fork's otherwise";
            notices.push(Notice {
                about: source,
                warning: true,
                reason: "ForkInvalid",
                message: message.into(),
            });
            continue;
        }
        let pods = index.pods(&id).iter().any(|(_, pod)| !pod.meta.deleting);
        // Its workload or its pods ask for themselves.
        if pods || known.contains(&id) {
            continue;
        }
        known.insert(id.clone());
        let sources = vec![&service.meta.annotations, &service.meta.labels];
        claims.push(claim(index, id, source, service.meta.created, Means::Service(name, service), sources));
    }
    pods(index, &known, &mut claims);
    claims
}

/// A workload that carries the labels of a fork itself, and whose pods do not: nobody would ever be routed to them. It is
/// a claim that is refused, so that requests with the key don't get the baseline. A Service may speak for such pods.
fn unlabelled<'a>(
    index: &Index<'a>,
    kind: WorkloadKind,
    name: &'a Name,
    workload: &'a Workload,
    source: ObjectId,
) -> Option<Claim<'a>> {
    let (own, pods) = (&workload.meta.labels, &workload.pod_labels);
    let id = index.fork_id(&name.namespace, own).filter(|_| fork_of(&name.namespace, pods).is_none())?;
    if pods.contains_key(PR) || !index.labelled_services(&id).is_empty() {
        return None;
    }
    let (leak, means) = (guard::unlabelled(index, &id, pods), Means::Workload(kind, name, workload));
    let sources = vec![&workload.meta.annotations, own];
    let mut claim = claim(index, id, source, workload.meta.created, means, sources);
    if let Some(why) = leak {
        claim.refuse(ForkState::Leaks, why);
    }
    let why =
        format!("it carries `{PR}` and `{FORK_OF}`, and its pods do not: label `spec.template` with them");
    claim.refuse(ForkState::Invalid, why);
    Some(claim)
}

/// Pods that no known workload makes: those of a Job or of somebody's own controller.
fn pods<'a>(index: &Index<'a>, known: &HashSet<ForkId<'a>>, claims: &mut Vec<Claim<'a>>) {
    for (id, pods) in index.forks_with_pods() {
        let ours = pods.iter().filter(|(_, pod)| !pod.meta.deleting && !is_cloned_pod(pod));
        let Some((name, pod)) = ours.min_by_key(|(name, pod)| (pod.meta.created, *name)) else { continue };
        if known.contains(id) {
            continue;
        }
        let source = ObjectId::new("v1", "Pod", name, &pod.meta.uid);
        let sources = vec![&pod.meta.annotations, &pod.meta.labels];
        claims.push(claim(index, id.clone(), source, pod.meta.created, Means::Pods, sources));
    }
}

/// Reads whose pods these labels are of; says so where they can't be read.
fn read<'a>(
    index: &Index<'a>,
    namespace: &'a str,
    labels: &'a Labels,
    source: &ObjectId,
    notices: &mut Vec<Notice>,
) -> Option<ForkId<'a>> {
    let text = labels.get(PR)?;
    let service = fork_of(namespace, labels)?;
    match Key::parse(text, &index.settings.host_prefix) {
        Ok(key) => Some(ForkId { namespace, key, service }),
        Err(error) => {
            let message =
                format!("label `{PR}`: `{text}` {error}; write the pull request's number, as in `42`");
            let about = source.clone();
            notices.push(Notice { about, warning: true, reason: "ForkInvalid", message: message.into() });
            None
        }
    }
}

fn claim<'a>(
    index: &Index<'a>,
    id: ForkId<'a>,
    source: ObjectId,
    created: Timestamp,
    means: Means<'a>,
    mut sources: Vec<&'a Labels>,
) -> Claim<'a> {
    sources.extend(index.labelled_services(&id).iter().map(|(_, service)| &service.meta.annotations));
    let terms = terms::of_fork(&sources, &index.settings.host_prefix);
    let repository = terms.settings.repository.clone();
    Claim { id, source, created, means, terms, repository, preview: None, refusal: None, rivals: Vec::new() }
}

/// Every fork that `asked` lists, by Service: the first of two that say the same counts.
pub(super) fn of_preview<'a>(index: &Index<'a>, asked: &mut Asked<'a>, key: Key) -> Vec<Claim<'a>> {
    let mut listed = BTreeMap::new();
    for fork in &asked.object.spec.forks {
        let namespace = fork.namespace.as_deref().filter(|text| !text.is_empty());
        let service = (namespace.unwrap_or(&asked.name.namespace), &*fork.service);
        if listed.contains_key(&service) {
            asked.problems.push(format!("`spec.forks` lists {} twice: the first counts", fork.service));
            continue;
        }
        let id = ForkId { namespace: &asked.name.namespace, key, service };
        let mut claim = Claim {
            id,
            source: asked.id(),
            created: asked.object.meta.created,
            means: Means::Awaited,
            terms: ForkTerms::default(),
            repository: asked.object.spec.repository.as_deref().map(Box::from),
            preview: Some(asked.name),
            refusal: None,
            rivals: Vec::new(),
        };
        claim.means = means(index, fork, &mut claim, asked.name);
        listed.insert(service, claim);
    }
    listed.into_values().collect()
}

fn means<'a>(index: &Index<'a>, fork: &'a ForkSpec, claim: &mut Claim<'a>, preview: &'a Name) -> Means<'a> {
    match (&fork.endpoints_from, &fork.clone) {
        (Some(_), Some(_)) => {
            let why = "it has both `endpointsFrom` and `clone`: a fork is either deployed already or cloned";
            claim.refuse(ForkState::Invalid, why);
            Means::Awaited
        }
        (None, Some(clone)) => Means::Clone(clone),
        (None, None) => Means::Awaited,
        (Some(from), None) => {
            let name = Name::new(&preview.namespace, from);
            if (&*name.namespace, &*name.name) == claim.id.service {
                let why = "`endpointsFrom` names the Service itself: its baseline is no fork";
                claim.refuse(ForkState::Invalid, why);
                return Means::Awaited;
            }
            match index.world.services.get_key_value(&name) {
                Some((name, service)) if !service.external => Means::Service(name, service),
                Some(_) => {
                    claim.refuse(ForkState::Invalid, "`endpointsFrom` names a Service of type ExternalName");
                    Means::NoSource(from)
                }
                None => Means::NoSource(from),
            }
        }
    }
}

/// The API of a kind of workload.
pub(super) const fn api_version(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::ReplicaSet => "apps/v1",
        WorkloadKind::Rollout => "argoproj.io/v1alpha1",
    }
}
