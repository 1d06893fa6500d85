//! What the gateway itself answers: every code it can produce, in three dresses, against golden files.
//!
//! `UPDATE_GOLDEN=1` writes the files anew. What the contract fixes is asserted beside them.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sidetrack_tests::{
    Call, Conn, Estate, RawUpstream, Refused, Reply, World, eventually, free_port, get, request,
};

use crate::D;

/// One golden file holds one answer: status, header fields in the order of their names, body, trailers.
fn golden(name: &str, reply: &Reply) {
    let mut lines = vec![format!("{}", reply.status)];
    let mut fields: Vec<String> = reply
        .headers
        .iter()
        .filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    lines.extend(fields);
    lines.push(String::new());
    let body = match serde_json::from_slice::<serde_json::Value>(&reply.body) {
        Ok(body) => serde_json::to_string_pretty(&body).unwrap(),
        Err(_) => reply.text().to_owned(),
    };
    lines.push(body);
    let text = masked(&(lines.join("\n").trim_end().to_owned() + "\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("suite/golden/errors").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let Ok(expected) = fs::read_to_string(&path) else {
        panic!("{} is missing; UPDATE_GOLDEN=1 writes it:\n{text}", path.display());
    };
    assert_eq!(text, expected, "{name} differs; if that is meant, UPDATE_GOLDEN=1");
}

/// Takes out what differs from run to run: ports, generations, durations, ids that the gateway made.
fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for (before, mask) in [
        ("127.0.0.1:", "PORT"),
        (";gen=", "N"),
        (";dur=", "MS"),
        ("\"requestId\": \"", "ID"),
        ("x-request-id: ", "ID"),
    ] {
        let mut pieces = text.split(before);
        let mut out = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let is_fraction = |c: char| mask == "MS" && c == '.';
            let rest =
                piece.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || is_fraction(c));
            out = out + before + mask + rest;
        }
        text = out;
    }
    text
}

/// The standard estate that believes our request id, so that the answers are the same each time.
async fn estate() -> Estate {
    let mut estate = Estate::standard().await;
    estate.config["listeners"][0]["trustedProxies"] = json!(["127.0.0.0/8"]);
    estate
}

fn named(call: Call) -> Call {
    call.header("x-request-id", "the-request-id")
}

/// Asks for one error in each dress.
async fn dressed(world: &World, code: &str, status: u16, call: impl Fn() -> Call) {
    for mut conn in [world.http1().await, world.http2().await] {
        let reply = conn.send(named(call())).await;
        problem(&reply, code, status);
        golden(&format!("{code}.{status}.problem"), &without_connection(reply));
    }
    let accept = "text/html,application/xhtml+xml,*/*;q=0.8";
    let page = world.send(named(call()).header("accept", accept)).await;
    html(&page, code, status);
    golden(&format!("{code}.{status}.html"), &without_connection(page));
    let mut conn = world.http2().await;
    let reply = conn.send(named(call()).grpc()).await;
    trailers_only(&reply);
    golden(&format!("{code}.{status}.grpc"), &reply);
}

/// HTTP/1.1 may have to close after an error; that is asserted where it matters.
fn without_connection(mut reply: Reply) -> Reply {
    reply.headers.remove("connection");
    reply
}

#[track_caller]
fn problem(reply: &Reply, code: &str, status: u16) {
    reply.failed(status, code);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let body = reply.json();
    assert_eq!(body["status"], status);
    for field in ["type", "title", "detail", "requestId"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {body}");
    }
    for field in ["preview", "service"] {
        assert!(body[field].is_null() || body[field].is_string(), "{field} in {body}");
    }
}

#[track_caller]
fn html(reply: &Reply, code: &str, status: u16) {
    assert_eq!(reply.status, status);
    assert!(reply.header("content-type").unwrap().starts_with("text/html"), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let page = reply.text();
    assert!(page.contains(code) && page.contains("the-request-id"), "{page}");
    for outside in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(outside), "self-contained, without {outside}: {page}");
    }
}

#[track_caller]
fn trailers_only(reply: &Reply) {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/grpc")), "{reply:?}");
    let status: u8 = reply.header("grpc-status").unwrap().parse().unwrap();
    assert!((1..=16).contains(&status), "{status}");
    assert!(!reply.header("grpc-message").unwrap().is_empty());
    assert!(reply.body.is_empty() && reply.trailers.is_empty(), "one block of headers is all: {reply:?}");
}

#[tokio::test]
async fn what_a_request_can_get_wrong() {
    let world = estate().await.start().await;
    dressed(&world, "malformed_request", 400, || get(D, "/x/%2e%2e/api/checkout")).await;
    dressed(&world, "malformed_key", 400, || get(D, "/").key("4_2")).await;
    dressed(&world, "conflicting_keys", 400, || get(D, "/?pr-id=57").key("42")).await;
    dressed(&world, "no_route", 404, || get("nowhere.example.com", "/")).await;
    dressed(&world, "unknown_preview", 404, || get(D, "/api/checkout").key("99")).await;
    dressed(&world, "method_not_allowed", 405, || request("TRACE", D, "/")).await;
    let long = format!("/{}", "x".repeat(20_000));
    dressed(&world, "request_too_large", 414, || get(D, &long)).await;
}

