//! `Preview` objects and what the controller makes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidetrack_cluster_tests::{Estate, Space};
use sidetrack_tests::{eventually, get};

use crate::forks::{from, refused};
use crate::keyless::Keyless;

/// Makes the Preview `pr-KEY` of this spec.
pub(crate) async fn preview(space: &Space, key: &str, mut spec: Value) {
    spec["key"] = key.into();
    let meta = json!({"name": format!("pr-{key}")});
    space.create(json!({"kind": "Preview", "metadata": meta, "spec": spec})).await;
}

/// The Deployments that were cloned for a Preview.
async fn clones(space: &Space, key: &str) -> Vec<Value> {
    let all = space.kube.list("Deployment", &space.name).await;
    let name = format!("pr-{key}");
    all.into_iter()
        .filter(|each| each["metadata"]["labels"]["sidetrack.dev/preview"] == name.as_str())
        .collect()
}

/// Whether a condition of an object is true.
pub(crate) fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|each| each["type"] == condition && each["status"] == "True"))
}

/// Created, updated, deleted; all the while nobody without a key sees anything.
pub(crate) async fn a_clone_is_made_kept_in_step_and_removed(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("clones").await);
    let host = "clones.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    release.until("the route is there", || get(host, "/"), from("shop:main")).await;
    let keyless = Keyless::start(release.gateway.address(), host, "shop:main");

    let clone = json!({"image": "shop:pr-1201", "env": {"FEATURE": "on"}});
    preview(&space, "1201", json!({"forks": [{"service": "shop", "clone": clone}]})).await;
    release.until("the clone is routed", || get(host, "/").key("1201"), from("shop:pr-1201")).await;
    let deployment = clones(&space, "1201").await.remove(0);
    let variables =
        deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    for (name, value) in [("SIDETRACK_KEY", "1201"), ("SIDETRACK_SERVICE", "shop"), ("FEATURE", "on")] {
        assert!(variables.contains(&json!({"name": name, "value": value})), "{variables:?}");
    }
    let ready = |object: &Value| object["status"]["phase"] == "Ready" && is_true(object, "Ready");
    let seen = space.kube.until("it is ready", ("Preview", "clones", "pr-1201"), ready).await;
    let urls = seen["status"]["urls"].as_array().unwrap();
    assert!(urls.contains(&json!("https://pr-1201--clones.preview.example.com")), "{seen}");

    let image = json!({"spec": {"forks": [{"service": "shop", "clone": {"image": "shop:pr-1201-second"}}]}});
    space.kube.patch("Preview", "clones", "pr-1201", image).await;
    release.until("the clone has changed", || get(host, "/").key("1201"), from("shop:pr-1201-second")).await;
    // What the baseline changes, its clone changes too.
    let label = json!({"spec": {"template": {"metadata": {"annotations": {"example.com/config": "2"}}}}});
    space.kube.patch("Deployment", "clones", "shop", label).await;
    eventually("the clone is in step with its baseline", async || {
        clones(&space, "1201").await[0]["spec"]["template"]["metadata"]["annotations"]["example.com/config"]
            == "2"
    })
    .await;

    space.kube.delete("Preview", "clones", "pr-1201").await;
    let reply = release.until("the preview is gone", || get(host, "/").key("1201"), refused(410)).await;
    reply.failed(410, "preview_expired");
    eventually("the clone is gone", async || clones(&space, "1201").await.is_empty()).await;
    keyless.end().await;
}

/// Its time runs out: it is not routed any more, its clone goes, and the Preview says so.
pub(crate) async fn a_preview_expires(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("expires").await);
    let host = "expires.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    let fork = json!({"service": "shop", "clone": {"image": "shop:pr-1202"}});
    let made = Instant::now();
    preview(&space, "1202", json!({"forks": [fork]})).await;
    release.until("the clone is routed", || get(host, "/").key("1202"), from("shop:pr-1202")).await;
    // Its time counts from when it was made, and how long a busy machine takes until here nobody knows before.
    let ttl = format!("{}s", made.elapsed().as_secs() + 5);
    space.kube.patch("Preview", "expires", "pr-1202", json!({"spec": {"ttl": ttl}})).await;
    let reply = release.until("it has expired", || get(host, "/").key("1202"), refused(410)).await;
    reply.failed(410, "preview_expired");
    let expired = |object: &Value| object["status"]["phase"] == "Expired";
    space.kube.until("it says so", ("Preview", "expires", "pr-1202"), expired).await;
    eventually("the clone is gone", async || clones(&space, "1202").await.is_empty()).await;
    assert!(
        space.kube.get("Preview", "expires", "pr-1202").await.is_some(),
        "the object is its owner's to delete"
    );
    assert!(space.kube.get("Deployment", "expires", "shop").await.is_some());
}

