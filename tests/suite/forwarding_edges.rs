//! Forwarding at its edges: old clients, odd upstreams, bodies that nobody wanted, limits.

use serde_json::json;
use sidetrack_tests::{Estate, RawUpstream, Wire, World, eventually, get, post};

use crate::D;

#[tokio::test]
async fn a_client_cannot_take_our_headers_away() {
    let world = World::standard().await;
    let names = "x-pr-id, baggage, traceparent, tracestate, x-forwarded-for, forwarded, host, content-length";
    let mut raw = world.raw().await;
    raw.write(format!(
        "POST /api/checkout HTTP/1.1\r\nHost: {D}\r\nX-PR-ID: 42\r\nContent-Length: 4\r\nConnection: {names}\r\n\r\nfour"
    ))
    .await;
    let (status, head, body) = raw.answer().await;
    let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &echo["body_len"]), (200, &json!(4)), "{head}");
    let received: Vec<&str> =
        echo["headers"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap()).collect();
    for name in ["x-pr-id", "baggage", "traceparent", "tracestate", "x-forwarded-for", "forwarded", "host"] {
        assert!(received.contains(&name), "{name} in {received:?}");
    }
}

#[tokio::test]
async fn large_heads_of_answers() {
    let mut estate = Estate::standard().await;
    estate.baseline_on("h2c", Wire::H2c).await;
    estate.route("h2c.preview.localhost", "/", "h2c");
    let world = estate.start().await;
    let large = "x".repeat(3000);
    for host in [D, "h2c.preview.localhost"] {
        for mut conn in [world.http1().await, world.http2().await] {
            // The request carries what the answer shall be: 30 KiB, well above the 16 KiB that libraries allow.
            let call =
                (0..10).fold(get(host, "/"), |call, field| call.answer_with(&format!("x-{field}"), &large));
            let reply = conn.send(call).await;
            assert_eq!((reply.status, reply.header("x-9")), (200, Some(large.as_str())), "{host}");
        }
    }
}

#[tokio::test]
async fn the_proxy_protocol() {
    let mut estate = Estate::standard().await;
    estate.config["listeners"][0]["proxyProtocol"] = json!({"trusted": ["127.0.0.0/8"]});
    let world = estate.start().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {D}\r\n\r\n");
    let mut version2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version2.extend([192, 0, 2, 7, 192, 0, 2, 1, 0x30, 0x39, 0, 80]);
    for header in [b"PROXY TCP4 192.0.2.7 192.0.2.1 12345 80\r\n".to_vec(), version2] {
        let mut raw = world.raw().await;
        raw.write(&header).await;
        raw.write(&request).await;
        let (status, _, body) = raw.answer().await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200);
        assert!(text.contains("[\"x-forwarded-for\",\"192.0.2.7\"]"), "{text}");
    }
    let mut raw = world.raw().await;
    raw.write(&request).await;
    assert_eq!(raw.rest().await, "", "who must send the header and does not is not served");
}

#[tokio::test]
async fn old_clients() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    raw.write(format!(
        "GET /api/checkout HTTP/1.0\r\nHost: {D}\r\nX-PR-ID: 42\r\nX-Act: stream 1000\r\n\r\n"
    ))
    .await;
    let rest = raw.rest().await;
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "HTTP/1.0 knows no chunks: {head}");
    assert_eq!(body.len(), 1000);
}

#[tokio::test]
async fn requests_in_a_row() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    let one =
        |key: &str| format!("GET /api/checkout?n={key} HTTP/1.1\r\nHost: {D}\r\nX-PR-ID: {key}\r\n\r\n");
    raw.write(one("42") + &one("57") + &one("42") + &one("99")).await;
    for upstream in ["checkout-42", "checkout", "checkout-42"] {
        let (status, head, _) = raw.answer().await;
        assert_eq!(status, 200);
        assert!(head.to_ascii_lowercase().contains(&format!("x-upstream: {upstream}\r\n")), "{head}");
    }
    assert_eq!(raw.answer().await.0, 404);
}

/// A service `odd` at `odd.preview.localhost` that is this upstream.
async fn odd(upstream: &RawUpstream) -> World {
    let mut estate = Estate::standard().await;
    estate.service("odd", json!({"baseline": [upstream.endpoint()]}));
    estate.route("odd.preview.localhost", "/", "odd");
    estate.start().await
}

const ODD: &str = "odd.preview.localhost";

