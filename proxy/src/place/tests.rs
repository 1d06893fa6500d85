use std::net::SocketAddr;
use std::sync::Arc;

use sidetrack_config::model::{Config, Place};

use super::{Here, leaves, received, rule, service_of_host, stamp};
use crate::fixture::{table, table_of};
use crate::head::PlainHead;
use crate::identify::{Identity, Onward, identify};
use crate::route::known::Known;
use crate::route::table::Table;

const INSIDE: &str = "
listeners:
  - {address: 127.0.0.1:1, direction: inbound}
  - {address: 127.0.0.1:2, direction: outbound}
  - {address: 127.0.0.1:3, direction: outbound, service: payment.shop}
role: sidecar
sidecar: {service: checkout.shop}
services:
  checkout.shop: {baseline: [127.0.0.1:9000]}
  payment.shop: {baseline: [127.0.0.1:9001]}
  payment.bank: {baseline: [127.0.0.1:9002]}
  legacy: {baseline: [127.0.0.1:9003]}
routes: [{host: old.example.com, service: legacy}]
previews: {'42': {forks: {payment.shop: [127.0.0.1:9101]}}}
";

/// The service that a request for `host` is for at `place`, or the code of the error.
fn service_at(place: &Place, host: &str, table: &Table) -> String {
    let head = PlainHead::get(host);
    let identity = identify(&head, table).unwrap();
    match rule(place, &head, &identity, table, &Here::default()) {
        Ok(rule) => {
            let service = crate::pick::way(rule, table, 0).unwrap().service().unwrap();
            service.name.to_string()
        }
        Err(failure) => failure.code.as_str().to_owned(),
    }
}

#[test]
fn a_host_names_a_service_as_callers_inside_write_it() {
    let table = table(INSIDE);
    for (host, service) in [
        ("payment.shop", Some("payment.shop")),
        ("payment.shop.svc", Some("payment.shop")),
        ("Payment.Shop.svc.cluster.local", Some("payment.shop")),
        ("payment.bank", Some("payment.bank")),
        // A bare name is of the caller's own namespace, unless a service is called so in full.
        ("payment", Some("payment.shop")),
        ("legacy", Some("legacy")),
        ("checkout", Some("checkout.shop")),
        ("bank", None),
        ("payment.shop.example.com", None),
        ("", None),
    ] {
        let found = service_of_host(host, None, &table.estate).map(|service| &*service.name);
        assert_eq!(found, service, "{host:?}");
    }
}

#[test]
fn the_listener_says_the_service_where_it_is_inside() {
    let table = table(INSIDE);
    let service = |name: &str| Place::Service(name.into());
    for (place, host, expected) in [
        (Place::Inbound, "anything", "checkout.shop"),
        (Place::Outbound(None), "payment:8080", "payment.shop"),
        (Place::Outbound(None), "old.example.com", "legacy"),
        (Place::Outbound(None), "elsewhere.example.com", "no_route"),
        (Place::Outbound(Some("payment.bank".into())), "payment.shop", "payment.bank"),
        (service("payment.shop"), "old.example.com", "payment.shop"),
        (service("nobody"), "payment.shop", "no_route"),
        (Place::Edge, "payment.shop", "no_route"),
        (Place::Edge, "old.example.com", "legacy"),
    ] {
        assert_eq!(service_at(&place, host, &table), expected, "{place:?} {host}");
    }
}

const FORK: &str = "
listeners: [{address: 127.0.0.1:1, direction: outbound}]
role: sidecar
sidecar: {service: 'checkout.shop,checkout-grpc.shop', key: 42}
domains: [preview.example.com]
context: {declaredDomains: [svc.cluster.local, example.internal]}
services:
  checkout.shop: {baseline: [10.0.0.1:8080, 10.0.0.2:8080]}
  checkout-grpc.shop: {baseline: [10.0.0.1:9090]}
  payment.shop: {baseline: [10.0.0.3:8080]}
  db.shop: {baseline: [10.0.0.4:8080]}
  cart.shop: {baseline: [10.0.0.5:8080]}
routes: [{host: old.example.com, service: payment.shop}, {host: '*.older.example.com', service: payment.shop}]
previews: {'42': {forks: {checkout.shop: [10.0.0.7:8081]}, hosts: [uat.example.org]}}
";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn what_leaves_the_estate_is_for_nothing_that_belongs_to_it() {
    // As a Service of several ports is called.
    let (table, _) = table_of(FORK, |config| {
        let cart = config.services.iter_mut().find(|service| &*service.name == "cart.shop");
        cart.unwrap().name = "cart.shop:http".into();
    });
    let here = Here::default();
    for (authority, expected) in [
        ("payment.shop", false),
        ("payment", false),
        ("payment.shop.svc.cluster.local:8080", false),
        ("nobody.shop.svc.cluster.local", false),
        ("nobody", false),
        ("cart.shop", false),
        ("cart.shop:9090", false),
        // A pod of a headless Service.
        ("db-0.db.shop", false),
        ("db-0.db", false),
        ("cart-0.cart.shop", false),
        ("db-0.db.bank", true),
        ("localhost:80", false),
        ("a.Example.internal", false),
        ("pr-42.preview.example.com", false),
        ("old.example.com", false),
        ("a.older.example.com", false),
        ("uat.example.org", false),
        ("api.example.com", true),
        ("example.internal.evil.example", true),
        ("notexample.internal", true),
        ("10.0.0.9:8080", false),
        ("100.64.3.7:8080", false),
        ("[fd00::1]:80", false),
        ("[::ffff:10.0.0.9]:80", false),
        ("203.0.113.9:8080", true),
        ("[2001:db8::1]:80", true),
        ("", true),
    ] {
        assert_eq!(leaves(&Place::Outbound(None), &here, authority, &table), expected, "{authority:?}");
    }
    let elsewhere = "api.example.com";
    for place in [Place::Edge, Place::Inbound, Place::Outbound(Some("payment.shop".into()))] {
        assert!(!leaves(&place, &here, elsewhere, &table), "{place:?}");
    }
}

