//! The suite: one module per promise of the gateway, each met from outside on real sockets.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admin;
mod attacks;
mod bodies;
mod carriers;
mod carriers_browser;
mod carriers_tools;
mod chain;
mod commands;
mod context;
mod controller_stream;
mod disk;
mod drain;
mod edge;
mod errors;
mod forwarding;
mod forwarding_edges;
mod forwarding_http2;
mod forwarding_streams;
mod limits;
mod log;
mod long_lived;
mod pick;
mod receipts;
mod redirect;
mod regression;
mod routes_rich;
mod sidecar;
mod signed;
mod strangers;
mod table;
mod targets;
mod tls;
mod train;
mod upstream_failures;
mod waypoints;

/// The domain of every estate here.
const D: &str = "preview.localhost";

/// A `traceparent` as a caller may bring it.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
