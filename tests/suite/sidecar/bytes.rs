//! What is no HTTP: passed as it is, whoever speaks first.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sidetrack_tests::{
    Conn, Estate, Gateway, PATIENCE, Raw, RawUpstream, Upstream, Wire, eventually, free_port, get, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lines;

/// A sidecar with one outbound listener for the service `db`, whose baseline is at these addresses.
async fn before(db: &[String], protocol: &str, timeouts: Value) -> (Estate, Gateway) {
    limited(db, protocol, timeouts, json!({})).await
}

/// The same with limits.
async fn limited(db: &[String], protocol: &str, timeouts: Value, limits: Value) -> (Estate, Gateway) {
    let mut estate = Estate::new();
    estate.service("db", json!({"baseline": db, "timeouts": timeouts}));
    estate.service("checkout", json!({"baseline": ["127.0.0.1:1"]}));
    let fork = estate.upstream("db-42").await;
    *estate.preview("42") = json!({"forks": {"db": [fork]}});
    let log = estate.folder().join("bytes.log");
    estate.config["accessLog"] = json!({"format": "json", "path": log});
    estate.config["role"] = json!("sidecar");
    estate.config["limits"] = limits;
    // Each would have a pool of its own.
    estate.config["workers"] = json!(1);
    estate.config["sidecar"] = json!({"service": "checkout"});
    estate.config["listeners"] =
        json!([{"address": "127.0.0.1:0", "direction": "outbound", "service": "db", "protocol": protocol}]);
    estate.save();
    let sidecar = Gateway::sidecar(&estate.folder(), &["-c", estate.file().to_str().unwrap()], &[]).await;
    (estate, sidecar)
}

/// A server that greets, reads what is said until it ends, and answers with it.
async fn greeting() -> RawUpstream {
    RawUpstream::start(async |mut raw: Raw, _| {
        raw.write("220 who is there\r\n").await;
        let said = raw.rest().await;
        raw.write(format!("you said {said}")).await;
        raw.finish().await;
    })
    .await
}

/// How a connection ends that brings nothing. It may be over before it is known to stand.
async fn reset(address: SocketAddr) -> ErrorKind {
    let meeting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.read(&mut [0; 8]).await
    };
    within("the reset", meeting).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once_and_each_side_ends_for_itself() {
    for protocol in ["detect", "tcp"] {
        let server = greeting().await;
        let (estate, sidecar) = before(&[server.endpoint()], protocol, json!({})).await;
        let mut raw = Raw::connect(sidecar.address()).await;
        // Nothing was said by the client yet.
        assert_eq!(raw.exactly(18).await.unwrap(), b"220 who is there\r\n", "{protocol}");
        raw.write("nobody").await;
        raw.finish().await;
        assert_eq!(raw.rest().await, "you said nobody", "{protocol}");
        assert_eq!(server.connections(), 1);
        let log = lines(&estate, "bytes", 1).await;
        let line = &log[0];
        assert_eq!((&line["protocol"], &line["service"]), (&json!("TCP"), &json!("db")), "{line}");
        assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&json!(6), &json!(33)), "{line}");
        assert_eq!((&line["method"], &line["aborted"]), (&Value::Null, &Value::Null), "{line}");
        assert_eq!(sidecar.metrics().await.sum("sidetrack_opaque_connections_total", &[]), 1.0);
    }
}

#[tokio::test]
async fn what_is_no_http_passes_as_it_is() {
    let server = RawUpstream::start(async |mut raw: Raw, _| {
        let said = raw.rest().await;
        raw.write(said).await;
    })
    .await;
    let (_estate, sidecar) = before(&[server.endpoint()], "detect", json!({})).await;
    for said in [
        "*1\r\n$4\r\nPING\r\n",
        "GET key\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}hello",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nX-PR-ID: 42\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX-PR-ID: 42\r\n\r\n",
        "",
    ] {
        let mut raw = Raw::connect(sidecar.address()).await;
        for byte in said.as_bytes() {
            raw.write([*byte]).await;
        }
        raw.finish().await;
        assert_eq!(raw.rest().await, said);
    }
}

