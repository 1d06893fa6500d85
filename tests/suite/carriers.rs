//! Where a key is found: header, host, query, baggage, tracestate, path; their order, their conflicts, and
//! what is no key.

use serde_json::json;
use sidetrack_tests::{Estate, Reply, World, get};

use crate::{D, TRACEPARENT};

/// Asserts that the request took the fork of preview 42.
#[track_caller]
fn forked(reply: &Reply, what: &str) {
    assert_eq!((reply.status, reply.header("x-upstream")), (200, Some("checkout-42")), "{what}: {reply:?}");
    assert_eq!(reply.receipt(), "checkout@42;reason=fork", "{what}");
}

#[tokio::test]
async fn header_in_every_spelling() {
    let world = World::standard().await;
    for value in ["42", "pr-42", "PR-42", "Pr-42", "42,42", "pr-42, 42", "042x,42"] {
        let reply = world.send(get(D, "/api/checkout").key(value)).await;
        match value {
            "042x,42" => reply.failed(404, "unknown_preview"),
            _ => {
                forked(&reply, value);
                assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "{value}");
            }
        }
    }
    let http2 = world.http2().await.send(get(D, "/api/checkout").key("PR-42")).await;
    forked(&http2, "metadata of HTTP/2");
}

#[tokio::test]
async fn several_keys_each_service_takes_its_first() {
    let world = World::standard().await;
    let calls = [
        ("a list", get(D, "/").key("42,57"), get(D, "/api/checkout").key("42,57")),
        ("two lines", get(D, "/").key("42").key("57"), get(D, "/api/checkout").key("42").key("57")),
        ("two labels", get("pr-42--pr-57.preview.localhost", "/"), {
            get("pr-42--pr-57.preview.localhost", "/api/checkout")
        }),
        ("a query", get(D, "/?pr-id=42,57"), get(D, "/api/checkout?pr-id=42,57")),
        ("baggage", get(D, "/").header("baggage", "pr-id=42.57"), {
            get(D, "/api/checkout").header("baggage", "pr-id=42.57")
        }),
        ("a cookie", get(D, "/").header("cookie", "pr-id=42.57"), {
            get(D, "/api/checkout").header("cookie", "pr-id=42.57")
        }),
    ];
    for (what, shop, checkout) in calls {
        let shop = world.send(shop).await;
        assert_eq!(shop.upstream(), "shop-57", "{what}");
        assert_eq!(shop.receipt(), "shop@57;reason=fork", "{what}");
        let checkout = world.send(checkout).await;
        assert_eq!(checkout.upstream(), "checkout-42", "{what}");
        assert_eq!(checkout.echo().header("x-pr-id"), Some("42,57"), "{what}: in order, on one line");
    }
}

#[tokio::test]
async fn header_that_is_no_key() {
    let world = World::standard().await;
    let nine = "1,2,3,4,5,6,7,8,9";
    let long = "a".repeat(41);
    for value in ["", "pr-", "-42", "42-", "4--2", "4_2", "4 2", "42,,57", "42,", "pr-pr-42", nine, &long] {
        let reply = world.send(get(D, "/api/checkout").key(value)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "malformed_key"), "{value:?}");
    }
    for name in ["x_pr_id", "x-pr_id", "X_PR-ID"] {
        let reply = world.send(get(D, "/api/checkout").header(name, "42")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "malformed_key"), "{name}");
        let reply = world.send(get(D, "/api/checkout").header(name, "42").key("42")).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "malformed_key"),
            "{name} beside the real one"
        );
    }
    assert_eq!(world.of("checkout").count() + world.of("checkout-42").count(), 0);
}

#[tokio::test]
async fn host_in_every_form() {
    let world = World::standard().await;
    for host in [
        "pr-42.checkout.preview.localhost",
        "checkout--pr-42.preview.localhost",
        "pr-42--checkout.preview.localhost",
        "PR-42.Checkout.Preview.Localhost",
        "pr-42.checkout.preview.localhost:8080",
        "checkout--pr-42.preview.localhost:80",
    ] {
        let reply = world.send(get(host, "/x")).await;
        forked(&reply, host);
        assert_eq!(reply.echo().host(), host, "the host goes on as it came");
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "{host}");
        forked(&world.http2().await.send(get(host, "/x")).await, host);
    }
    forked(&world.send(get("pr-42.preview.localhost", "/api/checkout")).await, "what is left is D");
    let shop = world.send(get("pr-42.preview.localhost", "/")).await;
    shop.came_from("shop");
    assert_eq!(shop.receipt(), "shop@baseline;reason=no_fork");
}

