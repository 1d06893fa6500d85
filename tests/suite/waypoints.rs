//! A waypoint: every listener belongs to a service, whatever the host, and a controller has ports opened and closed.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sidetrack_tests::{
    Conn, Controller, Estate, Raw, RawUpstream, Upstream, World, eventually, free_port, get, within,
};

use crate::D;

/// `payment`, forked by 42, behind a waypoint's only listener.
async fn payment() -> World {
    Estate::waypoint("payment").await.start().await
}

#[tokio::test]
async fn a_listener_belongs_to_its_service_whatever_the_host() {
    let world = payment().await;
    for host in ["payment", "payment.shop.svc.cluster.local:8080", "10.0.0.7", "elsewhere.example.com"] {
        let reply = world.send(get(host, "/any/path?x=1")).await;
        reply.came_from("payment");
        assert_eq!(reply.echo().host(), host, "the host stays as the caller wrote it");
        let reply = world.send(get(host, "/").key("42")).await;
        reply.came_from("payment-42");
        assert!(reply.receipt().starts_with("payment@42;reason=fork"), "{}", reply.receipt());
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "it goes on to the next hop");
    }
}

#[tokio::test]
async fn an_unknown_key_is_baseline_and_the_fields_of_the_edge_stay() {
    let world = payment().await;
    let reply = world
        .send(
            get("payment", "/")
                .key("77")
                .header("x-forwarded-for", "203.0.113.9")
                .header("x-request-id", "from-the-edge"),
        )
        .await;
    reply.came_from("payment");
    assert!(reply.receipt().starts_with("payment@baseline;reason=unknown_preview"), "{}", reply.receipt());
    let echo = reply.echo();
    assert_eq!(echo.all("x-forwarded-for"), ["203.0.113.9"]);
    assert_eq!(echo.header("x-request-id"), Some("from-the-edge"));
    assert_eq!(echo.header("forwarded"), None);
    world.send(get("payment", "/").key("77").header("x-pr-strict", "1")).await.failed(404, "unknown_preview");
}

#[tokio::test]
async fn explain_reads_the_host_as_a_caller_writes_it() {
    let world = payment().await;
    let said = world.gateway.explain("http://payment/", &["X-PR-ID: 42"]).await;
    assert_eq!(
        (&said["service"], &said["target"], &said["reason"]),
        (&json!("payment"), &json!("fork"), &json!("fork"))
    );
}

#[tokio::test]
async fn a_loop_is_cut_and_named() {
    let mut estate = Estate::new();
    let port = free_port();
    estate.service("payment", json!({"baseline": [format!("127.0.0.1:{port}")]}));
    estate.config["role"] = "waypoint".into();
    estate.config["listeners"] = json!([{"address": format!("127.0.0.1:{port}"), "service": "payment"}]);
    let world = estate.start().await;
    let reply = world.send(get("payment", "/").key("42")).await;
    reply.failed(508, "loop_detected");
    assert!(reply.json()["detail"].as_str().unwrap().contains("payment"), "{}", reply.text());
}

/// A waypoint that follows a controller, on loopback.
async fn followed() -> (World, Controller) {
    let mut estate = Estate::new();
    let (baseline, fork) = (estate.upstream("payment").await, estate.upstream("payment-42").await);
    estate.config["role"] = "waypoint".into();
    estate.config["workers"] = 1.into();
    let controller = Controller::start().await;
    controller.service("payment.shop", &[baseline]);
    controller.preview("42", "payment.shop", &[fork]);
    let world = controller.gateway(estate).await;
    assert_eq!(controller.acknowledged().await, Value::Null);
    (world, controller)
}

fn port_item(port: u16) -> Value {
    json!({"namespace": "shop", "port": port, "service": "payment.shop"})
}

async fn ask(address: SocketAddr, key: &str) -> String {
    let mut conn = Conn::http1(address).await.unwrap();
    conn.send(get("payment", "/").key(key)).await.upstream().to_owned()
}

