//! The admin listener: who may ask, the metrics, and `explain` against what really happens.

use std::time::Duration;

use serde_json::{Value, json};
use sidetrack_tests::{Call, Conn, Estate, Refused, World, eventually, get, request};

use crate::{D, TRACEPARENT};

#[tokio::test]
async fn probes_and_documents() {
    let world = World::standard().await;
    for path in ["/livez", "/readyz", "/metrics", "/v1/table", "/v1/previews"] {
        assert_eq!(world.admin(path).await.status, 200, "{path}");
    }
    assert!(world.admin("/v1/table").await.json().is_object());
    assert_eq!(world.admin("/nothing").await.status, 404);
    let wrong = world.ask(request("POST", &world.admin.to_string(), "/v1/table")).await;
    assert_eq!(wrong.status, 405);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let world = World::standard().await;
    let port = world.gateway.admin.port();
    let own = world.gateway.admin.to_string();
    for host in [own.clone(), format!("localhost:{port}"), format!("[::1]:{port}"), "127.0.0.1".to_owned()] {
        assert_eq!(world.ask(get(&host, "/v1/previews")).await.status, 200, "{host}");
    }
    for host in ["rebound.example", "preview.localhost", "127.0.0.1.nip.io", ""] {
        let reply = world.ask(get(host, "/v1/previews")).await;
        assert!((400..500).contains(&reply.status), "{host:?}: {}", reply.status);
    }
    for origin in ["https://evil.example", "null", "http://preview.localhost:8080"] {
        for call in [get(&own, "/v1/previews"), request("DELETE", &own, "/v1/previews/42")] {
            let reply = world.ask(call.header("origin", origin)).await;
            assert!((400..500).contains(&reply.status), "{origin}: {}", reply.status);
        }
    }
    world.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
}

