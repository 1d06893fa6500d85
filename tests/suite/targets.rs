//! Which target a key gets, and why: the closed set of reasons, and the policies.

use std::time::Duration;

use serde_json::json;
use sidetrack_tests::{Estate, Refused, World, eventually, get};

use crate::D;

#[tokio::test]
async fn fork_no_fork_no_key() {
    let world = World::standard().await;
    for (call, upstream, receipt) in [
        (get(D, "/api/checkout").key("42"), "checkout-42", Some("checkout@42;reason=fork")),
        (get(D, "/").key("42"), "shop", Some("shop@baseline;reason=no_fork")),
        (get(D, "/").key("57"), "shop-57", Some("shop@57;reason=fork")),
        (get(D, "/api/checkout").key("57"), "checkout", Some("checkout@baseline;reason=no_fork")),
        (get(D, "/"), "shop", None),
        (get(D, "/api/checkout"), "checkout", None),
    ] {
        let reply = world.send(call).await;
        reply.came_from(upstream);
        match receipt {
            Some(receipt) => assert_eq!(reply.receipt(), receipt),
            None => assert!(reply.receipts().is_empty()),
        }
    }
}

#[tokio::test]
async fn parents_breadth_first() {
    // 1 -> 2, 3; 2 -> 4; 3 and 4 fork checkout: 3 is nearer. 4 -> 1 closes a circle.
    let mut estate = Estate::standard().await;
    estate.preview("1")["parents"] = json!(["2", "3"]);
    estate.preview("2")["parents"] = json!(["4"]);
    estate.fork("3", "checkout").await;
    estate.fork("4", "checkout").await;
    estate.fork("4", "shop").await;
    estate.preview("4")["parents"] = json!(["1"]);
    estate.preview("5")["parents"] = json!(["nowhere", "4"]);
    let world = estate.start().await;
    for (key, target, upstream, receipt) in [
        ("1", "/api/checkout", "checkout-3", "checkout@3;reason=parent_fork"),
        ("1", "/", "shop-4", "shop@4;reason=parent_fork"),
        ("2", "/api/checkout", "checkout-4", "checkout@4;reason=parent_fork"),
        ("4", "/api/checkout", "checkout-4", "checkout@4;reason=fork"),
        ("5", "/", "shop-4", "shop@4;reason=parent_fork"),
        // All named keys come before any parent.
        ("2,3", "/api/checkout", "checkout-3", "checkout@3;reason=fork"),
        ("3", "/", "shop", "shop@baseline;reason=no_fork"),
    ] {
        let reply = world.send(get(D, target).key(key)).await;
        reply.came_from(upstream);
        assert_eq!(reply.receipt(), receipt, "{key} {target}");
        assert_eq!(reply.echo().header("x-pr-id"), Some(key), "parents are not written onward");
    }
    assert!(world.stderr().iter().any(|line| line.contains("nowhere")), "an unknown parent is warned of");
}

#[tokio::test]
async fn the_nearest_declaration_decides_even_if_it_is_down() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.preview("1")["parents"] = json!(["42"]);
    estate.preview("1")["forks"]["checkout"] = json!([refused.address.to_string()]);
    let world = estate.start().await;
    let reply = world.send(get(D, "/api/checkout").key("1")).await;
    reply.failed(503, "fork_unavailable");
    assert_eq!(reply.receipt(), "checkout@1;reason=fork_down");
    world.send(get(D, "/api/checkout").key("1,42")).await.failed(503, "fork_unavailable");
}

#[tokio::test]
async fn a_fork_that_is_down() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    for (key, policy) in [("1", "fail"), ("2", "baseline")] {
        estate.preview(key)["onForkDown"] = policy.into();
        estate.preview(key)["forks"]["checkout"] = json!([refused.address.to_string()]);
    }
    estate.service("ghost", json!({}));
    estate.route("ghost.preview.localhost", "/", "ghost");
    estate.preview("2")["forks"]["ghost"] = json!([refused.address.to_string()]);
    // Declared, and without any endpoint yet.
    estate.preview("3")["forks"]["checkout"] = json!([]);
    let world = estate.start().await;
    for key in ["1", "3"] {
        let reply = world.send(get(D, "/api/checkout").key(key)).await;
        reply.failed(503, "fork_unavailable");
        assert_eq!((&reply.json()["preview"], &reply.json()["service"]), (&json!(key), &json!("checkout")));
    }
    for _ in 0..3 {
        let reply = world.send(get(D, "/api/checkout").key("2")).await;
        reply.came_from("checkout");
        assert_eq!(reply.receipt(), "checkout@baseline;reason=fork_down");
    }
    let strict = world.send(get(D, "/api/checkout").key("2").header("x-pr-strict", "1")).await;
    strict.failed(503, "fork_unavailable");
    let nothing = world.send(get("ghost.preview.localhost", "/").key("2")).await;
    nothing.failed(404, "no_route");
    assert_eq!(nothing.receipt(), "ghost@2;reason=fork_down");
    assert_eq!(
        nothing.json()["detail"],
        "the fork of ghost for 2 is declared and none of its endpoints can be reached, and the service has no baseline"
    );
}