#[tokio::test]
async fn too_many_headers() {
    let world = estate().await.start().await;
    let many: String = (0..150).map(|field| format!("x-{field}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(70_000));
    for fields in [many, large] {
        let mut raw = world.raw().await;
        raw.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\n{fields}\r\n")).await;
        let rest = raw.rest().await;
        assert!(rest.starts_with("HTTP/1.1 431 "), "{rest:?}");
    }
    // The default of HTTP/2 libraries is 16 KiB: big cookies and tokens must fit in both versions.
    for mut conn in [world.http1().await, world.http2().await] {
        conn.send(get(D, "/").header("x-large", &"x".repeat(50_000))).await.came_from("shop");
    }
}

#[tokio::test]
async fn an_expired_preview() {
    let mut estate = estate().await;
    estate.preview("42")["ttl"] = "1s".into();
    let world = estate.start().await;
    let call = || get(D, "/api/checkout").key("42");
    eventually("the preview has expired", async || world.send(call()).await.status == 410).await;
    dressed(&world, "preview_expired", 410, call).await;
}

#[tokio::test]
async fn access() {
    let mut estate = estate().await;
    estate.write("token", "sesame");
    estate.preview("42")["access"] = json!({"allow": ["192.0.2.0/24"]});
    estate.preview("57")["access"] = json!({"header": {"name": "x-preview-token", "secretFile": "token"}});
    let world = estate.start().await;
    dressed(&world, "access_denied", 403, || get(D, "/api/checkout").key("42")).await;
    dressed(&world, "access_denied", 401, || get(D, "/api/checkout").key("57")).await;
}

#[tokio::test]
async fn what_an_upstream_can_get_wrong() {
    let refused = Refused::new();
    let (nonsense, _heads) = RawUpstream::answering("SPAM SPAM SPAM\r\n\r\n").await;
    let mut estate = estate().await;
    estate.preview("42")["forks"]["checkout"] = json!([refused.address.to_string()]);
    for (service, endpoint) in [("down", refused.address.to_string()), ("nonsense", nonsense.endpoint())] {
        estate.service(service, json!({"baseline": [endpoint]}));
        estate.route(&format!("{service}.preview.localhost"), "/", service);
    }
    estate.config["services"]["shop"]["timeouts"] = json!({"response": "200ms"});
    let world = estate.start().await;
    dressed(&world, "fork_unavailable", 503, || get(D, "/api/checkout").key("42")).await;
    dressed(&world, "upstream_unavailable", 503, || get("down.preview.localhost", "/").key("57")).await;
    dressed(&world, "upstream_protocol", 502, || get("nonsense.preview.localhost", "/").key("57")).await;
    dressed(&world, "upstream_timeout", 504, || get(D, "/").act("hold").key("42")).await;
}

#[tokio::test]
async fn a_gateway_that_calls_itself() {
    let mut estate = estate().await;
    let address = format!("127.0.0.1:{}", free_port());
    estate.config["listeners"][0]["address"] = address.clone().into();
    estate.service("loop", json!({"baseline": [address]}));
    estate.route("loop.preview.localhost", "/", "loop");
    let world = estate.start().await;
    let reply = world.send(named(get("loop.preview.localhost", "/").key("57"))).await;
    assert_eq!((reply.status, reply.code().as_str()), (508, "loop_detected"), "{reply:?}");
}

#[tokio::test]
async fn overload() {
    let mut estate = estate().await;
    // The limit is shared out among the workers.
    estate.config["workers"] = 1.into();
    estate.config["limits"] = json!({"maxInFlight": 1});
    let world = estate.start().await;
    let mut busy = world.http1().await;
    let held = tokio::spawn(async move { busy.send(get(D, "/").act("hold")).await });
    world.of("shop").holding(1).await;
    dressed(&world, "overloaded", 503, || get(D, "/").key("42")).await;
    world.of("shop").release();
    held.await.unwrap().came_from("shop");
    eventually("there is room again", async || world.send(get(D, "/")).await.status == 200).await;
}

#[tokio::test]
async fn a_head_that_never_ends() {
    let mut estate = estate().await;
    estate.config["limits"] = json!({"headerTimeout": "300ms", "handshakeTimeout": "300ms"});
    let world = estate.start().await;
    let mut raw = world.raw().await;
    raw.write(format!("GET / HTTP/1.1\r\nHost: {D}\r\nX-Slow")).await;
    let rest = raw.rest().await;
    assert!(rest.starts_with("HTTP/1.1 408 ") && rest.contains("\"request_timeout\""), "{rest}");
    // Nor may a client that says nothing at all stay for ever.
    assert_eq!(world.raw().await.rest().await, "");
}

#[tokio::test]
async fn heads_that_two_readers_would_read_differently() {
    let world = estate().await.start().await;
    for (what, start, fields) in [
        ("two lengths", "POST / HTTP/1.1", "Content-Length: 4\r\nContent-Length: 5"),
        ("a signed length", "POST / HTTP/1.1", "Content-Length: +4"),
        ("two equal lengths", "POST / HTTP/1.1", "Content-Length: 4\r\nContent-Length: 4"),
        ("a list of lengths", "POST / HTTP/1.1", "Content-Length: 4, 4"),
        ("a length and chunks", "POST / HTTP/1.1", "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        ("chunks and a length", "POST / HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        ("chunked twice", "POST / HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked before the last", "POST / HTTP/1.1", "Transfer-Encoding: chunked, identity"),
        ("a coding below chunked", "POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
        ("a line that ends in LF", "GET / HTTP/1.1", "X-A: 1\nX-B: 2"),
        ("a fragment", "GET /#a HTTP/1.1", "X-A: 1"),
        ("a target that is not ASCII", "GET /\u{e4} HTTP/1.1", "X-A: 1"),
        ("an unknown coding", "POST / HTTP/1.1", "Transfer-Encoding: xchunked"),
        ("chunked in HTTP/1.0", "POST / HTTP/1.0", "Transfer-Encoding: chunked"),
        ("two hosts", "GET / HTTP/1.1", "Host: preview.localhost"),
        ("blank before colon", "GET / HTTP/1.1", "X-A : 1"),
        ("a folded line", "GET / HTTP/1.1", "X-A: 1\r\n 2"),
        ("a NUL", "GET / HTTP/1.1", "X-A: \0"),
        ("a bare CR", "GET / HTTP/1.1", "X-A: 1\r2"),
        ("no path", "GET ! HTTP/1.1", "X-A: 1"),
    ] {
        let head = format!("{start}\r\nHost: {D}\r\n{fields}\r\n\r\n");
        refuses(&world, what, &head).await;
    }
    for host in ["", "Host: me@preview.localhost\r\n"] {
        refuses(&world, host, &format!("GET / HTTP/1.1\r\n{host}\r\n")).await;
    }
    assert_eq!(world.of("shop").count(), 0, "{:?}", world.of("shop").seen());
}

/// What is no chunk never ends a body, and what stands behind it is never a request.
#[tokio::test]
async fn chunks_that_two_readers_would_read_differently() {
    let world = estate().await.start().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {D}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (what, body) in [
        ("a signed size", "+4\r\nhalf\r\n"),
        ("a size with a prefix", "0x4\r\nhalf\r\n"),
        ("a blank behind the size", "4 \r\nhalf\r\n"),
        ("a size that wraps around", "10000000000000004\r\nhalf\r\n"),
        ("a line that ends in LF", "4\nhalf\r\n"),
        ("a CR in an extension", "4;a\rb\r\nhalf\r\n"),
        ("a chunk that is longer than its size", "4\r\nhalf and more\r\n"),
        ("a folded trailer", "0\r\na: b\r\n c\r\n\r\n"),
    ] {
        let mut raw = world.raw().await;
        raw.write(format!("{head}{body}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
        let rest = raw.rest().await;
        assert!(
            rest.starts_with("HTTP/1.1 400 ") && rest.contains("\"malformed_request\""),
            "{what}: {rest:?}"
        );
        assert_eq!(rest.matches("HTTP/1.").count(), 1, "{what}: one answer, then it closes: {rest}");
    }
    let seen = world.of("shop").seen();
    assert!(!format!("{seen:?}").contains("smuggled"), "{seen:?}");
    world.send(get(D, "/")).await.came_from("shop");
}

/// Asserts that a head is answered with 400, and that what follows it on the connection is not read as a request.
async fn refuses(world: &World, what: &str, head: &str) {
    let mut raw = world.raw().await;
    raw.write(head).await;
    let rest = raw.rest().await;
    assert!(rest.starts_with("HTTP/1.1 400 ") || rest.starts_with("HTTP/1.0 400 "), "{what}: {rest:?}");
    let mut raw = world.raw().await;
    raw.write(format!("{head}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
    let rest = raw.rest().await;
    assert!(rest.matches("HTTP/1.").count() <= 1, "{what}: one answer at most, then it closes: {rest}");
}

#[tokio::test]
async fn errors_keep_the_connection_where_they_can() {
    let world = estate().await.start().await;
    let mut conn: Conn = world.http1().await;
    for _ in 0..3 {
        conn.send(get(D, "/").key("99")).await.failed(404, "unknown_preview");
        conn.send(get(D, "/").key("4_2")).await.failed(400, "malformed_key");
        conn.send(get(D, "/")).await.came_from("shop");
    }
}
