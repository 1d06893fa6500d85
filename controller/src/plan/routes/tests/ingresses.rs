//! Ingresses.

use super::*;

fn ingress(spec: Value) -> Value {
    with(object("Ingress", "shop/in", spec), "/spec/ingressClassName", json!("sidetrack"))
}

fn path(kind: &str, path: Value, service: Value) -> Value {
    json!({"pathType": kind, "path": path, "backend": {"service": service}})
}

fn web() -> Value {
    json!({"name": "web", "port": {"number": 80}})
}

fn planned_ingress(spec: Value) -> Routed {
    planned(&world([ingress(spec), service("shop/web", &[80]), service("shop/both", &[80, 81])]))
}

#[test]
fn rules_and_the_default_backend_are_served() {
    let routed = planned_ingress(json!({
        "defaultBackend": {"service": web()},
        "rules": [
            {"host": "shop.example.com", "http": {"paths": [
                path("Exact", json!("/a"), web()),
                path("Prefix", json!("/b/"), json!({"name": "both", "port": {"name": "p81"}})),
                path("ImplementationSpecific", json!("/c"), json!({"name": "both", "port": {"number": 80}})),
            ]}},
            {"http": {"paths": [path("Prefix", Value::Null, web())]}},
            {"host": "rest.example.com"},
        ],
    }));
    assert_eq!(
        lines(&routed),
        [
            "shop.example.com =/a web.shop*1",
            "shop.example.com /b both.shop:p81*1",
            "shop.example.com /c both.shop:p80*1",
            "* / web.shop*1",
            "rest.example.com / web.shop*1",
            "* / web.shop*1",
        ]
    );
    assert!(routed.notices.is_empty(), "{:?}", routed.notices);
    assert_eq!(routes(&routed)[0].scheme, None);
    assert_eq!(&*routes(&routed)[1].name, "ingress/shop/in/0/1/shop.example.com");
    let expected =
        [("both", 80), ("both", 81), ("web", 80)].map(|(name, port)| (Name::new("shop", name), port));
    assert_eq!(routed.services, expected.into());
    let addresses =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}});
    assert_eq!(*status(&routed, "Ingress", "in"), addresses);
}

#[test]
fn ingresses_of_other_classes_are_left_alone() {
    let base = ingress(json!({"defaultBackend": {"service": web()}}));
    for class in [json!("nginx"), Value::Null] {
        let other = with(base.clone(), "/spec/ingressClassName", class);
        let routed = planned(&world([other, service("shop/web", &[80])]));
        assert!(routed.items.is_empty() && routed.statuses.is_empty());
    }
}

#[test]
fn what_cannot_be_had_is_told_and_answers_500() {
    let cases = [
        (json!({"service": {"name": "absent", "port": {"number": 80}}}), "no Service `shop/absent`"),
        (json!({"service": {"name": "web", "port": {"number": 81}}}), "no TCP port 81"),
        (json!({"service": {"name": "web", "port": {"name": "admin"}}}), "no TCP port `admin`"),
        (json!({"resource": {"kind": "Bucket", "name": "b"}}), "no Service"),
    ];
    for (backend, word) in cases {
        let routed = planned_ingress(json!({"defaultBackend": backend}));
        assert_eq!(lines(&routed), ["* / -*1"], "{backend}");
        assert_eq!(routed.notices[0].reason, "BackendNotFound", "{backend}");
        assert!(routed.notices[0].message.contains(word), "{:?}", routed.notices);
    }
}

#[test]
fn hosts_and_paths_that_cannot_be_served_are_told() {
    let routed = planned_ingress(json!({"rules": [
        {"host": "pr-7.preview.example.com", "http": {"paths": [path("Prefix", json!("/"), web())]}},
        {"host": "a.example.com", "http": {"paths": [path("Prefix", json!("/a//b"), web()), path("Prefix", json!("/c"), web())]}},
    ]}));
    assert_eq!(lines(&routed), ["a.example.com /c web.shop*1"]);
    let reasons: Vec<_> = routed.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(reasons, ["HostRefused", "PathRefused"]);
}

#[test]
fn certificates_are_preferred_for_the_hosts_that_they_are_named_for() {
    let spec = json!({"tls": [{"secretName": "cert", "hosts": ["b.example.com", "a.example.com"]}, {"secretName": "absent"}, {"hosts": ["c.example.com"]}]});
    let routed = planned(&world([ingress(spec), secret("shop/cert", &pair("a.example.com"))]));
    let said: Vec<_> = certificates(&routed).into_iter().map(|c| (&*c.name, c.hosts.join(" "))).collect();
    assert_eq!(said, [("shop/cert", "a.example.com b.example.com".to_owned())]);
    assert_eq!(routed.notices.len(), 1);
    assert_eq!(routed.notices[0].reason, "InvalidCertificate");
}

#[test]
fn an_ingress_is_told_of_an_older_http_route() {
    let spec = json!({"rules": [{"host": "shop.example.com", "http": {"paths": [path("Prefix", json!("/"), web())]}}]});
    let younger = with(ingress(spec), "/metadata/creationTimestamp", json!("2026-03-01T00:00:00Z"));
    let routed = planned(&world([
        class(),
        gateway(json!([http()])),
        service("shop/web", &[80]),
        http_route(json!([to_web()])),
        younger,
    ]));
    assert_eq!(routed.notices.len(), 1);
    assert_eq!(&*routed.notices[0].about.kind, "Ingress");
    assert!(routed.notices[0].message.contains("HTTPRoute `shop/web`"), "{}", routed.notices[0].message);
}

#[test]
fn a_status_that_says_the_same_is_not_written() {
    let old = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}});
    let routed = planned(&world([with(ingress(json!({})), "/status", old)]));
    assert!(routed.statuses.is_empty());
    let settings = Settings { addresses: Vec::new(), ..settings() };
    let empty = with(ingress(json!({})), "/status", json!({"loadBalancer": {}}));
    assert!(plan(&world([empty]), &settings, "2026-06-01T00:00:00Z".parse().unwrap()).statuses.is_empty());
}
