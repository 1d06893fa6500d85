//! HTTPRoutes: attachment, matches, filters, backends, and what is said about them.

use sidetrack_config::stream::{PathRewrite, Scheme};

use super::*;

/// What is said to the parent about `shop/web` where this is so.
fn says(gateway: Value, route: Value, others: impl IntoIterator<Item = Value>) -> (String, Vec<String>) {
    let base = [class(), gateway, service("shop/web", &[80]), route];
    let routed = planned(&world(base.into_iter().chain(others)));
    (accepted(&routed), lines(&routed))
}

#[test]
fn a_plain_route_is_served() {
    let routed = planned_rules(json!([to_web()]));
    assert_eq!(accepted(&routed), "True Accepted");
    assert_eq!(condition(parent(&routed), "ResolvedRefs").0, "True ResolvedRefs");
    assert_eq!(condition(parent(&routed), "PartiallyInvalid").0, "-");
    let parent_ref =
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw", "namespace": "infra"});
    assert_eq!(parent(&routed)["parentRef"], parent_ref);
    assert_eq!(parent(&routed)["controllerName"], "sidetrack.dev/gateway");
    assert_eq!(lines(&routed), ["shop.example.com / web.shop*1"]);
    let route = routes(&routed)[0];
    assert_eq!(&*route.name, "shop/web/0/0/shop.example.com");
    assert_eq!(&*route.rank, "2026-01-01T00:00:00Z shop/web 000000 000000");
    assert_eq!(route.scheme, Some(Scheme::Http));
    assert_eq!(routed.services, [(Name::new("shop", "web"), 80)].into());
    assert_eq!(routed.hosts, ["shop.example.com".into()].into());
    assert_eq!(status(&routed, "Gateway", "gw")["listeners"][0]["attachedRoutes"], 1);
}

#[test]
fn a_parent_that_does_not_fit_says_why() {
    let cases = [
        ("sectionName", json!("http"), "True Accepted"),
        ("sectionName", json!("absent"), "False NoMatchingParent"),
        ("port", json!(80), "True Accepted"),
        ("port", json!(81), "False NoMatchingParent"),
    ];
    for (field, value, expected) in cases {
        let route =
            with(http_route(json!([to_web()])), &format!("/spec/parentRefs/0/{field}"), value.clone());
        assert_eq!(says(gateway(json!([http()])), route, []).0, expected, "{field} {value}");
    }
    let route = with(http_route(json!([to_web()])), "/spec/parentRefs/0/sectionName", json!("http"));
    let route = with(route, "/spec/parentRefs/0/port", json!(443));
    assert_eq!(says(gateway(json!([http(), https("a.b", "x")])), route, []).0, "False NoMatchingParent");
}

#[test]
fn listeners_say_which_namespaces_may_attach() {
    let selector = |selector: Value| json!({"from": "Selector", "selector": selector});
    let cases = [
        (json!({"from": "All"}), true),
        (json!({"from": "Same"}), false),
        (json!({}), false),
        (json!({"from": "None"}), false),
        (json!({"from": "Later"}), false),
        (json!({"from": "Selector"}), false),
        (selector(json!({})), true),
        (selector(json!({"matchLabels": {"team": "shop"}})), true),
        (selector(json!({"matchLabels": {"team": "other"}})), false),
        (
            selector(
                json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "shop"]}]}),
            ),
            true,
        ),
        (
            selector(json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["shop"]}]})),
            false,
        ),
        (
            selector(json!({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]})),
            true,
        ),
        (selector(json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]})), true),
        (selector(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]})), false),
        (selector(json!({"matchExpressions": [{"key": "team", "operator": "Gt", "values": ["1"]}]})), false),
    ];
    let namespace = with(object("Namespace", "shop", json!({})), "/metadata/labels", json!({"team": "shop"}));
    for (allowed, expected) in cases {
        let listener = with(http(), "/allowedRoutes/namespaces", allowed.clone());
        let (said, lines) =
            says(gateway(json!([listener])), http_route(json!([to_web()])), [namespace.clone()]);
        assert_eq!(said, if expected { "True Accepted" } else { "False NotAllowedByListeners" }, "{allowed}");
        assert_eq!(lines.len(), usize::from(expected), "{allowed}");
    }
    let kinds = with(http(), "/allowedRoutes/kinds", json!([{"kind": "GRPCRoute"}]));
    assert_eq!(
        says(gateway(json!([kinds])), http_route(json!([to_web()])), []).0,
        "False NotAllowedByListeners"
    );
}

