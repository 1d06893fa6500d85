//! Rows 3 and 4 of 2.1: the path and the query, and what is left of them.

use crate::fixture::{D, estate, estate_with, said};
use crate::head::PlainHead;
use crate::identify::{CookieChange, identify, strip_query};

fn get() -> PlainHead {
    PlainHead::get(D)
}

fn query(text: &str) -> PlainHead {
    PlainHead { query: Some(text.to_owned()), ..get() }
}

#[test]
fn the_path() {
    let table = estate_with("carriers: {path: true}");
    for (path, keys, prefix, rest) in [
        ("/pr-42/api/checkout", "path 42", "/pr-42", "/api/checkout"),
        ("/PR-Demo/x", "path 42", "/PR-Demo", "/x"),
        ("/pr-42", "path 42", "/pr-42", "/"),
        ("/pr-42/", "path 42", "/pr-42", "/"),
        ("/pr-42//x", "path 42", "/pr-42", "//x"),
        ("/pr-42--pr-57/x", "path 42,57", "/pr-42--pr-57", "/x"),
        ("/pr-42/pr-57/x", "path 42", "/pr-42", "/pr-57/x"),
        ("/api/pr-42/x", "none", "", "/api/pr-42/x"),
        ("/42/x", "none", "", "/42/x"),
        ("/pr/x", "none", "", "/pr/x"),
        ("/", "none", "", "/"),
        ("*", "none", "", "/"),
    ] {
        let head = PlainHead { path: path.to_owned(), ..get() };
        let identity = identify(&head, &table).unwrap();
        assert_eq!(said(&head, &table), keys, "{path}");
        assert_eq!((identity.path_prefix(&head), identity.path(&head)), (prefix, rest), "{path}");
        assert_eq!(said(&head, estate()), "none", "{path}: off by default");
    }
    for path in ["/pr-", "/pr-/x", "/pr--42/x", "/pr-4_2/x", "/pr-42-/x", "/pr-42--/x", "/pr-%34/x"] {
        let head = PlainHead { path: path.to_owned(), ..get() };
        assert_eq!(said(&head, &table), "malformed_key", "{path}");
    }
}

#[test]
fn the_query() {
    for (text, expected) in [
        ("pr-id=42", "query 42"),
        ("a=1&pr-id=PR-42&b", "query 42"),
        ("pr-id=42%2C57", "query 42,57"),
        ("pr%2Did=%34%32", "query 42"),
        ("pr-id=42&a=1&pr-id=57", "query 42,57"),
        ("a=pr-id=42", "none"),
        ("xpr-id=42", "none"),
        ("PR-ID=42", "none"),
        ("pr-id%=42", "none"),
        ("", "none"),
    ] {
        let head = query(text);
        assert_eq!(said(&head, estate()), expected, "{text}");
        assert_eq!(identify(&head, estate()).unwrap().strip_query, expected != "none", "{text}");
        assert_eq!(said(&head, &estate_with("carriers: {query: false}")), "none", "{text}");
    }
    let renamed = estate_with("carriers: {query: preview}");
    assert_eq!(said(&query("preview=42&pr-id=57"), &renamed), "query 42");
}

#[test]
fn a_navigation_with_our_parameter_changes_the_cookie() {
    let change = |head: &PlainHead| identify(head, estate()).unwrap().cookie;
    for text in ["pr-id=", "pr-id", "a=1&pr-id=", "pr-id=&pr-id="] {
        assert_eq!(said(&query(text), estate()), "none", "{text}: empty clears, it is no error");
        assert_eq!(change(&query(text)), CookieChange::Clear, "{text}");
        assert!(identify(&query(text), estate()).unwrap().strip_query);
        let cookie = query(text).with("cookie", "pr-id=42");
        assert_eq!(said(&cookie, estate()), "none", "{text}: what is being cleared does not count");
    }
    assert_eq!(change(&query("pr-id=42")), CookieChange::Set);
    assert_eq!(change(&query("pr-id=42").with("sec-fetch-mode", "navigate")), CookieChange::Set);
    assert_eq!(change(&query("pr-id=42").with("x-pr-id", "42")), CookieChange::Set);
    for mode in ["cors", "no-cors", "same-origin", "websocket", ""] {
        assert_eq!(change(&query("pr-id=42").with("sec-fetch-mode", mode)), CookieChange::Keep, "{mode}");
    }
    for method in ["POST", "HEAD", "OPTIONS", "get"] {
        let head = PlainHead { method: method.to_owned(), ..query("pr-id=42") };
        assert_eq!(change(&head), CookieChange::Keep, "{method}");
    }
    assert_eq!(change(&query("a=1")), CookieChange::Keep);
    assert_eq!(change(&get().with("x-pr-id", "42")), CookieChange::Keep);
    let off = estate_with("carriers: {cookie: false}");
    assert_eq!(identify(&query("pr-id=42"), &off).unwrap().cookie, CookieChange::Keep);
}

#[test]
fn stripping_takes_our_parameter_only() {
    for (query, left) in [
        ("pr-id=42", None),
        ("pr-id", None),
        ("pr-id=42&pr%2did=57", None),
        ("a=1&pr-id=42&b=%zz+&&c", Some("a=1&b=%zz+&&c")),
        ("a=pr-id=42", Some("a=pr-id=42")),
        ("PR-ID=42&xpr-id=42", Some("PR-ID=42&xpr-id=42")),
    ] {
        assert_eq!(strip_query(query, "pr-id").as_deref(), left, "{query}");
    }
}
