//! Step 1: from a socket to a request that can be read.

pub mod body;
pub mod connection;
pub mod early;
pub mod handover;
pub mod hints;
pub mod http2;
pub mod listen;
pub mod request;
pub mod tls;
