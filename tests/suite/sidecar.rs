//! Sidecars: what comes in to a workload and what goes out from it, in the pod of a fork and in one of the baseline.
//! Connections are made to their listeners here; that the system redirects them is shown in `sidecar/redirected.rs`.

mod bytes;
mod greeting;
mod known;
mod redirected;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use sidetrack_tests::{
    Conn, Controller, Estate, Gateway, WEBSOCKET_KEY, Wire, accept_of, eventually, free_port, get, post,
    request,
};

use crate::TRACEPARENT;

/// An estate inside: `checkout` and `payment` with a fork of 42 each, `refund` without one, and a pod for the baseline
/// and the fork of `checkout`, each with a sidecar before it. The table says where the sidecars are, as pods of a cluster
/// are reached by them.
struct Pods {
    estate: Estate,
    baseline: Gateway,
    fork: Gateway,
}

/// Where a sidecar takes what comes in, and what goes out: by host, and for `payment`.
const INBOUND: usize = 0;
const OUTBOUND: usize = 1;
const PAYMENT: usize = 2;

impl Pods {
    async fn start() -> Self {
        Self::speaking(Wire::Http1).await
    }

    async fn speaking(wire: Wire) -> Self {
        let mut estate = Estate::new();
        let app = estate.upstream_on("checkout", wire.clone()).await;
        let fork_app = estate.upstream_on("checkout-42", wire.clone()).await;
        for service in ["payment", "refund"] {
            estate.baseline_on(service, wire.clone()).await;
        }
        let payment = estate.upstream_on("payment-42", wire.clone()).await;
        let doors = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let protocol = wire.protocol();
        estate.service("checkout", json!({"baseline": [doors[0]], "protocol": protocol}));
        estate.service("absent", json!({"baseline": ["127.0.0.1:1"]}));
        *estate.preview("42") = json!({"forks": {"checkout": [doors[1]], "payment": [payment]}});
        *estate.preview("57") = json!({"forks": {}});
        let baseline = sidecar(&mut estate, doors[0], &app, None).await;
        let fork = sidecar(&mut estate, doors[1], &fork_app, Some("42")).await;
        Self { estate, baseline, fork }
    }

    fn count(&self, name: &str) -> usize {
        self.estate.of(name).count()
    }
}

/// Starts the sidecar of one pod.
async fn sidecar(estate: &mut Estate, door: SocketAddr, app: &str, key: Option<&str>) -> Gateway {
    let app: SocketAddr = app.parse().unwrap();
    let mut config = estate.config.clone();
    config["role"] = json!("sidecar");
    config["sidecar"] = json!({"service": "checkout", "app": app.port()});
    if let Some(key) = key {
        config["sidecar"]["key"] = json!(key);
    }
    config["listeners"] = json!([
        {"address": door, "direction": "inbound", "protocol": "detect"},
        {"address": "127.0.0.1:0", "direction": "outbound"},
        {"address": "127.0.0.1:0", "direction": "outbound", "service": "payment", "protocol": "detect"},
    ]);
    let name = format!("pod-{}", key.unwrap_or("baseline"));
    let log = estate.folder().join(format!("{name}.log"));
    config["accessLog"] = json!({"format": "json", "path": log});
    config["stateDir"] = json!(name);
    estate.write(&format!("{name}.yaml"), config.to_string());
    let file = estate.folder().join(format!("{name}.yaml"));
    Gateway::sidecar(&estate.folder(), &["-c", file.to_str().unwrap()], &[]).await
}

/// A connection of the app, or of a caller.
async fn http1(gateway: &Gateway, listener: usize) -> Conn {
    Conn::http1(gateway.listeners[listener]).await.unwrap()
}

/// The lines of a pod's log, once there are `count`.
async fn lines(estate: &Estate, pod: &str, count: usize) -> Vec<Value> {
    estate.log_lines(&format!("{pod}.log"), count).await
}

#[tokio::test]
async fn calls_go_where_their_host_or_their_listener_says() {
    let pods = Pods::start().await;
    let mut by_host = http1(&pods.baseline, OUTBOUND).await;
    for host in ["payment", "Payment.svc.cluster.local:80"] {
        let reply = by_host.send(get(host, "/a?b").key("42")).await;
        reply.came_from("payment-42");
        assert_eq!((reply.echo().host(), reply.echo().target()), (host, "/a?b"), "it is left as it came");
        assert_eq!(reply.receipt(), "payment@42;reason=fork");
    }
    // One connection of the client, another target each time.
    by_host.send(get("payment", "/")).await.came_from("payment");
    by_host.send(get("refund", "/").key("42")).await.came_from("refund");
    by_host.send(get("payment", "/").key("PR-42")).await.came_from("payment-42");
    by_host.send(get("absent", "/").key("42")).await.failed(503, "upstream_unavailable");
    for conn in
        [http1(&pods.baseline, PAYMENT).await, Conn::http2(pods.baseline.listeners[PAYMENT]).await.unwrap()]
    {
        let mut conn = conn;
        conn.send(get("whatever.example", "/").key("42")).await.came_from("payment-42");
        conn.send(get("whatever.example", "/")).await.came_from("payment");
    }
}

