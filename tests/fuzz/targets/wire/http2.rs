//! Frames of an HTTP/2 client, from a script of lines. What it sent is each stream with a list of fields that RFC 9113
//! allows and, to be whole, an end.
//!
//! | line | frame |
//! |---|---|
//! | `headers 1 [end] [open]` | HEADERS of stream 1; `open`: a CONTINUATION has to follow |
//! | `name: value` | a field of the frame before; `\r`, `\n`, `\0` and `\t` are these characters |
//! | `more 1 [open]` | CONTINUATION |
//! | `trailers 1` | HEADERS that end the stream |
//! | `data 1 [end] [text]` | DATA |
//! | `pause` | none: waits for an answer, or a moment |
//! | `reset 1`, `window 1`, `priority 1`, `settings`, `ping`, `unknown` | what they say |

mod meaning;
mod script;

use std::collections::BTreeSet;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::script::{Script, frame};
use super::round::{Round, say, within};
use super::world;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A script.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let script = Script::read(&text);
    world::within(async |world| {
        let round = Round::begin(world);
        play(round.connect().await, &script).await;
        round.end(&script.sent, false).await;
    });
}

/// Says everything, and waits until each stream that was ended is answered, or the connection is.
async fn play(mut stream: TcpStream, script: &Script) {
    let mut first = PREFACE.to_vec();
    frame(&mut first, 4, 0, 0, &[]);
    say(&mut stream, &[first]).await;
    say(&mut stream, &script.pieces).await;
    let mut last = Vec::new();
    // Streams that were not ended will not be.
    for open in &script.open {
        frame(&mut last, 3, 0, *open, &8_u32.to_be_bytes());
    }
    // A list of fields that was left open ends the connection here.
    frame(&mut last, 6, 0, 0, b"all said");
    say(&mut stream, &[last]).await;
    let mut waiting: BTreeSet<u32> = script.ended.clone();
    let mut heard = Vec::new();
    while !waiting.is_empty() {
        if within("answer, or end of the connection", stream.read_buf(&mut heard)).await.unwrap_or(0) == 0 {
            break;
        }
        while let Some(head) = heard.first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if heard.len() < 9 + length {
                break;
            }
            heard.drain(..9 + length);
            if kind == 3 || (kind <= 1 && flags & 1 != 0) {
                waiting.remove(&of);
            }
        }
    }
    let _ = stream.set_zero_linger();
}
