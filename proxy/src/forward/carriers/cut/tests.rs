use proptest::prelude::*;

use super::cut;
use crate::fields::Fields;
use crate::fixture::{self, estate, estate_with};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::table::Table;

/// The fields after the cut, one `name: value` a line, and whether something was cut.
fn after(lines: &[(&str, &str)], table: &Table) -> (String, bool) {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(name, value.as_bytes());
    }
    let found = cut(&mut fields, &table.estate.carriers);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    (lines.join("\n"), found.carriers)
}

#[test]
fn every_carrier_of_a_field_goes_and_what_is_beside_it_stays() {
    for (name, value, left) in [
        ("x-pr-id", "42", ""),
        ("x_pr-id", "42", ""),
        ("baggage", "pr-id=42;strict", ""),
        ("baggage", "a=1 ;p=2, pr-id=42 ,b=2", "baggage: a=1 ;p=2,b=2"),
        ("tracestate", "pr-id=42,vendor=x", "tracestate: vendor=x"),
        ("cookie", "pr-id=42", ""),
        ("cookie", "a=1; pr-id=42; b=2", "cookie: a=1; b=2"),
        // Names that libraries decode before they hand them on.
        ("baggage", "p%72-id=42,a=1", "baggage: a=1"),
        ("baggage", "%70%72%2Did=42", ""),
    ] {
        assert_eq!(after(&[(name, value)], estate()), (left.to_owned(), true), "{name}: {value}");
    }
    for (name, value) in [
        ("x-pr-idea", "42"),
        ("baggage", "my-pr-id=42, broken ,="),
        ("tracestate", "a@pr-id=42"),
        ("cookie", "xpr-id=42"),
        ("traceparent", fixture::TRACE),
        ("x-okteto-divert", "42"),
    ] {
        assert_eq!(after(&[(name, value)], estate()), (format!("{name}: {value}"), false));
    }
}

#[test]
fn other_tools_are_cut_where_they_are_read() {
    let table = estate_with("carriers: {aliases: [okteto, signadot]}");
    for (name, value, left) in [
        ("x-okteto-divert", "42", ""),
        ("x_okteto-divert", "42", ""),
        ("baggage", "okteto%2Ddivert=42,a=1", "baggage: a=1"),
        ("baggage", "okteto-divert=42,a=1", "baggage: a=1"),
        ("tracestate", "sd-routing-key=42,a=1", "tracestate: a=1"),
    ] {
        assert_eq!(after(&[(name, value)], &table), (left.to_owned(), true), "{name}: {value}");
    }
}

#[test]
fn whether_the_baseline_was_forbidden_is_told() {
    for (name, value, expected) in [
        ("x-pr-strict", "1", true),
        ("x-pr-strict", "0", false),
        ("baggage", "a=1,pr-id=42;strict", true),
        ("baggage", "pr-id=42;strict=0", false),
        ("baggage", "other=42;strict", false),
    ] {
        let mut fields = Fields::default();
        fields.append(name, value.as_bytes());
        assert_eq!(cut(&mut fields, &estate().estate.carriers).strict, expected, "{name}: {value}");
        assert!(!fields.contains("x-pr-strict"));
    }
}

proptest! {
    #[test]
    fn nothing_is_identified_by_fields_that_were_cut(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec!["x-pr-id", "x_pr_id", "baggage", "tracestate", "cookie", "x-pr-strict"]),
                "(pr-id=|a=|)(42|57|%34|x y|)(;strict|,pr-id=57|; pr-id=42|,b=2|)( |)",
            ),
            0..6,
        ),
    ) {
        let mut fields = Fields::default();
        fields.append("traceparent", fixture::TRACE.as_bytes());
        for (name, value) in &lines {
            fields.append(name, value.as_bytes());
        }
        cut(&mut fields, &estate().estate.carriers);
        let mut head = PlainHead::get(fixture::D);
        for (name, value) in fields.iter() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            head = head.with(&text(name), text(value));
        }
        let identity = identify(&head, estate()).unwrap();
        prop_assert!(identity.keys.is_empty() && !identity.strict, "{identity:?}");
    }
}
