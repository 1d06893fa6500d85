//! The containers that are added, and the volume with what the sidecar shows and checks.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sidetrack_config::ports::{ADMIN, INBOUND, OUTBOUND};

use super::ports::Swap;
use super::wanted::{Excluded, Mode};
use super::{Asked, INIT, Identity, PROXY};
use crate::names::{ENV_KEY, ENV_SERVICE};

/// User and group of the sidecar, whose own calls are not redirected. Nobody else's: 65532, which the gateway runs as,
/// is what images without a shell run their apps as, and their calls would go past the sidecar unseen.
pub(super) const USER: u32 = 15006;
/// Where the sidecar's certificates of authorities are kept: no object of ours is in the namespaces of others, and what
/// a pod says of itself it can have as a file.
pub(super) const CA_ANNOTATION: &str = "sidetrack.dev/controller-ca";

const IDENTITY: &str = "sidetrack-identity";
const FOLDER: &str = "/var/run/sidetrack";
/// Where the last table outlives the container: one that is started again while no controller answers routes as before,
/// and its pod stays ready.
const STATE: &str = "sidetrack-state";
const STATE_FOLDER: &str = "/var/lib/sidetrack";
/// As much as waypoints may keep.
const STATE_SIZE: &str = "64Mi";

/// The sidecar.
pub(super) fn proxy(asked: &Asked<'_>, identity: &Identity, (mode, swap): (&Mode, Option<&Swap>)) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut env = vec![
        json!({"name": "POD_NAME", "valueFrom": field("metadata.name")}),
        json!({"name": "POD_IP", "valueFrom": field("status.podIP")}),
        json!({"name": ENV_SERVICE, "value": identity.services.join(",")}),
    ];
    env.extend(identity.key.as_ref().map(|key| json!({"name": ENV_KEY, "value": key})));
    let settings = &asked.settings.settings;
    if settings.as_object().is_some_and(|settings| !settings.is_empty()) {
        env.push(json!({"name": "SIDETRACK_SETTINGS", "value": settings.to_string()}));
    }
    let mut ports = vec![json!({"name": "sidetrack-admin", "containerPort": ADMIN, "protocol": "TCP"})];
    if *mode == Mode::Ports {
        env.push(json!({"name": "SIDETRACK_MODE", "value": "ports"}));
    }
    if let Some(swap) = swap {
        env.push(json!({"name": "SIDETRACK_INBOUND_PORT", "value": swap.listen.to_string()}));
        env.push(json!({"name": "SIDETRACK_APP_PORT", "value": swap.app.to_string()}));
        ports.push(json!({"containerPort": swap.listen, "protocol": "TCP"}));
    }
    let probe = |path: &str| json!({"path": path, "port": ADMIN, "scheme": "HTTP"});
    let mut container = json!({
        "name": PROXY,
        "image": asked.settings.image,
        "args": [
            "sidecar",
            format!("--controller={}", asked.settings.controller),
            format!("--controller-ca={FOLDER}/ca.crt"),
            format!("--controller-token={FOLDER}/token"),
            "--node=$(POD_NAME)",
            format!("--state-dir={STATE_FOLDER}"),
        ],
        "env": env,
        "ports": ports,
        "readinessProbe": {"httpGet": probe("/readyz"), "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {"httpGet": probe("/livez"), "periodSeconds": 10, "failureThreshold": 3},
        "resources": asked.settings.resources,
        "securityContext": {
            "runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": true, "privileged": false,
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": IDENTITY, "mountPath": FOLDER, "readOnly": true},
            {"name": STATE, "mountPath": STATE_FOLDER},
        ],
    });
    if let (true, Some(container)) = (asked.native, container.as_object_mut()) {
        // It ends after the app, and before it the other init containers don't begin. Alive is enough for that: while no
        // controller answers a pod must start all the same.
        container.insert("restartPolicy".to_owned(), json!("Always"));
        let started = json!({"httpGet": probe("/livez"), "periodSeconds": 1, "failureThreshold": 60});
        container.insert("startupProbe".to_owned(), started);
    }
    container
}

/// What redirects.
pub(super) fn init(asked: &Asked<'_>, excluded: &Excluded) -> Value {
    let mut args = vec![
        "init".to_owned(),
        format!("--inbound-port={INBOUND}"),
        format!("--outbound-port={OUTBOUND}"),
        format!("--uid={USER}"),
        format!("--gid={USER}"),
    ];
    let list = |ports: &BTreeSet<u16>| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    for (option, ports) in
        [("--exclude-inbound", &excluded.inbound), ("--exclude-outbound", &excluded.outbound)]
    {
        if !ports.is_empty() {
            args.push(format!("{option}={}", list(ports)));
        }
    }
    json!({
        "name": INIT,
        "image": asked.settings.init_image,
        "args": args,
        "resources": asked.settings.resources,
        // Root, also where the pod says that nobody in it is. Its files can be written: iptables has a lock among them.
        "securityContext": {
            "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// The sidecar's volumes.
pub(super) fn volumes(asked: &Asked<'_>) -> [Value; 2] {
    // In memory: a pod with a folder on its node's disk is one that autoscalers don't move.
    let state = json!({"name": STATE, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SIZE}});
    [identity(asked), state]
}

/// A token for the controller, and what its certificate is checked by. All may read it who have it mounted, which is the
/// sidecar: its user is not that of the pod's files.
fn identity(asked: &Asked<'_>) -> Value {
    let token = json!({"audience": asked.settings.audience, "path": "token", "expirationSeconds": 3600});
    let field = format!("metadata.annotations['{CA_ANNOTATION}']");
    let item = json!({"path": "ca.crt", "fieldRef": {"apiVersion": "v1", "fieldPath": field}});
    json!({
        "name": IDENTITY,
        "projected": {
            "defaultMode": 0o444,
            "sources": [{"serviceAccountToken": token}, {"downwardAPI": {"items": [item]}}],
        },
    })
}
