//! HTTP status codes as a bounded set of label values.
//!
//! A status comes from an upstream, that is from whoever wrote the fork. A made-up one must not make a new series,
//! so every code outside the table shares one slot with the others of its class.

use std::borrow::Cow;

/// The status of a request whose client went away before there was an answer: what nginx made customary.
pub const CLIENT_CLOSED: u16 = 499;

/// The codes of the IANA registry that a final response may carry, and [`CLIENT_CLOSED`]; in order. 306, 418 and
/// 510 are left out: the registry has them as unused or obsolete.
#[rustfmt::skip] // a line for each class
const CODES: [u16; 58] = [
    101,
    200, 201, 202, 203, 204, 205, 206, 207, 208, 226,
    300, 301, 302, 303, 304, 305, 307, 308,
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417,
    421, 422, 423, 424, 425, 426, 428, 429, 431, 451, CLIENT_CLOSED,
    500, 501, 502, 503, 504, 505, 506, 507, 508, 511,
];

/// What codes outside the table are called: `other` is below 100 or above 599.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// How many slots there are.
pub(super) const SLOTS: usize = CODES.len() + CLASSES.len();

/// The status that a log or a metric shows: zero, for no answer at all, is [`CLIENT_CLOSED`].
pub const fn shown(status: u16) -> u16 {
    if status == 0 { CLIENT_CLOSED } else { status }
}

/// Where this status is counted: below [`SLOTS`].
pub(super) fn slot(status: u16) -> usize {
    let status = shown(status);
    CODES.binary_search(&status).unwrap_or_else(|_| {
        let class = usize::from(status / 100);
        CODES.len() + if class < CLASSES.len() { class } else { 0 }
    })
}

/// The label value of a slot.
pub(super) fn label(slot: usize) -> Cow<'static, str> {
    match CODES.get(slot) {
        Some(code) => code.to_string().into(),
        None => {
            slot.checked_sub(CODES.len()).and_then(|class| CLASSES.get(class)).map_or("other", |c| c).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_status_has_a_slot_and_the_labels_are_bounded() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(|s| label(slot(s))).collect();
        assert!((0..=u16::MAX).all(|status| slot(status) < SLOTS));
        assert_eq!(labels.len(), SLOTS, "{labels:?}");
    }

    #[test]
    fn what_a_status_is_called() {
        for (status, expected) in [
            (200, "200"),
            (404, "404"),
            (0, "499"),
            (499, "499"),
            (99, "other"),
            (100, "1xx"),
            (299, "2xx"),
            (399, "3xx"),
            (418, "4xx"),
            (599, "5xx"),
            (600, "other"),
            (u16::MAX, "other"),
        ] {
            assert_eq!(label(slot(status)), expected, "{status}");
        }
    }
}
