//! HTTP/2 on the upstream's side, frame by frame: what is sent again, what ends alone, and who waits for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Version};
use serde_json::json;
use sidetrack_tests::{
    Conn, Estate, Frame, Frames, RawUpstream, World, early_answers, eventually, feed, get, post, request,
    within,
};
use tokio::sync::{Semaphore, mpsc};

const HOST: &str = "framed.preview.localhost";
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const NO_ERROR: u32 = 0;
const REFUSED: u32 = 7;
const CANCEL: u32 = 8;

/// A service at [`HOST`] that is this upstream.
async fn before(upstream: &RawUpstream) -> World {
    let mut estate = Estate::standard().await;
    estate.service("framed", json!({"baseline": [upstream.endpoint()], "protocol": "h2c"}));
    estate.route(HOST, "/", "framed");
    // Each worker has connections of its own.
    estate.config["workers"] = json!(1);
    estate.start().await
}

/// The stream of the next request.
async fn asked(frames: &mut Frames) -> Option<u32> {
    frames.next_of(Frame::HEADERS).await.map(|frame| frame.stream)
}

/// Answers every request.
async fn serve(mut frames: Frames) {
    while let Some(stream) = asked(&mut frames).await {
        frames.answer(stream, "served").await;
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again() {
    let upstream = RawUpstream::http2(&[], async |mut frames, index| {
        if index > 1 {
            return serve(frames).await;
        }
        let first = asked(&mut frames).await.unwrap();
        frames.answer(first, "first").await;
        while let Some(stream) = asked(&mut frames).await {
            frames.reset(stream, REFUSED).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    for text in ["first", "served"] {
        assert_eq!(world.send(get(HOST, "/")).await.text(), text);
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn what_a_server_that_goes_away_has_not_processed_is_sent_again() {
    let upstream = RawUpstream::http2(&[], async |mut frames, index| {
        if index > 1 {
            return serve(frames).await;
        }
        let slow = asked(&mut frames).await.unwrap();
        frames.head(slow, &[(":status", "200")], false).await;
        asked(&mut frames).await.unwrap();
        frames.go_away(slow).await;
        assert!(
            frames.said().await.iter().all(|frame| frame.kind != Frame::HEADERS),
            "nothing new comes here"
        );
        frames.send(Frame::DATA, Frame::END, slow, b"to its end").await;
        while frames.next().await.is_some() {}
    })
    .await;
    let world = before(&upstream).await;
    let mut conn = world.http1().await;
    let slow = conn.open(get(HOST, "/slow")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.send(get(HOST, "/next")).await.text(), "served");
    }
    let whole = within("the end of what was under way", slow.into_body().collect()).await.unwrap();
    assert_eq!(whole.to_bytes(), "to its end");
    assert_eq!(upstream.connections(), 2);
}

/// Calls of gRPC have a body, all of which is on its way when the server goes away.
#[tokio::test]
async fn a_body_that_nobody_has_processed_is_sent_again() {
    for (says_refused, version) in [
        (true, Version::HTTP_11),
        (false, Version::HTTP_11),
        (true, Version::HTTP_2),
        (false, Version::HTTP_2),
    ] {
        let upstream = RawUpstream::http2(&[], move |mut frames, index| async move {
            let first = asked(&mut frames).await.unwrap();
            if index > 1 {
                let body = frames.next_of(Frame::DATA).await.unwrap();
                frames.answer(first, &String::from_utf8(body.payload).unwrap()).await;
                return serve(frames).await;
            }
            frames.answer(first, "first").await;
            let second = asked(&mut frames).await.unwrap();
            assert_eq!(frames.next_of(Frame::DATA).await.unwrap().payload, b"four");
            if says_refused {
                frames.reset(second, REFUSED).await;
            } else {
                frames.go_away(first).await;
            }
            while frames.next().await.is_some() {}
        })
        .await;
        let world = before(&upstream).await;
        let mut conn = if version == Version::HTTP_2 { world.http2().await } else { world.http1().await };
        assert_eq!(conn.send(get(HOST, "/")).await.text(), "first");
        assert_eq!(conn.send(post(HOST, "/", "four")).await.text(), "four");
        assert_eq!(upstream.connections(), 2, "{says_refused} {version:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            frames.reset(stream, CANCEL).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    for _ in 0..2 {
        assert_eq!(world.send(post(HOST, "/", "four")).await.status, 502);
    }
    assert_eq!(upstream.connections(), 1, "and the connection serves on");
}

#[tokio::test]
async fn one_stream_ends_alone() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let upstream = RawUpstream::http2(&[], move |mut frames, _| {
        let said = said.clone();
        async move {
            let gone = asked(&mut frames).await.unwrap();
            said.send((gone, 0)).unwrap();
            let stays = asked(&mut frames).await.unwrap();
            said.send((stays, 0)).unwrap();
            let reset = frames.next_of(Frame::RESET).await.unwrap();
            said.send((reset.stream, reset.reason())).unwrap();
            frames.answer(stays, "stays").await;
            serve(frames).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    let (mut leaves, mut stays) = (world.http2().await, world.http1().await);
    let leaving = tokio::spawn(async move { leaves.try_send(get(HOST, "/gone")).await.is_ok() });
    let gone = within("a stream", heard.recv()).await.unwrap().0;
    let staying = tokio::spawn(async move { stays.send(get(HOST, "/stays")).await.text().to_owned() });
    within("another stream", heard.recv()).await.unwrap();
    leaving.abort();
    assert_eq!(within("a reset", heard.recv()).await, Some((gone, CANCEL)));
    assert_eq!(within("an answer", staying).await.unwrap(), "stays");
    assert_eq!(world.send(get(HOST, "/")).await.text(), "served");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_stream_is_whole_when_it_says_so() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            // The first answer is whole, and its upload is not wanted; the second breaks off.
            frames.head(stream, &[(":status", "200")], false).await;
            let end = if stream == 1 { Frame::END } else { 0 };
            frames.send(Frame::DATA, end, stream, b"all").await;
            frames.reset(stream, NO_ERROR).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    let mut conn = world.http2().await;
    let (pen, body) = feed();
    let opened = conn.open(request("POST", HOST, "/").body(body)).await.unwrap();
    let whole = within("the end of the answer", opened.into_body().collect()).await.unwrap();
    assert_eq!(whole.to_bytes(), "all", "RFC 9113 section 8.1: no error");
    drop(pen);
    assert!(conn.try_send(get(HOST, "/")).await.is_err(), "what breaks off must not look whole");
}

/// Each of the first requests opened a connection of its own.
#[tokio::test]
async fn a_burst_shares_one_connection() {
    // Those that the first has no room for opened one each, where they did not wait for the next one together.
    for (count, most) in [(50, 1), (250, 3)] {
        let upstream = RawUpstream::http2(&[], async |frames, _| serve(frames).await).await;
        let world = before(&upstream).await;
        let mut asking = Vec::new();
        for _ in 0..count {
            let mut conn = world.http1().await;
            asking.push(tokio::spawn(async move { conn.send(get(HOST, "/")).await.text().to_owned() }));
        }
        for each in asking {
            assert_eq!(within("an answer", each).await.unwrap(), "served");
        }
        assert!(upstream.connections() <= most, "{} for {count}", upstream.connections());
    }
}

#[tokio::test]
async fn more_at_once_than_a_server_takes() {
    let gate = Arc::new(Semaphore::new(0));
    let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (shared, high) = ((gate.clone(), waiting.clone()), most.clone());
    let upstream = RawUpstream::http2(&[(MAX_CONCURRENT_STREAMS, 2)], move |mut frames, _| {
        let ((gate, waiting), most) = (shared.clone(), high.clone());
        async move {
            // The settings are known once the first is answered.
            let first = asked(&mut frames).await.unwrap();
            frames.answer(first, "first").await;
            let mut held = Vec::new();
            while let Some(stream) = asked(&mut frames).await {
                held.push(stream);
                waiting.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(held.len(), Ordering::SeqCst);
                if held.len() == 2 {
                    gate.acquire().await.unwrap().forget();
                    for stream in held.drain(..) {
                        frames.answer(stream, "held").await;
                    }
                }
            }
        }
    })
    .await;
    let world = before(&upstream).await;
    world.send(get(HOST, "/")).await;
    let ask = || {
        let address = world.address();
        tokio::spawn(async move {
            let mut conn = Conn::http1(address).await.unwrap();
            conn.send(get(HOST, "/")).await.text().to_owned()
        })
    };
    let pair = [ask(), ask()];
    eventually("two are held", async || waiting.load(Ordering::SeqCst) == 2).await;
    assert_eq!(ask().await.unwrap(), "first", "a third has a connection of its own");
    gate.add_permits(1);
    for one in pair {
        assert_eq!(one.await.unwrap(), "held");
    }
    assert_eq!((upstream.connections(), most.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test]
async fn a_body_waits_for_the_windows_of_the_upstream() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let upstream = RawUpstream::http2(&[(INITIAL_WINDOW_SIZE, 10)], move |mut frames, _| {
        let said = said.clone();
        async move {
            let first = asked(&mut frames).await.unwrap();
            frames.answer(first, "first").await;
            let stream = asked(&mut frames).await.unwrap();
            let mut count = 0;
            while count < 10 {
                count += frames.next_of(Frame::DATA).await.unwrap().payload.len();
            }
            assert!(frames.said().await.iter().all(|frame| frame.kind != Frame::DATA), "and no more");
            said.send(count).unwrap();
            frames.window(stream, 1 << 20).await;
            loop {
                let data = frames.next_of(Frame::DATA).await.unwrap();
                count += data.payload.len();
                frames.window(0, 1 << 14).await;
                if data.ends() {
                    break;
                }
            }
            said.send(count).unwrap();
            frames.answer(stream, "whole").await;
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let world = before(&upstream).await;
    world.send(get(HOST, "/")).await;
    let mut conn = world.http2().await;
    let reply = conn.send(post(HOST, "/", vec![b'x'; 100_000])).await;
    assert_eq!(reply.text(), "whole");
    assert_eq!((heard.recv().await, heard.recv().await), (Some(10), Some(100_000)));
}

#[tokio::test]
async fn an_answer_waits_for_who_reads_it() {
    const WINDOW: usize = 64 << 10;
    let (said, mut heard) = mpsc::unbounded_channel();
    let upstream = RawUpstream::http2(&[], move |mut frames, _| {
        let said = said.clone();
        async move {
            let stream = asked(&mut frames).await.unwrap();
            frames.head(stream, &[(":status", "200")], false).await;
            for _ in 0..WINDOW >> 14 {
                frames.send(Frame::DATA, 0, stream, &[b'x'; 1 << 14]).await;
            }
            let opened = |frame: &Frame| frame.kind == Frame::WINDOW && frame.stream == stream;
            let all_said = frames.said().await;
            said.send(all_said.iter().any(opened)).unwrap();
            while !opened(&frames.next().await.unwrap()) {}
            frames.send(Frame::DATA, Frame::END, stream, b"the rest").await;
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let world = before(&upstream).await;
    // A client with a small window, which reads nothing yet.
    let stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let mut client = h2::client::Builder::new();
    let shaking = client.initial_window_size(16 << 10).handshake::<_, Bytes>(stream);
    let (mut sender, connection) = within("a handshake", shaking).await.unwrap();
    let driver = tokio::spawn(connection);
    let ask = Request::get(format!("http://{HOST}/")).body(()).unwrap();
    let (answer, _) = sender.send_request(ask, true).unwrap();
    let mut body = within("a head", answer).await.unwrap().into_body();
    assert!(!within("a full window", heard.recv()).await.unwrap(), "nobody has read what was sent");
    let mut count = 0;
    while let Some(data) = within("data", body.data()).await {
        let data: Bytes = data.unwrap();
        count += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(count, WINDOW + 8);
    driver.abort();
}

#[tokio::test]
async fn early_answers_of_an_upstream() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            frames.head(stream, &[(":status", "103"), ("link", "</a.css>; rel=preload")], false).await;
            frames.answer(stream, "ok").await;
        }
    })
    .await;
    let world = before(&upstream).await;
    let (over_http1, reply) = world.http1().await.send_noting(get(HOST, "/")).await;
    let (over_http2, status) = early_answers(world.address(), HOST, "/").await;
    assert_eq!((reply.text(), status), ("ok", 200));
    for notes in [over_http1, over_http2] {
        let [(status, fields)] = notes.as_slice() else { panic!("not one early answer but {notes:?}") };
        assert_eq!((*status, fields["link"].to_str().unwrap()), (103, "</a.css>; rel=preload"));
    }
}

#[tokio::test]
async fn an_upgrade_that_http2_does_not_know() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            frames.head(stream, &[(":status", "101")], false).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    for mut conn in [world.http1().await, world.http2().await] {
        let reply = conn.send(get(HOST, "/")).await;
        assert_eq!(reply.status, 502, "and no 101 to a client that would stop speaking HTTP");
        assert!(reply.text().contains("upstream_protocol"), "{}", reply.text());
    }
}

#[tokio::test]
async fn hundred_continue_of_an_upstream() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            frames.head(stream, &[(":status", "100")], false).await;
            while !frames.next_of(Frame::DATA).await.unwrap().ends() {}
            frames.answer(stream, "taken").await;
        }
    })
    .await;
    let world = before(&upstream).await;
    let mut raw = world.raw().await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    raw.write(head).await;
    assert!(raw.head().await.unwrap().starts_with("HTTP/1.1 100 "));
    raw.write("four").await;
    let head = raw.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_refusal_of_an_upstream_instead_of_hundred_continue() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let upstream = RawUpstream::http2(&[], move |mut frames, _| {
        let said = said.clone();
        async move {
            let stream = asked(&mut frames).await.unwrap();
            frames.head(stream, &[(":status", "417"), ("content-length", "0")], true).await;
            while let Some(frame) = frames.next().await {
                said.send(frame.kind).unwrap();
            }
        }
    })
    .await;
    let world = before(&upstream).await;
    let mut raw = world.raw().await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    raw.write(head).await;
    assert_eq!(raw.answer().await.0, 417, "no go-ahead of the proxy's own");
    loop {
        match within("the end of the stream", heard.recv()).await.unwrap() {
            Frame::RESET => break,
            kind => assert_ne!(kind, Frame::DATA, "a body that nobody asked for"),
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_while_its_answer_streams() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        let stream = asked(&mut frames).await.unwrap();
        frames.head(stream, &[(":status", "200")], false).await;
        frames.send(Frame::DATA, 0, stream, b"early ").await;
        loop {
            let data = frames.next_of(Frame::DATA).await.unwrap();
            if data.ends() {
                break;
            }
            if !data.payload.is_empty() {
                frames.window(0, u32::try_from(data.payload.len()).unwrap()).await;
                frames.window(stream, u32::try_from(data.payload.len()).unwrap()).await;
            }
        }
        frames.head(stream, &[("x-checksum", "42")], true).await;
        while frames.next().await.is_some() {}
    })
    .await;
    let world = before(&upstream).await;
    let mut conn = world.http2().await;
    let (pen, body) = feed();
    let mut opened = conn.open(request("POST", HOST, "/").body(body)).await.unwrap();
    let first = within("an early word", opened.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "early ");
    // More than the windows of the upstream, which it opens only as this comes.
    for _ in 0..20 {
        assert!(within("room", pen.data(vec![b'x'; 10_000])).await);
    }
    drop(pen);
    let rest = within("the end", opened.into_body().collect()).await.unwrap();
    assert_eq!(rest.trailers().unwrap()["x-checksum"], "42");
}

#[tokio::test]
async fn a_connection_that_ended_is_none() {
    let upstream = RawUpstream::http2(&[], async |mut frames, index| {
        let stream = asked(&mut frames).await.unwrap();
        frames.answer(stream, if index == 1 { "first" } else { "second" }).await;
    })
    .await;
    let world = before(&upstream).await;
    assert_eq!(world.send(get(HOST, "/")).await.text(), "first");
    eventually("no connection is open", async || {
        world.metrics().await.sum("sidetrack_upstream_connections", &[]) == 0.0
    })
    .await;
    assert_eq!(world.send(post(HOST, "/", "four")).await.text(), "second");
}

/// Each of them opened a connection of its own, which nobody else used.
#[tokio::test]
async fn who_finds_a_connection_at_its_end_shares_the_next_one() {
    const STREAMS: usize = 20;
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        for served in 1..=STREAMS {
            let Some(stream) = asked(&mut frames).await else { return };
            if served == STREAMS {
                frames.go_away(stream).await;
            }
            frames.answer(stream, "served").await;
        }
        // What came behind is not processed, and the connection stays open for a while.
        while frames.next().await.is_some() {}
    })
    .await;
    let world = before(&upstream).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut conn = world.http1().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..10 {
                assert_eq!(conn.send(get(HOST, "/")).await.text(), "served");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let least = 40 * 10 / STREAMS;
    assert!((least..=2 * least).contains(&upstream.connections()), "{}", upstream.connections());
}

/// Two of them sent each request back and forth until it failed.
#[tokio::test]
async fn however_many_connections_take_nothing_more_another_one_is_opened() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        let first = asked(&mut frames).await.unwrap();
        frames.answer(first, "served").await;
        while let Some(stream) = asked(&mut frames).await {
            frames.reset(stream, REFUSED).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    for _ in 0..8 {
        assert_eq!(world.send(get(HOST, "/")).await.text(), "served");
    }
    assert_eq!(upstream.connections(), 8);
}

/// One more of them was left behind by every request.
#[tokio::test]
async fn a_service_that_refuses_all_streams_has_few_connections() {
    let upstream = RawUpstream::http2(&[], async |mut frames, _| {
        while let Some(stream) = asked(&mut frames).await {
            frames.reset(stream, REFUSED).await;
        }
    })
    .await;
    let world = before(&upstream).await;
    for _ in 0..30 {
        world.send(get(HOST, "/")).await.failed(503, "upstream_unavailable");
    }
    assert!(upstream.connections() <= 3, "{}", upstream.connections());
}

/// Requests that came one by one all went into the silence of the first connection.
#[tokio::test]
async fn a_connection_that_falls_silent_is_left() {
    let upstream = RawUpstream::http2(&[], async |mut frames, index| {
        if index > 1 {
            return serve(frames).await;
        }
        let first = asked(&mut frames).await.unwrap();
        frames.answer(first, "served").await;
        while frames.next().await.is_some() {}
    })
    .await;
    let mut estate = Estate::standard().await;
    let timeouts = json!({"response": "2500ms"});
    estate.service(
        "framed",
        json!({"baseline": [upstream.endpoint()], "protocol": "h2c", "timeouts": timeouts}),
    );
    estate.route(HOST, "/", "framed");
    estate.config["workers"] = json!(1);
    let world = estate.start().await;
    assert_eq!(world.send(get(HOST, "/")).await.text(), "served");
    world.send(get(HOST, "/")).await.failed(504, "upstream_timeout");
    for _ in 0..3 {
        assert_eq!(world.send(get(HOST, "/")).await.text(), "served");
    }
    assert_eq!(upstream.connections(), 2);
}

/// It kept the turn that it had been given, and all others who sent had to wait for it.
#[tokio::test]
async fn what_a_client_sends_goes_on_while_it_takes_nothing() {
    const BODY: usize = 60_000;
    const WINDOW: usize = 65_536;
    let (said, mut heard) = mpsc::unbounded_channel();
    let upstream = RawUpstream::http2(&[(INITIAL_WINDOW_SIZE, 1_000)], move |mut frames, _| {
        let said = said.clone();
        async move {
            // Its settings are heard by the time that this is answered.
            let first = asked(&mut frames).await.unwrap();
            frames.said().await;
            frames.answer(first, "served").await;
            let (large, sends) = (asked(&mut frames).await.unwrap(), asked(&mut frames).await.unwrap());
            for stream in [large, sends] {
                frames.head(stream, &[(":status", "200")], false).await;
            }
            // As much of an answer as there is room for, until the client has no room for more.
            let (mut came, mut room, mut quiet) = (0, WINDOW, 0);
            while quiet < 50 {
                while room >= 16_384 {
                    frames.send(Frame::DATA, 0, large, &[b'x'; 16_384]).await;
                    room -= 16_384;
                }
                quiet += 1;
                for frame in frames.said().await {
                    match frame.kind {
                        Frame::DATA => came += frame.payload.len(),
                        Frame::WINDOW if frame.stream == large => {
                            room += usize::try_from(frame.reason()).unwrap();
                            quiet = 0;
                        }
                        _ => {}
                    }
                }
            }
            assert_eq!(came, 1_000, "all that the window takes");
            said.send(()).unwrap();
            frames.window(sends, 100_000).await;
            while came < BODY {
                came += frames.next_of(Frame::DATA).await.unwrap().payload.len();
            }
            said.send(()).unwrap();
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let world = before(&upstream).await;
    assert_eq!(world.send(get(HOST, "/")).await.text(), "served");
    let mut client =
        Frames::open(world.raw().await, &[(INITIAL_WINDOW_SIZE, 1 << 30), (MAX_CONCURRENT_STREAMS, 9)]).await;
    client.window(0, 1 << 30).await;
    client.get(1, HOST, "/large", &[]).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", HOST), (":path", "/")];
    client.head(3, &head, false).await;
    for piece in vec![b'y'; BODY].chunks(10_000) {
        client.send(Frame::DATA, 0, 3, piece).await;
    }
    within("the client to take no more", heard.recv()).await.unwrap();
    // Before the connection would be asked for a sign of life, which moves everything.
    let all = tokio::time::timeout(std::time::Duration::from_secs(15), heard.recv()).await;
    assert_eq!(all, Ok(Some(())), "all of the body");
}
