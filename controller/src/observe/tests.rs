//! What of an object becomes a fact.

use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::world::TargetPort;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn named(mut value: Value) -> Value {
    value["metadata"]["name"] = json!("checkout");
    value["metadata"]["namespace"] = json!("shop");
    value
}

#[test]
fn metadata_keeps_labels_and_our_annotations_only() {
    let written: ObjectMeta = object(json!({
        "name": "checkout", "namespace": "shop", "uid": "u1", "generation": 3, "creationTimestamp": "2026-11-20T10:00:00Z",
        "labels": {"app": "checkout"},
        "annotations": {"sidetrack.dev/ttl": "72h", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "o1"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "b", "uid": "o2", "controller": true},
        ],
        "deletionTimestamp": "2026-11-20T11:00:00Z",
    }));
    let fact = meta(&written);
    assert_eq!(name(&written), Name::new("shop", "checkout"));
    assert_eq!((&*fact.uid, fact.generation, fact.deleting), ("u1", 3, true));
    assert_eq!(fact.created, "2026-11-20T10:00:00Z".parse().unwrap());
    assert_eq!(fact.labels, BTreeMap::from([("app".into(), "checkout".into())]));
    assert_eq!(fact.annotations, BTreeMap::from([("sidetrack.dev/ttl".into(), "72h".into())]));
    assert_eq!(fact.owner, Some(("ReplicaSet".into(), "o2".into())));
}

#[test]
fn what_changes_with_every_write_is_no_part_of_a_fact() {
    let at = |version: &str, manager: &str| {
        let value = json!({"metadata": {"resourceVersion": version, "managedFields": [{"manager": manager}]}, "spec": {}});
        service(object(named(value))).unwrap()
    };
    assert_eq!(at("1", "kubectl"), at("2", "helm"));
}

#[test]
fn a_service_has_its_ports_as_they_are_meant() {
    let value = named(json!({"spec": {"selector": {"app": "checkout"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "kubernetes.io/h2c"},
        {"name": "admin", "port": 9901},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
    ]}}));
    let fact = service(object(value)).unwrap();
    let ports: Vec<_> =
        fact.ports.iter().map(|port| (&*port.name, port.port, port.target.clone(), port.is_tcp)).collect();
    assert_eq!(
        ports,
        [
            ("http", 80, TargetPort::Name("web".into()), true),
            ("admin", 9901, TargetPort::Number(9901), true),
            ("dns", 53, TargetPort::Number(5353), false),
        ]
    );
    assert_eq!(fact.ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    assert!(!fact.external);
    assert!(service(object(named(json!({"spec": {"type": "ExternalName"}})))).unwrap().external);
}

fn endpoints(value: Value) -> Vec<bool> {
    let value = named(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "checkout"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": value,
    }));
    slice(object(value)).unwrap().endpoints.iter().map(|endpoint| endpoint.ready).collect()
}

#[test]
fn an_endpoint_is_ready_where_it_does_not_say_otherwise_and_is_not_on_its_way_out() {
    let one = |conditions: Value| endpoints(json!([{"addresses": ["10.0.0.1"], "conditions": conditions}]));
    assert_eq!(one(json!({})), [true]);
    assert_eq!(one(json!({"ready": true})), [true]);
    assert_eq!(one(json!({"ready": false})), [false]);
    assert_eq!(one(json!({"ready": true, "terminating": true})), [false]);
    assert_eq!(endpoints(json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["no address"]}])), [true]);
}

#[test]
fn a_slice_of_names_or_of_no_service_is_none() {
    let names = named(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "checkout"}}, "addressType": "FQDN", "endpoints": [],
    }));
    assert_eq!(slice(object(names)), None);
    assert_eq!(slice(object(named(json!({"addressType": "IPv4", "endpoints": []})))), None);
}

