//! Routes of a stream on real sockets: one worker, upstreams that say what they received, a client of exact bytes.

mod world;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use world::{Answer, World};

/// A route of the stream for `host` that does `action`.
fn route(name: &str, host: &str, action: Value) -> Value {
    json!({"name": name, "host": host, "path": {"prefix": "/"}, "rank": name, "action": action})
}

/// The same, with further members.
fn with(mut route: Value, more: Value) -> Value {
    route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    route
}

fn to(service: &str) -> Value {
    json!({"forward": [{"service": service, "weight": 1}]})
}

#[test]
fn each_condition_leads_elsewhere_and_each_meets_its_fork() {
    let host = "a.preview.localhost";
    let world = World::new(&[
        route("all", host, to("one")),
        with(route("exact", host, to("two")), json!({"path": {"exact": "/exact"}})),
        with(route("prefix", host, to("two")), json!({"path": {"prefix": "/prefix"}})),
        with(route("method", host, to("two")), json!({"path": {"prefix": "/m"}, "method": "POST"})),
        with(route("header", host, to("two")), json!({"headers": [{"name": "X-Version", "value": "2"}]})),
        with(route("query", host, to("two")), json!({"query": [{"name": "v", "value": "a b"}]})),
        with(route("scheme", host, to("two")), json!({"path": {"prefix": "/tls"}, "scheme": "https"})),
    ]);
    for (method, target, fields, service) in [
        ("GET", "/", "", "one"),
        ("GET", "/exact", "", "two"),
        ("GET", "/exact/", "", "one"),
        ("GET", "/prefix/x", "", "two"),
        ("GET", "/prefixed", "", "one"),
        ("GET", "/m", "", "one"),
        ("POST", "/m/x", "Content-Length: 0\r\n", "two"),
        ("GET", "/", "X-Version: 2\r\n", "two"),
        ("GET", "/", "X-Version: 2\r\nX-Version: 3\r\n", "one"),
        ("GET", "/?v=a%20b", "", "two"),
        ("GET", "/?v=ab&v=a%20b", "", "one"),
        ("GET", "/tls", "", "one"),
    ] {
        world.ask(method, host, target, fields).came_from(service);
        // 42 forks two, and nothing else: a request that takes another way stays on the baseline.
        let fields = format!("{fields}X-PR-ID: 42\r\n");
        let (fork, receipt) = match service {
            "two" => ("two-42", "two@42;reason=fork"),
            other => (other, "one@baseline;reason=no_fork"),
        };
        let keyed = world.ask(method, host, target, &fields);
        keyed.came_from(fork);
        assert!(keyed.head.contains(&format!("x-pr-route: {receipt};")), "{}", keyed.head);
        // The same by host: the routes see the host without its key.
        world.ask(method, "pr-42.a.preview.localhost", target, fields.as_str()).came_from(fork);
    }
    let odd = world.ask("GET", host, "/x/../exact", "");
    assert_eq!(odd.status, 400, "a lenient server would read another route");
    assert!(odd.body.contains("malformed_request"), "{}", odd.body);
}

#[test]
fn backends_share_by_weight_and_each_share_has_its_fork() {
    let share = json!({"forward": [{"service": "one", "weight": 90}, {"service": "two", "weight": 10}, {"service": "one", "weight": 0}]});
    let world = World::new(&[route("split", "a.test", share)]);
    let mut asked = world.connect();
    let count = |asked: &mut world::Client, fields: &str, name: &str| {
        (0..2_000).filter(|_| asked.ask("GET", "a.test", "/", fields).upstream() == name).count()
    };
    // 200 of 2,000, with a deviation of 13.4: six of them are too many for chance.
    let two = count(&mut asked, "", "two");
    assert!((120..=280).contains(&two), "{two} of 2,000 took a tenth");
    let fork = count(&mut asked, "X-PR-ID: 42\r\n", "two-42");
    assert!((120..=280).contains(&fork), "{fork} of 2,000 took the fork of a tenth");
    assert_eq!(world.seen("two-42"), fork, "nobody without a key came to the fork");
}

