//! Nothing unsafe passes, in either direction: what an audit from outside found, line by line.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;
use sidetrack_tests::{
    Estate, Frame, Frames, RawUpstream, World, eventually, feed, get, post, request, within,
};
use tokio::sync::Notify;

use crate::D;

const ODD: &str = "odd.preview.localhost";
const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;

/// A service `odd` at [`ODD`] that is this upstream, over this protocol.
async fn odd(upstream: &RawUpstream, protocol: &str) -> World {
    let mut estate = Estate::standard().await;
    estate.service(
        "odd",
        json!({"baseline": [upstream.endpoint()], "protocol": protocol, "timeouts": {"idle": "2s"}}),
    );
    estate.route(ODD, "/", "odd");
    // Each worker has connections of its own.
    estate.config["workers"] = json!(1);
    estate.start().await
}

/// The names of header lines in the text of a message.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect()
}

const TRAILERS: &str = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-PR-ID: 43\r\n\
    X-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\nCookie: pr-id=43\r\nSet-Cookie: a=b\r\nAuthorization: x\r\n\
    Connection: close\r\nTE: trailers\r\nTrailer: x\r\nbaggage: pr-id=43\r\ncontent_length: 9\r\nX-PR-Route: evil\r\n\
    Vary: *\r\nX-Checksum: 7\r\n";

#[tokio::test]
async fn trailers_of_requests() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        let rest = raw.head().await.unwrap();
        raw.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{rest}", rest.len())).await;
        raw.rest().await;
    })
    .await;
    let world = odd(&upstream, "http1").await;
    let mut raw = world.raw().await;
    raw.write(format!(
        "POST / HTTP/1.1\r\nHost: {ODD}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{TRAILERS}\r\n"
    ))
    .await;
    let (status, _, body) = raw.answer().await;
    assert_eq!(status, 200);
    assert_eq!(names(&String::from_utf8(body).unwrap()), ["x-checksum"]);
}

/// Those of this very estate, too: what it calls its header, and its secrets.
#[tokio::test]
async fn trailers_of_requests_name_no_preview_and_hold_no_secret() {
    let mut estate = Estate::standard().await;
    estate.write("token", "sesame\n");
    estate.config["carriers"] = json!({"header": "x-preview", "aliases": ["okteto"]});
    estate.config["access"] = json!({"header": {"name": "x-token", "secretFile": "token"}});
    let world = estate.start().await;
    for mut conn in [world.http1().await, world.http2().await] {
        let (pen, body) = feed();
        let write = async move {
            pen.data("four").await;
            let names = ["x-preview", "x_preview", "x-okteto-divert", "x-token", "x-sum"];
            let value = || HeaderValue::from_static("42");
            pen.trailers(names.map(|name| (HeaderName::from_static(name), value())).into_iter().collect())
                .await;
        };
        let call = request("POST", D, "/").header("te", "trailers").header("trailer", "x-sum").body(body);
        let (reply, ()) = tokio::join!(conn.send(call), write);
        let echo = reply.echo();
        assert_eq!(echo.trailers(), ["x-sum"]);
    }
}

#[tokio::test]
async fn trailers_of_answers() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        while raw.head().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
            raw.write(format!("{head}{TRAILERS}\r\n")).await;
        }
    })
    .await;
    let world = odd(&upstream, "http1").await;
    for mut conn in [world.http1().await, world.http2().await] {
        let reply = conn.send(get(ODD, "/")).await;
        let names: Vec<_> = reply.trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-checksum"], "{:?}", reply.version);
    }
}

#[tokio::test]
async fn what_http2_lets_pass_and_http1_does_not() {
    let world = World::standard().await;
    let mut frames = Frames::open(world.raw().await, &[]).await;
    let seen = world.of("shop").count();
    let own = [(":method", "GET"), (":scheme", "http"), (":authority", D), (":path", "/")];
    let bad: [&[(&str, &str)]; 6] = [
        &[("x\"y", "1")],
        &[("\"transfer-encoding", "chunked")],
        &[("x-pr-id", " 42")],
        &[("x", "a ")],
        &[("x", "\ta")],
        &[(":scheme", "ftp")],
    ];
    for (at, fields) in bad.into_iter().enumerate() {
        let stream = 1 + 2 * u32::try_from(at).unwrap();
        let kept = own.into_iter().filter(|(name, _)| fields.iter().all(|(other, _)| other != name));
        let (pseudo, plain): (Vec<_>, Vec<_>) =
            kept.chain(fields.iter().copied()).partition(|(name, _)| name.starts_with(':'));
        frames.head(stream, &[pseudo, plain].concat(), true).await;
        let reset = frames.next_of(Frame::RESET).await.unwrap();
        assert_eq!((reset.stream, reset.reason()), (stream, PROTOCOL_ERROR), "{fields:?}");
    }
    assert_eq!(world.of("shop").count(), seen);
    frames.get(101, D, "/", &[]).await;
    assert_eq!(frames.next_of(Frame::HEADERS).await.unwrap().stream, 101, "the others go on");
    assert_eq!(world.metrics().await.sum("sidetrack_errors_total", &[("code", "malformed_request")]), 6.0);
}

