//! The ids that a request has, as the tracers of this world write them: `traceparent` (W3C Trace Context), `b3` and
//! `X-B3-TraceId` (B3 Propagation), `x-datadog-trace-id` with `x-datadog-tags`; and `X-Request-Id`.

use smallvec::SmallVec;

use crate::head::Head;
use crate::hex;
use crate::identify::parse_traceparent;

/// The shortest `X-Request-Id` that counts: what is shorter is a number that somebody counts, and meets others.
const REQUEST_ID_MIN: usize = 16;
/// The longest one.
const REQUEST_ID_MAX: usize = 128;

/// The ids of a request. A field that comes twice with different values, or can't be read, counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    /// The trace ids, each once, in the order of the fields above. The high half of one is zero where only the low one came.
    pub traces: SmallVec<[u128; 1]>,
    /// `X-Request-Id`.
    pub request: Option<&'a [u8]>,
}

/// A field of which there may be one.
#[derive(Clone, Copy, Default)]
enum Once<'a> {
    #[default]
    Absent,
    Value(&'a [u8]),
    Twice,
}

impl<'a> Once<'a> {
    fn take(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Absent => Self::Value(value.trim_ascii()),
            Self::Value(before) if before == value.trim_ascii() => Self::Value(before),
            Self::Value(_) | Self::Twice => Self::Twice,
        };
    }

    const fn get(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Twice => None,
        }
    }
}

impl<'a> Ids<'a> {
    /// The ids of `head`.
    pub fn of<H: Head>(head: &'a H) -> Self {
        Self::among(head.fields())
    }

    /// The ids among `fields`.
    pub fn among(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let [mut w3c, mut b3, mut b3_id, mut datadog, mut tags, mut request] = [Once::default(); 6];
        for (name, value) in fields {
            match name {
                b"traceparent" => w3c.take(value),
                b"b3" => b3.take(value),
                b"x-b3-traceid" => b3_id.take(value),
                b"x-datadog-trace-id" => datadog.take(value),
                b"x-datadog-tags" => tags.take(value),
                b"x-request-id" => request.take(value),
                _ => {}
            }
        }
        let mut ids = Self { traces: SmallVec::new(), request: request.get().filter(|id| is_request_id(id)) };
        ids.add(w3c.get().and_then(parse_traceparent).map(|parent| parent.trace));
        ids.add(b3.get().and_then(|value| hexadecimal(value.split(|byte| *byte == b'-').next()?)));
        ids.add(b3_id.get().and_then(hexadecimal));
        ids.add(datadog.get().and_then(|value| Some(tid(tags) | u128::from(decimal(value)?))));
        ids
    }

    fn add(&mut self, id: Option<u128>) {
        // An id of zero is none, in each of these formats.
        self.traces.extend(id.filter(|id| *id != 0 && !self.traces.contains(id)));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty() && self.request.is_none()
    }
}

/// The high and the low half of a trace id.
pub fn halves(id: u128) -> (u64, u64) {
    let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0);
    (half(id >> 64), half(id))
}

/// Whether two trace ids with these high halves and the same low one are one, where of one only that may have come.
pub const fn agree(one: u64, other: u64) -> bool {
    one == other || one == 0 || other == 0
}