#[tokio::test]
async fn a_body_that_ends_with_its_connection() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        raw.write("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let world = odd(&upstream).await;
    for mut conn in [world.http1().await, world.http2().await] {
        for _ in 0..2 {
            assert_eq!(conn.send(get(ODD, "/")).await.text(), "until the end");
        }
    }
}

#[tokio::test]
async fn chunks_without_their_end() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        raw.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let world = odd(&upstream).await;
    for mut conn in [world.http1().await, world.http2().await] {
        assert!(conn.try_send(get(ODD, "/")).await.is_err(), "{:?}", conn.version());
    }
}

#[tokio::test]
async fn a_body_that_nobody_wanted_is_no_request() {
    // Answers a POST by its head alone and goes, with the body still to come.
    let (said, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let said = said.clone();
        async move {
            while let Some(head) = raw.head().await {
                let last = head.starts_with("POST");
                said.send(head).unwrap();
                let close = if last { "Connection: close\r\n" } else { "" };
                raw.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{close}\r\nok")).await;
                if last {
                    return;
                }
            }
        }
    })
    .await;
    let world = odd(&upstream).await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {ODD}\r\n\r\n");
    let length = smuggled.len();
    let mut raw = world.raw().await;
    raw.write(format!("POST /first HTTP/1.1\r\nHost: {ODD}\r\nContent-Length: {length}\r\n\r\n")).await;
    assert_eq!(raw.answer().await.0, 200, "the answer does not wait for the body");
    raw.write(&smuggled).await;
    raw.write(format!("GET /second HTTP/1.1\r\nHost: {ODD}\r\nConnection: close\r\n\r\n")).await;
    let rest = raw.rest().await;
    assert!(rest.matches("HTTP/1.1 ").count() <= 1, "the body is not answered: {rest}");
    assert_eq!(world.send(get(ODD, "/third")).await.text(), "ok");
    while let Ok(head) = heads.try_recv() {
        assert!(!head.contains("smuggled"), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_stalls() {
    let mut estate = Estate::standard().await;
    estate.config["services"]["shop"]["timeouts"] = json!({"idle": "300ms"});
    let world = estate.start().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let reply = conn.try_send(get(D, "/").act("events")).await;
        assert!(reply.is_err(), "{:?}: it must not look whole: {reply:?}", conn.version());
    }
}

#[tokio::test]
async fn who_goes_away_is_not_worked_for() {
    let world = World::standard().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let asking = tokio::spawn(async move { conn.try_send(get(D, "/").act("hold")).await.is_ok() });
        world.of("shop").holding(1).await;
        asking.abort();
        eventually("the upstream hears of it", async || world.of("shop").open_connections() == 0).await;
        // What was held is let go, so that the next round counts from nothing.
        world.of("shop").release();
    }
}

#[tokio::test]
async fn more_connections_than_allowed() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"maxConnections": 2});
    let world = estate.start().await;
    let mut first = world.http1().await;
    let mut second = world.http1().await;
    first.send(get(D, "/")).await.came_from("shop");
    second.send(get(D, "/")).await.came_from("shop");
    let mut third = world.raw().await;
    third.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
    assert!(!third.rest().await.starts_with("HTTP/1.1 200"));
    drop(first);
    eventually("there is room again", async || {
        world.http1().await.try_send(get(D, "/")).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}

#[tokio::test]
async fn heads_of_http2_that_two_readers_would_read_differently() {
    let mut estate = Estate::standard().await;
    estate.baseline_on("h2c", Wire::H2c).await;
    estate.route("h2c.preview.localhost", "/", "h2c");
    let world = estate.start().await;
    for host in [D, "h2c.preview.localhost"] {
        let twice = post(host, "/", "four").header("content-length", "4").header("content-length", "4");
        let reply = world.http2().await.send(twice).await;
        assert_eq!(reply.echo().all("content-length"), ["4"], "one length goes on");
        let raw = world.http2().await.send(get(host, "/?a=\u{e4}")).await;
        raw.failed(400, "malformed_request");
    }
    let differing = post(D, "/", "four").header("content-length", "5");
    let refused = world.http2().await.try_send(differing).await;
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.status == 400));
    let two_hosts = world.http2().await.try_send(get(D, "/").header("host", "pr-42.preview.localhost")).await;
    if let Ok(reply) = two_hosts {
        assert!(reply.status == 400 || reply.echo().all("host") == [D], "{reply:?}");
        assert!(reply.receipts().is_empty(), "the authority decides: {reply:?}");
    }
    let userinfo = world.http2().await.try_send(get("me@preview.localhost", "/")).await;
    assert!(userinfo.is_err() || userinfo.is_ok_and(|reply| reply.status == 400));
}
