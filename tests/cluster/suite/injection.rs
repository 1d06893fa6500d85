//! Injection: who asks for a sidecar is given one, and no pod waits for it.

use std::sync::Arc;

use serde_json::{Value, json};
use sidetrack_cluster_tests::{Cluster, Estate, Install, Space, deployment};
use sidetrack_tests::{eventually, get};

use crate::forks::from;

const PROXY: &str = "sidetrack-proxy";

/// A pod as somebody writes it.
fn pod(name: &str, labels: &Value) -> Value {
    let container =
        json!({"name": "app", "image": "shop:main", "ports": [{"containerPort": 8080, "name": "http"}]});
    json!({"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}})
}

/// The namespace `name`, whose pods are given sidecars.
async fn labelled(estate: &Estate, name: &str) -> Space {
    let space = estate.space(name).await;
    let label = json!({"metadata": {"labels": {"sidetrack.dev/inject": "true"}}});
    space.kube.patch("Namespace", "", name, label).await;
    space
}

/// The containers of a list of a pod, with this name.
fn named<'a>(pod: &'a Value, list: &str, name: &str) -> Vec<&'a Value> {
    pod["spec"][list].as_array().into_iter().flatten().filter(|one| one["name"] == name).collect()
}

fn env<'a>(container: &'a Value, variable: &str) -> Option<&'a str> {
    let all = container["env"].as_array()?;
    all.iter().find(|entry| entry["name"] == variable)?["value"].as_str()
}

/// Makes pods until the controller and the API server know what was made before them; the one that fits.
async fn until(space: &Space, what: &str, labels: Value, fits: impl Fn(&Value) -> bool) -> Value {
    let (mut count, mut found) = (0, None);
    eventually(what, async || {
        count += 1;
        let made = space.create(pod(&format!("probe-{count}"), &labels)).await;
        found = fits(&made).then_some(made);
        found.is_some()
    })
    .await;
    found.unwrap()
}

fn is_given(pod: &Value) -> bool {
    !named(pod, "containers", PROXY).is_empty()
}

