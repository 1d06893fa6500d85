//! The receipt of the whole chain: `frontend -> checkout -> payment`, each an application of its own that hands on no
//! response header, with waypoints in front of them or with sidecars beside them.

mod app;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use serde_json::{Value, json};
use sidetrack_tests::{Call, Conn, Gateway, Reply, eventually, get};
use tempfile::TempDir;

use crate::{D, TRACEPARENT};
use app::{App, When};

/// What applications with a tracer hand on.
const W3C: [&str; 2] = ["traceparent", "tracestate"];

/// The trace of [`TRACEPARENT`].
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A folder with the secret that all proxies have.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("keys"), "a secret of this estate\n").unwrap();
    folder
}

/// Starts a proxy with this configuration.
async fn proxy(folder: &Path, name: &str, config: Value) -> Gateway {
    let file = folder.join(format!("{name}.yaml"));
    let mut all = json!({
        "admin": {"address": "127.0.0.1:0"},
        "accessLog": "off",
        "workers": 2,
        "stateDir": format!("{name}.state"),
        "context": {"keyFile": "keys"},
    });
    for (name, value) in config.as_object().unwrap() {
        match name.as_str() {
            "context" => value.as_object().unwrap().iter().for_each(|(name, value)| {
                all["context"][name] = value.clone();
            }),
            _ => all[name] = value.clone(),
        }
    }
    std::fs::write(&file, all.to_string()).unwrap();
    Gateway::start(&file).await
}

fn services(of: &[(&str, &App)], protocol: &str) -> Value {
    let one = |(name, app): &(&str, &App)| {
        ((*name).to_owned(), json!({"baseline": [app.endpoint()], "protocol": protocol}))
    };
    Value::Object(of.iter().map(one).collect())
}

/// A gateway, and waypoints in front of checkout and payment; preview 42 forks checkout.
struct Estate {
    gateway: Gateway,
    waypoint: Gateway,
    frontend: App,
    checkout: App,
    fork: App,
    payment: App,
    _folder: TempDir,
}

impl Estate {
    async fn start(when: When, context: Value, inside: Value) -> Self {
        let (protocol, leaf) = match when {
            When::Meanwhile => ("h2c", When::Meanwhile),
            _ => ("http1", When::Before),
        };
        let folder = folder();
        let frontend = App::start("frontend", when, &W3C).await;
        let checkout = App::start("checkout", leaf, &W3C).await;
        let fork = App::start("checkout-42", leaf, &W3C).await;
        let payment = App::start("payment", leaf, &W3C).await;
        let all = [("frontend", &frontend), ("checkout", &checkout), ("payment", &payment)];
        let previews = json!({"42": {"forks": {"checkout": [fork.endpoint()]}}});
        let of = |service: &str| json!({"address": "127.0.0.1:0", "service": service});
        let waypoint = json!({
            "role": "waypoint",
            "listeners": [of("checkout"), of("payment")],
            "services": services(&all, protocol),
            "previews": previews,
            "context": inside,
        });
        let waypoint = proxy(folder.path(), "waypoint", waypoint).await;
        let gateway = json!({
            "listeners": [{"address": "127.0.0.1:0"}],
            "domains": [D],
            "services": services(&all, protocol),
            "routes": [{"host": D, "service": "frontend"}],
            "previews": previews,
            "context": context,
        });
        let gateway = proxy(folder.path(), "gateway", gateway).await;
        frontend.calls(&waypoint.listeners[..1]);
        checkout.calls(&waypoint.listeners[1..]);
        fork.calls(&waypoint.listeners[1..]);
        Self { gateway, waypoint, frontend, checkout, fork, payment, _folder: folder }
    }

    /// With reports on, as [`Estate::start`] has it.
    async fn reporting(when: When) -> Self {
        Self::start(when, json!({"reports": "127.0.0.1:0"}), json!({})).await
    }

    /// Where the gateway listens for reports.
    fn reports(&self) -> SocketAddr {
        let said = self.gateway.stderr();
        let line = said.iter().find_map(|line| line.split_once("are taken address="));
        line.unwrap_or_else(|| panic!("{said:?}")).1.trim().parse().unwrap()
    }

