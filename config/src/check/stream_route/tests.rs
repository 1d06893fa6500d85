//! What a route of the stream may say, and what is told where it may not.

use serde_json::{Value, json};

use super::*;
use crate::model::{HostPattern, Scheme};

const FULL: &str = r#"{
    "name": "shop/web/0/1/shop.example.com", "host": "Shop.example.com", "path": {"prefix": "/api/"},
    "method": "GET", "headers": [{"name": "X-Tenant", "value": "a b"}], "query": [{"name": "v", "value": "é 2"}],
    "scheme": "https", "rank": "2026-01-01T00:00:00Z/shop/web/0/1",
    "filters": {"request": {"set": [{"name": "X-A", "value": "1"}], "remove": ["X-B"]},
                "rewrite": {"host": "inner.example.com", "path": {"prefix": ""}}},
    "timeouts": {"request": 1500, "backendRequest": 0},
    "action": {"forward": [{"service": "web.shop", "weight": 3}, {"service": "gone.shop", "weight": 1},
                           {"weight": 0, "filters": {"response": {"add": [{"name": "X-C", "value": "2"}]}}}]}
}"#;

fn full() -> Value {
    serde_json::from_str(FULL).unwrap()
}

fn taken(value: Value) -> Result<Route, String> {
    let route: stream::Route = serde_json::from_value(value).unwrap();
    read_route(&route, |name| (name == "web.shop").then_some(7)).map_err(|error| error.to_string())
}

#[test]
fn everything_is_taken_over() {
    let route = taken(full()).unwrap();
    assert_eq!(route.host, HostPattern::Exact("shop.example.com".into()));
    assert_eq!(route.path, PathMatch::Prefix("/api".into()));
    assert_eq!(route.method.as_deref(), Some("GET"));
    assert_eq!(*route.headers, [FieldMatch { name: "x-tenant".into(), value: "a b".into() }]);
    assert_eq!(*route.query, [FieldMatch { name: "v".into(), value: "é 2".into() }]);
    assert_eq!(route.scheme, Some(Scheme::Https));
    assert_eq!(&*route.rank, "2026-01-01T00:00:00Z/shop/web/0/1");
    assert_eq!(*route.filters.request.set, [FieldMatch { name: "x-a".into(), value: "1".into() }]);
    assert_eq!(*route.filters.request.remove, ["x-b".into()]);
    let rewrite = route.filters.rewrite.unwrap();
    assert_eq!(rewrite.host.as_deref(), Some("inner.example.com"));
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix("/".into())), "empty takes the prefix away");
    assert_eq!(route.timeouts.request, Some(Duration::from_millis(1500)));
    assert_eq!(route.timeouts.backend_request, Some(Duration::ZERO));
    let Action::Forward(backends) = route.action else { panic!("no forward") };
    let said: Vec<_> = backends.iter().map(|backend| (backend.service, backend.weight)).collect();
    assert_eq!(said, [(Some(7), 3), (None, 1), (None, 0)]);
    assert_eq!(backends[2].filters.response.add.len(), 1);
}

#[test]
fn a_redirect_is_taken_over() {
    let mut route = full();
    route["action"] = json!({"redirect": {"scheme": "https", "host": "Other.example.com", "port": 8443, "path": {"full": "/x"}, "status": 308}});
    let Action::Redirect(to) = taken(route).unwrap().action else { panic!("no redirect") };
    assert_eq!((to.status, to.port, to.host.as_deref()), (308, Some(8443), Some("other.example.com")));
    assert_eq!(to.path, Some(PathRewrite::Full("/x".into())));
}

#[test]
fn what_is_not_allowed_is_told() {
    let many: Vec<Value> = (0..65).map(|n| json!({"name": format!("x-{n}"), "value": ""})).collect();
    let redirect = |change: Value| {
        let mut to = json!({"status": 302});
        to.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "redirect": to })
    };
    for (pointer, value, said) in [
        ("/name", json!(""), "its name is empty"),
        ("/name", json!("x".repeat(1025)), "its name is longer than 1024 bytes"),
        ("/rank", json!("x".repeat(1025)), "its rank is longer than 1024 bytes"),
        (
            "/host",
            json!("a*.example.com"),
            "host `a*.example.com` has a `*` that is not the whole first label",
        ),
        ("/path", json!({"prefix": "api"}), "path `api` does not begin with `/`"),
        ("/path", json!({"exact": "/a/../b"}), "path `/a/../b` has `//`, `.`, `..`, `%2e` or `%2f`"),
        ("/path", json!({"exact": "/a?b"}), "path `/a?b` has the character `?`"),
        ("/path", json!({"exact": "/a"}), "it replaces a prefix and matches an exact path"),
        ("/method", json!("G T"), "method `G T` has a character"),
        ("/headers", json!(many), "it has more than 64 entries for header match"),
        ("/headers", json!([{"name": "a:b", "value": ""}]), "header match `a:b` has a character"),
        ("/headers", json!([{"name": "a", "value": "1\r\nb: 2"}]), "has a control character"),
        ("/headers", json!([{"name": "a", "value": "x".repeat(4097)}]), "is longer than 4096 bytes"),
        ("/query", json!([{"name": "", "value": ""}]), "a query match has an empty name"),
        (
            "/filters/request/set",
            json!([{"name": "a", "value": "1\n2"}]),
            "request header `1\\n2` has a control",
        ),
        ("/filters/request/remove", json!(["a b"]), "request header `a b` has a character"),
        ("/filters/rewrite/host", json!("a b"), "new host `a b` is not a DNS name"),
        ("/filters/rewrite/path", json!({"full": "x"}), "new path `x` does not begin with `/`"),
        ("/filters/rewrite/path", json!({"prefix": "x"}), "new path prefix `x` does not begin with `/`"),
        ("/timeouts/request", json!(u64::MAX), "is longer than 3650 days"),
        ("/action", redirect(json!({"status": 200})), "redirect status 200 is not 301, 302, 303, 307 or 308"),
        ("/action", redirect(json!({"port": 0})), "redirect port 0 is not"),
        ("/action", redirect(json!({"host": "*.a"})), "redirect host `*.a` is not a DNS name"),
        ("/action", json!({"forward": vec![json!({"weight": 1}); 65]}), "it has more than 64 backends"),
    ] {
        let mut route = full();
        *route.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let error = taken(route).expect_err(said);
        assert!(error.contains(said), "{pointer}: {error}");
        assert!(error.len() < 400, "{error}");
        if pointer != "/name" {
            assert!(error.starts_with("route shop/web/0/1/shop.example.com: "), "{error}");
        }
    }
}
