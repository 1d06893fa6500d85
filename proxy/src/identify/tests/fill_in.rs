//! Rows 7 to 9 of 2.1: carriers of other tools, the cookie and the origin. They fill in and never conflict; what
//! they hold wrongly is ignored.

use crate::fixture::{D, TRACE, decided, estate, estate_with, said};
use crate::head::PlainHead;

fn get() -> PlainHead {
    PlainHead::get(D)
}

fn cookie(text: impl AsRef<[u8]>) -> PlainHead {
    get().with("cookie", text)
}

/// A call of a page of `origin`.
fn call(method: &str, host: &str, origin: &str) -> PlainHead {
    PlainHead { method: method.to_owned(), ..PlainHead::get(host) }.with("origin", origin)
}

#[test]
fn the_cookie() {
    for (text, expected) in [
        ("pr-id=42", "cookie 42"),
        ("a=1; pr-id=PR-42; b=2", "cookie 42"),
        ("a=1; pr-id=\"42.57\"; b=2", "cookie 42,57"),
        ("a=1;pr-id=42;b", "cookie 42"),
        ("pr-id=42.57.demo", "cookie 42,57"),
        ("pr-id=%34%32", "cookie 42"),
        ("pr-id=nobody", "cookie nobody"),
        ("pr-id=", "none"),
        ("pr-id=4_2", "none"),
        ("pr-id=42,57", "none"),
        ("pr-id=%zz", "none"),
        ("pr-id=1.2.3.4.5.6.7.8.9", "none"),
        ("pr-id", "none"),
        ("xpr-id=42; pr-idx=42; PR-ID=42; a=pr-id=42", "none"),
        ("pr-id=4_2; pr-id=42", "cookie 42"),
        ("pr-id=42; pr-id=57", "cookie 42"),
    ] {
        assert_eq!(said(&cookie(text), estate()), expected, "{text}");
        assert_eq!(said(&cookie(text), &estate_with("carriers: {cookie: false}")), "none", "{text}");
    }
    assert_eq!(said(&cookie("a=1").with("cookie", "pr-id=42"), estate()), "cookie 42");
    assert_eq!(said(&cookie(b"a=\xff; pr-id=42"), estate()), "cookie 42", "a neighbour may be broken");
    assert_eq!(said(&cookie(b"pr-id=\xff"), estate()), "none");
}

#[test]
fn the_cookie_never_conflicts_and_an_unknown_preview_in_it_is_an_error() {
    let table = estate_with("carriers: {path: true}");
    for head in [
        cookie("pr-id=57").with("x-pr-id", "42"),
        PlainHead { authority: "pr-42.preview.localhost".to_owned(), ..cookie("pr-id=57") },
        PlainHead { path: "/pr-42/".to_owned(), ..cookie("pr-id=57") },
        PlainHead { query: Some("pr-id=42".to_owned()), ..cookie("pr-id=57") },
        cookie("pr-id=57").with("baggage", "pr-id=42"),
        cookie("pr-id=57").with("traceparent", TRACE).with("tracestate", "pr-id=42"),
    ] {
        let said = said(&head, &table);
        assert!(said.ends_with(" 42") && !said.starts_with("cookie"), "{said}: {head:?}");
    }
    assert_eq!(decided(&cookie("pr-id=nobody"), estate()), "unknown_preview");
    assert_eq!(decided(&cookie("pr-id=41"), estate()), "preview_expired");
    assert_eq!(decided(&cookie("pr-id=57"), estate()), "shop@57 fork");
}

