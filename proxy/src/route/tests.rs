//! Which service: host and path with the key taken out, and paths that two servers read differently.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use sidetrack_config::model::Config;

use crate::fixture::{ESTATE, decided, estate, estate_with, key, service_of, table};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::build::{About, Builder};
use crate::route::hosts::normalised;
use crate::route::route;
use crate::route::table::Table;

fn service(url: &str, table: &Table) -> String {
    let head = PlainHead::get(url);
    let found = identify(&head, table).and_then(|identity| service_of(&head, &identity, table));
    found.map_or_else(|failure| failure.code.to_string(), |service| service.name.to_string())
}

#[test]
fn host_then_path_in_whole_segments() {
    for (url, expected) in [
        ("preview.localhost", "shop"),
        ("PREVIEW.localhost.:80/", "shop"),
        ("preview.localhost/api", "shop"),
        ("preview.localhost/api/checkout", "checkout"),
        ("preview.localhost/api/checkout/", "checkout"),
        ("preview.localhost/api/checkout/7", "checkout"),
        ("preview.localhost/api/checkouts", "shop"),
        ("preview.localhost/API/checkout", "shop"),
        ("preview.localhost/?x=/api/checkout", "shop"),
        ("api.preview.localhost/any/thing", "checkout"),
        ("ghost.preview.localhost", "ghost"),
        ("shop.example.net", "shop"),
        ("a.b.example.net", "shop"),
        ("example.net", "no_route"),
        ("nowhere.example.org", "no_route"),
        ("other.preview.localhost", "no_route"),
        ("[::2]:80", "no_route"),
        ("", "no_route"),
    ] {
        assert_eq!(service(url, estate()), expected, "{url}");
    }
}

#[test]
fn addresses_are_hosts_too() {
    let table = table(
        "listeners: [{address: 127.0.0.1:0}]\nservices: {shop: {}, six: {}}\n\
         routes: [{host: 127.0.0.1, service: shop}, {host: '[::1]', service: six}]",
    );
    assert_eq!(service("127.0.0.1:8080/x", &table), "shop");
    assert_eq!(service("[::1]:8080/x", &table), "six");
    assert_eq!(service("[::1]/x", &table), "six");
    assert_eq!(service("[::2]/x", &table), "no_route");
}

#[test]
fn a_path_that_reads_as_another_route_once_resolved_is_an_error() {
    for path in [
        "/api/x/../checkout",
        "/./api/checkout",
        "//api/checkout",
        "/api//checkout",
        "/api%2fcheckout",
        "/api%2Fcheckout/7",
        "/%2e/api/checkout",
        "/x/%2E%2e/api/checkout",
        "/api/checkout/..",
        "/api/checkout/../7",
        "/api/checkout/..%2f..%2fshop",
        "/%61pi/checkout",
        r"/x\..\api/checkout",
        r"/x/..%5capi/checkout",
    ] {
        assert_eq!(service(&format!("preview.localhost{path}"), estate()), "malformed_request", "{path}");
    }
    for (path, expected) in [
        ("/a/../b", "shop"),
        ("/a//b", "shop"),
        ("/a%2fb", "shop"),
        ("/.well-known/x", "shop"),
        ("/..", "shop"),
        ("/api/checkout/./7", "checkout"),
        ("/api/checkout/a/../b", "checkout"),
        ("/api/checkout//", "checkout"),
        ("/api/checkout/%2e%2e%2e", "checkout"),
        ("/api/..checkout", "shop"),
        ("/api/checkout?x=/../", "checkout"),
    ] {
        assert_eq!(service(&format!("preview.localhost{path}"), estate()), expected, "{path}");
    }
}

#[test]
fn the_segment_that_held_the_key_is_no_part_of_the_path() {
    let table = estate_with("carriers: {path: true}");
    for (path, expected) in [
        ("/pr-42/api/checkout", "checkout@42 fork"),
        ("/pr-42", "shop@baseline no_fork"),
        ("/api/checkout/pr-42", "checkout@baseline no_key"),
        ("/pr-42/x/../api/checkout", "malformed_request"),
        ("/pr-42/../api/checkout", "malformed_request"),
        ("/pr-42//api/checkout", "malformed_request"),
        // Read as a lenient server does, these name a preview: never a silent baseline.
        ("//pr-42/api/checkout", "malformed_request"),
        ("/./pr-42/", "malformed_request"),
        ("/x/../pr-42/", "malformed_request"),
        ("/%2e/PR-42", "malformed_request"),
    ] {
        assert_eq!(decided(&PlainHead::get(&format!("preview.localhost{path}")), &table), expected, "{path}");
    }
    assert_eq!(decided(&PlainHead::get("preview.localhost//pr-42/"), estate()), "shop@baseline no_key");
}

