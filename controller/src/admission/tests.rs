//! What is refused at the door.

use serde_json::{Value, json};

use super::*;
use crate::world::{Name, Service};

fn settings() -> Settings {
    Settings {
        domains: vec!["preview.example.com".into()],
        url_scheme: "https".into(),
        url_port: None,
        host_prefix: "pr-".into(),
        http_ports: vec![80],
        https_ports: vec![443],
        addresses: Vec::new(),
        warn_before: std::time::Duration::from_secs(3600),
        waypoints: None,
        sidecars: false,
    }
}

/// The Service `checkout`, which selects `app: checkout`.
fn world() -> World {
    let mut world = World::default();
    put(&mut world, Name::new("shop", "checkout"), observe::service(service("checkout")), |_: &Service| {
        Ok(true)
    })
    .unwrap();
    world
}

fn service(app: &str) -> k8s_openapi::api::core::v1::Service {
    serde_json::from_value(json!({
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "s1"},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap()
}

fn fork(app: &str, key: &str) -> Value {
    let labels = json!({"app": app, "sidetrack.dev/pr": key, "sidetrack.dev/fork-of": "checkout"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout-42", "uid": "d1"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}}},
    })
}

/// The verdict on an object in the namespace `shop`: why it is refused.
fn verdict(world: &World, operation: &str, object: &Value) -> Option<String> {
    let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
    let kind = object["kind"].as_str().unwrap();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "r1", "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": "things"}, "namespace": "shop",
            "operation": operation, "userInfo": {"username": "ci"}, "object": object,
        },
    });
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let answer = review_of(world, now, review);
    let response = answer.response.unwrap();
    assert_eq!(response.uid, "r1");
    assert_eq!(response.result.code == 403, !response.allowed);
    (!response.allowed).then_some(response.result.message)
}

fn review_of(world: &World, now: Timestamp, asked: Value) -> AdmissionReview<DynamicObject> {
    review(world.clone(), &settings(), now, serde_json::from_value(asked).unwrap())
}

#[test]
fn a_fork_that_a_baseline_service_selects_is_refused_whatever_comes_second() {
    let why = verdict(&world(), "CREATE", &fork("checkout", "42")).unwrap();
    assert!(why.contains("Service shop/checkout") && why.contains("app=checkout"), "{why}");
    assert_eq!(verdict(&world(), "CREATE", &fork("checkout-42", "42")), None);

    let mut with_fork = world();
    let mut deployed = fork("checkout-42", "42");
    deployed["metadata"]["namespace"] = json!("shop");
    let deployed = observe::deployment(serde_json::from_value(deployed).unwrap());
    put(&mut with_fork, (WorkloadKind::Deployment, Name::new("shop", "checkout-42")), deployed, |_| Ok(true))
        .unwrap();
    let mut edit = serde_json::to_value(service("checkout-42")).unwrap();
    assert!(verdict(&with_fork, "UPDATE", &edit).unwrap().contains("checkout-42"));
    edit["spec"]["selector"] = json!({"app": "checkout", "tier": "web"});
    assert_eq!(verdict(&with_fork, "UPDATE", &edit), None);
}

#[test]
fn a_leak_that_is_there_already_is_not_held_against_another_object() {
    let mut leaking = world();
    let mut deployed = fork("checkout", "42");
    deployed["metadata"]["namespace"] = json!("shop");
    let deployed = observe::deployment(serde_json::from_value(deployed).unwrap());
    put(&mut leaking, (WorkloadKind::Deployment, Name::new("shop", "checkout-42")), deployed, |_| Ok(true))
        .unwrap();
    let mut other = fork("checkout-57", "57");
    other["metadata"] = json!({"name": "checkout-57", "uid": "d2"});
    assert_eq!(verdict(&leaking, "CREATE", &other), None);
}

#[test]
fn a_key_that_is_none_is_refused_with_the_place_of_it() {
    let why = verdict(&world(), "CREATE", &fork("checkout-42", "42--7")).unwrap();
    assert!(why.starts_with("label sidetrack.dev/pr: "), "{why}");
    let preview = |spec: Value| json!({"apiVersion": "sidetrack.dev/v1alpha1", "kind": "Preview", "metadata": {"name": "p"}, "spec": spec});
    assert!(verdict(&world(), "CREATE", &preview(json!({"key": "-"}))).unwrap().starts_with("spec.key: "));
    let parents = json!({"key": "42", "parents": ["57", "a_b"]});
    assert!(verdict(&world(), "CREATE", &preview(parents)).unwrap().starts_with("spec.parents: "));
    assert_eq!(verdict(&world(), "CREATE", &preview(json!({"key": "42"}))), None);
}

#[test]
fn what_is_no_fork_or_no_write_is_let_through() {
    let mut plain = fork("checkout", "42");
    plain["spec"]["template"]["metadata"]["labels"] = json!({"app": "checkout"});
    assert_eq!(verdict(&world(), "CREATE", &plain), None);
    assert_eq!(verdict(&world(), "DELETE", &fork("checkout", "42")), None);
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(verdict(&world(), "CREATE", &config), None);
}

#[test]
fn before_the_cluster_is_known_there_is_no_answer() {
    let world = SharedWorld::default();
    assert_eq!(answer(&world, &settings(), false, &Bytes::from_static(b"{}")), Bytes::new());
    let text = answer(&world, &settings(), true, &Bytes::from_static(b"{}"));
    let refused: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(refused["response"]["allowed"], false);
}
