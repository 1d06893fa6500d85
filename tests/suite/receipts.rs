//! What a response says about the decisions it met, and what caches are told.

use serde_json::json;
use sidetrack_tests::{Call, Estate, Refused, World, get};

use crate::{D, TRACEPARENT};

#[tokio::test]
async fn our_entry_stands_before_those_of_the_upstream() {
    let world = World::standard().await;
    let gen_now = world.generation().await;
    let call =
        get(D, "/api/checkout").key("42").answer_with("x-pr-route", "cart@baseline;reason=no_fork;gen=3");
    assert_eq!(
        world.send(call.answer_with("x-pr-route", "stock@42;reason=fork;gen=3")).await.receipts(),
        [
            format!("checkout@42;reason=fork;gen={gen_now}"),
            "cart@baseline;reason=no_fork;gen=3".to_owned(),
            "stock@42;reason=fork;gen=3".to_owned(),
        ]
    );
}

#[tokio::test]
async fn without_a_key_no_receipt() {
    let world = World::standard().await;
    for call in [get(D, "/"), get(D, "/api/checkout"), get("nowhere.example.com", "/")] {
        let reply = world.send(call).await;
        assert!(reply.receipts().is_empty(), "{reply:?}");
    }
}

#[tokio::test]
async fn errors_have_their_receipt() {
    let refused = Refused::new();
    let mut estate = Estate::standard().await;
    estate.preview("1")["forks"]["checkout"] = json!([refused.address.to_string()]);
    let world = estate.start().await;
    let down = world.send(get(D, "/api/checkout").key("1")).await;
    assert_eq!(down.receipt(), "checkout@1;reason=fork_down");
    assert!(down.lists("vary", "x-pr-id"));
    let unknown = world.send(get(D, "/api/checkout").key("99")).await;
    assert!(unknown.receipts().iter().all(|entry| entry.contains("reason=unknown_preview")), "{unknown:?}");
}

#[tokio::test]
async fn vary_names_the_header_always() {
    let world = World::standard().await;
    for call in
        [get(D, "/"), get(D, "/").key("42"), get("pr-42.preview.localhost", "/"), get("nowhere.test", "/")]
    {
        let reply = world.send(call).await;
        assert!(reply.lists("vary", "x-pr-id"), "{reply:?}");
    }
    let members = |reply: &sidetrack_tests::Reply| -> Vec<String> {
        let lines = reply.header_lines("vary");
        let members = lines.iter().flat_map(|line| line.split(','));
        members.map(|member| member.trim().to_ascii_lowercase()).collect()
    };
    let merged = world.send(get(D, "/").answer_with("vary", "Accept-Encoding, Origin")).await;
    assert_eq!(members(&merged), ["accept-encoding", "origin", "x-pr-id"]);
    let there = world.send(get(D, "/").answer_with("vary", "x-pr-id")).await;
    assert_eq!(members(&there), ["x-pr-id"]);
    let star = world.send(get(D, "/").answer_with("vary", "*")).await;
    assert!(members(&star).contains(&"*".to_owned()));
}

#[tokio::test]
async fn caches_keep_out_where_they_cannot_see_the_key() {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({"path": true, "aliases": ["ktenv"]});
    let world = estate.start().await;
    let cached = |call: Call| call.answer_with("cache-control", "public, max-age=60");
    for call in [
        get(D, "/api/checkout").header("baggage", "pr-id=42"),
        get(D, "/api/checkout").header("traceparent", TRACEPARENT).header("tracestate", "pr-id=42"),
        get(D, "/api/checkout").header("cookie", "pr-id=42"),
        get(D, "/api/checkout").header("origin", "http://pr-42.preview.localhost"),
        get(D, "/api/checkout").header("x-virtual-env", "42"),
    ] {
        let reply = world.send(cached(call)).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.header_lines("cache-control"), ["private, no-store"], "{reply:?}");
    }
    for call in [
        get(D, "/api/checkout").key("42"),
        get("pr-42.preview.localhost", "/api/checkout"),
        get(D, "/pr-42/api/checkout"),
        get(D, "/api/checkout").key("42").header("cookie", "pr-id=42"),
    ] {
        let reply = world.send(cached(call)).await;
        reply.came_from("checkout-42");
        assert_eq!(reply.header_lines("cache-control"), ["public, max-age=60"], "{reply:?}");
    }
    // What a service tells one cache alone counts for more there (RFC 9213).
    let targeted = [
        ("cdn-cache-control", "max-age=60"),
        ("example-cdn-cache-control", "max-age=60"),
        ("surrogate-control", "max-age=60"),
        ("edge-control", "max-age=60"),
        ("x-accel-expires", "60"),
        ("expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
    ];
    let call = |call: Call| targeted.iter().fold(call, |call, (name, value)| call.answer_with(name, value));
    let reply = world.send(call(get(D, "/api/checkout").header("cookie", "pr-id=42"))).await;
    assert_eq!(reply.header_lines("cache-control"), ["private, no-store"]);
    assert!(targeted.iter().all(|(name, _)| reply.header(name).is_none()), "{reply:?}");
    let reply = world.send(call(get(D, "/api/checkout").key("42"))).await;
    assert!(targeted.iter().all(|(name, value)| reply.header(name) == Some(value)), "{reply:?}");
    let keyless = world.send(cached(get(D, "/api/checkout"))).await;
    assert_eq!(keyless.header_lines("cache-control"), ["public, max-age=60"]);
}

#[tokio::test]
async fn the_proxys_own_answers_are_not_stored() {
    let world = World::standard().await;
    for call in [get("nowhere.test", "/"), get(D, "/").key("99"), get(D, "/").header("cookie", "pr-id=99")] {
        let reply = world.send(call).await;
        assert!(reply.lists("cache-control", "no-store"), "{reply:?}");
    }
}
