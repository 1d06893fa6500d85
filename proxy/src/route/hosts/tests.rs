//! The index finds what a walk over all routes would.

use std::cmp::Reverse;

use proptest::prelude::*;
use sidetrack_config::model::{Carriers, FieldMatch, Scheme};

use super::*;
use crate::fixture::estate;
use crate::head::PlainHead;

fn carriers() -> &'static Carriers {
    &estate().estate.carriers
}

fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix("*.") {
        Some(below) => HostPattern::Below(below.into()),
        None if host == "*" => HostPattern::Any,
        None => HostPattern::Exact(host.into()),
    }
}

/// `=/path` is an exact one.
fn route(host: &str, path: &str) -> Route {
    let mut route = Route::to(pattern(host), path.trim_start_matches('='), 0);
    if let Some(exact) = path.strip_prefix('=') {
        route.path = PathMatch::Exact(exact.into());
    }
    route
}

fn field(text: &str) -> FieldMatch {
    let (name, value) = text.split_once('=').unwrap();
    FieldMatch { name: name.into(), value: value.into() }
}

#[test]
fn most_specific_host_then_longest_prefix_in_whole_segments() {
    let list = [
        ("a.example.com", "/"),
        ("a.example.com", "/api/checkout"),
        ("*.example.com", "/"),
        ("*.example.com", "/only-below"),
        ("*", "/"),
        ("b.example.com", "/api"),
        ("*.b.example.com", "/"),
        ("a.example.com", "=/api/checkout/7"),
        ("a.example.com", "=/one"),
    ];
    let table = Routes::new(&list.map(|(host, path)| route(host, path)), carriers());
    let found = |host: &str, path: &str| table.find(host, path, |_| true).map(|rule| rule.index);
    assert_eq!(found("a.example.com", "/"), Some(0));
    assert_eq!(found("a.example.com", "/api/checkout"), Some(1));
    assert_eq!(found("a.example.com", "/api/checkout/7/x"), Some(1));
    assert_eq!(found("a.example.com", "/api/checkout/7"), Some(7));
    assert_eq!(found("a.example.com", "/api/checkout/7/"), Some(1), "exact is exact");
    assert_eq!(found("a.example.com", "/one"), Some(8));
    assert_eq!(found("a.example.com", "/one/two"), Some(0));
    assert_eq!(found("a.example.com", "/api/checkouts"), Some(0));
    assert_eq!(found("a.example.com", "/api"), Some(0));
    assert_eq!(found("x.y.example.com", "/"), Some(2));
    assert_eq!(found("x.example.com", "/only-below/1"), Some(3));
    assert_eq!(found("example.com", "/"), Some(4), "the wildcard is for hosts below");
    assert_eq!(found("b.example.com", "/api/1"), Some(5));
    assert_eq!(found("b.example.com", "/other"), Some(2), "a host without such a path falls to the next");
    assert_eq!(found("c.b.example.com", "/"), Some(6));
}

#[test]
fn the_order_of_the_gateway_api() {
    let with = |change: &dyn Fn(&mut Route)| {
        let mut route = route("a.test", "/");
        change(&mut route);
        route
    };
    let list = [
        with(&|_| {}),
        with(&|route| route.query = vec![field("v=1")]),
        with(&|route| route.headers = vec![field("x-a=1")]),
        with(&|route| route.headers = vec![field("x-a=1"), field("x-b=1")]),
        with(&|route| route.method = Some("POST".into())),
        with(&|route| {
            route.headers = vec![field("x-a=1")];
            route.rank = "2".into();
        }),
        with(&|route| {
            route.headers = vec![field("x-a=1")];
            route.rank = "1".into();
        }),
        route("a.test", "=/"),
        route("*.test", "=/"),
    ];
    let table = Routes::new(&list, carriers());
    let found = |method: &str, url: &str, fields: &[&str]| {
        let mut head = PlainHead { method: method.to_owned(), ..PlainHead::get(url) };
        for text in fields {
            let (name, value) = text.split_once('=').unwrap();
            head = head.with(name, value);
        }
        table.find("a.test", &head.path, |rule| rule.fits(&head, Some("pr-id"))).map(|rule| rule.index)
    };
    assert_eq!(found("GET", "a.test/", &[]), Some(7), "exact before prefix");
    assert_eq!(found("GET", "a.test/x", &[]), Some(0));
    assert_eq!(found("GET", "a.test/x?v=1", &[]), Some(1));
    assert_eq!(found("GET", "a.test/x?v=1", &["x-a=1"]), Some(2), "rank decides: the empty one is smallest");
    assert_eq!(found("GET", "a.test/x", &["x-a=1", "x-b=1"]), Some(3));
    assert_eq!(found("POST", "a.test/x", &["x-a=1", "x-b=1"]), Some(4), "a method before fields");
    let orders: Vec<_> = [4, 3, 2, 6, 5, 1, 0].map(|at: usize| table.rules[at].order).into();
    assert_eq!(orders, (1..=7).map(|place| (place, 7)).collect::<Vec<_>>());
}

