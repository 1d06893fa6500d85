//! What goes onward: hop-by-hop headers, the forwarded headers, the key in three carriers, the host, and the
//! protocols of upstreams.

use serde_json::json;
use sidetrack_tests::{Ca, Estate, RawUpstream, Wire, World, get, post};

use crate::{D, TRACEPARENT};

#[tokio::test]
async fn hop_by_hop_headers_stay_here() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: {D}\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nX-Public: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\r\n"
    ))
    .await;
    let (status, _, body) = raw.answer().await;
    assert_eq!(status, 200);
    let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let names: Vec<&str> =
        echo["headers"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap()).collect();
    assert!(names.contains(&"x-public"), "{names:?}");
    for name in ["connection", "x-private", "keep-alive", "proxy-connection", "te"] {
        assert!(!names.contains(&name), "{name} in {names:?}");
    }
    let call = get(D, "/")
        .answer_with("connection", "x-inner")
        .answer_with("x-inner", "1")
        .answer_with("x-outer", "2");
    let reply = world.send(call.answer_with("keep-alive", "timeout=9")).await;
    assert_eq!(reply.header("x-outer"), Some("2"));
    assert_eq!((reply.header("x-inner"), reply.header("keep-alive")), (None, None));
}

#[tokio::test]
async fn forwarded_headers_are_ours() {
    let world = World::standard().await;
    let port = world.address().port();
    let call = get("preview.localhost:1234", "/")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-port", "443")
        .header("x-forwarded-prefix", "/evil")
        .header("x-forwarded-user", "evil")
        .header("x-forwarded-client-cert", "By=spiffe://evil")
        .header("forwarded", "for=192.0.2.7")
        .header("x-request-id", "theirs");
    let reply = world.send(call).await;
    reply.came_from("shop");
    let echo = reply.echo();
    assert_eq!(echo.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(echo.header("x-forwarded-host"), Some("preview.localhost:1234"));
    assert_eq!(echo.header("x-forwarded-proto"), Some("http"));
    assert!([port.to_string().as_str(), "1234"].contains(&echo.header("x-forwarded-port").unwrap()));
    for name in ["x-forwarded-prefix", "x-forwarded-user", "x-forwarded-client-cert"] {
        assert_eq!(echo.header(name), None, "{name}");
    }
    let forwarded = echo.header("forwarded").unwrap().to_ascii_lowercase();
    assert!(!forwarded.contains("192.0.2.7"), "{forwarded}");
    for pair in ["for=127.0.0.1", "host=\"preview.localhost:1234\"", "proto=http"] {
        assert!(forwarded.contains(pair), "{pair} in {forwarded}");
    }
    let id = echo.header("x-request-id").unwrap();
    assert!(id != "theirs" && id.len() >= 16, "{id}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let mut estate = Estate::standard().await;
    estate.config["listeners"][0]["trustedProxies"] = json!(["127.0.0.0/8"]);
    let world = estate.start().await;
    let call = get(D, "/")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-forwarded-host", "shop.example")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=192.0.2.7;proto=https")
        .header("x-request-id", "theirs");
    let reply = world.send(call).await;
    let echo = reply.echo();
    assert_eq!(echo.members("x-forwarded-for"), ["192.0.2.7", "127.0.0.1"]);
    assert_eq!(echo.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(echo.header("x-forwarded-proto"), Some("https"));
    assert_eq!(echo.header("x-request-id"), Some("theirs"));
    let forwarded = echo.members("forwarded");
    assert_eq!(forwarded.len(), 2, "{forwarded:?}");
    assert_eq!(forwarded[0], "for=192.0.2.7;proto=https");
    // The browser is on TLS, and its cookie goes nowhere else.
    let link = || get(D, "/?pr-id=42");
    let reply = world.send(link().header("x-forwarded-proto", "https")).await;
    assert!(reply.header("set-cookie").unwrap().ends_with("; Secure"), "{reply:?}");
    assert_eq!(reply.header("clear-site-data"), Some("\"cache\""));
    let reply = world.send(link()).await;
    assert!(!reply.header("set-cookie").unwrap().contains("Secure"), "{reply:?}");
}

#[tokio::test]
async fn no_key_nothing_added() {
    let world = World::standard().await;
    let echo = world.send(get(D, "/").header("baggage", "a=1")).await;
    let echo = echo.echo();
    assert_eq!(echo.header("baggage"), Some("a=1"));
    for name in ["x-pr-id", "traceparent", "tracestate"] {
        assert_eq!(echo.header(name), None, "{name}");
    }
    let bare = world.send(get(D, "/")).await;
    assert_eq!(bare.echo().header("baggage"), None);
    let foreign = get(D, "/").header("traceparent", TRACEPARENT).header("tracestate", "rojo=1,congo=2");
    let traced = world.send(foreign).await;
    assert_eq!(traced.echo().header("traceparent"), Some(TRACEPARENT));
    assert_eq!(traced.echo().header("tracestate"), Some("rojo=1,congo=2"));
}

#[tokio::test]
async fn the_key_goes_on_in_three_carriers() {
    let world = World::standard().await;
    let reply = world.send(get("pr-42.preview.localhost", "/api/checkout")).await;
    let echo = reply.echo();
    assert_eq!(echo.header("x-pr-id"), Some("42"));
    assert_eq!(echo.header("baggage"), Some("pr-id=42"));
    assert_eq!(echo.header("tracestate"), Some("pr-id=42"));
    let parent: Vec<&str> = echo.header("traceparent").unwrap().split('-').collect();
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert_eq!((parent[0], parent[1].len(), parent[2].len(), parent[3]), ("00", 32, 16, "01"), "{parent:?}");
    assert!(hex(parent[1]) && hex(parent[2]) && parent[1] != "0".repeat(32) && parent[2] != "0".repeat(16));
}

#[tokio::test]
async fn baggage_is_merged_into_one_line() {
    let world = World::standard().await;
    for (sent, received) in [
        (vec!["a=1, b = 2;p=x ,c=%20"], vec!["a=1, b = 2;p=x ,c=%20", "pr-id=42"]),
        (vec!["a=1", "b=2"], vec!["a=1", "b=2", "pr-id=42"]),
        (vec!["a=1,pr-id=42,b=2"], vec!["a=1,pr-id=42,b=2"]),
        (vec!["a=1,pr-id=PR-42,b=2"], vec!["a=1", "b=2", "pr-id=42"]),
        (vec!["garbage,=,a=1"], vec!["garbage,=,a=1", "pr-id=42"]),
    ] {
        let mut call = get(D, "/api/checkout").key("42");
        for line in &sent {
            call = call.header("baggage", line);
        }
        let reply = world.send(call).await;
        let echo = reply.echo();
        let baggage = echo.header("baggage").unwrap();
        for part in &received {
            assert!(baggage.contains(part), "{part:?} in {baggage:?} after {sent:?}");
        }
        assert_eq!(baggage.matches("pr-id=").count(), 1, "{baggage:?}");
        assert_eq!(baggage.matches("a=1").count(), 1, "{baggage:?}");
    }
    let said = world.send(get(D, "/api/checkout").header("baggage", "a=1 , pr-id=42 ,b=2;x=y")).await;
    assert_eq!(said.echo().header("baggage"), Some("a=1 , pr-id=42 ,b=2;x=y"), "left in its place");
}

#[tokio::test]
async fn tracestate_goes_in_front() {
    let world = World::standard().await;
    let traced = |state: &[&str]| {
        let call = get(D, "/api/checkout").key("42").header("traceparent", TRACEPARENT);
        state.iter().fold(call, |call, line| call.header("tracestate", line))
    };
    for (sent, received) in [
        (vec![], "pr-id=42"),
        (vec!["rojo=1,congo=2"], "pr-id=42,rojo=1,congo=2"),
        (vec!["rojo=1", "congo=2"], "pr-id=42,rojo=1,congo=2"),
        (vec!["rojo=1,pr-id=42,congo=2"], "pr-id=42,rojo=1,congo=2"),
    ] {
        let reply = world.send(traced(&sent)).await;
        let echo = reply.echo();
        assert_eq!(echo.header("tracestate").unwrap().replace(' ', ""), received, "{sent:?}");
        assert_eq!(echo.header("traceparent"), Some(TRACEPARENT), "the caller's own trace goes on");
    }
    // A broken traceparent is replaced, and its tracestate with it.
    let broken = get(D, "/api/checkout").key("42").header("traceparent", "x").header("tracestate", "rojo=1");
    let reply = world.send(broken).await;
    assert!(reply.echo().header("traceparent").unwrap().starts_with("00-"));
    assert_eq!(reply.echo().header("tracestate"), Some("pr-id=42"));
}

#[tokio::test]
async fn the_host_as_the_service_wants_it() {
    let mut estate = Estate::standard().await;
    for (service, host) in [("based", "base"), ("named", "inner.example"), ("kept", "keep")] {
        estate.baseline(service).await;
        estate.config["services"][service]["host"] = host.into();
        estate.route(&format!("{service}.preview.localhost"), "/", service);
    }
    let world = estate.start().await;
    for (host, received) in [
        ("pr-42.based.preview.localhost", "based.preview.localhost"),
        ("based--pr-42.preview.localhost", "based.preview.localhost"),
        ("based.preview.localhost", "based.preview.localhost"),
        ("pr-42.named.preview.localhost", "inner.example"),
        ("pr-42.kept.preview.localhost", "pr-42.kept.preview.localhost"),
        ("kept.preview.localhost:81", "kept.preview.localhost:81"),
    ] {
        let reply = world.send(get(host, "/")).await;
        assert_eq!(reply.echo().host(), received, "{host}");
        assert_eq!(reply.echo().header("x-forwarded-host"), Some(host), "{host}");
    }
}

#[tokio::test]
async fn every_protocol_on_both_legs() {
    let ca = Ca::new();
    let identity = ca.issue(&["inner.test"]);
    let mut estate = Estate::standard().await;
    estate.write("inner.pem", &ca.pem);
    let wires = [Wire::Http1, Wire::H2c, Wire::Https(identity.clone()), Wire::H2(identity)];
    for wire in wires {
        let (protocol, tls) = (wire.protocol(), matches!(wire, Wire::Https(_) | Wire::H2(_)));
        estate.baseline_on(protocol, wire.clone()).await;
        let fork = estate.upstream_on(&format!("{protocol}-42"), wire).await;
        estate.preview("42")["forks"][protocol] = json!([fork]);
        if tls {
            estate.config["services"][protocol]["tls"] =
                json!({"caFile": "inner.pem", "serverName": "inner.test"});
        }
        estate.route(&format!("{protocol}.preview.localhost"), "/", protocol);
    }
    let world = estate.start().await;
    for protocol in ["http1", "h2c", "https", "h2"] {
        let version = if protocol.starts_with("h2") { "HTTP/2.0" } else { "HTTP/1.1" };
        let host = format!("pr-42.{protocol}.preview.localhost");
        for mut conn in [world.http1().await, world.http2().await] {
            for _ in 0..2 {
                let reply = conn.send(post(&host, "/a?b=c", "four").header("cookie", "a=1")).await;
                reply.came_from(&format!("{protocol}-42"));
                let echo = reply.echo();
                assert_eq!(
                    (echo.method(), echo.target(), echo.body_len()),
                    ("POST", "/a?b=c", 4),
                    "{protocol}"
                );
                assert_eq!((echo.version(), echo.host()), (version, host.as_str()), "{protocol}");
                assert_eq!(echo.header("cookie"), Some("a=1"));
                assert_eq!(echo.header("x-pr-id"), Some("42"), "a fork inherits protocol and TLS");
            }
        }
        let upstream = world.of(&format!("{protocol}-42"));
        assert!(upstream.connections() <= 2, "{protocol}: {} connections", upstream.connections());
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_prove_its_name() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let mut estate = Estate::standard().await;
    estate.write("inner.pem", &ca.pem);
    estate.baseline_on("forged", Wire::Https(stranger.issue(&["inner.test"]))).await;
    estate.baseline_on("misnamed", Wire::Https(ca.issue(&["other.test"]))).await;
    for service in ["forged", "misnamed"] {
        estate.config["services"][service]["tls"] =
            json!({"caFile": "inner.pem", "serverName": "inner.test"});
        estate.route(&format!("{service}.preview.localhost"), "/", service);
    }
    let world = estate.start().await;
    for service in ["forged", "misnamed"] {
        let reply = world.send(get(&format!("{service}.preview.localhost"), "/")).await;
        assert_eq!(reply.code(), "upstream_unavailable", "{service}: {reply:?}");
        assert_eq!(world.of(service).count(), 0);
    }
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_joined() {
    let world = World::standard().await;
    let call = get(D, "/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
    let reply = world.http2().await.send(call).await;
    assert_eq!(reply.echo().header("cookie"), Some("a=1; b=2; c=3"), "RFC 9113 section 8.2.3");
    let call = get(D, "/api/checkout").header("cookie", "a=1").header("cookie", "pr-id=42");
    world.http2().await.send(call).await.came_from("checkout-42");
}

#[tokio::test]
async fn lengths_are_kept() {
    let world = World::standard().await;
    let reply = world.send(get(D, "/").act("bytes 100000")).await;
    assert_eq!((reply.header("content-length"), reply.body.len()), (Some("100000"), 100_000));
    let reply = world.send(get(D, "/").act("stream 100000")).await;
    assert_eq!((reply.header("content-length"), reply.body.len()), (None, 100_000));
    let reply = world.send(post(D, "/", "12345")).await;
    assert_eq!(reply.echo().header("content-length"), Some("5"));
    assert_eq!(reply.echo().header("transfer-encoding"), None);
    let head = world.send(sidetrack_tests::request("HEAD", D, "/").act("bytes 1234")).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("1234"), 0));
    let cached = world.send(get(D, "/").act("status 304").answer_with("etag", "\"x\"")).await;
    assert_eq!((cached.status, cached.header("etag"), cached.body.len()), (304, Some("\"x\""), 0));
}

#[tokio::test]
async fn the_bytes_of_a_head() {
    let (upstream, mut heads) =
        RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mut estate = Estate::standard().await;
    estate.service("exact", json!({"baseline": [upstream.endpoint()]}));
    estate.route("exact.preview.localhost", "/", "exact");
    let world = estate.start().await;
    let mut raw = world.raw().await;
    raw.write("GET /a%20b/%C3%BC?q=%zz HTTP/1.1\r\nHost: exact.preview.localhost\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\n\r\n").await;
    assert_eq!(raw.answer().await.0, 200);
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("GET /a%20b/%C3%BC?q=%zz HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    assert_eq!(lower.matches("\r\nhost: exact.preview.localhost\r\n").count(), 1, "{head}");
    let lines: Vec<&str> = lower.lines().filter(|line| line.starts_with("x-b:")).collect();
    assert_eq!(lines, ["x-b: 1", "x-b: 3"], "{head}");
    assert!(!lower.contains("transfer-encoding") && !lower.contains("content-length"), "no body: {head}");
}

#[tokio::test]
async fn methods_that_are_refused() {
    let world = World::standard().await;
    for head in [
        format!("TRACE / HTTP/1.1\r\nHost: {D}\r\n\r\n"),
        format!("CONNECT {D}:443 HTTP/1.1\r\nHost: {D}:443\r\n\r\n"),
    ] {
        let mut raw = world.raw().await;
        raw.write(&head).await;
        let (status, _, body) = raw.answer().await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")), "{head}");
    }
    for method in ["PATCH", "OPTIONS", "PURGE", "QUERY"] {
        let reply = world.send(sidetrack_tests::request(method, D, "/")).await;
        assert_eq!(reply.echo().method(), method);
    }
}
