//! Where a body ends: by length, by chunks (RFC 9112 section 7.1), or with its connection. Pure: it is shown bytes and
//! says what they are.

use super::buffer::SIZE;
use super::{Bounds, FIELDS, Fault, has_whole_ends};
use crate::fields::Fields;
use crate::limit::Limit;

/// The most bytes of one chunk's line.
const LINE: usize = 4 << 10;

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The bytes of extensions that may still come.
    extensions: u32,
    /// The bytes that trailers may have.
    most_trailers: u32,
    /// Boxed, since few bodies have them and a decoder goes through many hands.
    trailers: Option<Box<Fields>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left of the body.
    Length(u64),
    /// Everything until the connection ends.
    Close,
    /// A chunk's size comes.
    Size,
    /// So many bytes are left of the chunk.
    Chunk(u64),
    /// The line's end after a chunk comes.
    ChunkEnd,
    Trailers,
    Ended,
}

/// What the bytes at the front of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes of framing, to be thrown away.
    Framing(usize),
    /// So many bytes of the body, at least one.
    Data(usize),
    /// Not enough to say.
    More,
    /// The body has ended before them.
    End,
}

impl Decoder {
    const fn new(state: State) -> Self {
        Self { state, extensions: 0, most_trailers: 0, trailers: None }
    }

    /// A body of so many bytes.
    pub const fn length(length: u64) -> Self {
        Self::new(if length == 0 { State::Ended } else { State::Length(length) })
    }

    /// A body in chunks.
    pub const fn chunked(bounds: Bounds) -> Self {
        Self {
            state: State::Size,
            extensions: bounds.extensions,
            most_trailers: bounds.trailers,
            trailers: None,
        }
    }

    /// The most bytes of trailers, with the empty line behind them, which is there without them, too.
    fn most_of_trailers(&self) -> usize {
        usize::try_from(self.most_trailers).unwrap_or(usize::MAX).saturating_add(2)
    }

    /// How many bytes [`Decoder::next`] may have to be shown at once.
    pub fn most_at_once(&self) -> usize {
        self.most_of_trailers().max(SIZE)
    }

    /// A body that ends with its connection.
    pub const fn until_close() -> Self {
        Self::new(State::Close)
    }

    /// Bytes that are left, where that is known.
    pub const fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Ended => Some(0),
            _ => None,
        }
    }

    /// Whether the body has ended.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The connection has ended: whether the body has, too.
    pub fn closed(&mut self) -> bool {
        if self.state == State::Close {
            self.state = State::Ended;
        }
        self.is_ended()
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// Whether there are trailers that were not taken.
    pub const fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// What `bytes` begin with.
    ///
    /// # Errors
    /// They are no chunked body that everybody would read alike, or its extensions or trailers are too large.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Next, Fault> {
        if self.is_ended() {
            return Ok(Next::End);
        }
        if bytes.is_empty() {
            return Ok(Next::More);
        }
        let at_most = |left: u64| Next::Data(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        match self.state {
            State::Length(left) | State::Chunk(left) => Ok(at_most(left)),
            State::Close => Ok(Next::Data(bytes.len())),
            State::Size => self.size(bytes),
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Next::Framing(2))
                }
                [b'\r'] => Ok(Next::More),
                _ => Err(Fault::Malformed("a chunk is longer than its size")),
            },
            State::Trailers => self.fields(bytes),
            State::Ended => Ok(Next::End),
        }
    }

    /// So many bytes of the body were used.
    pub fn took(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.state = match self.state {
            State::Length(left) if left <= count => State::Ended,
            State::Length(left) => State::Length(left - count),
            State::Chunk(left) if left <= count => State::ChunkEnd,
            State::Chunk(left) => State::Chunk(left - count),
            other => other,
        };
    }

    /// `1F;name=value\r\n`.
    fn size(&mut self, bytes: &[u8]) -> Result<Next, Fault> {
        let Some(feed) = bytes.iter().take(LINE).position(|byte| *byte == b'\n') else {
            return match bytes.len() >= LINE {
                true => Err(Fault::TooLarge(Limit::ChunkExtensionBytes)),
                false => Ok(Next::More),
            };
        };
        let line = bytes.get(..feed).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or(Fault::Malformed("a chunk's line ends without CR"))?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at_checked(digits).unwrap_or_default();
        let size = hexadecimal(size).ok_or(Fault::Malformed("a chunk's size is no number"))?;
        if !is_extension(extension) {
            return Err(Fault::Malformed("a chunk's size has something odd behind it"));
        }
        let left = u32::try_from(extension.len()).ok().and_then(|length| self.extensions.checked_sub(length));
        self.extensions = left.ok_or(Fault::TooLarge(Limit::ChunkExtensionBytes))?;
        self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
        Ok(Next::Framing(feed + 1))
    }

    fn fields(&mut self, bytes: &[u8]) -> Result<Next, Fault> {
        let mut lines = [httparse::EMPTY_HEADER; FIELDS];
        let most = self.most_of_trailers();
        match httparse::parse_headers(bytes, &mut lines) {
            Ok(httparse::Status::Complete((length, fields))) => {
                if length > most {
                    return Err(Fault::TooLarge(Limit::TrailerBytes));
                }
                let whole = bytes.get(..length).unwrap_or_default();
                if !has_whole_ends(whole, fields) {
                    return Err(Fault::Malformed("a line of the trailers ends without CR"));
                }
                let trailers = Fields::parsed(whole, fields, (0, 0))?;
                self.trailers = (!trailers.is_empty()).then(|| Box::new(trailers));
                self.state = State::Ended;
                Ok(Next::Framing(length))
            }
            Ok(httparse::Status::Partial) if bytes.len() < most => Ok(Next::More),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(Fault::TooLarge(Limit::TrailerBytes))
            }
            Err(_) => Err(Fault::Malformed("the trailers are malformed")),
        }
    }
}

