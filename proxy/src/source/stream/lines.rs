//! Lines out of pieces of a body.

use bytes::{Buf, Bytes, BytesMut};
use sidetrack_config::stream::MAX_LINE;

/// Joins pieces and cuts them at line feeds.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: BytesMut,
    /// How far it is known to hold no line feed.
    searched: usize,
}

/// A line is longer than a line may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub struct TooLong;

impl Lines {
    /// Adds a piece, of which every line has to be taken before the next one.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line, without its line feed.
    ///
    /// # Errors
    /// The line is too long; what follows it can't be read then.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return if self.searched >= MAX_LINE { Err(TooLong) } else { Ok(None) };
        };
        let end = self.searched + at;
        if end >= MAX_LINE {
            return Err(TooLong);
        }
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_it_is_cut_the_lines_are_the_same(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..7, 0..40)) {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                lines.push(piece);
                rest = after;
                while let Some(line) = lines.next_line().unwrap() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            let mut expected: Vec<_> = text.split('\n').collect();
            expected.pop();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE - 1]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(TooLong));
    }
}