#[test]
fn the_origin_of_a_preflight_and_of_a_call_to_a_domain_of_ours() {
    let page = "https://pr-42.preview.localhost:8443";
    let preflight =
        |host: &str, origin: &str| call("OPTIONS", host, origin).with("access-control-request-method", "PUT");
    for (head, expected) in [
        (preflight("api.preview.localhost", page), "origin 42"),
        (preflight("api.preview.localhost", "https://pr-57.preview.localhost"), "origin 57"),
        (call("GET", "api.preview.localhost", page), "origin 42"),
        (call("POST", "API.Preview.Localhost.:8443", page), "origin 42"),
        (call("GET", D, "https://PR-42--API.preview.localhost"), "origin 42"),
        (call("GET", D, "https://pr-42--pr-57.preview.localhost"), "origin 42,57"),
        (call("GET", D, "https://demo.preview.localhost"), "origin 42"),
        (call("GET", D, "https://uat.example.com"), "origin 42"),
        // Not to a domain of ours.
        (call("GET", "elsewhere.example.org", page), "none"),
        (call("OPTIONS", "elsewhere.example.org", page), "none"),
        // Unknown, malformed, or no host at all: ignored.
        (preflight(D, "https://pr-nobody.preview.localhost"), "none"),
        (preflight(D, "https://pr-42--pr-nobody.preview.localhost"), "none"),
        (preflight(D, "https://pr--42.preview.localhost"), "none"),
        (preflight(D, "https://api.pr-42.preview.localhost"), "none"),
        (preflight(D, "https://preview.localhost"), "none"),
        (preflight(D, "https://pr-42.example.org"), "none"),
        (preflight(D, "null"), "none"),
        (preflight(D, ""), "none"),
        (preflight(D, "://"), "none"),
        (preflight(D, "pr-42.preview.localhost"), "none"),
    ] {
        assert_eq!(said(&head, estate()), expected, "{head:?}");
        assert_eq!(said(&head, &estate_with("carriers: {origin: false}")), "none", "{head:?}");
    }
    let broken = get().with("origin", b"https://pr-42.preview.localhost\xff");
    assert_eq!(said(&broken, estate()), "none");
}

#[test]
fn the_origin_gives_way_to_every_other_carrier() {
    let page = || call("GET", D, "https://pr-57.preview.localhost");
    assert_eq!(said(&page().with("x-pr-id", "42"), estate()), "header 42");
    assert_eq!(said(&page().with("baggage", "pr-id=42"), estate()), "baggage 42");
    assert_eq!(said(&page().with("cookie", "pr-id=42"), estate()), "cookie 42");
    assert_eq!(
        said(&page().with("cookie", "pr-id=4_2"), estate()),
        "origin 57",
        "a malformed cookie is none"
    );
    let tools = estate_with("carriers: {aliases: [mirrord]}");
    assert_eq!(said(&page().with("baggage", "mirrord-session=42"), &tools), "alias 42");
}

#[test]
fn other_tools() {
    let table = estate_with("carriers: {aliases: [okteto, signadot, mirrord, telepresence, ktenv]}");
    let baggage = |text: &str| get().with("baggage", text);
    let state = |text: &str| get().with("traceparent", TRACE).with("tracestate", text);
    for (head, expected) in [
        (baggage("sd-routing-key=42"), "alias 42"),
        (baggage("a=1, sd-routing-key = PR-42 ;p, b"), "alias 42"),
        (baggage("sd-sandbox=demo"), "alias 42"),
        (baggage("sd-workspace=42"), "alias 42"),
        (baggage("mirrord-session=42"), "alias 42"),
        (baggage("okteto-divert=42"), "alias 42"),
        (state("sd-routing-key=42"), "alias 42"),
        (state("sd-sandbox=42"), "alias 42"),
        (get().with("tracestate", "sd-routing-key=42"), "none"),
        (get().with("ot-baggage-sd-routing-key", "42"), "alias 42"),
        (get().with("uberctx-sd-sandbox", "42"), "alias 42"),
        (get().with("x-okteto-divert", "42"), "alias 42"),
        (get().with("baggage.okteto-divert", "42"), "alias 42"),
        (get().with("x-telepresence-intercept-id", "42"), "alias 42"),
        (get().with("x-virtual-env", "42"), "alias 42"),
        (PlainHead { query: Some("sd-routing-key=42".to_owned()), ..get() }, "alias 42"),
        // Theirs, and not our error.
        (baggage("sd-routing-key=nobody"), "none"),
        (baggage("sd-routing-key=41"), "none"),
        (baggage("sd-routing-key=not a key_"), "none"),
        (baggage("sd-routing-key=%zz"), "none"),
        (baggage("sd-routing-key="), "none"),
        (get().with("x-okteto-divert", b"\xff"), "none"),
        // The first that names a preview here, set by set.
        (baggage("sd-routing-key=nobody,sd-sandbox=42"), "alias 42"),
        (baggage("sd-routing-key=57,okteto-divert=42"), "alias 42"),
        (get().with("baggage", b"a=\xff,sd-routing-key=42"), "alias 42"),
    ] {
        assert_eq!(said(&head, &table), expected, "{head:?}");
        assert_eq!(said(&head, estate()), "none", "{head:?}: off by default");
    }
    let ours = |head: PlainHead| said(&head.with("x-pr-id", "57"), &table);
    assert_eq!(ours(baggage("sd-routing-key=42")), "header 57", "no conflict");
    assert_eq!(said(&baggage("sd-routing-key=42").with("cookie", "pr-id=57"), &table), "alias 42");
}