#[tokio::test]
async fn host_with_a_prefix_in_the_wrong_place() {
    let world = World::standard().await;
    for host in [
        "checkout.pr-42.preview.localhost",
        "a.checkout.pr-42.preview.localhost",
        "pr-.preview.localhost",
        "pr-4_2.preview.localhost",
        "pr-42-.preview.localhost",
        "pr-42--.preview.localhost",
        "pr-42.pr-57.preview.localhost",
        "pr-pr-42.preview.localhost",
    ] {
        let reply = world.send(get(host, "/")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "malformed_key"), "{host}");
    }
    // Outside our domains a label like that is just a name.
    world.send(get("pr-42.example.com", "/")).await.failed(404, "no_route");
}

#[tokio::test]
async fn a_host_of_another_name() {
    let mut estate = Estate::standard().await;
    estate.preview("42")["aliases"] = json!(["demo"]);
    estate.preview("57")["hosts"] = json!(["uat.example.com"]);
    estate.route("*", "/", "shop");
    let world = estate.start().await;
    for host in [
        "demo.checkout.preview.localhost",
        "checkout--demo.preview.localhost",
        "demo--checkout.preview.localhost",
        "Demo.checkout.preview.localhost",
    ] {
        let reply = world.send(get(host, "/")).await;
        forked(&reply, host);
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "{host}: aliases are resolved onward");
    }
    forked(&world.send(get("demo.preview.localhost", "/api/checkout")).await, "alias before D");
    let reply = world.send(get("uat.example.com", "/")).await;
    reply.came_from("shop-57");
    assert_eq!(reply.echo().header("x-pr-id"), Some("57"));
    let stranger = world.send(get("other.example.com", "/")).await;
    stranger.came_from("shop");
    assert!(stranger.receipts().is_empty());
}

#[tokio::test]
async fn query_is_stripped_to_the_byte() {
    let world = World::standard().await;
    for (sent, received) in [
        ("/api/checkout?pr-id=42", "/api/checkout"),
        ("/api/checkout/a%2Fb?x=1&pr-id=42&y=%20+&&z", "/api/checkout/a%2Fb?x=1&y=%20+&&z"),
        ("/api/checkout?pr-id=42&x=1", "/api/checkout?x=1"),
        ("/api/checkout?x=1&pr-id=42", "/api/checkout?x=1"),
        ("/api/checkout?x=pr-id=42&pr-id=pr%2D42", "/api/checkout?x=pr-id=42"),
        ("/api/checkout?pr-id=%34%32&pr-idx=57", "/api/checkout?pr-idx=57"),
    ] {
        let reply = world.send(get(D, sent)).await;
        forked(&reply, sent);
        assert_eq!(reply.echo().target(), received, "{sent}");
        assert_eq!(reply.echo().header("x-pr-id"), Some("42"), "{sent}");
    }
    for target in ["/?pr-id=4_2", "/?pr-id=pr-", "/?pr-id=42,", "/?pr-id=%zz"] {
        let reply = world.send(get(D, target)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "malformed_key"), "{target}");
    }
}