#[test]
fn a_listener_without_allowed_routes_takes_those_of_its_own_namespace() {
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    let route = with(http_route(json!([to_web()])), "/metadata/namespace", json!("infra"));
    let (said, _) = says(gateway(json!([listener.clone()])), route, [service("infra/web", &[80])]);
    assert_eq!(said, "True Accepted");
    assert_eq!(
        says(gateway(json!([listener])), http_route(json!([to_web()])), []).0,
        "False NotAllowedByListeners"
    );
}

#[test]
fn hosts_of_route_and_listener_are_intersected() {
    let cases: [(Option<&str>, &[&str], &[&str]); 9] = [
        (None, &[], &["*"]),
        (None, &["a.com", "*.b.com"], &["*.b.com", "a.com"]),
        (Some("a.com"), &[], &["a.com"]),
        (Some("a.com"), &["a.com", "b.com"], &["a.com"]),
        (Some("x.a.com"), &["*.a.com"], &["x.a.com"]),
        (Some("*.a.com"), &["a.com", "x.a.com", "y.x.a.com", "b.com"], &["x.a.com", "y.x.a.com"]),
        (Some("*.a.com"), &["*.x.a.com"], &["*.x.a.com"]),
        (Some("*.x.a.com"), &["*.a.com"], &["*.x.a.com"]),
        (Some("*.a.com"), &["a.com", "*.b.com"], &[]),
    ];
    for (listener, wanted, expected) in cases {
        let listeners = json!([with(http(), "/hostname", json!(listener))]);
        let route = with(http_route(json!([to_web()])), "/spec/hostnames", json!(wanted));
        let (said, lines) = says(gateway(listeners), route, []);
        let hosts: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(hosts, expected, "{listener:?} {wanted:?}");
        let expected = if expected.is_empty() { "False NoMatchingListenerHostname" } else { "True Accepted" };
        assert_eq!(said, expected, "{listener:?} {wanted:?}");
    }
}

#[test]
fn a_host_that_is_read_as_a_key_is_never_routed() {
    let route = |hosts: Value| with(http_route(json!([to_web()])), "/spec/hostnames", hosts);
    let (said, served) = says(gateway(json!([http()])), route(json!(["pr-7.preview.example.com"])), []);
    assert_eq!((said.as_str(), served.len()), ("False UnsupportedValue", 0));
    let both = json!(["pr-7.preview.example.com", "api.preview.example.com"]);
    let routed =
        planned(&world([class(), gateway(json!([http()])), service("shop/web", &[80]), route(both)]));
    assert_eq!(accepted(&routed), "True Accepted");
    assert_eq!(lines(&routed), ["api.preview.example.com / web.shop*1"]);
    assert_eq!((routed.notices.len(), routed.notices[0].reason), (1, "HostRefused"));
    assert!(routed.notices[0].message.contains("pr-7"), "{}", routed.notices[0].message);
}

#[test]
fn the_scheme_is_that_of_the_listeners() {
    let listeners = json!([http(), https("shop.example.com", "absent")]);
    let cases = [
        (json!({}), None),
        (json!({"sectionName": "http"}), Some(Scheme::Http)),
        (json!({"sectionName": "https"}), Some(Scheme::Https)),
    ];
    for (parent, scheme) in cases {
        let mut route = http_route(json!([to_web()]));
        for (field, value) in parent.as_object().unwrap() {
            route = with(route, &format!("/spec/parentRefs/0/{field}"), value.clone());
        }
        let routed =
            planned(&world([class(), gateway(listeners.clone()), service("shop/web", &[80]), route]));
        assert_eq!(
            routes(&routed).into_iter().map(|route| route.scheme).collect::<Vec<_>>(),
            [scheme],
            "{parent}"
        );
    }
}