#[tokio::test]
async fn what_an_application_says_of_clients_is_left_alone() {
    let pods = Pods::start().await;
    let call = get("payment", "/").key("42");
    let said = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=203.0.113.9"),
        ("x-request-id", "its-own"),
        ("traceparent", TRACEPARENT),
    ];
    let call = said.iter().fold(call, |call, (name, value)| call.header(name, value));
    let reply = http1(&pods.baseline, OUTBOUND).await.send(call).await;
    let echo = reply.echo();
    for (name, value) in said {
        assert_eq!(echo.header(name), Some(value), "{name}");
    }
    for name in ["x-forwarded-proto", "x-forwarded-port"] {
        assert_eq!(echo.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn the_baseline_sends_to_the_fork_what_is_the_forks_and_nobody_sends_it_back() {
    let pods = Pods::start().await;
    for sidecar in [&pods.baseline, &pods.fork] {
        let mut conn = http1(sidecar, INBOUND).await;
        let reply = conn.send(get("checkout", "/").key("42")).await;
        reply.came_from("checkout-42");
        // Two hops that say the same are told as one.
        assert_eq!(reply.receipt(), "checkout@42;reason=fork");
        let hops = reply.echo().members("via").len();
        assert_eq!(hops, if sidecar.admin == pods.baseline.admin { 2 } else { 1 });
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"));
    }
    let mut conn = http1(&pods.baseline, INBOUND).await;
    conn.send(get("checkout", "/")).await.came_from("checkout");
    let reply = conn.send(get("checkout", "/").key("57")).await;
    assert_eq!(
        (reply.upstream(), reply.receipt().as_str()),
        ("checkout", "checkout@baseline;reason=no_fork")
    );
    assert_eq!((pods.count("checkout"), pods.count("checkout-42")), (2, 2));
}

#[tokio::test]
async fn a_fork_answers_whatever_comes_in_and_says_so() {
    let pods = Pods::start().await;
    let mut conn = http1(&pods.fork, INBOUND).await;
    let reply = conn.send(get("checkout", "/healthz-of-the-app")).await;
    reply.came_from("checkout-42");
    assert!(reply.receipts().is_empty());
    let reply = conn.send(get("checkout", "/").key("57")).await;
    assert_eq!((reply.upstream(), reply.receipt().as_str()), ("checkout-42", "checkout@42;reason=no_fork"));
    let logged = lines(&pods.estate, "pod-42", 2).await;
    for (line, reason) in logged.iter().zip(["no_key", "no_fork"]) {
        assert_eq!((&line["target"], &line["preview"]), (&json!("fork"), &json!("42")), "{line}");
        assert_eq!(line["reason"], reason);
    }
    let metrics = pods.fork.metrics().await;
    let forked = [("service", "checkout"), ("target", "fork")];
    assert_eq!(metrics.sum("sidetrack_requests_total", &forked), 2.0);
}

#[tokio::test]
async fn a_fork_gives_its_key_to_calls_without_one() {
    let pods = Pods::start().await;
    let mut conn = http1(&pods.fork, OUTBOUND).await;
    let reply = conn.send(get("payment", "/")).await;
    reply.came_from("payment-42");
    assert_eq!(reply.receipt(), "payment@42;reason=fork;stamped");
    let echo = reply.echo();
    assert_eq!((echo.header("x-pr-id"), echo.header("baggage")), (Some("42"), Some("pr-id=42")));
    // Never in place of another one.
    let reply = conn.send(get("payment", "/").key("57")).await;
    assert_eq!((reply.upstream(), reply.receipt().as_str()), ("payment", "payment@baseline;reason=no_fork"));
    let reply = conn.send(get("payment", "/").header("baggage", "pr-id=57")).await;
    assert_eq!((reply.upstream(), reply.echo().header("x-pr-id")), ("payment", Some("57")));
    // Nor by the baseline, which has none to give.
    let reply = http1(&pods.baseline, OUTBOUND).await.send(get("payment", "/")).await;
    assert_eq!((reply.upstream(), reply.echo().header("x-pr-id")), ("payment", None));
    let stamped = pods.fork.metrics().await.sum("sidetrack_stamped_total", &[]);
    assert_eq!(stamped, 1.0);
    let logged = lines(&pods.estate, "pod-42", 3).await;
    let carriers: Vec<_> = logged.iter().map(|line| line["carrier"].as_str().unwrap()).collect();
    assert_eq!(carriers, ["stamp", "header", "baggage"]);
}

#[tokio::test]
async fn a_fork_that_calls_itself_by_its_name_reaches_itself() {
    let pods = Pods::start().await;
    let mut conn = http1(&pods.fork, OUTBOUND).await;
    for call in [get("checkout", "/"), get("checkout", "/").key("42")] {
        conn.send(call).await.came_from("checkout-42");
    }
    assert_eq!(pods.count("checkout"), 0);
    // A caller elsewhere reaches it by both sidecars.
    let reply = http1(&pods.baseline, OUTBOUND).await.send(get("checkout", "/").key("42")).await;
    reply.came_from("checkout-42");
}

#[tokio::test]
async fn what_leads_nowhere_is_told() {
    let pods = Pods::start().await;
    let mut conn = http1(&pods.fork, OUTBOUND).await;
    conn.send(get("api.example.com", "/").key("42")).await.failed(404, "no_route");
    let reply = conn.send(get("api.example.com", "/").key("42").header("baggage", "a=b")).await;
    assert!(reply.receipts().is_empty(), "nothing of ours is said about what is not ours: {reply:?}");
    let metrics = pods.fork.metrics().await;
    assert_eq!(metrics.sum("sidetrack_egress_stripped_total", &[]), 2.0);
    assert_eq!(metrics.sum("sidetrack_stamped_total", &[]), 0.0);
}

#[tokio::test]
async fn a_loop_is_cut_and_named() {
    let mut estate = Estate::new();
    let app = estate.upstream("checkout").await;
    let door = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for service in ["checkout", "payment"] {
        estate.service(service, json!({"baseline": [door]}));
    }
    // Whoever wrote this meant another pod.
    *estate.preview("42") = json!({"forks": {"checkout": [door]}});
    let sidecar = sidecar(&mut estate, door, &app, None).await;
    let mut conn = http1(&sidecar, INBOUND).await;
    let reply = conn.send(get("checkout", "/").key("42")).await;
    reply.failed(508, "loop_detected");
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("checkout"), "{detail}");
    conn.send(get("checkout", "/")).await.came_from("checkout");
}

#[tokio::test]
async fn http2_and_grpc_pass_both_ways() {
    let pods = Pods::speaking(Wire::H2c).await;
    for (listener, expected) in [(INBOUND, "checkout-42"), (OUTBOUND, "payment-42")] {
        let mut conn = Conn::http2(pods.baseline.listeners[listener]).await.unwrap();
        let call = post("payment", "/a.B/C", "four").grpc().key("42").act("trailers");
        let reply = conn.send(call).await;
        assert_eq!((reply.upstream(), reply.echo().body_len()), (expected, 4));
        assert_eq!(reply.echo().version(), "HTTP/2.0");
        assert_eq!(reply.trailers.get("x-checksum").unwrap(), "42");
        // Many on one connection, side by side.
        let mut other = Conn::http2(pods.baseline.listeners[listener]).await.unwrap();
        other.send(post("payment", "/a.B/C", "")).await;
    }
    assert_eq!((pods.count("checkout"), pods.count("payment")), (1, 1));
}

#[tokio::test]
async fn websockets_pass_both_ways() {
    let pods = Pods::start().await;
    for (listener, expected) in [(INBOUND, "checkout-42"), (OUTBOUND, "payment-42")] {
        let mut raw = sidetrack_tests::Raw::connect(pods.baseline.listeners[listener]).await;
        raw.write(format!(
            "GET / HTTP/1.1\r\nHost: payment\r\nX-PR-ID: 42\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
        ))
        .await;
        let head = raw.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(&accept_of(WEBSOCKET_KEY)), "{head}");
        raw.write("ping").await;
        assert_eq!(raw.exactly(4).await.unwrap(), b"ping", "{expected}");
        assert_eq!(pods.count(expected), 1);
    }
}