#[test]
fn an_exact_host_of_a_preview_stands_for_a_domain() {
    for (url, expected) in [
        ("uat.eu.preview.localhost/api/checkout", "shop@57 fork"),
        ("uat.preview.localhost/api/checkout", "checkout@42 parent_fork"),
        ("uat.example.com", "shop@baseline no_fork"),
        ("uat.example.com/api/checkout", "checkout@42 fork"),
        ("[::1]:80/api/checkout", "checkout@42 fork"),
        ("127.0.0.9/api/checkout", "checkout@42 fork"),
    ] {
        assert_eq!(decided(&PlainHead::get(url), estate()), expected, "{url}");
    }
}

#[test]
fn names_of_another_preview_are_refused_and_the_table_stays_as_it_was() {
    for (preview, told) in [
        ("aliases: [demo]", "alias demo already names preview 42"),
        ("aliases: [idle]", "alias idle already names preview idle"),
        ("hosts: [uat.example.com]", "host uat.example.com already names preview 42"),
        ("hosts: ['[::1]']", "host [::1] already names preview 42"),
        // By its alias it names the other one already.
        ("hosts: [demo.preview.localhost]", "host demo.preview.localhost already names preview 42"),
        (
            "hosts: [x--demo.eu.preview.localhost]",
            "host x--demo.eu.preview.localhost already names preview 42",
        ),
    ] {
        let config = sidetrack_config::parse(Path::new("test.yaml"), ESTATE).unwrap().config;
        let parsed =
            sidetrack_config::parse_preview(Path::new("9.yaml"), &key("9"), preview, &config).unwrap();
        let mut builder = Builder::new(1);
        builder.estate(&config).unwrap();
        let mut table = table(ESTATE);
        let conflict =
            table.insert(builder.preview(key("9"), &parsed, &config, About::default())).unwrap_err();
        assert_eq!(conflict.to_string(), told);
        assert_eq!((table.preview_count(), table.preview(&key("9")).is_none()), (5, true), "{preview}");
        assert_eq!(
            decided(&PlainHead::get("demo.api.preview.localhost"), &table),
            "checkout@42 fork",
            "{preview}"
        );
        assert_eq!(decided(&PlainHead::get("[::1]/api/checkout"), &table), "checkout@42 fork", "{preview}");
    }
}

#[test]
fn the_names_of_a_preview_that_left_are_answered_as_its_key_is() {
    let mut table = table(ESTATE);
    let before = table.clone();
    let left = table.remove(&key("42")).unwrap();
    for url in ["demo.preview.localhost", "uat.example.com", "[::1]", "127.0.0.9"] {
        assert_eq!(decided(&PlainHead::get(url), &table), "unknown_preview", "{url}");
    }
    assert_eq!(decided(&PlainHead::get("uat.example.org"), &table), "no_route");
    assert_eq!(decided(&PlainHead::get("api--pr-42.preview.localhost"), &table), "unknown_preview");
    assert_eq!(decided(&PlainHead::get("pr-57.api.preview.localhost"), &table), "checkout@baseline no_fork");
    assert_eq!(
        decided(&PlainHead::get("demo.api.preview.localhost"), &before),
        "checkout@42 fork",
        "an older snapshot"
    );
    table.insert(left).unwrap();
    assert_eq!(decided(&PlainHead::get("demo.api.preview.localhost"), &table), "checkout@42 fork");
}

#[test]
fn an_address_that_turns_out_to_be_the_service_s_own_is_no_pod_any_more() {
    let text = "listeners: [{address: 127.0.0.1:0}]\nservices: {shop: {baseline: [10.96.0.1:80]}}";
    let mut config = sidetrack_config::parse(Path::new("test.yaml"), text).unwrap().config;
    let mut builder = Builder::new(1);
    let mut baseline = |config: &Config| {
        let table = Table::new(1, builder.estate(config).unwrap());
        let service = table.estate.service("shop").unwrap();
        (service.hides_its_pods(), Arc::clone(&service.baseline.as_deref().unwrap()[0]))
    };
    let (hides, before) = baseline(&config);
    assert!(!hides);
    assert!(Arc::ptr_eq(&before, &baseline(&config).1), "the same address, and so its connections");
    config.services[0].addresses = vec!["10.96.0.1:80".parse().unwrap()];
    let (hides, now) = baseline(&config);
    assert!(hides && now.id != before.id);
}

#[test]
fn messages_cut_what_a_client_wrote() {
    let head = PlainHead::get(&format!("nowhere.example.org/{}", "x".repeat(60_000)));
    let identity = identify(&head, estate()).unwrap();
    let failure = route(&head, &identity, estate()).unwrap_err();
    assert!(
        failure.detail.len() < 300 && failure.detail.contains("nowhere.example.org"),
        "{}",
        failure.detail
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_path_that_is_let_through_and_its_normal_form_have_one_route(path in "/(api|checkout|\\.|\\.\\.|%2e|%2F|/|x){0,7}") {
        let raw = service(&format!("preview.localhost{path}"), estate());
        if raw != "malformed_request"
            && let Some(lenient) = normalised(&path)
        {
            prop_assert_eq!(service(&format!("preview.localhost{lenient}"), estate()), raw, "{} and {}", path, lenient);
        }
    }
}