/// A Preview of what somebody else deployed: nothing of it is ever deleted.
pub(crate) async fn what_was_deployed_by_others_stays(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("others").await);
    let host = "others.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    let labels = json!({"app": "shop-next"});
    space.create(sidetrack_cluster_tests::deployment("shop-next", "shop:next", &labels)).await;
    space.service("shop-next").await;
    let fork = json!({"service": "shop", "endpointsFrom": "shop-next"});
    preview(&space, "1203", json!({"aliases": ["next"], "forks": [fork]})).await;
    release.until("its Service is routed", || get(host, "/").key("1203"), from("shop:next")).await;
    release
        .until("by its alias too", || get("next.others.preview.example.com", "/"), from("shop:next"))
        .await;
    space.kube.delete("Preview", "others", "pr-1203").await;
    release.until("it is not routed", || get(host, "/").key("1203"), refused(410)).await;
    assert!(space.kube.get("Deployment", "others", "shop-next").await.is_some());
    assert!(space.kube.get("Service", "others", "shop-next").await.is_some());
}

/// A bad key is refused when it is applied, whoever answers for it.
pub(crate) async fn a_bad_key_is_refused_by_the_schema(estate: Arc<Estate>) {
    estate.release().await;
    let space = estate.space("keys").await;
    for key in ["PR-42", "-42", "42-", "4--2", "", "a_b", "0123456789012345678901234567890123456789x"] {
        let meta = json!({"name": "bad", "namespace": "keys"});
        let object = json!({"kind": "Preview", "metadata": meta, "spec": {"key": key}});
        let (code, message) = space.kube.try_create(&object).await.unwrap_err();
        assert_eq!(code, 422, "{key:?}: {message}");
        assert!(message.contains("spec.key"), "{key:?}: {message}");
    }
    preview(&space, "shop-42", json!({})).await;
}

/// Two Previews of two repositories claim one key: the older one stays, the newer one says so.
pub(crate) async fn one_key_of_two_repositories_is_a_conflict(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("conflict").await);
    let host = "conflict.preview.example.com";
    for service in ["shop", "cart"] {
        space.baseline(service).await;
    }
    space.route("shop", host, &[("shop", 1)]).await;
    let fork =
        |service: &str| json!([{"service": service, "clone": {"image": format!("{service}:pr-1204")}}]);
    preview(&space, "1204", json!({"repository": "example/shop", "forks": fork("shop")})).await;
    release.until("the first is routed", || get(host, "/").key("1204"), from("shop:pr-1204")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let spec = json!({"key": "1204", "repository": "example/cart", "forks": fork("cart")});
    space.create(json!({"kind": "Preview", "metadata": {"name": "second"}, "spec": spec})).await;
    let degraded = |object: &Value| object["status"]["phase"] == "Degraded";
    space.kube.until("the second says so", ("Preview", "conflict", "second"), degraded).await;
    release.gateway.send(get(host, "/").key("1204")).await.came_from("shop:pr-1204");
    let ready = |object: &Value| object["status"]["phase"] == "Ready";
    space.kube.until("the first is ready all the same", ("Preview", "conflict", "pr-1204"), ready).await;
}

/// `sidetrack wait` returns when every gateway has it, and not before.
pub(crate) async fn wait_returns_when_every_gateway_has_it(estate: Arc<Estate>) {
    let (release, space) = (estate.release().await, estate.space("waits").await);
    let host = "waits.preview.example.com";
    space.baseline("shop").await;
    space.route("shop", host, &[("shop", 1)]).await;
    release.until("the route is there", || get(host, "/"), from("shop:main")).await;
    let early = release.wait("1205", Duration::from_secs(1)).await;
    assert_ne!(early.code, 0, "{early:?}");
    let waiting = release.wait("1205", Duration::from_secs(60));
    let deploying = async {
        space.fork("shop", "1205").await;
    };
    let (output, ()) = tokio::join!(waiting, deploying);
    assert_eq!(output.code, 0, "{output:?}");
    // Not one answer of the baseline after it returned.
    release.gateway.send(get(host, "/").key("1205")).await.came_from("shop:pr-1205");
}
