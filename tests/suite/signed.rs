//! Signed keys: a gateway proves the keys that it lets in, and a waypoint with `require: signed` takes no others.

use serde_json::json;
use sidetrack_tests::{Call, Estate, World, get};

use crate::{D, TRACEPARENT};

const SECRET: &str = "one secret of an estate, long enough\n";

/// A gateway that signs, in front of an upstream that says what it received.
async fn gateway() -> World {
    let mut estate = Estate::standard().await;
    estate.write("keys", SECRET);
    estate.config["context"] = json!({"keyFile": "keys", "sign": true, "trace": false});
    estate.start().await
}

/// A waypoint of `payment`, forked by 42, that takes signed keys only; `secrets` are its file.
async fn waypoint(secrets: &str) -> World {
    let mut estate = Estate::new();
    estate.baseline("payment").await;
    estate.fork("42", "payment").await;
    estate.write("keys", secrets);
    estate.config["role"] = "waypoint".into();
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0", "service": "payment"}]);
    estate.config["context"] = json!({"keyFile": "keys", "sign": true, "require": "signed"});
    estate.start().await
}

/// What the gateway sends inward with key 42.
async fn inward(gateway: &World, call: Call) -> Vec<(String, String)> {
    let reply = gateway.send(call.key("42")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.echo().headers().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A call that hands on these fields alone.
fn handing_on(sent: &[(String, String)], names: &[&str]) -> Call {
    let kept = sent.iter().filter(|(name, _)| names.contains(&name.as_str()));
    kept.fold(get("payment", "/"), |call, (name, value)| call.header(name, value))
}

#[tokio::test]
async fn a_waypoint_takes_what_a_gateway_has_signed_whatever_the_application_hands_on() {
    let (gateway, waypoint) = (gateway().await, waypoint(SECRET).await);
    let sent = inward(&gateway, get(D, "/api/checkout").header("traceparent", TRACEPARENT)).await;
    for names in [
        &["x-pr-id", "x-pr-signature"][..],
        &["baggage"],
        &["traceparent", "tracestate"],
        &["x-pr-id", "baggage"],
    ] {
        let reply = waypoint.send(handing_on(&sent, names)).await;
        reply.came_from("payment-42");
        // What goes on is signed anew, in all places.
        let echo = reply.echo();
        assert!(echo.header("x-pr-signature").is_some() && echo.header("baggage").unwrap().contains(";sig="));
    }
}

#[tokio::test]
async fn a_key_that_nobody_has_signed_is_refused_and_the_key_less_pass() {
    let (gateway, waypoint) = (gateway().await, waypoint(SECRET).await);
    let sent = inward(&gateway, get(D, "/api/checkout")).await;
    waypoint.send(get("payment", "/")).await.came_from("payment");
    let forged = "ffffffff-00000000000000000000000000000000";
    for call in [
        get("payment", "/").key("42"),
        handing_on(&sent, &["x-pr-id"]),
        get("payment", "/").key("42").header("x-pr-signature", forged),
        // Signed for another key.
        handing_on(&sent, &["x-pr-signature"]).key("57"),
    ] {
        waypoint.send(call).await.failed(403, "access_denied");
    }
}

#[tokio::test]
async fn what_a_client_sends_as_a_signature_does_not_pass_a_gateway() {
    let gateway = gateway().await;
    let forged = "ffffffff-00000000000000000000000000000000";
    let sent = inward(
        &gateway,
        get(D, "/api/checkout")
            .header("x-pr-signature", forged)
            .header("baggage", &format!("pr-id=42;sig={forged}")),
    )
    .await;
    assert!(!sent.iter().any(|(_, value)| value.contains(forged)), "{sent:?}");
}

#[tokio::test]
async fn a_secret_is_changed_while_proxies_run() {
    let (gateway, waypoint) = (gateway().await, waypoint(SECRET).await);
    let new = "the next secret of that estate, long enough\n";
    let sent = inward(&gateway, get(D, "/api/checkout")).await;
    let call = || handing_on(&sent, &["x-pr-id", "x-pr-signature"]);
    for (secrets, passes) in [(format!("{new}{SECRET}"), true), (new.to_owned(), false)] {
        let generation = waypoint.gateway.generation().await;
        waypoint.estate.write("keys", secrets);
        waypoint.gateway.reloaded(generation).await;
        let reply = waypoint.send(call()).await;
        assert_eq!(reply.status == 200, passes, "{}", reply.text());
    }
}

#[tokio::test]
async fn without_sign_nothing_is_signed() {
    let world = Estate::standard().await.start().await;
    let sent = inward(&world, get(D, "/api/checkout")).await;
    assert!(!sent.iter().any(|(name, value)| name == "x-pr-signature" || value.contains("sig=")), "{sent:?}");
}
