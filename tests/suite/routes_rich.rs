//! Routes of a controller: what each may ask for and do, end to end, with a key and without.

use std::fs;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use sidetrack_tests::{Conn, Controller, Estate, Metrics, World, eventually, get, request, roots_of, within};

use crate::D;

/// A host that a key can be put before.
const HOST: &str = "web.preview.localhost";

/// A gateway behind a controller with the services `one` and `two`, of which 42 forks `two`, and these routes.
async fn world(routes: &[Value]) -> (World, Controller) {
    let mut estate = Estate::new();
    let tls = json!({"selfSigned": {"names": ["*.preview.localhost", "preview.localhost"]}});
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": tls}]);
    let controller = Controller::start().await;
    for name in ["one", "two"] {
        let endpoint = estate.upstream(name).await;
        controller.service(name, &[endpoint]);
    }
    let fork = estate.upstream("two-42").await;
    controller.preview("42", "two", &[fork]);
    for route in routes {
        let name = route["name"].as_str().unwrap();
        controller.set(&format!("route/{name}"), route.clone());
    }
    let world = controller.gateway(estate).await;
    assert_eq!(controller.acknowledged().await, Value::Null);
    (world, controller)
}

/// A route for [`HOST`], with further members.
fn route(name: &str, action: Value, more: Value) -> Value {
    let mut route =
        json!({"name": name, "host": HOST, "path": {"prefix": "/"}, "rank": "", "action": action});
    route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    route
}

fn to(service: &str) -> Value {
    json!({"forward": [{"service": service, "weight": 1}]})
}

#[tokio::test]
async fn conditions_in_the_order_of_the_gateway_api() {
    let header = |value: &str| json!({"headers": [{"name": "x-version", "value": value}]});
    let (world, _controller) = world(&[
        route("all", to("one"), json!({})),
        route("exact", to("two"), json!({"path": {"exact": "/exact"}})),
        route("prefix", to("two"), json!({"path": {"prefix": "/prefix"}})),
        route("method", to("two"), json!({"method": "DELETE"})),
        route("header", to("two"), header("2")),
        route("query", to("two"), json!({"query": [{"name": "v", "value": "2"}]})),
        route("older", to("one"), json!({"path": {"prefix": "/tie"}, "rank": "1"})),
        route("younger", to("two"), json!({"path": {"prefix": "/tie"}, "rank": "2"})),
        route("secure", to("two"), json!({"path": {"prefix": "/secure"}, "scheme": "https"})),
    ])
    .await;
    for http2 in [false, true] {
        for (method, target, service) in [
            ("GET", "/", "one"),
            ("GET", "/exact", "two"),
            ("GET", "/exact/", "one"),
            ("GET", "/prefix/x", "two"),
            ("GET", "/prefixed", "one"),
            ("GET", "/?v=2", "two"),
            ("GET", "/?v=3&v=2", "one"),
            ("GET", "/tie", "one"),
            ("GET", "/secure", "one"),
            ("DELETE", "/", "two"),
        ] {
            let mut conn = if http2 { world.http2().await } else { world.http1().await };
            conn.send(request(method, HOST, target)).await.came_from(service);
            // The same way with a key: the fork where the way leads to what 42 changed, else the baseline.
            let fork = if service == "two" { "two-42" } else { "one" };
            conn.send(request(method, HOST, target).key("42")).await.came_from(fork);
            conn.send(request(method, &format!("pr-42.{HOST}"), target)).await.came_from(fork);
        }
        let mut conn = if http2 { world.http2().await } else { world.http1().await };
        conn.send(get(HOST, "/").header("x-version", "2")).await.came_from("two");
        conn.send(get(HOST, "/").header("x-version", "2").header("x-version", "2")).await.came_from("one");
    }
    let ca = fs::read_to_string(world.estate.folder().join("state/ca.pem")).unwrap();
    let mut tls = Conn::tls(world.listeners[1], HOST, &["h2"], roots_of(&ca)).await.unwrap();
    tls.send(get(HOST, "/secure")).await.came_from("two");
    world.send(get(HOST, "/a/../exact")).await.failed(400, "malformed_request");
    let said = world.explain(&format!("http://{HOST}/tie"), &[]).await;
    assert_eq!((&said["route"], &said["service"]), (&json!("older"), &json!("one")), "{said}");
}

