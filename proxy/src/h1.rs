//! HTTP/1.1 messages (RFC 9112), the same code for both sides of the proxy: read strictly, written plainly.
//!
//! What is odd is refused, never repaired: two readers that repair differently see two different messages, and that is
//! how requests are smuggled.

use sidetrack_config::limits::Limits;

use crate::error::{Code, Failure};
use crate::limit::Limit;

pub mod body;
pub mod buffer;
pub mod control;
pub mod request;
pub mod response;
pub mod write;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not one that all readers would read alike; the text says why, for a person.
    #[error("{0}")]
    Malformed(&'static str),
    /// A part of it is over this limit.
    #[error("{}", .0.part())]
    TooLarge(Limit),
}

impl Fault {
    /// What a client is told whose message it is.
    pub fn failure(self) -> Failure {
        match self {
            Self::Malformed(why) => Failure::new(Code::MalformedRequest, why),
            Self::TooLarge(limit) => limit.too_large(),
        }
    }
}

/// Which of all bytes `these` are, by their value; for a constant.
#[expect(clippy::indexing_slicing, reason = "a byte is less than 256")]
pub const fn bytes_of(these: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut rest = these;
    while let [byte, others @ ..] = rest {
        table[*byte as usize] = true;
        rest = others;
    }
    table
}

/// The most fields of a head that is not a client's (that has its own limit), and of trailers.
pub const FIELDS: usize = 100;

/// What a message may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Fields of the head.
    pub fields: usize,
    /// Bytes of the extensions of all chunks of a body.
    pub extensions: u32,
    /// Bytes of the trailers.
    pub trailers: u32,
}

impl Bounds {
    /// Those of an upstream's answer, which no setting changes.
    pub const UPSTREAM: Self = Self { fields: FIELDS, extensions: 16 << 10, trailers: 16 << 10 };

    /// Those of a client's request.
    pub const fn of(limits: &Limits) -> Self {
        Self {
            fields: limits.header_count,
            extensions: limits.chunk_extension_bytes,
            trailers: limits.trailer_bytes,
        }
    }
}

/// Whether the line before the fields and the empty one behind them end in CR LF, and not in LF alone, where some readers
/// end a line and others don't (RFC 9112 section 2.2 lets them); those of the fields are looked at where they are read.
/// `bytes` are the whole, `lines` what the parser made of them.
pub fn has_whole_ends(bytes: &[u8], lines: &[httparse::Header<'_>]) -> bool {
    let fields = match lines.first() {
        Some(line) => offset(bytes, line.name.as_bytes()),
        None => bytes.len().saturating_sub(2),
    };
    let is_begun = fields == 0 || bytes.get(fields.saturating_sub(2)..fields) == Some(b"\r\n");
    is_begun && (bytes == b"\r\n" || bytes.ends_with(b"\r\n\r\n"))
}

/// Where `part`, which is a part of `whole`, begins in it.
pub fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

/// Room for the fields of a head, on the stack.
pub type Lines<'b> = [std::mem::MaybeUninit<httparse::Header<'b>>; FIELDS];

/// That room, empty.
pub const fn lines<'b>() -> Lines<'b> {
    [const { std::mem::MaybeUninit::uninit() }; FIELDS]
}
