use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::fixture::{D, decide, service_of, table};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::build::Builder;

/// Two services and these previews.
fn estate(baseline: &str, previews: &str) -> Table {
    table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nunknownPreview: baseline\nservices:\n  \
         other: {{baseline: [127.0.0.1:9900]}}\n  shop: {{baseline: [{baseline}]}}\n\
         routes: [{{host: {D}, service: shop}}]\npreviews: {{{previews}}}\n"
    ))
}

const BASE: &str = "127.0.0.1:9000, 127.0.0.1:9001";

fn ask(keys: &str) -> PlainHead {
    let head = PlainHead::get(D);
    if keys.is_empty() { head } else { head.with("x-pr-id", keys) }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Whether what `before` decided for `keys`, answered from `port`, stands once `after` is in force.
fn stands(keys: &str, port: u16, before: &Table, after: &Table) -> bool {
    let head = ask(keys);
    let identity = identify(&head, before).unwrap();
    let service = service_of(&head, &identity, before).unwrap();
    let target = decide(&head, before).unwrap().0;
    let exchange = Exchange {
        identity: &identity,
        service: &service.name,
        preview: target.preview(),
        endpoint: address(port),
        is_meant: false,
    };
    Standing::of(&exchange, before).holds(&exchange, after)
}

/// In a pod of the baseline its readiness is not the table's to judge, nor whether anybody forks the service any more.
#[test]
fn what_was_meant_for_this_very_pod_stays_until_a_fork_takes_it() {
    let before = estate("127.0.0.1:9000", "'7': {}");
    let unready = estate("127.0.0.1:9001", "'7': {}");
    let only_in_previews = table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nunknownPreview: baseline\nservices: {{shop: {{}}}}\n"
    ));
    let forked = estate("127.0.0.1:9001", "'42': {forks: {shop: [127.0.0.1:9100]}}");
    for (keys, after, expected) in [
        ("", &unready, true),
        ("", &only_in_previews, true),
        ("42", &only_in_previews, true),
        ("", &forked, true),
        ("42", &forked, false),
    ] {
        let identity = identify(&ask(keys), &before).unwrap();
        let exchange = Exchange {
            identity: &identity,
            service: "shop",
            preview: None,
            endpoint: address(9000),
            is_meant: true,
        };
        assert_eq!(Standing::of(&exchange, &before).holds(&exchange, after), expected, "{keys:?}");
    }
}

#[test]
fn a_fork_appears_changes_and_dies() {
    let none = estate(BASE, "");
    let fork = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9100, 127.0.0.1:9101]}}");
    let other = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9101]}}");
    for (keys, port, before, after, expected) in [
        ("42", 9000, &none, &fork, false),
        ("", 9000, &none, &fork, true),
        ("7", 9000, &none, &fork, true),
        ("42", 9100, &fork, &other, false),
        ("42", 9101, &fork, &other, true),
        ("42", 9101, &other, &fork, true),
        ("42", 9101, &fork, &none, false),
        ("", 9001, &fork, &none, true),
    ] {
        assert_eq!(stands(keys, port, before, after), expected, "{keys} {port}");
    }
}

#[test]
fn other_previews_other_services_and_other_places_are_no_change() {
    let before = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9100]}}");
    let after = estate(
        BASE,
        "'42': {forks: {shop: [127.0.0.1:9100], other: [127.0.0.1:9109]}, onForkDown: baseline, aliases: [x]},
         '43': {forks: {shop: [127.0.0.1:9110]}}",
    );
    assert!(stands("42", 9100, &before, &after) && stands("", 9000, &before, &after));
    let moved = crate::fixture::table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nservices:\n  shop: {{baseline: [{BASE}]}}\n\
         routes: [{{host: {D}, service: shop}}]\npreviews: {{'42': {{forks: {{shop: [127.0.0.1:9100]}}}}}}\n"
    ));
    assert!(stands("42", 9100, &before, &moved), "the service has another index");
    let gone = crate::fixture::table("listeners: [{address: 127.0.0.1:0}]\n");
    assert!(!stands("42", 9100, &before, &gone) && !stands("", 9000, &before, &gone), "there is no service");
}

