//! HTTP/1.1 messages (RFC 9112), the same code for both sides of the proxy: read strictly, written plainly.
//!
//! What is odd is refused, never repaired: two readers that repair differently see two different messages, and that is
//! how requests are smuggled.

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
    /// A part of it, named here, is over its limit.
    #[error("{0} too large")]
    TooLarge(&'static str),
}

/// The most fields of a head that is not a client's (that has its own limit), and of trailers.
pub const FIELDS: usize = 100;

/// Whether a line feed stands without its carriage return. Some readers end a line there, others don't (RFC 9112
/// section 2.2 lets them).
pub fn has_bare_feed(bytes: &[u8]) -> bool {
    // Two counts over the whole, which the compiler makes wide, are faster than a search from line to line.
    let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
    let ends = bytes.iter().zip(bytes.iter().skip(1)).filter(|pair| *pair == (&b'\r', &b'\n')).count();
    feeds != ends
}
