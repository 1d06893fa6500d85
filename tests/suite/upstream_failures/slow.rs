//! Upstreams that hang, or drip: their time is over when it is over, and nobody else waits with them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;
use sidetrack_tests::{Frame, Raw, RawUpstream, World, get};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{CLIENTS, Client, beside, host};

/// The time-outs of these services.
const LIMIT: Duration = Duration::from_secs(2);
/// Beyond them: what a busy machine may need.
const SLACK: Duration = Duration::from_secs(5);
/// From byte to byte of what drips.
const DROP: Duration = Duration::from_millis(200);

/// What must become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The proxy's own answer.
    Told(u16, &'static str),
    /// The answer has begun, and must not look whole.
    Cut,
    /// The whole answer, whose time between two bytes was never over.
    Whole,
}

const LATE: Fate = Fate::Told(504, "upstream_timeout");
const UNREACHED: Fate = Fate::Told(503, "upstream_unavailable");

/// Writes these bytes again and again, one at a time, until nobody listens.
async fn drip(raw: &mut Raw, bytes: &[u8]) {
    let deadline = Instant::now() + SLACK * 2;
    for byte in bytes.iter().cycle() {
        if Instant::now() > deadline || raw.try_write(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(DROP).await;
    }
}

/// An upstream that reads the head of a request, says `first`, and then drips `then`; nothing: it hangs.
async fn http1(first: &'static str, then: &'static str) -> RawUpstream {
    RawUpstream::start(move |mut raw, _| async move {
        if raw.head().await.is_none() {
            return;
        }
        raw.write(first).await;
        if !then.is_empty() {
            drip(&mut raw, then.as_bytes()).await;
        }
        raw.rest().await;
    })
    .await
}

/// What an HTTP/2 upstream does after the head of a request.
#[derive(Clone, Copy)]
enum Frames2 {
    Hang,
    HangAfterHead,
    /// HEADERS byte by byte, and CONTINUATION without end.
    DripHead,
    /// PING, which is no piece of a body.
    DripPings,
}

async fn http2(what: Frames2) -> RawUpstream {
    RawUpstream::http2(&[], move |mut frames, _| async move {
        let Some(asked) = frames.next_of(Frame::HEADERS).await else { return };
        let head = Frame::head_bytes(asked.stream, &[(":status", "200")], false);
        let mut raw = frames.into_raw();
        match what {
            Frames2::Hang => {}
            Frames2::HangAfterHead => raw.write(&head).await,
            // All but the last byte, which never comes.
            Frames2::DripHead => {
                for byte in &head[..head.len() - 1] {
                    raw.write(&[*byte]).await;
                    tokio::time::sleep(DROP).await;
                }
            }
            Frames2::DripPings => {
                raw.write(&head).await;
                drip(&mut raw, &Frame::bytes(Frame::PING, 0, 0, b"eight by")).await;
            }
        }
        raw.rest().await;
    })
    .await
}

/// A port whose queue is full: a connect to it is never answered.
async fn unanswering() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        match tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => return (listener, waiting),
        }
    }
    panic!("the queue takes everybody");
}

/// Asks for what is slow, and says what became of it.
async fn ask(world: &World, client: Client, name: &str, fate: Fate) {
    let mut conn = client.connect(world).await;
    let begun = Instant::now();
    let outcome = conn.try_send(get(&host(name), "/slow")).await;
    let took = begun.elapsed();
    let what = format!("{name} {client:?} after {took:?}: {outcome:?}");
    match (fate, outcome) {
        (Fate::Told(status, code), Ok(reply)) => {
            assert_eq!((reply.status, reply.code().as_str()), (status, code), "{what}");
        }
        (Fate::Whole, Ok(reply)) => assert_eq!((reply.status, reply.text()), (200, "drop by drop"), "{what}"),
        (Fate::Cut, Err(_)) => {}
        _ => panic!("{what}, but it should have been {fate:?}"),
    }
    let is_timed = fate != Fate::Whole && !name.starts_with("garbled");
    assert!(took < LIMIT + SLACK && (!is_timed || took >= LIMIT - Duration::from_millis(20)), "{what}");
    client.goes_on(world, &mut conn, name).await;
}

