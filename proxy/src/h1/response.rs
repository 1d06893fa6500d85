//! The head of an upstream's answer.

use http::{Method, StatusCode};

use super::body::Decoder;
use super::control::Control;
use super::{Bounds, Fault, has_whole_ends, lines};
use crate::fields::{Fields, ROOM_OF_ANSWER};
use crate::limit::Limit;

/// The head of an answer, and what it says of its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields, as they came.
    pub fields: Fields,
    /// Reads the body.
    pub body: Decoder,
    /// Whether the connection stays open.
    pub persists: bool,
}

/// Reads the head of an answer to a request with `method`; `None`: there is more to come. Gives its length in bytes,
/// too.
///
/// # Errors
/// It is malformed, or its body has no end that everybody would see in the same place.
pub fn parse(bytes: &[u8], method: &Method) -> Result<Option<(ResponseHead, usize)>, Fault> {
    let mut lines = lines();
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut lines,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLarge(Limit::HeaderCount)),
        Err(_) => return Err(Fault::Malformed("the head of the answer is malformed")),
    };
    let whole = bytes.get(..length).unwrap_or_default();
    if !whole.starts_with(b"HTTP/") || !has_whole_ends(whole, response.headers) {
        return Err(Fault::Malformed("a line ends without CR, or an empty one stands before the answer"));
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::Malformed("the status is none"))?;
    let is_http10 = response.version == Some(0);
    let fields = Fields::parsed(whole, response.headers, ROOM_OF_ANSWER)?;
    let control = Control::of(&fields)?;
    let body = body(status, method, &control, is_http10)?;
    let persists = control.persists(is_http10) && body.left().is_some() | control.chunked;
    Ok(Some((ResponseHead { status, fields, body, persists }, length)))
}

/// Whether a final answer never has a body, over either version of HTTP (RFC 9110 section 6.4.1); `is_head`: it is one to HEAD.
pub fn has_no_body(status: StatusCode, is_head: bool) -> bool {
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Where the body ends (RFC 9112 section 6.3).
fn body(status: StatusCode, method: &Method, control: &Control, is_http10: bool) -> Result<Decoder, Fault> {
    if control.chunked && is_http10 {
        return Err(Fault::Malformed("Transfer-Encoding is newer than the version of the answer"));
    }
    let is_without = status.is_informational() || has_no_body(status, *method == Method::HEAD);
    Ok(match control.length {
        _ if is_without => Decoder::length(0),
        _ if control.chunked => Decoder::chunked(Bounds::UPSTREAM),
        Some(length) => Decoder::length(length),
        None => Decoder::until_close(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::FIELDS;

    fn head(text: &str) -> Result<Option<(ResponseHead, usize)>, Fault> {
        parse(text.as_bytes(), &Method::GET)
    }

    #[test]
    fn where_the_body_ends() {
        let left = |text: &str, method: &Method| {
            let (head, _) = parse(text.as_bytes(), method).unwrap().unwrap();
            (head.body.left(), head.persists)
        };
        let get = Method::GET;
        assert_eq!(left("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", &get), (Some(3), true));
        assert_eq!(left("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", &Method::HEAD), (Some(0), true));
        assert_eq!(left("HTTP/1.1 304 x\r\ncontent-length: 3\r\n\r\n", &get), (Some(0), true));
        assert_eq!(left("HTTP/1.1 204\r\n\r\n", &get), (Some(0), true));
        assert_eq!(left("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &get), (None, true));
        assert_eq!(left("HTTP/1.1 200 OK\r\n\r\n", &get), (None, false));
        assert_eq!(left("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", &get), (Some(0), false));
        assert_eq!(
            left("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", &get),
            (Some(0), true)
        );
        assert_eq!(
            left("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", &get),
            (Some(0), false)
        );
    }

    #[test]
    fn what_is_odd_is_refused() {
        for text in [
            "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ] {
            assert!(matches!(head(text), Err(Fault::Malformed(_))), "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert!(matches!(head(&many), Err(Fault::TooLarge(_))));
        assert!(head("HTTP/1.1 200 OK\r\na: b\r\n").unwrap().is_none());
    }
}
