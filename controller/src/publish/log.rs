//! The last deltas, so that a subscriber that was away for a moment needs no snapshot.

use std::collections::VecDeque;

use bytes::Bytes;

/// The most deltas that are kept: minutes of a busy cluster.
const MAX_DELTAS: usize = 1024;
/// The most bytes of them: past that a snapshot is the shorter way.
const MAX_BYTES: usize = 16 << 20;

/// Deltas without a gap, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    deltas: VecDeque<Bytes>,
    bytes: usize,
}

impl Log {
    /// Adds the delta that leads from the version before to the newest. `None`, for one that is too long for a line:
    /// there is no way past it but a snapshot.
    pub(super) fn push(&mut self, line: Option<Bytes>) {
        let Some(line) = line else {
            *self = Self::default();
            return;
        };
        self.bytes += line.len();
        self.deltas.push_back(line);
        while self.deltas.len() > MAX_DELTAS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.deltas.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// All deltas that lead from version `at` to `newest`; `None` where some of them are not here.
    pub(super) fn since(&self, at: u64, newest: u64) -> Option<Vec<Bytes>> {
        let missing = usize::try_from(newest.checked_sub(at)?).ok()?;
        let kept = self.deltas.len().checked_sub(missing)?;
        Some(self.deltas.iter().skip(kept).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_by_count_and_by_bytes() {
        let mut log = Log::default();
        for _ in 0..2000 {
            log.push(Some(Bytes::from_static(b"x")));
        }
        assert_eq!(log.since(2000 - 1024, 2000).map(|lines| lines.len()), Some(1024));
        assert!(log.since(2000 - 1025, 2000).is_none());
        for _ in 0..5 {
            log.push(Some(Bytes::from(vec![0; 4 << 20])));
        }
        assert_eq!(log.since(2001, 2005).map(|lines| lines.len()), Some(4));
        assert!(log.since(2000, 2005).is_none(), "20 MB are over the bound");
    }

    #[test]
    fn a_delta_that_is_too_long_is_a_gap() {
        let mut log = Log::default();
        log.push(Some(Bytes::from_static(b"a")));
        log.push(None);
        log.push(Some(Bytes::from_static(b"c")));
        assert!(log.since(1, 3).is_none());
        assert_eq!(log.since(2, 3).unwrap(), [Bytes::from_static(b"c")]);
        assert!(log.since(4, 3).is_none(), "a version that was never made");
    }
}
