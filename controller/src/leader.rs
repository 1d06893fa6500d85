//! Which replica writes: the holder of a Lease. Every replica plans and publishes.
//!
//! A replica that loses the Lease stops writing at once and goes on serving. kube-lease-manager advises to exit instead;
//! but an exit would cut the streams of all its proxies for nothing: what it writes is guarded by [`Leader::may_write`]
//! before each request, and what it publishes is the same as everybody else's.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::report::Contact;

/// How long it is waited before the Lease is tried again when the API server can't be asked.
const RETRY: Duration = Duration::from_secs(2);

/// How long giving it back may take.
const RELEASE: Duration = Duration::from_secs(3);

/// Which Lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseSettings {
    /// Its namespace.
    pub(crate) namespace: Box<str>,
    /// Its name.
    pub(crate) name: Box<str>,
    /// Who this is: the name of the pod.
    pub(crate) identity: Box<str>,
    /// For how long it is held after it was renewed.
    pub(crate) duration: Duration,
}

/// Says whether this replica may write.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    held: watch::Receiver<bool>,
    contact: Arc<Contact>,
    duration: Duration,
}

impl Leader {
    /// One that asks nobody: in a dry run nothing is written that somebody else could write too.
    pub(crate) fn always() -> Self {
        let (sender, held) = watch::channel(true);
        drop(sender);
        Self { held, contact: Arc::default(), duration: Duration::MAX }
    }

    /// Whether this replica holds the Lease, and can know that it does: the manager of the Lease says nothing while the
    /// API server is away, though the Lease runs out meanwhile and another replica may take it.
    pub(crate) fn may_write(&self) -> bool {
        self.is_held() && self.contact.age() < self.duration
    }

    /// Whether this replica had the Lease when that was last known.
    pub(crate) fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Waits until it has or has not the Lease any more, whichever is news.
    pub(crate) async fn changed(&mut self) {
        if self.held.changed().await.is_err() {
            // The campaign ends only with the process.
            std::future::pending().await
        }
    }
}

/// Runs for the Lease until `end` is true, then gives it back.
pub(crate) fn campaign(
    client: Client,
    settings: LeaseSettings,
    contact: Arc<Contact>,
    mut end: watch::Receiver<bool>,
) -> (Leader, impl Future<Output = ()>) {
    let (sender, held) = watch::channel(false);
    let leader = Leader { held, contact, duration: settings.duration };
    let task = async move {
        while !*end.borrow() {
            if let Err(error) = hold(&client, &settings, &sender, end.clone()).await {
                warn!("the Lease {}/{} can't be had: {error}", settings.namespace, settings.name);
            }
            sender.send_replace(false);
            let _ = tokio::time::timeout(RETRY, end.wait_for(|end| *end)).await;
        }
    };
    (leader, task)
}

/// Runs for the Lease, and tells whether it is held; gives it back at the end.
async fn hold(
    client: &Client,
    settings: &LeaseSettings,
    sender: &watch::Sender<bool>,
    mut end: watch::Receiver<bool>,
) -> Result<(), LeaseManagerError> {
    let duration = settings.duration.as_secs().max(3);
    let manager = LeaseManagerBuilder::new(client.clone(), &*settings.name)
        .with_namespace(&*settings.namespace)
        .with_identity(&*settings.identity)
        .with_duration(duration)
        .with_grace(duration / 3)
        .build();
    let (mut held, task) = manager.await?.watch().await;
    loop {
        tokio::select! {
            biased;
            _ = end.wait_for(|end| *end) => break,
            changed = held.changed() => if changed.is_err() { break },
        }
        let is_held = *held.borrow_and_update();
        info!(
            "{}",
            if is_held { "this replica is the leader" } else { "this replica is not the leader any more" }
        );
        sender.send_replace(is_held);
    }
    sender.send_replace(false);
    // Without a receiver the manager releases the Lease and ends.
    drop(held);
    match tokio::time::timeout(RELEASE, task).await {
        Ok(Ok(result)) => result.map(drop),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}
