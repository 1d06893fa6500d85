//! Rows 1 to 6 of 2.1: what is read, what is an error, and how the explicit carriers stand to each other.

use super::put;
use crate::error::Code;
use crate::fixture::{D, TRACE, estate, estate_with, said};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::table::Table;

const EXPLICIT: [&str; 6] = ["header", "host", "path", "query", "baggage", "tracestate"];

fn with_path() -> Table {
    estate_with("carriers: {path: true}")
}

fn get() -> PlainHead {
    PlainHead::get(D)
}

fn query(text: &str) -> PlainHead {
    PlainHead { query: Some(text.to_owned()), ..get() }
}

fn member(text: impl AsRef<[u8]>) -> PlainHead {
    get().with("baggage", text)
}

fn state(text: impl AsRef<[u8]>) -> PlainHead {
    get().with("traceparent", TRACE).with("tracestate", text)
}

#[test]
fn every_spelling_and_list_in_every_carrier() {
    let table = with_path();
    for (keys, canonical) in [
        (&["42"][..], "42"),
        (&["Shop-7"], "shop-7"),
        (&["DEMO"], "42"),
        (&["42", "57"], "42,57"),
        (&["57", "42", "57"], "57,42"),
        (&["demo", "57", "42"], "42,57"),
        (&["1", "2", "3", "4", "5", "6", "7", "8"], "1,2,3,4,5,6,7,8"),
        (&["1", "2", "3", "4", "5", "6", "7", "8", "1"], "1,2,3,4,5,6,7,8"),
        (&["nobody"], "nobody"),
    ] {
        for carrier in EXPLICIT {
            assert_eq!(
                said(&put(get(), carrier, keys), &table),
                format!("{carrier} {canonical}"),
                "{keys:?}"
            );
        }
        let prefixed: Vec<String> = keys.iter().map(|key| format!("PR-{key}")).collect();
        let prefixed: Vec<&str> = prefixed.iter().map(String::as_str).collect();
        for carrier in ["header", "query", "baggage", "tracestate"] {
            assert_eq!(said(&put(get(), carrier, &prefixed), &table), format!("{carrier} {canonical}"));
        }
    }
}

#[test]
fn lines_of_the_header_are_one_list_in_order() {
    let head = get()
        .with("x-pr-id", "57")
        .with("accept", "*/*")
        .with("x-pr-id", "PR-42 ,\tshop-7")
        .with("x-pr-id", "57");
    assert_eq!(said(&head, estate()), "header 57,42,shop-7");
    let nine = (1..=9).fold(get(), |head, n| head.with("x-pr-id", n.to_string()));
    assert_eq!(said(&nine, estate()), "malformed_key");
    assert_eq!(said(&get().with("x-pr-id", "42").with("x-pr-id", ""), estate()), "malformed_key");
}

#[test]
fn the_first_in_the_order_of_precedence_names_the_carrier() {
    let table = with_path();
    for (at, first) in EXPLICIT.iter().enumerate() {
        let all = EXPLICIT[at..].iter().rev().fold(get(), |head, carrier| put(head, carrier, &["42", "57"]));
        assert_eq!(said(&all, &table), format!("{first} 42,57"));
        for second in &EXPLICIT[at + 1..] {
            let both = |keys: &[&str]| put(put(get(), second, keys), first, &["42", "57"]);
            assert_eq!(said(&both(&["demo", "57"]), &table), format!("{first} 42,57"), "{second}");
            for other in [&["42"][..], &["57", "42"], &["42", "57", "1"], &["nobody"]] {
                assert_eq!(said(&both(other), &table), "conflicting_keys", "{first} and {second}: {other:?}");
            }
            let failure = identify(&both(&["idle"]), &table).unwrap_err();
            let told = [*first, *second, "42,57", "idle"].iter().all(|word| failure.detail.contains(word));
            assert!(told, "{}", failure.detail);
        }
    }
}

