//! Where a redirect leads.

use sidetrack_config::model::{Action, HostPattern, PathMatch, PathRewrite, Route};

use super::*;
use crate::fixture::{estate, estate_with};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::table::Table;

fn leads(url: &str, to: &Redirect, prefix: &str, table: &Table) -> String {
    let mut route = Route::to(HostPattern::Any, prefix, 0);
    route.action = Action::Redirect(to.clone());
    let rule = Rule::new(0, &route, &table.estate.carriers);
    let head = PlainHead::get(url);
    let identity = identify(&head, table).unwrap();
    let scheme = if head.is_secure { Scheme::Https } else { Scheme::Http };
    location(to, &rule, &head, &identity, scheme)
}

const SAME: Redirect = Redirect { scheme: None, host: None, port: None, path: None, status: 302 };

fn https() -> Redirect {
    Redirect { scheme: Some(Scheme::Https), ..SAME }
}

#[test]
fn what_is_not_named_stays() {
    let host = Redirect { host: Some("other.example".into()), ..SAME };
    let port = |port| Redirect { port: Some(port), ..SAME };
    let secure_port = |port| Redirect { port: Some(port), ..https() };
    for (url, to, expected) in [
        ("http://a.test/x?y=1&z", https(), "https://a.test/x?y=1&z"),
        ("http://a.test:8080/x", https(), "https://a.test/x"),
        ("http://a.test:8080/x", SAME, "http://a.test:8080/x"),
        ("http://a.test:80/x", SAME, "http://a.test/x"),
        ("https://a.test/x", SAME, "https://a.test/x"),
        ("http://a.test:8080/x", host.clone(), "http://other.example:8080/x"),
        ("http://a.test/x", port(8443), "http://a.test:8443/x"),
        ("http://a.test:8080/x", port(80), "http://a.test/x"),
        ("http://a.test/x", secure_port(443), "https://a.test/x"),
        ("http://a.test/x", secure_port(80), "https://a.test:80/x"),
        ("http://[::2]:8080/x", https(), "https://[::2]/x"),
        ("http://[::2]:8080/x", SAME, "http://[::2]:8080/x"),
        ("http://[::2]/x", SAME, "http://[::2]/x"),
        ("/x?y", SAME, "/x?y"),
    ] {
        assert_eq!(leads(url, &to, "/", estate()), expected, "{url} {to:?}");
    }
}

#[test]
fn a_key_in_the_url_is_kept() {
    for url in [
        "//pr-42.preview.localhost/api",
        "//api--pr-42.preview.localhost/",
        "//demo.preview.localhost/",
        "//a/?pr-id=42",
    ] {
        let url = url.trim_start_matches('/');
        assert_eq!(leads(&format!("http://{url}"), &https(), "/", estate()), format!("https://{url}"));
    }
    let host = Redirect { host: Some("other.example".into()), ..SAME };
    assert_eq!(
        leads("http://pr-42.preview.localhost/x", &host, "/", estate()),
        "http://other.example/x",
        "as the filter says"
    );
}

#[test]
fn a_path_is_put_behind_the_segment_of_the_key() {
    let table = estate_with("carriers: {path: true}");
    let full = Redirect { path: Some(PathRewrite::Full("/new".into())), ..SAME };
    let prefix = Redirect { path: Some(PathRewrite::Prefix("/v2".into())), ..SAME };
    assert_eq!(leads("http://a.test/pr-42/old/x?q", &full, "/old", &table), "http://a.test/pr-42/new?q");
    assert_eq!(leads("http://a.test/pr-42/old/x?q", &prefix, "/old", &table), "http://a.test/pr-42/v2/x?q");
    assert_eq!(leads("http://a.test/old", &prefix, "/old", &table), "http://a.test/v2");
    assert_eq!(leads("http://a.test/pr-42/old", &SAME, "/old", &table), "http://a.test/pr-42/old");
}

#[test]
fn no_host_is_made_of_a_path() {
    assert_eq!(leads("//evil.example/x", &SAME, "/", estate()), "/evil.example/x");
}

#[test]
fn the_answer_has_nothing_but_its_head() {
    let mut route = Route::to(HostPattern::Any, "/", 0);
    let to = Redirect { status: 308, ..https() };
    route.path = PathMatch::Exact("/x".into());
    route.action = Action::Redirect(to.clone());
    let rule = Rule::new(0, &route, &estate().estate.carriers);
    let head = PlainHead::get("http://a.test/x");
    let identity = identify(&head, estate()).unwrap();
    let answer = redirect(&to, &rule, &head, &identity, Scheme::Http);
    assert_eq!(answer.status, 308);
    assert_eq!(answer.fields.text("location"), Some("https://a.test/x"));
    assert_eq!(answer.fields.text("content-length"), Some("0"));
    assert_eq!(answer.fields.text("cache-control"), Some("no-store"));
}
