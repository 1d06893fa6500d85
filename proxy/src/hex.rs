//! Hexadecimal digits by hand: ids are made for every request, and `format!` takes ten times as long.

/// The last `N` digits of `value`, in lower case; `N` is a multiple of eight.
pub(crate) fn digits<const N: usize>(value: u128) -> [u8; N] {
    const { assert!(N.is_multiple_of(8) && N <= 32) }
    let mut out = [0; N];
    let mut rest = value;
    for place in out.as_chunks_mut::<8>().0.iter_mut().rev() {
        *place = eight(u32::try_from(rest & 0xffff_ffff).unwrap_or(0));
        rest >>= 32;
    }
    out
}

/// Eight digits at once: the half bytes are spread over eight bytes, and each gets what it lacks to its character.
fn eight(value: u32) -> [u8; 8] {
    let all = u64::from(value);
    let twos = (all & 0xffff_0000) << 16 | (all & 0x0000_ffff);
    let ones = (twos & 0x0000_ff00_0000_ff00) << 8 | (twos & 0x0000_00ff_0000_00ff);
    let halves = (ones & 0x00f0_00f0_00f0_00f0) << 4 | (ones & 0x000f_000f_000f_000f);
    // One in each byte that is ten or more, which six more carry over.
    let letters = (halves + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (halves + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// The number that at most 32 digits say, a multiple of eight of them, all in lower case.
pub(crate) fn number(text: &[u8]) -> Option<u128> {
    let (eights, rest) = text.as_chunks::<8>();
    let mut is_whole = rest.is_empty();
    let mut number = 0;
    for digits in eights {
        let part = of_eight(*digits);
        // What is no digit does not come back.
        is_whole &= eight(part) == *digits;
        number = number << 32 | u128::from(part);
    }
    is_whole.then_some(number)
}

/// What eight digits say, and anything at all for other bytes.
fn of_eight(digits: [u8; 8]) -> u32 {
    let all = u64::from_be_bytes(digits);
    let letters = all >> 6 & 0x0101_0101_0101_0101;
    let halves = (all & 0x0f0f_0f0f_0f0f_0f0f).wrapping_add(letters * 9);
    let ones = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    let twos = (ones | ones >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((twos | twos >> 16) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_format_writes_them() {
        for value in [0, 1, 0x9af, u128::MAX, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            assert_eq!(digits::<32>(value), *format!("{value:032x}").as_bytes());
            assert_eq!(digits::<16>(value), format!("{value:032x}").as_bytes()[16..]);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<u128>()) {
            prop_assert_eq!(number(&digits::<32>(value)), Some(value));
            prop_assert_eq!(number(&digits::<16>(value)), Some(value & u128::from(u64::MAX)));
        }

        #[test]
        fn nothing_else_is_read(text in prop::collection::vec(any::<u8>(), 0..33)) {
            let is_number = text.len().is_multiple_of(8)
                && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(number(&text).is_some(), is_number);
        }

        #[test]
        fn one_wrong_byte_is_seen(value in any::<u128>(), at in 0_usize..32, byte in any::<u8>()) {
            let mut text = digits::<32>(value);
            text[at] = byte;
            prop_assert_eq!(number(&text).is_some(), matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        }
    }
}
