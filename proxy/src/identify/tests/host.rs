//! Row 2 of 2.1: every form of a host, and what is left of it for the routes.

use crate::fixture::{decided, estate, estate_with, said};
use crate::head::PlainHead;
use crate::identify::identify;

/// `KEYS of REST`, `none of REST`, or the word of the error.
fn read(host: &str) -> String {
    let head = PlainHead::get(&format!("http://{host}/"));
    match identify(&head, estate()) {
        Err(failure) => failure.code.to_string(),
        Ok(identity) => {
            let said = said(&head, estate());
            let keys = said.strip_prefix("host ").unwrap_or(&said);
            format!("{keys} of {}", identity.host_text(&head))
        }
    }
}

#[test]
fn forms_that_hold_keys() {
    for (host, expected) in [
        ("pr-42.preview.localhost", "42 of preview.localhost"),
        ("pr-shop-7.preview.localhost", "shop-7 of preview.localhost"),
        ("pr-42.api.preview.localhost", "42 of api.preview.localhost"),
        ("pr-42.a.b.c.preview.localhost", "42 of a.b.c.preview.localhost"),
        ("api--pr-42.preview.localhost", "42 of api.preview.localhost"),
        ("pr-42--api.preview.localhost", "42 of api.preview.localhost"),
        ("a--b--pr-42.preview.localhost", "42 of a--b.preview.localhost"),
        ("pr-42--a--b.preview.localhost", "42 of a--b.preview.localhost"),
        // The service's text may be the end of the label by chance.
        ("2--pr-42.preview.localhost", "42 of 2.preview.localhost"),
        // Lists.
        ("pr-42--pr-57.preview.localhost", "42,57 of preview.localhost"),
        ("pr-57--pr-42.api.preview.localhost", "57,42 of api.preview.localhost"),
        ("api--pr-42--pr-57.preview.localhost", "42,57 of api.preview.localhost"),
        ("pr-42--pr-57--api.preview.localhost", "42,57 of api.preview.localhost"),
        ("pr-42--pr-42.preview.localhost", "42 of preview.localhost"),
        (
            "pr-1--pr-2--pr-3--pr-4--pr-5--pr-6--pr-7--pr-8.preview.localhost",
            "1,2,3,4,5,6,7,8 of preview.localhost",
        ),
        // An alias stands wherever `pr-KEY` may.
        ("demo.preview.localhost", "42 of preview.localhost"),
        ("demo.api.preview.localhost", "42 of api.preview.localhost"),
        ("api--demo.preview.localhost", "42 of api.preview.localhost"),
        ("demo--api.preview.localhost", "42 of api.preview.localhost"),
        ("pr-57--demo.preview.localhost", "57,42 of preview.localhost"),
        ("demo--pr-57.preview.localhost", "42,57 of preview.localhost"),
        ("demo--pr-42.preview.localhost", "42 of preview.localhost"),
        ("pr-demo.preview.localhost", "42 of preview.localhost"),
        // Exact hosts of a preview.
        ("uat.example.com", "42 of uat.example.com"),
        ("UAT.Example.Com.:8443", "42 of uat.example.com"),
        ("[::1]:8080", "42 of ::1"),
        ("127.0.0.9:80", "42 of 127.0.0.9"),
        // Spelling.
        ("PR-42.Preview.LocalHost", "42 of preview.localhost"),
        ("API--Pr-42.preview.localhost", "42 of api.preview.localhost"),
        ("Pr-42--API.preview.localhost:80", "42 of api.preview.localhost"),
        ("pr-42.preview.localhost.", "42 of preview.localhost"),
        ("pr-42.preview.localhost:8443", "42 of preview.localhost"),
        ("pr-42.preview.localhost.:8443", "42 of preview.localhost"),
        // The longest domain counts; a domain may be what is left.
        ("pr-42.eu.preview.localhost", "42 of eu.preview.localhost"),
        ("pr-42.api.eu.preview.localhost", "42 of api.eu.preview.localhost"),
        ("api--pr-42.eu.preview.localhost", "42 of api.eu.preview.localhost"),
        ("pr-42--eu.preview.localhost", "42 of eu.preview.localhost"),
        ("pr-42.shop.example.net", "42 of shop.example.net"),
        // Names in Punycode have a `--` of their own.
        ("xn--bcher-kva--pr-42.preview.localhost", "42 of xn--bcher-kva.preview.localhost"),
        ("pr-42--xn--bcher-kva.preview.localhost", "42 of xn--bcher-kva.preview.localhost"),
        ("pr-42.xn--bcher-kva.preview.localhost", "42 of xn--bcher-kva.preview.localhost"),
    ] {
        assert_eq!(read(host), expected, "{host}");
    }
}

