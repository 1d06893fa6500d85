//! Bytes of an HTTP/1.1 client. What it sent is what a strict reader sees in them, up to the first thing that not
//! everybody reads alike; nothing from there on may arrive.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::judge::{Sent, one};
use super::round::{PAUSES, Round, say, within};
use super::strict::{Read, Request, Side, read};
use super::world;

/// The bytes of a connection; where they hold `@@`, the client waits for an answer to what is before, or a moment.
pub(crate) fn check(bytes: &[u8]) {
    // The other version has a target of its own.
    if bytes.starts_with(b"PRI") {
        return;
    }
    let pieces = pieces(bytes);
    let bytes = pieces.concat();
    world::within(async |world| {
        let round = Round::begin(world);
        let sent = sent(&bytes);
        play(round.connect().await, &pieces, &sent).await;
        round.end(&sent, true).await;
    });
}

fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|two| two == b"@@").filter(|_| pieces.len() < PAUSES) {
        pieces.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    pieces.push(rest);
    pieces
}

/// What a client sends with these bytes.
fn sent(bytes: &[u8]) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut rest = bytes;
    loop {
        let (request, length, is_whole) = match read(rest, Side::Client) {
            Read::Whole(request, length) => (request, length, true),
            Read::Cut(Some(request)) | Read::Bad(Some(request), _) => (request, rest.len(), false),
            Read::Cut(None) | Read::Bad(None, _) => return sent,
        };
        rest = &rest[length..];
        sent.push(one_sent(request, is_whole, rest.to_vec()));
        if !is_whole {
            return sent;
        }
    }
}

/// The host and the path of a request, from its target or from `Host` (RFC 9112 section 3.3).
fn one_sent(mut request: Request, is_whole: bool, behind: Vec<u8>) -> Sent {
    let mut authority = one(&request, "host").map(str::to_owned);
    let hosts = request.all("host").count();
    if request.is_http10 && hosts == 0 {
        authority = Some(String::new());
    }
    if let Some((_, rest)) = request.target.split_once("://").filter(|_| !request.target.starts_with('/')) {
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        authority = (request.is_http10 || hosts == 1).then(|| host.to_owned());
        let slash = if path.starts_with('/') { "" } else { "/" };
        request.target = format!("{slash}{path}");
    }
    Sent { request, authority: authority.filter(|_| hosts <= 1), is_whole, behind }
}

/// Says everything and hears the answers; ends its side when no more will come.
async fn play(mut stream: TcpStream, pieces: &[&[u8]], sent: &[Sent]) {
    say(&mut stream, pieces).await;
    let mut methods = sent.iter().filter(|sent| sent.is_whole).map(|sent| sent.request.method.as_str());
    let mut heard = Vec::new();
    let mut is_open = true;
    let mut method = methods.next();
    loop {
        while let Some(of) = method
            && let Some((length, is_last)) = answer(&heard, of)
        {
            heard.drain(..length);
            method = if is_last { None } else { methods.next() };
        }
        // What is bad behind these is answered or not.
        if method.is_none() && is_open {
            is_open = false;
            let _ = stream.shutdown().await;
        }
        let read = within("answer, or end of the connection", stream.read_buf(&mut heard)).await;
        if read.unwrap_or(0) == 0 {
            break;
        }
    }
    // A closed connection would keep its port for a minute.
    let _ = stream.set_zero_linger();
}

/// The length of a final answer to a request of this method, and whether HTTP ends with it; `None`: more is to come.
fn answer(bytes: &[u8], method: &str) -> Option<(usize, bool)> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let head = rest.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&rest[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 "), "no answer: {text:?}");
        let status: u16 = text[9..12].parse().expect("a status");
        at += head;
        if status == 101 {
            return Some((at, true));
        }
        if status < 200 {
            continue;
        }
        if method == "HEAD" || matches!(status, 204 | 304) {
            return Some((at, false));
        }
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(length) = field("content-length") {
            let length: usize = length.parse().expect("a length");
            return (bytes.len() >= at + length).then_some((at + length, false));
        }
        if field("transfer-encoding").is_some() {
            let end = bytes[at..].windows(5).position(|five| five == b"0\r\n\r\n")?;
            return Some((at + end + 5, false));
        }
        // It ends with the connection.
        return None;
    }
}
