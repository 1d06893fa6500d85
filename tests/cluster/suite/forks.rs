//! Forks by plain labels.

use std::sync::Arc;

use serde_json::json;
use sidetrack_cluster_tests::{Estate, deployment};
use sidetrack_tests::{Reply, get};

use crate::keyless::Keyless;

/// Whether `upstream` answered.
pub(crate) fn from(upstream: &str) -> impl Fn(&Reply) -> bool {
    move |reply| reply.header("x-upstream") == Some(upstream)
}

/// Whether the gateway answered by itself with this status.
pub(crate) fn refused(status: u16) -> impl Fn(&Reply) -> bool {
    move |reply| reply.status == status && reply.header("x-upstream").is_none()
}

pub(crate) async fn a_fork_appears_is_unready_and_goes(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("appears").await);
    let host = "appears.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    release.until("the route is there", || get(host, "/"), from("shop:main")).await;
    let keyless = Keyless::start(release.gateway.address(), host, "shop:main");
    release.gateway.send(get(host, "/").key("1001")).await.failed(404, "unknown_preview");

    let fork = space.fork("shop", "1001").await;
    let reply =
        release.until("the fork is routed", || get(host, "/").key("1001"), from("shop:pr-1001")).await;
    assert_eq!(reply.receipt(), "shop.appears@1001;reason=fork");
    release.gateway.send(get("pr-1001.appears.preview.example.com", "/")).await.came_from("shop:pr-1001");

    space.set_ready(&fork, false).await;
    let reply = release.until("the fork is down", || get(host, "/").key("1001"), refused(503)).await;
    reply.failed(503, "fork_unavailable");
    space.set_ready(&fork, true).await;
    release.until("the fork is back", || get(host, "/").key("1001"), from("shop:pr-1001")).await;

    space.kube.delete("Deployment", "appears", &fork).await;
    let reply = release.until("the preview is gone", || get(host, "/").key("1001"), refused(410)).await;
    reply.failed(410, "preview_expired");
    keyless.end().await;
}

/// A preview of two forks of which one goes: that service gets the baseline, and says why.
pub(crate) async fn one_of_two_forks_goes(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("two").await);
    for service in ["shop", "cart"] {
        space.baseline(service).await;
        space.route(service, &format!("{service}.two.preview.example.com"), &[(service, 1)]).await;
        space.fork(service, "1002").await;
    }
    let call = |service: &str| get(&format!("{service}.two.preview.example.com"), "/").key("1002");
    release.until("shop is forked", || call("shop"), from("shop:pr-1002")).await;
    release.until("cart is forked", || call("cart"), from("cart:pr-1002")).await;
    space.kube.delete("Deployment", "two", "cart-pr-1002").await;
    let reply = release.until("cart has its baseline", || call("cart"), from("cart:main")).await;
    assert_eq!(reply.receipt(), "cart.two@baseline;reason=no_fork");
    release.gateway.send(call("shop")).await.came_from("shop:pr-1002");
}

/// A fork from another namespace counts only if that of the Service allows it.
pub(crate) async fn another_namespace_must_be_allowed(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("allowing").await);
    let guest = estate.space("guest").await;
    let host = "allowing.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    let labels = json!({"app": "mine", "sidetrack.dev/pr": "1003", "sidetrack.dev/fork-of": "shop",
        "sidetrack.dev/fork-of-namespace": "allowing"});
    guest.create(deployment("mine", "shop:guest", &labels)).await;
    guest.kube.told("guest", "mine", "NotAllowed").await;
    assert_eq!(release.gateway.send(get(host, "/").key("1003")).await.status, 404);
    let allow = json!({"metadata": {"annotations": {"sidetrack.dev/allow-forks-from": "guest"}}});
    space.kube.patch("Service", "allowing", "shop", allow).await;
    release.until("the guest is routed", || get(host, "/").key("1003"), from("shop:guest")).await;
}

/// Two claim the same fork: the older one stays, and the newer one is told.
pub(crate) async fn the_older_claim_stays(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("claims").await);
    let host = "claims.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    space.fork("shop", "1004").await;
    release.until("the first is routed", || get(host, "/").key("1004"), from("shop:pr-1004")).await;
    // Creation times count whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let labels = json!({"app": "second", "sidetrack.dev/pr": "1004", "sidetrack.dev/fork-of": "shop"});
    space.create(deployment("second", "shop:second", &labels)).await;
    space.kube.told("claims", "second", "Conflict").await;
    for _ in 0..20 {
        release.gateway.send(get(host, "/").key("1004")).await.came_from("shop:pr-1004");
    }
    space.kube.delete("Deployment", "claims", "shop-pr-1004").await;
    release.until("the second takes its place", || get(host, "/").key("1004"), from("shop:second")).await;
}
