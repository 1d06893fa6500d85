//! Labels, annotations and names that are part of the contract.

/// Label of a pod: the key that it is a fork for.
pub const PR: &str = "sidetrack.dev/pr";
/// Label of a pod: the Service that it is a fork of.
pub const FORK_OF: &str = "sidetrack.dev/fork-of";
/// Label of a pod: the namespace of that Service, where it is another one.
pub const FORK_OF_NAMESPACE: &str = "sidetrack.dev/fork-of-namespace";
/// Annotation of a Service or a Namespace: the namespaces that may fork it, joined by `,`; `*`: all.
pub const ALLOW_FORKS_FROM: &str = "sidetrack.dev/allow-forks-from";
/// Annotation: how long the preview lives, `72h`.
pub const TTL: &str = "sidetrack.dev/ttl";
/// Annotation: keys of parents, joined by `,`.
pub const PARENTS: &str = "sidetrack.dev/parents";
/// Annotation: other names, joined by `,`.
pub const ALIASES: &str = "sidetrack.dev/aliases";
/// Annotation: `fail`, `baseline` or `hold`.
pub const ON_FORK_DOWN: &str = "sidetrack.dev/on-fork-down";
/// Annotation: the repository of the change.
pub const REPOSITORY: &str = "sidetrack.dev/repository";
/// Annotation: its branch.
pub const BRANCH: &str = "sidetrack.dev/branch";
/// Annotation: its commit.
pub const COMMIT: &str = "sidetrack.dev/commit";
/// Label or annotation of a Preview or a fork: its TTL does not count.
pub const KEEP: &str = "sidetrack.dev/keep";
/// Label of what the controller cloned: the uid of the Preview.
pub const PREVIEW_UID: &str = "sidetrack.dev/preview-uid";
/// Label of what the controller cloned: the name of the Preview.
pub const PREVIEW: &str = "sidetrack.dev/preview";
/// Annotation of a Deployment that no Service selects: it may be cloned all the same.
pub const CLONE_WORKER: &str = "sidetrack.dev/clone-worker";
/// Annotation of a clone: the hash of what it was made from and with, so that a change is seen.
pub const CLONE_HASH: &str = "sidetrack.dev/clone-hash";
/// Annotation of a Service that a waypoint is in front of: what it was before, see [`crate::interposed::Original`].
pub const ORIGINAL: &str = "sidetrack.dev/original";
/// Label of `SERVICE-baseline`: the Service that it stands for.
pub const BASELINE_OF: &str = "sidetrack.dev/baseline-of";
/// Annotation of `SERVICE-baseline`: the waypoints' port for each port of the Service, JSON.
pub const WAYPOINT_PORTS: &str = "sidetrack.dev/waypoint-ports";
/// Annotation of `SERVICE-baseline`: how often a waypoint was put in front of the Service, and when last, JSON.
pub const TURNED: &str = "sidetrack.dev/turned";
/// Annotation of `SERVICE-baseline`: since when no waypoint is ready that the Service could point to.
pub const UNSERVED_SINCE: &str = "sidetrack.dev/unserved-since";
/// Annotation of what the controller made for waypoints: since when nothing needs it.
pub const IDLE_SINCE: &str = "sidetrack.dev/idle-since";
/// Label of the waypoints of a namespace and of all that belongs to them, with the value `true`. Annotation of a Service:
/// `false` keeps waypoints away from it, `always` keeps them in front of it, `true` lets them though it is reached from
/// outside.
pub const WAYPOINT: &str = "sidetrack.dev/waypoint";
/// Annotation of the ConfigMap `sidetrack-state`: until when no waypoint may be in front of anything.
pub const TAKE_DOWN_UNTIL: &str = "sidetrack.dev/take-down-until";
/// Annotation of the waypoints' Deployment: the hash of all that was made with it.
pub const WAYPOINT_HASH: &str = "sidetrack.dev/waypoint-hash";
/// The waypoints of a namespace: their Deployment, ServiceAccount and `app.kubernetes.io/name`.
pub const WAYPOINT_NAME: &str = "sidetrack-waypoint";
/// Prefix of all of ours.
pub const PREFIX: &str = "sidetrack.dev/";
/// The field manager of everything that the controller writes.
pub const MANAGER: &str = "sidetrack-controller";
/// The controller name of the GatewayClass and the Ingress class.
pub const CONTROLLER: &str = "sidetrack.dev/gateway";
/// The class of Ingresses that are ours.
pub const INGRESS_CLASS: &str = "sidetrack";
/// What a clone finds its key under, in its environment.
pub const ENV_KEY: &str = "SIDETRACK_KEY";
/// What a clone finds the name of its Service under.
pub const ENV_SERVICE: &str = "SIDETRACK_SERVICE";
/// Label of a Namespace, label or annotation of a pod: `true` asks for a sidecar, `false` at a pod declines it.
pub const INJECT: &str = "sidetrack.dev/inject";
/// Annotation of a pod that was given a sidecar: the hash of what it was given.
pub const INJECTED: &str = "sidetrack.dev/injected";
/// Annotation of a pod: `redirect` (the default) or `ports`.
pub const INJECT_MODE: &str = "sidetrack.dev/inject-mode";
/// Annotation of a pod: ports of it that go past the sidecar, joined by `,`.
pub const INJECT_EXCLUDE_INBOUND: &str = "sidetrack.dev/inject-exclude-inbound";
/// Annotation of a pod: ports elsewhere that it calls past the sidecar, joined by `,`.
pub const INJECT_EXCLUDE_OUTBOUND: &str = "sidetrack.dev/inject-exclude-outbound";
/// Annotation of a pod in mode `ports`: where its app listens.
pub const APP_PORT: &str = "sidetrack.dev/app-port";
