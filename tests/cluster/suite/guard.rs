//! The guard: no edit of anybody's may bring a user without a key to a pull request.

use std::sync::Arc;

use serde_json::json;
use sidetrack_cluster_tests::{Estate, deployment};
use sidetrack_tests::{eventually, get};

use crate::forks::{from, refused};

/// A Service's selector is edited so that it takes a fork's pods: the fork is not routed any more, and it is said.
pub(crate) async fn a_selector_that_takes_a_fork_ends_its_routing(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("guard").await);
    let host = "guard.preview.example.com";
    let labels = json!({"app": "shop", "tier": "web"});
    space.create(deployment("shop", "shop:main", &labels)).await;
    let spec = json!({"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8080}]});
    space.create(json!({"kind": "Service", "metadata": {"name": "shop"}, "spec": spec})).await;
    space.route("shop", host, &[("shop", 1)]).await;
    let labels = json!({"app": "shop-pr-1101", "tier": "web", "sidetrack.dev/pr": "1101", "sidetrack.dev/fork-of": "shop"});
    space.create(deployment("shop-pr-1101", "shop:pr-1101", &labels)).await;
    release.until("the fork is routed", || get(host, "/").key("1101"), from("shop:pr-1101")).await;

    let wide = json!({"spec": {"selector": {"app": null, "tier": "web"}}});
    // Where the webhook refuses the edit the fork is safe already; that has a test of its own.
    space.kube.patch("Service", "guard", "shop", wide).await;
    release.until("the fork is not routed", || get(host, "/").key("1101"), refused(404)).await;
    let told =
        async || space.kube.events("guard", "shop-pr-1101").await.iter().any(|(reason, _)| reason == "Leaks");
    eventually("an Event says that it leaks", told).await;
    eventually("a metric says so", async || {
        release.controllers[0].metrics().await.sum("sidetrack_controller_forks", &[("state", "Leaks")]) >= 1.0
    })
    .await;

    let narrow = json!({"spec": {"selector": {"app": "shop", "tier": null}}});
    space.kube.patch("Service", "guard", "shop", narrow).await;
    release.until("the fork is routed again", || get(host, "/").key("1101"), from("shop:pr-1101")).await;
}

/// A fork whose pods a baseline Service selects is refused when it is made.
pub(crate) async fn the_webhook_refuses_a_fork_that_a_service_selects(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("webhook").await);
    space.baseline("shop").await;
    space.route("shop", "webhook.preview.example.com", &[("shop", 1)]).await;
    release
        .until("the controller knows it", || get("webhook.preview.example.com", "/"), from("shop:main"))
        .await;
    let labels = json!({"app": "shop", "sidetrack.dev/pr": "1102", "sidetrack.dev/fork-of": "shop"});
    let mut wrong = deployment("leak", "shop:pr-1102", &labels);
    wrong["metadata"]["namespace"] = "webhook".into();
    let (code, message) = space.kube.try_create(&wrong).await.unwrap_err();
    assert_eq!(code, 403, "{message}");
    assert!(message.contains("shop") && message.contains("guard.sidetrack.dev"), "{message}");
    // What is no fork is nobody's business here.
    space.create(deployment("other", "shop:main", &json!({"app": "shop"}))).await;
}
