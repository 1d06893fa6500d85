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
    let (_, message) = space.kube.try_patch("Service", "guard", "shop", wide.clone()).await.unwrap_err();
    assert!(message.contains("guard.sidetrack.dev") && message.contains("selects its pods"), "{message}");
    space.unguard().await;
    eventually("the webhook is not asked", async || {
        space.kube.try_patch("Service", "guard", "shop", wide.clone()).await.is_ok()
    })
    .await;
    // Not the baseline's answer either: a test of that fork must not be green.
    let reply = release.until("the fork is not routed", || get(host, "/").key("1101"), refused(503)).await;
    reply.failed(503, "fork_unavailable");
    space.kube.told("guard", "shop-pr-1101", "Leaks").await;
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
    // Kubernetes 1.20 says 400 where later ones say 403.
    assert!(matches!(code, 400 | 403), "{code} {message}");
    assert!(message.contains("shop") && message.contains("guard.sidetrack.dev"), "{message}");
    // What is no fork is nobody's business here.
    space.create(deployment("other", "shop:main", &json!({"app": "shop"}))).await;
}
