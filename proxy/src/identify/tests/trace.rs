//! Carrier 10: what a gateway hides in a trace id, a proxy inside reads, whatever of it an application hands on.

use sidetrack_config::model::{Config, Role, Secret};

use crate::fixture::{D, ESTATE, TRACE, estate_with, key, lines, said, stamped, table_of};
use crate::head::PlainHead;
use crate::identify::{identify, parse_traceparent};
use crate::route::table::Table;

fn with_secret(role: Role, change: impl FnOnce(&mut Config)) -> Table {
    let (table, _) = table_of(ESTATE, |config| {
        config.role = role;
        config.context.secrets = Some(vec![Secret(b"a secret of the estate".to_vec())]);
        change(config);
    });
    table
}

fn gateway() -> Table {
    with_secret(Role::Gateway, |_| {})
}

fn waypoint() -> Table {
    with_secret(Role::Waypoint, |_| {})
}

/// What a gateway sends onward for `head`.
fn onward(head: &PlainHead) -> PlainHead {
    stamped(head, &gateway())
}

fn keyed(keys: &str) -> PlainHead {
    PlainHead::get(D).with("x-pr-id", keys)
}

/// What an application sends that hands on these fields alone.
fn hands_on(head: &PlainHead, names: &[&str]) -> PlainHead {
    let fields = head.fields.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned();
    PlainHead { fields: fields.collect(), ..PlainHead::get("payment") }
}

#[test]
fn each_format_alone_says_the_key() {
    let sent = onward(&keyed("42"));
    let inside = waypoint();
    for names in [
        &["traceparent"][..],
        &["b3"],
        &["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"],
        &["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-tags", "x-datadog-sampling-priority"],
    ] {
        assert_eq!(said(&hands_on(&sent, names), &inside), "trace 42", "{names:?} of {sent:?}");
    }
    let trace = parse_traceparent(lines(&sent, "traceparent")[0].as_bytes()).unwrap();
    assert_eq!(trace.flags, 1, "sampled, and not said to be random");
    // As a gateway writes the id of the request.
    let request = PlainHead::get("payment").with("x-request-id", format!("{:032x}", trace.trace));
    assert_eq!(said(&request, &inside), "trace 42");
    assert_eq!(said(&hands_on(&sent, &["x-b3-spanid", "x-datadog-tags"]), &inside), "none");
}

#[test]
fn half_an_id_counts_where_it_is_allowed() {
    let sent = onward(&keyed("42"));
    let allowed = with_secret(Role::Waypoint, |config| config.context.trace64 = true);
    let b3 = &lines(&sent, "x-b3-traceid")[0][16..];
    for half in [
        hands_on(&sent, &["x-datadog-trace-id"]),
        PlainHead::get("payment").with("x-b3-traceid", b3),
        PlainHead::get("payment").with("b3", format!("{b3}-{b3}-1")),
        PlainHead::get("payment").with("traceparent", format!("00-0000000000000000{b3}-{b3}-01")),
    ] {
        assert_eq!(said(&half, &waypoint()), "none", "{half:?}");
        assert_eq!(said(&half, &allowed), "trace 42", "{half:?}");
    }
    // A whole one has to be right as a whole.
    let other = PlainHead::get("payment").with("traceparent", format!("00-0000000000000001{b3}-{b3}-01"));
    assert_eq!(said(&other, &allowed), "none");
}

#[test]
fn it_fills_in_and_never_conflicts() {
    let sent = hands_on(&onward(&keyed("42")), &["traceparent"]);
    let inside = waypoint();
    for (more, expected) in [
        (sent.clone().with("x-pr-id", "57"), "header 57"),
        (sent.clone().with("baggage", "pr-id=57"), "baggage 57"),
        (sent.clone().with("cookie", "pr-id=57"), "cookie 57"),
        (PlainHead { query: Some("pr-id=".to_owned()), ..sent.clone() }, "trace 42"),
    ] {
        assert_eq!(said(&more, &inside), expected, "{more:?}");
    }
    assert!(identify(&sent, &inside).unwrap().is_private);
    let both = sent.with("traceparent", TRACE);
    assert_eq!(said(&both, &inside), "none", "two ids are none");
}

#[test]
fn it_is_read_inside_only_and_with_the_secret_only() {
    let sent = hands_on(&onward(&keyed("42")), &["traceparent"]);
    assert_eq!(said(&sent, &gateway()), "none");
    assert_eq!(said(&sent, &estate_with("role: waypoint")), "none");
    let other = with_secret(Role::Waypoint, |config| {
        config.context.secrets = Some(vec![Secret(b"a secret of another estate".to_vec())]);
    });
    assert_eq!(said(&sent, &other), "none");
    assert_eq!(said(&PlainHead::get("payment").with("traceparent", TRACE), &waypoint()), "none");
}

#[test]
fn a_preview_that_went_is_not_meant_any_more() {
    let sent = hands_on(&onward(&keyed("42")), &["traceparent"]);
    let mut inside = waypoint();
    let before = inside.remove(&key("42")).unwrap();
    assert_eq!(said(&sent, &inside), "none");
    inside.insert(before).unwrap();
    assert_eq!(said(&sent, &inside), "trace 42");
    inside.candidates = None;
    inside.index_keys();
    assert_eq!(said(&sent, &inside), "trace 42", "an index that is made later says the same");
}

#[test]
fn strictness_goes_along() {
    for strict in ["1", "0"] {
        let sent = hands_on(&onward(&keyed("42").with("x-pr-strict", strict)), &["traceparent"]);
        let identity = identify(&sent, &waypoint()).unwrap();
        assert_eq!((identity.keys.as_slice(), identity.strict), (&[key("42")][..], strict == "1"));
    }
}

#[test]
fn what_is_not_hidden() {
    // Another list would be another decision.
    for (head, table) in [
        (keyed("42,57"), gateway()),
        (keyed("42"), with_secret(Role::Gateway, |config| config.context.trace = false)),
        (keyed("42"), estate_with("")),
    ] {
        let sent = stamped(&head, &table);
        assert_eq!(lines(&sent, "x-b3-traceid"), [""; 0], "{sent:?}");
        assert_eq!(lines(&sent, "x-datadog-trace-id"), [""; 0], "{sent:?}");
        assert_eq!(said(&hands_on(&sent, &["traceparent"]), &waypoint()), "none", "{sent:?}");
    }
}

#[test]
fn a_trace_that_came_is_left_as_it_is() {
    let sent = onward(&keyed("42").with("traceparent", TRACE));
    assert_eq!(lines(&sent, "traceparent"), [TRACE]);
    assert_eq!(lines(&sent, "x-b3-traceid"), [""; 0]);
    let b3 = "a3ce929d0e0e4736a3ce929d0e0e4736";
    for name in ["b3", "x-b3-traceid"] {
        let sent = onward(&keyed("42").with(name, b3));
        assert_eq!(lines(&sent, name), [b3]);
        assert_eq!(lines(&sent, "x-b3-spanid"), [""; 0]);
    }
    let sent = onward(&keyed("42").with("x-datadog-trace-id", "7"));
    assert_eq!((lines(&sent, "x-datadog-trace-id"), lines(&sent, "x-datadog-tags")), (vec!["7"], vec![]));
    let unsampled = with_secret(Role::Gateway, |config| {
        config.context.sampled = false;
        config.context.formats.clear();
    });
    let sent = stamped(&keyed("42"), &unsampled);
    assert!(lines(&sent, "traceparent")[0].ends_with("-00"), "{sent:?}");
    assert_eq!(lines(&sent, "x-b3-sampled"), [""; 0]);
}
