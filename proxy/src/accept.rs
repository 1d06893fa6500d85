//! Step 1: from a socket to a request that can be read.

pub mod connection;
pub mod early;
pub mod handover;
pub mod listen;
pub mod request;
pub mod tls;
