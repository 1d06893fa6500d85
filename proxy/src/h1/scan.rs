//! The grammar of heads, byte by byte (RFC 9112 sections 2 to 5), and nothing that is looser than it.
//!
//! By hand, since a head is most of what this proxy reads: the places of its parts are found in one pass, and the head is
//! copied, indexed and forwarded by them. `tests/h1_differential.rs` holds it against a second reader.

use std::ops::Range;

use super::Fault;

/// The characters of a token (RFC 9110 section 5.6.2), by their value.
#[expect(clippy::indexing_slicing, reason = "the compiler does it, and would say so")]
static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    while let [byte, others @ ..] = rest {
        table[*byte as usize] = true;
        rest = others;
    }
    table
};

/// The line before the fields of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Where the method is.
    pub method: Range<usize>,
    /// Where the target is: visible characters of ASCII.
    pub target: Range<usize>,
    /// Whether it is of HTTP/1.0.
    pub is_http10: bool,
    /// Where the fields begin.
    pub next: usize,
}

/// The line before the fields of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct StatusLine {
    /// The status: three digits.
    pub status: u16,
    /// Whether it is of HTTP/1.0.
    pub is_http10: bool,
    /// Where the fields begin.
    pub next: usize,
}

/// A field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    /// Where the name is: a token.
    pub name: Range<usize>,
    /// Where the value is, without the blanks around it: no control character but the tab.
    pub value: Range<usize>,
    /// Where the next line begins.
    pub next: usize,
}

/// Reads the first line of a request; `None`: there is more to come. Empty lines before it are those of a client that ends
/// its body in one too many (RFC 9112 section 2.2).
///
/// # Errors
/// It is none.
pub fn request_line(head: &[u8]) -> Result<Option<RequestLine>, Fault> {
    const FAULT: Fault = Fault::Malformed("the request line is malformed");
    let from = head.as_chunks::<2>().0.iter().take_while(|pair| *pair == b"\r\n").count() * 2;
    if let Some(b'\r' | b'\n') = head.get(from) {
        return Ok(line_end(head, from)?.and(None));
    }
    let method = from..token(head, from);
    match head.get(method.end) {
        None => return Ok(None),
        Some(b' ') if !method.is_empty() => {}
        Some(_) => return Err(FAULT),
    }
    let target = method.end + 1..visible(head, method.end + 1);
    match head.get(target.end) {
        None => return Ok(None),
        Some(b' ') if !target.is_empty() => {}
        Some(0x80..) => {
            return Err(Fault::Malformed(
                "the request target holds a character that has to be percent-encoded",
            ));
        }
        Some(_) => return Err(FAULT),
    }
    let Some((is_http10, at)) = version(head, target.end + 1)? else { return Ok(None) };
    Ok(line_end(head, at)?.map(|next| RequestLine { method, target, is_http10, next }))
}

/// Reads the first line of an answer; `None`: there is more to come.
///
/// # Errors
/// It is none.
pub fn status_line(head: &[u8]) -> Result<Option<StatusLine>, Fault> {
    const FAULT: Fault = Fault::Malformed("the status line is malformed");
    let Some((is_http10, at)) = version(head, 0)? else { return Ok(None) };
    let mut status = 0;
    for (place, byte) in (at..).zip([b' ', b'0', b'0', b'0']) {
        match (head.get(place), byte) {
            (None, _) => return Ok(None),
            (Some(b' '), b' ') => {}
            (Some(digit @ b'0'..=b'9'), b'0') => status = status * 10 + u16::from(digit - b'0'),
            _ => return Err(FAULT),
        }
    }
    // The blank before the reason belongs to the line, but there are servers that leave both out.
    let at = at + 4;
    let end = match head.get(at) {
        Some(b' ') => text(head, at),
        _ => at,
    };
    Ok(line_end(head, end)?.map(|next| StatusLine { status, is_http10, next }))
}

