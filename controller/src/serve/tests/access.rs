//! Who gets what, and what the API server is asked for it.

use http::Method;
use tokio::io::AsyncWriteExt;

use super::*;

const STREAM: &str = "/v1/stream?node=a";

#[tokio::test]
async fn everybody_gets_what_they_may_and_no_more() {
    let server = Running::start().await;
    server.publish([service("a", 1), preview("42", 1)]);
    let mut client = server.client().await;
    for (target, token, status) in [
        (STREAM, None, 401),
        (STREAM, Some("nobody"), 401),
        (STREAM, Some("n\u{f6}"), 401),
        (STREAM, Some("other"), 403),
        (STREAM, Some("reader"), 403),
        ("/v1/stream", Some("proxy"), 400),
        ("/v1/stream?node=a%20b", Some("proxy"), 400),
        ("/v1/stream?node=a&version=x", Some("proxy"), 400),
        ("/v1/previews", None, 401),
        ("/v1/previews", Some("other"), 403),
        ("/v1/previews", Some("reader"), 200),
        ("/v1/previews", Some("proxy"), 200),
        ("/v1/previews/42", Some("reader"), 200),
        ("/v1/previews/PR-42", Some("reader"), 200),
        ("/v1/previews/43", Some("reader"), 404),
        ("/v1/previews/4_3", Some("reader"), 400),
        ("/v1/previews/42", Some("other"), 403),
        ("/v1/proxies", Some("reader"), 200),
        ("/v1/proxies", None, 401),
        ("/v1/report", Some("proxy"), 405),
        ("/livez", None, 200),
        ("/", None, 404),
    ] {
        let reply = client.get(target, token).await;
        assert_eq!(reply.status.as_u16(), status, "{target} {token:?}: {:?}", reply.body);
        assert_eq!(reply.fields.contains_key("www-authenticate"), status == 401);
        assert_eq!(reply.fields["cache-control"], "no-store");
    }
    let body = || Bytes::from_static(b"{}");
    for (token, status) in [(None, 401), (Some("reader"), 403), (Some("proxy"), 400)] {
        let reply = client.ask(Method::POST, "/v1/report", token, body()).await;
        assert_eq!(reply.status.as_u16(), status, "{token:?}");
    }
    assert!((server.count("sidetrack_controller_refused_total") - 11.0).abs() < 0.5);
    let reply = client.ask(Method::POST, "/validate", None, body()).await;
    assert_eq!(&*reply.body, b"reviewed {}");
    let reply = client.ask(Method::POST, "/mutate", None, body()).await;
    assert_eq!(&*reply.body, b"changed {}");
    for (target, size, status) in [
        ("/mutate", 3 << 20, 200),
        ("/mutate", 4 << 20, 413),
        ("/validate", 6 << 20, 200),
        ("/validate", 7 << 20, 413),
    ] {
        let reply = client.ask(Method::POST, target, None, vec![b'x'; size].into()).await;
        assert_eq!(reply.status, status, "{target} {size}");
    }
}

#[tokio::test]
async fn answers_are_kept_good_and_bad() {
    let server = Running::start().await;
    server.publish([service("a", 1)]);
    let mut client = server.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("/v1/proxies", Some("proxy")).await.status, 200);
    }
    assert_eq!(server.script.asked.load(Ordering::SeqCst), 1);
    for _ in 0..5 {
        assert_eq!(client.get("/v1/proxies", Some("nobody")).await.status, 401);
    }
    assert_eq!(server.script.asked.load(Ordering::SeqCst), 2);
    for _ in 0..5 {
        assert_eq!(client.get("/v1/proxies", Some("reader")).await.status, 200);
        assert_eq!(client.get("/v1/proxies", Some("other")).await.status, 403);
    }
    assert_eq!(
        server.script.asked.load(Ordering::SeqCst),
        6,
        "one question for the token, one for the right, each"
    );
}

#[tokio::test]
async fn without_the_api_server_who_was_known_stays_known() {
    let server = Running::start().await;
    server.publish([service("a", 1)]);
    let mut client = server.client().await;
    assert_eq!(client.get("/v1/proxies", Some("proxy")).await.status, 200);
    server.script.silent.store(true, Ordering::SeqCst);
    assert_eq!(client.get("/v1/proxies", Some("proxy")).await.status, 200);
    let reply = client.get("/v1/proxies", Some("reader")).await;
    assert_eq!(reply.status, 503, "one that was never seen can't be checked");
    assert!(reply.json()["detail"].as_str().unwrap().contains("it is down"));
    server.script.silent.store(false, Ordering::SeqCst);
    assert_eq!(client.get("/v1/proxies", Some("reader")).await.status, 200);
}

#[tokio::test]
async fn bodies_of_strangers_fill_no_memory() {
    let server = Running::start().await;
    let mut held = Vec::new();
    // Each begins a review of six megabytes, and does not end it.
    for _ in 0..12 {
        let mut stream = Client::raw(server.address, server.files.path()).await;
        let head = "POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 6000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The last one is answered before all of it is sent.
        let _ = stream.write_all(&vec![b'x'; 5_900_000]).await;
        let _ = stream.flush().await;
        held.push(stream);
    }
    let refused = async {
        while server.count("sidetrack_controller_refused_total") == 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), refused).await.unwrap();
    drop(held);
    let review = async {
        let body = Bytes::from_static(b"one");
        while server.client().await.ask(Method::POST, "/validate", None, body.clone()).await.status != 200 {}
    };
    tokio::time::timeout(Duration::from_secs(8), review).await.unwrap();
}
