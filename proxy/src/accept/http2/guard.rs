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

/// The header of a frame, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
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
    /// Shows `each` the frames that begin in `bytes`.
    fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
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
                let [a, b, c, kind, flags, ..] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                each(Frame { length, kind, flags });
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
            resets: Budget::new(resets, now),
            control: Budget::new(control, now),
            owed: 0,
        }
    }

    /// The client sent `bytes`; the limit that it ran into.
    pub(super) fn read(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Option<Limit> {
        let Self { read, in_head, in_head_frame, resets, control, owed, .. } = self;
        let mut reached = None;
        read.read(bytes, |frame| {
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
            reached = reached.or(is_over);
        });
        reached
    }

    /// The client was sent `bytes`.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        let Self { written, resets, control, owed, .. } = self;
        written.read(bytes, |frame| {
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
        assert_eq!(guard.read(&reset, || now), Some(Limit::Http2Resets), "an answer that has not ended");
        guard.wrote(&frame(DATA, END_STREAM, 5));
        assert_eq!(guard.read(&reset, || now), None);
        assert_eq!(guard.read(&reset, || now), Some(Limit::Http2Resets));
        let later = now + REFILL / 2;
        for _ in 0..5 {
            assert_eq!(guard.read(&reset, || later), None);
        }
        assert_eq!(guard.read(&reset, || later), Some(Limit::Http2Resets));
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
            assert_eq!(guard.read(&flood, || now), Some(Limit::Http2ControlFrames));
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
                frames.read(piece, |frame| found.push((frame.kind, frame.flags, u8::try_from(frame.length).unwrap())));
            }
            prop_assert_eq!(found, wanted);
        }
    }
}