#[test]
fn two_parents_make_one_route_and_two_entries() {
    let route = http_route(json!([to_web()]));
    let parents = json!([{"name": "gw", "namespace": "infra", "sectionName": "http"}, {"name": "gw", "namespace": "infra", "sectionName": "https"},
                         {"name": "gw", "namespace": "infra", "sectionName": "absent"}]);
    let listeners = json!([http(), https("*.example.com", "absent")]);
    let route = with(route, "/spec/parentRefs", parents);
    let routed = planned(&world([class(), gateway(listeners), service("shop/web", &[80]), route]));
    assert_eq!(routes(&routed).len(), 1);
    assert_eq!(routes(&routed)[0].scheme, None);
    let said = status(&routed, "HTTPRoute", "web")["parents"].as_array().unwrap();
    let said: Vec<_> = said.iter().map(|parent| condition(parent, "Accepted").0).collect();
    assert_eq!(said, ["True Accepted", "True Accepted", "False NoMatchingParent"]);
}

#[test]
fn matches_are_taken_over() {
    let routed = planned_rules(json!([{"matches": [
        {"path": {"type": "Exact", "value": "/a/"}, "method": "POST",
         "headers": [{"name": "X-Tenant", "value": "a"}, {"name": "x-tenant", "value": "ignored"}],
         "queryParams": [{"name": "v", "value": "1"}, {"name": "v", "value": "2"}, {"name": "V", "value": "3"}]},
        {"path": {"value": "/api/"}},
        {"path": {"type": "PathPrefix"}},
        {"headers": [{"type": "Exact", "name": "h", "value": "x"}]},
    ], "backendRefs": [{"name": "web", "port": 80}]}]));
    assert_eq!(
        lines(&routed),
        [
            "shop.example.com =/a/ web.shop*1",
            "shop.example.com /api web.shop*1",
            "shop.example.com / web.shop*1",
            "shop.example.com / web.shop*1"
        ]
    );
    let first = routes(&routed)[0];
    assert_eq!(first.method.as_deref(), Some("POST"));
    let fields = |list: &[sidetrack_config::stream::FieldMatch]| {
        list.iter().map(|field| format!("{}={}", field.name, field.value)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fields(&first.headers), "x-tenant=a");
    assert_eq!(fields(&first.query), "v=1 V=3");
    assert!(routes(&routed)[1].rank < routes(&routed)[2].rank);
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    let with_filter =
        |filter: Value| json!({"filters": [filter], "backendRefs": [{"name": "web", "port": 80}]});
    let with_match =
        |matched: Value| json!({"matches": [matched], "backendRefs": [{"name": "web", "port": 80}]});
    let set = |name: &str| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": name, "value": "x"}]}});
    let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
    let cases = [
        (with_match(path("RegularExpression", "/a.*")), "UnsupportedValue", "RegularExpression"),
        (with_match(path("Exact", "/a//b")), "UnsupportedValue", "/a//b"),
        (with_match(path("PathPrefix", "a")), "UnsupportedValue", "path `a`"),
        (with_match(path("PathPrefix", "/a/../b")), "UnsupportedValue", "/a/../b"),
        (
            with_match(json!({"headers": [{"type": "RegularExpression", "name": "h", "value": "."}]})),
            "UnsupportedValue",
            "`h`",
        ),
        (
            with_match(json!({"headers": [{"name": "bad name", "value": "."}]})),
            "UnsupportedValue",
            "bad name",
        ),
        (
            with_match(json!({"queryParams": [{"type": "RegularExpression", "name": "q", "value": "."}]})),
            "UnsupportedValue",
            "`q`",
        ),
        (with_match(json!({"method": "BAD METHOD"})), "UnsupportedValue", "BAD METHOD"),
        (
            with_filter(json!({"type": "RequestMirror", "requestMirror": {}})),
            "UnsupportedValue",
            "RequestMirror",
        ),
        (
            with_filter(json!({"type": "ExtensionRef", "extensionRef": {}})),
            "UnsupportedValue",
            "ExtensionRef",
        ),
        (with_filter(json!({"type": "CORS", "cors": {}})), "UnsupportedValue", "CORS"),
        (with_filter(json!({"type": "ExternalAuth"})), "UnsupportedValue", "ExternalAuth"),
        (with_filter(json!({"type": "URLRewrite"})), "UnsupportedValue", "says nothing"),
        (with_filter(set("X-PR-ID")), "UnsupportedValue", "x-pr-id"),
        (with_filter(set("Transfer-Encoding")), "UnsupportedValue", "transfer-encoding"),
        (with_filter(set("Host")), "UnsupportedValue", "host"),
        (
            with_filter(
                json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "x"}], "remove": ["A"]}}),
            ),
            "UnsupportedValue",
            "`a` twice",
        ),
        (
            with_filter(
                json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "x\ny"}]}}),
            ),
            "UnsupportedValue",
            "control character",
        ),
        (
            with_filter(json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "Later"}}})),
            "UnsupportedValue",
            "Later",
        ),
        (
            with_filter(json!({"type": "RequestRedirect", "requestRedirect": {}})),
            "IncompatibleFilters",
            "backendRefs",
        ),
        (
            json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 305}}]}),
            "UnsupportedValue",
            "305",
        ),
        (
            json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "ftp"}}]}),
            "UnsupportedValue",
            "ftp",
        ),
        (
            json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "a b"}}]}),
            "UnsupportedValue",
            "a b",
        ),
        (
            json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {}}, {"type": "URLRewrite", "urlRewrite": {}}]}),
            "IncompatibleFilters",
            "together",
        ),
        (json!({"filters": [set("a"), set("b")]}), "IncompatibleFilters", "twice"),
        (
            json!({"matches": [path("Exact", "/a")], "filters": [{"type": "URLRewrite", "urlRewrite": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}}]}),
            "UnsupportedValue",
            "prefix",
        ),
        (
            json!({"backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "RequestMirror"}]}]}),
            "UnsupportedValue",
            "RequestMirror",
        ),
        (
            json!({"backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "RequestRedirect", "requestRedirect": {}}]}]}),
            "UnsupportedValue",
            "backend",
        ),
        (json!({"retry": {"attempts": 2}}), "UnsupportedValue", "`retry`"),
        (json!({"sessionPersistence": {"type": "Cookie"}}), "UnsupportedValue", "`sessionPersistence`"),
        (json!({"timeouts": {"request": "10"}}), "UnsupportedValue", "`10`"),
        (json!({"timeouts": {"request": "1s", "backendRequest": "2s"}}), "UnsupportedValue", "longer"),
    ];
    for (rule, reason, word) in cases {
        let routed = planned_rules(json!([rule]));
        let (says, message) = condition(parent(&routed), "Accepted");
        assert_eq!(says, format!("False {reason}"), "{rule}: {message}");
        assert!(message.contains(word), "{rule}: {message}");
        assert_eq!(status(&routed, "Gateway", "gw")["listeners"][0]["attachedRoutes"], 0, "{rule}");
        let served = lines(&routed).iter().any(|line| line.contains("web.shop") || line.contains("redirect"));
        assert!(!served, "{rule}");
    }
}

#[test]
fn one_bad_rule_of_two_answers_500_and_the_other_is_served() {
    let bad = json!({"matches": [{"path": {"value": "/admin"}}], "filters": [{"type": "ExternalAuth"}],
                     "backendRefs": [{"name": "web", "port": 80}]});
    let routed = planned_rules(json!([to_web(), bad]));
    assert_eq!(accepted(&routed), "True Accepted");
    let (says, message) = condition(parent(&routed), "PartiallyInvalid");
    assert_eq!(says, "True UnsupportedValue");
    assert!(message.starts_with("Dropped Rule 1 (filter `ExternalAuth`"), "{message}");
    assert_eq!(lines(&routed), ["shop.example.com / web.shop*1", "shop.example.com /admin "]);
    assert_eq!(status(&routed, "Gateway", "gw")["listeners"][0]["attachedRoutes"], 1);
}

#[test]
fn filters_and_time_outs_are_taken_over() {
    let routed = planned_rules(json!([
        {"filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-A", "value": "1"}], "add": [{"name": "b", "value": "2"}], "remove": ["C"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["server"]}},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "in.example.com", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}],
         "timeouts": {"request": "10s", "backendRequest": "500ms"},
         "backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "d", "value": "4"}]}}]}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "hostname": "a.example.com", "port": 8443,
                      "path": {"type": "ReplaceFullPath", "replaceFullPath": "/y"}, "statusCode": 308}}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {}}]},
    ]));
    assert_eq!(condition(parent(&routed), "Accepted"), ("True Accepted".into(), ""));
    let first = routes(&routed)[0];
    let request = &first.filters.request;
    assert_eq!((&*request.set[0].name, &*request.add[0].name, &*request.remove[0]), ("x-a", "b", "c"));
    assert_eq!(&*first.filters.response.remove[0], "server");
    let rewrite = first.filters.rewrite.as_ref().unwrap();
    assert_eq!(rewrite.host.as_deref(), Some("in.example.com"));
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix("/x".into())));
    assert_eq!((first.timeouts.request, first.timeouts.backend_request), (Some(10_000), Some(500)));
    let Action::Forward(backends) = &first.action else { panic!("no forward") };
    assert_eq!(&*backends[0].filters.response.set[0].value, "4");
    let Action::Redirect(redirect) = &routes(&routed)[1].action else { panic!("no redirect") };
    assert_eq!((redirect.scheme, redirect.port, redirect.status), (Some(Scheme::Https), Some(8443), 308));
    assert_eq!(redirect.path, Some(PathRewrite::Full("/y".into())));
    assert!(lines(&routed)[2].ends_with("redirect 302"));
}