/// Reads the field line that begins at `from`; `None`: there is more to come.
///
/// # Errors
/// It is none, or one that continues the line before it (RFC 9112 section 5.2).
#[inline]
pub fn field_line(head: &[u8], from: usize) -> Result<Option<FieldLine>, Fault> {
    let name = from..token(head, from);
    match head.get(name.end) {
        None => return Ok(None),
        Some(b':') if !name.is_empty() => {}
        Some(_) => return Err(Fault::Malformed("a field has no proper name, or a line is folded")),
    }
    let mut begin = name.end + 1;
    while let Some(b' ' | b'\t') = head.get(begin) {
        begin += 1;
    }
    let stop = text(head, begin);
    let mut end = stop;
    while end > begin && matches!(head.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }
    match head.get(stop) {
        None | Some(b'\r' | b'\n') => {}
        Some(_) => return Err(Fault::Malformed("a field has a forbidden character")),
    }
    Ok(line_end(head, stop)?.map(|next| FieldLine { name, value: begin..end, next }))
}

/// Whether the fields end with the line at `from`, and where the body begins then; `None`: there is more to come.
///
/// # Errors
/// The line ends in LF alone.
#[inline]
pub fn fields_end(head: &[u8], from: usize) -> Result<Option<Option<usize>>, Fault> {
    match head.get(from) {
        None => Ok(None),
        Some(b'\r' | b'\n') => Ok(line_end(head, from)?.map(Some)),
        Some(_) => Ok(Some(None)),
    }
}

/// Where the next line begins; `None`: there is more to come.
#[inline]
fn line_end(head: &[u8], at: usize) -> Result<Option<usize>, Fault> {
    match (head.get(at), head.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        // Where some readers end a line and others don't (RFC 9112 section 2.2 lets them).
        (Some(b'\n'), _) => Err(Fault::Malformed("a line of the head ends without CR")),
        _ => Err(Fault::Malformed("a line does not end in CR LF")),
    }
}

/// Reads `HTTP/1.1` or `HTTP/1.0`; whether it is the latter, and what follows it. `None`: there is more to come.
fn version(head: &[u8], from: usize) -> Result<Option<(bool, usize)>, Fault> {
    const VERSION: &[u8] = b"HTTP/1.";
    let rest = head.get(from..).unwrap_or_default();
    let is_http10 = match rest.strip_prefix(VERSION).map(<[u8]>::first) {
        Some(Some(b'1')) => false,
        Some(Some(b'0')) => true,
        Some(None) => return Ok(None),
        None if VERSION.starts_with(rest) => return Ok(None),
        _ => return Err(Fault::Malformed("the version is neither 1.1 nor 1.0")),
    };
    Ok(Some((is_http10, from + VERSION.len() + 1)))
}

/// Where the token that begins at `from` ends.
#[inline]
fn token(head: &[u8], from: usize) -> usize {
    let rest = head.get(from..).unwrap_or_default();
    let is_in = |byte: &u8| IN_TOKEN.get(usize::from(*byte)).is_some_and(|is_in| *is_in);
    from + rest.iter().position(|byte| !is_in(byte)).unwrap_or(rest.len())
}

/// Where the visible characters of ASCII that begin at `from` end.
fn visible(head: &[u8], from: usize) -> usize {
    let rest = head.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len())
}

/// Where the characters of a value that begin at `from`, blanks and tabs among them, end.
#[inline]
fn text(head: &[u8], from: usize) -> usize {
    let rest = head.get(from..).unwrap_or_default();
    let eights = rest.as_chunks::<8>().0.iter();
    let clean = eights.take_while(|bytes| !may_have_controls(u64::from_ne_bytes(**bytes))).count() * 8;
    let tail = rest.get(clean..).unwrap_or_default();
    from + clean + tail.iter().position(|byte| is_control(*byte)).unwrap_or(tail.len())
}

