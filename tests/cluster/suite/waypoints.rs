//! Waypoints inside the cluster: real ones, made by the controller, with callers that do what kube-proxy does.

mod callers;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidetrack_cluster_tests::{Cluster, Controller, Estate, Install, Space, deployment};
use sidetrack_tests::{eventually, get};

use self::callers::Callers;

/// What a short test asks for.
const VALUES: [&str; 2] = ["waypoint.grace=3s", "waypoint.idle=2s"];
const SHOP: (&str, &str) = ("shop", "checkout");
const ORIGINAL: &str = "sidetrack.dev/original";

/// A release with waypoints, a controller, and the baseline `checkout` in `shop`.
struct Inside {
    install: Install,
    controller: Controller,
    /// The gateway, which nobody calls: `wait` waits for one.
    _gateway: sidetrack_tests::Gateway,
    space: Space,
    cluster: Cluster,
}

impl Inside {
    async fn start() -> Self {
        let cluster = Cluster::start();
        let install = Install::with(&cluster, &VALUES).await;
        let controller = started(&install).await;
        let gateway = install.gateway("gateway-0").await;
        let space = Space::new(&cluster, "shop").await;
        space.baseline("checkout").await;
        Self { install, controller, _gateway: gateway, space, cluster }
    }

    async fn service(&self, name: &str) -> Option<Value> {
        self.space.kube.get("Service", "shop", name).await
    }

    async fn is_turned(&self) -> bool {
        self.service("checkout").await.unwrap()["spec"]["selector"] == ours()
    }

    async fn has_waypoints(&self) -> bool {
        self.space.kube.get("Deployment", "shop", "sidetrack-waypoint").await.is_some()
    }

    /// Waits until the Service selects its pods again, or waypoints.
    async fn turned(&self, is: bool) {
        eventually(&format!("turned: {is}"), async || self.is_turned().await == is).await;
    }

    async fn ready(&self, key: &str) {
        let said = self.install.wait(key, Duration::from_secs(120)).await;
        assert_eq!(said.code, 0, "{said:?}\n{}", self.controller.process.stderr().join("\n"));
    }

    /// Kills the controller, as a crash would, and starts another one.
    async fn crash(&mut self) {
        self.controller.process.kill();
        self.install.withdraw(self.controller.address).await;
        self.controller = started(&self.install).await;
    }
}

async fn started(install: &Install) -> Controller {
    let controller = install.start_controller(&["--lease-duration", "3s"]).await;
    controller.ready().await;
    controller
}

/// In, out, and again, while calls come: those of a node that is quick and those of one that is a second late.
pub(crate) async fn they_come_and_go_without_a_failed_call(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let before = inside.service("checkout").await.unwrap();
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
    callers.called(200).await;
    for key in ["42", "43"] {
        let name = inside.space.fork("checkout", key).await;
        inside.ready(key).await;
        assert!(inside.is_turned().await, "ready means that calls inside reach it");
        for _ in 0..20 {
            callers.call(get("checkout", "/").key(key)).await.came_from(&format!("checkout:pr-{key}"));
            callers.call(get("checkout", "/")).await.came_from("checkout:main");
        }
        callers.called(200).await;
        inside.space.kube.delete("Deployment", "shop", &name).await;
        inside.turned(false).await;
        let after = inside.service("checkout").await.unwrap();
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(after["metadata"]["annotations"].get(ORIGINAL), None);
    }
    eventually("the companion is gone", async || inside.service("checkout-baseline").await.is_none()).await;
    eventually("the waypoints are gone", async || !inside.has_waypoints().await).await;
    for kind in ["ServiceAccount", "ConfigMap"] {
        let gone = async || inside.space.kube.get(kind, "shop", "sidetrack-waypoint").await.is_none();
        eventually("what belonged to them is gone", gone).await;
    }
    callers.called(100).await;
    let (through, all) = callers.end();
    println!("    {all} calls, {through} of them through a waypoint, none failed");
    assert!(through > 100 && all - through > 100, "{through} of {all}");
}

