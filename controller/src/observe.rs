//! Step two: from an object as the API server gives it to a fact of the [`World`]. Pure functions, one for each kind;
//! what is not needed is dropped here, `managedFields` first.
//!
//! An object that can't be read gives `None`, as if it were not there: one bad object must not hide the others.

mod core;
mod custom;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::core::{ingress, namespace, pod, secret, service, slice, waypoint};
pub use self::custom::{gateway, gateway_class, http_route, preview, reference_grant};
pub use self::workloads::{deployment, replica_set, rollout, stateful_set};
use crate::names;
use crate::world::{
    Gateway, GatewayClass, HttpRoute, Ingress, Labels, Meta, Name, Namespace, Pod, Preview, ReferenceGrant,
    Service, Slice, TlsSecret, WaypointPod, Workload, WorkloadKind, World,
};

/// A kind of fact, and where the world keeps it.
pub trait Fact: Sized + PartialEq + Send + Sync + 'static {
    /// What tells one from another.
    type Id: Ord + Clone + Send + Sync + 'static;

    /// All facts of the kind.
    fn all(world: &mut World) -> &mut BTreeMap<Self::Id, Arc<Self>>;
}

macro_rules! facts {
    ($($kind:ty => $id:ty, $field:ident;)*) => {$(
        impl Fact for $kind {
            type Id = $id;

            fn all(world: &mut World) -> &mut BTreeMap<Self::Id, Arc<Self>> {
                &mut world.$field
            }
        }
    )*};
}

facts! {
    Namespace => Name, namespaces;
    Service => Name, services;
    Slice => Name, slices;
    Pod => Name, pods;
    WaypointPod => Name, waypoints;
    Workload => (WorkloadKind, Name), workloads;
    Preview => Name, previews;
    GatewayClass => Name, gateway_classes;
    Gateway => Name, gateways;
    HttpRoute => Name, http_routes;
    ReferenceGrant => Name, reference_grants;
    Ingress => Name, ingresses;
    TlsSecret => Name, secrets;
}

/// Namespace and name.
pub fn name(meta: &ObjectMeta) -> Name {
    Name::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// What every object has.
pub fn meta(meta: &ObjectMeta) -> Meta {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Meta {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        generation: meta.generation.unwrap_or_default(),
        labels: labels(meta.labels.as_ref()),
        annotations: ours(meta.annotations.as_ref()),
        deleting: meta.deletion_timestamp.is_some(),
        owner: owner.map(|owner| (owner.kind.as_str().into(), owner.uid.as_str().into())),
    }
}

/// All of them.
fn labels(written: Option<&BTreeMap<String, String>>) -> Labels {
    let pairs = written.into_iter().flatten();
    pairs.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

/// Those that are ours: others' annotations may be large (`last-applied-configuration`).
fn ours(written: Option<&BTreeMap<String, String>>) -> Labels {
    let pairs = written.into_iter().flatten().filter(|(name, _)| name.starts_with(names::PREFIX));
    pairs.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

#[cfg(test)]
mod tests;
