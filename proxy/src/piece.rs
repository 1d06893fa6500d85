//! What came of a body over HTTP/2, and waits to be used.

use bytes::Bytes;

use crate::fields::Fields;

/// Bytes that wait, and how many are left in all.
#[derive(Debug, Default)]
pub struct Piece {
    bytes: Bytes,
    /// What is left to be used of the length that the head announced.
    left: Option<u64>,
}

impl Piece {
    /// Nothing yet, behind a head with these `fields`.
    pub fn behind(fields: &Fields) -> Self {
        let left = fields.text("content-length").and_then(|length| length.parse().ok());
        Self { bytes: Bytes::new(), left }
    }

    /// Bytes came, and all before them were used.
    pub fn fill(&mut self, bytes: Bytes) {
        self.bytes = bytes;
    }

    /// The bytes that wait.
    pub fn data(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the first `count` of them, or as many as there are.
    pub fn split(&mut self, count: usize) -> Bytes {
        let part = self.bytes.split_to(count.min(self.bytes.len()));
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        part
    }

    /// How many bytes are left, where the head says so.
    pub const fn left(&self) -> Option<u64> {
        self.left
    }
}
