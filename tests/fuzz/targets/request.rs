//! Heads of HTTP/1.1: what is accepted can be read in one way only, however it came, and is what a second reader sees.

use http::Method;
use sidetrack_proxy::fields::{Fields, Skips};
use sidetrack_proxy::h1::{Bounds, Fault, request, response};

use crate::wire::strict::{self, Side};

/// The most fields that are allowed here.
const MOST: Bounds = Bounds { fields: 20, ..Bounds::UPSTREAM };
/// Each prefix is read by itself, which takes time.
const LONGEST: usize = 4 << 10;

/// The bytes of a request, or of an answer.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let of_request = |bytes: &[u8]| {
        request::parse(bytes, MOST)
            .map(|read| read.map(|(read, length)| (format!("{read:?}"), length, read.head.fields)))
    };
    if let Some((fields, length)) = in_pieces(bytes, of_request) {
        plain(&fields);
        again(&bytes[..length]);
        second_opinion(bytes, length, &fields);
    }
    for method in [Method::GET, Method::HEAD] {
        let of_answer = |bytes: &[u8]| {
            response::parse(bytes, &method)
                .map(|read| read.map(|(read, length)| (format!("{read:?}"), length, read.fields)))
        };
        if let Some((fields, _)) = in_pieces(bytes, of_answer) {
            plain(&fields);
        }
    }
}

/// Reads `bytes` at once, and every prefix of them: there is a head exactly from where it ends.
fn in_pieces(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<(String, usize, Fields)>, Fault>,
) -> Option<(Fields, usize)> {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        match (parse(&bytes[..end]), &whole) {
            (Ok(None), Ok(Some((_, length, _)))) => {
                assert!(end < *length, "it waits where the head has ended")
            }
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (Ok(Some((read, length, _))), Ok(Some((at_once, wanted, _)))) => {
                assert!(length == *wanted && length <= end);
                assert_eq!(&read, at_once, "a part of it is read otherwise");
                // From here on it is the same in any case.
                break;
            }
            (part, whole) => panic!("{end} bytes are {part:?}, and all of them {whole:?}"),
        }
    }
    whole.ok().flatten().map(|(_, length, fields)| (fields, length))
}

/// Nothing in a name or a value ends a line, and there is one framing.
fn plain(fields: &Fields) {
    for (name, value) in fields.iter() {
        let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
        assert!(!name.is_empty() && name.iter().all(is_token), "{name:?}");
        assert!(!name.iter().any(u8::is_ascii_uppercase), "{name:?}");
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?}");
        assert_eq!(value.trim_ascii(), value, "blanks around a value are none of it");
    }
    let count = |name: &str| fields.get_all(name).count();
    assert!(count("content-length") + count("transfer-encoding") <= 1, "two framings");
}

/// What is written of a head reads as the head itself.
fn again(head: &[u8]) {
    let (first, _) = request::parse(head, MOST).unwrap().unwrap();
    // `http://h?a` has no path, and is refused where that is looked at.
    if !first.head.target.as_str().starts_with(['/', '*']) {
        return;
    }
    let mut text = format!("{} {} HTTP/1.1\r\n", first.head.method, first.head.target.as_str()).into_bytes();
    first.head.fields.write(&mut text, Skips::new([]));
    text.extend_from_slice(b"\r\n");
    let (second, length) = request::parse(&text, MOST).unwrap().unwrap();
    assert_eq!(length, text.len());
    assert_eq!(second.head.fields, first.head.fields);
    assert_eq!(second.body.left(), first.body.left());
    assert_eq!(
        (&second.head.method, second.head.target.as_str()),
        (&first.head.method, first.head.target.as_str())
    );
}

/// The reader of the wire tests sees the same head in the same bytes.
fn second_opinion(bytes: &[u8], length: usize, fields: &Fields) {
    let other = match strict::read(&bytes[..length], Side::Client) {
        strict::Read::Whole(other, _) | strict::Read::Cut(Some(other)) => other,
        other => panic!("we take what a strict reader does not: {other:?}"),
    };
    let ours: Vec<_> = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let theirs: Vec<_> =
        other.fields.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
    assert_eq!(ours, theirs);
}
