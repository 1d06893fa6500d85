//! Step 1: from a socket to a request that can be read.

pub mod body;
pub mod connection;
pub mod gate;
pub mod handover;
pub mod hints;
pub mod http1;
pub mod http2;
pub mod listen;
pub mod opaque;
pub mod original;
pub mod request;
pub mod sniff;
pub mod tls;
pub mod wire;
