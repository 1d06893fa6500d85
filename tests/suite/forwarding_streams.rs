//! What flows: trailers, informational answers, server-sent events, upgrades and WebSockets.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sidetrack_tests::{
    Estate, Opened, RawUpstream, WEBSOCKET_KEY, Wire, World, accept_of, early_answers, feed, get, post,
    request, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::D;

async fn beside_h2c() -> World {
    let mut estate = Estate::standard().await;
    estate.baseline_on("grpc", Wire::H2c).await;
    estate.route("grpc.preview.localhost", "/", "grpc");
    estate.start().await
}

#[tokio::test]
async fn trailers_both_ways() {
    let world = beside_h2c().await;
    for host in [D, "grpc.preview.localhost"] {
        for mut conn in [world.http1().await, world.http2().await] {
            let version = conn.version();
            let (pen, body) = feed();
            let call = request("POST", host, "/")
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .act("trailers");
            let write = async move {
                pen.data("four").await;
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "4".parse().unwrap());
                pen.trailers(trailers).await;
            };
            let (reply, ()) = tokio::join!(conn.send(call.body(body)), write);
            assert_eq!(reply.trailers.get("x-checksum").unwrap(), "42", "{host} {version:?}");
            assert_eq!(reply.echo().trailer("x-sum"), Some("4"), "{host} {version:?}");
            assert_eq!(reply.echo().body_len(), 4);
        }
    }
}

#[tokio::test]
async fn hundred_continue() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    raw.write(format!("POST / HTTP/1.1\r\nHost: {D}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"))
        .await;
    let head = raw.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 100 "), "the upstream's own go-ahead: {head}");
    raw.write("four").await;
    let (status, _, body) = raw.answer().await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["body_len"], 4);
}

#[tokio::test]
async fn a_refusal_instead_of_hundred_continue() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        let head = raw.head().await.unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
        raw.write("HTTP/1.1 417 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        raw.rest().await;
    })
    .await;
    let mut estate = Estate::standard().await;
    estate.service("picky", json!({"baseline": [upstream.endpoint()]}));
    estate.route("picky.preview.localhost", "/", "picky");
    let world = estate.start().await;
    let mut raw = world.raw().await;
    raw.write("POST / HTTP/1.1\r\nHost: picky.preview.localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let (status, _, body) = raw.answer().await;
    assert_eq!((status, body.as_slice()), (417, b"no".as_slice()), "no go-ahead of the proxy's own");
}

#[tokio::test]
async fn early_hints() {
    let (upstream, _heads) = RawUpstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let mut estate = Estate::standard().await;
    estate.service("hints", json!({"baseline": [upstream.endpoint()]}));
    estate.route("hints.preview.localhost", "/", "hints");
    let world = estate.start().await;
    let mut raw = world.raw().await;
    raw.write("GET / HTTP/1.1\r\nHost: hints.preview.localhost\r\n\r\n").await;
    let early = raw.head().await.unwrap();
    assert!(
        early.starts_with("HTTP/1.1 103 ") && early.to_ascii_lowercase().contains("link: </a.css>"),
        "{early}"
    );
    assert_eq!(raw.answer().await.0, 200);
    let (over_http1, reply) = world.http1().await.send_noting(get("hints.preview.localhost", "/")).await;
    assert_eq!(reply.text(), "ok");
    let (over_http2, status) = early_answers(world.address(), "hints.preview.localhost", "/").await;
    assert_eq!(status, 200);
    for notes in [over_http1, over_http2] {
        let [(status, fields)] = notes.as_slice() else { panic!("not one early answer but {notes:?}") };
        assert_eq!((*status, fields["link"].to_str().unwrap()), (103, "</a.css>; rel=preload"));
    }
}

/// Asserts that nothing more comes.
async fn ends(opened: &mut Opened) {
    while let Some(frame) = within("the end", opened.body_mut().frame()).await {
        // HTTP/2 may end with an empty piece.
        assert!(frame.unwrap().into_data().is_ok_and(|data| data.is_empty()));
    }
}

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let world = World::standard().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let mut opened = conn.open(get(D, "/api/checkout").key("42").act("events")).await.unwrap();
        assert_eq!(opened.headers()["content-type"], "text/event-stream");
        let first = within("the first event", opened.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "data: first\n\n");
        world.of("checkout-42").release();
        let second = within("the second event", opened.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(second.into_data().unwrap(), "data: second\n\n");
        ends(&mut opened).await;
    }
}