#[tokio::test]
async fn a_port_is_open_before_its_version_is_acknowledged_and_closes_with_it() {
    let (world, controller) = followed().await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let id = format!("port/shop/{}", address.port());
    controller.set(&id, port_item(address.port()));
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(ask(address, "42").await, "payment-42");
    assert_eq!(ask(address, "7").await, "payment");

    // Who is connected when it closes is served, told to go, and finds nobody there afterwards.
    let mut kept = Conn::http1(address).await.unwrap();
    let calling = tokio::spawn(async move {
        kept.send(get("payment", "/").act("hold")).await.came_from("payment");
        kept
    });
    world.of("payment").holding(1).await;
    controller.remove(&id);
    assert_eq!(controller.acknowledged().await, Value::Null);
    eventually("nobody new comes in", async || Conn::http1(address).await.is_err()).await;
    world.of("payment").release();
    let mut kept = within("the answer", calling).await.unwrap();
    eventually("the old connection ends", async || {
        kept.is_closed() || kept.try_send(get("payment", "/")).await.is_err()
    })
    .await;
}

/// No controller tells that the pods have gone. Behind the Service that stands for the baseline Kubernetes knows the new ones.
#[tokio::test]
async fn where_no_pod_that_is_known_can_be_reached_the_cluster_is_asked() {
    let (world, controller) = followed().await;
    let gone: Vec<String> = (0..2).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let standby = Upstream::start("payment-new").await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    controller.set(&format!("port/shop/{}", address.port()), port_item(address.port()));
    let pods = [&gone[..], &[standby.endpoint()]].concat();
    let item = json!({
        "name": "payment.shop", "baseline": pods, "protocol": "http1", "addresses": [standby.endpoint()],
    });
    controller.set("service/payment.shop", item);
    assert_eq!(controller.acknowledged().await, Value::Null);
    for _ in 0..20 {
        assert_eq!(ask(address, "7").await, "payment-new");
        assert_eq!(ask(address, "42").await, "payment-42");
    }
    // After three failures each rests, so that nobody waits for it any more.
    let retries = world.gateway.metrics().await.sum("sidetrack_retries_total", &[]);
    assert!(retries <= 6.0, "{retries}");
    // A fork that is gone is missing all the same.
    controller.preview("42", "payment.shop", &gone[..1]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    let mut conn = Conn::http1(address).await.unwrap();
    conn.send(get("payment", "/").key("42")).await.failed(503, "fork_unavailable");
    // A pod that is back is preferred.
    let pod = Upstream::start("payment").await;
    let item = json!({
        "name": "payment.shop", "baseline": [standby.endpoint(), pod.endpoint()], "protocol": "http1",
        "addresses": [standby.endpoint()],
    });
    controller.set("service/payment.shop", item);
    assert_eq!(controller.acknowledged().await, Value::Null);
    for _ in 0..20 {
        assert_eq!(ask(address, "7").await, "payment");
    }
}

/// A port that says nothing of what it speaks: requests are routed, and a server that speaks first is heard.
#[tokio::test]
async fn a_port_that_says_nothing_is_looked_at() {
    let (_world, controller) = followed().await;
    let server = RawUpstream::start(async |mut raw: Raw, _| {
        raw.write("220 ready\r\n").await;
        let said = raw.rest().await;
        raw.write(said).await;
    })
    .await;
    controller.service("mail.shop", &[server.endpoint()]);
    let address = |_| SocketAddr::from(([127, 0, 0, 1], free_port()));
    let [pay, mail] = [0, 1].map(address);
    for (at, service) in [(pay, "payment.shop"), (mail, "mail.shop")] {
        let item = json!({"namespace": "shop", "port": at.port(), "service": service, "spoken": "detect"});
        controller.set(&format!("port/shop/{}", at.port()), item);
    }
    assert_eq!(controller.acknowledged().await, Value::Null);
    assert_eq!(ask(pay, "42").await, "payment-42");
    assert_eq!(ask(pay, "7").await, "payment");
    let mut conn = Conn::http2(pay).await.unwrap();
    conn.send(get("payment", "/").key("42")).await.came_from("payment-42");
    let mut raw = Raw::connect(mail).await;
    assert_eq!(raw.exactly(11).await.unwrap(), b"220 ready\r\n");
    raw.write("EHLO me").await;
    raw.finish().await;
    assert_eq!(raw.rest().await, "EHLO me");
}

#[tokio::test]
async fn a_port_that_is_taken_is_reported_and_opened_once_it_is_free() {
    let (_world, controller) = followed().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    controller.set(&format!("port/shop/{}", address.port()), port_item(address.port()));
    let error = controller.acknowledged().await;
    assert!(error.as_str().unwrap().contains(&address.port().to_string()), "{error}");
    drop(taken);
    eventually("the port opens and is reported", async || controller.acknowledged().await == Value::Null)
        .await;
    assert_eq!(ask(address, "42").await, "payment-42");
}

#[tokio::test]
async fn a_gateway_opens_no_port_of_waypoints() {
    let mut estate = Estate::new();
    let baseline = estate.upstream("payment").await;
    let controller = Controller::start().await;
    controller.service("payment.shop", &[baseline]);
    controller.route(D, "/", "payment.shop");
    let port = free_port();
    controller.set(&format!("port/shop/{port}"), port_item(port));
    let world = controller.gateway(estate).await;
    assert_eq!(controller.acknowledged().await, Value::Null);
    world.send(get(D, "/")).await.came_from("payment");
    assert!(Conn::http1(([127, 0, 0, 1], port).into()).await.is_err());
}

/// Services, a preview and secrets, as a controller tells gateways and waypoints.
async fn told(secrets: &[&str]) -> (Estate, Controller) {
    let mut estate = Estate::new();
    let (baseline, fork) = (estate.upstream("payment").await, estate.upstream("payment-42").await);
    let controller = Controller::start().await;
    controller.service("payment.shop", &[baseline]);
    controller.route(D, "/", "payment.shop");
    controller.preview("42", "payment.shop", &[fork]);
    controller.set("secrets/context", json!({"secrets": secrets}));
    (estate, controller)
}

#[tokio::test]
async fn secrets_of_the_controller_let_a_waypoint_read_the_trace_ids_of_a_gateway() {
    const OLD: &str = "the-first-secret-of-an-estate";
    const NEW: &str = "the-next-secret-of-an-estate";
    let (estate, of_gateway) = told(&[OLD]).await;
    let gateway = of_gateway.gateway(estate).await;
    assert_eq!(of_gateway.acknowledged().await, Value::Null);
    let begun = gateway.send(get(D, "/").key("42")).await;
    let traceparent = begun.echo().header("traceparent").unwrap().to_owned();

    let (mut estate, of_waypoint) = told(&[OLD]).await;
    estate.config["role"] = "waypoint".into();
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "service": "payment.shop"}]);
    let waypoint = of_waypoint.gateway(estate).await;
    assert_eq!(of_waypoint.acknowledged().await, Value::Null);
    let with_trace = || get("payment", "/").header("traceparent", &traceparent);
    waypoint.send(with_trace()).await.came_from("payment-42");

    // It is changed in steps: first all know the new one, then the old one goes.
    for (secrets, upstream) in [(&[NEW, OLD][..], "payment-42"), (&[NEW], "payment"), (&[OLD], "payment-42")]
    {
        of_waypoint.set("secrets/context", json!({"secrets": secrets}));
        assert_eq!(of_waypoint.acknowledged().await, Value::Null);
        waypoint.send(with_trace()).await.came_from(upstream);
    }
    of_waypoint.remove("secrets/context");
    assert_eq!(of_waypoint.acknowledged().await, Value::Null);
    waypoint.send(with_trace()).await.came_from("payment");
}