#[tokio::test]
async fn a_held_request_is_answered_when_the_fork_wakes() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["onForkDown"] = "hold".into();
    estate.of_mut("checkout-42").stop().await;
    let mut world = estate.start().await;
    let mut conn = world.http1().await;
    let waiting = tokio::spawn(async move { conn.send(get(D, "/api/checkout").key("42")).await });
    eventually("the request is under way", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) >= 1.0
    })
    .await;
    assert!(!waiting.is_finished());
    world.estate.of_mut("checkout-42").resume().await;
    let reply = waiting.await.unwrap();
    reply.came_from("checkout-42");
    assert_eq!(reply.receipt(), "checkout@42;reason=fork");
}

#[tokio::test]
async fn holding_has_an_end() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["onForkDown"] = "hold".into();
    estate.config["limits"] = json!({"holdTimeout": "300ms", "holdRequests": 1});
    estate.of_mut("checkout-42").stop().await;
    let world = estate.start().await;
    let began = std::time::Instant::now();
    let (mut one, mut other) = (world.http1().await, world.http1().await);
    let (first, second) = tokio::join!(
        one.send(get(D, "/api/checkout").key("42")),
        other.send(get(D, "/api/checkout").key("42"))
    );
    first.failed(503, "fork_unavailable");
    second.failed(503, "fork_unavailable");
    assert!(began.elapsed() >= Duration::from_millis(300), "one of them waited");
}

#[tokio::test]
async fn unknown_previews() {
    let world = World::standard().await;
    for key in ["99", "42,99", "99,42"] {
        let reply = world.send(get(D, "/api/checkout").key(key)).await;
        reply.failed(404, "unknown_preview");
        assert_eq!(reply.json()["preview"], "99", "{key}");
    }
    let host = world.send(get("pr-99.preview.localhost", "/")).await;
    host.failed(404, "unknown_preview");
    // A route that is not there is said first: the key has no say in it.
    world.send(get("nowhere.example.com", "/")).await.failed(404, "no_route");
    assert_eq!(world.of("checkout").count() + world.of("checkout-42").count(), 0);
}

#[tokio::test]
async fn unknown_previews_on_baseline() {
    let mut estate = Estate::standard().await;
    estate.config["unknownPreview"] = "baseline".into();
    let world = estate.start().await;
    let reply = world.send(get(D, "/api/checkout").key("99")).await;
    reply.came_from("checkout");
    assert_eq!(reply.receipt(), "checkout@baseline;reason=unknown_preview");
    assert_eq!(reply.echo().header("x-pr-id"), Some("99"), "the next proxy may know it");
    world.send(get(D, "/api/checkout").key("99,42")).await.came_from("checkout-42");
    let strict = world.send(get(D, "/api/checkout").key("99").header("x-pr-strict", "1")).await;
    strict.failed(404, "unknown_preview");
}

#[tokio::test]
async fn a_waypoint_lets_unknown_keys_pass() {
    let mut estate = Estate::standard().await;
    estate.config["role"] = "waypoint".into();
    let world = estate.start().await;
    let reply = world.send(get(D, "/api/checkout").key("99").header("x-forwarded-for", "192.0.2.7")).await;
    reply.came_from("checkout");
    assert_eq!(reply.receipt(), "checkout@baseline;reason=unknown_preview");
    let echo = reply.echo();
    assert_eq!(echo.header("x-forwarded-for"), Some("192.0.2.7"), "left as it came");
    assert_eq!((echo.header("forwarded"), echo.header("x-request-id")), (None, None));
}

#[tokio::test]
async fn an_expired_preview_is_gone() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["ttl"] = "5s".into();
    let world = estate.start().await;
    world.send(get(D, "/api/checkout").key("42")).await.came_from("checkout-42");
    eventually("the preview has expired", async || {
        world.send(get(D, "/api/checkout").key("42")).await.status != 200
    })
    .await;
    let reply = world.send(get(D, "/api/checkout").key("42")).await;
    reply.failed(410, "preview_expired");
    assert_eq!(reply.json()["preview"], "42");
    world.send(get(D, "/").key("57")).await.came_from("shop-57");
}

#[tokio::test]
async fn strict_is_strict_about_the_expired_too() {
    let mut estate = Estate::standard().await;
    estate.config["unknownPreview"] = "baseline".into();
    estate.preview("42")["ttl"] = "1s".into();
    let world = estate.start().await;
    let call = || get(D, "/api/checkout").key("42");
    eventually("the preview has expired", async || world.send(call()).await.upstream() == "checkout").await;
    let strict = world.send(call().header("x-pr-strict", "1")).await;
    assert!(["unknown_preview", "preview_expired"].contains(&strict.code().as_str()), "{strict:?}");
}

