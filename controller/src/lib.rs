//! The controller: what is deployed in a cluster becomes the routing table of every proxy.
//!
//! watch -> observe -> **plan** (pure) -> apply -> publish -> report

pub mod gateway_api;
pub mod lookup;
pub mod names;
pub mod observe;
pub mod plan;
pub mod preview;
pub mod publish;
pub mod serve;
mod watch;
pub mod world;
