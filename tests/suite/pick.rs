//! Which endpoint takes the request: balance, the one retry, ejection and recovery, health checks, access.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;
use sidetrack_tests::{Estate, RawUpstream, Refused, World, eventually, get, post, put, request};

use crate::D;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A service `set` with these endpoints at `set.preview.localhost`.
async fn set_of(endpoints: &[String]) -> Estate {
    let mut estate = Estate::standard().await;
    estate.service("set", json!({"baseline": endpoints}));
    estate.route("set.preview.localhost", "/", "set");
    estate
}

const SET: &str = "set.preview.localhost";

#[tokio::test]
async fn endpoints_share_the_load() {
    let mut estate = Estate::standard().await;
    let mut endpoints = Vec::new();
    for name in ["a", "b", "c"] {
        endpoints.push(estate.upstream(name).await);
    }
    estate.service("set", json!({"baseline": endpoints}));
    estate.route(SET, "/", "set");
    let world = estate.start().await;
    let mut conn = world.http1().await;
    let mut shares = BTreeMap::new();
    for _ in 0..300 {
        *shares.entry(conn.send(get(SET, "/")).await.upstream().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|&share| share > 50), "{shares:?}");
}

#[tokio::test]
async fn the_busier_endpoint_gets_less() {
    let mut estate = Estate::standard().await;
    let endpoints = [estate.upstream("a").await, estate.upstream("b").await];
    estate.service("set", json!({"baseline": endpoints}));
    estate.route(SET, "/", "set");
    // Each worker knows its own requests only.
    estate.config["workers"] = 1.into();
    let world = estate.start().await;
    // Outstanding requests pile up on both; with two endpoints the choice is always the less busy one.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut conn = world.http1().await;
        waiting.push(tokio::spawn(async move { conn.send(get(SET, "/").act("hold")).await }));
        let held = waiting.len();
        eventually("the request is held", async || world.of("a").count() + world.of("b").count() == held)
            .await;
    }
    assert_eq!((world.of("a").count(), world.of("b").count()), (10, 10));
    for _ in 0..10 {
        world.of("a").release();
        world.of("b").release();
    }
    for each in waiting {
        assert_eq!(each.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn refused_with_nothing_written_goes_elsewhere() {
    let (refused, live) = (Refused::new(), RawUpstream::answering(OK).await.0);
    let world = set_of(&[refused.address.to_string(), live.endpoint()]).await.start().await;
    for _ in 0..40 {
        let reply = world.send(post(SET, "/", "body")).await;
        assert_eq!((reply.status, reply.text()), (200, "ok"), "even a POST: no byte of it was written");
    }
    assert!(world.metrics().await.sum("sidetrack_retries_total", &[]) >= 1.0);
}

#[tokio::test]
async fn an_endpoint_with_a_name() {
    let mut estate = Estate::standard().await;
    let named = |world: &Estate, name: &str| format!("localhost:{}", world.of(name).address.port());
    let shop = named(&estate, "shop");
    let fork = named(&estate, "checkout-42");
    estate.service("shop", json!({"baseline": [shop]}));
    estate.preview("42")["forks"]["checkout"] = json!([fork]);
    let world = estate.start().await;
    world.send(get(D, "/")).await.came_from("shop");
    world.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
}

#[tokio::test]
async fn nobody_is_there() {
    let (one, other) = (Refused::new(), Refused::new());
    let world = set_of(&[one.address.to_string(), other.address.to_string()]).await.start().await;
    for _ in 0..10 {
        let reply = world.send(get(SET, "/")).await;
        assert_eq!(reply.code(), "upstream_unavailable");
        assert!([502, 503].contains(&reply.status), "{}", reply.status);
    }
}

/// An upstream that answers the first request of a connection, and drops the connection at the second.
async fn forgetful() -> (RawUpstream, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (heads, receiver) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let heads = heads.clone();
        async move {
            let head = raw.head().await.unwrap();
            heads.send(head).unwrap();
            raw.write(OK).await;
            if let Some(head) = raw.head().await {
                heads.send(head).unwrap();
                raw.reset();
            }
        }
    })
    .await;
    (upstream, receiver)
}

