//! Going away without losing a request: SIGTERM, and a restart in place under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sidetrack_tests::{Conn, Estate, Gateway, World, eventually, free_port, get};

use crate::D;

#[tokio::test]
async fn what_is_in_flight_finishes() {
    let mut world = World::standard().await;
    let (mut one, mut two) = (world.http1().await, world.http2().await);
    let one = tokio::spawn(async move { one.send(get(D, "/").act("hold")).await });
    let two = tokio::spawn(async move { two.send(get(D, "/").act("hold")).await });
    world.of("shop").holding(2).await;
    world.terminate();
    world.refuses().await;
    assert!(!world.gateway.has_ended(), "it waits for its requests");
    world.of("shop").release();
    world.of("shop").release();
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    one.came_from("shop");
    two.came_from("shop");
    assert!(one.lists("connection", "close"), "{one:?}");
    assert_eq!(world.gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn open_connections_are_told_to_go() {
    let mut world = World::standard().await;
    let mut idle = [world.http1().await, world.http2().await];
    for conn in &mut idle {
        conn.send(get(D, "/")).await.came_from("shop");
    }
    let began = std::time::Instant::now();
    world.terminate();
    assert_eq!(world.gateway.ended().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "idle connections hold nothing up");
    eventually("both connections are closed", async || idle.iter().all(Conn::is_closed)).await;
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"drainTimeout": "500ms"});
    let mut world = estate.start().await;
    let mut conn = world.http1().await;
    let cut = tokio::spawn(async move { conn.try_send(get(D, "/").act("hold")).await });
    world.of("shop").holding(1).await;
    let began = std::time::Instant::now();
    world.terminate();
    assert_eq!(world.gateway.ended().await.code(), Some(0));
    let took = began.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert!(cut.await.unwrap().is_err());
}

#[tokio::test]
async fn a_websocket_ends_with_the_drain() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"drainTimeout": "500ms"});
    let mut world = estate.start().await;
    let mut raw = world.raw().await;
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: {D}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
        sidetrack_tests::WEBSOCKET_KEY
    ))
    .await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 101 "));
    world.terminate();
    assert_eq!(world.gateway.ended().await.code(), Some(0));
    assert_eq!(raw.rest().await, "");
}

/// What the clients of a run met.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
}

/// A client with one connection that it keeps for as long as the server lets it.
///
/// A connection that the server ended while it was idle is no failure (RFC 9112 section 9.3.1): nothing of the
/// request was answered, and a GET may be sent again. Twice in a row is one.
async fn keep_alive(address: SocketAddr, http2: bool, tally: Arc<Tally>) {
    let mut conn: Option<Conn> = None;
    while !tally.stop.load(Ordering::Relaxed) {
        let reused = conn.as_ref().is_some_and(|conn| !conn.is_closed());
        if !reused {
            conn = open(address, http2).await;
        }
        let mut reply = ask(&mut conn).await;
        if reply.is_none() && reused {
            conn = open(address, http2).await;
            reply = ask(&mut conn).await;
        }
        match reply {
            Some(close) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                if close {
                    conn = None;
                }
            }
            None => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                conn = None;
            }
        }
    }
}

async fn open(address: SocketAddr, http2: bool) -> Option<Conn> {
    match http2 {
        true => Conn::http2(address).await.ok(),
        false => Conn::http1(address).await.ok(),
    }
}

/// Sends; `Some(close)` where the fork answered.
async fn ask(conn: &mut Option<Conn>) -> Option<bool> {
    let reply = conn.as_mut()?.try_send(get(D, "/api/checkout").key("42")).await.ok()?;
    (reply.header("x-upstream") == Some("checkout-42")).then(|| reply.lists("connection", "close"))
}

/// A client that opens a connection for each request: none of these has an excuse.
async fn one_shot(address: SocketAddr, tally: Arc<Tally>) {
    while !tally.stop.load(Ordering::Relaxed) {
        let mut conn = Conn::http1(address).await.ok();
        match ask(&mut conn).await {
            Some(_) => tally.answered.fetch_add(1, Ordering::Relaxed),
            None => tally.failed.fetch_add(1, Ordering::Relaxed),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_place_loses_nothing() {
    let mut estate = Estate::standard().await;
    for place in ["/listeners/0/address", "/admin/address"] {
        *estate.config.pointer_mut(place).unwrap() = format!("127.0.0.1:{}", free_port()).into();
    }
    estate.config["workers"] = 2.into();
    let world = estate.start().await;
    let World { estate, gateway: mut old } = world;
    let address = old.address();
    let tally = Arc::new(Tally::default());
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(tokio::spawn(keep_alive(address, false, tally.clone())));
        clients.push(tokio::spawn(keep_alive(address, true, tally.clone())));
        clients.push(tokio::spawn(one_shot(address, tally.clone())));
    }
    let answered = async |more: usize| {
        let goal = tally.answered.load(Ordering::Relaxed) + more;
        eventually("more are answered", async || tally.answered.load(Ordering::Relaxed) >= goal).await;
    };
    for _ in 0..3 {
        answered(200).await;
        let new = Gateway::start(&estate.file()).await;
        if !old.has_ended() {
            old.terminate();
        }
        assert_eq!(old.ended().await.code(), Some(0));
        assert_eq!((new.address(), new.admin), (address, old.admin), "the very same ports");
        answered(200).await;
        old = new;
    }
    tally.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let (answered, failed) = (tally.answered.load(Ordering::Relaxed), tally.failed.load(Ordering::Relaxed));
    assert_eq!(failed, 0, "of {}", answered + failed);
}
