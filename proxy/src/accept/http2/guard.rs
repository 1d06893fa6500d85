//! What an HTTP/2 client makes us do for nothing. The HTTP library keeps its own state small, and obeys as fast as frames
//! come; a client that asks for work and takes none of its fruits is counted here, by the headers of the frames (RFC 9113
//! section 10.5 leaves that to us). Pure: it is shown bytes, and says what they are.

use std::time::{Duration, Instant};

use crate::limit::Limit;

/// What a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// The header of a frame (section 4.1).
const HEADER: usize = 9;
/// In which time an empty budget is full again.
const REFILL: Duration = Duration::from_secs(10);
/// Frames that a client may answer to any frame of an answer with.
const ANSWERS: u32 = 4;
/// For so many bytes of an answer a client may send one more window update, or a ping to measure the path: some send two of
/// them for each read of their application, however small (Go does).
const BYTES: u32 = 32;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// It ran into this limit.
    Limit(Limit),
    /// It sent pseudo-header fields as trailers (RFC 9113 section 8.1). The library drops them without a word, and who
    /// sends them thinks that they count.
    Trailers,
}

/// The header of a frame, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// What a stream of bytes holds.
enum Part<'b> {
    Frame(Frame),
    /// Some bytes of the payload of the frame before.
    Payload(&'b [u8]),
}

/// Finds the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    filled: usize,
    /// Bytes before the next header.
    skip: usize,
}

impl Frames {
    /// Shows `each` what is in `bytes`.
    fn read<'b>(&mut self, mut bytes: &'b [u8], mut each: impl FnMut(Part<'b>)) {
        loop {
            let (payload, rest) = bytes.split_at_checked(self.skip).unwrap_or((bytes, &[]));
            self.skip -= payload.len();
            bytes = rest;
            if !payload.is_empty() {
                each(Part::Payload(payload));
            }
            if bytes.is_empty() {
                return;
            }
            let taken = (HEADER - self.filled).min(bytes.len());
            let (new, rest) = bytes.split_at_checked(taken).unwrap_or_default();
            if let Some(place) = self.header.get_mut(self.filled..self.filled + taken) {
                place.copy_from_slice(new);
            }
            self.filled += taken;
            bytes = rest;
            if self.filled == HEADER {
                self.filled = 0;
                let [a, b, c, kind, flags, stream @ ..] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                each(Part::Frame(Frame { length, kind, flags, stream }));
            }
        }
    }
}

/// How much of something a client may do; it fills up again with time, and with what the client is given.
#[derive(Debug)]
struct Budget {
    left: u32,
    most: u32,
    refilled: Instant,
}

impl Budget {
    const fn new(most: u32, now: Instant) -> Self {
        Self { left: most, most, refilled: now }
    }

    /// One more was done; whether that is too much. The clock is read only where the budget is empty.
    fn spend(&mut self, now: impl Fn() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let passed = now.saturating_duration_since(self.refilled).min(REFILL);
            let part = u128::from(self.most) * passed.as_millis() / REFILL.as_millis();
            self.left = u32::try_from(part).unwrap_or(self.most);
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => true,
        }
    }

    fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// Watches the frames of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    read: Frames,
    written: Frames,
    in_head: bool,
    in_head_frame: bool,
    /// The last stream that was opened: a head on another one is its trailers.
    last_stream: u32,
    trailers: Option<First>,
    resets: Budget,
    control: Budget,
    /// Window updates and pings that what was sent lets the client send. No cap: a window may be as large as the client
    /// likes, and be used up before the first update of it comes.
    owed: u64,
}

impl Guard {
    /// A client that may reset so many streams and send so many frames that carry nothing.
    pub(super) fn new(resets: u32, control: u32, now: Instant) -> Self {
        Self {
            read: Frames { skip: PREFACE, ..Frames::default() },
            written: Frames::default(),
            in_head: false,
            in_head_frame: false,
            last_stream: 0,
            trailers: None,
            resets: Budget::new(resets, now),
            control: Budget::new(control, now),
            owed: 0,
        }
    }