#[tokio::test]
async fn while_a_pod_ends_its_calls_go_on() {
    let mut pods = Pods::start().await;
    let mut inbound = http1(&pods.fork, INBOUND).await;
    let under_way = tokio::spawn(async move { inbound.send(get("checkout", "/").act("hold")).await });
    pods.estate.of("checkout-42").holding(1).await;
    let mut before = http1(&pods.fork, OUTBOUND).await;
    before.send(get("payment", "/")).await.came_from("payment-42");
    pods.fork.terminate();
    pods.fork.refuses().await;
    // On a connection that was there, and on a new one.
    let reply = before.send(get("payment", "/")).await;
    reply.came_from("payment-42");
    assert!(!reply.lists("connection", "close"), "{reply:?}");
    http1(&pods.fork, OUTBOUND).await.send(get("payment", "/")).await.came_from("payment-42");
    drop(before);
    pods.estate.of("checkout-42").release();
    under_way.await.unwrap().came_from("checkout-42");
    assert_eq!(pods.fork.ended().await.code(), Some(0));
}

#[tokio::test]
async fn without_a_file_it_follows_a_controller() {
    let mut estate = Estate::new();
    let app = estate.upstream("checkout-42").await;
    let (payment, fork) = (estate.upstream("payment").await, estate.upstream("payment-42").await);
    let controller = Controller::start().await;
    controller.service("payment.shop", &[payment]);
    controller.service("checkout.shop", &["127.0.0.1:1".to_owned()]);
    controller.preview("42", "payment.shop", &[fork]);
    let arguments = controller.arguments();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--mode", "ports", "--admin", "127.0.0.1:0", "--inbound", "127.0.0.1:0"]);
    arguments.extend(["--outbound", "127.0.0.1:0"]);
    let port = app.rsplit_once(':').unwrap().1.to_owned();
    let environment = [
        ("SIDETRACK_SERVICE", "checkout.shop"),
        ("SIDETRACK_KEY", "42"),
        ("SIDETRACK_APP_PORT", port.as_str()),
    ];
    let state = estate.folder().join("state");
    let environment = [&environment[..], &[("SIDETRACK_STATE_DIR", state.to_str().unwrap())]].concat();
    let sidecar = Gateway::sidecar(&estate.folder(), &arguments, &environment).await;
    // The workload is served before there is a table, too.
    let mut inbound = http1(&sidecar, INBOUND).await;
    let reply = inbound.send(get("checkout", "/").key("42")).await;
    reply.came_from("checkout-42");
    controller.publish();
    controller.acknowledged().await;
    let mut outbound = http1(&sidecar, OUTBOUND).await;
    for host in ["payment", "payment.shop:8080"] {
        let reply = outbound.send(get(host, "/")).await;
        assert_eq!(reply.receipt(), "payment.shop@42;reason=fork;stamped");
    }
    // Named by an absolute target, as a client sends it to what it takes for a proxy.
    let reply = outbound.send(request("GET", "payment", "http://payment/a")).await;
    assert_eq!((reply.upstream(), reply.echo().target()), ("payment-42", "/a"));
}

