//! The controller: what is deployed in a cluster becomes the routing table of every proxy.
//!
//! watch -> observe -> **plan** (pure) -> apply -> publish -> report

pub mod admission;
mod apply;
#[cfg(test)]
mod fake_api;
pub mod gateway_api;
pub mod inject;
pub mod interposed;
mod leader;
pub mod lookup;
pub mod names;
pub mod observe;
pub mod plan;
pub mod preview;
pub mod publish;
mod report;
pub mod run;
pub mod serve;
pub mod take_down;
mod watch;
pub mod world;