/// One to sixteen digits.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Nothing, or `;` and what may stand in a line. Blanks before the `;` are allowed to senders that nobody has met.
fn is_extension(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b';', rest @ ..] => rest.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `bytes`, shown in pieces of `step`.
    fn decode(mut decoder: Decoder, bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, Decoder), Fault> {
        let (mut body, mut at, mut shown) = (Vec::new(), 0, 0);
        loop {
            match decoder.next(&bytes[at..shown])? {
                Next::Framing(count) => at += count,
                Next::Data(count) => {
                    body.extend_from_slice(&bytes[at..at + count]);
                    decoder.took(count);
                    at += count;
                }
                Next::More if shown == bytes.len() => return Err(Fault::Malformed("cut")),
                Next::More => shown = (shown + step).min(bytes.len()),
                Next::End => return Ok((body, at, decoder)),
            }
        }
    }

    #[test]
    fn by_length() {
        for step in [1, 3, 100] {
            let (body, used, _) = decode(Decoder::length(5), b"hello and more", step).unwrap();
            assert_eq!((body.as_slice(), used), (&b"hello"[..], 5));
        }
        assert!(decode(Decoder::length(5), b"hell", 9).is_err());
        assert!(Decoder::length(0).is_ended());
        assert!(!Decoder::length(1).closed() && Decoder::until_close().closed());
    }

    #[test]
    fn by_chunks_with_extensions_and_trailers() {
        let text = b"5;a=\"b\"\r\nhello\r\n00A\r\n, all here\r\n0\r\nx-sum: 7\r\n\r\nGET";
        for step in [1, 2, 7, 100] {
            let (body, used, mut decoder) = decode(Decoder::chunked(Bounds::UPSTREAM), text, step).unwrap();
            assert_eq!((body.as_slice(), used), (&b"hello, all here"[..], text.len() - 3));
            assert_eq!(decoder.take_trailers().unwrap().text("x-sum"), Some("7"));
        }
    }

    #[test]
    fn what_is_odd_is_refused() {
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0b\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: y\n\r\n",
            "5\r\nhello\r\n0\r\n x: y\r\n\r\n",
            "5\r\nhello\r\n0\r\nx : y\r\n\r\n",
            "5\r\nhello\r\n0\r\nx\r\n\r\n",
        ] {
            assert!(
                matches!(decode(Decoder::chunked(Bounds::UPSTREAM), text.as_bytes(), 100), Err(Fault::Malformed(why)) if why != "cut"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn bounds() {
        let large = |text: String| {
            matches!(
                decode(Decoder::chunked(Bounds::UPSTREAM), text.as_bytes(), 1_000),
                Err(Fault::TooLarge(_))
            )
        };
        assert!(large(format!("1;{}", "x".repeat(LINE))));
        assert!(large(format!("1;{}\r\na\r\n", "x".repeat(1_000)).repeat(17)));
        assert!(large(format!("0\r\nx: {}", "y".repeat(16 << 10))));
        assert!(large(format!("0\r\n{}\r\n", "x: y\r\n".repeat(FIELDS + 1))));
        let none = Decoder::chunked(Bounds { fields: 0, extensions: 0, trailers: 0 });
        assert!(decode(none, b"1\r\na\r\n0\r\n\r\n", 1).is_ok());
        for text in ["1;\r\na\r\n0\r\n\r\n", "1\r\na\r\n0\r\nx: y\r\n\r\n"] {
            let none = Decoder::chunked(Bounds { fields: 0, extensions: 0, trailers: 0 });
            assert!(matches!(decode(none, text.as_bytes(), 100), Err(Fault::TooLarge(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_body_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let (body, used, _) = decode(Decoder::chunked(Bounds::UPSTREAM), &text, step).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(used, text.len());
        }

        #[test]
        fn nothing_makes_it_panic_or_run_away(text in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50) {
            let _ = decode(Decoder::chunked(Bounds::UPSTREAM), &text, step);
        }
    }
}