#[test]
fn forms_that_hold_none() {
    for (host, rest) in [
        ("preview.localhost", "preview.localhost"),
        ("Preview.Localhost:80", "preview.localhost"),
        ("api.preview.localhost.", "api.preview.localhost"),
        ("eu.preview.localhost", "eu.preview.localhost"),
        ("42.preview.localhost", "42.preview.localhost"),
        ("api--42.preview.localhost", "api--42.preview.localhost"),
        ("pr.preview.localhost", "pr.preview.localhost"),
        ("spr-42.preview.localhost", "spr-42.preview.localhost"),
        ("xn--bcher-kva.preview.localhost", "xn--bcher-kva.preview.localhost"),
        ("xn--pr-42-kva.preview.localhost", "xn--pr-42-kva.preview.localhost"),
        // Not below a domain of ours.
        ("pr-42.example.org", "pr-42.example.org"),
        ("pr-42preview.localhost", "pr-42preview.localhost"),
        ("localhost", "localhost"),
        ("x.uat.example.com", "x.uat.example.com"),
        ("[fe80::42]:80", "fe80::42"),
        ("[fe80::42]", "fe80::42"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("", ""),
        (":80", ""),
    ] {
        assert_eq!(read(host), format!("none of {rest}"), "{host}");
    }
}

#[test]
fn a_label_that_begins_with_the_prefix_anywhere_else_is_an_error_and_never_baseline() {
    let long = format!("pr-{}", "a".repeat(41));
    let nine = (1..=9).map(|n| format!("pr-{n}")).collect::<Vec<_>>().join("--");
    for label in [
        "api.pr-42",
        "a.pr-42.api",
        "a.b.pr-42",
        "API.PR-42",
        "api.x--pr-42",
        "api.pr--42",
        "api.x---pr-42",
        "xn--bcher-kva--pr-",
        "api.pr-42--x",
        "pr-42.pr-57",
        "pr-42.eu.pr-57",
        "demo.pr-57",
        "pr--42",
        "PR--42",
        "pr-",
        "pr--",
        "api--pr-",
        "pr---api",
        "pr---42--pr-57",
        "demo--pr---42",
        "pr-42-",
        "pr-4_2",
        "pr-4%32",
        "pr-pr-42",
        "pr-42--",
        "--pr-42",
        "api----pr-42",
        "pr-42----api",
        "pr-42---api",
        "api---pr-42",
        "pr-42--api--pr-57",
        "a--pr-42--b",
        "demo--api--demo",
        "api--demo--api",
        &long,
        &nine,
    ] {
        for domain in ["preview.localhost", "eu.preview.localhost", "example.net:8443", "preview.localhost."]
        {
            assert_eq!(read(&format!("{label}.{domain}")), "malformed_key", "{label} {domain}");
        }
    }
}

#[test]
fn the_prefix_is_configurable_and_the_carrier_can_be_off() {
    let table = estate_with("carriers: {hostPrefix: rev-}");
    for (host, expected) in [
        ("rev-42.preview.localhost", "host 42"),
        ("api--REV-42.preview.localhost", "host 42"),
        ("demo.preview.localhost", "host 42"),
        ("pr-42.preview.localhost", "none"),
        ("api.rev-42.preview.localhost", "malformed_key"),
        ("rev--42.preview.localhost", "malformed_key"),
    ] {
        assert_eq!(said(&PlainHead::get(host), &table), expected, "{host}");
    }
    let header = |value: &str| PlainHead::get("preview.localhost").with("x-pr-id", value);
    assert_eq!(said(&header("rev-42"), &table), "header 42");
    assert_eq!(
        said(&header("pr-42"), &table),
        "header pr-42",
        "a key that begins with what is no prefix here"
    );

    let table = estate_with("carriers: {hostPrefix: false}");
    for host in [
        "pr-42.preview.localhost",
        "demo.preview.localhost",
        "uat.example.com",
        "api.pr-42.preview.localhost",
    ] {
        assert_eq!(said(&PlainHead::get(host), &table), "none", "{host}");
    }
    assert_eq!(said(&header("PR-42"), &table), "header 42");
}

#[test]
fn what_is_left_of_the_host_finds_the_route() {
    for (url, expected) in [
        ("pr-42.preview.localhost/", "shop@baseline no_fork"),
        ("pr-42.preview.localhost/api/checkout/7", "checkout@42 fork"),
        ("pr-42.api.preview.localhost/", "checkout@42 fork"),
        ("api--pr-42.preview.localhost/", "checkout@42 fork"),
        ("pr-42--api.preview.localhost/", "checkout@42 fork"),
        ("demo--api.preview.localhost/", "checkout@42 fork"),
        ("xn--bcher-kva--pr-42.preview.localhost/", "checkout@42 fork"),
        ("pr-57.eu.preview.localhost/", "shop@57 fork"),
        ("pr-57.any.thing.example.net/", "shop@57 fork"),
        ("pr-57.example.net/", "no_route"),
        ("nothing--pr-42.preview.localhost/", "no_route"),
        ("uat.example.com/api/checkout", "checkout@42 fork"),
        ("preview.localhost/api/checkout", "checkout@baseline no_key"),
    ] {
        assert_eq!(decided(&PlainHead::get(url), estate()), expected, "{url}");
    }
}
