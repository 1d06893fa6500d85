//! What holds for every request.

use proptest::prelude::*;

use super::put;
use crate::decision::{Reason, Target};
use crate::fixture::{D, TRACE, decide, estate, foreign_member, key_list, said};
use crate::head::PlainHead;
use crate::identify::{identify, strip_query};

/// Names of fields that may carry a key.
const CARRIERS: [&str; 6] = ["x-pr-id", "baggage", "tracestate", "traceparent", "cookie", "origin"];

/// Hosts that name a route and no preview.
fn keyless_host() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        D,
        "api.preview.localhost:80",
        "EU.preview.localhost",
        "a.b.example.net",
        "ghost.preview.localhost",
    ])
    .prop_map(str::to_owned)
}

/// Text that is full of what carriers are made of.
fn spiced() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "pr-", "42", "57", "demo", "--", "-", ".", "preview.localhost", "eu.", "api", "xn--", "pr-id", "=", ",", ";",
            "%", "%3", "%34", "%ff", "&", "/", "//", "..", ":", "[", "]", " ", "\t", "strict", "://", "https", TRACE, "*",
        ])
        .prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Bytes of a field value, most often spiced.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => spiced().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (spiced(), prop::collection::vec(any::<u8>(), 0..4), spiced())
            .prop_map(|(before, odd, after)| [before.as_bytes(), &odd, after.as_bytes()].concat()),
    ]
}

fn any_head() -> impl Strategy<Value = PlainHead> {
    let name = prop_oneof![
        6 => prop::sample::select(CARRIERS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["x_pr_id", "x-pr-strict", "sec-fetch-mode", "access-control-request-method"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    let fields = prop::collection::vec((name, bytes()), 0..6);
    let method = prop::sample::select(vec!["GET", "POST", "OPTIONS"]);
    (method, spiced(), spiced(), prop::option::of(spiced()), fields).prop_map(
        |(method, authority, path, query, fields)| PlainHead {
            method: method.to_owned(),
            authority,
            path,
            query,
            is_secure: false,
            fields,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_head_panics_and_keys_are_bounded(head in any_head()) {
        if let Ok(identity) = identify(&head, estate()) {
            prop_assert!(identity.keys.len() <= 8);
            prop_assert_eq!(identity.keys.is_empty(), identity.carrier.is_none());
            let _ = (identity.host_text(&head), identity.path(&head), identity.path_prefix(&head));
        }
        if let Ok((Target::Fork(..), reason)) = decide(&head, estate()) {
            prop_assert!(matches!(reason, Reason::Fork | Reason::ParentFork));
        }
    }

    #[test]
    fn a_request_without_a_carrier_never_reaches_a_fork(
        host in keyless_host(),
        path in "/([a-z]{1,8}/|pr-42/|42/){0,3}",
        query in prop::option::of("(a=42|demo|xpr-id=42|PR-ID=42|[a-z]=[a-z0-9]{0,4})(&[a-z]{1,3}=[a-z0-9%.-]{0,6}){0,3}"),
        fields in prop::collection::vec(("[a-z][a-z0-9_-]{0,12}", bytes()), 0..6),
        strict: bool,
        neighbours in prop::collection::vec(foreign_member(), 0..4),
    ) {
        let is_carrier = |name: &str| CARRIERS.contains(&name.replace('_', "-").as_str());
        let mut head = PlainHead { path, query, ..PlainHead::get(&host) };
        head.fields = fields.into_iter().filter(|(name, _)| !is_carrier(name)).collect();
        if strict {
            head = head.with("x-pr-strict", "1");
        }
        let neighbours = neighbours.join(&b","[..]);
        let head = head.with("traceparent", TRACE).with("baggage", &neighbours).with("tracestate", &neighbours);
        prop_assert_eq!(said(&head, estate()), "none");
        if let Ok((target, reason)) = decide(&head, estate()) {
            prop_assert!(matches!(target, Target::Baseline(_)), "a fork of {head:?}");
            prop_assert_eq!(reason, Reason::NoKey);
        }
    }

    #[test]
    fn neighbours_of_our_member_do_not_matter(
        keys in key_list(),
        before in prop::collection::vec(foreign_member(), 0..3),
        after in prop::collection::vec(foreign_member(), 0..3),
        carrier in prop::sample::select(vec!["baggage", "tracestate"]),
        lines: bool,
    ) {
        let ours = format!("pr-id={}", keys.join("."));
        let list = before.iter().map(Vec::as_slice).chain([ours.as_bytes()]).chain(after.iter().map(Vec::as_slice));
        let list: Vec<&[u8]> = list.collect();
        let head = PlainHead::get(D).with("traceparent", TRACE);
        let head = match lines {
            true => list.iter().fold(head, |head, line| head.with(carrier, line)),
            false => head.with(carrier, list.join(&b","[..])),
        };
        prop_assert_eq!(said(&head, estate()), format!("{carrier} {}", keys.join(",")));
    }

    #[test]
    fn carriers_that_say_the_same_agree_and_others_conflict(
        ours in key_list(),
        theirs in key_list(),
        pair in prop::sample::subsequence(vec!["header", "host", "query", "baggage", "tracestate"], 2),
    ) {
        let list = |keys: &[String]| keys.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let write = |head, carrier, keys: &[String]| {
            put(head, carrier, &keys.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let same = write(write(PlainHead::get(D), pair[0], &ours), pair[1], &ours);
        prop_assert_eq!(said(&same, estate()), format!("{} {}", pair[0], list(&ours)));
        let two = write(write(PlainHead::get(D), pair[0], &ours), pair[1], &theirs);
        if ours != theirs {
            prop_assert_eq!(said(&two, estate()), "conflicting_keys");
        }
    }

    #[test]
    fn stripping_the_query_keeps_every_other_byte_in_order(
        pairs in prop::collection::vec(prop_oneof![
            2 => "[a-z0-9%=.+;/?:@-]{0,8}".prop_map(|pair| (false, pair)),
            1 => "pr-id|(pr-id|pr%2[Dd]id|%70r-id)=[a-z0-9%,]{0,6}".prop_map(|pair| (true, pair)),
        ], 1..8)
    ) {
        let is_ours = |pair: &str| pair == "pr-id" || pair.starts_with("pr-id=");
        prop_assume!(pairs.iter().all(|(ours, pair)| *ours || !is_ours(pair)));
        let join = |all: bool| {
            let kept: Vec<&str> = pairs.iter().filter(|(ours, _)| all || !ours).map(|(_, pair)| pair.as_str()).collect();
            (!kept.is_empty()).then(|| kept.join("&"))
        };
        prop_assert_eq!(strip_query(&join(true).unwrap(), "pr-id"), join(false));
    }
}