#[tokio::test]
async fn each_in_its_time() {
    let (full, _waiting) = unanswering().await;
    let full = full.local_addr().unwrap().to_string();
    let silent = RawUpstream::start(|mut raw: Raw, _| async move { drop(raw.rest().await) }).await;
    let garbled = RawUpstream::start(|mut raw: Raw, _| async move {
        raw.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        raw.rest().await;
    })
    .await;
    let one = [
        ("hang", http1("", "").await, LATE),
        ("half-head", http1("HTTP/1.1 200 OK\r\nx: y", "").await, LATE),
        ("drip-head", http1("HTTP/1.1 200 OK\r\nx: ", "y").await, LATE),
        ("drip-hints", http1("", "HTTP/1.1 103 Early Hints\r\n\r\n").await, LATE),
        ("hints", http1("HTTP/1.1 103 Early Hints\r\n\r\n", "").await, LATE),
        ("hang-body", http1("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "").await, Fate::Cut),
        ("hang-at-body", http1("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "").await, Fate::Cut),
        (
            "hang-in-chunk",
            http1("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf", "").await,
            Fate::Cut,
        ),
        (
            "hang-at-last",
            http1("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "").await,
            Fate::Cut,
        ),
        (
            "drip-extension",
            http1("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n4;x=", "y").await,
            Fate::Cut,
        ),
        (
            "drip-trailer",
            http1("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", "y").await,
            Fate::Cut,
        ),
        (
            "drip-body",
            http1("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", "drop by drop").await,
            Fate::Whole,
        ),
    ];
    // One for each client: they would share a connection, and its upstream answers the first request alone.
    let mut two = Vec::new();
    for client in CLIENTS {
        for (name, what, fate) in [
            ("hang2", Frames2::Hang, LATE),
            ("drip-head2", Frames2::DripHead, LATE),
            ("hang-body2", Frames2::HangAfterHead, Fate::Cut),
            ("drip-pings2", Frames2::DripPings, Fate::Cut),
        ] {
            let name = format!("{name}-{client:?}").to_ascii_lowercase();
            two.push((name, http2(what).await, fate, client));
        }
    }
    let times = json!({"connect": "2s", "response": "2s", "idle": "2s"});
    let of = |protocol: &str| json!({"protocol": protocol, "timeouts": times});
    let mut services = vec![
        ("queue1", full.clone(), of("http1")),
        ("queue2", full, of("h2c")),
        ("silent1", silent.endpoint(), of("https")),
        ("silent2", silent.endpoint(), of("h2")),
        ("silent2c", silent.endpoint(), of("h2c")),
        ("garbled1", garbled.endpoint(), of("https")),
        ("garbled2", garbled.endpoint(), of("h2")),
        ("garbled2c", garbled.endpoint(), of("h2c")),
    ];
    services.extend(one.iter().map(|(name, upstream, _)| (*name, upstream.endpoint(), of("http1"))));
    services.extend(two.iter().map(|(name, upstream, ..)| (name.as_str(), upstream.endpoint(), of("h2c"))));
    let world = beside(&services).await;
    let mut fates = vec![
        ("queue1", UNREACHED),
        ("queue2", UNREACHED),
        ("silent1", UNREACHED),
        ("silent2", UNREACHED),
        ("silent2c", LATE),
        ("garbled1", UNREACHED),
        ("garbled2", UNREACHED),
        ("garbled2c", Fate::Told(502, "upstream_protocol")),
    ];
    fates.extend(one.iter().map(|(name, _, fate)| (*name, *fate)));
    // All at once, so that it takes the time of one; a worker that waited for one would keep the others.
    let each = fates.iter().flat_map(|(name, fate)| CLIENTS.map(|client| (client, *name, *fate)));
    let each = each.chain(two.iter().map(|(name, _, fate, client)| (*client, name.as_str(), *fate)));
    together(each.map(|(client, name, fate)| ask(&world, client, name, fate))).await;
}

/// Waits for all of them.
async fn together(work: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = work.map(Box::pin).collect();
    std::future::poll_fn(move |cx| {
        pending.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
