//! DESIGN 2.7: who may send a keyed request.

use crate::admit::admit;
use crate::fixture::{D, ESTATE, key, table, table_in};
use crate::head::PlainHead;
use crate::route::table::Table;

/// Networks or a token for all previews; 57 has rules of its own.
fn guarded() -> Table {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    std::fs::write(folder.path().join("own"), "another").unwrap();
    let estate = ESTATE
        .replace("parents: ['42'],", "parents: ['42'], access: {header: {name: X-Own, secretFile: own}},");
    assert_ne!(estate, ESTATE);
    let access =
        "access: {allow: [10.0.0.0/8, 'fd00::/8'], header: {name: x-preview-token, secretFile: token}}";
    table_in(folder.path(), &format!("{access}\n{estate}"))
}

/// The status that a request gets, or 200.
fn status(keys: &[&str], client: &str, field: Option<(&str, &str)>, table: &Table) -> u16 {
    let head = field.iter().fold(PlainHead::get(D), |head, (name, value)| head.with(name, value));
    let keys: Vec<_> = keys.iter().map(|text| key(text)).collect();
    match admit(&head, &keys, client.parse().unwrap(), table) {
        Ok(()) => 200,
        Err(failure) => {
            assert_eq!(failure.code.as_str(), "access_denied");
            assert!(!failure.detail.contains("s3cret"), "a secret in {}", failure.detail);
            failure.status()
        }
    }
}

#[test]
fn any_one_of_the_ways_suffices() {
    let table = guarded();
    let token = |value| Some(("x-preview-token", value));
    for (client, field, expected) in [
        ("10.1.2.3", None, 200),
        ("::ffff:10.1.2.3", None, 200),
        ("fd00::1", None, 200),
        ("192.0.2.1", token("s3cret"), 200),
        ("10.1.2.3", token("wrong"), 200),
        ("192.0.2.1", None, 401),
        ("192.0.2.1", token("wrong"), 403),
        ("192.0.2.1", token(""), 403),
        ("192.0.2.1", token("s3cre"), 403),
        ("192.0.2.1", token("s3cret2"), 403),
        ("192.0.2.1", token("S3CRET"), 403),
        ("192.0.2.1", Some(("x-own", "another")), 401),
        ("11.0.0.1", None, 401),
    ] {
        for keys in [&["42"][..], &["nobody"], &["42", "shop-7"]] {
            assert_eq!(status(keys, client, field, &table), expected, "{keys:?} {client} {field:?}");
        }
        assert_eq!(status(&[], client, field, &table), 200, "without a key nobody is asked");
    }
}

#[test]
fn a_preview_has_rules_of_its_own_and_every_named_one_must_agree() {
    let table = guarded();
    assert_eq!(status(&["57"], "192.0.2.1", Some(("x-own", "another")), &table), 200);
    assert_eq!(status(&["57"], "192.0.2.1", Some(("x-own", "s3cret")), &table), 403);
    assert_eq!(status(&["57"], "10.1.2.3", None, &table), 401, "the rules for all do not count here");
    assert_eq!(status(&["42", "57"], "10.1.2.3", None, &table), 401);
    assert_eq!(status(&["57", "42"], "10.1.2.3", Some(("x-own", "another")), &table), 200);
    assert_eq!(status(&["57", "42"], "192.0.2.1", Some(("x-own", "another")), &table), 401);
}

#[test]
fn networks_alone_are_403_and_no_rules_let_everybody_in() {
    let networks = table(&format!("access: {{allow: [127.0.0.0/8]}}\n{ESTATE}"));
    assert_eq!(status(&["42"], "127.0.0.2", None, &networks), 200);
    assert_eq!(status(&["42"], "192.0.2.1", Some(("x-preview-token", "x")), &networks), 403);
    assert_eq!(status(&["42"], "192.0.2.1", None, &table(ESTATE)), 200);
}