#[tokio::test]
async fn beyond_loopback_only_probes_and_metrics() {
    let mut estate = Estate::standard().await;
    estate.config["admin"] = json!({"address": "0.0.0.0:0"});
    let world = estate.start().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(world.admin(path).await.status, 200, "{path}");
    }
    for path in ["/v1/table", "/v1/previews", "/v1/explain"] {
        let reply = world.admin(path).await;
        assert!([401, 403, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
}

#[tokio::test]
async fn beyond_loopback_a_token_opens_the_rest() {
    let mut estate = Estate::standard().await;
    estate.write("token", "sesame\n");
    estate.config["admin"] = json!({"address": "0.0.0.0:0", "tokenFile": "token"});
    let world = estate.start().await;
    let host = world.gateway.admin.to_string();
    let call = || get(&host, "/v1/previews");
    for call in
        [call(), call().header("authorization", "Bearer wrong"), call().header("authorization", "sesame")]
    {
        assert_eq!(world.ask(call).await.status, 401);
    }
    assert_eq!(world.ask(call().header("authorization", "Bearer sesame")).await.status, 200);
    assert_eq!(world.admin("/livez").await.status, 200, "probes need none");
}

/// The families of the contract.
const FAMILIES: [&str; 24] = [
    "requests_total",
    "request_duration_seconds",
    "request_bytes_total",
    "response_bytes_total",
    "retries_total",
    "decision_drains_total",
    "errors_total",
    "connections",
    "requests_in_flight",
    "upstream_connections",
    "tls_handshakes_total",
    "generation",
    "table_services",
    "table_previews",
    "table_forks",
    "config_reloads_total",
    "config_last_reload_ok",
    "log_dropped_total",
    "receipts_total",
    "egress_stripped_total",
    "stamped_total",
    "opaque_connections_total",
    "limits_reached_total",
    "build_info",
];

#[tokio::test]
async fn every_family_is_there() {
    let world = World::standard().await;
    world.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
    world.send(get(D, "/").key("99")).await.failed(404, "unknown_preview");
    let reply = world.admin("/metrics").await;
    assert!(reply.header("content-type").unwrap().starts_with("text/plain"), "{reply:?}");
    let metrics = world.metrics().await;
    for family in FAMILIES {
        assert!(metrics.has(&format!("sidetrack_{family}")), "{family} in\n{}", reply.text());
    }
    for label in metrics.labels() {
        let known = ["service", "target", "code", "reason", "preview", "kind", "le"];
        assert!(known.contains(&label.as_str()), "label {label} in\n{}", reply.text());
    }
}

#[tokio::test]
async fn the_numbers_are_right() {
    let world = World::standard().await;
    let before = world.metrics().await;
    let mut conn = world.http1().await;
    for _ in 0..3 {
        conn.send(get(D, "/api/checkout").key("42").act("bytes 1000")).await;
        conn.send(request("POST", D, "/api/checkout").body(sidetrack_tests::pattern(500))).await;
        conn.send(get(D, "/").key("42")).await;
        conn.send(get(D, "/").key("99")).await;
        conn.send(get(D, "/").act("status 500")).await;
    }
    eventually("all are counted", async || {
        world.metrics().await.sum("sidetrack_requests_total", &[])
            - before.sum("sidetrack_requests_total", &[])
            >= 15.0
    })
    .await;
    let after = world.metrics().await;
    let grown = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let requests = "sidetrack_requests_total";
    assert_eq!(grown(requests, &[]), 15.0);
    assert_eq!(grown(requests, &[("service", "checkout"), ("target", "fork"), ("reason", "fork")]), 3.0);
    assert_eq!(
        grown(requests, &[("service", "checkout"), ("target", "baseline"), ("reason", "no_key")]),
        3.0
    );
    assert_eq!(grown(requests, &[("service", "shop"), ("target", "baseline"), ("reason", "no_fork")]), 3.0);
    assert_eq!(grown("sidetrack_errors_total", &[("code", "unknown_preview")]), 3.0);
    assert_eq!(grown("sidetrack_request_duration_seconds_count", &[]), 15.0);
    assert!(
        grown("sidetrack_response_bytes_total", &[("service", "checkout"), ("target", "fork")]) >= 3000.0
    );
    assert!(
        grown("sidetrack_request_bytes_total", &[("service", "checkout"), ("target", "baseline")]) >= 1500.0
    );
    assert_eq!(after.sum("sidetrack_table_services", &[]), 2.0);
    assert_eq!(after.sum("sidetrack_table_previews", &[]), 2.0);
    assert_eq!(after.sum("sidetrack_table_forks", &[]), 2.0);
    assert_eq!(after.sum("sidetrack_connections", &[]), 1.0);
    assert_eq!(after.sum("sidetrack_requests_in_flight", &[]), 0.0);
    assert!(after.sum("sidetrack_upstream_connections", &[]) >= 1.0);
}

#[tokio::test]
async fn a_client_cannot_invent_series() {
    let mut world = World::standard().await;
    for key in ["42", "57", "99"] {
        world.send(get(D, "/api/checkout").key(key)).await;
    }
    world.send(get(D, "/api/checkout")).await;
    world.send(get("nowhere.test", "/")).await;
    // A request is counted when its answer has been sent.
    eventually("all are counted", async || world.metrics().await.sum("sidetrack_requests_total", &[]) == 5.0)
        .await;
    let before = world.metrics().await;
    let mut conn = world.http1().await;
    for number in 0..50 {
        conn.send(get(D, "/api/checkout").key(&format!("made-up-{number}"))).await;
        conn.send(get(&format!("made-up-{number}.test"), "/")).await;
        conn.send(request(&format!("M{number}"), D, "/api/checkout")).await;
    }
    let after = world.metrics().await;
    assert_eq!(after.series(), before.series());
    assert!(after.values_of("preview").iter().all(|key| ["42", "57"].contains(&key.as_str())), "{after:?}");
    assert!(after.values_of("preview").contains(&"42".to_owned()), "{after:?}");
    // A preview that leaves takes its series with it.
    world.estate.config["previews"].as_object_mut().unwrap().remove("42");
    let generation = world.generation().await;
    world.estate.save();
    world.reloaded(generation).await;
    eventually("its series are gone", async || {
        !world.metrics().await.values_of("preview").contains(&"42".to_owned())
    })
    .await;
}

/// A request, and the same said to `explain`.
fn twice(url_host: &str, target: &str, headers: &[(&str, &str)]) -> (Call, String, Vec<String>) {
    let call = headers.iter().fold(get(url_host, target), |call, (name, value)| call.header(name, value));
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    (call, format!("http://{url_host}{target}"), lines)
}

#[tokio::test]
async fn explain_says_what_happens() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.preview("1")["forks"]["checkout"] = json!([refused.address.to_string()]);
    estate.preview("1")["onForkDown"] = "baseline".into();
    estate.preview("2")["parents"] = json!(["42"]);
    estate.preview("42")["aliases"] = json!(["demo"]);
    let world = estate.start().await;
    // Whoever explains must know that the fork is down.
    world.send(get(D, "/api/checkout").key("1")).await.came_from("checkout");
    for (call, url, lines) in [
        twice(D, "/api/checkout", &[("X-PR-ID", "42")]),
        twice("demo.preview.localhost", "/api/checkout", &[]),
        twice("checkout--pr-42.preview.localhost", "/", &[]),
        twice(D, "/?pr-id=42,57", &[]),
        twice(D, "/", &[("Baggage", "a=1,pr-id=42")]),
        twice(D, "/api/checkout", &[("traceparent", TRACEPARENT), ("tracestate", "pr-id=2")]),
        twice(D, "/api/checkout", &[("cookie", "pr-id=57")]),
        twice(D, "/api/checkout", &[("origin", "http://pr-42.preview.localhost")]),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let said = world.explain(&url, &lines).await;
        let reply = world.send(call).await;
        let receipt = reply.receipts().remove(0);
        let target = match said["target"].as_str().unwrap() {
            "fork" => receipt.split(['@', ';']).nth(1).unwrap().to_owned(),
            other => other.to_owned(),
        };
        let expected = format!(
            "{}@{target};reason={};gen={}",
            said["service"].as_str().unwrap(),
            said["reason"].as_str().unwrap(),
            said["generation"]
        );
        assert_eq!(receipt, expected, "{url} {lines:?}: {said}");
        let keys: Vec<&str> =
            said["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert_eq!(reply.echo().header("x-pr-id"), Some(keys.join(",").as_str()));
        assert_eq!(said["endpoint"], world.of(reply.upstream()).endpoint(), "{said}");
    }
    let keyless = world.explain("http://preview.localhost/", &[]).await;
    assert_eq!((&keyless["keys"], &keyless["reason"]), (&json!([]), &json!("no_key")));
    assert_eq!(keyless["carrier"], Value::Null);
    // An error is explained too, and in the same words.
    for (url, line, code) in [
        ("http://preview.localhost/", "X-PR-ID: 99", "unknown_preview"),
        ("http://preview.localhost/", "X-PR-ID: 4_2", "malformed_key"),
        ("http://preview.localhost/?pr-id=57", "X-PR-ID: 42", "conflicting_keys"),
        ("http://nowhere.test/", "X-PR-ID: 42", "no_route"),
    ] {
        let output = world.command(&["explain", url, "-H", line]).await;
        assert!(format!("{}{}", output.stdout, output.stderr).contains(code), "{code}: {output:?}");
    }
    assert_eq!(world.of("checkout").count() + world.of("checkout-42").count(), 7, "explaining sends nothing");
}

/// What a fork that is down means, by its preview's setting, told before anybody sends a request.
#[tokio::test]
async fn explain_of_a_fork_that_is_down() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.config["services"]["checkout"]["healthCheck"] = json!({"path": "/", "interval": "1s"});
    for (key, setting) in [("1", "fail"), ("2", "baseline"), ("3", "hold")] {
        estate.preview(key)["forks"]["checkout"] = json!([refused.address.to_string()]);
        estate.preview(key)["onForkDown"] = setting.into();
    }
    let world = estate.start().await;
    let url = "http://preview.localhost/api/checkout";
    eventually("the check has found the forks down", async || {
        world.explain(url, &["X-PR-ID: 2"]).await["reason"] == "fork_down"
    })
    .await;
    let baseline = world.explain(url, &["X-PR-ID: 2"]).await;
    assert_eq!((&baseline["target"], &baseline["error"]), (&json!("baseline"), &Value::Null), "{baseline}");
    assert_eq!(baseline["endpoint"], world.of("checkout").endpoint());
    let held = world.explain(url, &["X-PR-ID: 3"]).await;
    assert_eq!((&held["reason"], &held["error"]), (&json!("fork_down"), &Value::Null), "{held}");
    assert!(held["steps"].as_array().unwrap().iter().any(|step| step["step"] == "hold"), "{held}");
    for lines in [&["X-PR-ID: 1"][..], &["X-PR-ID: 2", "X-PR-Strict: 1"]] {
        let mut command = vec!["explain", url];
        command.extend(lines.iter().flat_map(|line| ["-H", *line]));
        let output = world.command(&command).await;
        assert!(format!("{}{}", output.stdout, output.stderr).contains("fork_unavailable"), "{output:?}");
    }
}

#[tokio::test]
async fn the_admin_listener_has_its_own_thread() {
    let world = World::standard().await;
    let mut busy = world.http1().await;
    let held = tokio::spawn(async move { busy.send(get(D, "/").act("hold")).await });
    world.of("shop").holding(1).await;
    let mut admin = Conn::http1(world.gateway.admin).await.unwrap();
    let ask = admin.send(get(&world.gateway.admin.to_string(), "/livez"));
    let reply = tokio::time::timeout(Duration::from_secs(5), ask).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(world.metrics().await.sum("sidetrack_requests_in_flight", &[]), 1.0);
    world.of("shop").release();
    held.await.unwrap();
}
