//! The script of a client: its frames, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::super::judge::Sent;
use super::super::round::PAUSES;
use super::super::strict::Lines;
use super::meaning::sent;

/// Flags of HEADERS and DATA.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What stands for a pause among the types of frames.
const PAUSE: u8 = 255;

/// What a script says.
#[derive(Default)]
pub(super) struct Script {
    /// The frames, cut where the client pauses.
    pub(super) pieces: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    /// The requests among them.
    pub(super) sent: Vec<Sent>,
    /// Streams that were ended.
    pub(super) ended: BTreeSet<u32>,
    /// Streams that were not.
    pub(super) open: BTreeSet<u32>,
}

/// A stream as its frames have made it.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) fields: Lines,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Lines,
    is_begun: bool,
    has_trailers: bool,
    /// Whether a CONTINUATION has to follow.
    is_list_open: bool,
    pub(super) is_ended: bool,
    is_reset: bool,
}

/// A frame whose fields are still to come.
struct Block {
    kind: u8,
    flags: u8,
    stream: u32,
    fields: Lines,
}

impl Script {
    /// Reads it.
    pub(super) fn read(text: &str) -> Self {
        let mut script = Self::default();
        let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
        let mut block: Option<Block> = None;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            let words: Vec<&str> = line.split(' ').collect();
            let has = |word: &str| words.iter().skip(2).any(|it| *it == word);
            let Some(kind) = kind(words[0]) else {
                if let (Some(block), Some(field)) = (&mut block, field(line)) {
                    block.fields.push(field);
                }
                continue;
            };
            if let Some(block) = block.take() {
                script.write(block, &mut streams);
            }
            if kind == PAUSE {
                if script.pieces.len() < PAUSES {
                    script.pieces.push(std::mem::take(&mut script.bytes));
                }
                continue;
            }
            let stream = words.get(1).and_then(|word| word.parse::<u32>().ok()).unwrap_or(0) & 0xff;
            let end = if has("end") { END_STREAM } else { 0 };
            let whole = if has("open") { 0 } else { END_HEADERS };
            let flags = match words[0] {
                "headers" => end | whole,
                "trailers" => END_STREAM | whole,
                "more" => whole,
                _ => {
                    script.plain(kind, stream, end, &words, &mut streams);
                    continue;
                }
            };
            block = Some(Block { kind, flags, stream, fields: Vec::new() });
        }
        if let Some(block) = block {
            script.write(block, &mut streams);
        }
        for (id, stream) in streams {
            // One that its client has reset is answered by nothing.
            if !stream.is_reset {
                let of = if stream.is_ended { &mut script.ended } else { &mut script.open };
                of.insert(id);
            }
            script.sent.extend(sent(stream));
        }
        let last = std::mem::take(&mut script.bytes);
        script.pieces.push(last);
        script
    }

    /// A frame with fields.
    fn write(&mut self, block: Block, streams: &mut BTreeMap<u32, Stream>) {
        frame(&mut self.bytes, block.kind, block.flags, block.stream, &packed(&block.fields));
        let stream = streams.entry(block.stream).or_default();
        let continues = block.kind == 9 && stream.is_list_open;
        if !continues && (block.kind == 9 || stream.is_ended || stream.is_reset) {
            // Nobody may take it for a part of the request.
            return;
        }
        stream.is_list_open = block.flags & END_HEADERS == 0;
        if !continues {
            // The second list of fields is that of trailers, whatever it was meant to be.
            stream.has_trailers |= stream.is_begun;
            stream.is_begun = true;
            stream.is_ended |= block.flags & END_STREAM != 0;
        }
        let list = if stream.has_trailers { &mut stream.trailers } else { &mut stream.fields };
        list.extend(block.fields);
    }

    /// A frame without.
    fn plain(&mut self, kind: u8, stream: u32, end: u8, words: &[&str], streams: &mut BTreeMap<u32, Stream>) {
        let mut payload: Vec<u8> = Vec::new();
        let mut of = stream;
        let mut flags = 0;
        match kind {
            0 => {
                flags = end;
                let text = words.iter().skip(2).filter(|word| **word != "end").copied();
                payload = text.collect::<Vec<_>>().join(" ").into_bytes();
                let stream = streams.entry(stream).or_default();
                if !stream.is_ended && !stream.is_reset {
                    stream.body.extend_from_slice(&payload);
                    stream.is_ended |= end != 0;
                }
            }
            2 => payload = vec![0, 0, 0, 0, 16],
            3 => {
                payload = 8_u32.to_be_bytes().to_vec();
                streams.entry(stream).or_default().is_reset = true;
            }
            6 => {
                payload = b"12345678".to_vec();
                of = 0;
            }
            8 => payload = 1_000_u32.to_be_bytes().to_vec(),
            4 | 250 => of = 0,
            _ => {}
        }
        frame(&mut self.bytes, kind, flags, of, &payload);
    }
}

/// The type of a frame by its word.
fn kind(word: &str) -> Option<u8> {
    Some(match word {
        "data" => 0,
        "headers" | "trailers" => 1,
        "priority" => 2,
        "reset" => 3,
        "settings" => 4,
        "ping" => 6,
        "window" => 8,
        "more" => 9,
        "unknown" => 250,
        "pause" => PAUSE,
        _ => return None,
    })
}

/// `name: value`; the name may begin with a colon.
fn field(line: &str) -> Option<(String, Vec<u8>)> {
    let at = line.get(1..)?.find(": ")? + 1;
    let plain =
        |text: &str| text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").replace("\\t", "\t");
    Some((plain(&line[..at]), plain(&line[at + 2..]).into_bytes()))
}

/// Writes a frame (RFC 9113 section 4.1).
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literal fields, new names, no table (RFC 7541 section 6.2.2).
fn packed(fields: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value);
    }
    block
}

/// Writes a string as it is (RFC 7541 section 5.2), its length in seven bits and as many more as it takes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let byte = |number: usize| u8::try_from(number).expect("a byte");
    if bytes.len() < 127 {
        out.push(byte(bytes.len()));
    } else {
        out.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            out.push(byte(rest % 128) | 128);
            rest /= 128;
        }
        out.push(byte(rest));
    }
    out.extend_from_slice(bytes);
}
