//! Where one frame of a WebSocket ends and the next begins (RFC 6455 section 5.2). Payloads are skipped, not looked at,
//! and nothing is judged: what is no frame only means that there is never a place between two.

/// One direction of a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// What is here of a head that is not complete.
    head: Head,
    /// Bytes of the frame that are still to come, once its head is complete.
    left: u64,
    has_closed: bool,
}

/// The first bytes of a frame: its kind, and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// How many bytes are here.
    here: u8,
    is_close: bool,
    is_masked: bool,
    /// How many bytes make a head with this one's length.
    size: u8,
    length: u64,
}

impl Head {
    /// Takes the next byte; whether that was the last one.
    fn take(&mut self, byte: u8) -> bool {
        self.here += 1;
        match self.here {
            1 => {
                self.is_close = byte & 0x0f == 8;
                self.size = 2;
            }
            2 => {
                self.is_masked = byte & 0x80 != 0;
                (self.size, self.length) = match byte & 0x7f {
                    126 => (4, 0),
                    127 => (10, 0),
                    length => (2, length.into()),
                };
            }
            _ => self.length = self.length << 8 | u64::from(byte),
        }
        self.here == self.size
    }
}

impl Frames {
    /// Whether a frame may be put here.
    pub const fn is_between(&self) -> bool {
        self.head.here == 0 && self.left == 0
    }

    /// Whether a frame has begun that says that nothing follows it.
    pub const fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Goes through `bytes`.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = bytes.get(self.pass_frame(bytes)..).unwrap_or_default();
        }
    }

    /// Goes through `bytes` as far as the first place where a frame may be put, and says how far that is; all of them,
    /// where there is none.
    pub fn pass_to_end(&mut self, bytes: &[u8]) -> usize {
        if self.is_between() { 0 } else { self.pass_frame(bytes) }
    }

    /// Goes through `bytes` to the end of the frame that is here, or begins; how far that is.
    fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        if self.left == 0 {
            for byte in bytes {
                passed += 1;
                if self.head.take(*byte) {
                    let Head { is_close, is_masked, length, .. } = std::mem::take(&mut self.head);
                    self.has_closed |= is_close;
                    self.left = length.saturating_add(if is_masked { 4 } else { 0 });
                    break;
                }
            }
        }
        let rest = bytes.len() - passed;
        let skipped = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
        self.left -= u64::try_from(skipped).unwrap_or(self.left);
        passed + skipped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as it travels.
    fn frame(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + length + if masked { 4 } else { 0 }, 0x88);
        bytes
    }

    fn any_frame() -> impl Strategy<Value = (u8, bool, usize)> {
        let length = prop_oneof![4 => 0..20_usize, 2 => 120..130_usize, 1 => 65_530..65_545_usize];
        (prop::sample::select(vec![0x00, 0x01, 0x82, 0x89, 0x8a, 0xc1, 0x88]), any::<bool>(), length)
    }

    proptest! {
        /// However the bytes come, each end of a frame is a place between two, and nothing else is.
        #[test]
        fn pieces_mean_nothing(
            frames in prop::collection::vec(any_frame(), 0..6),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut all = Vec::new();
            let mut ends = vec![0];
            let mut closed_at = usize::MAX;
            for (first, masked, length) in frames {
                let head = frame(first, masked, length);
                if first & 0x0f == 8 && closed_at == usize::MAX {
                    closed_at = all.len() + head.len() - length - if masked { 4 } else { 0 };
                }
                all.extend(head);
                ends.push(all.len());
            }
            let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(all.len() + 1)).collect();
            cuts.push(all.len());
            cuts.sort_unstable();
            let (mut state, mut at) = (Frames::default(), 0);
            for cut in cuts {
                let piece = &all[at..cut];
                let (mut careful, before) = (state.clone(), state.is_between());
                let passed = careful.pass_to_end(piece);
                let next = ends.iter().copied().find(|end| *end >= at).unwrap_or(all.len());
                prop_assert_eq!(at + passed, if before { at } else { next.min(cut) });
                careful.pass(&piece[passed..]);
                state.pass(piece);
                prop_assert_eq!(&careful, &state);
                at = cut;
                prop_assert_eq!(state.is_between(), ends.contains(&at));
                prop_assert_eq!(state.has_closed(), at >= closed_at);
            }
        }

        /// Whatever comes, there is no fault in it.
        #[test]
        fn anything_passes(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1..9_usize) {
            let mut whole = Frames::default();
            whole.pass(&bytes);
            let mut pieces = Frames::default();
            bytes.chunks(step).for_each(|piece| pieces.pass(piece));
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn a_length_that_no_machine_can_count_has_no_end() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(!frames.is_between());
        assert_eq!(frames.pass_to_end(&[0; 1000]), 1000);
    }
}
