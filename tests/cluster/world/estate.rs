//! What the scenarios share: one cluster, and in it a release with two controllers and a gateway, and sidecars for who
//! asks. Those that kill
//! something start their own.

use std::ops::Deref;
use std::sync::Arc;

use std::time::{Duration, Instant};

use sidetrack_tests::{Call, Gateway, PATIENCE, Reply};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::install::{Controller, Install};
use crate::space::Space;

/// One cluster for all scenarios.
pub struct Estate {
    release: OnceCell<Release>,
    /// Where what outlives a scenario runs.
    runtime: Handle,
    /// The cluster.
    pub cluster: Cluster,
}

/// A release that runs; what an installation can do, it can do.
pub struct Release {
    /// The gateway.
    pub gateway: Gateway,
    /// The controllers; the first one is the leader.
    pub controllers: Vec<Controller>,
    install: Install,
}

impl Deref for Release {
    type Target = Install;

    fn deref(&self) -> &Install {
        &self.install
    }
}

impl Release {
    /// Installs the chart in `cluster` and starts `controllers` controllers and a gateway.
    pub async fn new(cluster: &Cluster, controllers: usize) -> Self {
        Self::start(Install::new(cluster).await, controllers).await
    }

    /// Starts `controllers` controllers and a gateway of what is installed.
    pub async fn start(install: Install, controllers: usize) -> Self {
        let mut running = Vec::new();
        for _ in 0..controllers {
            running.push(install.controller().await);
        }
        let gateway = install.gateway("gateway-0").await;
        Self { gateway, controllers: running, install }
    }

    /// Sends what `call` makes until an answer is as `fits` says, and returns that one.
    pub async fn until(&self, what: &str, call: impl Fn() -> Call, fits: impl Fn(&Reply) -> bool) -> Reply {
        until(&self.gateway, what, call, fits).await
    }
}

/// Sends what `call` makes to `gateway` until an answer is as `fits` says, and returns that one.
pub async fn until(
    gateway: &Gateway,
    what: &str,
    call: impl Fn() -> Call,
    fits: impl Fn(&Reply) -> bool,
) -> Reply {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = gateway.send(call()).await;
        if fits(&reply) {
            return reply;
        }
        let said = (reply.status, &reply.headers, reply.text());
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}: {said:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Estate {
    /// Starts the cluster; what it holds later runs on `runtime`.
    pub fn start(runtime: Handle) -> Self {
        Self { release: OnceCell::new(), runtime, cluster: Cluster::start() }
    }

    /// The release, which starts with the first scenario that needs it.
    pub async fn release(self: &Arc<Self>) -> &Release {
        let begin = async || {
            let (estate, runtime) = (self.clone(), self.runtime.clone());
            let start = move || {
                runtime.block_on(async {
                    let install = Install::with(&estate.cluster, &["sidecar.inject.enabled=true"]).await;
                    Release::start(install, 2).await
                })
            };
            self.runtime.spawn_blocking(start).await.unwrap()
        };
        self.release.get_or_init(begin).await
    }

    /// Prints what the shared processes said, for whoever looks for a fault.
    pub fn tell(&self) {
        let Some(release) = self.release.get() else { return };
        for controller in &release.controllers {
            eprintln!("--- what a controller said ---\n{}", controller.process.stderr().join("\n"));
        }
        eprintln!("--- what the gateway said ---\n{}", release.gateway.stderr().join("\n"));
    }

    /// A namespace of its own for a scenario.
    pub async fn space(&self, name: &str) -> Space {
        Space::new(&self.cluster, name).await
    }
}