#[test]
fn a_parent_and_another_name_count() {
    let parent = "'42': {forks: {shop: [127.0.0.1:9100]}}";
    let alone = estate(BASE, parent);
    let child = estate(BASE, &format!("{parent}, '7': {{parents: ['42']}}"));
    assert!(!stands("7", 9000, &alone, &child) && !stands("7", 9100, &child, &alone));
    let named = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9100]}, aliases: [demo]}");
    assert!(!stands("demo", 9000, &alone, &named), "another name of a preview that is there now");
}

#[test]
fn a_request_that_would_be_refused_does_not_stand() {
    let before = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9100]}}");
    let strict = crate::fixture::table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nservices: {{shop: {{baseline: [{BASE}]}}}}\n\
         routes: [{{host: {D}, service: shop}}]\n"
    ));
    assert!(!stands("42", 9100, &before, &strict) && stands("", 9000, &before, &strict));
}

#[test]
fn what_fell_back_to_the_baseline_stays_there_while_its_fork_is_declared() {
    let before = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9100]}}");
    let identity = identify(&ask("42,43"), &before).unwrap();
    let endpoint = address(9000);
    let fell = Exchange { identity: &identity, service: "shop", preview: None, endpoint, is_meant: false };
    let standing = Standing::of(&fell, &before);
    let moved = estate(BASE, "'42': {forks: {shop: [127.0.0.1:9101]}}");
    let another = estate(BASE, "'43': {forks: {shop: [127.0.0.1:9102]}}");
    assert!(standing.holds(&fell, &before) && standing.holds(&fell, &moved));
    assert!(standing.holds(&fell, &estate(BASE, "")), "it is where it would go");
    assert!(!standing.holds(&fell, &another), "another fork than the one that was down");
    assert!(!standing.holds(&fell, &estate("127.0.0.1:9001", "")), "its endpoint has gone");
}

/// The estate whose baseline is a name that gives these ports.
fn named(ports: &[u16]) -> Table {
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nservices: {{shop: {{baseline: [\"shop.test:80\"]}}}}\n\
         routes: [{{host: {D}, service: shop}}]\n"
    );
    let config = sidetrack_config::parse(Path::new("test.yaml"), &text).unwrap().config;
    let mut builder = Builder::new(1);
    builder.resolved("shop.test", 80, ports.iter().copied().map(address).collect());
    Table::new(1, builder.estate(&config).unwrap())
}

#[test]
fn a_baseline_that_left_counts_unless_its_name_gives_addresses_in_turn() {
    assert!(!stands("", 9000, &estate(BASE, ""), &estate("127.0.0.1:9001", "")));
    assert!(stands("", 9000, &named(&[9000, 9001]), &named(&[9001, 9002])));
}

#[test]
fn an_endpoint_that_no_table_lists_does_not_leave() {
    assert!(stands("", 1, &estate(BASE, ""), &estate("127.0.0.1:9001", "")));
}

/// Forks of the shop by 42 and 43, each with some of three endpoints.
fn any_previews() -> impl Strategy<Value = String> {
    let fork = prop::option::of(prop::sample::subsequence(vec![9100, 9101, 9102], 1..=3));
    prop::collection::vec(fork, 2).prop_map(|forks| {
        let preview = |(key, ports): (&str, Option<Vec<u16>>)| {
            let ports = ports.map(|ports| {
                let list: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
                format!("shop: [{}]", list.join(", "))
            });
            format!("'{key}': {{forks: {{{}}}}}", ports.unwrap_or_default())
        };
        ["42", "43"].into_iter().zip(forks).map(preview).collect::<Vec<_>>().join(", ")
    })
}

proptest! {
    /// It stands if and only if the same request gets the same side and preview now, and its endpoint is one of them.
    #[test]
    fn it_is_the_walk_asked_again(
        before in any_previews(),
        after in any_previews(),
        keys in prop::sample::select(vec!["", "42", "43", "42,43", "43,42", "7"]),
        nth in any::<prop::sample::Index>(),
    ) {
        let (before, after) = (estate(BASE, &before), estate(BASE, &after));
        let was = decide(&ask(keys), &before).unwrap().0;
        let is = decide(&ask(keys), &after).unwrap().0;
        let port = nth.get(was.endpoints()).address.port();
        let same = was.preview() == is.preview()
            && is.endpoints().iter().any(|endpoint| endpoint.address.port() == port);
        prop_assert_eq!(stands(keys, port, &before, &after), same);
    }
}
