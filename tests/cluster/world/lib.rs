//! A cluster without nodes: a real kube-apiserver with etcd and the real controller manager, a kubelet that is ours and
//! whose pods are scripted upstreams on real sockets, and the real `sidetrack controller` and `sidetrack gateway`. Pods with
//! images of programs of ours run as they are, each in a network of its own, with what was injected.
//!
//! Everything runs in a network and process namespace of its own ([`sandbox`]): pods have addresses that a Service may
//! have (Kubernetes takes no loopback), nothing reaches the machine's network, and nothing outlives the tests.

// A world fails by panicking: that is how a test learns that it cannot go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod api;
mod cluster;
mod container;
pub mod crowd;
mod estate;
mod install;
mod kubelet;
mod net;
mod pod;
mod probe;
mod proxies;
mod runner;
pub mod sandbox;
mod space;
mod waypoint;

pub use api::{Answer, Kube, kinds};
pub use cluster::{Cluster, installed};
pub use crowd::Crowd;
pub use estate::{Estate, Release, until};
pub use install::{Controller, Install, for_1_20};
pub use net::{call_from, kill_in};
pub use proxies::Proxies;
pub use runner::{Case, Scenario, run};
pub use space::{Space, deployment};