#[tokio::test]
async fn an_answer_of_http2_that_http1_would_read_otherwise() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = frames.next_of(Frame::HEADERS).await.map(|frame| frame.stream) {
            frames.head(stream, &[(":status", "200"), ("x", " blank")], true).await;
        }
    })
    .await;
    let world = odd(&upstream, "h2c").await;
    world.send(get(ODD, "/")).await.failed(502, "upstream_protocol");
}

#[tokio::test]
async fn twins_of_fields_that_services_believe() {
    let world = World::standard().await;
    let twins =
        ["x_forwarded_for", "x-forwarded_host", "x_request_id", "x_pr_strict", "x-real-ip", "x_real_ip"];
    for mut conn in [world.http1().await, world.http2().await] {
        let call =
            twins.iter().fold(get(D, "/").header("x_other", "1"), |call, name| call.header(name, "evil"));
        let echo = conn.send(call).await.echo();
        assert!(echo.headers().iter().all(|(_, value)| *value != "evil"), "{:?}", echo.headers());
        assert_eq!(echo.header("x_other"), Some("1"));
        for name in ["content_length", "transfer_encoding"] {
            conn = if conn.version() == hyper::Version::HTTP_2 { conn } else { world.http1().await };
            conn.send(get(D, "/").header(name, "9")).await.failed(400, "malformed_request");
        }
    }
}

#[tokio::test]
async fn only_websocket_is_upgraded_to() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        while let Some(head) = raw.head().await {
            match head.to_ascii_lowercase() {
                head if head.contains("/switch") => {
                    raw.write(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
                    )
                    .await;
                }
                head => {
                    let says = if head.contains("upgrade") { "upgrade" } else { "plain" };
                    raw.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{says}", says.len()))
                        .await;
                }
            }
        }
    })
    .await;
    let world = odd(&upstream, "http1").await;
    let ask = async |head: &str| {
        let mut raw = world.raw().await;
        raw.write(head.replace("HOST", ODD)).await;
        let (status, _, body) = raw.answer().await;
        (status, String::from_utf8(body).unwrap())
    };
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for head in [
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{key}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\n{key}\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: websocket, foo\r\n{key}\r\n"
        ),
    ] {
        assert_eq!(ask(&head).await, (200, "plain".to_owned()), "{head}");
    }
    let head = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n{key}\r\n")
    };
    assert_eq!(ask(&head("/")).await, (200, "upgrade".to_owned()));
    let (status, body) = ask(&head("/switch")).await;
    assert!(status == 502 && body.contains("upstream_protocol"), "{status} {body}");
}

#[tokio::test]
async fn an_extended_connect_that_does_not_switch() {
    let (upstream, _heads) = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let world = odd(&upstream, "http1").await;
    let mut frames = Frames::open(world.raw().await, &[]).await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", ODD),
        (":path", "/"),
    ];
    frames.head(1, &fields, false).await;
    let head = frames.next_of(Frame::HEADERS).await.unwrap();
    // The name of `:status`, and 502 in the code of RFC 7541 appendix B.
    assert!(head.payload.starts_with(&[0x48, 0x82, 0x6c, 0x02]), "{head:?}");
}

#[tokio::test]
async fn an_answer_that_is_broken_from_its_first_byte() {
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let (upstream, _heads) = RawUpstream::answering(broken).await;
    let world = odd(&upstream, "http1").await;
    for mut conn in [world.http1().await, world.http2().await] {
        conn.send(get(ODD, "/")).await.failed(502, "upstream_protocol");
    }
}

