//! The whole proxy between a client that says anything and upstreams that take nothing but well-formed requests:
//! whatever comes, what an upstream receives is one request that both sides read alike, or nothing.

pub(crate) mod http1;
pub(crate) mod http2;
mod judge;
mod round;
pub(crate) mod strict;
mod upstream;
mod upstream_http2;
mod world;