#[test]
fn no_key_in_any_explicit_carrier_is_an_error() {
    let nine = "1 2 3 4 5 6 7 8 9".split(' ').collect::<Vec<_>>();
    let long = "a".repeat(41);
    let table = with_path();
    for carrier in EXPLICIT {
        for bad in
            [&["4_2"][..], &["-42"], &["42-"], &["pr-pr-42"], &["42", ""], &["", "42"], &[&long], &nine]
        {
            assert_eq!(said(&put(get(), carrier, bad), &table), "malformed_key", "{carrier} {bad:?}");
        }
        if carrier != "query" {
            assert_eq!(said(&put(get(), carrier, &[""]), &table), "malformed_key", "an empty {carrier}");
        }
        // One carrier that is right does not make up for another.
        if carrier != "header" {
            assert_eq!(said(&put(get(), carrier, &["4_2"]).with("x-pr-id", "42"), &table), "malformed_key");
        }
    }
}

#[test]
fn bytes_that_are_no_text_and_broken_escapes_are_errors() {
    for head in [
        get().with("x-pr-id", b"4\xff2"),
        get().with("x-pr-id", "42").with("x-pr-id", b"\xff"),
        get().with("x-pr-id", "%34%32"),
        query("pr-id=%"),
        query("pr-id=4%"),
        query("pr-id=%4"),
        query("pr-id=%zz"),
        query("pr-id=%ff"),
        query("pr-id=4+2"),
        query("pr-id=%20"),
        query("pr-id=,"),
        query("pr-id=42&pr-id=4_2"),
        query("pr-id=42&pr-id="),
        member("pr-id=%4"),
        member("pr-id=%zz;strict"),
        member("pr-id=%ff"),
        member(b"pr-id=4\xff2"),
        member(b"a=\xff,pr-id=\xfe"),
        member("pr-id"),
        member("pr-id;strict"),
        member("pr-id;a=b"),
        member("pr-id=;strict"),
        member("pr-id=42,57,pr-id=4_2"),
        state("pr-id=%34%32"),
        state(b"pr-id=4\xff2"),
        state("pr-id"),
    ] {
        assert_eq!(said(&head, estate()), "malformed_key", "{head:?}");
    }
    assert_eq!(said(&PlainHead::get(&format!("{D}/pr-%ff/x")), &with_path()), "malformed_key");
}

#[test]
fn a_header_that_is_ours_but_for_an_underscore_is_an_error() {
    for name in ["x_pr_id", "x-pr_id", "x_pr-id", "X_PR_ID"] {
        assert_eq!(said(&get().with(name, "42"), estate()), "malformed_key", "{name}");
        assert_eq!(said(&get().with("x-pr-id", "42").with(name, "42"), estate()), "malformed_key", "{name}");
        assert_eq!(said(&get().with(name, ""), estate()), "malformed_key", "{name}");
    }
    for name in ["x-pr-idx", "x-pr", "xxprxid", "x.pr.id"] {
        assert_eq!(said(&get().with(name, "42"), estate()), "none", "{name}");
    }
    let off = estate_with("carriers: {header: false}");
    assert_eq!(said(&get().with("x_pr_id", "42").with("x-pr-id", "42"), &off), "none");
    let named = estate_with("carriers: {header: X_Preview-Id}");
    assert_eq!(said(&get().with("x_preview-id", "42"), &named), "header 42");
    for name in ["x-preview-id", "x_preview_id", "x-preview_id"] {
        assert_eq!(
            said(&get().with(name, "42"), &named),
            "malformed_key",
            "{name}: a server reads both as one"
        );
    }
}

#[test]
fn baggage() {
    for (text, expected) in [
        ("pr-id=42", "baggage 42"),
        ("a=1 , pr-id = 42 ; p=1, b=2", "baggage 42"),
        ("pr-id=%34%32", "baggage 42"),
        ("pr-id=42%2E57", "baggage 42,57"),
        ("pr-id=42,pr-id=PR-42", "baggage 42"),
        ("pr-id=42,pr-id=57", "conflicting_keys"),
        ("=,;;,%,%zz=%zz,,a;b,c==,pr-id=42,\"", "baggage 42"),
        ("xpr-id=42,pr-id-x=57,PR-ID=1", "none"),
        ("a=pr-id=42", "none"),
        ("a=1;pr-id=42", "none"),
        ("", "none"),
    ] {
        assert_eq!(said(&member(text), estate()), expected, "{text}");
        assert_eq!(said(&member(text), &estate_with("carriers: {baggage: false}")), "none", "{text}");
    }
    assert_eq!(
        said(&member(b"a=\xff\xfe,pr-id=42,\xff=1"), estate()),
        "baggage 42",
        "neighbours may be broken"
    );
    assert_eq!(said(&member(b"\xff").with("baggage", "pr-id=42"), estate()), "baggage 42");
    assert_eq!(said(&member("pr-id=42").with("baggage", "a=1,pr-id=57"), estate()), "conflicting_keys");
}