#[test]
fn conditions_on_fields_query_and_scheme() {
    let fits = |change: &dyn Fn(&mut Route), head: &PlainHead| {
        let mut route = route("*", "/");
        change(&mut route);
        Routes::new(&[route], carriers()).find("a", "/", |rule| rule.fits(head, Some("pr-id"))).is_some()
    };
    let get = PlainHead::get;
    let header = |wanted: &'static str| move |route: &mut Route| route.headers = vec![field(wanted)];
    let query = |wanted: &'static str| move |route: &mut Route| route.query = vec![field(wanted)];
    assert!(fits(&header("x-a=1"), &get("a").with("x-a", "1")));
    assert!(!fits(&header("x-a=1"), &get("a").with("x-a", "12")));
    assert!(!fits(&header("x-a=1"), &get("a").with("x-b", "1")));
    assert!(!fits(&header("x-a="), &get("a")), "an absent field is not an empty one");
    assert!(fits(&header("x-a=1,2"), &get("a").with("x-a", "1").with("x-b", "0").with("x-a", "2")));
    assert!(!fits(&header("x-a=1"), &get("a").with("x-a", "1").with("x-a", "2")), "lines are one list");
    assert!(fits(&query("v=a b&"), &get("a/?u=1&%76=a%20b%26&v=2")), "decoded, the first one");
    assert!(!fits(&query("v=2"), &get("a/?v=1&v=2")));
    assert!(fits(&query("v="), &get("a/?v")));
    assert!(!fits(&query("v="), &get("a/")));
    assert!(!fits(&query("pr-id=42"), &get("a/?pr-id=42")), "ours does not go onward");
    let scheme = |scheme| move |route: &mut Route| route.scheme = Some(scheme);
    assert!(fits(&scheme(Scheme::Https), &get("https://a/")));
    assert!(!fits(&scheme(Scheme::Https), &get("http://a/")));
    assert!(fits(&scheme(Scheme::Http), &get("http://a/")));
    let method = |name: &'static str| move |route: &mut Route| route.method = Some(name.into());
    assert!(!fits(&method("GET"), &PlainHead { method: "HEAD".to_owned(), ..get("a") }));
    assert!(fits(&method("GET"), &PlainHead { method: "CONNECT".to_owned(), ..get("a") }), "a WebSocket");
}

#[test]
fn what_a_lenient_server_would_read() {
    for (path, read) in [
        ("/a/b", None),
        ("/a.b/c..d", None),
        ("/a/../b", Some("/b")),
        ("/a/%2e%2E/b", Some("/b")),
        ("/a%2fb", Some("/a/b")),
        ("//a///b/", Some("/a/b/")),
        ("/a/b/..", Some("/a/")),
        ("/a/.", Some("/a/")),
        ("/../..", Some("/")),
        ("/%61dmin", Some("/admin")),
        (r"/x\..\y", Some("/y")),
        ("/a%5c..%5Cb", Some("/b")),
        ("/a%20b%2541%zz%4", None),
        ("/%\u{e4}", None),
    ] {
        assert_eq!(normalised(path).as_deref(), read, "{path}");
    }
}

