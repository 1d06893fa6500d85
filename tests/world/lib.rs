//! A small world around the real binary: `sidetrack gateway` as a process of its own, scripted upstreams and
//! clients on real loopback sockets, certificates of a CA made on the spot.
//!
//! [`Estate`] describes what the configuration file says, [`World`] is that estate with a gateway running in
//! front of it. Nothing here links against the product: it is met the way a user meets it.

// A world fails by panicking: that is how a test learns that it cannot go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod body;
mod call;
mod certs;
mod client;
mod command;
mod controller;
mod early;
mod estate;
mod frames;
mod gateway;
mod metrics;
mod netns;
mod ports;
mod process;
mod raw;
mod reply;
mod upstream;
mod wait;
mod websocket;

pub use body::{Body, Feed, empty, feed, full, pattern};
pub use call::{Call, delete, get, post, put, request};
pub use certs::{Ca, Identity, roots_of};
pub use client::{Conn, Opened, Roots};
pub use command::{Output, binary, run, run_for};
pub use controller::{Asked, Controller};
pub use early::early_answers;
pub use estate::{Estate, World};
pub use frames::{Frame, Frames};
pub use gateway::Gateway;
pub use metrics::Metrics;
pub use netns::{Netns, inside};
pub use ports::{Refused, free_port};
pub use process::Process;
pub use raw::{Raw, RawUpstream};
pub use reply::{Echo, Reply};
pub use upstream::{Seen, Upstream, Wire};
pub use wait::{PATIENCE, eventually, within};
pub use websocket::{WEBSOCKET_KEY, accept_of};
