//! DESIGN 2.2: which target.

mod endpoint;
mod way;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use proptest::prelude::*;

use crate::decision::{Reason, Target};
use crate::fixture::{D, ESTATE, decide, decided, estate, estate_with, key_list, table};
use crate::head::PlainHead;
use crate::route::table::Table;

/// A request for `service` that names `keys`.
fn ask(service: &str, keys: &str) -> PlainHead {
    let host = match service {
        "shop" => D.to_owned(),
        "checkout" => format!("api.{D}"),
        other => format!("{other}.{D}"),
    };
    let head = PlainHead::get(&host);
    if keys.is_empty() { head } else { head.with("x-pr-id", keys) }
}

#[test]
fn named_keys_in_order_then_parents_then_baseline() {
    for (service, keys, expected) in [
        ("shop", "", "shop@baseline no_key"),
        ("checkout", "", "checkout@baseline no_key"),
        ("checkout", "42", "checkout@42 fork"),
        ("shop", "42", "shop@baseline no_fork"),
        ("shop", "57", "shop@57 fork"),
        ("checkout", "57", "checkout@42 parent_fork"),
        ("shop", "57,shop-7", "shop@57 fork"),
        ("shop", "shop-7,57", "shop@shop-7 fork"),
        ("shop", "42,idle,shop-7,57", "shop@shop-7 fork"),
        ("shop", "idle", "shop@baseline no_fork"),
        // A named key comes before a parent of an earlier one.
        ("checkout", "57,asleep", "checkout@asleep fork"),
        ("checkout", "57,42", "checkout@42 fork"),
        // Declared is declared, even without an endpoint.
        ("checkout", "asleep", "checkout@asleep fork"),
        ("checkout", "asleep,42", "checkout@asleep fork"),
        // A service that exists only in previews.
        ("ghost", "", "no_route"),
        ("ghost", "42", "no_route"),
        ("ghost", "shop-7", "ghost@shop-7 fork"),
        ("ghost", "42,shop-7", "ghost@shop-7 fork"),
    ] {
        assert_eq!(decided(&ask(service, keys), estate()), expected, "{service} {keys}");
        assert_eq!(
            decided(&ask(service, keys).with("x-pr-strict", "1"), estate()),
            expected,
            "strict {service} {keys}"
        );
    }
}

#[test]
fn an_unknown_key_fails_or_takes_the_baseline_as_the_policy_says() {
    for (service, keys, reject, baseline, strict) in [
        ("shop", "nobody", "unknown_preview", "shop@baseline unknown_preview", "unknown_preview"),
        ("shop", "41", "preview_expired", "shop@baseline unknown_preview", "preview_expired"),
        ("shop", "nobody,42", "unknown_preview", "shop@baseline unknown_preview", "unknown_preview"),
        ("shop", "42,41", "preview_expired", "shop@baseline unknown_preview", "preview_expired"),
        // A fork is no baseline answer.
        ("checkout", "nobody,42", "unknown_preview", "checkout@42 fork", "checkout@42 fork"),
        ("checkout", "42,nobody", "unknown_preview", "checkout@42 fork", "checkout@42 fork"),
        ("checkout", "41,57", "preview_expired", "checkout@42 parent_fork", "checkout@42 parent_fork"),
        ("ghost", "nobody", "unknown_preview", "no_route", "unknown_preview"),
    ] {
        let head = ask(service, keys);
        assert_eq!(decided(&head, estate()), reject, "{service} {keys}: reject");
        assert_eq!(decided(&head, lenient()), baseline, "{service} {keys}: baseline");
        for strict_head in [head.clone().with("x-pr-strict", "1"), member(&head, keys)] {
            assert_eq!(decided(&strict_head, lenient()), strict, "{service} {keys}: strict");
        }
    }
    let failure = decide(&ask("shop", "42,nobody"), estate()).map(|_| ()).unwrap_err();
    assert_eq!(
        (failure.preview.map(|key| key.to_string()), failure.status()),
        (Some("nobody".to_owned()), 404)
    );
    let failure = decide(&ask("shop", "41"), estate()).map(|_| ()).unwrap_err();
    assert_eq!((failure.preview.map(|key| key.to_string()), failure.status()), (Some("41".to_owned()), 410));
}

