//! `traceparent` (W3C Trace Context section 3.2): whether it is valid, which decides if `tracestate` counts.

use crate::hex;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace id.
    pub trace: u128,
    /// The id of the caller's span.
    pub parent: u64,
    /// The flags.
    pub flags: u8,
}

/// Reads a `traceparent`; `None` where it is not valid.
pub fn parse(value: &[u8]) -> Option<TraceParent> {
    let value = value.trim_ascii();
    // Every field of it has its place.
    let number = |from: usize, digits: usize| hex::number(value.get(from..from + digits)?);
    let (version, flags) = (two(value.get(..2)?)?, two(value.get(53..55)?)?);
    let (trace, parent) = (number(3, 32)?, number(36, 16)?);
    let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
    // A later version may add fields, version 00 has none, and ff is no version.
    let is_ended = match value.get(55) {
        None => true,
        Some(b'-') => version != 0,
        Some(_) => false,
    };
    if !dashes || !is_ended || version == 0xff || trace == 0 || parent == 0 {
        return None;
    }
    Some(TraceParent { trace, parent: u64::try_from(parent).ok()?, flags })
}

/// The trace of a request, where there is exactly one and it is valid.
pub fn only<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<TraceParent> {
    match (lines.next(), lines.next()) {
        (Some(one), None) => parse(one),
        _ => None,
    }
}

/// Two digits.
fn two(text: &[u8]) -> Option<u8> {
    let [high, low] = *text else { return None };
    hex::number(&[b'0', b'0', b'0', b'0', b'0', b'0', high, low]).and_then(|number| u8::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ones() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(good.as_bytes()).map(|parent| parent.flags), Some(1));
        assert!(parse(format!("01{}-what-ever", &good[2..]).as_bytes()).is_some(), "later versions may add");
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
