//! The object `Preview`: what a team puts into Git, and what the controller says about it.
//!
//! The patterns and limits of its schema work on every API server; the rules in CEL besides them from 1.25 on, and an
//! older one drops them when the CRD is created (`kubectl apply --server-side` of it fails there). What they forbid, the
//! plan refuses too.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes a hidden copy of each type")]

mod page;

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::page::page;

/// What a pull request has in the shared cluster: the services that it changed, and how long they stay.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sidetrack.dev",
    version = "v1alpha1",
    kind = "Preview",
    plural = "previews",
    shortname = "pv",
    namespaced,
    status = "PreviewStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Key","type":"string","jsonPath":".spec.key"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.expires"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
// Only the tests evaluate the rules: the interpreter stays out of the binary.
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.parents) || !(self.key in self.parents)")
        .message("a preview is no parent of its own: take its key out of parents"),
    validation = Rule::new("!has(self.aliases) || !(self.key in self.aliases)")
        .message("an alias that is the key says nothing: take it out of aliases")
)]
pub struct PreviewSpec {
    /// The routing key: what a request carries to reach the forks. Unique in the estate; lower case letters, digits
    /// and single hyphens, at most 40 characters, without the prefix `pr-`.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9]|-[a-z0-9]){0,39}$"), length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the key stays: make another Preview for another key"))]
    pub key: String,
    /// The repository of the change, for people and for conflicts: two repositories don't share a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub repository: Option<String>,
    /// The branch of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub branch: Option<String>,
    /// The number of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pull_request: Option<i64>,
    /// How long the preview lives from when it was made, as in `72h` or `3d`; without it: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]{1,6}(s|m|h|d|w))+$"), length(max = 32))]
    pub ttl: Option<String>,
    /// Keys of other previews whose forks serve where this one has none, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(regex(pattern = r"^[a-z0-9]([a-z0-9]|-[a-z0-9]){0,39}$")))]
    pub parents: Vec<String>,
    /// Other names of the key, each in its grammar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = r"^[a-z0-9]([a-z0-9]|-[a-z0-9]){0,39}$")))]
    pub aliases: Vec<String>,
    /// Exact host names that stand for this preview.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")))]
    pub hosts: Vec<String>,
    /// What a request gets whose fork is down.
    #[serde(default)]
    pub on_fork_down: OnForkDown,
    /// The services that the change touches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub forks: Vec<ForkSpec>,
}

/// What a request gets whose fork is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnForkDown {
    /// 503 `fork_unavailable`.
    #[default]
    Fail,
    /// The baseline's answer.
    Baseline,
    /// It waits for an endpoint, then fails.
    Hold,
}

/// A fork of one Service: deployed by somebody else, or cloned from the baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.endpointsFrom) && has(self.clone))")
        .message("a fork is deployed by somebody (endpointsFrom) or cloned (clone), not both"),
    validation = Rule::new("!has(self.clone) || !has(self.__namespace__)")
        .message("a clone is made where its Deployment is: make the Preview in that namespace")
)]
pub struct ForkSpec {
    /// The name of the Service that is forked.
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"), length(min = 1, max = 63))]
    pub service: String,
    /// The namespace of that Service, where it is another one; it must allow forks from here
    /// (`sidetrack.dev/allow-forks-from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The Service in the namespace of this object whose endpoints are the fork. Without this and without `clone`:
    /// the workloads that are labelled as this fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"), length(max = 63))]
    pub endpoints_from: Option<String>,
    /// Make the fork from the Deployment of the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<CloneSpec>,
}

/// How the clone differs from the Deployment that it is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloneSpec {
    /// The Deployment to clone; without it: the one whose pods the Service selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub deployment: Option<String>,
    /// The container that `image`, `env` and `args` are for; without it: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container: Option<String>,
    /// The image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,
    /// Environment variables to set, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The arguments, in place of the baseline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub args: Option<Vec<String>>,
    /// How many pods; without it: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
    /// A strategic merge patch of the Deployment, applied last. It can't give the pods labels that a Service selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub patch: Option<serde_json::Value>,
}

/// An object of any shape.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// What the controller says about a Preview.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Forks that are routed, of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The first of `urls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Links for a browser.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires: Option<Timestamp>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The table generation that holds what this says, once every gateway has acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_generation: Option<i64>,
    /// `Accepted` (the object itself can be used as it is), `Ready`, `Expiring`, and `Fork-SERVICE` for each fork, with
    /// `.NAMESPACE` where the Service is in another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a Preview stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Some fork is not ready yet.
    Pending,
    /// Every fork is routed.
    Ready,
    /// A fork is refused or in conflict: its condition says why.
    Degraded,
    /// Its TTL is over: nothing of it is routed.
    Expired,
}

/// One condition, as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When `status` last changed.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_transition_time: Timestamp,
    /// The generation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The CustomResourceDefinition, as JSON.
pub fn definition() -> Value {
    let mut definition = serde_json::to_value(Preview::crd()).unwrap_or_default();
    // The field exists for reading only, and an older API server complains about an empty one.
    if let Some(object) = definition.as_object_mut() {
        object.remove("status");
    }
    definition
}

#[cfg(test)]
mod tests;