#[test]
fn filters_change_request_and_answer_and_nothing_of_ours() {
    let filters = json!({
        "request": {"set": [{"name": "X-Set", "value": "rule"}, {"name": "X-PR-ID", "value": "42"}, {"name": "Baggage", "value": "pr-id=42"}],
                    "add": [{"name": "X-Add", "value": "rule"}], "remove": ["X-Gone", "X-Forwarded-For"]},
        "response": {"set": [{"name": "X-Upstream-Answer", "value": "set"}], "add": [{"name": "Vary", "value": "Accept"}], "remove": ["X-Secret", "X-PR-Route"]},
    });
    let backend = json!({"request": {"add": [{"name": "X-Add", "value": "backend"}], "set": [{"name": "X-Set", "value": "backend"}]}});
    let action = json!({"forward": [{"service": "two", "weight": 1, "filters": backend}]});
    let world = World::new(&[with(route("r", "a.test", action), json!({ "filters": filters }))]);
    for (fields, upstream) in [("", "two"), ("X-PR-ID: 42\r\n", "two-42")] {
        let sent = format!(
            "{fields}X-Set: client\r\nX-Add: client\r\nX-Gone: 1\r\nX-Gone: 2\r\nConnection: X-Set\r\n"
        );
        let answer = world.ask("GET", "a.test", "/", &sent);
        answer.came_from(upstream);
        assert_eq!(answer.echoed("x-set"), ["backend"], "Connection can't take it away");
        assert_eq!(answer.echoed("x-add"), ["client", "rule", "backend"]);
        assert_eq!(answer.echoed("x-gone"), [""; 0]);
        assert_eq!(answer.echoed("x-forwarded-for"), ["127.0.0.1"]);
        let key: &[&str] = if fields.is_empty() { &[] } else { &["42"] };
        assert_eq!(answer.echoed("x-pr-id"), key, "no filter gives a request a key");
        assert_eq!(answer.echoed("baggage").len(), key.len());
        assert_eq!(answer.fields("x-upstream-answer"), ["set"]);
        assert_eq!(answer.fields("x-secret"), [""; 0]);
        assert_eq!(answer.fields("vary"), ["Accept, X-PR-ID"]);
        assert_eq!(answer.fields("x-pr-route").len(), key.len(), "{}", answer.head);
    }
}

#[test]
fn a_rewrite_names_another_host_and_path() {
    let rewrite = |host: Value, path: Value| json!({"filters": {"rewrite": {"host": host, "path": path}}});
    let prefix = json!({"prefix": "/new/"});
    let backend = json!({"rewrite": {"host": "backend.example"}});
    let action = json!({"forward": [{"service": "two", "weight": 1, "filters": backend}]});
    let at = |path: &str| json!({"path": {"prefix": path}});
    let world = World::new(&[
        with(
            with(route("p", "a.preview.localhost", to("two")), rewrite(Value::Null, prefix.clone())),
            at("/old"),
        ),
        with(
            with(
                route("f", "a.preview.localhost", to("two")),
                rewrite("in.example".into(), json!({"full": "/one"})),
            ),
            at("/full"),
        ),
        with(
            with(route("b", "a.preview.localhost", action), rewrite("in.example".into(), prefix)),
            at("/backend"),
        ),
    ]);
    for (target, host, onward) in [
        ("/old", "pr-42.a.preview.localhost", "/new"),
        ("/old/x?a=1&pr-id=42&b=%20", "pr-42.a.preview.localhost", "/new/x?a=1&b=%20"),
        ("/full/x?q", "in.example", "/one?q"),
        ("/backend/x", "backend.example", "/new/x"),
        ("/pr-42/old/x", "pr-42.a.preview.localhost", "/new/x"),
    ] {
        let answer = world.ask("GET", "pr-42.a.preview.localhost", target, "");
        answer.came_from("two-42");
        assert_eq!(answer.target(), onward, "{target}");
        assert_eq!(answer.echoed("host"), [host], "{target}");
        assert_eq!(answer.echoed("x-forwarded-host"), ["pr-42.a.preview.localhost"], "{target}");
    }
    let plain = world.ask("GET", "a.preview.localhost", "/old/x", "");
    plain.came_from("two");
    assert_eq!((plain.target(), plain.echoed("host")), ("/new/x", vec!["a.preview.localhost"]));
}

