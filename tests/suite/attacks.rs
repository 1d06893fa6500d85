//! Attacks, each with an honest client beside it: what the attacker does costs the honest one little and the proxy a
//! bounded amount of memory, and ends within the time that its limit says.
//!
//! The bounds are generous: they tell a proxy that holds from one that does not, not a fast machine from a slow one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidetrack_tests::{Ca, Conn, Estate, Frame, Frames, Raw, Wire, World, eventually, get, within};
use tokio::task::JoinSet;

use crate::D;

/// How long the honest client may wait for one answer.
const SLOWEST: Duration = Duration::from_secs(15);
/// How much the memory of the proxy may grow.
const GROWTH: u64 = 64 << 20;
const ENHANCE_YOUR_CALM: u32 = 11;
const H2C: &str = "h2c.preview.localhost";
const CANCEL: u32 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// More than all buffers between a service and a client hold.
const LARGE: &str = "bytes 33554432";

async fn limited(limits: Value) -> World {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = limits;
    estate.start().await
}

/// Runs `attack` while honest clients, one of each version, ask one thing after another.
async fn withstands<T>(world: &World, attack: impl Future<Output = T>) -> T {
    // What it needs anyway it has by now.
    for mut conn in [world.http1().await, world.http2().await] {
        conn.send(get(D, "/")).await.came_from("shop");
    }
    let before = world.resident();
    let over = Arc::new(AtomicBool::new(false));
    let mut honest = JoinSet::new();
    for conn in [world.http1().await, world.http2().await] {
        honest.spawn(ask(conn, Arc::clone(&over)));
    }
    let outcome = attack.await;
    let grown = world.resident().saturating_sub(before);
    over.store(true, Ordering::SeqCst);
    while let Some(asked) = honest.join_next().await {
        let (slowest, count) = asked.unwrap();
        assert!(slowest < SLOWEST, "an honest client waited {slowest:?}");
        assert!(count > 0);
    }
    assert!(grown < GROWTH, "the memory grew by {} KiB", grown >> 10);
    outcome
}

/// Asks until it is `over`; the longest wait, and how many answers there were.
async fn ask(mut conn: Conn, over: Arc<AtomicBool>) -> (Duration, usize) {
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        conn.send(get(D, "/")).await.came_from("shop");
        slowest = slowest.max(began.elapsed());
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (slowest, count)
}

/// Connections, each with this said on it.
async fn many(world: &World, count: usize, said: &str) -> Vec<Raw> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let mut raw = world.raw().await;
        raw.write(said).await;
        all.push(raw);
    }
    all
}