#[tokio::test]
async fn a_reused_connection_that_died_is_worth_one_retry() {
    let (upstream, mut heads) = forgetful().await;
    let world = set_of(&[upstream.endpoint()]).await.start().await;
    let mut conn = world.http1().await;
    for _ in 0..2 {
        assert_eq!(conn.send(get(SET, "/")).await.text(), "ok");
    }
    for _ in 0..3 {
        assert!(heads.recv().await.unwrap().starts_with("GET "), "first, dropped, and sent again");
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_post_is_sent_once() {
    let (upstream, mut heads) = forgetful().await;
    let world = set_of(&[upstream.endpoint()]).await.start().await;
    let mut conn = world.http1().await;
    assert_eq!(conn.send(get(SET, "/")).await.text(), "ok");
    let reply = conn.send(request("POST", SET, "/")).await;
    assert_eq!(reply.code(), "upstream_unavailable", "{reply:?}");
    assert!(heads.recv().await.unwrap().starts_with("GET "));
    assert!(heads.recv().await.unwrap().starts_with("POST "));
    assert!(heads.try_recv().is_err(), "it may have been done: it is not sent twice");
}

#[tokio::test]
async fn a_fresh_connection_that_died_is_not_retried() {
    let upstream = RawUpstream::start(async |mut raw, _| {
        raw.head().await.unwrap();
        raw.reset();
    })
    .await;
    let world = set_of(&[upstream.endpoint()]).await.start().await;
    let reply = world.send(get(SET, "/")).await;
    assert_eq!(reply.code(), "upstream_unavailable", "{reply:?}");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let mut world = World::standard().await;
    let mut conn = world.http1().await;
    conn.send(get(D, "/")).await.came_from("shop");
    for _ in 0..5 {
        world.estate.of_mut("shop").stop().await;
        world.estate.of_mut("shop").resume().await;
        conn.send(request("POST", D, "/")).await.came_from("shop");
    }
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_ejected_and_comes_back() {
    let mut estate = Estate::standard().await;
    let endpoints = [estate.upstream("a").await, estate.upstream("b").await];
    estate.service("set", json!({"baseline": endpoints}));
    estate.route(SET, "/", "set");
    estate.of_mut("a").stop().await;
    let mut world = estate.start().await;
    for _ in 0..100 {
        world.send(get(SET, "/")).await.came_from("b");
    }
    let retries = world.metrics().await.sum("sidetrack_retries_total", &[]);
    assert!((1.0..40.0).contains(&retries), "ejected after a few failures, not tried each time: {retries}");
    world.estate.of_mut("a").resume().await;
    eventually("the endpoint is back", async || world.send(get(SET, "/")).await.upstream() == "a").await;
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let mut world = World::standard().await;
    world.estate.of_mut("shop").stop().await;
    for _ in 0..20 {
        assert_eq!(world.send(get(D, "/")).await.code(), "upstream_unavailable");
    }
    world.estate.of_mut("shop").resume().await;
    world.send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn a_status_of_the_application_ejects_nobody() {
    let world = World::standard().await;
    for status in [500, 502, 503, 504] {
        for _ in 0..10 {
            let call = get(D, "/api/checkout").key("42").act(&format!("status {status}"));
            let reply = world.send(call.answer_with("retry-after", "7")).await;
            assert_eq!((reply.status, reply.upstream()), (status, "checkout-42"));
            assert_eq!(reply.header("retry-after"), Some("7"), "untouched");
            assert_eq!(reply.receipt(), "checkout@42;reason=fork");
        }
    }
    assert_eq!(world.of("checkout-42").count(), 40, "and none was sent twice");
}

#[tokio::test]
async fn health_checks_take_an_endpoint_out_and_back() {
    let mut estate = Estate::standard().await;
    let endpoints = [estate.upstream("a").await, estate.upstream("b").await];
    estate.service(
        "set",
        json!({"baseline": endpoints, "healthCheck": {"path": "/healthz", "interval": "100ms"}}),
    );
    estate.route(SET, "/", "set");
    let fork = estate.upstream("set-42").await;
    estate.preview("42")["forks"]["set"] = json!([fork]);
    let world = estate.start().await;
    let mut conn = world.http1().await;
    world.of("a").set_healthy(false);
    eventually("only b is used", async || {
        let before = world.of("a").count();
        for _ in 0..10 {
            conn.send(get(SET, "/")).await;
        }
        world.of("a").count() == before
    })
    .await;
    world.of("a").set_healthy(true);
    eventually("a is used again", async || conn.send(get(SET, "/")).await.upstream() == "a").await;
    assert!(world.of("b").checks() > 1);
    // A fork inherits the check of its service; a sick fork is a fork that is down.
    let keyed = || get(SET, "/").key("42");
    world.of("set-42").set_healthy(false);
    eventually("the fork is down", async || world.send(keyed()).await.status == 503).await;
    world.send(keyed()).await.failed(503, "fork_unavailable");
    world.of("set-42").set_healthy(true);
    eventually("the fork is up", async || world.send(keyed()).await.status == 200).await;
}

#[tokio::test]
async fn an_upstream_that_takes_too_long() {
    let mut estate = Estate::standard().await;
    estate.config["services"]["shop"]["timeouts"] = json!({"response": "2s"});
    let world = estate.start().await;
    world.send(get(D, "/").act("hold")).await.failed(504, "upstream_timeout");
    world.send(get(D, "/")).await.came_from("shop");
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense() {
    let (upstream, _heads) = RawUpstream::answering("SPAM SPAM SPAM\r\n\r\n").await;
    let world = set_of(&[upstream.endpoint()]).await.start().await;
    world.send(get(SET, "/")).await.failed(502, "upstream_protocol");
}

#[tokio::test]
async fn access_by_secret_or_network() {
    let mut estate = Estate::standard().await;
    estate.write("token", "sesame\n");
    estate.config["access"] =
        json!({"allow": ["192.0.2.0/24"], "header": {"name": "x-preview-token", "secretFile": "token"}});
    estate.preview("57")["access"] = json!({"allow": ["127.0.0.0/8"]});
    let world = estate.start().await;
    let keyed = || get(D, "/api/checkout").key("42");
    let refused = world.send(keyed()).await;
    assert!([401, 403].contains(&refused.status), "{refused:?}");
    assert_eq!(refused.code(), "access_denied");
    let wrong = world.send(keyed().header("x-preview-token", "wrong")).await;
    assert_eq!(wrong.code(), "access_denied");
    let reply = world.send(keyed().header("x-preview-token", "sesame")).await;
    reply.came_from("checkout-42");
    assert_eq!(reply.echo().header("x-preview-token"), None, "the secret is stripped");
    world.send(get(D, "/")).await.came_from("shop");
    world.send(get(D, "/").key("57")).await.came_from("shop-57");
    let several = world.send(get(D, "/").key("57,42")).await;
    assert_eq!(several.code(), "access_denied", "each named preview must let it in: {several:?}");
}

/// A client sends it with every request, since some of them go to a fork of the parent.
#[tokio::test]
async fn the_secret_of_a_parent_goes_to_no_service() {
    let mut estate = Estate::standard().await;
    estate.config["previewsDir"] = "previews.d".into();
    fs::create_dir(estate.folder().join("previews.d")).unwrap();
    estate.write("token", "sesame\n");
    let token = estate.folder().join("token");
    let world = estate.start().await;
    let host = world.admin.to_string();
    let fork = world.of("checkout-42").endpoint();
    let access = json!({"header": {"name": "x-token-of-7", "secretFile": token}});
    for (key, preview) in [
        ("7", json!({"forks": {"checkout": [fork]}, "access": access})),
        ("8", json!({"parents": ["7"]})),
        ("9", json!({"parents": ["8"]})),
    ] {
        let made = world.ask(put(&host, &format!("/v1/previews/{key}"), preview.to_string())).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    for key in ["7", "8", "9"] {
        for (path, service) in [("/", "shop"), ("/api/checkout", "checkout-42")] {
            let reply = world.send(get(D, path).key(key).header("x-token-of-7", "sesame")).await;
            reply.came_from(service);
            assert_eq!(reply.echo().header("x-token-of-7"), None, "{key} {path}");
        }
    }
    world.send(get(D, "/api/checkout").key("8")).await.failed(401, "access_denied");
}