#[tokio::test]
async fn a_held_request_follows_its_preview() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.preview("42")["onForkDown"] = "hold".into();
    let fork = estate.preview("42")["forks"]["checkout"].take();
    estate.preview("42")["forks"]["checkout"] = json!([refused.address.to_string()]);
    let mut world = estate.start().await;
    let mut conn = world.http1().await;
    let call = sidetrack_tests::post(D, "/api/checkout", "body").key("42");
    let waiting = tokio::spawn(async move { conn.send(call).await });
    eventually("the request is under way", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) >= 1.0
    })
    .await;
    // The new pod has another address.
    world.estate.preview("42")["forks"]["checkout"] = fork;
    world.estate.save();
    let reply = waiting.await.unwrap();
    reply.came_from("checkout-42");
    assert_eq!(reply.echo().body_len(), 4, "no byte of the body is lost");
}

/// The receipt named the preview, in a table that still had it.
#[tokio::test]
async fn a_held_request_whose_preview_is_taken_away() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["onForkDown"] = "hold".into();
    estate.of_mut("checkout-42").stop().await;
    let mut world = estate.start().await;
    let mut conn = world.http1().await;
    let waiting = tokio::spawn(async move { conn.send(get(D, "/api/checkout").key("42")).await });
    eventually("the request is under way", async || {
        world.metrics().await.sum("sidetrack_requests_in_flight", &[]) >= 1.0
    })
    .await;
    world.estate.config["previews"].as_object_mut().unwrap().remove("42");
    world.estate.save();
    let reply = waiting.await.unwrap();
    reply.failed(410, "preview_expired");
    let generation = world.generation().await;
    assert_eq!(reply.receipts(), [format!("checkout@none;reason=unknown_preview;gen={generation}")]);
}

#[tokio::test]
async fn strict_travels_on() {
    let world = World::standard().await;
    let strict = |call: sidetrack_tests::Call| call.key("42").header("x-pr-strict", "1");
    let reply = world.send(strict(get(D, "/").header("baggage", "a=1"))).await;
    reply.came_from("shop");
    let echo = reply.echo();
    let member = echo.members("baggage").into_iter().find(|member| member.starts_with("pr-id=")).unwrap();
    assert_eq!(member.replace(' ', ""), "pr-id=42;strict");
    // And is understood where it arrives that way.
    let mut estate = Estate::standard().await;
    estate.config["role"] = "waypoint".into();
    let inner = estate.start().await;
    let call = get(D, "/api/checkout").header("baggage", "pr-id=99;strict");
    inner.send(call).await.failed(404, "unknown_preview");
}

#[tokio::test]
async fn a_service_that_exists_only_in_previews() {
    let mut estate = Estate::standard().await;
    estate.service("labs", json!({}));
    estate.fork("42", "labs").await;
    estate.route("labs.preview.localhost", "/", "labs");
    let world = estate.start().await;
    world.send(get("pr-42.labs.preview.localhost", "/")).await.came_from("labs-42");
    world.send(get("labs.preview.localhost", "/")).await.failed(404, "no_route");
    world.send(get("pr-57.labs.preview.localhost", "/")).await.failed(404, "no_route");
}

#[tokio::test]
async fn the_most_specific_route_wins() {
    let mut estate = Estate::standard().await;
    for service in ["any", "below", "deep"] {
        estate.baseline(service).await;
    }
    estate.route("*", "/", "any");
    estate.route("*.example.com", "/", "below");
    estate.route("a.example.com", "/v1", "deep");
    let world = estate.start().await;
    for (host, target, upstream) in [
        ("x.example.com", "/", "below"),
        ("y.x.example.com", "/", "below"),
        ("example.com", "/", "any"),
        ("a.example.com", "/v1", "deep"),
        ("a.example.com", "/v1/x", "deep"),
        ("a.example.com", "/v1?x", "deep"),
        ("preview.localhost", "/api/checkoutx", "shop"),
        ("preview.localhost", "/api/checkout/", "checkout"),
        ("PREVIEW.localhost:99", "/api/checkout", "checkout"),
        ("other.test", "/", "any"),
    ] {
        let reply = world.send(get(host, target)).await;
        assert_eq!(reply.upstream(), upstream, "{host}{target}");
    }
}

#[tokio::test]
async fn a_path_that_would_match_two_routes() {
    let world = World::standard().await;
    for target in [
        "/x/../api/checkout",
        "/%2e%2e/api/checkout",
        "//api/checkout",
        "/api%2fcheckout",
        "/api/checkout/..",
    ] {
        let mut raw = world.raw().await;
        raw.write(format!("GET {target} HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
        let (status, _, body) = raw.answer().await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["code"]), (400, &json!("malformed_request")), "{target}");
    }
    for target in ["/a/../b", "//x", "/a%2fb", "/api/checkout/%2e/x", "/api/checkout//x"] {
        let mut raw = world.raw().await;
        raw.write(format!("GET {target} HTTP/1.1\r\nHost: {D}\r\n\r\n")).await;
        let (status, _, body) = raw.answer().await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["target"]), (200, &json!(target)), "forwarded as it came");
    }
}
