//! Takes all waypoints away before a release goes: without a controller nobody puts Services back.
//!
//! It changes no Service itself. It asks the controllers, by a mark in the cluster, and waits until they have done it, so
//! that calls under way end well. The mark has an end: a removal that is broken off is forgotten a moment later, and so is
//! one that was done, when the release is installed anew.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use crate::names::{BASELINE_OF, ORIGINAL, TAKE_DOWN_UNTIL, WAYPOINT};
use crate::watch::STATE_NAME;

/// How long the mark holds: for the controllers to be deleted after the last look.
const HOLDS: SignedDuration = SignedDuration::from_secs(90);
/// How often is looked, and the mark made anew.
const EVERY: Duration = Duration::from_secs(2);
/// The most names in a message.
const MAX_NAMES: usize = 10;

/// Why waypoints may be left.
#[derive(Debug, Error)]
pub enum TakeDownError {
    /// There is no way to the API server, or it says no.
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
    /// They are still there.
    #[error(
        "still there after {after:?}: {}; does a controller run that may write, with waypoints on?",
        shortened(left)
    )]
    Left {
        /// How long it was waited.
        after: Duration,
        /// What is there, each with its kind.
        left: Vec<String>,
    },
}

/// Waits for at most `patience` until the controllers in `namespace` have taken away all waypoints of the watched
/// namespaces (none: all), and put back the Services behind them.
///
/// # Errors
/// When that is not so in the end.
pub async fn take_down(
    namespace: &str,
    watched: &[Box<str>],
    patience: Duration,
) -> Result<(), TakeDownError> {
    let client = Client::try_default().await.map_err(Box::new)?;
    let began = Instant::now();
    loop {
        mark(&client, namespace).await?;
        let left = left(&client, watched).await?;
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= patience {
            return Err(TakeDownError::Left { after: patience, left });
        }
        tracing::info!("waits for {}", shortened(&left));
        tokio::time::sleep(EVERY).await;
    }
}

async fn mark(client: &Client, namespace: &str) -> Result<(), Box<kube::Error>> {
    let until = (Timestamp::now() + HOLDS).to_string();
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": STATE_NAME, "annotations": {TAKE_DOWN_UNTIL: until}},
    });
    let params = PatchParams::apply("sidetrack-take-down").force();
    Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .patch(STATE_NAME, &params, &Patch::Apply(object))
        .await?;
    Ok(())
}

/// What of waypoints is there.
async fn left(client: &Client, watched: &[Box<str>]) -> Result<Vec<String>, Box<kube::Error>> {
    let mut left = Vec::new();
    let waypoints = ListParams::default().labels(&format!("{WAYPOINT}=true"));
    let namespaces: Vec<Option<&str>> = match watched {
        [] => vec![None],
        watched => watched.iter().map(|namespace| Some(&**namespace)).collect(),
    };
    for namespace in namespaces {
        let (services, deployments): (Api<Service>, Api<Deployment>) = match namespace {
            Some(namespace) => {
                (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace))
            }
            None => (Api::all(client.clone()), Api::all(client.clone())),
        };
        let turned = services.list_metadata(&ListParams::default()).await?.items.into_iter();
        let turned = turned.filter(|service| {
            service.annotations().contains_key(ORIGINAL) || service.labels().contains_key(BASELINE_OF)
        });
        left.extend(turned.map(|service| named("Service", &service)));
        let made = deployments.list_metadata(&waypoints).await?.items;
        left.extend(made.iter().map(|deployment| named("Deployment", deployment)));
    }
    Ok(left)
}

fn named(kind: &str, object: &impl ResourceExt) -> String {
    format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn shortened(left: &[String]) -> String {
    let mut text = left.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if left.len() > MAX_NAMES {
        text += &format!(" and {} more", left.len() - MAX_NAMES);
    }
    text
}
