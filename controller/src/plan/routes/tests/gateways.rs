//! GatewayClasses, Gateways, their listeners and certificates.

use super::*;

/// A condition of the first listener of a Gateway with these, and secrets to name.
fn listener_says(listeners: Value, kind: &str) -> String {
    let pair = pair("shop.example.com");
    let mixed = (pair.0.clone(), super::pair("other.example.com").1);
    let routed = planned(&world([
        class(),
        gateway(listeners),
        secret("infra/good", &pair),
        secret("infra/mixed", &mixed),
        secret("infra/text", &("hello".into(), pair.1.clone())),
        secret("infra/keyless", &(pair.0.clone(), "hello".into())),
        secret("apart/shared", &pair),
        secret("apart/hidden", &pair),
        grant(
            "apart/g",
            json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}]),
            json!([{"group": "", "kind": "Secret", "name": "shared"}]),
        ),
    ]));
    condition(&status(&routed, "Gateway", "gw")["listeners"][0], kind).0
}

#[test]
fn a_class_of_ours_is_accepted_and_others_are_left_alone() {
    let other = object("GatewayClass", "other", json!({"controllerName": "example.com/other"}));
    let theirs =
        object("Gateway", "infra/theirs", json!({"gatewayClassName": "other", "listeners": [http()]}));
    let routed = planned(&world([class(), other, theirs]));
    assert_eq!(routed.statuses.len(), 1);
    let class = status(&routed, "GatewayClass", "sidetrack");
    assert_eq!(condition(class, "Accepted").0, "True Accepted");
    assert_eq!(class["conditions"][0]["observedGeneration"], 1);
}

#[test]
fn a_class_with_parameters_is_refused_with_its_gateways() {
    let class = with(class(), "/spec/parametersRef", json!({"kind": "ConfigMap", "name": "x"}));
    let routed = planned(&world([
        class,
        gateway(json!([http()])),
        service("shop/web", &[80]),
        http_route(json!([to_web()])),
    ]));
    assert_eq!(
        condition(status(&routed, "GatewayClass", "sidetrack"), "Accepted").0,
        "False InvalidParameters"
    );
    let gateway = status(&routed, "Gateway", "gw");
    assert_eq!(condition(gateway, "Accepted").0, "False InvalidParameters");
    assert_eq!(condition(gateway, "Programmed").0, "False Invalid");
    assert_eq!(condition(&gateway["listeners"][0], "Programmed").0, "False Invalid");
    assert_eq!(lines(&routed), [""; 0]);
}

#[test]
fn a_good_gateway_says_all_that_there_is_to_say() {
    let routed = planned(&world([class(), gateway(json!([http()]))]));
    let status = status(&routed, "Gateway", "gw");
    assert_eq!(condition(status, "Accepted").0, "True Accepted");
    assert_eq!(condition(status, "Programmed").0, "True Programmed");
    let addresses =
        json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": "lb.example.com"}]);
    assert_eq!(status["addresses"], addresses);
    let listener = &status["listeners"][0];
    assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("http"), &json!(0)));
    assert_eq!(
        listener["supportedKinds"],
        json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}])
    );
    for (kind, says) in [
        ("Accepted", "True Accepted"),
        ("Conflicted", "False NoConflicts"),
        ("ResolvedRefs", "True ResolvedRefs"),
        ("Programmed", "True Programmed"),
        ("OverlappingTLSConfig", "-"),
    ] {
        assert_eq!(condition(listener, kind).0, says, "{kind}");
    }
}

#[test]
fn what_a_gateway_asks_for_in_vain_is_said() {
    let cases = [
        ("/spec/tls", json!({"frontend": {"default": {}}}), "False Invalid", "False Invalid"),
        ("/spec/tls", json!({}), "True Accepted", "True Programmed"),
        (
            "/spec/infrastructure",
            json!({"parametersRef": {"name": "x"}}),
            "False InvalidParameters",
            "False Invalid",
        ),
        ("/spec/infrastructure", json!({"labels": {"a": "b"}}), "True Accepted", "True Programmed"),
        (
            "/spec/addresses",
            json!([{"type": "example.com/x", "value": "y"}]),
            "False UnsupportedAddress",
            "False Invalid",
        ),
        ("/spec/addresses", json!([{"value": "192.0.2.9"}]), "True Accepted", "False AddressNotUsable"),
        ("/spec/addresses", json!([{"value": "192.0.2.1"}]), "True Accepted", "True Programmed"),
        ("/spec/addresses", json!([{"type": "Hostname"}]), "True Accepted", "True Programmed"),
    ];
    for (pointer, value, accepted, programmed) in cases {
        let routed = planned(&world([class(), with(gateway(json!([http()])), pointer, value.clone())]));
        let status = status(&routed, "Gateway", "gw");
        assert_eq!(condition(status, "Accepted").0, accepted, "{value}");
        assert_eq!(condition(status, "Programmed").0, programmed, "{value}");
    }
}