    /// The client sent `bytes`; what it may not do.
    pub(super) fn read(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Option<Breach> {
        let Self { read, in_head, in_head_frame, last_stream, trailers, resets, control, owed, .. } = self;
        let mut breach = None;
        read.read(bytes, |part| {
            let frame = match part {
                Part::Frame(frame) => frame,
                Part::Payload(bytes) => {
                    let is_pseudo = trailers.as_mut().is_some_and(|first| first.is_pseudo(bytes));
                    breach = breach.or(is_pseudo.then_some(Breach::Trailers));
                    return;
                }
            };
            match frame.kind {
                HEADERS if frame.stream > *last_stream => {
                    *last_stream = frame.stream;
                    *trailers = None;
                }
                HEADERS => *trailers = Some(First::new(frame.flags)),
                CONTINUATION => {}
                _ => *trailers = None,
            }
            let is_head = matches!(frame.kind, HEADERS | CONTINUATION);
            *in_head_frame = is_head;
            if is_head {
                *in_head = frame.flags & END_HEADERS == 0;
            }
            let is_over = match frame.kind {
                RST_STREAM => resets.spend(&now).then_some(Limit::Http2Resets),
                HEADERS => None,
                DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => None,
                WINDOW_UPDATE | PING if *owed > 0 => {
                    *owed -= 1;
                    None
                }
                _ => control.spend(&now).then_some(Limit::Http2ControlFrames),
            };
            breach = breach.or(is_over.map(Breach::Limit));
        });
        breach
    }

    /// The client was sent `bytes`.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        let Self { written, resets, control, owed, .. } = self;
        written.read(bytes, |part| {
            let Part::Frame(frame) = part else { return };
            if matches!(frame.kind, DATA | HEADERS) {
                control.earn(ANSWERS);
                resets.earn(u32::from(frame.flags & END_STREAM));
                *owed = owed.saturating_add(u64::from(ANSWERS + frame.length / BYTES));
            }
        });
    }

    /// Whether the client is in the middle of a head: until it has ended, nothing else may be sent (section 4.3).
    pub(super) const fn is_in_head(&self) -> bool {
        self.in_head || self.read.filled > 0 || (self.in_head_frame && self.read.skip > 0)
    }
}

/// The first field of trailers. Pseudo-header fields behind others the library refuses by itself.
#[derive(Debug)]
struct First {
    bytes: [u8; 32],
    filled: usize,
    /// Bytes of padding length and priority before it (RFC 9113 section 6.2).
    from: usize,
    is_known: bool,
}

impl First {
    const PADDED: u8 = 8;
    const PRIORITY: u8 = 0x20;

    fn new(flags: u8) -> Self {
        let padded = usize::from(flags & Self::PADDED != 0);
        let from = if flags & Self::PRIORITY == 0 { padded } else { padded + 5 };
        Self { bytes: [0; 32], filled: 0, from, is_known: false }
    }

    /// Whether it is a pseudo-header field, once enough of it is here.
    fn is_pseudo(&mut self, more: &[u8]) -> bool {
        if self.is_known {
            return false;
        }
        let count = more.len().min(self.bytes.len() - self.filled);
        if let Some(place) = self.bytes.get_mut(self.filled..self.filled + count) {
            place.copy_from_slice(more.get(..count).unwrap_or_default());
        }
        self.filled += count;
        let read = self.read();
        self.is_known = read.is_some() || self.filled == self.bytes.len();
        read == Some(true)
    }

    /// Reads its name (RFC 7541 section 6), as far as that is possible without the table of the connection: an entry that
    /// the client has put there itself is taken for none. `None`: there is more to come.
    fn read(&self) -> Option<bool> {
        /// The pseudo-header fields are the first of the static table.
        const LAST: u8 = 14;
        let bytes = self.bytes.get(self.from..self.filled)?;
        let behind = |at: usize| Some(at + 1 + bytes.get(at..)?.iter().position(|byte| byte & 0x80 == 0)?);
        let mut at = 0;
        loop {
            let first = *bytes.get(at)?;
            let index = match first {
                0x80.. => first & 0x7f,
                0x40.. => first & 0x3f,
                // The size of the table.
                0x20.. => {
                    at = if first & 0x1f == 0x1f { behind(at + 1)? } else { at + 1 };
                    continue;
                }
                _ => first & 0x0f,
            };
            if index != 0 || first >= 0x80 {
                return Some((1..=LAST).contains(&index));
            }
            let length = *bytes.get(at + 1)?;
            let name = if length & 0x7f == 0x7f { behind(at + 2)? } else { at + 2 };
            let letter = *bytes.get(name)?;
            // A colon, or the first seven bits of one in the code of RFC 7541 appendix B.
            return Some(if length & 0x80 == 0 { letter == b':' } else { letter >> 1 == 0x5c });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + usize::from(length), 0xaa);
        frame
    }