#[tokio::test]
async fn answers_of_http2_that_say_too_much() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = frames.next_of(Frame::HEADERS).await.map(|frame| frame.stream) {
            match stream {
                1 => {
                    let twice = [(":status", "200"), ("content-length", "3"), ("content-length", "3")];
                    frames.head(stream, &twice, false).await;
                }
                _ => frames.head(stream, &[(":status", "204")], false).await,
            }
            frames.send(Frame::DATA, Frame::END, stream, b"all").await;
        }
    })
    .await;
    let world = odd(&upstream, "h2c").await;
    let mut conn = world.http2().await;
    let reply = conn.send(get(ODD, "/")).await;
    assert_eq!((reply.header_lines("content-length"), reply.text()), (vec!["3"], "all"));
    let reply = conn.send(get(ODD, "/")).await;
    assert_eq!((reply.status, reply.text()), (204, ""));
}

#[tokio::test]
async fn max_forwards() {
    let world = World::standard().await;
    let seen = world.of("shop").count();
    let reply = world.send(request("OPTIONS", D, "/").header("max-forwards", "0")).await;
    assert_eq!((reply.status, reply.header("x-upstream")), (200, None));
    assert!(reply.header("allow").unwrap().contains("GET"));
    let reply =
        world.send(request("OPTIONS", D, "/api/checkout").key("42").header("max-forwards", "0")).await;
    assert_eq!(reply.receipt(), "checkout@none;reason=fork", "the fork was not asked");
    assert_eq!(world.of("shop").count(), seen);
    let reply = world.send(request("OPTIONS", D, "/").header("max-forwards", "7")).await;
    assert_eq!(reply.echo().header("max-forwards"), Some("6"));
    let reply = world.send(get(D, "/").header("max-forwards", "0")).await;
    assert_eq!(
        reply.echo().header("max-forwards"),
        Some("0"),
        "RFC 9110 section 7.6.2: of OPTIONS and TRACE"
    );
}

#[tokio::test]
async fn without_a_key_no_receipt_whatever_a_service_says() {
    let world = World::standard().await;
    let reply = world.send(get(D, "/").answer_with("X-PR-Route", "shop@42;reason=fork")).await;
    reply.came_from("shop");
    assert!(reply.receipts().is_empty());
    let reply = world.send(get(D, "/").key("42").answer_with("X-PR-Route", "inner@42;reason=fork")).await;
    assert_eq!(reply.receipts().len(), 2);
}

#[tokio::test]
async fn what_a_reset_means_to_grpc() {
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    let upstream = RawUpstream::http2(&[], move |mut frames, _| {
        let told = Arc::clone(&told);
        async move {
            while let Some(stream) = frames.next_of(Frame::HEADERS).await.map(|frame| frame.stream) {
                if stream > 1 {
                    frames
                        .head(stream, &[(":status", "200"), ("content-type", "application/grpc")], false)
                        .await;
                    told.notified().await;
                }
                frames.reset(stream, CANCEL).await;
            }
        }
    })
    .await;
    let world = odd(&upstream, "h2c").await;
    let reply = world.http2().await.send(post(ODD, "/s/m", "").grpc()).await;
    assert_eq!(reply.header("grpc-status"), Some("1"), "{reply:?}");
    let mut frames = Frames::open(world.raw().await, &[]).await;
    frames.get(1, ODD, "/", &[]).await;
    frames.next_of(Frame::HEADERS).await.unwrap();
    tell.notify_one();
    assert_eq!(frames.next_of(Frame::RESET).await.unwrap().reason(), CANCEL, "and goes on as it came");
}

#[tokio::test]
async fn early_answers_without_end() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        for _ in 0..1_000 {
            raw.write("HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\nLink: </a>\r\n\r\n").await;
        }
        raw.rest().await;
    })
    .await;
    let world = odd(&upstream, "http1").await;
    let mut raw = world.raw().await;
    raw.write(format!("GET / HTTP/1.1\r\nHost: {ODD}\r\nConnection: close\r\n\r\n")).await;
    let rest = raw.rest().await;
    assert!(rest.contains("HTTP/1.1 502") && rest.contains("upstream_protocol"), "{rest}");
    assert!(!rest.split("HTTP/1.1 502").next().unwrap().contains("ontent-"), "a 103 has no length: {rest}");
}