#[test]
fn weights_are_taken_over_and_what_cannot_be_had_keeps_its_share() {
    let back = |name: &str| json!({"name": name, "namespace": "back", "port": 80});
    let merged = |one: Value, fields: Value| {
        let mut one = one;
        one.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        one
    };
    let web = json!({"name": "web", "port": 80});
    let cases = [
        (web.clone(), "True ResolvedRefs", "web.shop*1"),
        (merged(web.clone(), json!({"weight": 0})), "True ResolvedRefs", "web.shop*0"),
        (merged(web.clone(), json!({"weight": 7})), "True ResolvedRefs", "web.shop*7"),
        (json!({"name": "both", "port": 81}), "True ResolvedRefs", "both.shop:p81*1"),
        (json!({"name": "absent", "port": 80}), "False BackendNotFound", "-*1"),
        (json!({"name": "absent", "port": 80, "weight": 5}), "False BackendNotFound", "-*5"),
        (json!({"name": "web", "port": 81}), "False BackendNotFound", "-*1"),
        (json!({"name": "web"}), "False BackendNotFound", "-*1"),
        (json!({"name": "away", "port": 80}), "False BackendNotFound", "-*1"),
        (json!({"name": "udp", "port": 80}), "False BackendNotFound", "-*1"),
        (json!({"name": "odd", "port": 80}), "False UnsupportedProtocol", "-*1"),
        (json!({"name": "web", "port": 80, "kind": "Pod"}), "False InvalidKind", "-*1"),
        (json!({"name": "web", "port": 80, "group": "example.com"}), "False InvalidKind", "-*1"),
        (back("open"), "True ResolvedRefs", "open.back*1"),
        (back("closed"), "False RefNotPermitted", "-*1"),
        (back("absent"), "False RefNotPermitted", "-*1"),
    ];
    for (backend, says, expected) in cases {
        let routed = planned(&world([
            class(),
            gateway(json!([http()])),
            service("shop/web", &[80]),
            service("shop/both", &[80, 81]),
            with(service("shop/away", &[80]), "/spec/external", json!(true)),
            with(service("shop/udp", &[80]), "/spec/udp", json!(true)),
            with(service("shop/odd", &[80]), "/spec/appProtocol", json!("mysql")),
            service("back/open", &[80]),
            service("back/closed", &[80]),
            grant(
                "back/g",
                json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}]),
                json!([{"group": "", "kind": "Service", "name": "open"}]),
            ),
            http_route(json!([{"backendRefs": [backend.clone()]}])),
        ]));
        assert_eq!(condition(parent(&routed), "ResolvedRefs").0, says, "{backend}");
        assert_eq!(accepted(&routed), "True Accepted", "{backend}");
        assert_eq!(lines(&routed), [format!("shop.example.com / {expected}")], "{backend}");
    }
    assert_eq!(lines(&planned_rules(json!([{}]))), ["shop.example.com / "], "no backend: 500");
}