    /// A guard that has seen the preface.
    fn guard(now: Instant) -> Guard {
        let mut guard = Guard::new(10, 20, now);
        assert_eq!(guard.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now), None);
        guard
    }

    #[test]
    fn resets_run_out_and_come_back_with_answers_and_time() {
        let now = Instant::now();
        let mut guard = guard(now);
        let reset = frame(RST_STREAM, 0, 4);
        for _ in 0..10 {
            assert_eq!(guard.read(&reset, || now), None);
        }
        guard.wrote(&frame(HEADERS, END_HEADERS, 5));
        assert_eq!(
            guard.read(&reset, || now),
            Some(Breach::Limit(Limit::Http2Resets)),
            "an answer that has not ended"
        );
        guard.wrote(&frame(DATA, END_STREAM, 5));
        assert_eq!(guard.read(&reset, || now), None);
        assert_eq!(guard.read(&reset, || now), Some(Breach::Limit(Limit::Http2Resets)));
        let later = now + REFILL / 2;
        for _ in 0..5 {
            assert_eq!(guard.read(&reset, || later), None);
        }
        assert_eq!(guard.read(&reset, || later), Some(Breach::Limit(Limit::Http2Resets)));
    }

    #[test]
    fn frames_that_carry_nothing_run_out() {
        let now = Instant::now();
        let empty_data = frame(DATA, 0, 0);
        for flood in [frame(PING, 0, 8), frame(4, 0, 0), frame(2, 0, 5), frame(0x55, 0, 1), empty_data] {
            let mut guard = guard(now);
            assert_eq!(guard.read(&flood.repeat(20), || now), None);
            // What we answer to it gives nothing back.
            guard.wrote(&frame(PING, 1, 8).repeat(20));
            assert_eq!(guard.read(&flood, || now), Some(Breach::Limit(Limit::Http2ControlFrames)));
        }
        let mut guard = guard(now);
        for _ in 0..1_000 {
            guard.wrote(&frame(DATA, 0, 50));
            let windows = [frame(8, 0, 4), frame(8, 0, 4)].concat();
            assert_eq!(guard.read(&windows, || now), None, "window updates for what was sent");
        }
        // Large windows are used up first, and small reads answer for a long time.
        for _ in 0..100 {
            guard.wrote(&frame(DATA, 0, 200));
        }
        let updates = frame(WINDOW_UPDATE, 0, 4).repeat(100 * 200 / 64 * 2);
        assert_eq!(guard.read(&updates, || now), None, "two for each read of 64 bytes");
        assert_eq!(guard.read(&frame(DATA, 0, 9).repeat(1_000), || now), None, "an upload");
        assert_eq!(guard.read(&frame(HEADERS, 5, 9).repeat(1_000), || now), None, "requests");
    }

    #[test]
    fn in_the_middle_of_a_head() {
        let now = Instant::now();
        let mut guard = guard(now);
        for (bytes, is_in_head) in [
            (&frame(HEADERS, 0, 3)[..], true),
            (&frame(CONTINUATION, 0, 3)[..], true),
            (&frame(CONTINUATION, END_HEADERS, 3)[..], false),
            (&frame(HEADERS, END_HEADERS, 3)[..10], true),
            (&[0, 0], false),
            (&frame(DATA, 0, 3)[..10], false),
            (&[0, 0], false),
            (&frame(DATA, 0, 3)[..4], true),
        ] {
            assert_eq!(guard.read(bytes, || now), None);
            assert_eq!(guard.is_in_head(), is_in_head, "{bytes:?}");
        }
    }

    #[test]
    fn pseudo_header_fields_in_trailers() {
        let now = Instant::now();
        let head = |flags: u8, block: &[u8]| {
            let length = u8::try_from(block.len()).unwrap();
            [&[0, 0, length, HEADERS, flags, 0, 0, 0, 1], block].concat()
        };
        for (flags, block, is_pseudo) in [
            (5, &[0x88][..], true),
            (5, b"\x04\x02/b", true),
            (5, b"\x44\x02/b", true),
            (5, b"\x14\x02/b", true),
            (5, b"\x00\x05:path\x02/b", true),
            (5, b"\x40\x05:path\x02/b", true),
            // Huffman: `:path`.
            (5, &[0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0x01, b'/'][..], true),
            (5, &[0x3f, 0xe1, 0x1f, 0x88][..], true),
            (5 | 0x08, &[0x01, 0x88, 0x00][..], true),
            (5 | 0x20, &[0, 0, 0, 0, 9, 0x88][..], true),
            (5, b"\x00\x05x-sum\x017", false),
            (5, &[0x0f, 0x01, 0x01, b'7'][..], false),
            (5, &[0xbe][..], false),
            (5, &[0x00, 0x84, 0xf2, 0xb5, 0x8d, 0x3f, 0x01, b'/'][..], false),
            (5, &[][..], false),
        ] {
            for step in [1, 3, 100] {
                let mut guard = guard(now);
                assert_eq!(guard.read(&head(4, &[0x82, 0x84]), || now), None, "a request may have them");
                let bytes = head(flags, block);
                let found = bytes.chunks(step).find_map(|piece| guard.read(piece, || now));
                assert_eq!(found, is_pseudo.then_some(Breach::Trailers), "{block:02x?}");
            }
        }
    }

    proptest! {
        /// However the bytes are cut, the same frames are found.
        #[test]
        fn frames_are_found_in_any_pieces(
            wanted in prop::collection::vec((0_u8..12, any::<u8>(), 0_u8..30), 0..20),
            step in 1_usize..40,
        ) {
            let bytes: Vec<u8> = wanted.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(step) {
                frames.read(piece, |part| {
                    if let Part::Frame(frame) = part {
                        found.push((frame.kind, frame.flags, u8::try_from(frame.length).unwrap()));
                    }
                });
            }
            prop_assert_eq!(found, wanted);
        }
    }
}
