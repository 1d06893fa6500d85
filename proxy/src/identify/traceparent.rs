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
    let mut parts = value.splitn(5, |byte| *byte == b'-');
    let version = hex(parts.next()?, 2)?;
    let trace = parts.next().filter(|trace| trace.len() == 32)?;
    let (high, low) = trace.split_at_checked(16)?;
    let trace = (u128::from(hex(high, 16)?) << 64) | u128::from(hex(low, 16)?);
    let parent = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    // A later version may add fields, version 00 has none, and ff is no version.
    if version == 0xff || (version == 0 && parts.next().is_some()) || trace == 0 || parent == 0 {
        return None;
    }
    Some(TraceParent { trace, parent, flags: u8::try_from(flags).ok()? })
}

/// Exactly `digits` hexadecimal digits in lower case, at most 16.
fn hex(text: &[u8], digits: usize) -> Option<u64> {
    if text.len() != digits {
        return None;
    }
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
