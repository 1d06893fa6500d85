//! Every limit is where the configuration says, is told as the contract says, and costs nobody else anything.

use serde_json::{Value, json};
use sidetrack_tests::{
    Estate, Frame, Frames, Gateway, Raw, World, eventually, feed, get, post, request, within,
};

use crate::D;

const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: u32 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// More than the buffers of all sockets on the way hold together.
const LARGE: &str = "bytes 67108864";

async fn limited(limits: Value) -> World {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = limits;
    estate.start().await
}

/// Waits until something was refused or ended for this reason.
async fn counted(world: &World, reason: &str) {
    eventually(&format!("{reason} is counted"), async || {
        world.metrics().await.sum("sidetrack_limits_reached_total", &[("reason", reason)]) > 0.0
    })
    .await;
}

async fn frames(world: &World) -> Frames {
    Frames::open(world.raw().await, &[]).await
}

#[tokio::test]
async fn a_body_that_stalls() {
    let world = limited(json!({"bodyTimeout": "300ms"})).await;
    let mut raw = world.raw().await;
    raw.write(format!("POST / HTTP/1.1\r\nHost: {D}\r\nContent-Length: 9\r\n\r\nhalf")).await;
    let (status, head, body) = raw.answer().await;
    assert_eq!(status, 408, "{head}");
    assert!(String::from_utf8_lossy(&body).contains("request_timeout"));
    assert_eq!(raw.rest().await, "", "the connection ends");
    let (body, stalls) = feed();
    assert!(body.data("half").await);
    world.http2().await.send(request("POST", D, "/").body(stalls)).await.failed(408, "request_timeout");
    counted(&world, "bodyTimeout").await;
    world.send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn who_listens_may_be_silent() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"bodyTimeout": "1s"});
    estate.config["services"]["shop"]["timeouts"] = json!({"idle": "10s"});
    let world = estate.start().await;
    // The answer has begun, and its client sends nothing for longer than a body may stall.
    let (body, stalls) = feed();
    let mut conn = world.http1().await;
    let opened = conn.open(request("POST", D, "/").act("echo").body(stalls)).await.unwrap();
    assert_eq!(opened.status(), 200);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(body.data("late").await);
    drop(body);
    let echoed = within("the echo", http_body_util::BodyExt::collect(opened.into_body())).await.unwrap();
    assert_eq!(echoed.to_bytes(), "late");
    // A call of gRPC waits for an answer that may be long in coming.
    let (body, stalls) = feed();
    let mut conn = world.http2().await;
    let call = request("POST", D, "/").grpc().act("hold").body(stalls);
    let calling = tokio::spawn(async move { conn.send(call).await });
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(!calling.is_finished());
    drop(body);
    world.of("shop").holding(1).await;
    world.of("shop").release();
    assert_eq!(within("the answer", calling).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_long() {
    let world = limited(json!({"bodyBytes": 8})).await;
    for version in ["HTTP/1.1", "HTTP/2"] {
        let mut conn = if version == "HTTP/2" { world.http2().await } else { world.http1().await };
        conn.send(post(D, "/", "8 bytes.")).await.came_from("shop");
        let seen = world.of("shop").count();
        conn.send(post(D, "/", "9 bytes..")).await.failed(413, "request_too_large");
        assert_eq!(world.of("shop").count(), seen, "{version}: what is announced is not sent on");
    }
    let (body, unknown) = feed();
    tokio::spawn(async move {
        for part in ["8 bytes.", "."] {
            assert!(body.data(part).await);
        }
    });
    world.http2().await.send(request("POST", D, "/").body(unknown)).await.failed(413, "request_too_large");
    let mut raw = world.raw().await;
    raw.write(format!(
        "POST / HTTP/1.1\r\nHost: {D}\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n9 bytes..\r\n0\r\n\r\n"
    ))
    .await;
    assert_eq!(raw.answer().await.0, 413);
    counted(&world, "bodyBytes").await;
}

#[tokio::test]
async fn extensions_and_trailers() {
    let world = limited(json!({"chunkExtensionBytes": 4, "trailerBytes": 16})).await;
    let chunked = async |body: &str| {
        let mut raw = world.raw().await;
        raw.write(format!("POST / HTTP/1.1\r\nHost: {D}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        raw.answer().await
    };
    assert_eq!(chunked("1;a=b\r\nx\r\n0\r\nx-sum: 7\r\n\r\n").await.0, 200);
    for (body, reason) in [
        ("1;a=bc\r\nx\r\n0\r\n\r\n", "chunkExtensionBytes"),
        ("1;a\r\nx\r\n1;bc\r\nx\r\n0\r\n\r\n", "chunkExtensionBytes"),
        ("1\r\nx\r\n0\r\nx-sum: 12345678\r\n\r\n", "trailerBytes"),
    ] {
        let (status, _, body) = chunked(body).await;
        assert_eq!(status, 413, "{reason}");
        assert!(String::from_utf8_lossy(&body).contains(reason));
        counted(&world, reason).await;
    }
}

#[tokio::test]
async fn who_takes_nothing_is_cut_and_who_takes_slowly_is_not() {
    let world = limited(json!({"streamIdleTimeout": "2s"})).await;
    let mut raw = world.raw().await;
    raw.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\nX-Act: {LARGE}\r\n\r\n")).await;
    counted(&world, "streamIdleTimeout").await;
    assert!(raw.rest().await.len() < 64 << 20, "it ends before the end");
    // Over HTTP/2 the stream alone ends.
    let mut frames = frames(&world).await;
    frames.get(1, D, "/", &[("x-act", LARGE)]).await;
    let reset = frames.next_of(Frame::RESET).await.unwrap();
    assert_eq!((reset.stream, reset.reason()), (1, CANCEL));
    frames.get(3, D, "/", &[]).await;
    assert_eq!(frames.next_of(Frame::HEADERS).await.unwrap().stream, 3);
    eventually("what was begun upstream is ended", async || world.of("shop").open_connections() <= 1).await;
    // A byte now and then is enough.
    let mut slow = world.raw().await;
    slow.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\nX-Act: {LARGE}\r\n\r\n")).await;
    slow.head().await.unwrap();
    for _ in 0..16 {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert!(slow.exactly(1 << 20).await.is_some());
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let world = limited(json!({"maxConnections": 2})).await;
    let (mut first, mut second) = (world.http1().await, world.http2().await);
    first.send(get(D, "/")).await.came_from("shop");
    second.send(get(D, "/")).await.came_from("shop");
    let mut third = world.raw().await;
    third.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
    let (status, head, body) = third.answer().await;
    assert_eq!(status, 503);
    assert!(head.contains("connection: close") && String::from_utf8_lossy(&body).contains("overloaded"));
    assert_eq!(third.rest().await, "");
    let mut fourth = frames(&world).await;
    fourth.get(1, D, "/", &[]).await;
    assert!(fourth.next_of(Frame::HEADERS).await.is_some(), "told over HTTP/2, too");
    // Those that say nothing are not waited for.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(world.raw().await);
    }
    for mut each in silent {
        assert_eq!(each.rest().await, "");
    }
    first.send(get(D, "/")).await.came_from("shop");
    second.send(get(D, "/")).await.came_from("shop");
    counted(&world, "maxConnections").await;
    drop(first);
    eventually("there is room again", async || {
        world.http1().await.try_send(get(D, "/")).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}

#[tokio::test]
async fn one_client_does_not_take_the_room_of_all() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"maxConnectionsPerClient": 2});
    estate.config["listeners"][0]["proxyProtocol"] = json!({"trusted": ["127.0.0.0/8"]});
    let world = estate.start().await;
    let from = async |client: &str| -> Raw {
        let mut raw = world.raw().await;
        raw.write(format!("PROXY TCP4 {client} 192.0.2.1 12345 80\r\nGET / HTTP/1.1\r\nHost: {D}\r\n\r\n"))
            .await;
        raw
    };
    let (mut first, mut second) = (from("192.0.2.7").await, from("192.0.2.7").await);
    assert_eq!((first.answer().await.0, second.answer().await.0), (200, 200));
    let (status, head, body) = from("192.0.2.7").await.answer().await;
    assert_eq!(status, 429);
    assert!(head.contains("connection: close") && String::from_utf8_lossy(&body).contains("rate_limited"));
    assert_eq!(from("192.0.2.8").await.answer().await.0, 200, "another client");
    counted(&world, "maxConnectionsPerClient").await;
    drop(first);
    eventually("there is room again", async || from("192.0.2.7").await.answer().await.0 == 200).await;
}

#[tokio::test]
async fn requests_under_way_are_counted_over_all_workers() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"maxInFlight": 6});
    estate.config["workers"] = json!(3);
    let world = estate.start().await;
    let mut asking = Vec::new();
    for _ in 0..6 {
        let mut conn = world.http1().await;
        asking.push(tokio::spawn(async move { conn.send(get(D, "/").act("hold")).await }));
    }
    world.of("shop").holding(6).await;
    for _ in 0..6 {
        world.http1().await.send(get(D, "/")).await.failed(503, "overloaded");
    }
    counted(&world, "maxInFlight").await;
    for _ in 0..6 {
        world.of("shop").release();
    }
    for each in asking {
        within("what was let in", each).await.unwrap().came_from("shop");
    }
    world.send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn without_memory_nothing_new_begins() {
    let world = limited(json!({"maxMemory": "1MiB"})).await;
    let mut conn = world.http1().await;
    eventually("the memory was looked at", async || {
        world.http1().await.try_send(get(D, "/")).await.is_ok_and(|reply| reply.status == 503)
    })
    .await;
    if let Ok(reply) = conn.try_send(get(D, "/")).await {
        reply.failed(503, "overloaded");
    }
    counted(&world, "maxMemory").await;
    assert_eq!(world.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn many_fields() {
    let world = limited(json!({"headerCount": 12})).await;
    for mut conn in [world.http1().await, world.http2().await] {
        let many = (0..13).fold(get(D, "/"), |call, at| call.header(&format!("x-{at}"), "y"));
        conn.send(many).await.failed(431, "request_too_large");
    }
    let crumbs = (0..30).fold(get(D, "/"), |call, at| call.header("cookie", &format!("c{at}=1")));
    world.http2().await.send(crumbs).await.came_from("shop");
    counted(&world, "headerCount").await;
}

#[tokio::test]
async fn resets_run_out() {
    let world = limited(json!({"http2Resets": 50})).await;
    let mut frames = frames(&world).await;
    // Those that have ended may be reset, and streams that end give back what was spent.
    for stream in (1..200).step_by(2) {
        frames.get(stream, D, "/", &[]).await;
        while !frames.next().await.unwrap().ends() {}
        frames.reset(stream, CANCEL).await;
    }
    for stream in (201..=401).step_by(2) {
        frames.get(stream, D, "/", &[("x-act", "hold")]).await;
        frames.reset(stream, CANCEL).await;
    }
    assert_eq!(frames.gone().await, Some(ENHANCE_YOUR_CALM));
    counted(&world, "http2Resets").await;
    eventually("nothing is under way", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn frames_that_carry_nothing_run_out() {
    let world = limited(json!({"http2ControlFrames": 100})).await;
    for (kind, payload) in [
        (Frame::PING, &[0; 8][..]),
        (Frame::SETTINGS, &[][..]),
        (Frame::WINDOW, &[0, 0, 0, 1][..]),
        (2, &[0, 0, 0, 0, 1][..]),
        (0xbe, &[][..]),
    ] {
        let mut frames = frames(&world).await;
        for _ in 0..300 {
            // PRIORITY is of a stream.
            frames.send(kind, 0, u32::from(kind == 2), payload).await;
        }
        assert_eq!(frames.gone().await, Some(ENHANCE_YOUR_CALM), "{kind}");
    }
    counted(&world, "http2ControlFrames").await;
    // Two window updates for each 512 bytes, as Go sends them for small reads, long after its window was used up.
    let mut frames = Frames::open(world.raw().await, &[(INITIAL_WINDOW_SIZE, 4 << 20)]).await;
    frames.window(0, 1 << 30).await;
    frames.get(1, D, "/", &[("x-act", "bytes 4194304")]).await;
    let mut read = 0;
    while read < 4 << 20 {
        read += frames.next_of(Frame::DATA).await.unwrap().payload.len();
    }
    for _ in 0..(4 << 20) / 512 {
        frames.window(1, 1).await;
        frames.window(0, 1).await;
    }
    frames.get(3, D, "/", &[]).await;
    assert!(frames.next_of(Frame::HEADERS).await.is_some(), "it is still there");
    // As many window updates as a client sends for a large answer.
    let reply = world.http2().await.send(get(D, "/").act("bytes 50000000")).await;
    assert_eq!(reply.body.len(), 50_000_000);
}

#[tokio::test]
async fn a_head_of_http2_that_does_not_end() {
    let world = limited(json!({"headerTimeout": "1s"})).await;
    let mut frames = frames(&world).await;
    frames.get(1, D, "/", &[]).await;
    while !frames.next().await.unwrap().ends() {}
    // HEADERS without END_HEADERS: nothing else may come before its CONTINUATION.
    frames.send(Frame::HEADERS, Frame::END, 3, &[0x82]).await;
    while frames.next().await.is_some() {}
    counted(&world, "headerTimeout").await;
}

#[tokio::test]
async fn a_client_of_http2_that_is_told_to_go_and_stays() {
    let world = limited(json!({"clientIdleTimeout": "1s"})).await;
    let mut raw = world.raw().await;
    // It acknowledges nothing.
    raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(raw.rest().await.contains("\u{7}"), "it is told");
    counted(&world, "clientIdleTimeout").await;
}

#[tokio::test]
async fn descriptors_run_out_and_come_back() {
    let mut estate = Estate::standard().await;
    estate.config["limits"] = json!({"maxConnections": 1000});
    estate.save();
    let gateway = Gateway::start_with_descriptors(&estate.file(), 60).await;
    assert!(gateway.stderr().iter().any(|line| line.contains("maxConnections: 1000 connections need 2128")));
    let mut honest = gateway.http1().await;
    honest.send(get(D, "/")).await.came_from("shop");
    let mut many = Vec::new();
    for _ in 0..150 {
        many.push(gateway.raw().await);
    }
    let reply = honest.send(get(D, "/")).await;
    assert!(reply.status == 200 || reply.code() == "overloaded", "{reply:?}");
    drop(many);
    eventually("it serves again", async || {
        gateway.http1().await.try_send(get(D, "/")).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    honest.send(get(D, "/")).await.came_from("shop");
}
