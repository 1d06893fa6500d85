//! `baggage` and `tracestate`: our member is merged, and every member of others' stays as it was, in its order.

use sidetrack_proxy::fields::Fields;
use sidetrack_proxy::head::PlainHead;
use sidetrack_proxy::identify::identify;

use crate::estate::table;
use crate::head::{fields, stamped, with};

/// The most members of a `tracestate` (W3C Trace Context section 3.3.1.1).
const MEMBERS: usize = 32;
/// A trace that is valid.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A line of `baggage`; what begins with `t:` is one of `tracestate`, with `x:` one of our header.
pub(crate) fn check(bytes: &[u8]) {
    let mut head = PlainHead::get("preview.localhost/").with("traceparent", TRACE);
    for line in bytes.split(|byte| *byte == b'\n') {
        head = match line.split_at_checked(2) {
            Some((b"t:", list)) => head.with("tracestate", list),
            Some((b"x:", keys)) => head.with("x-pr-id", keys),
            _ => head.with("baggage", line),
        };
    }
    // What can't stand in a field comes over no wire.
    let before = fields(&head);
    if before.len() != head.fields.len() {
        return;
    }
    let Ok(identity) = identify(&head, table()) else { return };
    let mut after = before.clone();
    stamped(&mut after, &identity);
    if identity.keys.is_empty() {
        return assert_eq!(after, before, "without a key nothing is touched");
    }
    assert_eq!(others(&after, "baggage", usize::MAX), others(&before, "baggage", usize::MAX));
    assert_eq!(others(&after, "tracestate", MEMBERS - 1), others(&before, "tracestate", MEMBERS - 1));
    for name in ["baggage", "tracestate"] {
        assert_eq!(after.get_all(name).count(), 1, "{name} is one line");
        assert_eq!(ours(&after, name).count(), 1, "{name} has our member once");
    }
    let again = identify(&with(&head, &after), table()).expect("what we write ourselves can be read");
    assert_eq!((&again.keys, again.strict), (&identity.keys, identity.strict));
    let once = after.clone();
    stamped(&mut after, &again);
    assert_eq!(after, once, "a second time nothing changes");
}

/// The members of a list, by the letter of its grammar and without our own reader.
fn members<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let members = fields.get_all(name).flat_map(|line| line.split(|byte| *byte == b','));
    members.filter(|member| !member.trim_ascii().is_empty())
}

fn is_ours(member: &[u8]) -> bool {
    let name = member.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
    name.trim_ascii() == b"pr-id"
}

fn ours<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    members(fields, name).filter(|member| is_ours(member))
}

/// The first `most` members that are not ours, without the blanks that a list may have around them.
fn others<'a>(fields: &'a Fields, name: &'a str, most: usize) -> Vec<&'a [u8]> {
    members(fields, name).filter(|member| !is_ours(member)).map(<[u8]>::trim_ascii).take(most).collect()
}