#[tokio::test]
async fn baggage_and_tracestate() {
    let world = World::standard().await;
    for baggage in
        ["pr-id=42", "a=1,pr-id=42;p=1,b=2", "a=1 , pr-id = 42 ;x", "pr-id=pr%2D42", "=,;;,pr-id=42"]
    {
        forked(&world.send(get(D, "/api/checkout").header("baggage", baggage)).await, baggage);
    }
    let lines = get(D, "/api/checkout").header("baggage", "a=1").header("baggage", "pr-id=42");
    forked(&world.send(lines).await, "two lines");
    for baggage in ["pr-id=", "pr-id=4_2", "a=1,pr-id=42.,b=2"] {
        let reply = world.send(get(D, "/api/checkout").header("baggage", baggage)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "malformed_key"), "{baggage}");
    }
    for baggage in ["garbage", ",,,", "pr-idx=42", "x=pr-id%3D42", "PR-ID=42"] {
        let reply = world.send(get(D, "/api/checkout").header("baggage", baggage)).await;
        reply.came_from("checkout");
        assert!(reply.receipts().is_empty(), "{baggage}: no key");
    }
    let traced =
        |state: &str| get(D, "/api/checkout").header("traceparent", TRACEPARENT).header("tracestate", state);
    forked(&world.send(traced("pr-id=42")).await, "tracestate");
    forked(&world.send(traced("rojo=00f067aa,pr-id=42,congo=t61")).await, "tracestate among others");
    world.send(traced("pr-id=4_2")).await.failed(400, "malformed_key");
    let untraced = get(D, "/api/checkout").header("tracestate", "pr-id=42");
    world.send(untraced).await.came_from("checkout");
    for parent in ["00-00000000000000000000000000000000-b7ad6b7169203331-01", "garbage", ""] {
        let call = get(D, "/api/checkout").header("traceparent", parent).header("tracestate", "pr-id=42");
        world.send(call).await.came_from("checkout");
    }
}

#[tokio::test]
async fn explicit_carriers_that_differ_are_an_error() {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({"path": true});
    let world = estate.start().await;
    // One request with two carriers, for each pair: both say 42, then one says 57.
    let carriers = ["header", "host", "path", "query", "baggage", "tracestate"];
    let call = |said: &[(usize, &str)]| {
        let key = |carrier: usize| said.iter().find(|(each, _)| *each == carrier).map(|(_, key)| *key);
        let host = key(1).map_or(D.to_owned(), |key| format!("pr-{key}.{D}"));
        let path = key(2).map_or(String::new(), |key| format!("/pr-{key}"));
        let query = key(3).map_or(String::new(), |key| format!("?pr-id={key}"));
        let mut call = get(&host, &format!("{path}/api/checkout{query}"));
        if let Some(key) = key(0) {
            call = call.key(key);
        }
        if let Some(key) = key(4) {
            call = call.header("baggage", &format!("pr-id={key}"));
        }
        if let Some(key) = key(5) {
            call = call.header("traceparent", TRACEPARENT).header("tracestate", &format!("pr-id={key}"));
        }
        call
    };
    for one in 0..carriers.len() {
        for other in one + 1..carriers.len() {
            let pair = format!("{} and {}", carriers[one], carriers[other]);
            forked(&world.send(call(&[(one, "42"), (other, "42")])).await, &pair);
            let reply = world.send(call(&[(one, "42"), (other, "57")])).await;
            assert_eq!((reply.status, reply.code().as_str()), (400, "conflicting_keys"), "{pair}");
        }
    }
    // Lists are compared as lists, in canonical form.
    forked(&world.send(get(D, "/api/checkout?pr-id=PR-42,57").key("42,pr-57")).await, "the same list");
    world.send(get(D, "/api/checkout?pr-id=57,42").key("42,57")).await.failed(400, "conflicting_keys");
    world.send(get(D, "/api/checkout?pr-id=42").key("42,57")).await.failed(400, "conflicting_keys");
}

#[tokio::test]
async fn the_first_carrier_is_the_one_that_is_named() {
    let world = World::standard().await;
    for (url, headers, carrier) in [
        ("http://pr-42.preview.localhost/api/checkout?pr-id=42", vec!["X-PR-ID: 42"], "header"),
        ("http://pr-42.preview.localhost/api/checkout?pr-id=42", vec![], "host"),
        ("http://preview.localhost/api/checkout?pr-id=42", vec!["baggage: pr-id=42"], "query"),
        ("http://preview.localhost/api/checkout", vec!["baggage: pr-id=42", "cookie: pr-id=57"], "baggage"),
        ("http://preview.localhost/api/checkout", vec!["cookie: pr-id=42"], "cookie"),
        ("http://preview.localhost/api/checkout", vec!["origin: http://pr-42.preview.localhost"], "origin"),
    ] {
        let said = world.explain(url, &headers).await;
        assert_eq!((&said["carrier"], &said["keys"]), (&json!(carrier), &json!(["42"])), "{url} {headers:?}");
    }
}

