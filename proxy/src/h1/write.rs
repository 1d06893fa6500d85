//! Messages as they are written: one blank after the colon, CR LF, nothing to interpret.

use http::StatusCode;

use crate::fields::{Fields, Skips};

/// Writes the first line of an answer.
pub fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line.
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Content-Length`.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    digits::<10>(out, number);
}

/// Writes one chunk.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    digits::<16>(out, u64::try_from(data.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes what ends a chunked body.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(out, Skips::new([]));
    }
    out.extend_from_slice(b"\r\n");
}

/// The base is a constant, which divides without a division.
fn digits<const BASE: u64>(out: &mut Vec<u8>, mut number: u64) {
    // 20 digits are the most that 64 bits have.
    let mut text = [b'0'; 20];
    let mut from = text.len();
    for digit in text.iter_mut().rev() {
        let value = u8::try_from(number % BASE).unwrap_or(0);
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        number /= BASE;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_chunks() {
        for (number, text) in
            [(0, "0"), (7, "7"), (10, "10"), (1_234_567, "1234567"), (u64::MAX, "18446744073709551615")]
        {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        chunk(&mut out, &[b'x'; 26]);
        let trailers = Fields::from_iter([("x-sum", &b"1"[..])]);
        last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, [&b"1a\r\n"[..], &[b'x'; 26], b"\r\n0\r\nx-sum: 1\r\n\r\n"].concat());
    }
}