#[test]
fn a_pod_that_is_being_deleted_is_not_ready() {
    let value = |deleted: Value| {
        named(json!({
            "metadata": {"labels": {"sidetrack.dev/pr": "42"}, "deletionTimestamp": deleted},
            "spec": {"containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]},
        }))
    };
    let fact = pod(object(value(Value::Null))).unwrap();
    assert_eq!((fact.ip, fact.ready), (Some("10.0.0.9".parse().unwrap()), true));
    assert_eq!(fact.ports, [("http".into(), 8080)]);
    assert!(!pod(object(value(json!("2026-11-20T11:00:00Z")))).unwrap().ready);
}

#[test]
fn a_pod_that_has_ended_has_no_address_any_more() {
    for (phase, has_address) in [("Running", true), ("Succeeded", false), ("Failed", false)] {
        let value = named(json!({
            "metadata": {"labels": {"sidetrack.dev/pr": "42"}},
            "spec": {"containers": []},
            "status": {"podIP": "10.0.0.9", "phase": phase},
        }));
        assert_eq!(pod(object(value)).unwrap().ip.is_some(), has_address, "{phase}");
    }
}

fn deployment_with(labels: Value, object_labels: Value) -> Workload {
    let value = named(json!({
        "metadata": {"labels": object_labels, "resourceVersion": "9",
            "annotations": {"deployment.kubernetes.io/revision": "4", "team": "a"}},
        "spec": {"replicas": 2, "selector": {}, "template": {"metadata": {"labels": labels}}},
        "status": {"readyReplicas": 1},
    }));
    deployment(object(value)).unwrap()
}

#[test]
fn the_manifest_is_kept_of_what_may_be_cloned_and_of_clones() {
    let baseline = deployment_with(json!({"app": "checkout"}), json!({}));
    assert_eq!((baseline.replicas, baseline.ready_replicas), (2, 1));
    let manifest = baseline.manifest.unwrap();
    assert_eq!(manifest["kind"], "Deployment");
    assert_eq!(manifest["metadata"]["annotations"], json!({"team": "a"}));
    assert_eq!(manifest["metadata"].get("resourceVersion"), None);
    assert_eq!(manifest["spec"]["replicas"], 2);
    assert!(deployment_with(json!({"sidetrack.dev/pr": "42"}), json!({})).manifest.is_none());
    let clone = deployment_with(json!({"sidetrack.dev/pr": "42"}), json!({"sidetrack.dev/preview-uid": "u"}));
    assert!(clone.manifest.is_some());
}

#[test]
fn a_rollout_is_over_when_the_new_pods_alone_stand_for_it() {
    let updating = |generation: i64, status: Value| {
        let spec = json!({"replicas": 2, "selector": {}, "template": {}});
        let value = named(json!({"metadata": {"generation": generation}, "spec": spec, "status": status}));
        deployment(object(value)).unwrap().updating
    };
    let done = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1});
    assert!(!updating(3, done.clone()));
    assert!(updating(4, done), "nobody has looked at it since");
    assert!(
        updating(3, json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 2})),
        "an old one is left"
    );
    assert!(
        updating(3, json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 1})),
        "a new one is missing"
    );
    assert!(!updating(3, json!({})));
}

#[test]
fn a_replica_set_that_is_owned_is_none() {
    let bare = json!({"spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "a"}}}}});
    assert!(replica_set(object(named(bare.clone()))).is_some());
    let mut owned = named(bare);
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "u", "controller": true}]);
    assert!(replica_set(object(owned)).is_none());
}

#[test]
fn a_rollout_is_read_without_its_pods_spec() {
    let value = named(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "spec": {"replicas": 3, "strategy": {"canary": {}}, "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"x": 1}}},
        "status": {"readyReplicas": 2, "canary": {}},
    }));
    let fact = rollout(object(value)).unwrap();
    assert_eq!((fact.replicas, fact.ready_replicas), (3, 2));
    assert_eq!(fact.pod_labels, BTreeMap::from([("app".into(), "a".into())]));
}

#[test]
fn one_custom_object_that_cannot_be_read_is_left_out() {
    let read = |spec: Value| {
        let value =
            named(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": spec}));
        http_route(object::<DynamicObject>(value))
    };
    assert!(read(json!({"hostnames": ["a.example.com"], "newField": {}})).is_some());
    assert!(read(json!({"rules": [{"backendRefs": [{"name": "a", "weight": -1}]}]})).is_none());
}

#[test]
fn a_preview_with_a_status_of_another_version_keeps_its_spec() {
    let value = named(json!({
        "apiVersion": "sidetrack.dev/v1alpha1", "kind": "Preview", "spec": {"key": "42"}, "status": {"phase": "Unheard"},
    }));
    let fact = preview(object::<DynamicObject>(value)).unwrap();
    assert_eq!((fact.spec.key.as_str(), fact.status), ("42", None));
}

#[test]
fn a_secret_needs_both_halves_as_text() {
    let read = |data: Value| secret(object(named(json!({"type": "kubernetes.io/tls", "data": data}))));
    let fact = read(json!({"tls.crt": "Y2VydA==", "tls.key": "a2V5"})).unwrap();
    assert_eq!((&*fact.chain, &*fact.key), ("cert", "key"));
    assert!(!format!("{fact:?}").contains("key:"), "a key is never printed");
    assert_eq!(read(json!({"tls.crt": "Y2VydA=="})), None);
    assert_eq!(read(json!({"tls.crt": "Y2VydA==", "tls.key": "/w=="})), None);
}

#[test]
fn an_ingress_has_its_class_from_either_place() {
    let read = |value: Value| ingress(object(named(value))).unwrap().class;
    let old = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "sidetrack"}}, "spec": {}});
    assert_eq!(read(old).as_deref(), Some("sidetrack"));
    assert_eq!(read(json!({"spec": {"ingressClassName": "nginx"}})).as_deref(), Some("nginx"));
    assert_eq!(read(json!({"spec": {}})), None);
}
