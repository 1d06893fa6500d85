//! The receipt: what the answer to a keyed request says about the decision that it met here.

use crate::decision::Reason;
use crate::fields::Fields;
use crate::h1::write::decimal;

/// Where receipts stand.
pub const ROUTE: &str = "x-pr-route";

/// The most bytes of all receipts of an answer: a chain of a hundred hops must not make the head too large.
const BOUND: usize = 4 << 10;

/// One entry: `checkout@42;reason=fork;gen=17`. `at` is a key, `baseline`, or `none` where there was no target.
pub fn entry(service: &str, at: &[u8], reason: Reason, generation: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(service.len() + at.len() + 48);
    for part in [service.as_bytes(), b"@", at, b";reason=", reason.as_str().as_bytes(), b";gen="] {
        text.extend_from_slice(part);
    }
    decimal(&mut text, generation);
    text
}

/// Puts our entry before those of the upstream's answer, in one line.
pub fn prepend(fields: &mut Fields, entry: Vec<u8>) {
    let mut list = entry;
    for line in fields.get_all(ROUTE) {
        if list.len() + line.len() + 2 <= BOUND {
            list.extend_from_slice(b", ");
            list.extend_from_slice(line);
        }
    }
    fields.insert(ROUTE, &list);
}