#[test]
fn without_addresses_no_gateway_is_programmed() {
    let settings = Settings { addresses: Vec::new(), ..settings() };
    let routed =
        plan(&world([class(), gateway(json!([http()]))]), &settings, "2026-06-01T00:00:00Z".parse().unwrap());
    assert_eq!(condition(status(&routed, "Gateway", "gw"), "Programmed").0, "False AddressNotAssigned");
}

#[test]
fn listeners_that_the_gateways_do_not_serve_are_not_accepted() {
    let cases = [
        ("/protocol", json!("TCP"), "False UnsupportedProtocol"),
        ("/protocol", json!("TLS"), "False UnsupportedProtocol"),
        ("/port", json!(8081), "False PortUnavailable"),
        ("/port", json!(443), "False PortUnavailable"),
        ("/hostname", json!("pr-7.preview.example.com"), "False UnsupportedValue"),
        ("/hostname", json!("*.example.com"), "True Accepted"),
    ];
    for (pointer, value, says) in cases {
        assert_eq!(listener_says(json!([with(http(), pointer, value.clone())]), "Accepted"), says, "{value}");
    }
    let tls = [
        ("/tls/mode", json!("Passthrough"), "False UnsupportedValue"),
        ("/tls/mode", json!("Terminate"), "True Accepted"),
        ("/tls/frontendValidation", json!({"caCertificateRefs": []}), "False UnsupportedValue"),
        ("/port", json!(80), "False PortUnavailable"),
    ];
    for (pointer, value, says) in tls {
        let listener = with(https("shop.example.com", "good"), pointer, value.clone());
        assert_eq!(listener_says(json!([listener]), "Accepted"), says, "{value}");
    }
}

#[test]
fn a_gateway_is_accepted_while_one_listener_is() {
    let tcp = json!({"name": "tcp", "port": 80, "protocol": "TCP"});
    let routed = planned(&world([class(), gateway(json!([tcp]))]));
    let gateway_status = status(&routed, "Gateway", "gw");
    assert_eq!(condition(gateway_status, "Accepted").0, "False ListenersNotValid");
    assert_eq!(condition(gateway_status, "Programmed").0, "False Invalid");
    assert_eq!(gateway_status["listeners"][0]["supportedKinds"], json!([]));
    let routed = planned(&world([class(), gateway(json!([http(), tcp]))]));
    let (says, message) = condition(status(&routed, "Gateway", "gw"), "Accepted");
    assert_eq!((says.as_str(), message), ("True ListenersNotValid", "listeners that are not served: tcp"));
    assert_eq!(condition(status(&routed, "Gateway", "gw"), "Programmed").0, "True Programmed");
}

#[test]
fn listeners_that_no_request_can_be_told_apart_by_conflict() {
    let named = |listener: Value, name: &str| with(listener, "/name", json!(name));
    let cases = [
        (json!([http(), named(http(), "b")]), "True HostnameConflict"),
        (json!([http(), with(named(http(), "b"), "/hostname", json!(""))]), "True HostnameConflict"),
        (json!([http(), with(named(http(), "b"), "/hostname", json!("a.example.com"))]), "False NoConflicts"),
        (
            json!([http(), with(named(https("a.b", "good"), "b"), "/port", json!(80))]),
            "True ProtocolConflict",
        ),
        (json!([http(), https("a.b", "good")]), "False NoConflicts"),
        (json!([http(), with(named(http(), "b"), "/protocol", json!("TCP"))]), "False NoConflicts"),
    ];
    for (listeners, says) in cases {
        assert_eq!(listener_says(listeners.clone(), "Conflicted"), says, "{listeners}");
        let fine = says.starts_with("False");
        assert_eq!(listener_says(listeners.clone(), "Accepted").starts_with("True"), fine, "{listeners}");
        assert_eq!(listener_says(listeners.clone(), "Programmed").starts_with("True"), fine, "{listeners}");
    }
}

#[test]
fn certificates_that_cannot_be_used_are_told_apart() {
    let named = |reference: Value| {
        json!([with(https("shop.example.com", "good"), "/tls/certificateRefs", json!([reference]))])
    };
    let cases = [
        (json!({"name": "good"}), "True ResolvedRefs"),
        (json!({"name": "good", "kind": "Secret", "group": ""}), "True ResolvedRefs"),
        (json!({"name": "absent"}), "False InvalidCertificateRef"),
        (json!({"name": "good", "kind": "ConfigMap"}), "False InvalidCertificateRef"),
        (json!({"name": "good", "group": "example.com"}), "False InvalidCertificateRef"),
        (json!({"name": "mixed"}), "False InvalidCertificateRef"),
        (json!({"name": "text"}), "False InvalidCertificateRef"),
        (json!({"name": "keyless"}), "False InvalidCertificateRef"),
        (json!({"name": "shared", "namespace": "apart"}), "True ResolvedRefs"),
        (json!({"name": "hidden", "namespace": "apart"}), "False RefNotPermitted"),
        (json!({"name": "absent", "namespace": "apart"}), "False RefNotPermitted"),
    ];
    for (reference, says) in cases {
        let listeners = named(reference.clone());
        assert_eq!(listener_says(listeners.clone(), "ResolvedRefs"), says, "{reference}");
        let programmed = if says.starts_with("True") { "True Programmed" } else { "False Invalid" };
        assert_eq!(listener_says(listeners, "Programmed"), programmed, "{reference}");
    }
    let none = json!([with(https("shop.example.com", "good"), "/tls", json!({}))]);
    assert_eq!(listener_says(none, "ResolvedRefs"), "False InvalidCertificateRef");
}

