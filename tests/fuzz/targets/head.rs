//! A request head through identify, route, pick and the onward carriers, over a table that does not change.

use sidetrack_config::key::MAX_KEYS;
use sidetrack_proxy::decision::{Reason, Target};
use sidetrack_proxy::fields::Fields;
use sidetrack_proxy::forward::carriers::stamp;
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::identify::{Identity, identify};
use sidetrack_proxy::pick;
use sidetrack_proxy::route::route;
use sidetrack_proxy::route::table::Service;

use crate::estate::{head, table};

/// `METHOD URL` and lines of fields.
pub(crate) fn check(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    // What can't stand in a field comes over no wire.
    if fields(&head).len() != head.fields.len() {
        return;
    }
    let Ok(identity) = identify(&head, table()) else { return };
    assert!(identity.keys.len() <= MAX_KEYS);
    assert_eq!(identity.keys.is_empty(), identity.carrier.is_none());
    assert!(identity.path(&head).len() + identity.path_prefix(&head).len() <= head.path.len() + 1);
    let way = route(&head, &identity, table()).and_then(|rule| pick::way(rule, table(), 7));
    if let Some(service) = way.ok().and_then(pick::Way::service) {
        decided(&identity, service);
    }
    onward(&head, &identity);
}

/// Only a preview that is named, or a parent of one, gets the request.
fn decided(identity: &Identity, service: &Service) {
    let Ok((target, reason)) = pick::target(identity, service, table()) else { return };
    match target {
        Target::Fork(preview, _) if reason == Reason::Fork => assert!(identity.keys.contains(&preview.key)),
        Target::Fork(preview, _) => {
            // 42 and 57 are each other's parents, and nobody else has one.
            let has_parents = |key: &sidetrack_config::Key| matches!(key.as_str(), "42" | "57");
            assert_eq!(reason, Reason::ParentFork);
            assert!(has_parents(&preview.key) && identity.keys.iter().any(has_parents));
        }
        Target::Own(..) => panic!("this is no sidecar"),
        Target::Baseline(_) => assert_eq!(identity.keys.is_empty(), reason == Reason::NoKey),
    }
}

/// What was stamped says the same, and stamping it again changes nothing.
fn onward(head: &PlainHead, identity: &Identity) {
    let mut fields = fields(head);
    let before = fields.clone();
    stamped(&mut fields, identity);
    if identity.keys.is_empty() {
        assert_eq!(without_carriers(&fields), without_carriers(&before), "without a key nothing is added");
        // Nor does what is left say one to who reads it behind a service that began a trace.
        let mut traced = fields.clone();
        traced.insert("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let later = identify(&with(head, &traced), table()).expect("what did not count is not there");
        assert!(later.keys.is_empty(), "{:?}", later.keys);
    }
    let again = identify(&with(head, &fields), table()).expect("what we write ourselves can be read");
    assert_eq!((&again.keys, again.strict), (&identity.keys, identity.strict));
    let once = fields.clone();
    stamped(&mut fields, &again);
    assert_eq!(fields, once);
}

/// The fields of a head.
pub(crate) fn fields(head: &PlainHead) -> Fields {
    head.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

/// The head with other fields.
pub(crate) fn with(head: &PlainHead, fields: &Fields) -> PlainHead {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("a name");
    PlainHead {
        fields: fields.iter().map(|(name, value)| (text(name), value.to_vec())).collect(),
        ..head.clone()
    }
}

/// Every field but those that lose what says something else, or did not count.
fn without_carriers(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    for name in ["cookie", "tracestate", "x-pr-signature"] {
        fields.remove(name);
    }
    fields
}

/// Writes the keys into the fields, as for the next hop.
pub(crate) fn stamped(fields: &mut Fields, identity: &Identity) {
    stamp(fields, identity, &table().estate, None, None, || 7);
}