    /// What the admin listener says of a trace.
    async fn receipts(&self, trace: &str) -> Value {
        self.gateway.admin(&format!("/v1/receipts/{trace}")).await.json()
    }
}

/// The hops of a chain without their generations.
fn chain(reply: &Reply) -> Vec<String> {
    let receipts = reply.receipts();
    receipts.iter().map(|entry| entry.split(";gen=").next().unwrap().to_owned()).collect()
}

const WHOLE: [&str; 3] =
    ["frontend@baseline;reason=no_fork", "checkout@42;reason=fork", "payment@baseline;reason=no_fork"];

/// Names and descriptions of the metrics of an answer.
fn metrics(reply: &Reply) -> Vec<(String, String)> {
    let lines = reply.header_lines("server-timing");
    let metrics =
        lines.iter().flat_map(|line| line.split(", ")).filter(|metric| !metric.starts_with("pr-trace;"));
    let one = |metric: &str| {
        let mut parts = metric.split(';');
        let name = parts.next().unwrap().to_owned();
        let desc = parts.next().unwrap().strip_prefix("desc=").unwrap().trim_matches('"').to_owned();
        assert!(parts.next().unwrap().strip_prefix("dur=").unwrap().parse::<f64>().is_ok(), "{metric}");
        (name, desc)
    };
    metrics.map(one).collect()
}

fn hops(request: &Value) -> Vec<(u64, String)> {
    let hops = request["hops"].as_array().unwrap().iter();
    let one =
        |hop: &Value| format!("{}@{}", hop["service"].as_str().unwrap(), hop["target"].as_str().unwrap());
    hops.map(|hop| (hop["depth"].as_u64().unwrap(), one(hop))).collect()
}

fn keyed() -> Call {
    get(D, "/").key("42").header("traceparent", TRACEPARENT)
}

#[tokio::test]
async fn waypoints_report_to_the_gateway_that_the_request_came_from() {
    let estate = Estate::reporting(When::Before).await;
    for _ in 0..20 {
        let reply = estate.gateway.send(get(D, "/").key("42")).await;
        reply.came_from("frontend");
        assert_eq!(chain(&reply), WHOLE, "{reply:?}");
        assert!(
            reply.receipts().iter().all(|entry| entry.rsplit_once(";gen=").unwrap().1.parse::<u64>().is_ok())
        );
        let names =
            [("pr-1", "frontend@baseline"), ("pr-1-1", "checkout@42"), ("pr-1-1-1", "payment@baseline")];
        let names = names.map(|(name, desc)| (name.to_owned(), desc.to_owned()));
        assert_eq!(metrics(&reply), names, "{reply:?}");
    }
    assert_eq!(
        (estate.checkout.seen().len(), estate.fork.seen().len(), estate.payment.seen().len()),
        (0, 20, 20)
    );
    let seen = estate.fork.seen().remove(0);
    let tracestate = seen["tracestate"].to_str().unwrap();
    assert!(tracestate.contains(&format!("pr-at={};", estate.reports())), "{tracestate}");
    assert!(tracestate.contains("pr-id=42"), "{tracestate}");
}

#[tokio::test]
async fn the_admin_listener_has_the_tree_with_what_came_late() {
    let estate = Estate::reporting(When::After).await;
    let reply = estate.gateway.send(keyed()).await;
    assert_eq!(chain(&reply)[0], WHOLE[0]);
    let mut told = Value::Null;
    eventually("the late hops are there", async || {
        told = estate.receipts(TRACE).await;
        hops(&told["requests"][0]).len() == 3
    })
    .await;
    let request = &told["requests"][0];
    let expected = [(0, "frontend@baseline"), (1, "checkout@42"), (2, "payment@baseline")];
    assert_eq!(hops(request), expected.map(|(depth, hop)| (depth, hop.to_owned())));
    let checkout = &request["hops"][1];
    assert_eq!(checkout["endpoint"], estate.fork.endpoint());
    assert_eq!((&checkout["reason"], &request["complete"]), (&json!("fork"), &json!(true)));
    assert!(checkout["durationMs"].as_f64().unwrap() >= request["hops"][2]["durationMs"].as_f64().unwrap());
    assert!(request["hops"][2]["startMs"].as_f64().unwrap() >= checkout["startMs"].as_f64().unwrap());
    for (id, status) in [("x", 400), ("0AF7651916cd43dd8448eb211c80319c", 400), (&"1".repeat(32), 404)] {
        assert_eq!(estate.gateway.admin(&format!("/v1/receipts/{id}")).await.status, status, "{id}");
    }
    let silent = estate.waypoint.admin(&format!("/v1/receipts/{TRACE}")).await;
    assert_eq!((silent.status, silent.text().contains("context.reports is not set")), (404, true));
}

