//! The head of a client's request.

use std::mem::MaybeUninit;

use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version};

use super::body::Decoder;
use super::control::Control;
use super::{Bounds, Fault, has_whole_ends, lines, offset};
use crate::fields::{Fields, ROOM_OF_REQUEST};
use crate::head::RequestHead;
use crate::limit::Limit;

/// The head of a request, and what it says of its body.
#[derive(Debug)]
pub struct Received {
    /// Method, target, version and fields.
    pub head: RequestHead,
    /// Reads the body.
    pub body: Decoder,
    /// Whether the connection stays open.
    pub persists: bool,
    /// Whether it is of HTTP/1.0.
    pub is_http10: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects: bool,
}

/// Reads the head of a request within `bounds`; `None`: there is more to come. Gives its length in bytes, too.
///
/// # Errors
/// It is malformed, too large, or its body has no end that everybody would see in the same place.
pub fn parse(bytes: &[u8], bounds: Bounds) -> Result<Option<(Received, usize)>, Fault> {
    let mut few = lines();
    let mut many = Vec::new();
    let lines = match few.get_mut(..bounds.fields) {
        Some(lines) => lines,
        None => {
            many.resize_with(bounds.fields, MaybeUninit::uninit);
            many.as_mut_slice()
        }
    };
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let whole = bytes.get(..length).unwrap_or_default();
    let method = request.method.unwrap_or_default();
    // Empty lines before a request are those of a client that ends its body in one too many (RFC 9112 section 2.2).
    let before = whole.get(..offset(whole, method.as_bytes())).unwrap_or_default();
    if !has_whole_ends(whole, request.headers) || before.chunks(2).any(|end| end != b"\r\n") {
        return Err(Fault::Malformed("a line of the head ends without CR"));
    }
    let is_http10 = request.version == Some(0);
    let fields = Fields::parsed(whole, request.headers, ROOM_OF_REQUEST)?;
    let control = Control::of(&fields)?;
    let says_continue = fields.get_all("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if control.chunked && is_http10 {
        return Err(Fault::Malformed("Transfer-Encoding is newer than the version of the request"));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Malformed("the method is none"))?;
    let (authority, target) = target(&method, request.path.unwrap_or_default())?;
    let version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    let head = RequestHead { method, authority, target, version, is_websocket: false, fields };
    let body = match control.length {
        _ if control.chunked => Decoder::chunked(bounds),
        length => Decoder::length(length.unwrap_or(0)),
    };
    let expects = says_continue && !is_http10 && !body.is_ended();
    let received = Received { head, body, persists: control.persists(is_http10), is_http10, expects };
    Ok(Some((received, length)))
}

/// Printable characters of ASCII, and no fragment, which some would cut and others send on (RFC 9112 section 3.2).
fn target(method: &Method, text: &str) -> Result<(Option<Authority>, PathAndQuery), Fault> {
    if text.len() > LONGEST {
        return Err(Fault::TooLarge(Limit::UriBytes));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Fault::Malformed("the request target holds a character that has to be percent-encoded"));
    }
    let none = Fault::Malformed("the request target is none");
    if text.starts_with('/') {
        return Ok((None, PathAndQuery::try_from(text).map_err(|_| none)?));
    }
    // `*`, an absolute one, or what CONNECT has.
    let parts = Uri::try_from(text).map_err(|_| none)?.into_parts();
    match parts.path_and_query {
        // An empty path is `/` (RFC 9110 section 4.2.3).
        Some(target) if target.as_str().starts_with('?') => {
            let target = PathAndQuery::try_from(format!("/{}", target.as_str())).map_err(|_| none)?;
            Ok((parts.authority, target))
        }
        Some(target) => Ok((parts.authority, target)),
        // It has no path, and is refused for its method.
        None if *method == Method::CONNECT => Ok((parts.authority, PathAndQuery::from_static("*"))),
        None => Err(Fault::Malformed("the request target is no path")),
    }
}

/// The longest target that can be held. The configuration allows no more, and less by default.
const LONGEST: usize = 65_534;

fn fault(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::HeaderName => Fault::Malformed("a field has no proper name, or a line is folded"),
        httparse::Error::HeaderValue => Fault::Malformed("a field has a forbidden character"),
        httparse::Error::NewLine => Fault::Malformed("a line does not end in CR LF"),
        httparse::Error::TooManyHeaders => Fault::TooLarge(Limit::HeaderCount),
        httparse::Error::Version => Fault::Malformed("the version is neither 1.1 nor 1.0"),
        httparse::Error::Status | httparse::Error::Token => Fault::Malformed("the request line is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Received, usize)>, Fault> {
        parse(text.as_bytes(), Bounds { fields: 5, ..Bounds::UPSTREAM })
    }

    #[test]
    fn what_a_head_says() {
        let text = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc";
        let (read, length) = head(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 3);
        assert_eq!((read.head.method.as_str(), read.head.target.as_str()), ("POST", "/a?b"));
        assert_eq!(read.head.fields.text("host"), Some("x"));
        assert_eq!(read.body.left(), Some(3));
        assert!(read.persists && read.expects && !read.is_http10);
        assert!(head(&text[..length - 1]).unwrap().is_none());
        let (read, _) = head("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(read.is_http10 && !read.persists && read.body.is_ended());
        let (read, _) = head("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n").unwrap().unwrap();
        assert!(read.persists);
    }

    #[test]
    fn an_absolute_target_is_host_and_path() {
        for (text, authority, path) in
            [("http://a:80/b?c", "a:80", "/b?c"), ("HTTP://a?c", "a", "/?c"), ("http://a", "a", "/")]
        {
            let (read, _) = head(&format!("\r\nGET {text} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap().unwrap();
            assert_eq!(read.head.authority.as_ref().map(Authority::as_str), Some(authority));
            assert_eq!(read.head.target.as_str(), path);
        }
    }

    /// A line that is too long for the index is left out, and its value is not taken for one of the line before it.
    #[test]
    fn a_line_that_is_left_out_says_nothing() {
        let name = "x".repeat(usize::from(u16::MAX) + 1);
        let text = format!("GET / HTTP/1.1\r\nconnection: keep-alive\r\n{name}: close\r\n\r\n");
        let (read, _) = head(&text).unwrap().unwrap();
        assert!(read.persists && read.head.fields.len() == 1);
    }

    #[test]
    fn what_is_odd_is_refused() {
        for text in [
            "GET / HTTP/1.1\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\n\r\n",
            "GET / HTTP/1.1\r\nhost: x\r\n\n",
            "GET / HTTP/1.1\nhost: x\n\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "G\u{e4}T / HTTP/1.1\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\n\r\n",
            "GET /#a HTTP/1.1\r\n\r\n",
            "GET /a\tb HTTP/1.1\r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n host: x\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\na : b\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\na\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\0\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\na(: b\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: \x0bchunked\r\n\r\n",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(matches!(head(text), Err(Fault::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn bounds() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST));
        assert_eq!(head(&long).unwrap_err(), Fault::TooLarge(Limit::UriBytes));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(6));
        assert!(matches!(head(&many), Err(Fault::TooLarge(_))));
        let most = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5));
        assert!(head(&most).unwrap().is_some());
    }
}
