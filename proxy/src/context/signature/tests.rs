use proptest::prelude::*;
use sidetrack_config::model::Secret;

use super::*;
use crate::fields::Fields;
use crate::fixture::{D, estate, table};
use crate::head::PlainHead;
use crate::identify::identify;
use crate::route::table::Table;

const NOW: u64 = 1_795_000_000;

fn secrets(texts: &[&str]) -> Secrets {
    let secrets: Vec<Secret> = texts.iter().map(|text| Secret(text.as_bytes().to_vec())).collect();
    Secrets::new(&secrets)
}

/// The usual estate, with these secrets.
fn with(secrets: Secrets) -> Table {
    let mut table = table(crate::fixture::ESTATE);
    let mut estate = (*table.estate).clone();
    estate.context.secrets = secrets;
    table.estate = estate.into();
    table
}

fn signed(secrets: &Secrets, key: &str) -> String {
    let keys = [Key::bare(key).unwrap()];
    String::from_utf8(sign(secrets, &keys, NOW).unwrap().into()).unwrap()
}

/// Whether a request with these fields passes at `now`.
fn passes(table: &Table, fields: &[(&str, &str)], now: u64) -> bool {
    let head = fields.iter().fold(PlainHead::get(D), |head, (name, value)| head.with(name, value));
    let identity = identify(&head, table).unwrap();
    check(&head, &identity, &table.estate, now).is_ok()
}

#[test]
fn one_place_proves_the_keys_and_each_of_them_does() {
    let ours = secrets(&["a secret of sixteen bytes"]);
    let table = with(ours.clone());
    let proof = &*signed(&ours, "42");
    for fields in [
        &[("x-pr-id", "42"), (FIELD, proof)][..],
        &[("x-pr-id", "PR-42"), (FIELD, proof)],
        &[("baggage", &format!("a=1,pr-id=42;strict;sig={proof}"))],
        &[("traceparent", crate::fixture::TRACE), ("tracestate", &format!("pr-id=42,pr-id-sig={proof},x=1"))],
        &[("x-pr-id", "42"), (FIELD, "nonsense"), ("baggage", &format!("pr-id=42; sig = {proof}"))],
        &[],
    ] {
        assert!(passes(&table, fields, NOW), "{fields:?}");
    }
}

#[test]
fn without_a_secret_no_key_passes_and_the_error_says_what_is_missing() {
    let table = with(Secrets::default());
    let forged = signed(&secrets(&["a secret of sixteen bytes"]), "42");
    let head = PlainHead::get(D).with("x-pr-id", "42").with(FIELD, &forged);
    let identity = identify(&head, &table).unwrap();
    let failure = check(&head, &identity, &table.estate, NOW).unwrap_err();
    assert_eq!(failure.code, Code::AccessDenied);
    assert!(failure.detail.contains("no secret yet"), "{}", failure.detail);
    assert!(passes(&table, &[], NOW), "who has no key needs no proof");
}

#[test]
fn nothing_else_proves_them() {
    let ours = secrets(&["a secret of sixteen bytes"]);
    let table = with(ours.clone());
    let proof = &*signed(&ours, "42");
    let (until, tag) = proof.split_once('-').unwrap();
    let of_others = signed(&secrets(&["another secret, and longer"]), "42");
    for bad in [
        "",
        "-",
        &format!("{until}-"),
        &format!("{until}{tag}"),
        &format!("{until}-{tag}0"),
        &format!("0{until}-{}", &tag[1..]),
        &format!("{:x}-{tag}", NOW + 7000),
        &proof.to_uppercase(),
        &of_others,
        &signed(&ours, "57"),
    ] {
        assert!(!passes(&table, &[("x-pr-id", "42"), (FIELD, bad)], NOW), "{bad}");
    }
    // Of another list, too late, too early, in a member of others.
    assert!(!passes(&table, &[("x-pr-id", "42,57"), (FIELD, proof)], NOW));
    assert!(!passes(&table, &[("x-pr-id", "42"), (FIELD, proof)], NOW + LIFE + 1));
    assert!(!passes(&table, &[("x-pr-id", "42"), (FIELD, proof)], NOW - LIFE - 1));
    assert!(!passes(&table, &[("x-pr-id", "42"), ("baggage", &format!("a=1;sig={proof}"))], NOW));
    assert!(!passes(&with(Secrets::default()), &[("x-pr-id", "42"), (FIELD, proof)], NOW));
}

#[test]
fn a_secret_that_is_replaced_counts_as_long_as_it_is_kept() {
    let before = secrets(&["a secret of sixteen bytes"]);
    let proof = signed(&before, "42");
    let fields = [("x-pr-id", "42"), (FIELD, &*proof)];
    assert!(passes(&with(secrets(&["the new one, sixteen too", "a secret of sixteen bytes"])), &fields, NOW));
    assert!(!passes(&with(secrets(&["the new one, sixteen too"])), &fields, NOW));
}

#[test]
fn a_trace_id_that_says_the_key_is_a_proof() {
    let table = with(secrets(&["a secret of sixteen bytes"]));
    let head = PlainHead::get(D).with("x-pr-id", "42");
    let mut identity = identify(&head, &table).unwrap();
    assert!(check(&head, &identity, &table.estate, NOW).is_err());
    identity.carrier = Some(Carrier::Trace);
    assert!(check(&head, &identity, &table.estate, NOW).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics_and_none_is_a_proof(text in "[0-9a-f-]{0,64}|.{0,64}") {
        let mut fields = Fields::default();
        fields.append(FIELD, text.as_bytes());
        let found = found(fields.iter(), &estate().estate);
        let keys = [Key::bare("42").unwrap()];
        let secrets = secrets(&["a secret of sixteen bytes"]);
        prop_assert!(!found.into_iter().any(|text| proves(&secrets, &keys, text, NOW)));
    }
}