#[tokio::test]
async fn requests_of_one_trace_keep_their_chains_apart() {
    let estate = Estate::reporting(When::Before).await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut conn = estate.gateway.http1().await;
        calls.push(tokio::spawn(async move { conn.send(keyed()).await }));
    }
    for call in calls {
        assert_eq!(chain(&call.await.unwrap()), WHOLE);
    }
    let told = estate.receipts(TRACE).await;
    let requests = told["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 8);
    assert!(requests.iter().all(|request| hops(request).len() == 3), "{told}");
}

#[tokio::test]
async fn calls_made_at_once_stand_beside_each_other() {
    let estate = Estate::reporting(When::AtOnce).await;
    let [checkout, payment] = estate.waypoint.listeners[..] else { panic!() };
    estate.frontend.calls(&[checkout, payment, payment]);
    let reply = estate.gateway.send(get(D, "/").key("42")).await;
    let mut told: Vec<_> =
        metrics(&reply).into_iter().filter(|(name, _)| name.len() == "pr-1-1".len()).collect();
    told.sort_by(|one, other| one.1.cmp(&other.1));
    let told: Vec<_> = told.iter().map(|(_, desc)| desc.as_str()).collect();
    assert_eq!(told, ["checkout@42", "payment@baseline", "payment@baseline"], "{reply:?}");
    assert_eq!(chain(&reply).len(), 5);
}

#[tokio::test]
async fn without_a_key_nothing_is_told_and_nobody_is_told_where() {
    let estate = Estate::reporting(When::Before).await;
    let stranger = format!("pr-at={};00000000000000ff", estate.reports());
    let call = get(D, "/").header("traceparent", TRACEPARENT);
    let reply = estate.gateway.send(call.header("tracestate", &format!("a=1,{stranger},b=2"))).await;
    reply.came_from("frontend");
    assert!(reply.receipts().is_empty() && reply.header("server-timing").is_none(), "{reply:?}");
    assert_eq!(estate.frontend.seen()[0]["tracestate"], "a=1,b=2");
    assert_eq!(estate.gateway.admin(&format!("/v1/receipts/{TRACE}")).await.status, 404);
    assert_eq!((estate.checkout.seen().len(), estate.payment.seen().len()), (1, 1));
}

#[tokio::test]
async fn nobody_makes_proxies_report_to_strangers() {
    let heard = UdpSocket::bind("127.0.0.1:0").unwrap();
    heard.set_nonblocking(true).unwrap();
    let stranger = format!("pr-at={};00000000000000ff,pr-id=42", heard.local_addr().unwrap());
    // From outside: the gateway writes its own, or takes it out.
    for context in [json!({}), json!({"reports": "127.0.0.1:0"})] {
        let estate = Estate::start(When::Before, context.clone(), json!({})).await;
        estate.gateway.send(keyed().header("tracestate", &stranger)).await.came_from("frontend");
        let seen = estate.payment.seen().remove(0);
        let tracestate = seen["tracestate"].to_str().unwrap();
        assert_eq!(tracestate.contains("pr-at"), context != json!({}), "{tracestate}");
        assert!(!tracestate.contains("00000000000000ff"), "{tracestate}");
    }
    // From inside: only networks of gateways are believed.
    let estate = Estate::start(When::Before, json!({}), json!({"reportTo": ["10.0.0.0/8"]})).await;
    let call = || keyed().header("tracestate", &stranger);
    let mut conn = Conn::http1(estate.waypoint.listeners[0]).await.unwrap();
    assert_eq!(chain(&conn.send(call()).await), [WHOLE[1]]);
    assert_eq!(estate.fork.seen()[0]["tracestate"], "pr-id=42");
    assert!(heard.recv(&mut [0; 1000]).is_err(), "a datagram was sent");
    // The socket is one that would have heard it.
    let estate = Estate::start(When::Before, json!({}), json!({})).await;
    let mut conn = Conn::http1(estate.waypoint.listeners[0]).await.unwrap();
    conn.send(call()).await.came_from("checkout-42");
    eventually("a datagram", async || heard.recv(&mut [0; 1000]).is_ok()).await;
}

