//! Whether a pod is to have a sidecar, and how.

use std::collections::BTreeSet;

use super::pod::name;
use super::{Asked, PROXY};
use crate::names::{INJECT, INJECT_EXCLUDE_INBOUND, INJECT_EXCLUDE_OUTBOUND, INJECT_MODE, WAYPOINT};
use crate::world::Name;

/// The most ports of an annotation.
const MAX_PORTS: usize = 64;
/// The label by which Kubernetes refuses pods of a namespace that ask for privileges.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce";

/// Sidecars of meshes, which redirect a pod's traffic by rules of their own.
const MESHES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// How the pod's traffic comes by the sidecar.
#[derive(Debug, PartialEq)]
pub(super) enum Mode {
    /// By rules that an init container makes, but for these ports.
    Redirect(Excluded),
    /// By the port that the Service means, and by a variable that says where to call.
    Ports,
}

/// Ports that are left alone.
#[derive(Debug, PartialEq)]
pub(super) struct Excluded {
    pub(super) inbound: BTreeSet<u16>,
    pub(super) outbound: BTreeSet<u16>,
}

/// What a pod asks for; `None`: nothing, or it has it.
pub(super) fn mode(asked: &Asked<'_>) -> Result<Option<Mode>, String> {
    let has_it = |container| name(container) == Some(PROXY);
    // A proxy beside a proxy helps nobody.
    let is_ours = asked.namespace == "kube-system"
        || asked.namespace == &*asked.settings.namespace
        || asked.pod.label(WAYPOINT).is_some();
    let mut all = asked.pod.containers().chain(asked.pod.init_containers());
    if is_ours || all.any(has_it) || is_declined(asked)? {
        return Ok(None);
    }
    if asked.pod.spec("hostNetwork").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(
            "the pod is on the network of its node (hostNetwork), whose traffic is not its own".to_owned()
        );
    }
    let selected = asked.pod.spec("nodeSelector").and_then(|labels| labels.get("kubernetes.io/os"));
    let system = asked.pod.0.pointer("/spec/os/name").or(selected);
    if system.is_some_and(|system| system == "windows") {
        return Err("the pod is for Windows".to_owned());
    }
    let ends = asked.pod.spec("restartPolicy").is_some_and(|policy| policy != "Always");
    if ends && !asked.native {
        let why = "the pod is to end by itself (restartPolicy), and before Kubernetes 1.29 a sidecar would keep it from that";
        return Err(why.to_owned());
    }
    match asked.pod.annotation(INJECT_MODE).unwrap_or(&asked.settings.mode) {
        "ports" => Ok(Some(Mode::Ports)),
        "redirect" => redirect(asked).map(Some),
        other => Err(format!("annotation {INJECT_MODE}: {other:?} is neither redirect nor ports")),
    }
}

/// Whether the pod wants none. That it or its namespace asks is the reason why we are asked: the API server has read their
/// labels, which we may have seen a moment ago only.
fn is_declined(asked: &Asked<'_>) -> Result<bool, String> {
    let mut declined = false;
    for text in [asked.pod.label(INJECT), asked.pod.annotation(INJECT)].into_iter().flatten() {
        match text {
            "true" => {}
            "false" => declined = true,
            other => return Err(format!("{INJECT}: {other:?} is neither \"true\" nor \"false\"")),
        }
    }
    Ok(declined)
}

fn redirect(asked: &Asked<'_>) -> Result<Mode, String> {
    let mut all = asked.pod.containers().chain(asked.pod.init_containers()).filter_map(name);
    if let Some(mesh) = all.find(|name| MESHES.contains(name)) {
        return Err(format!(
            "the pod's traffic is redirected to {mesh} already: let waypoints route, or annotate the pod `{INJECT_MODE}: ports`"
        ));
    }
    let namespace = asked.world.namespaces.get(&Name::new("", asked.namespace));
    let labelled = namespace.and_then(|known| known.meta.labels.get(ENFORCED));
    let level = labelled.unwrap_or(&asked.settings.pod_security);
    if &**level != "privileged" {
        let by = if labelled.is_some() { ENFORCED } else { "by the cluster's default" };
        return Err(format!(
            "namespace {} allows no NET_ADMIN ({by}: {level}): annotate the pod `{INJECT_MODE}: ports`",
            asked.namespace
        ));
    }
    Ok(Mode::Redirect(Excluded {
        inbound: ports(asked, INJECT_EXCLUDE_INBOUND)?,
        outbound: ports(asked, INJECT_EXCLUDE_OUTBOUND)?,
    }))
}

/// The ports of an annotation, joined by `,`.
fn ports(asked: &Asked<'_>, annotation: &str) -> Result<BTreeSet<u16>, String> {
    let text = asked.pod.annotation(annotation).unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let ports: Result<BTreeSet<u16>, String> = words.map(|word| port(annotation, word)).collect();
    let ports = ports?;
    match ports.len() > MAX_PORTS {
        true => Err(format!("annotation {annotation}: more than {MAX_PORTS} ports")),
        false => Ok(ports),
    }
}

/// A port that an annotation says.
pub(super) fn port(annotation: &str, text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("annotation {annotation}: {text:?} is no port"))
}
