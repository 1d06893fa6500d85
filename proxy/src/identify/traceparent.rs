//! `traceparent` (W3C Trace Context section 3.2): whether it is valid, which decides if `tracestate` counts.

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
    let [version, high, low, parent, flags] = [(0, 2), (3, 16), (19, 16), (36, 16), (53, 2)]
        .map(|(from, digits)| hex(value.get(from..from + digits)?));
    let (version, parent) = (version?, parent?);
    let trace = (u128::from(high?) << 64) | u128::from(low?);
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
    let flags = flags?;
    Some(TraceParent { trace, parent, flags: u8::try_from(flags).ok()? })
}

/// At most 16 hexadecimal digits, all in lower case.
#[inline]
fn hex(text: &[u8]) -> Option<u64> {
    // Without a way out of the loop: what is no digit shows in the bits that digits don't have.
    let (value, bits) = text.iter().fold((0_u64, 0), |(value, bits), byte| {
        let digit = DIGITS.get(usize::from(*byte)).copied().unwrap_or(NONE);
        ((value << 4) | u64::from(digit & 0xf), bits | digit)
    });
    (bits & NONE == 0).then_some(value)
}

/// Not a digit.
const NONE: u8 = 0x80;

/// The hexadecimal digit that each byte is.
#[expect(clippy::indexing_slicing, reason = "the compiler does it, and would say so")]
static DIGITS: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};

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