#[test]
fn one_good_certificate_of_two_is_served_and_the_other_said() {
    let listeners = json!([with(
        https("shop.example.com", "good"),
        "/tls/certificateRefs",
        json!([{"name": "absent"}, {"name": "good"}])
    )]);
    assert_eq!(listener_says(listeners.clone(), "ResolvedRefs"), "False InvalidCertificateRef");
    assert_eq!(listener_says(listeners, "Programmed"), "True Programmed");
}

#[test]
fn a_certificate_is_preferred_for_the_hosts_of_its_listeners() {
    let pair = pair("*.example.com");
    let second = with(with(https("*.example.com", "wild"), "/name", json!("b")), "/port", json!(443));
    let any = with(with(https("x.org", "any"), "/name", json!("c")), "/hostname", Value::Null);
    let routed = planned(&world([
        class(),
        gateway(json!([https("shop.example.com", "wild"), second, any])),
        secret("infra/wild", &pair),
        secret("infra/any", &pair),
        secret("infra/unused", &pair),
    ]));
    let said: Vec<_> = certificates(&routed).into_iter().map(|c| (&*c.name, c.hosts.join(" "))).collect();
    assert_eq!(said, [("infra/any", String::new()), ("infra/wild", "*.example.com shop.example.com".into())]);
    assert_eq!((&*certificates(&routed)[1].chain, &*certificates(&routed)[1].key), (&*pair.0, &*pair.1));
    let listeners = &status(&routed, "Gateway", "gw")["listeners"];
    let (says, message) = condition(&listeners[0], "OverlappingTLSConfig");
    assert_eq!(says, "True OverlappingHostnames");
    assert!(message.contains("b, c"), "{message}");
}

#[test]
fn certificates_of_listeners_that_are_not_served_stay_here() {
    let twice = json!([https("a.b", "good"), with(https("a.b", "good"), "/name", json!("b"))]);
    let routed = planned(&world([class(), gateway(twice), secret("infra/good", &pair("a.b"))]));
    assert!(certificates(&routed).is_empty());
}

#[test]
fn route_kinds_that_are_not_ours_are_named() {
    let kinds = |kinds: Value| json!([with(http(), "/allowedRoutes/kinds", kinds)]);
    assert_eq!(listener_says(kinds(json!([{"kind": "HTTPRoute"}])), "ResolvedRefs"), "True ResolvedRefs");
    let both = kinds(json!([{"kind": "HTTPRoute"}, {"kind": "GRPCRoute"}]));
    assert_eq!(listener_says(both.clone(), "ResolvedRefs"), "False InvalidRouteKinds");
    let routed = planned(&world([class(), gateway(both)]));
    assert_eq!(
        status(&routed, "Gateway", "gw")["listeners"][0]["supportedKinds"].as_array().unwrap().len(),
        1
    );
    let routed =
        planned(&world([class(), gateway(kinds(json!([{"kind": "HTTPRoute", "group": "example.com"}])))]));
    assert_eq!(status(&routed, "Gateway", "gw")["listeners"][0]["supportedKinds"], json!([]));
}

#[test]
fn conditions_and_fields_of_others_stay_in_a_status() {
    let old = json!({
        "attachedListenerSets": 2,
        "conditions": [{"type": "Accepted", "status": "Unknown", "reason": "Pending", "lastTransitionTime": "1970-01-01T00:00:00Z"},
                       {"type": "example.com/Mine", "status": "True"}],
        "listeners": [{"name": "gone", "conditions": []},
                      {"name": "http", "conditions": [{"type": "example.com/Mine", "status": "True"}]}],
    });
    let routed = planned(&world([class(), with(gateway(json!([http()])), "/status", old)]));
    let new = status(&routed, "Gateway", "gw");
    assert_eq!(new["attachedListenerSets"], 2);
    assert_eq!(new["conditions"][0]["lastTransitionTime"], "2026-06-01T00:00:00Z");
    assert_eq!(new["conditions"][1]["type"], "example.com/Mine");
    assert_eq!(new["listeners"].as_array().unwrap().len(), 1);
    assert_eq!(new["listeners"][0]["conditions"][0]["type"], "example.com/Mine");
}

#[test]
fn a_gateway_that_goes_is_gone() {
    let going = with(gateway(json!([http()])), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let routed = planned(&world([class(), going, service("shop/web", &[80]), http_route(json!([to_web()]))]));
    assert!(routed.items.is_empty());
    assert_eq!(routed.statuses.len(), 1, "the class only");
}