/// A route with conditions that requests of [`any_head`] often meet.
fn any_route() -> impl Strategy<Value = Route> {
    let path = prop_oneof!["=(/[xy]){1,2}/?", "(/[xy]){0,3}"];
    let fields = || prop::collection::vec("[ab]=[12]", 0..3);
    let scheme = prop::option::of(prop::sample::select(vec![Scheme::Http, Scheme::Https]));
    let method = prop::option::of(prop::sample::select(vec!["GET", "POST"]));
    ("(\\*\\.)?[ab]\\.[cd]|\\*", path, method, fields(), fields(), scheme, "[12]?").prop_map(
        |(host, path, method, headers, query, scheme, rank)| {
            let mut route = route(&host, if path.is_empty() { "/" } else { &path });
            route.method = method.map(Into::into);
            route.headers = headers.iter().map(|text| field(text)).collect();
            route.query = query.iter().map(|text| field(text)).collect();
            route.scheme = scheme;
            route.rank = rank.into();
            route
        },
    )
}

fn any_head() -> impl Strategy<Value = PlainHead> {
    let method = prop::sample::select(vec!["GET", "POST"]);
    let pairs = || prop::collection::btree_map("[ab]", "[12]", 0..3);
    let url = ("(https://)?([ab]\\.)?[ab]\\.[cd]", "(/[xyz]{1,2}){1,4}/?");
    (method, url, pairs(), pairs()).prop_map(|(method, (host, path), query, fields)| {
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut head = PlainHead::get(&format!("{host}{path}?{}", query.join("&")));
        head.method = method.to_owned();
        fields.iter().fold(head, |head, (name, value)| head.with(name, value))
    })
}

/// The rules of the specification, one after the other, over all routes.
fn naive(list: &[Route], head: &PlainHead) -> Option<usize> {
    let host_fits = |host: &HostPattern| match host {
        HostPattern::Exact(name) => **name == *head.authority,
        HostPattern::Below(name) => head.authority.ends_with(&format!(".{name}")),
        HostPattern::Any => true,
    };
    let path_fits = |path: &PathMatch| match path {
        PathMatch::Exact(path) => **path == *head.path,
        PathMatch::Prefix(path) => {
            &**path == "/" || **path == *head.path || head.path.starts_with(&format!("{path}/"))
        }
    };
    let has_field = |field: &FieldMatch| {
        head.fields.iter().any(|(name, value)| *name == *field.name && *value == field.value.as_bytes())
    };
    let query = head.query.as_deref().unwrap_or_default();
    let has_parameter =
        |field: &FieldMatch| query.split('&').any(|pair| pair == format!("{}={}", field.name, field.value));
    let scheme = if head.is_secure { Scheme::Https } else { Scheme::Http };
    let fits = |route: &Route| {
        host_fits(&route.host)
            && path_fits(&route.path)
            && route.method.as_deref().is_none_or(|method| method == head.method)
            && route.headers.iter().all(has_field)
            && route.query.iter().all(has_parameter)
            && route.scheme.is_none_or(|wanted| wanted == scheme)
    };
    let host_rank = |host: &HostPattern| match host {
        HostPattern::Exact(_) => (2, 0),
        HostPattern::Below(name) => (1, name.len()),
        HostPattern::Any => (0, 0),
    };
    let path_rank = |path: &PathMatch| match path {
        PathMatch::Exact(_) => (1, 0),
        PathMatch::Prefix(path) => (0, path.len()),
    };
    let found = list.iter().enumerate().filter(|(_, route)| fits(route)).min_by_key(|(at, route)| {
        (
            Reverse(host_rank(&route.host)),
            Reverse(path_rank(&route.path)),
            route.method.is_none(),
            Reverse(route.headers.len()),
            Reverse(route.query.len()),
            route.rank.clone(),
            *at,
        )
    });
    found.map(|(at, _)| at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_agrees_with_a_walk_over_all(
        list in prop::collection::vec(any_route(), 0..14),
        heads in prop::collection::vec(any_head(), 1..6),
    ) {
        let table = Routes::new(&list, carriers());
        for head in heads {
            let found = table.find(&head.authority, &head.path, |rule| rule.fits(&head, Some("pr-id")));
            prop_assert_eq!(found.map(|rule| rule.index), naive(&list, &head), "{:?}", head);
        }
    }

    #[test]
    fn normalising_ends(path in "/[a./%2eEfF]{0,40}") {
        if let Some(once) = normalised(&path) {
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.contains("//") && !once.contains("/../"));
        }
    }
}