#[tokio::test]
async fn a_table_that_another_user_could_have_made_is_neither_read_nor_written() {
    let estate = Estate::new();
    let state = estate.folder().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    // Whose it is only root can change; where we are not, that all may write to it is enough.
    let is_root = std::os::unix::fs::chown(&state, Some(12345), None).is_ok();
    let controller = Controller::start().await;
    controller.service("payment.shop", &["127.0.0.1:1".to_owned()]);
    let controlled = controller.arguments();
    let mut arguments: Vec<&str> = controlled.iter().map(String::as_str).collect();
    arguments.extend([
        "--service",
        "checkout.shop",
        "--app-port",
        "1",
        "--state-dir",
        state.to_str().unwrap(),
    ]);
    arguments.extend(["--admin", "127.0.0.1:0", "--inbound", "127.0.0.1:0", "--outbound", "127.0.0.1:0"]);
    let sidecar = Gateway::sidecar(&estate.folder(), &arguments, &[]).await;
    controller.publish();
    controller.acknowledged().await;
    let why = if is_root { "belongs to user 12345" } else { "can be written by everybody" };
    for what in ["the table of the disk is not read", "the table can't be kept on disk"] {
        eventually(what, async || {
            sidecar.stderr().iter().any(|line| line.contains(what) && line.contains(why))
        })
        .await;
    }
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
}

#[tokio::test]
async fn its_options_are_checked() {
    let run = async |arguments: &[&str]| {
        let output = sidetrack_tests::run(&std::env::temp_dir(), &[&["sidecar"], arguments].concat()).await;
        (output.code, output.stderr)
    };
    let (code, said) = run(&["--controller", "https://127.0.0.1:1"]).await;
    assert!(code != 0 && said.contains("--service"), "{code} {said}");
    let (code, said) = run(&["--service", "a"]).await;
    assert!(code != 0 && said.contains("--controller"), "{code} {said}");
    let bad_key = ["--service", "a", "--key", "-4", "--controller", "https://127.0.0.1:1"];
    let (code, said) = run(&[&bad_key[..2], &["--key=-4"], &bad_key[4..]].concat()).await;
    assert!(code == 64 && said.contains("sidecar.key"), "{code} {said}");
    let estate = Estate::standard().await;
    estate.save();
    let (code, said) = run(&["-c", estate.file().to_str().unwrap()]).await;
    assert!(code == 64 && said.contains("sidetrack gateway -c"), "{code} {said}");
}