#[tokio::test]
async fn shares_by_weight() {
    let share = json!({"forward": [{"service": "one", "weight": 3}, {"service": "two", "weight": 1}]});
    let (world, _controller) = world(&[route("split", share, json!({}))]).await;
    for (key, name) in [(None, "two"), (Some("42"), "two-42")] {
        let mut conn = world.http1().await;
        let mut count = 0;
        for _ in 0..2_000 {
            let call = get(HOST, "/");
            let reply = conn.send(if let Some(key) = key { call.key(key) } else { call }).await;
            assert_eq!(reply.status, 200);
            count += usize::from(reply.upstream() == name);
        }
        // 500 of 2,000, with a deviation of 19.4: six of them are too many for chance.
        assert!((384..=616).contains(&count), "{count} of 2,000 came to {name}");
    }
    // A request is counted when its answer has been sent.
    let mut metrics = world.metrics().await;
    let of =
        |metrics: &Metrics, service: &str| metrics.sum("sidetrack_requests_total", &[("service", service)]);
    eventually("all are counted", async || {
        metrics = world.metrics().await;
        of(&metrics, "one") + of(&metrics, "two") == 4_000.0
    })
    .await;
    assert!(of(&metrics, "two") > 700.0, "a share counts for its own service");
}

#[tokio::test]
async fn filters_and_rewrites() {
    let filters = json!({
        "request": {"set": [{"name": "x-set", "value": "1"}, {"name": "x-pr-id", "value": "42"}], "remove": ["x-gone"]},
        "response": {"set": [{"name": "x-answer-set", "value": "1"}], "remove": ["x-secret"]},
        "rewrite": {"host": "in.example", "path": {"prefix": "/new"}},
    });
    let (world, _controller) =
        world(&[route("r", to("two"), json!({"path": {"prefix": "/old"}, "filters": filters}))]).await;
    for (key, name) in [(None, "two"), (Some("42"), "two-42")] {
        for mut conn in [world.http1().await, world.http2().await] {
            let call = get(HOST, "/old/x?a=%20").header("x-gone", "1").header("x-set", "0");
            let call = call.answer_with("x-secret", "1").answer_with("x-answer-set", "0");
            let reply = conn.send(if let Some(key) = key { call.key(key) } else { call }).await;
            reply.came_from(name);
            let echo = reply.echo();
            assert_eq!((echo.target(), echo.host()), ("/new/x?a=%20", "in.example"));
            assert_eq!((echo.header("x-set"), echo.header("x-gone")), (Some("1"), None));
            assert_eq!(echo.header("x-pr-id"), key, "no filter gives a request a key");
            assert_eq!(echo.header("x-forwarded-host"), Some(HOST));
            assert_eq!(reply.header_lines("x-answer-set"), ["1"]);
            assert_eq!(reply.header("x-secret"), None);
        }
    }
}

#[tokio::test]
async fn redirects_keep_the_key() {
    let (world, _controller) =
        world(&[route("r", json!({"redirect": {"scheme": "https", "status": 301}}), json!({}))]).await;
    for mut conn in [world.http1().await, world.http2().await] {
        for (host, target) in [(HOST, "/a?b=c"), ("pr-42.web.preview.localhost", "/"), (HOST, "/?pr-id=42")] {
            let reply = conn.send(get(host, target)).await;
            assert_eq!(reply.status, 301);
            assert_eq!(reply.header("location"), Some(&*format!("https://{host}{target}")));
            assert!(reply.body.is_empty() && reply.lists("vary", "x-pr-id"), "{reply:?}");
        }
        // A 301 answer ends no connection.
        assert_eq!(conn.send(request("HEAD", HOST, "/")).await.status, 301);
    }
    let said = world.explain(&format!("http://pr-42.{HOST}/x"), &[]).await;
    assert_eq!(said["redirect"], json!(format!("https://pr-42.{HOST}/x")), "{said}");
}

