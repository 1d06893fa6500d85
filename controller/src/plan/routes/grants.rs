//! ReferenceGrants: an object may refer to one in another namespace only where that namespace says so.

use crate::world::{Name, World};

/// Who refers: group, kind and namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'a> {
    /// Its API group.
    pub(super) group: &'a str,
    /// Its kind.
    pub(super) kind: &'a str,
    /// Its namespace.
    pub(super) namespace: &'a str,
}

/// Whether `from` may refer to the object `to` of a `kind` of the core group.
pub(super) fn allow(world: &World, from: From<'_>, kind: &str, to: &Name) -> bool {
    if from.namespace == &*to.namespace {
        return true;
    }
    world
        .reference_grants
        .range(Name::new(&to.namespace, "")..)
        .take_while(|(name, _)| name.namespace == to.namespace)
        .filter(|(_, grant)| !grant.meta.deleting)
        .any(|(_, grant)| {
            let is_from = grant.spec.from.iter().any(|allowed| {
                allowed.group == from.group
                    && allowed.kind == from.kind
                    && allowed.namespace == from.namespace
            });
            is_from
                && grant.spec.to.iter().any(|allowed| {
                    let is_name =
                        allowed.name.as_deref().is_none_or(|name| name.is_empty() || *name == *to.name);
                    allowed.group.is_empty() && allowed.kind == kind && is_name
                })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::routes::tests::{grant, world};

    fn allowed(from: Value, to: Value) -> bool {
        let world = world([grant("back/g", from, to)]);
        let from = From { group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "front" };
        allow(&world, from, "Service", &Name::new("back", "api"))
    }

    #[test]
    fn each_part_of_a_grant_counts() {
        let from = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "front"}]);
        let to = json!([{"group": "", "kind": "Service"}]);
        assert!(allowed(from.clone(), to.clone()));
        assert!(allowed(from.clone(), json!([{"kind": "Service", "name": "api"}])));
        for other in [
            json!([{"kind": "Service", "name": "other"}]),
            json!([{"kind": "Secret"}]),
            json!([{"group": "example.com", "kind": "Service"}]),
            json!([]),
        ] {
            assert!(!allowed(from.clone(), other.clone()), "{other}");
        }
        for other in [
            json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "elsewhere"}]),
            json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "front"}]),
            json!([{"group": "", "kind": "HTTPRoute", "namespace": "front"}]),
            json!([]),
        ] {
            assert!(!allowed(other.clone(), to.clone()), "{other}");
        }
    }

    #[test]
    fn a_grant_is_good_for_its_own_namespace_only() {
        let from = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "front"}]);
        let world = world([grant("elsewhere/g", from, json!([{"kind": "Service"}]))]);
        let from = From { group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "front" };
        assert!(!allow(&world, from, "Service", &Name::new("back", "api")));
        assert!(allow(&world, from, "Service", &Name::new("front", "api")), "its own namespace needs none");
    }
}