#[tokio::test]
async fn forged_reports_are_refused_and_a_flood_is_in_nobodys_way() {
    let estate = Estate::reporting(When::Before).await;
    let to = estate.reports();
    assert_eq!(chain(&estate.gateway.send(keyed()).await), WHOLE);
    // A report in every way but its MAC, of a trace that is waited for.
    let mut forged =
        [b"sdtr\x01".to_vec(), u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes().to_vec()].concat();
    forged.extend([[0; 7].as_slice(), &[9], &[0; 24 + 4 + 1 + 16 + 2], &[0, 4], b"x@42", &[0; 16]].concat());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = tokio::task::spawn_blocking(move || {
        for number in 0_u32..200_000 {
            let noise = [&number.to_be_bytes()[..], &[7; 100]].concat();
            let _ = socket.send_to(if number % 2 == 0 { &forged } else { &noise }, to);
        }
    });
    let mut conn = estate.gateway.http1().await;
    let mut whole = 0;
    for _ in 0..100 {
        let reply = conn.send(get(D, "/").key("42")).await;
        reply.came_from("frontend");
        let told = chain(&reply);
        assert_eq!(told[0], WHOLE[0]);
        whole += usize::from(told == WHOLE);
    }
    flood.await.unwrap();
    println!("{whole} of 100 chains were whole in the flood");
    eventually("chains are whole again", async || {
        chain(&estate.gateway.send(get(D, "/").key("42")).await) == WHOLE
    })
    .await;
    let told = estate.receipts(TRACE).await;
    assert_eq!(hops(&told["requests"][0]).len(), 3, "{told}");
    let metrics = estate.gateway.metrics().await;
    assert!(metrics.sum("sidetrack_receipts_total", &[("code", "refused")]) > 100.0);
    assert!(metrics.sum("sidetrack_receipts_total", &[("code", "ok")]) >= 2.0);
}

#[tokio::test]
async fn grpc_has_the_chain_in_its_trailers() {
    let estate = Estate::reporting(When::Meanwhile).await;
    let mut conn = estate.gateway.http2().await;
    let reply = conn.send(get(D, "/svc/Call").grpc().key("42")).await;
    assert_eq!(chain(&reply)[0], WHOLE[0], "{reply:?}");
    let trailer = reply.trailers["x-pr-route"].to_str().unwrap().to_owned();
    let told: Vec<_> = trailer.split(", ").map(|entry| entry.split(";gen=").next().unwrap()).collect();
    assert_eq!(told, WHOLE);
    assert_eq!(reply.trailers["grpc-status"], "0");
    let reply = conn.send(get(D, "/svc/Call").grpc()).await;
    assert!(!reply.trailers.contains_key("x-pr-route"), "{reply:?}");
}

#[tokio::test]
async fn the_services_own_timings_stay() {
    let world = sidetrack_tests::World::standard().await;
    let call = get(D, "/api/checkout").answer_with("server-timing", "db;dur=53, cache;desc=\"hit\"");
    let reply = world.send(call.key("42")).await;
    let lines = reply.header_lines("server-timing");
    assert_eq!(lines[0], "db;dur=53, cache;desc=\"hit\"");
    assert!(lines[1].starts_with("pr-1;desc=\"checkout@42\";dur="), "{lines:?}");
    let again = world.send(get(D, "/").answer_with("server-timing", "db;dur=53")).await;
    assert_eq!(again.header_lines("server-timing"), ["db;dur=53"]);
}

/// `explain --send` of the first listener, with these further arguments.
async fn explain(estate: &Estate, arguments: &[&str]) -> sidetrack_tests::Output {
    let url = format!("http://{D}:{}/", estate.gateway.address().port());
    estate.gateway.command(&[&["explain", "--send", &url], arguments].concat()).await
}

