//! What the controller is started with.

use std::net::SocketAddr;
use std::time::Duration;

use super::WaypointSettings;
use crate::{inject, plan, serve};

/// Everything that flags say.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The namespace in which it keeps its Lease and its state.
    pub namespace: Box<str>,
    /// Its name among the replicas: that of its pod.
    pub identity: Box<str>,
    /// The namespaces whose objects count; empty: all.
    pub watch_namespaces: Vec<Box<str>>,
    /// What planning goes by; the files of waypoints are read into it.
    pub plan: plan::Settings,
    /// What waypoints are made of; `None`: there are none.
    pub waypoints: Option<WaypointSettings>,
    /// How long after its first table it waits for gateways of an earlier process before it calls anything acknowledged.
    pub settle: Duration,
    /// The server for proxies and for the API server.
    pub serve: serve::Settings,
    /// What pods that ask for a sidecar are given; `None`: nothing.
    pub inject: Option<inject::Settings>,
    /// A file of the secrets that all proxies share; `None`: each gateway has its own, and no proxy inside knows it.
    pub secrets: Option<std::path::PathBuf>,
    /// For whom tokens of proxies are meant.
    pub audience: Box<str>,
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub metrics_address: SocketAddr,
    /// The name of the Lease.
    pub lease_name: Box<str>,
    /// How long the Lease is held after it was renewed.
    pub lease_duration: Duration,
    /// Whether writes to the cluster are only logged.
    pub dry_run: bool,
}

/// Reads a duration as people write it: `90s`, `1h30m`, `3d`.
///
/// # Errors
/// What is wrong, and what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    jiff::fmt::friendly::SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|error| format!("{error}; write it as in `90s`, `1h30m` or `72h`"))
}