/// Whether a byte may not stand in a value (RFC 9110 section 5.5).
#[inline]
pub const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Whether one of eight bytes is a control character, or a tab. A borrow out of a byte below the blank, or a zero where
/// 0x7f was, sets its highest bit; those above it may then be set as well, and no others.
#[inline]
pub const fn may_have_controls(word: u64) -> bool {
    let delete = word ^ eight(0x7f);
    let found = (word.wrapping_sub(eight(b' ')) & !word) | (delete.wrapping_sub(eight(1)) & !delete);
    found & eight(0x80) != 0
}

/// The same byte eight times.
#[inline]
pub const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn controls_are_found_eight_at_a_time(bytes: [u8; 8]) {
            let real = bytes.iter().any(|byte| is_control(*byte) || *byte == b'\t');
            prop_assert_eq!(may_have_controls(u64::from_ne_bytes(bytes)), real);
        }

        /// Another reader of the same grammar, which is looser in a few places: what we take it takes, and finds the same.
        #[test]
        fn a_field_line_is_what_another_reader_sees(
            line in prop_oneof![
                "[a-zA-Z-]{1,20}:[ \t]{0,3}[ -~\t]{0,40}[ \t]{0,3}\r\n\r\n",
                "[!-~]{0,5}[ \t]?:[\\x00-\\xff]{0,20}\r\n\r\n",
            ],
        ) {
            let line = line.as_bytes();
            let Ok(Some(ours)) = field_line(line, 0) else { return Ok(()) };
            prop_assume!(line.get(ours.next..) == Some(b"\r\n"));
            let mut lines = [httparse::EMPTY_HEADER; 4];
            let theirs = httparse::parse_headers(line, &mut lines);
            let Ok(httparse::Status::Complete((_, [theirs]))) = theirs else {
                return Err(TestCaseError::fail(format!("{line:?}: {theirs:?}")));
            };
            prop_assert_eq!(line.get(ours.name).unwrap(), theirs.name.as_bytes());
            prop_assert_eq!(line.get(ours.value).unwrap(), theirs.value);
        }

        /// Wherever a head is cut, the rest of it is waited for and nothing is said to be wrong.
        #[test]
        fn a_part_of_a_line_is_no_fault(cut in 0_usize..200) {
            for whole in ["\r\nPOST /a?b HTTP/1.1\r\n", "GET http://a/ HTTP/1.0\r\n"] {
                if let Some(part) = whole.as_bytes().get(..cut).filter(|part| part.len() < whole.len()) {
                    prop_assert_eq!(request_line(part), Ok(None));
                }
            }
            for whole in ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404\r\n"] {
                if let Some(part) = whole.as_bytes().get(..cut).filter(|part| part.len() < whole.len()) {
                    prop_assert_eq!(status_line(part), Ok(None));
                }
            }
            let whole = b"X-Name: \t value \r\n";
            if let Some(part) = whole.get(..cut).filter(|part| part.len() < whole.len()) {
                prop_assert_eq!(field_line(part, 0), Ok(None));
            }
        }
    }

    #[test]
    fn the_places_of_the_parts() {
        let line = request_line(b"\r\nGET /x HTTP/1.0\r\n").unwrap().unwrap();
        assert_eq!(line, RequestLine { method: 2..5, target: 6..8, is_http10: true, next: 19 });
        let line = status_line(b"HTTP/1.1 204 \xe4 x\r\n").unwrap().unwrap();
        assert_eq!(line, StatusLine { status: 204, is_http10: false, next: 18 });
        let line = field_line(b"a:\t1 2 \r\nb", 0).unwrap().unwrap();
        assert_eq!(line, FieldLine { name: 0..1, value: 3..6, next: 9 });
        let line = field_line(b"a: \r\n", 0).unwrap().unwrap();
        assert!(line.value.is_empty());
        assert_eq!(fields_end(b"a: b\r\n\r\n", 6), Ok(Some(Some(8))));
        assert_eq!(fields_end(b"a: b\r\n\r\n", 0), Ok(Some(None)));
        assert_eq!(fields_end(b"a: b\r\n\r", 6), Ok(None));
    }
}