/// A connection that was opened because the client said nothing at first idles as others do.
#[tokio::test]
async fn no_more_connections_idle_than_may() {
    let upstream = Upstream::start_on("db", Wire::Http1).await;
    let limits = json!({"upstreamIdleConnections": 0});
    let (_estate, sidecar) = limited(&[upstream.endpoint()], "detect", json!({}), limits).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Raw::connect(sidecar.address()).await);
    }
    eventually("each has one", async || upstream.connections() == 4).await;
    for raw in &mut clients {
        raw.write("GET / HTTP/1.1\r\nHost: db\r\n\r\n").await;
        assert_eq!(raw.answer().await.0, 200);
    }
    eventually("none idles", async || upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn http_is_seen_however_its_bytes_come() {
    let upstream = Upstream::start_on("db", Wire::Http1).await;
    let (estate, sidecar) = before(&[upstream.endpoint()], "detect", json!({})).await;
    let mut conn = Conn::http1(sidecar.address()).await.unwrap();
    conn.send(get("db", "/").key("42")).await.came_from("db-42");
    conn.send(get("db", "/")).await.came_from("db");
    let mut raw = Raw::connect(sidecar.address()).await;
    // Late: the connection for it stands already, and serves.
    eventually("a connection is opened before anything is said", async || upstream.connections() == 2).await;
    for byte in "GET / HTTP/1.1\r\nHost: db\r\n\r\n".as_bytes() {
        raw.write([*byte]).await;
    }
    assert_eq!(raw.answer().await.0, 200);
    assert_eq!((upstream.count(), upstream.connections()), (2, 2), "it was lent to the request");
    let mut conn = Conn::http2(sidecar.address()).await.unwrap();
    conn.send(get("db", "/").key("42")).await.came_from("db-42");
    // In forms that are seldom, but that every server takes: what names another host is a proxy's.
    for line in
        ["GET http://db/ HTTP/1.1", "\r\nGET / HTTP/1.1", "\r\nGET HTTP://DB.svc.cluster.local?a HTTP/1.1"]
    {
        let mut raw = Raw::connect(sidecar.address()).await;
        let host = if line.contains("DB") { "DB.svc.cluster.local" } else { "db" };
        for byte in format!("{line}\r\nHost: {host}\r\nX-PR-ID: 42\r\n\r\n").as_bytes() {
            raw.write([*byte]).await;
        }
        let (status, head, body) = raw.answer().await;
        let body = String::from_utf8_lossy(&body);
        assert!(status == 200 && head.contains("x-upstream: db-42"), "{line}: {head} {body:?}");
    }
    assert_eq!(estate.of("db-42").count(), 5);
    assert_eq!(sidecar.metrics().await.sum("sidetrack_opaque_connections_total", &[]), 0.0);
}

#[tokio::test]
async fn where_nobody_listens_the_client_is_reset_but_a_fork_is_reached() {
    for protocol in ["detect", "tcp"] {
        let dead = SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
        let (estate, sidecar) = before(&[dead], protocol, json!({})).await;
        assert_eq!(reset(sidecar.address()).await, ErrorKind::ConnectionReset, "{protocol}");
        let log = lines(&estate, "bytes", 1).await;
        assert_eq!(log[0]["error"], "upstream_unavailable", "{}", log[0]);
        if protocol == "detect" {
            // Its connection was refused long before its first byte came.
            let mut conn = Conn::http1(sidecar.address()).await.unwrap();
            conn.send(get("db", "/").key("42")).await.came_from("db-42");
        }
    }
}

#[tokio::test]
async fn bytes_go_to_the_endpoints_that_take_them() {
    let (one, two) = (greeting().await, greeting().await);
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
    let (_estate, sidecar) = before(&[one.endpoint(), dead, two.endpoint()], "tcp", json!({})).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(sidecar.address()).await;
        assert!(raw.exactly(18).await.is_some());
        open.push(raw);
    }
    // Those that are open count: the one with fewer gets the next.
    assert!(one.connections() >= 5 && two.connections() >= 5, "{} {}", one.connections(), two.connections());
}

