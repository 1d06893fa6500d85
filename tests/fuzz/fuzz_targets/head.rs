//! A request head through identify, route, pick and the onward carriers, over a table that does not change.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use sidetrack_config::key::MAX_KEYS;
use sidetrack_fuzz::{head, table};
use sidetrack_proxy::decision::{Reason, Target};
use sidetrack_proxy::forward::carriers::stamp;
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::identify::{Identity, identify};
use sidetrack_proxy::pick;
use sidetrack_proxy::route::route;

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = head(bytes) else { return };
    let Ok(identity) = identify(&head, table()) else { return };
    assert!(identity.keys.len() <= MAX_KEYS);
    assert_eq!(identity.keys.is_empty(), identity.carrier.is_none());
    assert!(identity.path(&head).len() + identity.path_prefix(&head).len() <= head.path.len() + 1);
    let way = route(&head, &identity, table()).and_then(|rule| pick::way(rule, table(), 7));
    if let Some(service) = way.ok().and_then(pick::Way::service) {
        decided(&identity, service);
    }
    onward(&head, &identity);
});

/// Only a preview that is named, or a parent of one, gets the request.
fn decided(identity: &Identity, service: &sidetrack_proxy::route::table::Service) {
    let Ok((target, reason)) = pick::target(identity, service, table()) else { return };
    match target {
        Target::Fork(preview, _) if reason == Reason::Fork => assert!(identity.keys.contains(&preview.key)),
        Target::Fork(preview, _) => {
            // 42 and 57 are each other's parents, and nobody else has one.
            let has_parents = |key: &sidetrack_config::Key| matches!(key.as_str(), "42" | "57");
            assert_eq!(reason, Reason::ParentFork);
            assert!(has_parents(&preview.key) && identity.keys.iter().any(has_parents));
        }
        Target::Baseline(_) => assert_eq!(identity.keys.is_empty(), reason == Reason::NoKey),
    }
}

/// What was stamped says the same, and stamping it again changes nothing.
fn onward(head: &PlainHead, identity: &Identity) {
    let mut fields = HeaderMap::new();
    for (name, value) in &head.fields {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        else {
            return;
        };
        fields.append(name, value);
    }
    let before = fields.clone();
    stamped(&mut fields, identity);
    if identity.keys.is_empty() {
        assert_eq!(without_cookie(&fields), without_cookie(&before), "without a key nothing is added");
    }
    let list = fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let next = PlainHead { fields: list.collect(), ..head.clone() };
    let again = identify(&next, table()).expect("what we write ourselves can be read");
    assert_eq!((&again.keys, again.strict), (&identity.keys, identity.strict));
    let once = fields.clone();
    stamped(&mut fields, &again);
    assert_eq!(fields, once);
}

/// Every field but `cookie`, which loses what says something else. The order of names means nothing (RFC 9110 section
/// 5.3).
fn without_cookie(fields: &HeaderMap) -> HeaderMap {
    let mut fields = fields.clone();
    fields.remove(http::header::COOKIE);
    fields
}

fn stamped(fields: &mut HeaderMap, identity: &Identity) {
    stamp(fields, identity, &table().estate.carriers, || 7);
}
