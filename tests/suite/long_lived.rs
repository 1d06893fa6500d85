//! What goes on for long and was decided by a table of before: it is not left where no request would go by now, and not
//! touched where nothing has changed for it.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sidetrack_tests::{
    Estate, Frame, Frames, Opened, Raw, RawUpstream, WEBSOCKET_KEY, Wire, World, accept_of, delete,
    eventually, get, put, within,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HOST: &str = "chat.preview.localhost";
/// Within this a change is answered: the second that passes until it is looked for, and a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A WebSocket, client's or server's side: `(opcode, payload)` in and out.
struct Socket<S>(S);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn say(&mut self, opcode: u8, payload: &[u8], masked: bool) {
        let mut frame = vec![0x80 | opcode, u8::try_from(payload.len()).unwrap()];
        assert!(payload.len() < 126);
        if masked {
            frame[1] |= 0x80;
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(
            payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(
                |(byte, mask)| {
                    if masked { byte ^ mask } else { *byte }
                },
            ),
        );
        // Who has gone is seen by who reads.
        let _ = self.0.write_all(&frame).await;
    }

    /// The next frame, and whether it was masked; `None`: the far end has gone.
    async fn hear(&mut self) -> Option<(u8, Vec<u8>, bool)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.ok()?;
        let length = match head[1] & 0x7f {
            126 => usize::from(self.0.read_u16().await.ok()?),
            127 => usize::try_from(self.0.read_u64().await.ok()?).unwrap(),
            short => usize::from(short),
        };
        let masked = head[1] & 0x80 != 0;
        let mut mask = [0; 4];
        if masked {
            self.0.read_exact(&mut mask).await.ok()?;
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Some((head[0] & 0x0f, payload, masked))
    }

    /// Says something; what comes back.
    async fn echo(&mut self, text: &str) -> String {
        self.say(TEXT, text.as_bytes(), true).await;
        let (opcode, payload, masked) = within("an echo", self.hear()).await.expect("an echo");
        assert_eq!((opcode, masked), (TEXT, false));
        String::from_utf8(payload).unwrap()
    }

    /// Waits for the Close of a server that restarts, answers it, and waits for the end.
    async fn restarted(&mut self) {
        let closed = tokio::time::timeout(SOON, self.hear()).await.expect("a Close in time");
        assert_eq!(closed, Some((CLOSE, b"\x03\xf4decision changed".to_vec(), false)), "1012");
        let began = Instant::now();
        self.say(CLOSE, b"\x03\xf4", true).await;
        assert_eq!(within("the end", self.hear()).await, None);
        assert!(
            began.elapsed() < Duration::from_millis(1500),
            "both sides have said all: {:?}",
            began.elapsed()
        );
    }
}

/// A server that says its name before all that it hears, and hands out the codes with which it was closed.
async fn chat(name: &'static str) -> (RawUpstream, tokio::sync::mpsc::UnboundedReceiver<Option<u16>>) {
    let (closes, closed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |raw, _| {
        let closes = closes.clone();
        async move {
            let Some(mut socket) = accept(raw).await else { return };
            loop {
                match socket.hear().await {
                    Some((CLOSE, code, true)) => {
                        let _ = closes.send(code.first_chunk().map(|code| u16::from_be_bytes(*code)));
                        return socket.say(CLOSE, &code, false).await;
                    }
                    Some((opcode, text, true)) => {
                        let text = [name.as_bytes(), b":", &text].concat();
                        socket.say(opcode, &text, false).await;
                    }
                    None => {
                        let _ = closes.send(None);
                        return;
                    }
                    Some(frame) => panic!("a client masks what it says: {frame:?}"),
                }
            }
        }
    })
    .await;
    (upstream, closed)
}

/// The server's side of a handshake; `None`: nobody asks for one.
async fn accept(mut raw: Raw) -> Option<Socket<tokio::net::TcpStream>> {
    raw.head().await?;
    let accept = accept_of(WEBSOCKET_KEY);
    raw.write(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
    .await;
    Some(Socket(raw.into_stream()))
}

/// The client's side over HTTP/1.1.
async fn over_http1(world: &World) -> Socket<tokio::net::TcpStream> {
    let mut raw = world.raw().await;
    raw.write(format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-PR-ID: 42\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    ))
    .await;
    let head = raw.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Socket(raw.into_stream())
}

