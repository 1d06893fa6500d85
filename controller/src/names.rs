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
