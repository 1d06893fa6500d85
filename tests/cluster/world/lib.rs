//! A cluster without nodes: a real kube-apiserver with etcd and the real controller manager, a kubelet that is ours and
//! whose pods are scripted upstreams on real sockets, and the real `sidetrack controller` and `sidetrack gateway`.
//!
//! Everything runs in a network and process namespace of its own ([`sandbox`]): pods have addresses that a Service may
//! have (Kubernetes takes no loopback), nothing reaches the machine's network, and nothing outlives the tests.

// A world fails by panicking: that is how a test learns that it cannot go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod api;
mod cluster;
pub mod crowd;
mod estate;
mod install;
mod kubelet;
mod proxies;
mod runner;
pub mod sandbox;
mod space;

pub use api::{Answer, Kube, kinds};
pub use cluster::{Cluster, installed};
pub use crowd::Crowd;
pub use estate::{Estate, Release, until};
pub use install::{Controller, Install, for_1_20};
pub use proxies::Proxies;
pub use runner::{Case, Scenario, run};
pub use space::{Space, deployment};
