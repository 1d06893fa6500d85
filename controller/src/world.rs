//! What the cluster says, as plain facts: all that [`crate::plan`] reads. No type of a Kubernetes library is in here,
//! so that a property test can make a cluster up.
//!
//! One map for each kind of object, by namespace and name. A fact holds what planning needs and nothing else: a
//! thousand Deployments must not fill the memory of a small controller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sidetrack_config::Key;
use sidetrack_config::stream::OnForkDown;

use crate::gateway_api::{GatewayClassSpec, GatewaySpec, HttpRouteSpec, ReferenceGrantSpec};
use crate::interposed::{Front, Unfit};
use crate::preview::{PreviewSpec, PreviewStatus};

/// Labels or annotations.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// Namespace and name of an object; the namespace of what is in none is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name in it.
    pub name: Box<str>,
}

impl Name {
    /// The object `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Unique in the cluster and for all time.
    pub uid: Box<str>,
    /// When it was made; the Unix epoch where it does not say.
    pub created: Timestamp,
    /// Counts changes of its spec.
    pub generation: i64,
    /// Its labels.
    pub labels: Labels,
    /// Those annotations that are ours (`sidetrack.dev/`).
    pub annotations: Labels,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The controller that owns it: kind and uid.
    pub owner: Option<(Box<str>, Box<str>)>,
}

/// The cluster. Facts are shared, so that handing the world to a planning thread copies no object.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Namespaces, by name with an empty namespace.
    pub namespaces: Objects<Namespace>,
    /// Services.
    pub services: Objects<Service>,
    /// EndpointSlices.
    pub slices: Objects<Slice>,
    /// Pods that carry [`crate::names::PR`].
    pub pods: Objects<Pod>,
    /// Pods of waypoints: those that carry [`crate::names::WAYPOINT`].
    pub waypoints: Objects<WaypointPod>,
    /// Deployments, StatefulSets, Argo Rollouts, and ReplicaSets that nobody owns; by kind first, since two kinds may
    /// share a name.
    pub workloads: BTreeMap<(WorkloadKind, Name), Arc<Workload>>,
    /// `Preview` objects.
    pub previews: Objects<Preview>,
    /// GatewayClasses.
    pub gateway_classes: Objects<GatewayClass>,
    /// Gateways.
    pub gateways: Objects<Gateway>,
    /// HTTPRoutes.
    pub http_routes: Objects<HttpRoute>,
    /// ReferenceGrants.
    pub reference_grants: Objects<ReferenceGrant>,
    /// Ingresses.
    pub ingresses: Objects<Ingress>,
    /// Secrets of type `kubernetes.io/tls`.
    pub secrets: Objects<TlsSecret>,
    /// Keys that ended within the last seven days, and when: kept by the controller in a ConfigMap of its own.
    pub gone: BTreeMap<Key, Timestamp>,
    /// When each key without a `Preview` object first appeared, kept in the same place: what its TTL counts from.
    pub seen: BTreeMap<Key, Timestamp>,
    /// Until when no waypoint may be in front of anything, by who removes the release; kept there, too.
    pub take_down_until: Option<Timestamp>,
}

/// Objects of one kind.
pub type Objects<T> = BTreeMap<Name, Arc<T>>;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// As every object; [`crate::names::ALLOW_FORKS_FROM`] may be among its annotations or labels.
    pub meta: Meta,
}

/// A Service. Where a waypoint is in front of it, its ports and its selector are as they were before, and `front` says
/// what points to waypoints in fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// As every object.
    pub meta: Meta,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Which pods it selects; empty: none, its endpoints are somebody else's business.
    pub selector: Labels,
    /// Whether it is of type `ExternalName`, which has no endpoints.
    pub external: bool,
    /// Its addresses; none where it is headless.
    pub addresses: Vec<IpAddr>,
    /// `ipFamilyPolicy`, as written.
    pub family_policy: Option<Box<str>>,
    /// `ipFamilies`: those that its endpoints have. Empty where the API server knows none.
    pub families: Vec<Box<str>>,
    /// Whether somebody applies it server-side without a word about `targetPort`.
    pub targets_unsaid: bool,
    /// What in its spec keeps waypoints away from it.
    pub unfit: Option<Unfit>,
    /// What of it points to waypoints.
    pub front: Front,
}