pub(crate) async fn a_pod_of_a_labelled_namespace_is_given_one_sidecar(estate: Arc<Estate>) {
    estate.release().await;
    let space = labelled(&estate, "inject").await;
    space.service("shop").await;
    let knows = |pod: &Value| {
        named(pod, "containers", PROXY)
            .first()
            .is_some_and(|proxy| env(proxy, "SIDETRACK_SERVICE") == Some("shop.inject"))
    };
    until(&space, "the Service is known", json!({"app": "shop"}), knows).await;
    // As it is in life: by a controller of Kubernetes, which changes no pod afterwards.
    space.create(deployment("shop", "shop:main", &json!({"app": "shop", "tier": "web"}))).await;
    let mut made = None;
    eventually("the pod of a Deployment is there", async || {
        let pods = space.pods("shop").await;
        made = pods.into_iter().find(|pod| pod["metadata"]["labels"]["tier"] == "web");
        made.is_some()
    })
    .await;
    let made = made.unwrap();
    let proxies = named(&made, "containers", PROXY);
    assert_eq!((proxies.len(), named(&made, "initContainers", "sidetrack-init").len()), (1, 1), "{made}");
    // This API server knows no init containers that go on, and would drop the field: the pod would never start.
    assert_eq!(made["spec"]["containers"][0]["name"], PROXY);
    assert!(named(&made, "initContainers", PROXY).is_empty());
    // The account's own token came into our container after us, which had the webhook asked again.
    let mounts = proxies[0]["volumeMounts"].to_string();
    assert!(mounts.contains("/var/run/secrets/kubernetes.io/serviceaccount"), "{mounts}");
    let volumes = made["spec"]["volumes"].as_array().unwrap();
    assert_eq!(volumes.iter().filter(|volume| volume["name"] == "sidetrack-identity").count(), 1);
    let annotations = &made["metadata"]["annotations"];
    assert!(annotations["sidetrack.dev/injected"].is_string(), "{annotations}");
    assert!(annotations["sidetrack.dev/controller-ca"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(proxies[0]["image"], "ghcr.io/sidetrack-dev/sidetrack:0.1.0");
    assert_eq!(
        named(&made, "initContainers", "sidetrack-init")[0]["image"],
        "ghcr.io/sidetrack-dev/sidetrack-init:0.1.0"
    );
}

pub(crate) async fn who_declines_or_can_not_have_one_is_made_without(estate: Arc<Estate>) {
    estate.release().await;
    let space = labelled(&estate, "decline").await;
    until(&space, "the namespace's label counts", json!({"app": "shop"}), is_given).await;
    let made = space.create(pod("declines", &json!({"sidetrack.dev/inject": "false"}))).await;
    assert!(!is_given(&made), "{made}");
    let mut declines = pod("declines-too", &json!({"app": "shop"}));
    declines["metadata"]["annotations"] = json!({"sidetrack.dev/inject": "false"});
    assert!(!is_given(&space.create(declines).await));

    let mut on_node = pod("on-node", &json!({"app": "shop"}));
    on_node["apiVersion"] = json!("v1");
    on_node["metadata"]["namespace"] = json!("decline");
    on_node["spec"]["hostNetwork"] = json!(true);
    let file = estate.cluster.folder().join("on-node.json");
    std::fs::write(&file, on_node.to_string()).unwrap();
    let (good, said) = estate.cluster.kubectl(&["create", "-f", file.to_str().unwrap()]);
    assert!(
        good && said.contains("sidetrack: without a sidecar: ") && said.contains("hostNetwork"),
        "{said}"
    );
    assert!(!is_given(&space.kube.get("Pod", "decline", "on-node").await.unwrap()));

    // Nobody asks for this one.
    let quiet = estate.space("quiet").await;
    assert!(!is_given(&quiet.create(pod("quiet", &json!({"app": "shop"}))).await));
}

pub(crate) async fn a_fork_is_told_its_key_and_its_service(estate: Arc<Estate>) {
    estate.release().await;
    let space = estate.space("told").await;
    space.service("shop").await;
    // It asks by itself, in a namespace that does not.
    let labels = json!({"app": "shop-pr-1901", "sidetrack.dev/pr": "1901", "sidetrack.dev/fork-of": "shop",
        "sidetrack.dev/inject": "true"});
    let made = space.create(pod("shop-pr-1901", &labels)).await;
    let proxy = named(&made, "containers", PROXY)[0];
    assert_eq!(env(proxy, "SIDETRACK_KEY"), Some("1901"));
    assert_eq!(env(proxy, "SIDETRACK_SERVICE"), Some("shop.told"));
    let app = named(&made, "containers", "app")[0];
    assert_eq!((env(app, "SIDETRACK_KEY"), env(app, "SIDETRACK_SERVICE")), (Some("1901"), Some("shop")));
}

/// The Service's endpoints are the sidecar's port, without a word of the Service being changed.
pub(crate) async fn mode_ports_takes_the_port_of_the_service(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, labelled(&estate, "swap").await);
    let spec = json!({"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": "http"}]});
    space.create(json!({"kind": "Service", "metadata": {"name": "shop"}, "spec": spec})).await;
    let knows = |pod: &Value| {
        named(pod, "containers", PROXY)
            .first()
            .is_some_and(|proxy| env(proxy, "SIDETRACK_SERVICE") == Some("shop.swap"))
    };
    until(&space, "the Service is known", json!({"app": "shop", "tier": "probe"}), knows).await;
    for pod in space.pods("shop").await {
        space.kube.delete("Pod", "swap", pod["metadata"]["name"].as_str().unwrap()).await;
    }
    let mut swapped = deployment("shop", "shop:main", &json!({"app": "shop"}));
    swapped["spec"]["template"]["metadata"]["annotations"] = json!({"sidetrack.dev/inject-mode": "ports"});
    space.create(swapped).await;
    eventually("the endpoints are the sidecar's", async || {
        let slices = space.kube.list("EndpointSlice", "swap").await;
        let ports: Vec<&Value> =
            slices.iter().filter_map(|slice| slice["ports"].as_array()).flatten().collect();
        ports.len() == 1 && ports[0]["port"] == 15006
    })
    .await;
    let host = "swap.preview.example.com";
    space.route("shop", host, &[("shop", 1)]).await;
    release.until("requests come by that port", || get(host, "/"), from("shop:main")).await;
    let pods = space.pods("shop").await;
    let proxy = named(&pods[0], "containers", PROXY)[0];
    assert_eq!(env(proxy, "SIDETRACK_APP_PORT"), Some("8080"));
    assert!(named(&pods[0], "initContainers", "sidetrack-init").is_empty());
    assert_eq!(
        env(named(&pods[0], "containers", "app")[0], "SIDETRACK_OUTBOUND"),
        Some("http://127.0.0.1:15001")
    );
}

pub(crate) async fn without_a_controller_pods_are_made_all_the_same(_: Arc<Estate>) {
    let cluster = Cluster::start();
    let space = Space::new(&cluster, "alone").await;
    let install = Install::with(&cluster, &["sidecar.inject.enabled=true"]).await;
    let labels = json!({"app": "shop", "sidetrack.dev/inject": "true"});
    assert!(!is_given(&space.create(pod("before", &labels)).await));
    let mut controller = install.controller().await;
    until(&space, "a controller injects", labels.clone(), is_given).await;
    controller.process.kill();
    assert!(!is_given(&space.create(pod("after", &labels)).await));
}
