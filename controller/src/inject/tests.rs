//! Who is given a sidecar, and what that is.

mod modes;
mod properties;
mod reviews;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::observe;
use crate::world::Name;

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn settings() -> Settings {
    Settings {
        image: "sidetrack:1".into(),
        init_image: "sidetrack-init:1".into(),
        controller: "https://sidetrack-controller.sidetrack.svc:8443".into(),
        ca_file: "ca.crt".into(),
        audience: "sidetrack-controller".into(),
        resources: json!({"requests": {"cpu": "10m", "memory": "32Mi"}}),
        settings: json!({"domains": ["preview.example.com"]}),
        namespace: "sidetrack".into(),
        host_prefix: "pr-".into(),
        mode: "redirect".into(),
        pod_security: "privileged".into(),
    }
}

/// The namespace `shop`, and in it the Service `checkout` of `app: checkout`, which sends to the port `http`.
fn world() -> World {
    let mut world = World::default();
    put_namespace(&mut world, "shop", json!({}));
    put_service(&mut world, "checkout", json!({"app": "checkout"}), json!("http"));
    world
}

fn put_namespace(world: &mut World, name: &str, labels: Value) {
    let object = json!({"metadata": {"name": name, "labels": labels}});
    let namespace = observe::namespace(serde_json::from_value(object).unwrap()).unwrap();
    world.namespaces.insert(Name::new("", name), Arc::new(namespace));
}

fn put_service(world: &mut World, name: &str, selector: Value, target: Value) {
    let object = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": target}]},
    });
    let service = observe::service(serde_json::from_value(object).unwrap()).unwrap();
    world.services.insert(Name::new("shop", name), Arc::new(service));
}

/// A pod as an API server sends it, before it has a name.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "checkout-", "labels": {"app": "checkout"}},
        "spec": {
            "initContainers": [{"name": "migrate", "image": "checkout:main"}],
            "containers": [{
                "name": "app", "image": "checkout:main", "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
                "livenessProbe": {"tcpSocket": {"port": 8080}},
            }],
            "restartPolicy": "Always",
        },
    })
}

fn fork() -> Value {
    let mut pod = pod();
    pod["metadata"]["labels"] =
        json!({"app": "checkout-pr-42", "sidetrack.dev/pr": "pr-42", "sidetrack.dev/fork-of": "checkout"});
    pod
}

/// The pod with an annotation of ours.
fn with(mut pod: Value, name: &str, value: &str) -> Value {
    pod["metadata"]["annotations"][format!("sidetrack.dev/{name}")] = json!(value);
    pod
}

fn verdict(world: &World, pod: &Value, native: bool) -> Verdict {
    let settings = settings();
    Asked { pod: Pod(pod), namespace: "shop", world, settings: &settings, native, ca: CA }.verdict()
}

