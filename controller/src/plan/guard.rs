//! The guard: pods of a fork that a baseline Service selects would give every user a pull request. Judged by what the
//! cluster says now, so that a later edit of the Service is seen.

use super::claims::{Claim, Means, api_version};
use super::index::{ForkId, Index};
use super::{Notice, ObjectId, services};
use crate::names::{FORK_OF, PR};
use crate::world::{Labels, Name};

/// Why a fork can't be routed: the baseline Service that its pods are behind, and what to change.
pub(super) fn leak(index: &Index<'_>, claim: &Claim<'_>) -> Option<String> {
    let id = &claim.id;
    let own = match &claim.means {
        Means::Service(name, service) => {
            if let Some(why) = selected(index, id, &service.selector, Some(name)) {
                return Some(why);
            }
            if let Some(why) = shared_endpoint(index, claim, name) {
                return Some(why);
            }
            Some(*name)
        }
        Means::Workload(_, _, workload) => {
            if let Some(why) = selected(index, id, &workload.pod_labels, None) {
                return Some(why);
            }
            None
        }
        Means::Pods | Means::Clone(_) | Means::Awaited | Means::NoSource(_) => None,
    };
    let pods = index.pods(id).iter().filter(|(_, pod)| !pod.meta.deleting);
    // Pods of one template carry the same labels: those of the template were asked about already, and a pod is asked
    // about by itself only where it has others.
    pods.into_iter().find_map(|(_, pod)| selected(index, id, &pod.meta.labels, own))
}

/// The baseline Service in the fork's namespace that selects pods with `labels`.
pub(super) fn selected(
    index: &Index<'_>,
    id: &ForkId<'_>,
    labels: &Labels,
    own: Option<&Name>,
) -> Option<String> {
    let mut matching = index.selectors.matching(id.namespace, labels);
    let (name, service) =
        matching.find(|(name, service)| own != Some(*name) && !index.is_own(id, name, service))?;
    let selector: Vec<String> =
        service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(format!(
        "Service {name} ({}) selects its pods, so that requests without a key would reach it: change the labels of \
         the pods or the selector; if the Service is the fork's own, label it `{PR}: {}` and `{FORK_OF}: {}`",
        selector.join(","),
        id.key,
        id.service.1
    ))
}

/// Pods without labels of ours can be known by their addresses only.
fn shared_endpoint(index: &Index<'_>, claim: &Claim<'_>, own: &Name) -> Option<String> {
    let target = claim.service();
    let service = index.world.services.get(&target)?;
    let shared: Vec<_> =
        service.ports.iter().flat_map(|port| services::baseline(index, &target, port)).collect();
    // Two Services that waypoints are in front of have those in common, and nothing of theirs.
    let mut endpoints =
        index.slices(own).iter().flat_map(|slice| &slice.endpoints).filter(|one| !index.has_waypoint(one));
    let both = endpoints.find(|endpoint| shared.iter().any(|address| address.ip() == endpoint.address))?;
    Some(format!(
        "{} is an endpoint of Service {own} and of the baseline {target}, so that requests without a key would reach \
         the fork, or the fork is the baseline: change the selector of one of them",
        both.address
    ))
}

/// Why users reach pods that are meant for the fork `id` and don't carry its labels.
pub(super) fn unlabelled(index: &Index<'_>, id: &ForkId<'_>, labels: &Labels) -> Option<String> {
    let mut matching = index.selectors.matching(id.namespace, labels);
    let is_shared = |full| id.service == full || index.shared.contains(&full);
    let (name, _) = matching.find(|(name, _)| is_shared((&name.namespace, &name.name)))?;
    Some(format!(
        "Service {name} selects its pods, which do not carry `{PR}` and `{FORK_OF}`, so that requests without a key \
         reach them: change the labels under `spec.template`"
    ))
}

/// Says which workloads carry a key, are no fork, and are selected by a Service that users reach: the table leaves
/// their pods out, and the cluster's own balancing does not.
pub(super) fn strays(index: &Index<'_>, notices: &mut Vec<Notice>) {
    for ((kind, name), workload) in &index.world.workloads {
        let labels = &workload.pod_labels;
        let about = || ObjectId::new(api_version(*kind), kind.as_str(), name, &workload.meta.uid);
        if labels.contains_key(FORK_OF) && !labels.contains_key(PR) {
            let message =
                format!("its pods carry `{FORK_OF}` and not `{PR}`: label them with the key as well");
            let message = message.into();
            notices.push(Notice { about: about(), warning: true, reason: "ForkInvalid", message });
        }
        if !labels.contains_key(PR) || labels.contains_key(FORK_OF) {
            continue;
        }
        let mut matching = index.selectors.matching(&name.namespace, labels);
        let shared =
            matching.find(|(service, _)| index.shared.contains(&(&*service.namespace, &*service.name)));
        if let Some((service, _)) = shared {
            let message = format!(
                "its pods carry `{PR}` and Service {service} selects them: change their labels, or name the Service \
                 that they fork as `{FORK_OF}`"
            );
            let message = message.into();
            notices.push(Notice { about: about(), warning: true, reason: "Leaks", message });
        }
    }
}