async fn frames(world: &World, settings: &[(u16, u32)]) -> Frames {
    Frames::open(world.raw().await, settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads() {
    let world = limited(json!({"headerTimeout": "1s"})).await;
    withstands(&world, async {
        let mut attackers = many(&world, 300, &format!("GET / HTTP/1.1\r\nHost: {D}\r\n")).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            for attacker in &mut attackers {
                attacker.write("x-slow: 1\r\n").await;
            }
        }
        for mut attacker in attackers {
            let rest = attacker.rest().await;
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let world = limited(json!({"bodyTimeout": "1s"})).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {D}\r\nContent-Length: 1000\r\n\r\n");
    withstands(&world, async {
        let mut attackers = many(&world, 200, &head).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            for attacker in &mut attackers {
                attacker.write("x").await;
            }
        }
        for mut attacker in attackers {
            assert_eq!(attacker.answer().await.0, 408);
        }
    })
    .await;
    eventually("nothing is left", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers() {
    let world = limited(json!({"streamIdleTimeout": "2s"})).await;
    let head = format!("GET / HTTP/1.1\r\nHost: {D}\r\nX-Act: {LARGE}\r\n\r\n");
    withstands(&world, async {
        // Few enough that the buffers of their sockets, several MB each, are no attack on the system itself.
        let attackers = many(&world, 40, &head).await;
        world.reached("streamIdleTimeout", 40.0).await;
        drop(attackers);
    })
    .await;
    // With windows as large as they can be, on many streams of few connections.
    withstands(&world, async {
        let mut attackers = Vec::new();
        for _ in 0..4 {
            let mut attacker = frames(&world, &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]).await;
            attacker.window(0, (1 << 30) + (1 << 29)).await;
            for stream in (1..50).step_by(2) {
                attacker.get(stream, D, "/", &[("x-act", LARGE)]).await;
            }
            attackers.push(attacker);
        }
        world.reached("streamIdleTimeout", 130.0).await;
        drop(attackers);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections() {
    let mut estate = Estate::standard().await;
    let ca = Ca::new();
    ca.issue(&["*.preview.localhost", D]).write(&estate.folder(), "wild");
    let files = json!([{"certFile": "wild.crt", "keyFile": "wild.key"}]);
    estate.config["listeners"] =
        json!([{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": {"certificates": files}}]);
    estate.config["limits"] = json!({"handshakeTimeout": "5s", "clientIdleTimeout": "6s"});
    let world = estate.start().await;
    let secure = world.listeners[1];
    withstands(&world, async {
        let mut attackers = many(&world, 150, "").await;
        for _ in 0..150 {
            let mut raw = Raw::connect(secure).await;
            // The beginning of a ClientHello that does not come.
            raw.write(b"\x16\x03\x01\x02\x00\x01").await;
            attackers.push(raw);
        }
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(Conn::tls(secure, D, &["http/1.1"], ca.roots()).await.unwrap());
        }
        for mut attacker in attackers {
            assert_eq!(attacker.rest().await, "");
        }
        eventually("idle clients are told to go", async || idle.iter().all(Conn::is_closed)).await;
        let mut honest = Conn::tls(secure, D, &["h2"], ca.roots()).await.unwrap();
        honest.send(get(D, "/")).await.came_from("shop");
    })
    .await;
    world.reached("handshakeTimeout", 300.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_connections() {
    let world = World::standard().await;
    let before = world.resident();
    let hello = format!("GET / HTTP/1.1\r\nHost: {D}\r\n\r\n");
    withstands(&world, async {
        let mut idle = many(&world, 400, &hello).await;
        for raw in &mut idle {
            assert_eq!(raw.answer().await.0, 200);
        }
        // The upstream connections of a burst are there for a moment, too.
        let each = world.resident().saturating_sub(before) / 400;
        assert!(each < 64 << 10, "an idle connection takes {each} bytes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let world = World::standard().await;
    withstands(&world, async {
        for _ in 0..4 {
            let mut attacker = frames(&world, &[]).await;
            for stream in (1..4_000).step_by(2) {
                attacker.get(stream, D, "/", &[("x-act", "hold")]).await;
                attacker.reset(stream, CANCEL).await;
            }
            assert!(matches!(attacker.gone().await, Some(ENHANCE_YOUR_CALM) | None));
        }
    })
    .await;
    // At a pace that the HTTP library does not mind.
    withstands(&world, async {
        let mut attacker = frames(&world, &[]).await;
        for stream in (1..3_000).step_by(2) {
            attacker.get(stream, D, "/", &[("x-act", "hold")]).await;
            attacker.reset(stream, CANCEL).await;
            if stream % 40 == 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        assert!(matches!(attacker.gone().await, Some(ENHANCE_YOUR_CALM) | None));
    })
    .await;
    for _ in 0..10_000 {
        world.of("shop").release();
    }
    eventually("nothing is left", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
    })
    .await;
}

/// The client makes the server reset (CVE-2025-8671): a window that overflows, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_that_are_provoked() {
    let world = limited(json!({"http2Resets": 100})).await;
    withstands(&world, async {
        let mut attacker = frames(&world, &[]).await;
        for stream in (1..2_000).step_by(2) {
            attacker.get(stream, D, "/", &[("x-act", "hold")]).await;
            attacker.window(stream, (1 << 31) - 1).await;
        }
        assert!(matches!(attacker.gone().await, Some(ENHANCE_YOUR_CALM) | None));
    })
    .await;
    for _ in 0..2_000 {
        world.of("shop").release();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end() {
    let world = World::standard().await;
    const CONTINUATION: u8 = 9;
    withstands(&world, async {
        for size in [0, 1, 1_000] {
            let mut attacker = frames(&world, &[]).await;
            attacker.send(Frame::HEADERS, Frame::END, 1, &[0x82]).await;
            for _ in 0..5_000 {
                // Literal fields without indexing, with empty names that no field has, or nothing at all.
                attacker.send(CONTINUATION, 0, 1, &vec![0x82; size]).await;
            }
            while within("the end", attacker.next()).await.is_some() {}
        }
    })
    .await;
}

/// A field of 4 KiB in the table, asked for by one byte each time: 64 MiB out of 16 KiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_swells() {
    let world = World::standard().await;
    withstands(&world, async {
        for _ in 0..8 {
            let mut attacker = frames(&world, &[]).await;
            let mut block = vec![0x82, 0x86, 0x84, 0x40, 0x01, b'x', 0x7f];
            // 127 and 3869 in the bytes that follow: 3996 in all (RFC 7541 section 5.1).
            block.extend([0x9d, 0x1e]);
            block.extend(vec![b'y'; 3_996]);
            block.extend(vec![0xbe; 12_000]);
            attacker.send(Frame::HEADERS, 4 | Frame::END, 1, &block).await;
            let mut refused = false;
            attacker.get(3, D, "/", &[]).await;
            // The answer to what swelled is 431 or a reset, or the connection ends; the next request may be served.
            while let Some(frame) = attacker.next().await {
                refused |= frame.stream == 1 || frame.kind == Frame::GO_AWAY;
                if frame.stream == 3 && frame.ends() {
                    break;
                }
            }
            assert!(refused);
        }
    })
    .await;
    assert_eq!(world.of("shop").seen().iter().filter(|seen| seen.headers.contains_key("x")).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing() {
    let world = World::standard().await;
    withstands(&world, async {
        for (kind, stream, payload) in [
            (Frame::SETTINGS, 0, &[][..]),
            (Frame::PING, 0, &[0; 8][..]),
            (Frame::WINDOW, 0, &[0, 0, 0, 1][..]),
        ] {
            let mut attacker = frames(&world, &[]).await;
            for _ in 0..20_000 {
                attacker.send(kind, 0, stream, payload).await;
            }
            assert!(matches!(attacker.gone().await, Some(ENHANCE_YOUR_CALM) | None), "{kind}");
        }
        let mut attacker = frames(&world, &[]).await;
        let own = [(":method", "POST"), (":scheme", "http"), (":authority", D), (":path", "/")];
        attacker.head(1, &own, false).await;
        for _ in 0..20_000 {
            attacker.send(Frame::DATA, 0, 1, &[]).await;
        }
        assert!(matches!(attacker.gone().await, Some(ENHANCE_YOUR_CALM) | None), "empty DATA");
    })
    .await;
}

/// Those who read nothing of one service over HTTP/2 hold up nobody else who asks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_a_service_over_http2() {
    let mut estate = Estate::standard().await;
    estate.baseline_on("h2c", Wire::H2c).await;
    estate.route(H2C, "/", "h2c");
    estate.config["workers"] = json!(1);
    let world = estate.start().await;
    withstands(&world, async {
        let mut attackers = Vec::new();
        for _ in 0..4 {
            let mut attacker = frames(&world, &[]).await;
            for stream in (1..60).step_by(2) {
                attacker.get(stream, H2C, "/", &[("x-act", LARGE)]).await;
            }
            attackers.push(attacker);
        }
        eventually("all are under way", async || world.of("h2c").count() >= 120).await;
        for _ in 0..20 {
            let reply = world.send(get(H2C, "/").act("bytes 100000")).await;
            assert_eq!(reply.body.len(), 100_000);
        }
    })
    .await;
}
