use super::*;
use crate::fixture::{D, estate_with, key, table};
use crate::head::PlainHead;

const STRANGER: [u8; 4] = [203, 0, 113, 9];

/// What is read of `head`, and the names of the fields that are left.
fn reading(
    head: &PlainHead,
    place: &Place,
    client: [u8; 4],
    table: &Table,
) -> (Result<Reading, Failure>, String) {
    let mut sent = RequestHead::of(head).unwrap();
    let mut asked = Asked { head: &mut sent, authority: &head.authority, is_secure: head.is_secure };
    let asker = Asker { place, here: Here::default(), client: client.into() };
    let reading = read(&mut asked, &asker, table, None, Instant::now());
    let names = sent.fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    (reading, names.collect::<Vec<_>>().join(" "))
}

#[test]
fn a_stranger_is_answered_as_if_it_had_named_nothing_unless_it_forbids_that() {
    let table = estate_with("carriers: {from: [10.0.0.0/8]}");
    let named = PlainHead::get(D).with("x-pr-id", "42").with("accept", "*/*");
    let (read, left) = reading(&named, &Place::Edge, STRANGER, &table);
    let read = read.unwrap();
    assert!(read.identity.keys.is_empty() && read.taken.carriers && left == "accept", "{read:?} {left}");
    let (read, left) = reading(&named, &Place::Edge, [10, 0, 0, 1], &table);
    let read = read.unwrap();
    assert_eq!((&read.identity.keys[..], read.taken), (&[key("42")][..], Taken::default()));
    assert_eq!(left, "x-pr-id accept");
    for strict in [
        named.clone().with("x-pr-strict", "1"),
        PlainHead::get(D).with("baggage", "pr-id=42;strict"),
        PlainHead::get("pr-42.preview.localhost"),
    ] {
        let code = reading(&strict, &Place::Edge, STRANGER, &table).0.unwrap_err().code;
        assert_eq!(code, Code::AccessDenied, "{strict:?}");
        assert!(reading(&strict, &Place::Edge, [10, 0, 0, 1], &table).0.is_ok());
    }
    let strict_alone = PlainHead::get(D).with("x-pr-strict", "1");
    assert!(reading(&strict_alone, &Place::Edge, STRANGER, &table).0.is_ok(), "it names nothing");
}

#[test]
fn a_name_that_decodes_to_ours_is_no_way_around() {
    let encoded = PlainHead::get(D).with("baggage", "p%72-id=42");
    let code = reading(&encoded, &Place::Edge, STRANGER, &estate_with("")).0.unwrap_err().code;
    assert_eq!(code, Code::MalformedKey);
    let (read, left) =
        reading(&encoded, &Place::Edge, STRANGER, &estate_with("carriers: {from: [10.0.0.0/8]}"));
    assert!(read.unwrap().taken.carriers && left.is_empty(), "{left}");
}

#[test]
fn what_leaves_has_no_key_and_a_fork_gives_its_own_to_what_stays() {
    let table = table(
        "
listeners: [{address: 127.0.0.1:1, direction: outbound}]
role: sidecar
sidecar: {service: checkout.shop, key: 42}
services: {checkout.shop: {baseline: [10.0.0.1:8080]}, payment.shop: {baseline: [10.0.0.3:8080]}}
previews: {'42': {forks: {checkout.shop: [10.0.0.7:8081]}}}
",
    );
    let out = Place::Outbound(None);
    let (read, left) =
        reading(&PlainHead::get("api.example.com").with("x-pr-id", "42"), &out, STRANGER, &table);
    let read = read.unwrap();
    assert!(read.identity.keys.is_empty() && read.taken.by_egress && left.is_empty(), "{read:?} {left}");
    let (read, _) = reading(&PlainHead::get("payment.shop"), &out, STRANGER, &table);
    assert_eq!(&read.unwrap().identity.keys[..], [key("42")]);
}