#[tokio::test]
async fn what_can_not_be_resolved_is_500_and_a_service_that_comes_is_found() {
    let (mut world, controller) = world(&[
        route("none", json!({"forward": []}), json!({"path": {"prefix": "/none"}})),
        route("late", to("three"), json!({"path": {"prefix": "/late"}})),
        route("half", json!({"forward": [{"weight": 1}]}), json!({"path": {"prefix": "/half"}})),
    ])
    .await;
    // A name that no item has is a service without a baseline: a preview may still fork it.
    for (target, status, code) in
        [("/none", 500, "internal"), ("/half", 500, "internal"), ("/late", 404, "no_route")]
    {
        world.send(get(HOST, target)).await.failed(status, code);
        world.send(get(HOST, target).key("42")).await.failed(status, code);
    }
    let endpoint = world.estate.upstream("three").await;
    let fork = world.estate.upstream("three-43").await;
    controller.service("three", &[endpoint]);
    controller.preview("43", "three", &[fork]);
    assert_eq!(controller.acknowledged().await, Value::Null);
    world.send(get(HOST, "/late")).await.came_from("three");
    world.send(get(HOST, "/late").key("43")).await.came_from("three-43");
}

#[tokio::test]
async fn a_table_with_a_route_that_is_not_understood_is_refused() {
    let (world, controller) = world(&[route("good", to("one"), json!({}))]).await;
    controller.set("route/bad", route("bad", to("two"), json!({"path": {"prefix": "no-slash"}})));
    let error = controller.acknowledged().await;
    let error = error.as_str().unwrap();
    assert!(error.contains("route bad: path `no-slash` does not begin with `/`"), "{error}");
    world.send(get(HOST, "/")).await.came_from("one");
    controller.remove("route/bad");
    assert_eq!(controller.acknowledged().await, Value::Null);
}

#[tokio::test]
async fn time_outs_of_a_route() {
    let timeouts = |path: &str, of: Value| json!({"path": {"prefix": path}, "timeouts": of});
    let (world, _controller) = world(&[
        route("attempt", to("two"), timeouts("/attempt", json!({"backendRequest": 1000}))),
        route("whole", to("two"), timeouts("/whole", json!({"request": 1000}))),
    ])
    .await;
    for (key, name) in [(None, "two"), (Some("42"), "two-42")] {
        let call = |target: &str, act: &str| {
            let call = get(HOST, target).act(act);
            if let Some(key) = key { call.key(key) } else { call }
        };
        for mut conn in [world.http1().await, world.http2().await] {
            for target in ["/attempt", "/whole"] {
                let begun = Instant::now();
                conn.send(call(target, "hold")).await.failed(504, "upstream_timeout");
                assert!(begun.elapsed() >= Duration::from_millis(1000), "{target}");
                conn.send(call(target, "bytes 100000")).await.came_from(name);
            }
            // The second event never comes: the answer has begun, and is cut.
            let begun = Instant::now();
            assert!(conn.try_send(call("/whole", "events")).await.is_err());
            assert!(begun.elapsed() >= Duration::from_millis(1000));
        }
        // An attempt's time is up to its head only.
        let mut conn = world.http1().await;
        let opened = conn.open(call("/attempt", "events")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        // Events of above that nobody waits for any more may take a permit each; enough for all.
        (0..16).for_each(|_| world.of(name).release());
        let body = within("the second event", opened.into_body().collect()).await.unwrap().to_bytes();
        assert!(body.ends_with(b"data: second\n\n"), "{body:?}");
    }
    world.send(get(D, "/")).await.failed(404, "no_route");
}
