//! The script of an upstream: what is asked of it, and the octets that it answers with.

use super::hpack;

/// Flags of frames.
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The most octets of an answer: eight windows of a stream.
const MOST: usize = 512 << 10;
/// The most octets of the body of a request: more than a window that nobody has widened.
const MOST_OF_BODY: usize = 100_000;
/// The most pauses.
const PAUSES: usize = 16;

/// What is asked, and the answer to it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) method: http::Method,
    /// Octets of the body of the request.
    pub(super) body: usize,
    /// Whether nothing of a body is used before the upstream has said everything.
    pub(super) is_late: bool,
    /// What is said before there is a request, where something is.
    pub(super) before: Option<Vec<u8>>,
    /// What is said then, with a pause behind each but the last.
    pub(super) pieces: Vec<Vec<u8>>,
}

/// A frame whose payload may still come.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// What the head says of the length, where that is a lie.
    length: Option<usize>,
    padding: Option<u8>,
    payload: Vec<u8>,
}

impl Script {
    /// Reads it.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|octet| *octet == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let words: Vec<&str> = first.split_ascii_whitespace().collect();
        let mut script = Self {
            method: match words.first() {
                Some(&"HEAD") => http::Method::HEAD,
                Some(&"POST") => http::Method::POST,
                _ => http::Method::GET,
            },
            body: 0,
            is_late: words.contains(&"late"),
            before: None,
            pieces: vec![Vec::new()],
        };
        if script.method == http::Method::POST {
            let length = words.iter().find_map(|word| word.parse().ok()).unwrap_or(5);
            script.body = length.min(MOST_OF_BODY);
        }
        if !words.contains(&"mute") {
            script.write(&Frame::new(4, 0, 0));
            script.write(&Frame::new(4, ACK, 0));
        }
        let mut open = None;
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (times, line) = repeated(line);
            for _ in 0..times {
                if script.pieces.iter().map(Vec::len).sum::<usize>() > MOST {
                    break;
                }
                script.line(line, &mut open);
            }
        }
        script.close(&mut open);
        script
    }

    /// All that is said, one behind the other.
    pub(super) fn said(&self) -> Vec<u8> {
        [self.before.clone().unwrap_or_default(), self.pieces.concat()].concat()
    }

    fn line(&mut self, line: &[u8], open: &mut Option<Frame>) {
        let (word, rest) = cut(line);
        let Some(frame) = Frame::begun(word, rest) else {
            match word {
                b"pause" => {
                    self.close(open);
                    if self.pieces.len() <= PAUSES {
                        self.pieces.push(Vec::new());
                    }
                }
                b"open" => {
                    self.close(open);
                    if self.before.is_none() {
                        self.before = Some(std::mem::replace(&mut self.pieces, vec![Vec::new()]).concat());
                    }
                }
                b"raw" => {
                    self.close(open);
                    self.last().extend(plain(rest));
                }
                _ => {
                    if let Some(frame) = open {
                        hpack::line(&mut frame.payload, line);
                    }
                }
            }
            return;
        };
        self.close(open);
        *open = Some(frame);
    }

    fn last(&mut self) -> &mut Vec<u8> {
        self.pieces.last_mut().expect("there is always one")
    }

    fn close(&mut self, open: &mut Option<Frame>) {
        if let Some(frame) = open.take() {
            self.write(&frame);
        }
    }

    fn write(&mut self, frame: &Frame) {
        let mut payload = Vec::new();
        payload.extend(frame.padding);
        if frame.kind == 1 && frame.flags & PRIORITY != 0 {
            payload.extend([0, 0, 0, 0, 16]);
        }
        payload.extend_from_slice(&frame.payload);
        payload.resize(payload.len() + usize::from(frame.padding.unwrap_or(0)), 0);
        let length = u32::try_from(frame.length.unwrap_or(payload.len())).unwrap_or(u32::MAX).to_be_bytes();
        let padded = if frame.padding.is_some() { PADDED } else { 0 };
        let out = self.last();
        out.extend_from_slice(&length[1..]);
        out.extend([frame.kind, frame.flags | padded]);
        out.extend(frame.stream.to_be_bytes());
        out.extend(payload);
    }
}

impl Frame {
    const fn new(kind: u8, flags: u8, stream: u32) -> Self {
        Self { kind, flags, stream, length: None, padding: None, payload: Vec::new() }
    }