#[test]
fn tracestate_counts_beside_a_valid_traceparent_only() {
    for (text, expected) in [
        ("pr-id=42", "tracestate 42"),
        ("a=1,\tpr-id=42.57 ,b=2", "tracestate 42,57"),
        (",,==,@=,pr-id=42,a", "tracestate 42"),
        ("pr-id=42,pr-id=57", "conflicting_keys"),
        ("t@pr-id=42", "none"),
    ] {
        assert_eq!(said(&state(text), estate()), expected, "{text}");
        assert_eq!(said(&state(text), &estate_with("carriers: {tracestate: false}")), "none", "{text}");
    }
    assert_eq!(said(&state(b"a=\xff,pr-id=42,\xfe"), estate()), "tracestate 42", "neighbours may be broken");
    let invalid = ["", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0"];
    for text in ["pr-id=42", "pr-id=4_2", "pr-id="] {
        assert_eq!(said(&get().with("tracestate", text), estate()), "none", "{text} without a traceparent");
        for parent in invalid {
            let head = get().with("traceparent", parent).with("tracestate", text);
            assert_eq!(said(&head, estate()), "none", "{text} beside {parent:?}");
        }
        let two = get().with("traceparent", TRACE).with("traceparent", TRACE).with("tracestate", text);
        assert_eq!(said(&two, estate()), "none", "{text} beside two");
    }
}

#[test]
fn strictness_is_asked_for_by_header_or_by_the_property_of_our_member() {
    let strict = |head: PlainHead| identify(&head, estate()).unwrap().strict;
    for value in ["1", "true", "yes", "on", "ture", "FALSE?"] {
        assert!(strict(get().with("x-pr-strict", value)), "{value}: a typing error does not turn it off");
    }
    for value in ["0", "false", ""] {
        assert!(!strict(get().with("x-pr-strict", value)), "{value}");
    }
    assert!(strict(get().with("x-pr-strict", "1").with("x-pr-strict", "0")), "either line suffices");
    assert!(strict(get().with("x-pr-strict", "0").with("x-pr-strict", "1")), "either line suffices");
    assert!(strict(get().with("x_pr_strict", "1")) && strict(get().with("x-pr_strict", "1")));
    assert!(!strict(get().with("x_pr_strict", "0")));
    for text in
        ["pr-id=42;strict", "pr-id=42 ; a=1 ; strict", "pr-id=42;strict=1", "pr-id=42;strict,pr-id=42"]
    {
        assert!(strict(member(text)), "{text}");
    }
    for text in
        ["pr-id=42", "pr-id=42;strict=0", "pr-id=42;strictly", "pr-id=42;a=strict", "a=1;strict,pr-id=42"]
    {
        assert!(!strict(member(text)), "{text}");
    }
    assert!(strict(member("pr-id=42;strict").with("x-pr-id", "42")));
}

#[test]
fn errors_say_where_and_what_to_write() {
    for (carrier, head) in [("header", get().with("x-pr-id", "4_2")), ("baggage", member("pr-id=4_2"))] {
        let failure = identify(&head, estate()).unwrap_err();
        assert_eq!((failure.code, failure.status()), (Code::MalformedKey, 400));
        let told = [carrier, "4_2", "pr-42"].iter().all(|word| failure.detail.contains(word));
        assert!(told, "{}", failure.detail);
    }
    let long = "x".repeat(60_000);
    for head in [
        get().with("x-pr-id", &long),
        member(format!("pr-id={long}")),
        query(&format!("pr-id={long}")),
        PlainHead::get(&format!("pr-{long}.{D}")),
        PlainHead::get(&format!("pr--{long}.{D}")),
        PlainHead::get(&format!("api.pr-{long}.{D}")),
        PlainHead::get(&format!("pr-1--{long}--pr-2.{D}")),
        PlainHead::get(&format!("pr-1---{long}.{D}")),
        PlainHead::get(&format!("{D}/pr-{long}")),
        PlainHead::get(&format!("{D}/pr-1--{long}")),
    ] {
        let failure = identify(&head, &with_path()).unwrap_err();
        assert!(failure.detail.len() < 300, "what a client wrote is cut: {}", failure.detail.len());
    }
}