/// It dies when each thing that it does is seen, and whoever comes next goes on.
pub(crate) async fn the_controller_is_killed_at_each_step(_: Arc<Estate>) {
    let mut inside = Inside::start().await;
    let before = inside.service("checkout").await.unwrap();
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
    let name = inside.space.fork("checkout", "42").await;
    eventually("the companion is made", async || inside.service("checkout-baseline").await.is_some()).await;
    inside.crash().await;
    eventually("waypoints are made", async || inside.has_waypoints().await).await;
    inside.crash().await;
    let ready = json!(2);
    let kube = inside.space.kube.clone();
    kube.until("waypoints are ready", ("Deployment", "shop", "sidetrack-waypoint"), |waypoints| {
        waypoints["status"]["readyReplicas"] == ready
    })
    .await;
    inside.crash().await;
    inside.turned(true).await;
    inside.crash().await;
    inside.ready("42").await;
    callers.call(get("checkout", "/").key("42")).await.came_from("checkout:pr-42");
    callers.called(100).await;

    inside.space.kube.delete("Deployment", "shop", &name).await;
    inside.turned(false).await;
    inside.crash().await;
    let idle = |service: &Value| service["metadata"]["annotations"].get("sidetrack.dev/idle-since").is_some();
    eventually("the companion is idle or gone", async || {
        inside.service("checkout-baseline").await.as_ref().is_none_or(idle)
    })
    .await;
    inside.crash().await;
    eventually("the companion is gone", async || inside.service("checkout-baseline").await.is_none()).await;
    inside.crash().await;
    eventually("the waypoints are gone", async || !inside.has_waypoints().await).await;
    assert_eq!(inside.service("checkout").await.unwrap()["spec"], before["spec"]);
    callers.called(50).await;
    let (through, all) = callers.end();
    println!("    {all} calls, {through} of them through a waypoint, none failed");
}

/// Before Helm removes anything the hook has the Services put back, while forks are there, and no call fails.
pub(crate) async fn before_the_release_goes_every_service_is_put_back(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let before = inside.service("checkout").await.unwrap();
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    assert!(inside.is_turned().await);
    let mut removal = inside.install.begin_removal(&inside.cluster).await;
    assert!(removal.ended().await.success(), "{:?}", removal.stderr());
    let after = inside.service("checkout").await.unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"].get(ORIGINAL), None);
    assert!(!inside.has_waypoints().await && inside.service("checkout-baseline").await.is_none());
    // Helm needs a moment until it deletes the controller, which has a fork and must not turn the Service for it again.
    inside.space.fork("checkout", "43").await;
    callers.called(100).await;
    assert!(!inside.is_turned().await);
    callers.end();
    // A removal that was broken off is forgotten, here a little sooner than by itself.
    let past =
        json!({"metadata": {"annotations": {"sidetrack.dev/take-down-until": "2026-01-01T00:00:00Z"}}});
    inside.space.kube.patch("ConfigMap", "sidetrack", "sidetrack-state", past).await;
    inside.turned(true).await;
}