    /// The frame that begins with this word; `None`: none does.
    fn begun(word: &[u8], rest: &[u8]) -> Option<Self> {
        let (kind, flags) = match word {
            b"data" => (0, 0),
            b"headers" => (1, END_HEADERS),
            b"trailers" => (1, END_HEADERS | END_STREAM),
            b"priority" => (2, 0),
            b"reset" => (3, 0),
            b"settings" => (4, 0),
            b"push" => (5, END_HEADERS),
            b"ping" => (6, 0),
            b"goaway" => (7, 0),
            b"window" => (8, 0),
            b"more" => (9, END_HEADERS),
            b"frame" => (250, 0),
            _ => return None,
        };
        let (mut frame, mut rest) = (Self::new(kind, flags, 0), rest);
        if word == b"frame" {
            frame.kind = lowest(taken(&mut rest).unwrap_or(250));
            frame.flags = lowest(taken(&mut rest).unwrap_or(0));
        }
        if !matches!(word, b"settings" | b"ping" | b"goaway") {
            frame.stream = taken(&mut rest).unwrap_or(0);
        }
        let mut size = 0;
        loop {
            let (option, behind) = cut(rest);
            match option {
                b"end" => frame.flags |= END_STREAM,
                b"ack" => frame.flags |= ACK,
                b"open" => frame.flags &= !END_HEADERS,
                b"priority" => frame.flags |= PRIORITY,
                _ => match value(option) {
                    Some((b"of", number)) => frame.stream = number,
                    Some((b"length", number)) => frame.length = Some(number as usize & 0xff_ffff),
                    Some((b"pad", number)) => frame.padding = Some(lowest(number)),
                    Some((b"size", number)) => size = number as usize % (64 << 10),
                    _ => break,
                },
            }
            rest = behind;
        }
        frame.fill(rest);
        frame.payload.resize(frame.payload.len() + size, b'.');
        Some(frame)
    }

    fn fill(&mut self, mut rest: &[u8]) {
        match self.kind {
            2 => self.payload.extend([0, 0, 0, 0, 16]),
            3 | 8 => self.payload.extend(taken(&mut rest).unwrap_or(8).to_be_bytes()),
            4 => {
                while let Some((key, number)) = value(cut(rest).0) {
                    let key =
                        std::str::from_utf8(key).ok().and_then(|key| key.parse().ok()).unwrap_or(250_u16);
                    self.payload.extend(key.to_be_bytes());
                    self.payload.extend(number.to_be_bytes());
                    rest = cut(rest).1;
                }
            }
            5 => self.payload.extend(2_u32.to_be_bytes()),
            6 => self.payload.extend(b"12345678"),
            7 => {
                for _ in 0..2 {
                    self.payload.extend(taken(&mut rest).unwrap_or(0).to_be_bytes());
                }
                self.payload.extend(plain(rest));
            }
            _ => self.payload.extend(plain(rest)),
        }
    }
}

/// `times 5 LINE`: how often, and the line.
fn repeated(line: &[u8]) -> (u32, &[u8]) {
    let (word, mut rest) = cut(line);
    match word {
        b"times" => (taken(&mut rest).unwrap_or(1).min(20_000), rest),
        _ => (1, line),
    }
}

/// The first word, and what is behind the blank after it.
fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|octet| *octet == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// The number that `rest` begins with, which is taken of it.
fn taken(rest: &mut &[u8]) -> Option<u32> {
    let (word, behind) = cut(rest);
    let number = std::str::from_utf8(word).ok()?.parse().ok()?;
    *rest = behind;
    Some(number)
}

/// `key=5`
fn value(word: &[u8]) -> Option<(&[u8], u32)> {
    let at = word.iter().position(|octet| *octet == b'=')?;
    Some((&word[..at], std::str::from_utf8(&word[at + 1..]).ok()?.parse().ok()?))
}

fn lowest(number: u32) -> u8 {
    number.to_be_bytes()[3]
}

/// A text with `\r`, `\n`, `\t`, `\0`, `\\` and `\x4e` for the octets that they say.
pub(super) fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok();
        let (octet, count) = match (*first, behind) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'x', high, low, ..]) => match digits(&[*high, *low]) {
                Some(octet) => (octet, 4),
                None => (b'\\', 1),
            },
            (other, _) => (other, 1),
        };
        out.push(octet);
        rest = &rest[count..];
    }
    out
}