/// An estate in which nothing is forked yet, and key 42 may stand on the baseline.
fn unforked() -> Estate {
    let mut estate = Estate::new();
    estate.write("previews.d/.keep", "");
    estate.config["previewsDir"] = "previews.d".into();
    estate.config["unknownPreview"] = "baseline".into();
    estate.config["accessLog"] = json!({"format": "json", "path": "access.log"});
    estate
}

async fn chats(decision_drain: &str) -> (World, [RawUpstream; 2]) {
    let mut estate = unforked();
    let ((base, _), (fork, _)) = (chat("base").await, chat("fork").await);
    estate.service("chat", json!({"baseline": [base.endpoint()]}));
    estate.service("other", json!({"baseline": [base.endpoint()]}));
    estate.route(HOST, "/", "chat");
    estate.config["limits"] = json!({"decisionDrain": decision_drain});
    (estate.start().await, [base, fork])
}

/// Makes a preview, or makes it another.
async fn fork(world: &World, key: &str, forks: Value) {
    let call =
        put(&world.admin.to_string(), &format!("/v1/previews/{key}"), json!({"forks": forks}).to_string());
    let reply = world.ask(call).await;
    assert!(reply.status < 300, "{reply:?}");
}

async fn unfork(world: &World, key: &str) {
    let reply = world.ask(delete(&world.admin.to_string(), &format!("/v1/previews/{key}"))).await;
    assert!(reply.status < 300, "{reply:?}");
}

async fn drained(world: &World, kind: &str) -> f64 {
    world.metrics().await.sum("sidetrack_decision_drains_total", &[("kind", kind)])
}

/// How many of the `count` requests that have ended were cut.
async fn cuts(world: &World, count: usize) -> usize {
    let lines = world.estate.log_lines("access.log", count).await;
    lines.iter().filter(|line| line["aborted"] == json!(true)).count()
}

#[tokio::test]
async fn a_websocket_follows_its_fork() {
    let (world, [_base, other]) = chats("30s").await;
    let (first, mut closed) = chat("first").await;
    let mut socket = over_http1(&world).await;
    assert_eq!(socket.echo("a").await, "base:a");
    fork(&world, "42", json!({"chat": [first.endpoint()]})).await;
    socket.restarted().await;
    // It appeared; now it changes, and then it dies.
    let mut socket = over_http1(&world).await;
    assert_eq!(socket.echo("b").await, "first:b");
    fork(&world, "42", json!({"chat": [other.endpoint()]})).await;
    socket.restarted().await;
    assert_eq!(within("the end of a tunnel", closed.recv()).await, Some(Some(1012)), "as the client says it");
    let mut socket = over_http1(&world).await;
    assert_eq!(socket.echo("c").await, "fork:c");
    unfork(&world, "42").await;
    socket.restarted().await;
    let mut socket = over_http1(&world).await;
    assert_eq!(socket.echo("d").await, "base:d");
    assert_eq!(drained(&world, "websocket").await, 3.0);
    socket.say(CLOSE, b"\x03\xe8", true).await;
    assert_eq!(within("a Close", socket.hear()).await.unwrap().1, b"\x03\xe8", "the far end's own");
    drop(socket);
    assert_eq!(cuts(&world, 4).await, 3);
}

#[tokio::test]
async fn a_websocket_over_http2_follows_its_fork() {
    let (world, [_base, other]) = chats("30s").await;
    let mut conn = world.http2().await;
    // The settings of the server must be here first; one plain answer proves it.
    assert_eq!(conn.send(get("nowhere.localhost", "/")).await.status, 404);
    for name in ["base", "fork"] {
        let call = get(HOST, "/").key("42").connect("websocket").header("sec-websocket-version", "13");
        let mut opened = conn.open(call).await.unwrap();
        assert_eq!(opened.status(), 200);
        let upgraded = within("the tunnel", hyper::upgrade::on(&mut opened)).await.unwrap();
        let mut socket = Socket(TokioIo::new(upgraded));
        assert_eq!(socket.echo("a").await, format!("{name}:a"));
        match name {
            "base" => fork(&world, "42", json!({"chat": [other.endpoint()]})).await,
            _ => unfork(&world, "42").await,
        }
        socket.restarted().await;
    }
    assert_eq!(drained(&world, "websocket").await, 2.0);
    assert_eq!(drained(&world, "http2").await, 0.0, "its other streams are decided one by one");
}

