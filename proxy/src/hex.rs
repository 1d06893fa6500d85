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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_format_writes_them() {
        for value in [0, 1, 0x9af, u128::MAX, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            assert_eq!(digits::<32>(value), *format!("{value:032x}").as_bytes());
            assert_eq!(digits::<16>(value), format!("{value:032x}").as_bytes()[16..]);
        }
    }
}