/// The same request, strict by the property of our baggage member.
fn member(head: &PlainHead, keys: &str) -> PlainHead {
    head.clone().with("baggage", format!("pr-id={};strict", keys.replace(',', ".")))
}

#[test]
fn waypoints_take_the_baseline_for_an_unknown_key_unless_told_otherwise() {
    let head = ask("shop", "nobody");
    assert_eq!(decided(&head, &estate_with("role: waypoint")), "shop@baseline unknown_preview");
    assert_eq!(decided(&head, &estate_with("role: waypoint\nunknownPreview: reject")), "unknown_preview");
}

/// An estate with one service and these previews, `true` for one that forks it.
fn family(previews: &[(&str, bool, &[&str])]) -> Table {
    let lines: Vec<String> = previews
        .iter()
        .map(|(key, forks, parents)| {
            let forks = if *forks { "{shop: ['127.0.0.1:1']}" } else { "{}" };
            format!("  {key}: {{forks: {forks}, parents: [{}]}}\n", parents.join(", "))
        })
        .collect();
    table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [{D}]\nservices: {{shop: {{baseline: ['127.0.0.1:1']}}}}\n\
         routes: [{{host: '*', service: shop}}]\npreviews:\n{}",
        lines.concat()
    ))
}

#[test]
fn parents_are_asked_breadth_first_each_once_and_eight_at_most() {
    let says =
        |previews: &[(&str, bool, &[&str])], keys: &str| decided(&ask("shop", keys), &family(previews));
    // Breadth before depth, and in the order written.
    let tree: &[(&str, bool, &[&str])] =
        &[("a", false, &["b", "c"]), ("b", false, &["d"]), ("c", true, &[]), ("d", true, &[])];
    assert_eq!(says(tree, "a"), "shop@c parent_fork");
    assert_eq!(says(tree, "b"), "shop@d parent_fork");
    // All parents of the first level, of every named key, come before the second level.
    let two: &[(&str, bool, &[&str])] = &[
        ("a", false, &["c"]),
        ("b", false, &["e"]),
        ("c", false, &["d"]),
        ("d", true, &[]),
        ("e", true, &[]),
    ];
    assert_eq!(says(two, "a,b"), "shop@e parent_fork");
    // Circles end.
    let circle: &[(&str, bool, &[&str])] =
        &[("a", false, &["b"]), ("b", false, &["c"]), ("c", false, &["a", "b"])];
    assert_eq!(says(circle, "a"), "shop@baseline no_fork");
    assert_eq!(says(circle, "b,a"), "shop@baseline no_fork");
    // The eighth parent counts, the ninth does not.
    let chain = |last: usize| -> Vec<(String, bool, Vec<String>)> {
        (0..=last)
            .map(|n| {
                (format!("k{n}"), n == last, if n < last { vec![format!("k{}", n + 1)] } else { vec![] })
            })
            .collect()
    };
    for (last, expected) in
        [(1, "shop@k1 parent_fork"), (8, "shop@k8 parent_fork"), (9, "shop@baseline no_fork")]
    {
        let chain = chain(last);
        let parents: Vec<Vec<&str>> =
            chain.iter().map(|(_, _, parents)| parents.iter().map(String::as_str).collect()).collect();
        let chain: Vec<(&str, bool, &[&str])> = chain
            .iter()
            .zip(&parents)
            .map(|((key, forks, _), parents)| (key.as_str(), *forks, parents.as_slice()))
            .collect();
        assert_eq!(says(&chain, "k0"), expected, "{last}");
    }
    // An unknown parent is skipped: it takes nobody's place.
    let orphan: &[(&str, bool, &[&str])] = &[
        ("a", false, &["u1", "u2", "u3", "u4", "u5", "u6", "u7", "b"]),
        ("b", false, &["c"]),
        ("c", true, &[]),
    ];
    assert_eq!(says(orphan, "a"), "shop@c parent_fork");
}

#[test]
fn a_parent_may_be_named_by_its_alias() {
    let text = format!("{}  kid: {{parents: [demo]}}\n", ESTATE);
    assert_eq!(decided(&ask("checkout", "kid"), &table(&text)), "checkout@42 parent_fork");
}

/// The estate of the other tests, where an unknown key takes the baseline.
fn lenient() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| estate_with("unknownPreview: baseline"))
}

