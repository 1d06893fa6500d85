//! Large bodies: they flow at the pace of the slower side, and the memory of the proxy stays flat.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use sidetrack_tests::{Conn, Estate, RawUpstream, World, feed, full, get, pattern, post, request, within};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::D;

/// What is moved each way.
const LARGE: u64 = 1 << 30;

/// How much the resident memory may grow meanwhile.
const GROWTH: u64 = 64 << 20;

async fn connections(world: &World) -> [Conn; 2] {
    [world.http1().await, world.http2().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_with_flat_memory() {
    let world = World::standard().await;
    world.send(get(D, "/").act("bytes 1000000")).await;
    let before = world.resident();
    for mut conn in connections(&world).await {
        let call = get(D, "/api/checkout").key("42").act(&format!("bytes {LARGE}"));
        let mut opened = conn.open(call).await.unwrap();
        let (mut read, mut peak) = (0, 0);
        while let Some(frame) = within("more of a body", opened.body_mut().frame()).await {
            read += frame.unwrap().into_data().unwrap().len() as u64;
            if read % (16 << 20) < 64 << 10 {
                peak = peak.max(world.resident());
            }
        }
        assert_eq!(read, LARGE);
        assert!(peak < before + GROWTH, "{:?}: from {before} to {peak}", conn.version());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_with_flat_memory() {
    let world = World::standard().await;
    world.send(request("POST", D, "/").body(pattern(1_000_000))).await;
    let before = world.resident();
    for mut conn in connections(&world).await {
        let version = conn.version();
        conn.patience = Duration::from_secs(240);
        let call = request("POST", D, "/api/checkout").key("42").body(pattern(LARGE));
        let sending = tokio::spawn(async move { conn.open(call).await.map(|opened| (conn, opened)) });
        let mut peak = 0;
        // Bounded by the time that one answer may take.
        while !sending.is_finished() {
            peak = peak.max(world.resident());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (_conn, opened) = sending.await.unwrap().unwrap();
        let body = within("the answer", opened.into_body().collect()).await.unwrap().to_bytes();
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(said["body_len"], LARGE);
        assert!(peak < before + GROWTH, "{version:?}: from {before} to {peak}");
    }
}

/// What a proxy, two sockets and two windows may hold at most between a fast and a stopped side.
const IN_BETWEEN: u64 = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_the_upstream_down() {
    let world = World::standard().await;
    for mut conn in connections(&world).await {
        // The request of the connection before is counted when its record ends.
        sidetrack_tests::eventually("nothing is in flight", async || {
            world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
        })
        .await;
        let before = world.metrics().await.sum("sidetrack_response_bytes_total", &[]);
        let memory = world.resident();
        let opened = conn.open(get(D, "/").act(&format!("stream {}", 256 << 20))).await.unwrap();
        // Nobody reads. What has left the upstream must come to a stand.
        let mut last = u64::MAX;
        sidetrack_tests::eventually("the flow has stopped", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = world.resident();
            let still = now == last;
            last = now;
            still
        })
        .await;
        assert!(last < memory + IN_BETWEEN, "{:?}: {memory} to {last}", conn.version());
        let counted = world.metrics().await.sum("sidetrack_response_bytes_total", &[]) - before;
        assert!(counted < IN_BETWEEN as f64, "{counted} bytes went to a reader that does not read");
        let body = within("the whole body", opened.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body.len(), 256 << 20, "and it all arrives in the end");
    }
}

#[tokio::test]
async fn a_slow_upstream_slows_the_sender_down() {
    const TOTAL: usize = 128 << 20;
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let wait = wait.clone();
        async move {
            raw.head().await.unwrap();
            wait.acquire().await.unwrap().forget();
            for _ in 0..TOTAL >> 16 {
                raw.exactly(1 << 16).await.unwrap();
            }
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        }
    })
    .await;
    let mut estate = Estate::standard().await;
    estate.service("slow", json!({"baseline": [upstream.endpoint()]}));
    estate.route("slow.preview.localhost", "/", "slow");
    let world = estate.start().await;
    for mut conn in connections(&world).await {
        let version = conn.version();
        let (pen, body) = feed();
        let call = post("slow.preview.localhost", "/", "").header("content-length", &TOTAL.to_string());
        let answering = tokio::spawn(async move { conn.send(call.body(body)).await });
        let mut written = 0;
        let piece = vec![b'z'; 1 << 16];
        while written < TOTAL {
            match timeout(Duration::from_secs(1), pen.data(piece.clone())).await {
                Ok(taken) => assert!(taken),
                Err(_) => break,
            }
            written += piece.len();
        }
        assert!(
            written as u64 <= IN_BETWEEN,
            "{version:?}: {written} bytes went to a reader that does not read"
        );
        gate.add_permits(1);
        while written < TOTAL {
            assert!(within("room for more", pen.data(piece.clone())).await);
            written += piece.len();
        }
        drop(pen);
        assert_eq!(answering.await.unwrap().text(), "ok");
    }
}

#[tokio::test]
async fn many_small_bodies_on_one_connection() {
    let world = Estate::standard().await.start().await;
    for mut conn in connections(&world).await {
        for round in 0..200_usize {
            let body = vec![b'b'; round * 37];
            let reply = conn.send(request("POST", D, "/").act("echo").body(full(body.clone()))).await;
            assert_eq!((reply.status, reply.body.len()), (200, body.len()));
        }
    }
    assert!(world.of("shop").connections() <= 3, "connections are reused");
}
