//! Hexadecimal digits by hand: ids are made for every request, and `format!` takes ten times as long.

/// The last `N` digits of `value`, in lower case.
pub(crate) fn digits<const N: usize>(value: u128) -> [u8; N] {
    let bytes = value.to_le_bytes();
    std::array::from_fn(|at| {
        let place = N - 1 - at;
        let byte = bytes.get(place / 2).copied().unwrap_or(0);
        let digit = if place.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    })
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