/// The rules of 2.2 once more, written down as they are told there.
fn rules(
    family: &BTreeMap<String, (Vec<usize>, Vec<String>)>,
    keys: &[String],
    service: usize,
    reject: bool,
    strict: bool,
) -> String {
    let known = |key: &String| family.contains_key(key);
    let forks = |key: &String| family.get(key).is_some_and(|(forks, _)| forks.contains(&service));
    if reject && !keys.iter().all(known) {
        return "unknown_preview".to_owned();
    }
    if let Some(key) = keys.iter().find(|key| forks(key)) {
        return format!("s{service}@{key} fork");
    }
    let mut layer: Vec<String> = keys.iter().filter(|key| known(key)).cloned().collect();
    let mut seen = layer.clone();
    let mut asked = 0;
    while !layer.is_empty() {
        let mut next = Vec::new();
        for parent in layer.iter().flat_map(|key| &family[key].1).filter(|parent| known(parent)) {
            if !seen.contains(parent) && asked < 8 {
                asked += 1;
                seen.push(parent.clone());
                next.push(parent.clone());
            }
        }
        if let Some(key) = next.iter().find(|key| forks(key)) {
            return format!("s{service}@{key} parent_fork");
        }
        layer = next;
    }
    match (keys.iter().all(known), strict) {
        (true, _) => format!("s{service}@baseline no_fork"),
        (false, true) => "unknown_preview".to_owned(),
        (false, false) => format!("s{service}@baseline unknown_preview"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_target_is_what_the_rules_say(
        family in prop::collection::btree_map(
            "k[0-9a-d]",
            (prop::sample::subsequence(vec![0usize, 1, 2], 0..=1),
             prop::collection::hash_set("k[0-9a-f]", 0..4).prop_map(|parents| parents.into_iter().collect::<Vec<_>>())),
            1..14,
        ),
        asked in prop::collection::vec(prop::collection::hash_set("k[0-9a-e]", 1..5), 16),
        reject: bool,
        strict: bool,
    ) {
        let mut family = family;
        for (key, (_, parents)) in &mut family {
            parents.retain(|parent| parent != key);
        }
        let previews: Vec<String> = family.iter().map(|(key, (forks, parents))| {
            let forks: Vec<String> = forks.iter().map(|service| format!("s{service}: ['127.0.0.1:1']")).collect();
            format!("  {key}: {{forks: {{{}}}, parents: [{}]}}\n", forks.join(", "), parents.join(", "))
        }).collect();
        let table = table(&format!(
            "listeners: [{{address: 127.0.0.1:0}}]\nunknownPreview: {}\n\
             services: {{s0: {{baseline: ['127.0.0.1:1']}}, s1: {{baseline: ['127.0.0.1:1']}}, s2: {{baseline: ['127.0.0.1:1']}}}}\n\
             routes: [{{host: s0.test, service: s0}}, {{host: s1.test, service: s1}}, {{host: s2.test, service: s2}}]\n\
             previews:\n{}", if reject { "reject" } else { "baseline" }, previews.concat()));
        for keys in asked {
            let keys: Vec<String> = keys.into_iter().collect();
            for service in 0..3 {
                let head = PlainHead::get(&format!("s{service}.test"))
                    .with("x-pr-id", keys.join(","))
                    .with("x-pr-strict", if strict { "1" } else { "0" });
                prop_assert_eq!(decided(&head, &table), rules(&family, &keys, service, reject, strict), "{:?}", keys);
            }
        }
    }

    #[test]
    fn a_key_never_reaches_a_fork_of_one_that_is_neither_named_nor_a_parent(keys in key_list(), service: bool) {
        let head = ask(if service { "shop" } else { "checkout" }, &keys.join(","));
        for table in [estate(), lenient()] {
            if let Ok((Target::Fork(preview, _), reason)) = decide(&head, table) {
                let named = keys.iter().any(|key| key == preview.key.as_str());
                // 42 is the parent of 57, and no other preview has one.
                let parent = keys.iter().any(|key| key == "57") && preview.key.as_str() == "42";
                prop_assert!(match reason {
                    Reason::Fork => named,
                    Reason::ParentFork => parent && !named,
                    _ => false,
                }, "{keys:?} reached {}", preview.key);
            }
        }
    }
}
