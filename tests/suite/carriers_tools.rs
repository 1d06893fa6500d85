//! The carriers of other tools, by the name of the tool.

use serde_json::json;
use sidetrack_tests::{Call, Estate, World, get};

use crate::{D, TRACEPARENT};

async fn speaking(tools: &[&str]) -> World {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({"aliases": tools});
    estate.start().await
}

fn checkout() -> Call {
    get(D, "/api/checkout")
}

fn state(member: &str) -> Call {
    checkout().header("traceparent", TRACEPARENT).header("tracestate", member)
}

#[tokio::test]
async fn each_tool_in_each_place() {
    let world = speaking(&["signadot", "mirrord", "okteto", "telepresence", "ktenv"]).await;
    for (what, call) in [
        ("signadot baggage", checkout().header("baggage", "sd-routing-key=42")),
        ("signadot baggage, older", checkout().header("baggage", "sd-sandbox=42")),
        ("signadot baggage, oldest", checkout().header("baggage", "sd-workspace=42")),
        ("signadot tracestate", state("sd-routing-key=42")),
        ("signadot opentracing", checkout().header("ot-baggage-sd-routing-key", "42")),
        ("signadot opentracing, older", checkout().header("ot-baggage-sd-sandbox", "42")),
        ("signadot jaeger", checkout().header("uberctx-sd-routing-key", "42")),
        ("signadot query", get(D, "/api/checkout?sd-routing-key=42")),
        ("mirrord", checkout().header("baggage", "mirrord-session=42")),
        ("okteto", checkout().header("baggage", "okteto-divert=42")),
        ("okteto header", checkout().header("baggage.okteto-divert", "42")),
        ("okteto old header", checkout().header("x-okteto-divert", "42")),
        ("telepresence", checkout().header("x-telepresence-intercept-id", "42")),
        ("ktenv", checkout().header("x-virtual-env", "42")),
        ("ktenv, older", checkout().header("ali-env-mark", "42")),
    ] {
        let reply = world.send(call).await;
        assert_eq!(reply.upstream(), "checkout-42", "{what}");
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "{what}");
        assert_eq!(
            reply.header("cache-control"),
            match what {
                "signadot query" => None,
                _ => Some("private, no-store"),
            },
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_is_not_ours_is_ignored() {
    let world = speaking(&["signadot", "telepresence"]).await;
    for value in ["a-sandbox", "99", "not a key", "a_b", ""] {
        let reply = world.send(checkout().header("x-telepresence-intercept-id", value)).await;
        reply.came_from("checkout");
        assert!(reply.receipts().is_empty(), "{value:?} names nothing here");
        world
            .send(checkout().header("x-telepresence-intercept-id", value).key("42"))
            .await
            .came_from("checkout-42");
    }
    let ours = checkout().header("x-telepresence-intercept-id", "57").key("42");
    world.send(ours).await.came_from("checkout-42");
    let cookie = checkout().header("x-telepresence-intercept-id", "42").header("cookie", "pr-id=57");
    world.send(cookie).await.came_from("checkout-42");
}

#[tokio::test]
async fn off_by_default() {
    let world = World::standard().await;
    for call in [
        checkout().header("baggage", "sd-routing-key=42"),
        checkout().header("x-virtual-env", "42"),
        get(D, "/api/checkout?sd-routing-key=42"),
    ] {
        let reply = world.send(call).await;
        reply.came_from("checkout");
        assert!(reply.receipts().is_empty());
    }
}