#[tokio::test]
async fn explain_sends_and_prints_the_tree() {
    let estate = Estate::reporting(When::After).await;
    // It waits for half a second of silence, in which a busy machine may keep a hop from reporting.
    let mut output = explain(&estate, &["-H", "X-PR-ID: 42"]).await;
    eventually("all hops report in time", async || {
        let is_whole = output.stdout.contains("payment@baseline");
        if !is_whole {
            output = explain(&estate, &["-H", "X-PR-ID: 42"]).await;
        }
        is_whole
    })
    .await;
    assert_eq!(output.code, 0, "{output:?}");
    let lines: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let of = |name: &str| {
        lines.iter().find(|line| line.first() == Some(&name)).unwrap_or_else(|| panic!("{output:?}"))
    };
    for (name, reason, endpoint) in [
        ("frontend@baseline", "no_fork", estate.frontend.endpoint()),
        ("checkout@42", "fork", estate.fork.endpoint()),
        ("payment@baseline", "no_fork", estate.payment.endpoint()),
    ] {
        assert_eq!(of(name)[2..], ["ms", reason, &endpoint], "{output:?}");
    }
    assert!(output.stdout.contains("\n      payment@baseline "), "{output:?}");
    let mut json = Value::Null;
    eventually("all hops report in time again", async || {
        let output = explain(&estate, &["-H", "X-PR-ID: 42", "--json", "-d", "body"]).await;
        json = serde_json::from_str(&output.stdout).unwrap();
        json["hops"].as_array().is_some_and(|hops| hops.len() == 3)
    })
    .await;
    let told: Vec<_> =
        json["hops"].as_array().unwrap().iter().map(|hop| (&hop["depth"], &hop["target"])).collect();
    assert_eq!(
        told,
        [(&json!(0), &json!("baseline")), (&json!(1), &json!("42")), (&json!(2), &json!("baseline"))]
    );
    assert_eq!((&json["status"], &json["complete"], &json["notes"]), (&json!(200), &json!(true), &json!([])));
}

#[tokio::test]
async fn explain_says_where_the_chain_ends() {
    let estate = Estate::start(When::Before, json!({}), json!({})).await;
    let output = explain(&estate, &["-H", "X-PR-ID: 42"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("frontend answered; nothing is known of calls behind it"), "{output:?}");
    let output = explain(&estate, &[]).await;
    assert_eq!((output.code, output.stdout.contains("no receipt")), (0, true), "{output:?}");
    // What a gateway says that another admin listener knows nothing of.
    let reporting = Estate::reporting(When::Before).await;
    let url = format!("http://a.test:{}/", reporting.gateway.address().port());
    let resolve = format!("a.test:{}:127.0.0.1", reporting.gateway.address().port());
    let call = [
        "explain",
        "--send",
        &url,
        "-H",
        "Host: preview.localhost",
        "-H",
        "X-PR-ID: 42",
        "--resolve",
        &resolve,
    ];
    let output = estate.gateway.command(&call).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("      payment@baseline "), "{output:?}");
    assert!(output.stdout.contains("the gateway was not asked: no receipts are kept here"), "{output:?}");
    let gone = format!("http://127.0.0.1:{}/", sidetrack_tests::Refused::new().address.port());
    let output = estate.gateway.command(&["explain", "--send", &gone]).await;
    assert_eq!((output.code, output.stderr.contains("can't be reached")), (1, true), "{output:?}");
}

#[tokio::test]
async fn explain_sends_over_tls_to_whom_it_trusts() {
    let mut estate = sidetrack_tests::Estate::standard().await;
    estate.config["listeners"][0]["tls"] = json!({"selfSigned": {"names": [format!("*.{D}")]}});
    estate.config["stateDir"] = "state".into();
    let world = estate.start().await;
    let url = format!("https://pr-57.{D}:{}/", world.address().port());
    let ca = world.estate.folder().join("state/ca.pem");
    for trust in [&["--cacert", ca.to_str().unwrap()][..], &["-k"]] {
        let output = world.command(&[&["explain", "--send", &url], trust].concat()).await;
        assert_eq!((output.code, output.stdout.contains("shop@57")), (0, true), "{output:?}");
        assert!(output.stdout.contains("HTTP/2"), "{output:?}");
    }
    let output = world.command(&["explain", "--send", &url]).await;
    assert_eq!((output.code, output.stderr.contains("TLS")), (1, true), "{output:?}");
}

mod sidecars;