#[tokio::test]
async fn path_form() {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({"path": true});
    let world = estate.start().await;
    let reply = world.send(get(D, "/pr-42/api/checkout/x?y=1")).await;
    forked(&reply, "path");
    let echo = reply.echo();
    assert_eq!(echo.target(), "/api/checkout/x?y=1");
    assert_eq!(echo.header("x-forwarded-prefix"), Some("/pr-42"));
    for (target, received) in [("/pr-42", "/"), ("/pr-42/", "/"), ("/pr-42?a=b", "/?a=b")] {
        let reply = world.send(get(D, target)).await;
        reply.came_from("shop");
        assert_eq!(reply.echo().target(), received, "{target}");
    }
    for (location, given_back) in [
        ("/api/next?x=/", "/pr-42/api/next?x=/"),
        ("next", "next"),
        ("http://preview.localhost/api/next", "http://preview.localhost/pr-42/api/next"),
        ("https://elsewhere.example/next", "https://elsewhere.example/next"),
        ("//elsewhere.example/next", "//elsewhere.example/next"),
    ] {
        let call = get(D, "/pr-42/api/checkout").act("status 302").answer_with("location", location);
        assert_eq!(world.send(call).await.header("location"), Some(given_back));
    }
    let call = get(D, "/pr-42/api/checkout")
        .answer_with("set-cookie", "a=1; Path=/; HttpOnly")
        .answer_with("set-cookie", "b=2; path=/api; Secure")
        .answer_with("set-cookie", "c=3; HttpOnly");
    assert_eq!(
        world.send(call).await.header_lines("set-cookie"),
        ["a=1; Path=/pr-42/; HttpOnly", "b=2; path=/pr-42/api; Secure", "c=3; HttpOnly"]
    );
    let plain = world.send(get(D, "/api/checkout").key("42").answer_with("location", "/next")).await;
    assert_eq!(plain.header("location"), Some("/next"), "another carrier takes nothing away");
    assert_eq!(plain.echo().header("x-forwarded-prefix"), None);
    world.send(get(D, "/pr-4_2/x")).await.failed(400, "malformed_key");
}

#[tokio::test]
async fn path_form_is_off_by_default() {
    let world = World::standard().await;
    let reply = world.send(get(D, "/pr-42/api/checkout")).await;
    reply.came_from("shop");
    assert_eq!(reply.echo().target(), "/pr-42/api/checkout");
    assert!(reply.receipts().is_empty());
}

#[tokio::test]
async fn carriers_renamed_and_off() {
    let mut estate = Estate::standard().await;
    estate.config["carriers"] = json!({
        "header": "x-branch", "hostPrefix": "b-", "query": "branch", "baggage": "branch", "tracestate": false,
        "cookie": false, "origin": false,
    });
    let world = estate.start().await;
    forked(&world.send(get(D, "/api/checkout").header("x-branch", "b-42")).await, "header");
    forked(&world.send(get("b-42.preview.localhost", "/api/checkout")).await, "host");
    forked(&world.send(get(D, "/api/checkout?branch=42")).await, "query");
    forked(&world.send(get(D, "/api/checkout").header("baggage", "branch=42")).await, "baggage");
    for call in [
        get(D, "/api/checkout").key("42"),
        get(D, "/api/checkout?pr-id=42"),
        get(D, "/api/checkout").header("baggage", "pr-id=42"),
        get(D, "/api/checkout").header("traceparent", TRACEPARENT).header("tracestate", "pr-id=42"),
        get(D, "/api/checkout").header("cookie", "pr-id=42"),
        get(D, "/api/checkout").header("origin", "http://b-42.preview.localhost"),
    ] {
        world.send(call).await.came_from("checkout");
    }
    let reply = world.send(get(D, "/api/checkout?branch=42")).await;
    assert_eq!(reply.header("set-cookie"), None, "no cookie where the cookie is off");
    assert_eq!(reply.echo().header("x-branch"), Some("42"));
    assert_eq!(reply.echo().header("x-pr-id"), None);
    assert!(reply.lists("vary", "x-branch"));
}