#[test]
fn a_port_of_the_workload_says_which_of_its_services_a_connection_is_for() {
    let table = table(FORK);
    let workload = table.estate.workload.as_ref().unwrap();
    for (original, expected) in [
        (None, Some("checkout.shop")),
        (Some("10.0.0.1:8080"), Some("checkout.shop")),
        (Some("10.0.0.1:9090"), Some("checkout-grpc.shop")),
        // A pod that is not ready yet, or no longer, is no endpoint.
        (Some("10.0.0.9:9090"), Some("checkout-grpc.shop")),
        // The fork may listen elsewhere than the baseline.
        (Some("10.0.0.7:8081"), Some("checkout.shop")),
        (Some("10.0.0.1:9102"), None),
    ] {
        let found = received(workload, original.map(at), &table).map(|service| &*service.name);
        assert_eq!(found, expected, "{original:?}");
    }
}

const PORTS: &str = "
listeners: [{address: 127.0.0.1:1, direction: outbound}]
role: sidecar
sidecar: {service: http, key: 42}
services:
  http: {baseline: [10.0.0.1:8080]}
  grpc: {baseline: [10.0.0.1:9090]}
previews: {'42': {forks: {http: [10.0.0.7:8081], grpc: [10.0.0.7:9090]}}}
";

/// A Service of several ports, as none but a controller can say it.
fn ports_of_checkout() -> Table {
    let mut table = table(PORTS);
    let estate = Arc::make_mut(&mut table.estate);
    let number = |name: &str| estate.service(name).unwrap().index;
    let mut known = Known::default();
    known.insert("checkout.shop:http", number("http"));
    known.insert("checkout.shop:grpc", number("grpc"));
    estate.known = known;
    estate.workload.as_mut().unwrap().services = vec!["checkout.shop".into()];
    table
}

/// A pod is told its Services when it is made; that one of them has several ports, or gets a second one, is the table's
/// to say.
#[test]
fn a_workload_serves_all_ports_of_its_services() {
    let table = ports_of_checkout();
    let workload = table.estate.workload.as_ref().unwrap();
    for (original, expected) in [
        (None, Some("grpc")),
        (Some("10.0.0.1:8080"), Some("http")),
        (Some("10.0.0.1:9090"), Some("grpc")),
        (Some("10.0.0.7:8081"), Some("http")),
        (Some("10.0.0.1:9102"), None),
    ] {
        let found = received(workload, original.map(at), &table).map(|service| &*service.name);
        assert_eq!(found, expected, "{original:?}");
    }
}

#[test]
fn a_port_says_which_service_a_host_of_several_means() {
    let table = ports_of_checkout();
    for (authority, meant, expected) in [
        ("checkout.shop:9090", None, Some("grpc")),
        ("checkout:8080", None, Some("http")),
        // The address of a pod behind a headless Service; clients leave out a port that is the scheme's own.
        ("checkout.shop.svc.cluster.local", Some(9090), Some("grpc")),
        ("checkout.shop:8080", Some(9090), Some("grpc")),
        ("checkout.shop", None, None),
        ("checkout.shop:9102", None, None),
    ] {
        let found = service_of_host(authority, meant, &table.estate).map(|service| &*service.name);
        assert_eq!(found, expected, "{authority} {meant:?}");
        assert!(!leaves(&Place::Outbound(None), &Here::default(), authority, &table), "{authority}");
    }
}

#[test]
fn no_port_says_of_a_service_without_its_pods_that_it_is_another() {
    let received_at = |baseline: &str, services: &str| {
        let text = format!(
            "
listeners: [{{address: 127.0.0.1:1, direction: inbound}}]
role: sidecar
sidecar: {{service: '{services}'}}
services: {{checkout.shop: {{baseline: [{baseline}]}}, other.shop: {{}}}}
"
        );
        let address = |config: &mut Config| config.services[0].addresses = vec![at("10.96.0.1:80")];
        let (table, _) = table_of(&text, address);
        let workload = table.estate.workload.as_ref().unwrap();
        received(workload, Some(at("10.0.0.1:8080")), &table).map(|service| service.name.to_string())
    };
    assert_eq!(received_at("'10.96.0.1:80'", "checkout.shop").as_deref(), Some("checkout.shop"));
    assert_eq!(received_at("'10.96.0.1:80'", "checkout.shop,other.shop"), None, "it may be either");
    assert_eq!(received_at("'10.0.0.2:9090'", "checkout.shop"), None);
}

#[test]
fn a_fork_gives_its_key_to_calls_that_have_none() {
    let table = table(FORK);
    let read = |head: &PlainHead| identify(head, &table).unwrap();
    let outbound = Place::Outbound(None);
    let mut plain = read(&PlainHead::get("payment"));
    assert!(stamp(&outbound, &mut plain, &table));
    assert_eq!((plain.keys[0].as_str(), plain.onward, plain.carrier), ("42", Onward::Stamped, None));
    let mut keyed = read(&PlainHead::get("payment").with("x-pr-id", "57"));
    assert!(!stamp(&outbound, &mut keyed, &table) && keyed.keys[0].as_str() == "57");
    assert!(!stamp(&outbound, &mut Identity::left(), &table), "what leaves gets none");
    for place in [Place::Inbound, Place::Edge] {
        assert!(!stamp(&place, &mut read(&PlainHead::get("payment")), &table), "{place:?}");
    }
}