#[tokio::test]
async fn a_connection_on_which_nothing_goes_ends() {
    let server = RawUpstream::start(async |mut raw: Raw, _| drop(raw.rest().await)).await;
    for protocol in ["detect", "tcp"] {
        let (_estate, sidecar) = before(&[server.endpoint()], protocol, json!({"idle": "300ms"})).await;
        let began = std::time::Instant::now();
        let mut raw = Raw::connect(sidecar.address()).await;
        assert_eq!(raw.rest().await, "", "{protocol}");
        assert!((Duration::from_millis(250)..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_end_that_nobody_meant_is_a_reset() {
    // What is delimited by its end would look whole.
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server = RawUpstream::start(move |mut raw: Raw, _| {
        let said = said.clone();
        async move {
            raw.write("half of it").await;
            let end = within("the end", raw.into_stream().read(&mut [0; 8])).await;
            said.send(end.map_err(|error| error.kind())).unwrap();
        }
    })
    .await;
    for (idle, drains) in [("300ms", false), ("5m", true)] {
        let limits = json!({"drainTimeout": "300ms"});
        let (_estate, sidecar) = limited(&[server.endpoint()], "detect", json!({"idle": idle}), limits).await;
        let mut raw = Raw::connect(sidecar.address()).await;
        assert_eq!(raw.exactly(10).await.unwrap(), b"half of it");
        if drains {
            sidecar.terminate();
        }
        let mut stream = raw.into_stream();
        let end = within("the end", stream.read(&mut [0; 8])).await.map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "drains: {drains}");
        assert_eq!(heard.recv().await.unwrap(), Err(ErrorKind::ConnectionReset), "drains: {drains}");
    }
}

#[tokio::test]
async fn who_waits_for_the_other_side_may_do_so_for_as_long_as_its_service_says() {
    let (speak, may_speak) = tokio::sync::watch::channel(false);
    let server = RawUpstream::start(move |mut raw: Raw, _| {
        let mut may_speak = may_speak.clone();
        async move {
            may_speak.wait_for(|may| *may).await.unwrap();
            raw.write("at last").await;
        }
    })
    .await;
    let limits = json!({"clientIdleTimeout": "300ms"});
    let (_estate, sidecar) = limited(&[server.endpoint()], "detect", json!({"idle": "1m"}), limits).await;
    let mut raw = Raw::connect(sidecar.address()).await;
    // Connections are looked at once a second, and nothing is to be seen of it.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    speak.send(true).unwrap();
    assert_eq!(raw.rest().await, "at last");
}

#[tokio::test]
async fn connections_of_one_client_and_those_without_memory_are_bounded() {
    let server = greeting().await;
    for protocol in ["detect", "tcp"] {
        let limits = json!({"maxConnectionsPerClient": 2});
        let (_estate, sidecar) = limited(&[server.endpoint()], protocol, json!({}), limits).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::connect(sidecar.address()).await;
            assert!(raw.exactly(18).await.is_some());
            open.push(raw);
        }
        assert_eq!(reset(sidecar.address()).await, ErrorKind::ConnectionReset, "{protocol}");
        let reached = [("reason", "maxConnectionsPerClient")];
        assert_eq!(sidecar.metrics().await.sum("sidetrack_limits_reached_total", &reached), 1.0);
        if protocol == "detect" {
            // HTTP is told why, where it comes before the other side's words.
            let silent = RawUpstream::start(async |mut raw: Raw, _| drop(raw.rest().await)).await;
            let limits = json!({"maxConnectionsPerClient": 1});
            let (_estate, sidecar) = limited(&[silent.endpoint()], protocol, json!({}), limits).await;
            let _first = Raw::connect(sidecar.address()).await;
            eventually("the first one is in", async || silent.connections() == 1).await;
            let mut conn = Conn::http1(sidecar.address()).await.unwrap();
            conn.send(get("db", "/").key("42")).await.failed(429, "rate_limited");
        }
    }
    let (_estate, sidecar) =
        limited(&[server.endpoint()], "tcp", json!({}), json!({"maxMemory": "1MiB"})).await;
    eventually("the memory was looked at", async || {
        // A reset that comes at once is met by who connects.
        let Ok(mut stream) = TcpStream::connect(sidecar.address()).await else { return true };
        stream.read(&mut [0; 8]).await.is_err()
    })
    .await;
    let reached = [("reason", "maxMemory")];
    assert!(sidecar.metrics().await.sum("sidetrack_limits_reached_total", &reached) > 0.0);
}

#[tokio::test]
async fn no_more_connections_are_kept_for_requests_than_may_idle() {
    let upstream = Upstream::start_on("db", Wire::Http1).await;
    let limits = json!({"upstreamIdleConnections": 1, "upstreamIdleTimeout": "5m"});
    let (_estate, sidecar) = limited(&[upstream.endpoint()], "detect", json!({}), limits).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Raw::connect(sidecar.address()).await);
    }
    eventually("each has a connection", async || upstream.open_connections() == 3).await;
    for raw in &mut open {
        raw.write("GET / HTTP/1.1\r\nHost: db\r\nX-PR-ID: 42\r\n\r\n").await;
        assert_eq!(raw.answer().await.0, 200);
    }
    // None is where the words came before we had heard that it stands.
    eventually("one of them is left", async || upstream.open_connections() <= 1).await;
}

#[tokio::test]
async fn a_reset_is_passed_on_and_much_passes_in_little_memory() {
    const MUCH: usize = 64 << 20;
    let server = RawUpstream::start(async |raw: Raw, number| {
        let mut stream = raw.into_stream();
        if number == 1 {
            return Raw::reset(Raw::from(stream));
        }
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let (_estate, sidecar) = before(&[server.endpoint()], "tcp", json!({})).await;
    assert_eq!(reset(sidecar.address()).await, ErrorKind::ConnectionReset);
    let resident = sidecar.resident();
    let mut stream = TcpStream::connect(sidecar.address()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let sending = async {
        let piece = vec![7; 1 << 20];
        for _ in 0..MUCH / piece.len() {
            write.write_all(&piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let receiving = async {
        let (mut count, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match read.read(&mut buffer).await.unwrap() {
                0 => return count,
                more => count += more,
            }
        }
    };
    let ((), received) = within("all bytes", async { tokio::join!(sending, receiving) }).await;
    assert_eq!(received, MUCH);
    let more = sidecar.resident().saturating_sub(resident);
    assert!(more < 8 << 20, "{more} bytes of memory for {MUCH} that passed");
}