fn is_request_id(id: &[u8]) -> bool {
    (REQUEST_ID_MIN..=REQUEST_ID_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// B3: 16 or 32 digits.
fn hexadecimal(text: &[u8]) -> Option<u128> {
    matches!(text.len(), 16 | 32).then(|| hex::number(text))?
}

/// Datadog: the low half, in decimal.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = (1..=20).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// The high half of a trace id of Datadog, in its place: `_dd.p.tid=640cfd8d00000000` among the tags; zero where it is not
/// there.
fn tid(tags: Once<'_>) -> u128 {
    let tags = tags.get().unwrap_or_default();
    let mut values =
        tags.split(|byte| *byte == b',').filter_map(|tag| tag.trim_ascii().strip_prefix(b"_dd.p.tid="));
    let high = values.next().filter(|digits| digits.len() == 16).and_then(hex::number);
    high.map_or(0, |high| high << 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::PlainHead;

    const HIGH: u128 = 0x4bf92f3577b34da6 << 64;
    const LOW: u128 = 0xa3ce929d0e0e4736;

    fn traces(fields: &[(&str, &str)]) -> Vec<u128> {
        let head = fields.iter().fold(PlainHead::get("a.test"), |head, (name, value)| head.with(name, value));
        Ids::of(&head).traces.to_vec()
    }

    #[test]
    fn as_the_tracers_write_them() {
        let decimal = &*LOW.to_string();
        for (fields, expected) in [
            (
                &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")][..],
                &[HIGH | LOW][..],
            ),
            (&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")], &[HIGH | LOW]),
            (
                &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90")],
                &[HIGH | LOW],
            ),
            (&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7")], &[LOW]),
            (&[("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736")], &[HIGH | LOW]),
            (&[("X-B3-TraceId", "a3ce929d0e0e4736")], &[LOW]),
            (&[("x-datadog-trace-id", decimal)], &[LOW]),
            (
                &[
                    ("x-datadog-trace-id", decimal),
                    ("x-datadog-tags", "_dd.p.dm=-1,_dd.p.tid=4bf92f3577b34da6"),
                ],
                &[HIGH | LOW],
            ),
            // Each once, in the order of the formats.
            (
                &[
                    ("x-datadog-trace-id", "7"),
                    ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7"),
                    ("x-b3-traceid", "a3ce929d0e0e4736"),
                ],
                &[LOW, 7],
            ),
            (&[("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-traceid", " a3ce929d0e0e4736")], &[LOW]),
        ] {
            assert_eq!(traces(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_none() {
        for fields in [
            &[("traceparent", "rubbish")][..],
            &[("b3", "0")],
            &[("b3", "d")],
            &[("b3", "0000000000000000-00f067aa0ba902b7")],
            &[("b3", "A3CE929D0E0E4736-00f067aa0ba902b7")],
            &[("x-b3-traceid", "a3ce929d0e0e473")],
            &[("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-traceid", "a3ce929d0e0e4737")],
            &[("x-datadog-trace-id", "0")],
            &[("x-datadog-trace-id", "-1")],
            &[("x-datadog-trace-id", "+1")],
            &[("x-datadog-trace-id", "18446744073709551616")],
            &[("x-datadog-tags", "_dd.p.tid=4bf92f3577b34da6")],
        ] {
            assert_eq!(traces(fields), [0_u128; 0], "{fields:?}");
        }
        assert_eq!(traces(&[("x-datadog-trace-id", "5"), ("x-datadog-tags", "_dd.p.tid=nonsense")]), [5]);
    }

    #[test]
    fn a_request_id_is_long_enough_to_be_one_of_a_kind() {
        let request = |id: &str| {
            let head = PlainHead::get("a.test").with("x-request-id", id);
            Ids::of(&head).request.map(<[u8]>::to_vec)
        };
        let long = "x".repeat(128);
        for good in ["0123456789abcdef", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", &long] {
            assert_eq!(request(good).as_deref(), Some(good.as_bytes()));
        }
        for bad in ["", "1", "0123456789abcde", "0123456789 abcdef", &format!("{long}x")] {
            assert_eq!(request(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_format_says_the_same(id in 1_u128.., span in 1_u64..) {
            let (high, low) = (id >> 64, id & u128::from(u64::MAX));
            prop_assume!(low != 0);
            for fields in [
                &[("traceparent", format!("00-{id:032x}-{span:016x}-00"))][..],
                &[("b3", format!("{id:032x}-{span:016x}-1"))],
                &[("x-b3-traceid", format!("{id:032x}"))],
                &[("x-datadog-trace-id", low.to_string()), ("x-datadog-tags", format!("_dd.p.tid={high:016x}"))],
            ] {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                prop_assert_eq!(traces(&fields), [id], "{:?}", fields);
            }
        }
    }
}