/// The time-out of a service counted from its last byte, and not from when more was waited for.
#[tokio::test]
async fn a_slow_reader_is_no_stalled_service() {
    const LARGE: usize = 32 << 20;
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        raw.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LARGE + 5)).await;
        raw.write(vec![b'x'; LARGE]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.write("whole").await;
        raw.rest().await;
    })
    .await;
    let world = odd(&upstream, "http1").await;
    let mut raw = world.raw().await;
    raw.write(format!("GET / HTTP/1.1\r\nHost: {ODD}\r\n\r\n")).await;
    raw.head().await.unwrap();
    // Longer than the service may be silent.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let body = within("the body", raw.exactly(LARGE + 5)).await;
    assert!(body.is_some_and(|body| body.ends_with(b"whole")));
}

/// A line that is no text was left out, and with it the address that the trusted proxy had written.
#[tokio::test]
async fn a_client_does_not_choose_its_address() {
    let mut estate = Estate::standard().await;
    estate.config["listeners"][0]["trustedProxies"] = json!(["127.0.0.0/8"]);
    estate.config["access"] = json!({"allow": ["10.9.9.9"]});
    let world = estate.start().await;
    for (last, status) in [(&b"10.9.9.9"[..], 200), (b"203.0.113.9", 403), (b"\xff, 203.0.113.9", 403)] {
        let mut raw = world.raw().await;
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {D}\r\nX-PR-ID: 42\r\nX-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: "
        );
        raw.write([head.as_bytes(), last, b"\r\n\r\n"].concat()).await;
        assert_eq!(raw.answer().await.0, status, "{last:?}");
    }
}

#[tokio::test]
async fn who_may_see_a_preview_may_not_for_that_see_its_parent() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["access"] = json!({"allow": ["192.0.2.0/24"]});
    estate.preview("57")["parents"] = json!(["42"]);
    let world = estate.start().await;
    world.send(get(D, "/api/checkout").key("42")).await.failed(403, "access_denied");
    world.send(get(D, "/api/checkout").key("57")).await.failed(403, "access_denied");
    world.send(get(D, "/").key("57")).await.came_from("shop-57");
}

#[tokio::test]
async fn a_service_does_not_set_our_cookie() {
    let world = World::standard().await;
    let call = get(D, "/")
        .answer_with("Set-Cookie", "pr-id=42; Domain=preview.localhost")
        // Without a name it comes back as `pr-id=42`.
        .answer_with("Set-Cookie", "=pr-id=42; Path=/")
        .answer_with("Set-Cookie", "session=1; Path=/");
    assert_eq!(world.send(call).await.header_lines("set-cookie"), ["session=1; Path=/"]);
}

#[tokio::test]
async fn a_pipe_among_the_previews_is_not_waited_for() {
    let mut estate = Estate::standard().await;
    estate.config["previewsDir"] = "previews.d".into();
    let folder = estate.folder().join("previews.d");
    std::fs::create_dir(&folder).unwrap();
    let world = estate.start().await;
    let pipe = folder.join("77.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = json!({"forks": {"checkout": [world.of("checkout-42").endpoint()]}}).to_string();
    std::fs::write(folder.join("78.yaml"), text).unwrap();
    eventually("the file beside it is in force", async || {
        world.send(get(D, "/api/checkout").key("78")).await.status == 200
    })
    .await;
    assert_eq!(world.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn the_admin_listener_is_not_held_by_one_address() {
    let world = World::standard().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(sidetrack_tests::Raw::connect(world.admin).await);
    }
    // Those that are too many are closed, and another address is served.
    let mut closed = silent.split_off(32);
    for raw in &mut closed {
        assert_eq!(raw.rest().await, "");
    }
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = within("a connection", other.connect(world.admin)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("the answer", tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)).await.unwrap();
    assert!(answer.contains("alive"), "{answer}");
}

/// The HTTP library drops them without a word.
#[tokio::test]
async fn pseudo_header_fields_in_trailers() {
    let world = World::standard().await;
    let own = [(":method", "POST"), (":scheme", "http"), (":authority", D), (":path", "/")];
    let mut frames = Frames::open(world.raw().await, &[]).await;
    frames.head(1, &own, false).await;
    frames.send(Frame::DATA, 0, 1, b"body").await;
    frames.head(1, &[("x-sum", "7")], true).await;
    while !frames.next().await.unwrap().ends() {}
    frames.head(3, &own, false).await;
    frames.send(Frame::DATA, 0, 3, b"body").await;
    frames.head(3, &[(":path", "/other"), ("x-sum", "7")], true).await;
    assert_eq!(frames.gone().await, Some(PROTOCOL_ERROR));
    world.send(get(D, "/")).await.came_from("shop");
}