/// A GitOps tool writes what Git says, again and again, and no call notices.
pub(crate) async fn a_tool_that_puts_services_back_is_told(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    for keeps_note in [true, false, true] {
        let selector =
            json!({"app": "checkout", "app.kubernetes.io/name": null, "sidetrack.dev/waypoint": null});
        let ports = json!([{"port": 80, "targetPort": 8080, "protocol": "TCP"}]);
        let mut patch = json!({"spec": {"selector": selector, "ports": ports}});
        if !keeps_note {
            patch["metadata"] = json!({"annotations": {ORIGINAL: null}});
        }
        inside.space.kube.patch("Service", "shop", "checkout", patch).await;
        inside.turned(true).await;
        inside.ready("42").await;
        callers.call(get("checkout", "/").key("42")).await.came_from("checkout:pr-42");
    }
    inside.space.kube.told("shop", "checkout", "WaypointUndone").await;
    let note = inside.service("checkout").await.unwrap()["metadata"]["annotations"][ORIGINAL].clone();
    let note: Value = serde_json::from_str(note.as_str().unwrap()).unwrap();
    assert_eq!((&note["selector"], &note["turn"]), (&json!({"app": "checkout"}), &json!(4)));
    // A person's edit is no tool's: it is what the Service is from now on.
    inside.space.create(deployment("checkout-two", "checkout:two", &json!({"app": "checkout-two"}))).await;
    eventually("the other pods run", async || !inside.space.pods("checkout-two").await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    callers.end();
    let selector =
        json!({"app": "checkout-two", "app.kubernetes.io/name": null, "sidetrack.dev/waypoint": null});
    let ports = json!([{"port": 80, "targetPort": 8080, "protocol": "TCP"}]);
    let patch = json!({"spec": {"selector": selector, "ports": ports}});
    inside.space.kube.patch("Service", "shop", "checkout", patch).await;
    inside.turned(true).await;
    inside.ready("42").await;
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:two").await;
    callers.called(20).await;
    callers.end();
}

/// `kubectl apply` and all that merges as it does: the Service selects nothing for a moment. It is mended, and what it was
/// is not forgotten.
pub(crate) async fn tools_that_merge_are_answered_at_once(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let before = inside.service("checkout").await.unwrap()["spec"].clone();
    let spec = json!({"selector": {"app": "checkout"}, "ports": [{"port": 80, "targetPort": 8080}]});
    let meta = json!({"name": "checkout", "namespace": "shop"});
    let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec});
    let file = inside.cluster.folder().join("checkout.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let apply = || {
        let (done, said) = inside.cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
        assert!(done, "{said}");
    };
    apply();
    let name = inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    for _ in 0..2 {
        // Long enough ago, so that nothing but what is merged keeps it from being turned again at once.
        tokio::time::sleep(Duration::from_secs(5)).await;
        apply();
        let applied = std::time::Instant::now();
        let wanted = [json!({"app": "checkout"}), ours()];
        let selector = async || inside.service("checkout").await.unwrap()["spec"]["selector"].clone();
        eventually("it selects something", async || wanted.contains(&selector().await)).await;
        println!("    whole again {} ms after the apply", applied.elapsed().as_millis());
        inside.turned(true).await;
        inside.ready("42").await;
        let note = inside.service("checkout").await.unwrap()["metadata"]["annotations"][ORIGINAL].clone();
        let note: Value = serde_json::from_str(note.as_str().unwrap()).unwrap();
        assert_eq!(note["selector"], json!({"app": "checkout"}));
        let companion = inside.service("checkout-baseline").await.unwrap();
        assert_eq!(companion["spec"]["selector"], json!({"app": "checkout"}));
        let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
        callers.call(get("checkout", "/").key("42")).await.came_from("checkout:pr-42");
        callers.called(20).await;
        callers.end();
    }
    inside.space.kube.told("shop", "checkout", "WaypointUndone").await;
    inside.space.kube.delete("Deployment", "shop", &name).await;
    inside.turned(false).await;
    assert_eq!(inside.service("checkout").await.unwrap()["spec"], before);
}

