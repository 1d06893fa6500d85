//! Lines of a field section, as RFC 7541 writes them.

use std::sync::LazyLock;

use sidetrack_proxy::forward::http2::hpack::LENGTHS;

use super::script::plain;

/// Appends the line that this one of the script stands for.
pub(super) fn line(out: &mut Vec<u8>, line: &[u8]) {
    let Some((mark, rest)) = line.split_first() else { return };
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match mark {
        b'.' => out.extend(plain(rest)),
        b'#' => integer(out, 0x80, 7, number(rest).unwrap_or(0)),
        b'=' => integer(out, 0x20, 5, number(rest).unwrap_or(0)),
        b'+' => literal(out, (0x40, 6), false, rest),
        b'!' => literal(out, (0x10, 4), false, rest),
        b'~' => literal(out, (0x00, 4), true, rest),
        b'*' => literal(out, (0x40, 6), true, rest),
        b'-' => literal(out, (0x00, 4), false, rest),
        _ => literal(out, (0x00, 4), false, line),
    }
}

/// `name: value`, or `#28: value` where the name has an index.
fn literal(out: &mut Vec<u8>, (first, bits): (u8, u32), is_coded: bool, text: &[u8]) {
    // The name may begin with a colon.
    let colon = (1..text.len().saturating_sub(1)).find(|at| text[*at..].starts_with(b": "));
    let (name, value) = match colon {
        Some(at) => (&text[..at], &text[at + 2..]),
        None => (text, &[][..]),
    };
    let index = name.strip_prefix(b"#").and_then(|index| std::str::from_utf8(index).ok()?.parse().ok());
    integer(out, first, bits, index.unwrap_or(0));
    if index.is_none_or(|index| index == 0) {
        string(out, is_coded, &plain(name));
    }
    string(out, is_coded, &plain(value));
}

fn string(out: &mut Vec<u8>, is_coded: bool, text: &[u8]) {
    let coded = if is_coded { coded(text) } else { text.to_vec() };
    integer(out, if is_coded { 0x80 } else { 0 }, 7, u32::try_from(coded.len()).expect("a short one"));
    out.extend(coded);
}

/// RFC 7541 section 5.1.
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, number: u32) {
    let most = (1_u32 << bits) - 1;
    let low = |number: u32| number.to_be_bytes()[3];
    if number < most {
        return out.push(first | low(number));
    }
    out.push(first | low(most));
    let mut rest = number - most;
    while rest >= 128 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

/// A string in the code of Huffman, its last octet filled up with ones.
fn coded(text: &[u8]) -> Vec<u8> {
    static CODES: LazyLock<[(u32, u8); LENGTHS.len()]> = LazyLock::new(codes);
    let mut bits: Vec<bool> = Vec::new();
    for octet in text {
        let (code, length) = CODES[usize::from(*octet)];
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    bits.chunks(8)
        .map(|chunk| (0..8).fold(0, |octet, at| octet << 1 | u8::from(*chunk.get(at).unwrap_or(&true))))
        .collect()
}

/// The code of each octet, and its length: those of one length follow one another (RFC 7541 appendix B).
fn codes() -> [(u32, u8); LENGTHS.len()] {
    let mut codes = [(0, 0); LENGTHS.len()];
    let mut next = 0;
    for length in 1..=30 {
        next <<= 1;
        for (symbol, _) in LENGTHS.iter().enumerate().filter(|(_, its)| **its == length) {
            codes[symbol] = (next, length);
            next += 1;
        }
    }
    codes
}