#[test]
fn a_redirect_keeps_the_key() {
    let world = World::new(&[route(
        "r",
        "preview.localhost",
        json!({"redirect": {"scheme": "https", "status": 308, "path": {"prefix": "/v2"}}}),
    )]);
    for (host, target, location) in [
        ("preview.localhost:8080", "/a?b", "https://preview.localhost/v2/a?b"),
        ("PR-42.preview.localhost", "/a", "https://PR-42.preview.localhost/v2/a"),
        ("preview.localhost", "/pr-42/a?pr-id=42", "https://preview.localhost/pr-42/v2/a?pr-id=42"),
    ] {
        let answer = world.ask("GET", host, target, "");
        assert_eq!((answer.status, answer.fields("location")), (308, vec![location]));
        assert_eq!(answer.fields("cache-control"), ["no-store"]);
        assert_eq!((answer.fields("vary"), answer.body.as_str()), (vec!["X-PR-ID"], ""));
        assert_eq!(answer.fields("x-pr-route"), [""; 0], "nothing was decided about a service");
    }
    assert_eq!(world.seen("one") + world.seen("two") + world.seen("two-42"), 0);
}

#[test]
fn a_backend_that_is_not_there_is_500() {
    let world = World::new(&[
        route("none", "a.test", json!({"forward": []})),
        route("unknown", "b.test", to("nobody")),
        route("zero", "c.test", json!({"forward": [{"service": "two", "weight": 0}]})),
    ]);
    for host in ["a.test", "b.test", "c.test"] {
        for fields in ["", "X-PR-ID: 42\r\n"] {
            let answer = world.ask("GET", host, "/", fields);
            assert_eq!(answer.status, 500, "{host}: {}", answer.body);
            assert!(answer.body.contains("\"code\":\"internal\""), "{host}: {}", answer.body);
        }
    }
}

#[test]
fn time_outs_bound_the_head_and_the_whole_answer() {
    let timeouts = |of: Value| json!({ "timeouts": of });
    let world = World::new(&[
        with(route("backend", "backend.test", to("two")), timeouts(json!({"backendRequest": 500}))),
        with(route("whole", "whole.test", to("two")), timeouts(json!({"request": 500}))),
        with(route("none", "none.test", to("two")), timeouts(json!({"request": 0, "backendRequest": 0}))),
    ]);
    for fields in ["", "X-PR-ID: 42\r\n"] {
        for host in ["backend.test", "whole.test"] {
            let begun = Instant::now();
            let answer = world.ask("GET", host, "/slow-head", fields);
            assert_eq!(answer.status, 504, "{host}: {}", answer.body);
            assert!(
                answer.body.contains("upstream_timeout") && answer.body.contains("500ms"),
                "{}",
                answer.body
            );
            assert!(begun.elapsed() >= Duration::from_millis(500), "{host}");
        }
        let cut = world.ask("GET", "whole.test", "/slow-body", fields);
        assert_eq!((cut.status, cut.is_whole()), (200, false), "the body is cut: {}", cut.body);
        let whole = world.ask("GET", "backend.test", "/slow-body", fields);
        assert_eq!((whole.status, whole.is_whole()), (200, true), "a head in time is all that was asked for");
        for target in ["/slow-head", "/slow-body"] {
            let answer = world.ask("GET", "none.test", target, fields);
            assert_eq!((answer.status, answer.is_whole()), (200, true), "{target}");
        }
        let quick: Answer = world.ask("GET", "whole.test", "/", fields);
        assert_eq!((quick.status, quick.is_whole()), (200, true));
    }
}
