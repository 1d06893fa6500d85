//! What a sidecar knows of the estate: Services that nobody forks, and what all proxies have in common.

use serde_json::{Value, json};
use sidetrack_tests::{Controller, Estate, Gateway, eventually, get};

use super::{OUTBOUND, http1};

/// A sidecar of the pod of `checkout.shop` in mode `ports`, which follows `controller`.
async fn sidecar(estate: &Estate, controller: &Controller, settings: &Value) -> Gateway {
    let arguments = controller.arguments();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--service", "checkout.shop", "--mode", "ports", "--admin", "127.0.0.1:0"]);
    arguments.extend(["--inbound", "127.0.0.1:0", "--outbound", "127.0.0.1:0"]);
    let (state, settings) = (estate.folder().join("state"), settings.to_string());
    let environment =
        [("SIDETRACK_STATE_DIR", state.to_str().unwrap()), ("SIDETRACK_SETTINGS", settings.as_str())];
    let sidecar = Gateway::sidecar(&estate.folder(), &arguments, &environment).await;
    controller.acknowledged().await;
    sidecar
}

/// A Service as sidecars are told of it: reached at `address`, with `baseline` where somebody forks it.
fn service(controller: &Controller, name: &str, address: &str, baseline: Option<&str>) {
    let baseline = [baseline.unwrap_or(address)];
    let told = json!({"name": name, "baseline": baseline, "protocol": "http1", "addresses": [address]});
    controller.set(&format!("service/{name}"), told);
}

/// A preview without forks.
fn idle(controller: &Controller, key: &str) {
    controller.set(&format!("preview/{key}"), json!({"key": key, "forks": {}, "onForkDown": "fail"}));
}

#[tokio::test]
async fn a_call_to_a_service_that_nobody_forks_keeps_its_key() {
    let mut estate = Estate::new();
    let (address, pod) = (estate.upstream("address").await, estate.upstream("pod").await);
    let fork = estate.upstream("fork").await;
    let controller = Controller::start().await;
    service(&controller, "inventory.shop", &address, None);
    idle(&controller, "42");
    let sidecar = sidecar(&estate, &controller, &json!({})).await;
    let mut outbound = http1(&sidecar, OUTBOUND).await;
    let call = || get("inventory.shop", "/").key("42");
    let unforked = "inventory.shop@baseline;reason=no_fork";
    let reply = outbound.send(call()).await;
    assert_eq!((reply.upstream(), reply.receipt()), ("address", unforked.into()));
    let echo = reply.echo();
    assert_eq!(echo.header("x-pr-id"), Some("42"));
    assert!(echo.header("baggage").is_some_and(|baggage| baggage.contains("pr-id=42")));
    // A test that names a preview which is not there must not pass on the baseline.
    let strict = get("inventory.shop", "/").key("57").header("x-pr-strict", "1");
    outbound.send(strict).await.failed(404, "unknown_preview");
    // Somebody forks it, and ends that.
    for (forked, with_key, without) in [(true, "fork", "pod"), (false, "address", "address")] {
        service(&controller, "inventory.shop", &address, forked.then_some(&*pod));
        match forked {
            true => controller.preview("42", "inventory.shop", std::slice::from_ref(&fork)),
            false => idle(&controller, "42"),
        }
        controller.acknowledged().await;
        outbound.send(call()).await.came_from(with_key);
        outbound.send(get("inventory.shop", "/")).await.came_from(without);
    }
    // What is no Service any more is outside.
    controller.remove("service/inventory.shop");
    controller.acknowledged().await;
    let reply = outbound.send(call()).await;
    reply.failed(404, "no_route");
    assert!(reply.header("x-pr-route").is_none());
    eventually("it is counted", async || {
        sidecar.metrics().await.sum("sidetrack_egress_stripped_total", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_has_the_carriers_and_domains_of_the_gateways() {
    let mut estate = Estate::new();
    let address = estate.upstream("inventory").await;
    let controller = Controller::start().await;
    service(&controller, "inventory.shop", &address, None);
    idle(&controller, "42");
    let settings = json!({"carriers": {"header": "x-shop-pr"}, "domains": ["preview.example.com"]});
    let sidecar = sidecar(&estate, &controller, &settings).await;
    let mut outbound = http1(&sidecar, OUTBOUND).await;
    let reply = outbound.send(get("inventory.shop", "/").header("x-shop-pr", "42")).await;
    assert_eq!(reply.receipt(), "inventory.shop@baseline;reason=no_fork");
    assert_eq!(reply.echo().header("x-shop-pr"), Some("42"));
    // Nothing in this mode says where a host of the edge is, but it is one of ours: nothing is cut.
    outbound
        .send(get("shop.preview.example.com", "/").header("x-shop-pr", "42"))
        .await
        .failed(404, "no_route");
    outbound.send(get("shop.example.com", "/").header("x-shop-pr", "42")).await.failed(404, "no_route");
    eventually("it is counted", async || {
        sidecar.metrics().await.sum("sidetrack_egress_stripped_total", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_thousand_services_are_a_few_megabytes() {
    let estate = Estate::new();
    let controller = Controller::start().await;
    let told = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let [_, a, b, c] = number.to_be_bytes();
            service(&controller, &format!("service-{number}.shop"), &format!("10.{a}.{b}.{c}:80"), None);
        }
    };
    told(0..10);
    for number in 0..10 {
        let (key, name) = (number.to_string(), format!("service-{number}.shop"));
        controller.preview(&key, &name, &["10.9.9.9:80".to_owned()]);
    }
    let sidecar = sidecar(&estate, &controller, &json!({})).await;
    let before = sidecar.resident();
    for (all, most) in [(1_000, 5 << 20), (10_000, 45 << 20)] {
        told(10..all);
        controller.acknowledged().await;
        let now = sidecar.resident();
        println!("{all} services: {} KiB more", (now - before) >> 10);
        assert!(now - before < most, "{} bytes more for {all} services", now - before);
    }
}