#[test]
fn parents_of_other_controllers_stay_as_they_are() {
    let other = json!({"parentRef": {"name": "gw", "namespace": "infra"}, "controllerName": "example.com/other", "conditions": [{"type": "Accepted"}]});
    let stale =
        json!({"parentRef": {"name": "gone"}, "controllerName": "sidetrack.dev/gateway", "conditions": []});
    let ours = json!({"parentRef": {"name": "gw", "namespace": "infra", "kind": "Gateway"}, "controllerName": "sidetrack.dev/gateway",
                      "conditions": [{"type": "Accepted", "status": "True", "lastTransitionTime": "2026-02-02T00:00:00Z"},
                                     {"type": "PartiallyInvalid", "status": "True"}]});
    let old = json!({"parents": [stale, ours, other]});
    let base = [class(), gateway(json!([http()])), service("shop/web", &[80])];
    let routed = planned(&world(base.clone().into_iter().chain([with(
        http_route(json!([to_web()])),
        "/status",
        old.clone(),
    )])));
    let parents = status(&routed, "HTTPRoute", "web")["parents"].as_array().unwrap();
    assert_eq!(parents.len(), 2);
    assert_eq!(parents[1], other);
    assert_eq!(parents[0]["conditions"][0]["lastTransitionTime"], "2026-02-02T00:00:00Z");
    assert_eq!(condition(&parents[0], "PartiallyInvalid").0, "-");
    // Taken off our Gateway, only what others said is left.
    let route = with(with(http_route(json!([to_web()])), "/spec/parentRefs", json!([])), "/status", old);
    let routed = planned(&world(base.into_iter().chain([route])));
    assert_eq!(status(&routed, "HTTPRoute", "web")["parents"], json!([other]));
}

