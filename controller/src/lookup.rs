//! Reads `Preview` objects for a person or a pipeline, through a kubeconfig or as the pod that it runs in.

use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use sidetrack_config::Key;
use thiserror::Error;

use crate::preview::{Preview, PreviewStatus};

/// The objects of a page; a cluster of thousands is read in several.
const PAGE: u32 = 500;
/// The most pages.
const PAGES: usize = 100;

/// The way to a cluster's `Preview` objects.
pub struct Lookup(Api<Preview>);

/// An object that has the key that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Of its spec.
    pub generation: Option<i64>,
    /// What the controller says; empty where it has said nothing.
    pub status: PreviewStatus,
}

/// Why nothing can be read.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct LookupError(Box<kube::Error>);

impl Lookup {
    /// By KUBECONFIG, `~/.kube/config`, or the pod's own account.
    ///
    /// # Errors
    /// When none of them leads to a cluster.
    pub async fn connect() -> Result<Self, LookupError> {
        Client::try_default()
            .await
            .map(|client| Self(Api::all(client)))
            .map_err(|error| LookupError(Box::new(error)))
    }

    /// All objects that have the key, in any namespace.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn find(&self, key: Key) -> Result<Vec<Found>, LookupError> {
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        for _ in 0..PAGES {
            let list = self.0.list(&page).await.map_err(|error| LookupError(Box::new(error)))?;
            let next = list.metadata.continue_.filter(|next| !next.is_empty());
            for object in list.items.into_iter().filter(|object| Key::bare(&object.spec.key) == Ok(key)) {
                found.push(Found {
                    name: format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()),
                    generation: object.metadata.generation,
                    status: object.status.unwrap_or_default(),
                });
            }
            match next {
                Some(next) => page = page.continue_token(&next),
                None => break,
            }
        }
        Ok(found)
    }
}