impl Service {
    /// Whether its endpoints may have such an address.
    pub fn has_family(&self, address: IpAddr) -> bool {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        self.families.is_empty() || self.families.iter().any(|one| &**one == family)
    }
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the Service has one port and no name for it.
    pub name: Box<str>,
    /// Its number.
    pub port: u16,
    /// The number or name of the pod's port.
    pub target: TargetPort,
    /// `appProtocol`, as written.
    pub app_protocol: Option<Box<str>>,
    /// Whether it is TCP; others are nothing to us.
    pub is_tcp: bool,
    /// The port of waypoints that it points to in fact.
    pub turned: Option<u16>,
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that a container gives it.
    Name(Box<str>),
}

impl Default for TargetPort {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// An EndpointSlice of IPv4 or IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// As every object.
    pub meta: Meta,
    /// The Service that it is of, from its label.
    pub service: Box<str>,
    /// Name and number of its ports.
    pub ports: Vec<(Box<str>, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its first address, which the specification says stands for all.
    pub address: IpAddr,
    /// Whether it is ready; `None` in the object counts as ready.
    pub ready: bool,
    /// The pod that it is, where it says so.
    pub pod: Option<Box<str>>,
}

/// A pod that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// As every object.
    pub meta: Meta,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// Whether its condition `Ready` is true and it is not being deleted.
    pub ready: bool,
    /// Name and number of the ports of its containers.
    pub ports: Vec<(Box<str>, u16)>,
}

/// A pod of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaypointPod {
    /// As every object.
    pub meta: Meta,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// Whether its condition `Ready` is true and it is not being deleted.
    pub ready: bool,
}

/// What makes pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` ReplicaSet that nobody owns.
    ReplicaSet,
    /// `argoproj.io/v1alpha1` Rollout.
    Rollout,
}

impl WorkloadKind {
    /// Its `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Rollout => "Rollout",
        }
    }
}

/// What makes pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// As every object.
    pub meta: Meta,
    /// The labels of its pods.
    pub pod_labels: Labels,
    /// The annotations of its pods that are ours.
    pub pod_annotations: Labels,
    /// How many pods it should have.
    pub replicas: i32,
    /// How many are ready.
    pub ready_replicas: i32,
    /// Whether pods of an older template still stand for it, or it was not looked at since it changed.
    pub updating: bool,
    /// Its whole spec and metadata as JSON, kept only where a clone is made of it or it is a clone of ours; see
    /// [`crate::observe`].
    pub manifest: Option<Arc<serde_json::Value>>,
}

/// A `Preview` object.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// As every object.
    pub meta: Meta,
    /// What it asks for.
    pub spec: PreviewSpec,
    /// What was last said about it.
    pub status: Option<PreviewStatus>,
}

/// A GatewayClass.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayClass {
    /// As every object.
    pub meta: Meta,
    /// Whose it is.
    pub spec: GatewayClassSpec,
    /// Its conditions as they stand.
    pub status: serde_json::Value,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// As every object.
    pub meta: Meta,
    /// Its listeners.
    pub spec: GatewaySpec,
    /// Its status as it stands.
    pub status: serde_json::Value,
}

/// An HTTPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    /// As every object.
    pub meta: Meta,
    /// Its rules.
    pub spec: HttpRouteSpec,
    /// Its status as it stands: other controllers' parents in it are not ours to change.
    pub status: serde_json::Value,
}

/// A ReferenceGrant.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceGrant {
    /// As every object.
    pub meta: Meta,
    /// Who may refer to what.
    pub spec: ReferenceGrantSpec,
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// As every object.
    pub meta: Meta,
    /// `ingressClassName`, or what the old annotation says.
    pub class: Option<Box<str>>,
    /// Its spec.
    pub spec: k8s_openapi::api::networking::v1::IngressSpec,
    /// Its status as it stands.
    pub status: serde_json::Value,
}

/// A Secret with a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSecret {
    /// As every object.
    pub meta: Meta,
    /// `tls.crt`, PEM.
    pub chain: Box<str>,
    /// `tls.key`, PEM.
    pub key: Box<str>,
}

impl std::fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSecret").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// The settings that labels and annotations of a fork may give its preview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkSettings {
    /// How long it lives.
    pub ttl: Option<Duration>,
    /// Its parents.
    pub parents: Vec<Key>,
    /// Its aliases.
    pub aliases: Vec<Key>,
    /// What happens when it is down.
    pub on_fork_down: Option<OnForkDown>,
    /// Where its code is.
    pub repository: Option<Box<str>>,
    /// Of which branch.
    pub branch: Option<Box<str>>,
    /// Of which commit.
    pub commit: Option<Box<str>>,
}
