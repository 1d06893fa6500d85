//! The stream of a controller: whatever comes is a table or is refused, a table has a version, and the pieces in which
//! it comes mean nothing.

use sidetrack_proxy::source::stream::lines::Lines;
use sidetrack_proxy::source::stream::mirror::{Heard, Mirror};

/// Lines of the stream.
pub(crate) fn check(bytes: &[u8]) {
    let whole = heard(bytes, bytes.len());
    assert_eq!(whole, heard(bytes, 1), "byte by byte it says something else");
    assert_eq!(whole, heard(bytes, 7), "in pieces it says something else");
}

/// What each line said, in pieces of so many bytes.
fn heard(bytes: &[u8], step: usize) -> Vec<String> {
    let mut lines = Lines::default();
    let mut mirror = Mirror::default();
    let mut said = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.next_line() {
            let before = mirror.pending().len();
            let heard = mirror.line(&line);
            match &heard {
                Ok(Heard::Whole(_) | Heard::Changed) => assert!(mirror.position().is_some()),
                Ok(Heard::Hello | Heard::Ping | Heard::Begun | Heard::Part) => {
                    assert_eq!(mirror.pending().len(), before);
                }
                Err(_) => mirror.lose_position(),
            }
            said.push(format!("{heard:?} {}", mirror.pending().len()));
        }
    }
    said
}