/// No waypoint can run: the Service goes back to its own pods, which are as well as ever.
pub(crate) async fn without_waypoints_its_own_pods_serve(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let before = inside.service("checkout").await.unwrap()["spec"].clone();
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    let quota =
        json!({"kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    inside.space.create(quota).await;
    let kube = &inside.space.kube;
    kube.until("no pod may be made", ("ResourceQuota", "shop", "none"), |quota| {
        quota["status"]["used"]["pods"].is_string()
    })
    .await;
    for pod in kube.list("Pod", "shop").await {
        if pod["metadata"]["labels"]["sidetrack.dev/waypoint"] == "true" {
            kube.delete("Pod", "shop", pod["metadata"]["name"].as_str().unwrap()).await;
        }
    }
    inside.turned(false).await;
    assert_eq!(inside.service("checkout").await.unwrap()["spec"], before);
    inside.space.endpoints("checkout", 1).await;
    let callers = Callers::start(kube, SHOP, "checkout:main").await;
    callers.called(20).await;
    let said = inside.install.wait("42", Duration::from_secs(1)).await;
    assert!(said.code != 0 && said.stderr.contains("NotInterposed"), "{said:?}");
    kube.delete("ResourceQuota", "shop", "none").await;
    // What has failed so often waits long until it tries again; another one does not.
    for set in kube.list("ReplicaSet", "shop").await {
        if set["metadata"]["labels"]["sidetrack.dev/waypoint"] == "true" {
            kube.delete("ReplicaSet", "shop", set["metadata"]["name"].as_str().unwrap()).await;
        }
    }
    inside.turned(true).await;
    inside.ready("42").await;
    callers.call(get("checkout", "/").key("42")).await.came_from("checkout:pr-42");
    callers.called(20).await;
    callers.end();
}

/// A pool keeps connections that were opened before there was a waypoint, and they lead past it. Where the Service keeps
/// its waypoint, they reach a fork that comes later.
pub(crate) async fn connections_that_are_kept_need_a_waypoint_that_stays(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let callers = Callers::start(&inside.space.kube, SHOP, "checkout:main").await;
    let mut past = callers.connect().await;
    past.send(get("checkout", "/")).await.came_from("checkout:main");
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    past.send(get("checkout", "/").key("42")).await.came_from("checkout:main");
    callers.call(get("checkout", "/").key("42")).await.came_from("checkout:pr-42");
    inside.space.kube.delete("Deployment", "shop", "checkout-pr-42").await;
    inside.turned(false).await;
    // What the Service says, its EndpointSlices say later.
    callers.know(false).await;

    let always = json!({"metadata": {"annotations": {"sidetrack.dev/waypoint": "always"}}});
    inside.space.kube.patch("Service", "shop", "checkout", always).await;
    inside.turned(true).await;
    callers.know(true).await;
    let mut kept = callers.connect().await;
    kept.send(get("checkout", "/").key("43")).await.came_from("checkout:main");
    let name = inside.space.fork("checkout", "43").await;
    inside.ready("43").await;
    kept.send(get("checkout", "/").key("43")).await.came_from("checkout:pr-43");
    kept.send(get("checkout", "/")).await.came_from("checkout:main");
    inside.space.kube.delete("Deployment", "shop", &name).await;
    // Its pods go before the controller has heard of it, and are missed meanwhile.
    eventually("the fork has gone", async || {
        kept.send(get("checkout", "/").key("43")).await.header("x-upstream") == Some("checkout:main")
    })
    .await;
    assert!(inside.is_turned().await, "it stays");
    callers.end();
}

/// The Service for the baseline has both families, so that none of the Service's endpoints is missing in it.
pub(crate) async fn dual_stack_services_are_turned(_: Arc<Estate>) {
    let inside = Inside::start().await;
    let both = json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}});
    inside.space.kube.patch("Service", "shop", "checkout", both).await;
    // The node here has one family, and says of this pod that it has both.
    let pod = inside.space.pods("checkout").await.remove(0);
    let addresses = json!({"podIPs": [{"ip": pod["status"]["podIP"]}, {"ip": "fd00:99::1"}]});
    inside.space.kube.patch_status("Pod", "shop", pod["metadata"]["name"].as_str().unwrap(), addresses).await;
    inside.space.endpoints("checkout", 2).await;
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    assert!(inside.is_turned().await);
    let companion = inside.service("checkout-baseline").await.unwrap();
    assert_eq!(companion["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    inside.space.endpoints("checkout-baseline", 2).await;
}

/// What waypoints are selected by.
fn ours() -> Value {
    json!({"app.kubernetes.io/name": "sidetrack-waypoint", "sidetrack.dev/waypoint": "true"})
}

/// What can have no waypoint is told, and nobody waits for one.
pub(crate) async fn what_can_have_none_says_so(_: Arc<Estate>) {
    let inside = Inside::start().await;
    inside.space.create(deployment("db", "db:main", &json!({"app": "db"}))).await;
    let spec =
        json!({"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": 8080}]});
    inside.space.create(json!({"kind": "Service", "metadata": {"name": "db"}, "spec": spec.clone()})).await;
    let before = inside.service("db").await.unwrap();
    inside.space.fork("db", "42").await;
    inside.ready("42").await;
    inside.space.kube.told("shop", "db", "NotInterposed").await;
    assert_eq!(inside.service("db").await.unwrap()["spec"], before["spec"]);
    assert!(!inside.has_waypoints().await && inside.service("db-baseline").await.is_none());
}

/// While a Service selects waypoints, pods that it selected before are as much of a leak.
pub(crate) async fn the_guard_goes_by_what_the_service_was(_: Arc<Estate>) {
    let inside = Inside::start().await;
    inside.space.fork("checkout", "42").await;
    inside.ready("42").await;
    assert!(inside.is_turned().await);
    let labels = json!({"app": "checkout", "sidetrack.dev/pr": "43", "sidetrack.dev/fork-of": "checkout"});
    let mut wrong = deployment("leak", "checkout:pr-43", &labels);
    wrong["metadata"]["namespace"] = "shop".into();
    let (_, message) = inside.space.kube.try_create(&wrong).await.unwrap_err();
    assert!(message.contains("guard.sidetrack.dev") && message.contains("selects its pods"), "{message}");
    inside.space.unguard().await;
    eventually("the webhook is not asked", async || inside.space.kube.try_create(&wrong).await.is_ok()).await;
    inside.space.kube.told("shop", "leak", "Leaks").await;
    let said = inside.install.wait("43", Duration::from_secs(1)).await;
    assert!(said.code != 0 && said.stderr.contains("Leaks"), "{said:?}");
}
