//! Changes to lines: nearly everything here is text of lines, and most of what is odd in HTTP is a line too many, one
//! that is cut, one that ends otherwise.

/// What stands in heads and bodies that somebody wants to be read in two ways, and what our own carriers say.
const LINES: &[&str] = &[
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: +5",
    "content-length: 5, 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding:\tchunked",
    "transfer-encoding: identity",
    "Transfer-Encoding : chunked",
    " folded",
    "Host: preview.localhost",
    "Host: pr-42.preview.localhost",
    "Host: two.preview.localhost",
    "Connection: close",
    "Connection: keep-alive, x-pr-id, host, content-length, transfer-encoding",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "TE: trailers",
    "Trailer: x-sum",
    "Via: 1.1 other",
    "X-Forwarded-For: 127.9.9.9",
    "X-PR-ID: 42",
    "X-PR-ID: pr-57",
    "X-PR-ID:",
    "x_pr_id: 42",
    "X-PR-Strict: 1",
    "Cookie: pr-id=42; a=b",
    "baggage: pr-id=42",
    "baggage: a=1,pr-id=57;strict, b=2",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate: a=1,pr-id=42",
    "Origin: http://pr-42.preview.localhost",
    "GET / HTTP/1.1",
    "GET / HTTP/1.0",
    "POST /two/x?pr-id=42&a HTTP/1.1",
    "PUT http://pr-57.preview.localhost/two HTTP/1.1",
    "HEAD * HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "CONNECT two.preview.localhost:443 HTTP/1.1",
    "PRI * HTTP/2.0",
    "5",
    "5;a=b",
    "hello",
    "0",
    "",
    "headers 1",
    "headers 3 end",
    "trailers 1",
    "data 1 end",
    "data 3 hello",
    "reset 1",
    ":method: POST",
    ":path: /two/x",
    ":method: CONNECT",
    ":protocol: websocket",
    ":path: /101",
    ":scheme: http",
    ":authority: pr-42.preview.localhost",
    "settings",
    "window 1",
    "headers 1 open",
    "headers 1 pad=3 priority",
    "more 1 open",
    "more 1",
    ":status: 200",
    ":status: 103",
    ":status: 304",
    "+x: a value",
    "*x-coded: a=1",
    "#62",
    "#28: 5",
    "=0",
    "=4096",
    "data 1 size=16384",
    "times 4 data 1 pad=9 size=16000",
    "data 1 end",
    "settings 4=0 5=16384 1=0 3=1",
    "settings 4=65536",
    "window 0 70000",
    "goaway 1 0",
    "reset 1 0",
    "ping",
    "open",
    "pause",
    "@@",
];

/// Ends that some readers take for the end of a line.
const ENDS: &[&str] =
    &["\r\n", "\n", "\r", "\r\r\n", "\n\n", "\0\r\n", " \r\n", "\r\n ", "\r\n\t", "\r\n\r\n"];

/// Changes `data[..size]` by lines, within its length and `max`; gives the new size. `None`: this time other changes are
/// to be made.
pub fn lines(data: &mut [u8], size: usize, max: usize, seed: u32) -> Option<usize> {
    let mut dice = Dice(u64::from(seed) | 1 << 40);
    if dice.below(2) == 0 {
        return None;
    }
    let mut text: Vec<Vec<u8>> =
        data.get(..size)?.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..=dice.below(3) {
        change(&mut text, &mut dice);
    }
    let text = text.concat();
    let length = text.len().min(max).min(data.len());
    data.get_mut(..length)?.copy_from_slice(text.get(..length)?);
    Some(length)
}

fn change(text: &mut Vec<Vec<u8>>, dice: &mut Dice) {
    let at = dice.below(text.len() + 1);
    let Some(line) = text.get_mut(at) else {
        return text.push([dice.one(LINES), dice.one(ENDS)].concat().into_bytes());
    };
    let bare = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    // As other lines of this text end.
    let end = line.get(bare..).unwrap_or_default().to_vec();
    match dice.below(8) {
        0 | 1 => text.insert(at, [dice.one(LINES).as_bytes(), &end].concat()),
        2 => *line = [dice.one(LINES).as_bytes(), &end].concat(),
        3 => drop(text.remove(at)),
        4 => {
            let twin = line.clone();
            text.insert(at, twin);
        }
        5 => {
            line.truncate(bare);
            line.extend_from_slice(dice.one(ENDS).as_bytes());
        }
        6 => {
            let other = dice.below(text.len());
            text.swap(at, other);
        }
        // A piece of another line in the middle of this one.
        _ => {
            let other = dice.one(LINES).as_bytes();
            let (from, to) = (dice.below(other.len() + 1), dice.below(bare + 1));
            line.splice(to..to, other.iter().skip(from).copied());
        }
    }
}

/// Numbers from a seed (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % most.max(1)
    }

    fn one<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }
}
