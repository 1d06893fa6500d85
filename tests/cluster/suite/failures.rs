//! What fails in a cluster, one thing at a time; each scenario has a cluster of its own to break.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidetrack_cluster_tests::{Cluster, Estate, Release, Space, until};
use sidetrack_tests::{Gateway, PATIENCE, eventually, get};

use crate::forks::from;
use crate::keyless::Keyless;

const HOST: &str = "shop.preview.example.com";

/// A cluster with a baseline and the fork of key 42, both routed.
async fn shop(controllers: usize) -> (Cluster, Release, Space) {
    let cluster = Cluster::start();
    let release = Release::new(&cluster, controllers).await;
    let space = Space::new(&cluster, "shop").await;
    space.baseline("shop").await;
    space.route("shop", HOST, &[("shop", 1)]).await;
    space.fork("shop", "42").await;
    release.until("the fork is routed", || get(HOST, "/").key("42"), from("shop:pr-42")).await;
    release.until("the baseline is routed", || get(HOST, "/"), from("shop:main")).await;
    (cluster, release, space)
}

/// The API server is away: nobody notices. It is back: what changes is seen again.
pub(crate) async fn the_api_server_is_killed_and_comes_back(_: Arc<Estate>) {
    let (cluster, release, space) = shop(2).await;
    let keyless = Keyless::start(release.gateway.address(), HOST, "shop:main");
    cluster.kill_api().await;
    for _ in 0..100 {
        release.gateway.send(get(HOST, "/").key("42")).await.came_from("shop:pr-42");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for controller in &release.controllers {
        assert_eq!(controller.page("/livez").await.unwrap().status, 200);
    }
    cluster.restart_api().await;
    space.fork("shop", "43").await;
    // Whoever makes pods has waited longer and longer between two tries, up to a minute; that is the cluster's time.
    tokio::time::timeout(4 * PATIENCE, async {
        while !has_ready_pods(&space, "shop-pr-43").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the cluster makes the pods of a fork");
    release.until("a new fork is routed", || get(HOST, "/").key("43"), from("shop:pr-43")).await;
    keyless.end().await;
}

async fn has_ready_pods(space: &Space, app: &str) -> bool {
    let pods = space.pods(app).await;
    !pods.is_empty() && pods.iter().all(is_ready)
}

fn is_ready(pod: &serde_json::Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Every watch has lost its place: the world is read anew, and nothing is lost or made up on the way.
pub(crate) async fn every_watch_is_closed_with_410_gone(_: Arc<Estate>) {
    let (cluster, release, space) = shop(1).await;
    let keyless = Keyless::start(release.gateway.address(), HOST, "shop:main");
    // Its webhook would hold up whatever is made while it sleeps, each object for the 5 s that the chart gives it.
    space.kube.delete("ValidatingWebhookConfiguration", "", "sidetrack-controller.sidetrack").await;
    // The controller sleeps through two changes, and what it would go on from is forgotten meanwhile.
    release.controllers[0].process.pause();
    space.kube.delete("Deployment", "shop", "shop-pr-42").await;
    space.fork("shop", "43").await;
    // Ready, and written down as such: what this is about is what the controller hears, not how fast a node is.
    eventually("the pods have changed", async || {
        space.pods("shop-pr-42").await.is_empty() && has_ready_pods(&space, "shop-pr-43").await
    })
    .await;
    cluster.kill_api().await;
    cluster.restart_api().await;
    cluster.compact().await;
    release.controllers[0].process.resume();
    release.until("what came is routed", || get(HOST, "/").key("43"), from("shop:pr-43")).await;
    release.until("what went is gone", || get(HOST, "/").key("42"), |reply| reply.status == 410).await;
    keyless.end().await;
}

/// The leader dies: its gateways go to the other replica, which writes from then on.
pub(crate) async fn the_leader_is_killed(_: Arc<Estate>) {
    let (_cluster, mut release, space) = shop(2).await;
    let keyless = Keyless::start(release.gateway.address(), HOST, "shop:main");
    let holder = async || {
        let lease = space.kube.get("Lease", "sidetrack", "sidetrack-controller").await?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
    let before = holder().await.unwrap();
    let index = usize::from(!before.ends_with('0'));
    let mut leader = release.controllers.remove(index);
    leader.process.kill();
    release.withdraw(leader.address).await;
    // Routing does not wait for a leader.
    space.fork("shop", "43").await;
    release.until("a new fork is routed", || get(HOST, "/").key("43"), from("shop:pr-43")).await;
    let clone = json!([{"service": "shop", "clone": {"image": "shop:pr-44"}}]);
    crate::previews::preview(&space, "44", json!({"forks": clone})).await;
    for _ in 0..3 {
        // A Lease of 15 s runs out before the other one may take it, and longer than one wait may last here.
        if holder().await.is_some_and(|now| now != before) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    }
    release.until("the new leader makes clones", || get(HOST, "/").key("44"), from("shop:pr-44")).await;
    keyless.end().await;
}

/// No controller for long: gateways go on by the last table, even one that starts, and say how old it is.
pub(crate) async fn a_gateway_restarts_without_a_controller(_: Arc<Estate>) {
    let (_cluster, mut release, _space) = shop(1).await;
    let mut controller = release.controllers.remove(0);
    controller.process.kill();
    release.withdraw(controller.address).await;
    release.gateway.send(get(HOST, "/").key("42")).await.came_from("shop:pr-42");
    let stale = async |gateway: &Gateway| gateway.admin("/readyz").await;
    // It takes silence of 15 s for an end, and the end of a process at once.
    eventually("the gateway says that its table is old", async || {
        let page = stale(&release.gateway).await;
        page.status == 200 && page.json()["controller"]["stale"] == true
    })
    .await;
    release.gateway.terminate();
    assert!(release.gateway.ended().await.success());
    let again = release.gateway("gateway-0").await;
    again.send(get(HOST, "/").key("42")).await.came_from("shop:pr-42");
    again.send(get(HOST, "/")).await.came_from("shop:main");
    again.send(get(HOST, "/").key("999")).await.failed(404, "unknown_preview");
    let controller = release.controller().await;
    until(&again, "it goes on", || get(HOST, "/").key("42"), from("shop:pr-42")).await;
    drop(controller);
}
