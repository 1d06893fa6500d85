//! A second reader of HTTP/1.1, by the letter of RFC 9112 and without a line of the proxy's: what it reads, everybody
//! reads so; everything else is bad. It judges what clients sent and what upstreams got.

use std::fmt;

/// Who wrote the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client: empty lines before a request, HTTP/1.0 and extensions of chunks are allowed.
    Client,
    /// The proxy, which has no use for any of these.
    Proxy,
}

/// Names, in lower case, and values.
pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// A request.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) is_http10: bool,
    pub(crate) fields: Lines,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Lines,
    /// The length of its head on the wire.
    pub(crate) head: usize,
}

impl Request {
    /// The values of a field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, fields, body, trailers, .. } = self;
        write!(f, "{method} {target}")?;
        for (name, value) in fields.iter().chain(trailers) {
            write!(f, " | {name}: {}", String::from_utf8_lossy(value))?;
        }
        write!(f, " | {:?}", String::from_utf8_lossy(body))
    }
}

/// What bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A request, and its length.
    Whole(Request, usize),
    /// A part of one; with its head, and what there is of its body, where that is whole.
    Cut(Option<Request>),
    /// None; with its head where only its body is bad.
    Bad(Option<Request>, &'static str),
}

/// Reads what `bytes` begin with.
pub(crate) fn read(bytes: &[u8], side: Side) -> Read {
    let mut at = 0;
    while side == Side::Client && bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    let mut request = match head(bytes, &mut at) {
        Ok(Some(request)) => request,
        Ok(None) => return Read::Cut(None),
        Err(why) => return Read::Bad(None, why),
    };
    request.head = at;
    if side == Side::Proxy && request.is_http10 {
        return Read::Bad(None, "HTTP/1.0 of the proxy");
    }
    let framing = match framing(&request) {
        Ok(framing) => framing,
        Err(why) => return Read::Bad(None, why),
    };
    match framing {
        Some(length) => {
            let rest = &bytes[at..];
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            request.body = rest[..rest.len().min(length)].to_vec();
            if rest.len() < length { Read::Cut(Some(request)) } else { Read::Whole(request, at + length) }
        }
        None => {
            let mut reader = Chunks { bytes, at, side, body: Vec::new(), trailers: Vec::new() };
            let ended = reader.read();
            request.body = reader.body;
            request.trailers = reader.trailers;
            match ended {
                Ok(true) => Read::Whole(request, reader.at),
                Ok(false) => Read::Cut(Some(request)),
                Err(why) => Read::Bad(Some(request), why),
            }
        }
    }
}

/// What a chunked body of a client is: its bytes, its length on the wire, its trailers. `None`: none, or cut.
pub(crate) fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize, Lines)> {
    let mut reader = Chunks { bytes, at: 0, side: Side::Client, body: Vec::new(), trailers: Vec::new() };
    (reader.read() == Ok(true)).then_some((reader.body, reader.at, reader.trailers))
}

/// A line up to its CR LF, which is taken too. `None`: it has no end yet.
fn line<'b>(bytes: &'b [u8], at: &mut usize) -> Result<Option<&'b [u8]>, &'static str> {
    let rest = &bytes[*at..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else { return Ok(None) };
    match &rest[end..] {
        [b'\r', b'\n', ..] => {
            *at += end + 2;
            Ok(Some(&rest[..end]))
        }
        [b'\r'] => Ok(None),
        _ => Err("a bare CR, a bare LF or a NUL"),
    }
}

fn head(bytes: &[u8], at: &mut usize) -> Result<Option<Request>, &'static str> {
    let Some(first) = line(bytes, at)? else { return Ok(None) };
    let mut words = first.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a request line is three words");
    };
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err("the version"),
    };
    if method.is_empty() || !method.iter().all(is_token) {
        return Err("the method is no token");
    }
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err("the target");
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
    let Some(fields) = fields(bytes, at)? else { return Ok(None) };
    Ok(Some(Request { method: text(method), target: text(target), is_http10, fields, ..Request::default() }))
}

/// Field lines up to the empty one.
fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Lines>, &'static str> {
    let mut fields = Vec::new();
    loop {
        let line = match line(bytes, at)? {
            None => return Ok(None),
            Some([]) => return Ok(Some(fields)),
            Some(line) => line,
        };
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(is_token) {
            return Err("a name is no token");
        }
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err("a control character in a value");
        }
        let name = String::from_utf8(name.to_ascii_lowercase()).expect("ASCII");
        fields.push((name, trimmed(value).to_vec()));
    }
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// The length of the body; `None`: in chunks.
fn framing(request: &Request) -> Result<Option<u64>, &'static str> {
    let lengths: Vec<_> = request.all("content-length").collect();
    let codings: Vec<_> = request.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Some(0)),
        ([length], []) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(length).ok().filter(|_| is_number);
            text.and_then(|text| text.parse().ok()).map(Some).ok_or("Content-Length is no number")
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !request.is_http10 => Ok(None),
        ([], [_]) => Err("Transfer-Encoding"),
        _ => Err("two framings"),
    }
}

/// Reads a chunked body.
struct Chunks<'b> {
    bytes: &'b [u8],
    at: usize,
    side: Side,
    body: Vec<u8>,
    trailers: Lines,
}

impl Chunks<'_> {
    /// Whether it is whole.
    fn read(&mut self) -> Result<bool, &'static str> {
        loop {
            let Some(line) = line(self.bytes, &mut self.at)? else { return Ok(false) };
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let size = std::str::from_utf8(&line[..digits]).ok().filter(|_| (1..=16).contains(&digits));
            let size =
                size.and_then(|size| u64::from_str_radix(size, 16).ok()).ok_or("the size of a chunk")?;
            let may_be_extended = self.side == Side::Client;
            match &line[digits..] {
                [] => {}
                [b';', text @ ..]
                    if may_be_extended && text.iter().all(|byte| *byte == b'\t' || *byte >= b' ') => {}
                _ => return Err("something behind the size of a chunk"),
            }
            if size == 0 {
                let Some(trailers) = fields(self.bytes, &mut self.at)? else { return Ok(false) };
                self.trailers = trailers;
                return Ok(true);
            }
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let rest = &self.bytes[self.at..];
            self.body.extend_from_slice(&rest[..rest.len().min(size)]);
            match rest.get(size..) {
                None | Some([] | [b'\r']) => return Ok(false),
                Some([b'\r', b'\n', ..]) => self.at += size + 2,
                Some(_) => return Err("a chunk is longer than its size"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_or_none() {
        let text = b"\r\nPOST /a HTTP/1.1\r\nHost:  x \r\nTransfer-Encoding: Chunked\r\n\r\n3;a\r\nabc\r\n0\r\nT: 1\r\n\r\nGET";
        let Read::Whole(read, length) = read(text, Side::Client) else { panic!("a request") };
        assert_eq!((read.body.as_slice(), length), (&b"abc"[..], text.len() - 3));
        assert_eq!(read.all("host").collect::<Vec<_>>(), [b"x"]);
        assert_eq!(read.trailers, [("t".to_owned(), b"1".to_vec())]);
        assert!(matches!(super::read(text, Side::Proxy), Read::Bad(..)), "no empty line of the proxy");
        assert!(matches!(super::read(&text[..length - 1], Side::Client), Read::Cut(Some(_))));
        for bad in [
            "GET / HTTP/1.1\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\n y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : x\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\rc\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        ] {
            assert!(matches!(super::read(bad.as_bytes(), Side::Client), Read::Bad(..)), "{bad:?}");
        }
    }
}
