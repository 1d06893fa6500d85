//! Field sections as HTTP/2 writes them (HPACK, RFC 7541), straight from and into [`Fields`](crate::fields::Fields).

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::{Decoder, Fault};
pub use encode::{Encoder, Known};
pub use huffman::LENGTHS;
pub use table::Line;

/// Octets of either dynamic table: what both ends have unless they say otherwise (RFC 9113 section 6.5.2).
const TABLE: usize = 4096;

#[cfg(test)]
mod tests;