#[tokio::test]
async fn a_stream_flows_both_ways_at_once() {
    let world = beside_h2c().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let (pen, body) = feed();
        let call = request("POST", "grpc.preview.localhost", "/").header("content-type", "application/grpc");
        // The head of an echo comes before the body of the request has ended.
        let mut opened = conn.open(call.act("echo").body(body)).await.unwrap();
        for word in ["one", "two", "three"] {
            assert!(pen.data(word).await);
            let frame = within("an echo", opened.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(pen);
        ends(&mut opened).await;
    }
}

#[tokio::test]
async fn a_broken_body_is_broken_here_too() {
    let world = World::standard().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let error = conn.try_send(get(D, "/").act("cut")).await;
        assert!(error.is_err(), "half a body must not look whole: {error:?}");
    }
}

fn handshake(host: &str, protocol: &str) -> String {
    format!(
        "GET /socket?x=1 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_websocket() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    raw.write(handshake("pr-42.checkout.preview.localhost", "websocket")).await;
    let head = raw.head().await.unwrap();
    let lower = head.to_ascii_lowercase();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(lower.contains("upgrade: websocket\r\n") && lower.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains(&accept_of(WEBSOCKET_KEY)), "{head}");
    assert!(lower.contains("x-upstream: checkout-42\r\n"), "{head}");
    for word in ["hello", "again"] {
        raw.write(word).await;
        assert_eq!(raw.exactly(5).await.unwrap(), word.as_bytes());
    }
    let seen = world.of("checkout-42").seen();
    assert_eq!(seen[0].headers["x-pr-id"], "42");
    let began = std::time::Instant::now();
    raw.finish().await;
    assert_eq!(raw.rest().await, "");
    assert!(began.elapsed() < Duration::from_secs(1), "both sides close at once");
}

#[tokio::test]
async fn bytes_after_an_upgrade_wait_for_the_101() {
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let said = said.clone();
        async move {
            raw.head().await.unwrap();
            raw.write("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            said.send(raw.rest().await).unwrap();
        }
    })
    .await;
    let mut estate = Estate::standard().await;
    estate.service("closed", json!({"baseline": [upstream.endpoint()]}));
    estate.route("closed.preview.localhost", "/", "closed");
    let world = estate.start().await;
    let mut raw = world.raw().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: closed.preview.localhost\r\n\r\n";
    raw.write(handshake("closed.preview.localhost", "websocket") + smuggled).await;
    assert_eq!(raw.answer().await.0, 403);
    let rest = within("the end of the upstream's connection", heard.recv()).await.unwrap();
    assert!(!rest.contains("smuggled"), "sent before a 101: {rest}");
}

#[tokio::test]
async fn without_its_101_a_connection_stays_http() {
    let mut estate = Estate::standard().await;
    let (upstream, _heads) = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    estate.service("plain", json!({"baseline": [upstream.endpoint()]}));
    estate.route("plain.preview.localhost", "/", "plain");
    let world = estate.start().await;
    let mut raw = world.raw().await;
    for _ in 0..2 {
        raw.write(handshake("plain.preview.localhost", "websocket")).await;
        let (status, _, body) = raw.answer().await;
        assert_eq!((status, body.as_slice()), (200, b"ok".as_slice()));
    }
    raw.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
    assert_eq!(raw.answer().await.0, 200);
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_not_passed_on() {
    let world = World::standard().await;
    let mut raw = world.raw().await;
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: {D}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    ))
    .await;
    let (status, _, body) = raw.answer().await;
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    assert!(!text.contains("h2c") && !text.contains("http2-settings"), "{text}");
}

#[tokio::test]
async fn a_websocket_over_http2() {
    let world = World::standard().await;
    let mut conn = world.http2().await;
    // The settings of the server must be here first; one plain answer proves it.
    conn.send(get(D, "/")).await.came_from("shop");
    let call = get("pr-42.checkout.preview.localhost", "/socket")
        .connect("websocket")
        .header("sec-websocket-version", "13")
        .header("origin", "http://preview.localhost");
    let mut opened = conn.open(call).await.unwrap();
    assert_eq!(opened.status(), 200, "RFC 8441 section 5");
    assert_eq!(opened.headers()["x-upstream"], "checkout-42");
    assert!(!opened.headers().contains_key("sec-websocket-accept"));
    let upgraded = within("the tunnel", hyper::upgrade::on(&mut opened)).await.unwrap();
    let mut tunnel = TokioIo::new(upgraded);
    tunnel.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    within("an echo", tunnel.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"hello");
    let seen = world.of("checkout-42").seen();
    assert_eq!(seen[0].line, "GET /socket");
    assert_eq!(seen[0].headers["upgrade"], "websocket");
    assert!(seen[0].headers.contains_key("sec-websocket-key"));
    assert_eq!(seen[0].headers["x-pr-id"], "42");
    tunnel.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within("the end", tunnel.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    conn.send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn an_answer_before_the_body_is_read() {
    let world = World::standard().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let reply = conn.send(post(D, "/", vec![b'x'; 10]).act("early")).await;
        assert_eq!((reply.status, reply.text()), (200, "early"));
    }
}
