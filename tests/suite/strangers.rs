//! Clients that may not name previews (`carriers.from`): what they send in fields is cut, what they write in the URL is
//! refused, and nobody of them reaches a fork.

use serde_json::json;
use sidetrack_tests::{Call, Estate, World, get};

use crate::{D, TRACEPARENT};

/// A gateway that believes `from` alone; clients come from 127.0.0.1.
async fn world(from: &str) -> World {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({"from": [from]});
    estate.start().await
}

fn in_every_field(call: Call) -> Call {
    call.header("x-pr-id", "42")
        .header("traceparent", TRACEPARENT)
        .header("tracestate", "a=1,pr-id=42")
        .header("baggage", "a=1,pr-id=42")
        .header("cookie", "a=1; pr-id=42")
        .header("origin", "http://pr-42.preview.localhost")
}

#[tokio::test]
async fn fields_of_a_stranger_are_cut_and_what_is_beside_them_stays() {
    let world = world("10.0.0.0/8").await;
    let reply = world.send(in_every_field(get(D, "/api/checkout"))).await;
    reply.came_from("checkout");
    assert!(reply.receipts().is_empty(), "{:?}", reply.receipts());
    let echo = reply.echo();
    for (name, left) in [
        ("x-pr-id", None),
        ("baggage", Some("a=1")),
        ("tracestate", Some("a=1")),
        ("cookie", Some("a=1")),
        ("traceparent", Some(TRACEPARENT)),
    ] {
        assert_eq!(echo.header(name), left, "{name}");
    }
    // A broken one of theirs is nobody's error.
    world.send(get(D, "/api/checkout").header("x-pr-id", "--")).await.came_from("checkout");
    world.send(get(D, "/api/checkout").header("x_pr_id", "42")).await.came_from("checkout");
    let cut = world.metrics().await.sum("sidetrack_carriers_cut_total", &[]);
    assert_eq!(cut, 3.0);
}

/// Its test would be green on the baseline otherwise.
#[tokio::test]
async fn who_forbids_the_baseline_is_refused_and_not_answered_by_it() {
    let world = world("10.0.0.0/8").await;
    let named = || get(D, "/api/checkout").header("x-pr-id", "42");
    world.send(named().header("x-pr-strict", "1")).await.failed(403, "access_denied");
    let member = get(D, "/api/checkout").header("baggage", "pr-id=42;strict");
    world.send(member).await.failed(403, "access_denied");
    world.send(named().header("x-pr-strict", "0")).await.came_from("checkout");
    world.send(get(D, "/api/checkout").header("x-pr-strict", "1")).await.came_from("checkout");
}

#[tokio::test]
async fn a_url_that_names_a_preview_is_refused_to_a_stranger() {
    let world = world("10.0.0.0/8").await;
    for call in [get("pr-42.preview.localhost", "/api/checkout"), get(D, "/api/checkout?pr-id=42")] {
        world.send(call).await.failed(403, "access_denied");
    }
    world.send(get(D, "/api/checkout")).await.came_from("checkout");
}

/// A cache in front tells answers apart by `X-PR-ID`, and would keep this one for those who may name 42.
#[tokio::test]
async fn no_cache_keeps_what_a_stranger_got() {
    let world = world("10.0.0.0/8").await;
    let cached = |call: Call| call.answer_with("cache-control", "public, max-age=60");
    let reply = world.send(cached(get(D, "/api/checkout").key("42"))).await;
    reply.came_from("checkout");
    assert_eq!(reply.header_lines("cache-control"), ["private, no-store"]);
    let reply = world.send(cached(get(D, "/api/checkout"))).await;
    assert_eq!(reply.header_lines("cache-control"), ["public, max-age=60"]);
}

/// A service would hand it on beside a trace of its own, to a waypoint that asks nobody for `access`.
#[tokio::test]
async fn who_has_no_access_names_no_preview_behind_the_gateway_either() {
    let mut estate = Estate::standard().await;
    estate.config["access"] = json!({"allow": ["10.0.0.0/8"]});
    let world = estate.start().await;
    let named = |parents: usize| {
        let call =
            get(D, "/api/checkout").header("tracestate", "a=1,pr-id=42").header("x-pr-signature", "0-0");
        (0..parents).fold(call, |call, _| call.header("traceparent", TRACEPARENT))
    };
    world.send(named(1)).await.failed(403, "access_denied");
    for parents in [0, 2] {
        let reply = world.send(named(parents)).await;
        reply.came_from("checkout");
        let echo = reply.echo();
        assert_eq!(
            (echo.header("tracestate"), echo.header("x-pr-signature")),
            (Some("a=1"), None),
            "{parents}"
        );
    }
}

#[tokio::test]
async fn who_may_is_read_as_ever() {
    let world = world("127.0.0.0/8").await;
    world.send(in_every_field(get(D, "/api/checkout"))).await.came_from("checkout-42");
    world.send(get("pr-42.preview.localhost", "/api/checkout")).await.came_from("checkout-42");
    assert_eq!(world.metrics().await.sum("sidetrack_carriers_cut_total", &[]), 0.0);
}
