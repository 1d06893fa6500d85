//! The frames of a WebSocket: the pieces in which they come mean nothing, a second reader finds the same places between
//! two of them, and what we put there is a frame of its own.

use sidetrack_proxy::forward::tunnel::close;
use sidetrack_proxy::forward::tunnel::frames::Frames;

/// Each place is tried, which takes time.
const LONGEST: usize = 1 << 10;

/// Some frames, and what comes of half a one.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let (ends, closes) = read(bytes);
    for step in [1, 2, 7, LONGEST] {
        let (mut frames, mut at) = (Frames::default(), 0);
        for piece in bytes.chunks(step) {
            frames.pass(piece);
            at += piece.len();
            assert_eq!(frames.is_between(), ends.contains(&at), "at {at} in pieces of {step}");
            assert_eq!(frames.has_closed(), closes.is_some_and(|close| close <= at), "at {at}");
        }
    }
    for cut in 0..=bytes.len() {
        let (begun, rest) = bytes.split_at(cut);
        let mut frames = Frames::default();
        frames.pass(begun);
        let passed = frames.pass_to_end(rest);
        let next = ends.iter().copied().find(|end| *end >= cut);
        assert_eq!(cut + passed, next.unwrap_or(bytes.len()), "from {cut}");
        if next.is_some() {
            frames.pass(close::TO_CLIENT);
            frames.pass(&close::to_upstream([bytes.first().copied().unwrap_or(0); 4]));
            assert!(frames.is_between() && frames.has_closed());
        }
    }
}

/// Where a frame may be put, and where the first head of a Close ends (RFC 6455 section 5.2), read at one go.
fn read(bytes: &[u8]) -> (Vec<usize>, Option<usize>) {
    let (mut ends, mut closes, mut at) = (vec![0], None, 0);
    while let Some([first, second, rest @ ..]) = bytes.get(at..) {
        let (size, length) = match (second & 127, rest) {
            (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
            (126 | 127, _) => break,
            (short, _) => (2, u64::from(short)),
        };
        if first & 15 == 8 {
            closes = closes.or(Some(at + size));
        }
        let mask = if second & 128 != 0 { 4 } else { 0 };
        let end = (at as u64).saturating_add(size as u64).saturating_add(mask).saturating_add(length);
        match usize::try_from(end).ok().filter(|end| *end <= bytes.len()) {
            Some(end) => at = end,
            None => break,
        }
        ends.push(at);
    }
    (ends, closes)
}
