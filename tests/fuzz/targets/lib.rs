//! Fuzz targets: what must hold of whatever a stranger sends. Each takes bytes and panics where something does not hold.
//!
//! They know no fuzzer: libFuzzer calls them (`tests/run fuzz`), and an ordinary test shows each its seeds, so that an
//! input that once broke something is a regression test as soon as its file lies in `corpus/TARGET/`. Seeds are text that
//! people can read and write.

// A target fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answer_http2;
mod baggage;
mod body;
mod document;
mod estate;
mod head;
mod host;
mod http2;
mod key;
pub mod mutate;
mod receipt;
mod request;
mod sniff;
mod stream;
mod trace;
mod websocket;
mod wire;

/// What must hold of some bytes.
pub type Check = fn(&[u8]);

/// The targets, by the names of their folders in `corpus/`.
pub const TARGETS: [(&str, Check); 16] = [
    ("answer-http2", answer_http2::check),
    ("baggage", baggage::check),
    ("body", body::check),
    ("document", document::check),
    ("head", head::check),
    ("host", host::check),
    ("http2", http2::check),
    ("key", key::check),
    ("receipt", receipt::check),
    ("request", request::check),
    ("sniff", sniff::check),
    ("stream", stream::check),
    ("websocket", websocket::check),
    ("trace", trace::check),
    ("wire-http1", wire::http1::check),
    ("wire-http2", wire::http2::check),
];

/// The target of this name.
///
/// # Panics
/// There is none.
pub fn named(name: &str) -> Check {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("{name:?} names no target")).1
}
