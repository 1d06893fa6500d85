//! What lets a browser follow a key: the cookie that the query sets, and the origin of a page.

use serde_json::json;
use sidetrack_tests::{Call, Estate, World, get, post, request};

use crate::D;

const COOKIE: &str = "pr-id=42; Path=/; HttpOnly; SameSite=Lax";

/// Whether a `Set-Cookie` takes the cookie away.
#[track_caller]
fn clears(lines: &[&str]) {
    let [line] = lines else { panic!("not one Set-Cookie but {lines:?}") };
    let line = line.to_ascii_lowercase();
    assert!(line.starts_with("pr-id=;") && line.contains("max-age=0") && line.contains("path=/"), "{line}");
}

fn navigation(call: Call) -> Call {
    call.header("sec-fetch-mode", "navigate")
}

#[tokio::test]
async fn a_navigation_sets_the_cookie() {
    let world = World::standard().await;
    for call in [get(D, "/api/checkout?pr-id=42"), navigation(get(D, "/api/checkout?pr-id=pr-42"))] {
        let reply = world.send(call).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.header_lines("set-cookie"), [COOKIE]);
        assert_eq!(reply.header("clear-site-data"), None, "only on TLS");
    }
    let list = world.send(get(D, "/api/checkout?pr-id=42,57")).await;
    assert_eq!(list.header_lines("set-cookie"), ["pr-id=42.57; Path=/; HttpOnly; SameSite=Lax"]);
    let beside = world.send(get(D, "/api/checkout?pr-id=42").answer_with("set-cookie", "a=1")).await;
    assert_eq!(beside.header_lines("set-cookie").len(), 2, "the upstream's own stays");
    for call in [
        post(D, "/api/checkout?pr-id=42", "x"),
        get(D, "/api/checkout?pr-id=42").header("sec-fetch-mode", "cors"),
        get(D, "/api/checkout?pr-id=42").header("sec-fetch-mode", "no-cors"),
        get(D, "/api/checkout").key("42"),
    ] {
        let reply = world.send(call).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn what_names_no_preview_is_not_kept() {
    let world = World::standard().await;
    for target in ["/?pr-id=99", "/?pr-id=42,99", "/?pr-id=4_2"] {
        let reply = world.send(navigation(get(D, target))).await;
        assert!([400, 404].contains(&reply.status), "{reply:?}");
        assert_eq!(reply.header("set-cookie"), None, "{target}");
    }
}

#[tokio::test]
async fn the_empty_query_clears_the_cookie() {
    let world = World::standard().await;
    let reply = world.send(get(D, "/api/checkout?pr-id=&x=1").header("cookie", "pr-id=42")).await;
    reply.came_from("checkout");
    assert_eq!(reply.echo().target(), "/api/checkout?x=1");
    clears(&reply.header_lines("set-cookie"));
    assert!(reply.receipts().is_empty(), "a request without a key");
}

#[tokio::test]
async fn the_cookie_fills_in_and_never_conflicts() {
    let world = World::standard().await;
    let cookie = |value: &str| get(D, "/api/checkout").header("cookie", value);
    for (sent, onward) in [
        ("pr-id=42", Some("pr-id=42")),
        ("a=1; pr-id=42; b=2", Some("a=1; pr-id=42; b=2")),
        ("pr-id=pr%2D42; a=\"1\"", Some("a=\"1\"")),
        ("c; pr-id=PR-42", Some("c; pr-id=PR-42")),
    ] {
        let reply = world.send(cookie(sent)).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.echo().header("cookie"), onward, "one that says the same goes on as it came");
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"));
    }
    let other = world.send(cookie("pr-id=57; a=1").key("42")).await;
    other.came_from("checkout-42");
    assert_eq!(
        other.echo().header("cookie"),
        Some("a=1"),
        "an app that copies it must not contradict the header"
    );
    world.send(cookie("pr-id=nope").key("42")).await.came_from("checkout-42");
    for value in ["pr-id=", "pr-id=4_2", "pr-id=42.", "xpr-id=42", "pr-id"] {
        let reply = world.send(cookie(value)).await;
        reply.came_from("checkout");
        assert!(reply.receipts().is_empty(), "{value:?} is no key");
    }
}

#[tokio::test]
async fn an_unknown_cookie_fails_once() {
    let world = World::standard().await;
    let reply = world.send(get(D, "/api/checkout").header("cookie", "pr-id=99")).await;
    reply.failed(404, "unknown_preview");
    clears(&reply.header_lines("set-cookie"));
    world.send(get(D, "/api/checkout")).await.came_from("checkout");
}

fn preflight(origin: &str) -> Call {
    request("OPTIONS", "checkout.preview.localhost", "/x")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
}

#[tokio::test]
async fn the_origin_names_the_preview() {
    let world = World::standard().await;
    for origin in ["http://pr-42.preview.localhost", "https://pr-42.preview.localhost:8443"] {
        world.send(preflight(origin)).await.came_from("checkout-42");
        let call = get("checkout.preview.localhost", "/").header("origin", origin);
        let reply = world.send(call).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.echo().header("origin"), Some(origin));
        assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    }
    for origin in [
        "null",
        "http://pr-99.preview.localhost",
        "http://x.pr-42.preview.localhost",
        "http://pr-42.example.com",
    ] {
        let reply = world.send(preflight(origin)).await;
        reply.came_from("checkout");
        assert!(reply.receipts().is_empty(), "{origin} is ignored");
    }
    let both = preflight("http://pr-42.preview.localhost").key("57");
    let reply = world.send(both).await;
    reply.came_from("checkout");
    assert_eq!(reply.receipt(), "checkout@baseline;reason=no_fork");
}

#[tokio::test]
async fn the_cookie_comes_before_the_origin() {
    let mut estate = Estate::standard().await;
    estate.fork("57", "checkout").await;
    estate.config["carriers"] = json!({"cookie": "preview"});
    let world = estate.start().await;
    let call = preflight("http://pr-42.preview.localhost").header("cookie", "preview=57");
    world.send(call).await.came_from("checkout-57");
}
