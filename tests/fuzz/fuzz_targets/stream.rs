//! The stream of a controller: whatever comes, in whatever pieces, is a table or is refused, and a table has a version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidetrack_proxy::source::stream::lines::Lines;
use sidetrack_proxy::source::stream::mirror::{Heard, Mirror};

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let mut lines = Lines::default();
    let mut mirror = Mirror::default();
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.next_line() {
            let before = mirror.pending().len();
            match mirror.line(&line) {
                Ok(Heard::Whole(_) | Heard::Changed) => assert!(mirror.position().is_some()),
                Ok(Heard::Hello | Heard::Ping | Heard::Begun | Heard::Part) => {
                    assert_eq!(mirror.pending().len(), before);
                }
                Err(_) => mirror.lose_position(),
            }
        }
    }
});
