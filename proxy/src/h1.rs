//! HTTP/1.1 messages (RFC 9112), the same code for both sides of the proxy: read strictly, written plainly.
//!
//! What is odd is refused, never repaired: two readers that repair differently see two different messages, and that is
//! how requests are smuggled.

pub mod body;
pub mod buffer;
pub mod control;
pub mod request;
pub mod response;
pub mod scan;
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
