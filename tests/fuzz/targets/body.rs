//! Chunked bodies: the pieces in which one comes mean nothing, a second reader sees the same, and what is written anew
//! is the same body.

use sidetrack_proxy::fields::Fields;
use sidetrack_proxy::h1::Bounds;
use sidetrack_proxy::h1::body::{Decoder, Next};
use sidetrack_proxy::h1::write;

use crate::wire::strict;

/// Trailers are read anew for every byte, which takes time.
const LONGEST: usize = 1 << 10;

/// What a body was: its bytes, how long it was on the wire, its trailers.
type Body = (Vec<u8>, usize, Option<Fields>);

/// The bytes of a chunked body, and more.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let whole = decode(bytes, bytes.len());
    for step in [1, 2, 7] {
        assert_eq!(whole.as_ref().ok(), decode(bytes, step).as_ref().ok(), "in pieces of {step}");
    }
    let Ok((body, used, trailers)) = whole else { return };
    let (theirs, length, fields) = strict::chunks(bytes).expect("we take what a strict reader does not");
    assert_eq!((&theirs, length), (&body, used));
    let ours = trailers.iter().flat_map(|trailers| trailers.iter());
    assert!(ours.eq(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()))), "{fields:?}");
    let mut text = Vec::new();
    for piece in body.chunks(5) {
        write::chunk(&mut text, piece);
    }
    write::last_chunk(&mut text, trailers.as_ref());
    let length = text.len();
    text.extend_from_slice(b"GET / HTTP/1.1\r\n");
    assert_eq!(decode(&text, 3), Ok((body, length, trailers)), "what was written anew");
}

/// Reads `bytes`, shown in pieces of `step`.
fn decode(bytes: &[u8], step: usize) -> Result<Body, String> {
    let mut decoder = Decoder::chunked(Bounds::UPSTREAM);
    let (mut body, mut at, mut shown) = (Vec::new(), 0, 0);
    loop {
        match decoder.next(&bytes[at..shown]).map_err(|fault| fault.to_string())? {
            Next::Framing(count) => at += count,
            Next::Data(count) => {
                assert!(count > 0 && at + count <= shown);
                body.extend_from_slice(&bytes[at..at + count]);
                decoder.took(count);
                at += count;
            }
            Next::More if shown == bytes.len() => return Err("cut".to_owned()),
            Next::More => shown = (shown + step).min(bytes.len()),
            Next::End => return Ok((body, at, decoder.take_trailers())),
        }
    }
}