#[track_caller]
fn injected(world: &World, pod: &Value, native: bool) -> Value {
    match verdict(world, pod, native) {
        Verdict::Inject(pod, warnings) => {
            assert_eq!(warnings, Vec::<String>::new());
            *pod
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(world: &World, pod: &Value, native: bool) -> String {
    match verdict(world, pod, native) {
        Verdict::Refuse(why) => why,
        other => panic!("{other:?}"),
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|part| part["name"].as_str().unwrap()).collect()
}

/// The value of a variable of a container; `None` where it has none of the name.
fn env<'a>(container: &'a Value, variable: &str) -> Option<&'a str> {
    let all = container["env"].as_array().into_iter().flatten();
    all.clone().find(|entry| entry["name"] == variable).and_then(|entry| entry["value"].as_str())
}

fn proxy(pod: &Value) -> &Value {
    let all =
        ["initContainers", "containers"].iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    all.clone().find(|container| container["name"] == PROXY).unwrap()
}

/// Compares with `golden/NAME`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, pod: &Value) {
    let text = format!("{pod:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inject/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == written, "{}: UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[test]
fn what_is_injected_is_what_a_person_has_read() {
    golden("native.json", &injected(&world(), &pod(), true));
    golden("plain.json", &injected(&world(), &pod(), false));
    golden("fork.json", &injected(&world(), &fork(), true));
    golden("ports.json", &injected(&world(), &with(pod(), "inject-mode", "ports"), true));
}

#[test]
fn the_order_leaves_no_call_without_a_sidecar_that_runs() {
    let native = injected(&world(), &pod(), true);
    assert_eq!(names(&native["spec"]["initContainers"]), [INIT, PROXY, "migrate"]);
    assert_eq!(names(&native["spec"]["containers"]), ["app"]);
    assert_eq!(proxy(&native)["restartPolicy"], "Always");
    let plain = injected(&world(), &pod(), false);
    assert_eq!(names(&plain["spec"]["initContainers"]), ["migrate", INIT]);
    assert_eq!(names(&plain["spec"]["containers"]), [PROXY, "app"]);
    assert!(proxy(&plain)["restartPolicy"].is_null());
    assert_eq!(plain["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "app");
}

#[test]
fn a_pod_declines_by_one_word() {
    let labelled = |value: &str| {
        let mut pod = pod();
        pod["metadata"]["labels"]["sidetrack.dev/inject"] = json!(value);
        pod
    };
    for (pod, given) in [
        (pod(), true),
        (labelled("true"), true),
        (labelled("false"), false),
        (with(pod(), "inject", "false"), false),
        (with(labelled("true"), "inject", "false"), false),
        (with(labelled("false"), "inject", "true"), false),
    ] {
        assert_eq!(matches!(verdict(&world(), &pod, true), Verdict::Inject(..)), given, "{pod}");
    }
    assert!(refused(&world(), &labelled("yes"), true).contains("\"yes\" is neither"));
}

#[test]
fn who_is_never_given_one() {
    let (world, settings) = (world(), settings());
    for namespace in ["kube-system", "sidetrack"] {
        let pod = with(pod(), "inject", "true");
        let asked =
            Asked { pod: Pod(&pod), namespace, world: &world, settings: &settings, native: true, ca: CA };
        assert_eq!(asked.verdict(), Verdict::Leave, "{namespace}");
    }
    let mut own = pod();
    own["metadata"]["labels"]["sidetrack.dev/waypoint"] = json!("true");
    assert_eq!(verdict(&world, &own, true), Verdict::Leave);
    let mut on_node = pod();
    on_node["spec"]["hostNetwork"] = json!(true);
    assert!(refused(&world, &on_node, true).contains("hostNetwork"));
    let mut windows = pod();
    windows["spec"]["os"] = json!({"name": "windows"});
    assert!(refused(&world, &windows, true).contains("Windows"));
    let mut windows = pod();
    windows["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
    assert!(refused(&world, &windows, true).contains("Windows"));
    let mut job = pod();
    job["spec"]["restartPolicy"] = json!("Never");
    assert!(refused(&world, &job, false).contains("end by itself"));
    assert!(matches!(verdict(&world, &job, true), Verdict::Inject(..)));
}

/// A pod that Kubernetes would refuse with our container is better made without.
#[test]
fn a_namespace_that_allows_no_privilege_gets_mode_ports_or_nothing() {
    let mut world = world();
    let strict = |level: &str| json!({"pod-security.kubernetes.io/enforce": level});
    for level in ["baseline", "restricted"] {
        put_namespace(&mut world, "shop", strict(level));
        assert!(refused(&world, &pod(), true).contains("inject-mode: ports"), "{level}");
        injected(&world, &with(pod(), "inject-mode", "ports"), true);
    }
    put_namespace(&mut world, "shop", strict("privileged"));
    injected(&world, &pod(), true);
}

/// Two that redirect would take each other's traffic, and what comes in may be the mesh's own TLS.
#[test]
fn a_pod_of_a_mesh_is_not_redirected_twice() {
    for list in ["containers", "initContainers"] {
        let mut meshed = pod();
        pod::push(&mut meshed, &format!("/spec/{list}"), json!({"name": "istio-proxy"}));
        assert!(refused(&world(), &meshed, true).contains("redirected to istio-proxy"));
        injected(&world(), &with(meshed, "inject-mode", "ports"), true);
    }
}

#[test]
fn a_sidecar_knows_its_services_and_its_key() {
    let mut world = world();
    put_service(&mut world, "all", json!({"app": "checkout"}), json!(8080));
    put_service(&mut world, "other", json!({"app": "cart"}), json!(8080));
    put_service(&mut world, "manual", json!({}), json!(8080));
    let baseline = injected(&world, &pod(), true);
    assert_eq!(env(proxy(&baseline), "SIDETRACK_SERVICE"), Some("all.shop,checkout.shop"));
    assert_eq!(env(proxy(&baseline), "SIDETRACK_KEY"), None);
    assert_eq!(env(&baseline["spec"]["containers"][0], "SIDETRACK_KEY"), None);

    let forked = injected(&world, &fork(), true);
    assert_eq!(env(proxy(&forked), "SIDETRACK_SERVICE"), Some("checkout.shop"));
    assert_eq!(env(proxy(&forked), "SIDETRACK_KEY"), Some("42"));
    for container in [&forked["spec"]["containers"][0], &forked["spec"]["initContainers"][2]] {
        assert_eq!(env(container, "SIDETRACK_KEY"), Some("42"));
        assert_eq!(env(container, "SIDETRACK_SERVICE"), Some("checkout"));
    }
    let mut elsewhere = fork();
    elsewhere["metadata"]["labels"]["sidetrack.dev/fork-of-namespace"] = json!("store");
    assert_eq!(env(proxy(&injected(&world, &elsewhere, true)), "SIDETRACK_SERVICE"), Some("checkout.store"));
    let mut bad = fork();
    bad["metadata"]["labels"]["sidetrack.dev/pr"] = json!("a--b");
    assert!(refused(&world, &bad, true).starts_with("label sidetrack.dev/pr: "));
}

/// What stands for a Service while a waypoint is in front of it selects the same pods, and is no service.
#[test]
fn a_stand_in_is_no_service() {
    let mut world = world();
    put_service(&mut world, "checkout-baseline", json!({"app": "checkout"}), json!(8080));
    let labelled = Arc::make_mut(world.services.get_mut(&Name::new("shop", "checkout-baseline")).unwrap());
    labelled.meta.labels.insert("sidetrack.dev/baseline-of".into(), "checkout".into());
    let redirected = injected(&world, &pod(), true);
    assert_eq!(env(proxy(&redirected), "SIDETRACK_SERVICE"), Some("checkout.shop"));
    injected(&world, &with(pod(), "inject-mode", "ports"), true);
}

#[test]
fn a_container_with_the_sidecars_user_is_told() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": containers::USER});
    let Verdict::Inject(_, warnings) = verdict(&world(), &pod, true) else { panic!() };
    assert!(warnings[0].contains("its calls are not redirected"), "{warnings:?}");
}