#[tokio::test]
async fn what_changes_elsewhere_disturbs_nobody() {
    let (world, [base, other]) = chats("1s").await;
    fork(&world, "42", json!({"chat": [other.endpoint()]})).await;
    let mut socket = over_http1(&world).await;
    let began = Instant::now();
    let mut round = 0;
    // Long enough for each kind of change to be looked at by itself, and for a drain to be over.
    while began.elapsed() < Duration::from_secs(6) {
        match round % 4 {
            0 => fork(&world, "43", json!({"chat": [base.endpoint()]})).await,
            // The same target, and another endpoint beside it.
            1 => fork(&world, "42", json!({"chat": [other.endpoint(), "127.0.0.1:1"]})).await,
            2 => fork(&world, "42", json!({"other": [base.endpoint()], "chat": [other.endpoint()]})).await,
            _ => unfork(&world, "43").await,
        }
        round += 1;
        let until = began + Duration::from_millis(1100) * round;
        while Instant::now() < until {
            assert_eq!(socket.echo("still").await, "fork:still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(round > 4 && world.generation().await > 5.0);
    for kind in ["websocket", "http2", "stream"] {
        assert_eq!(drained(&world, kind).await, 0.0);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_ill_is_no_change() {
    let mut estate = unforked();
    let service = estate.upstream("api").await;
    estate.service(
        "api",
        json!({"baseline": [service],
        "healthCheck": {"path": "/healthz", "interval": "100ms"}}),
    );
    estate.route(HOST, "/", "api");
    estate.config["limits"] = json!({"decisionDrain": "100ms"});
    let world = estate.start().await;
    let mut conn = world.http1().await;
    let mut opened = conn.open(get(HOST, "/").key("42").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    world.of("api").set_healthy(false);
    eventually("the endpoint is ill", async || world.send(get(HOST, "/")).await.status == 503).await;
    fork(&world, "43", json!({"api": ["127.0.0.1:1"]})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.of("api").release();
    assert_eq!(event(&mut opened).await, "data: second\n\n");
}

/// The next piece of an answer.
async fn event(opened: &mut Opened) -> String {
    let frame = within("an event", opened.body_mut().frame()).await.expect("an event").expect("no cut");
    String::from_utf8(frame.into_data().expect("data").to_vec()).unwrap()
}

/// A stream of a service that speaks `wire`, and its fork.
async fn streams(wire: Wire, decision_drain: &str) -> World {
    let mut estate = unforked();
    estate.baseline_on("api", wire.clone()).await;
    estate.upstream_on("api-42", wire).await;
    estate.route(HOST, "/", "api");
    estate.config["limits"] = json!({"decisionDrain": decision_drain});
    estate.start().await
}

async fn fork_api(world: &World) {
    fork(world, "42", json!({"api": [world.of("api-42").endpoint()]})).await;
}

#[tokio::test]
async fn a_call_of_grpc_gets_a_status() {
    let world = streams(Wire::H2c, "1s").await;
    let mut conn = world.http2().await;
    let mut opened = conn.open(get(HOST, "/").grpc().key("42").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    let began = Instant::now();
    fork_api(&world).await;
    let end = within("the trailers", opened.body_mut().frame()).await.unwrap().unwrap();
    let trailers = end.into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "14");
    assert!(trailers["grpc-message"].to_str().unwrap().starts_with("decision_changed: "), "{trailers:?}");
    assert!(within("the end", opened.body_mut().frame()).await.is_none());
    assert!((Duration::from_secs(1)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!((drained(&world, "stream").await, drained(&world, "http2").await), (1.0, 1.0));
    assert_eq!(cuts(&world, 1).await, 1);
    // The connection was told to go, and the next one finds the fork.
    eventually("the connection is closed", async || conn.is_closed()).await;
    world.http2().await.send(get(HOST, "/").grpc().key("42")).await.came_from("api-42");
    eventually("the stream upstream is over", async || world.of("api").open_connections() <= 1).await;
}

#[tokio::test]
async fn an_http2_connection_is_told_to_go_and_its_streams_go_on() {
    let world = streams(Wire::Http1, "2s").await;
    let mut frames = Frames::open(world.raw().await, &[]).await;
    let asked = [("x-pr-id", "42"), ("x-act", "events")];
    frames.get(1, HOST, "/", &asked).await;
    // One that names no key, and stays where it is.
    frames.get(3, HOST, "/", &asked[1..]).await;
    let mut begun = 0;
    while begun < 2 {
        begun += usize::from(frames.next().await.unwrap().kind == Frame::DATA);
    }
    fork_api(&world).await;
    let away = frames.next_of(Frame::GO_AWAY).await.expect("GOAWAY");
    assert_eq!(away.payload[4..8], [0; 4], "NO_ERROR");
    // To be told so twice is the way of a graceful end (RFC 9113 section 6.8), once it is known that both sides know.
    let mut reset = None;
    while reset.is_none() {
        let frame = frames.next().await.expect("the connection goes on");
        match frame.kind {
            Frame::PING if !frame.ends() => frames.send(Frame::PING, Frame::END, 0, &frame.payload).await,
            Frame::RESET => reset = Some((frame.stream, frame.reason())),
            _ => assert_ne!(frame.kind, Frame::DATA),
        }
    }
    assert_eq!(reset, Some((1, 8)), "CANCEL of the one that moved");
    world.of("api").release();
    world.of("api").release();
    let data = frames.next_of(Frame::DATA).await.expect("the other stream goes on");
    assert_eq!((data.stream, data.payload.as_slice()), (3, b"data: second\n\n".as_slice()));
}

#[tokio::test]
async fn an_answer_over_http1_is_cut() {
    let world = streams(Wire::Http1, "1s").await;
    let mut conn = world.http1().await;
    let mut opened = conn.open(get(HOST, "/").key("42").act("events")).await.unwrap();
    let mut other = world.http1().await;
    let mut plain = other.open(get(HOST, "/").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    assert_eq!(event(&mut plain).await, "data: first\n\n");
    let began = Instant::now();
    fork_api(&world).await;
    let cut = within("the end", opened.body_mut().frame()).await.expect("more than an end");
    assert!(cut.is_err(), "half an answer must not look whole: {cut:?}");
    assert!((Duration::from_secs(1)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(drained(&world, "stream").await, 1.0);
    assert_eq!(cuts(&world, 1).await, 1);
    for _ in 0..2 {
        world.of("api").release();
    }
    assert_eq!(event(&mut plain).await, "data: second\n\n", "who names no key has no other target");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_too() {
    let world = streams(Wire::Http1, "1s").await;
    let mut raw = world.raw().await;
    raw.write(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-PR-ID: 42\r\nX-Act: bytes 100000000\r\n\r\n"))
        .await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    let mut frames = Frames::open(world.raw().await, &[]).await;
    frames.get(1, HOST, "/", &[("x-pr-id", "42"), ("x-act", "bytes 100000000")]).await;
    frames.next_of(Frame::DATA).await.unwrap();
    fork_api(&world).await;
    eventually("both are over", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) == 0.0
    })
    .await;
    assert_eq!(drained(&world, "stream").await, 2.0);
    assert_eq!(cuts(&world, 2).await, 2);
}

#[tokio::test]
async fn with_no_bound_nothing_is_cut() {
    let world = streams(Wire::Http1, "0").await;
    let mut conn = world.http1().await;
    let mut opened = conn.open(get(HOST, "/").key("42").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    fork_api(&world).await;
    eventually("the change is seen", async || drained(&world, "stream").await == 1.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.of("api").release();
    assert_eq!(event(&mut opened).await, "data: second\n\n");
    assert!(within("the end", opened.body_mut().frame()).await.is_none());
}

#[tokio::test]
async fn what_was_decided_again_is_not_cut() {
    let world = streams(Wire::Http1, "3s").await;
    let mut conn = world.http1().await;
    let mut opened = conn.open(get(HOST, "/").key("42").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    fork_api(&world).await;
    eventually("the change is seen", async || drained(&world, "stream").await == 1.0).await;
    unfork(&world, "42").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.of("api").release();
    assert_eq!(event(&mut opened).await, "data: second\n\n");
}

#[tokio::test]
async fn connections_to_what_is_gone_are_closed() {
    let mut estate = unforked();
    estate.baseline("api").await;
    estate.upstream("api-42").await;
    estate.route(HOST, "/", "api");
    // Idle ones would stay for longer than this test.
    estate.config["limits"] = json!({"upstreamIdleTimeout": "10m", "decisionDrain": "0"});
    let world = estate.start().await;
    fork_api(&world).await;
    // A stream that goes on keeps nothing of the table that it began with.
    let mut conn = world.http1().await;
    let mut opened = conn.open(get(HOST, "/").act("events")).await.unwrap();
    assert_eq!(event(&mut opened).await, "data: first\n\n");
    world.send(get(HOST, "/").key("42")).await.came_from("api-42");
    assert_eq!(world.of("api-42").open_connections(), 1);
    unfork(&world, "42").await;
    eventually("nothing is open to the fork", async || world.of("api-42").open_connections() == 0).await;
    world.of("api").release();
    assert_eq!(event(&mut opened).await, "data: second\n\n");
}

/// A server that begins a large frame at once, and ends it when it is told so.
async fn slow_frame(length: usize) -> (RawUpstream, tokio::sync::watch::Sender<bool>) {
    let (go, told) = tokio::sync::watch::channel(false);
    let upstream = RawUpstream::start(move |raw, _| {
        let mut told = told.clone();
        async move {
            let Some(mut socket) = accept(raw).await else { return };
            socket.hear().await;
            let Socket(mut stream) = socket;
            let frame = large(length);
            let _ = stream.write_all(&frame[..frame.len() / 2]).await;
            let _ = told.wait_for(|told| *told).await;
            // With the rest comes the beginning of another one, which nobody hears.
            let _ = stream.write_all(&[&frame[frame.len() / 2..], &large(length)[..7]].concat()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    (upstream, go)
}

fn large(length: usize) -> Vec<u8> {
    let payload = (0..length).map(|at| (at % 251) as u8);
    [&[0x82, 127], &(length as u64).to_be_bytes()[..]].concat().into_iter().chain(payload).collect()
}

#[tokio::test]
async fn a_frame_under_way_is_not_broken() {
    const LENGTH: usize = 200_000;
    let (server, go) = slow_frame(LENGTH).await;
    let (fork_of_it, _) = chat("fork").await;
    let mut estate = unforked();
    estate.service("chat", json!({"baseline": [server.endpoint()]}));
    estate.route(HOST, "/", "chat");
    let world = estate.start().await;
    let mut socket = over_http1(&world).await;
    socket.say(TEXT, b"go", true).await;
    let Socket(mut stream) = socket;
    let frame = large(LENGTH);
    let mut half = vec![0; frame.len() / 2];
    within("half a frame", stream.read_exact(&mut half)).await.unwrap();
    fork(&world, "42", json!({"chat": [fork_of_it.endpoint()]})).await;
    eventually("the change is seen", async || drained(&world, "websocket").await == 1.0).await;
    go.send(true).unwrap();
    let mut all = half;
    within("the rest", stream.read_to_end(&mut all)).await.unwrap();
    let close = [&[0x88, 18, 0x03, 0xf4], b"decision changed".as_slice()].concat();
    assert!(all == [frame, close].concat(), "the frame, a Close, and nothing else: {} bytes", all.len());
}

#[tokio::test]
async fn a_client_that_does_not_close_is_left() {
    let (base, mut closed) = chat("base").await;
    let (fork_of_it, _) = chat("fork").await;
    let mut estate = unforked();
    estate.service("chat", json!({"baseline": [base.endpoint()]}));
    estate.route(HOST, "/", "chat");
    let world = estate.start().await;
    let mut socket = over_http1(&world).await;
    assert_eq!(socket.echo("a").await, "base:a");
    fork(&world, "42", json!({"chat": [fork_of_it.endpoint()]})).await;
    let began = Instant::now();
    assert_eq!(within("a Close", socket.hear()).await.unwrap().0, CLOSE);
    // It goes on as if nothing were, and is heard, but not answered.
    socket.say(TEXT, b"hello?", true).await;
    assert_eq!(within("the end", socket.hear()).await, None);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(8)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(within("the end of a tunnel", closed.recv()).await, Some(Some(1001)), "in the client's place");
}