#[test]
fn a_route_that_is_not_for_us_is_left_alone() {
    for parent in [
        json!({"name": "absent"}),
        json!({"name": "gw", "namespace": "infra", "kind": "Service", "group": ""}),
    ] {
        let route = with(http_route(json!([to_web()])), "/spec/parentRefs", json!([parent]));
        let routed = planned(&world([class(), gateway(json!([http()])), service("shop/web", &[80]), route]));
        assert!(routed.items.is_empty());
        assert!(routed.statuses.iter().all(|write| &*write.object.kind != "HTTPRoute"));
    }
}

#[test]
fn too_much_of_anything_is_refused() {
    let rule = |count: usize| json!({"matches": vec![json!({}); count]});
    assert_eq!(accepted(&planned_rules(json!([rule(128)]))), "True Accepted");
    let routed = planned_rules(json!([rule(64), rule(65)]));
    assert_eq!((accepted(&routed).as_str(), routes(&routed).len()), ("False UnsupportedValue", 0));
    let big = json!({"name": "x", "value": "v".repeat(4000)});
    let fields: Vec<Value> = (0..60).map(|n| with(big.clone(), "/name", json!(format!("x{n}")))).collect();
    let modifier = |kind: &str, field: &str| {
        let mut filter = json!({"type": kind});
        filter[field] = json!({"set": fields});
        filter
    };
    let filters = json!([
        modifier("RequestHeaderModifier", "requestHeaderModifier"),
        modifier("ResponseHeaderModifier", "responseHeaderModifier")
    ]);
    let (says, message) = {
        let routed = planned_rules(json!([{"filters": filters}]));
        let (says, message) = condition(parent(&routed), "Accepted");
        (says, message.to_owned())
    };
    assert_eq!(says, "False UnsupportedValue", "{message}");
    let hosts: Vec<String> = (0..70).map(|n| format!("h{n}.example.com")).collect();
    let route = with(http_route(json!([to_web()])), "/spec/hostnames", json!(hosts));
    let routed = planned(&world([class(), gateway(json!([http()])), service("shop/web", &[80]), route]));
    assert_eq!((routes(&routed).len(), routed.notices[0].reason), (64, "HostRefused"));
}

#[test]
fn the_older_of_two_that_match_the_same_serves_it_and_the_other_is_told() {
    let other = |created: &str, path: &str| {
        let route = http_route(
            json!([{"matches": [{"path": {"value": path}}], "backendRefs": [{"name": "web", "port": 80}]}]),
        );
        let route = with(
            with(route, "/metadata/name", json!("other")),
            "/metadata/creationTimestamp",
            json!(created),
        );
        planned(&world([
            class(),
            gateway(json!([http()])),
            service("shop/web", &[80]),
            http_route(json!([to_web()])),
            route,
        ]))
    };
    for (created, loser) in
        [("2025-01-01T00:00:00Z", "web"), ("2026-01-02T00:00:00Z", "other"), ("2026-01-01T00:00:00Z", "web")]
    {
        let routed = other(created, "/");
        assert_eq!(routed.notices.len(), 1, "{created}");
        assert_eq!(
            (routed.notices[0].reason, &*routed.notices[0].about.name.name),
            ("SameRoute", loser),
            "{created}"
        );
    }
    assert!(other("2025-01-01T00:00:00Z", "/else").notices.is_empty());
}
