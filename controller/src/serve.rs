//! The controller's server: the stream for proxies, what it knows of previews, and the admission webhook, over HTTPS.
//!
//! One task accepts; each connection has a task, each stream a further one. Nothing is offered in clear: a table holds
//! private keys.

mod answer;
pub mod auth;
mod body;
mod connection;
mod counters;
mod desk;
mod peers;
mod places;
pub mod previews;
mod review;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::publish::Publisher;
use auth::{Auth, Checker};
use counters::Counters;
use desk::Desk;
use peers::Peers;
use places::{Class, Places};
use previews::Previews;
pub use review::ApiServer;
use tls::Tls;

/// What the bodies of all requests together may hold while they come: a review is asked for without a token, so that
/// anybody who reaches the port can send one.
const MAX_BODIES: usize = 64 << 20;
/// How long connections may take to end when the server does.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the server goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate chain, PEM, the leaf first. Read again when it changes.
    pub cert_file: PathBuf,
    /// The key of the leaf, PEM.
    pub key_file: PathBuf,
    /// How often those two files are looked at.
    pub reload_interval: Duration,
    /// Service accounts that may have the table, as `NAMESPACE/NAME`: those of the proxies.
    pub accounts: Vec<Box<str>>,
    /// The namespaces whose waypoints and sidecars may have a table; empty: all.
    pub watched: Vec<Box<str>>,
    /// The other replicas, this one may be among them: `HOST:PORT` of a headless Service.
    pub peers: Option<PeerSettings>,
}

/// How the other replicas are asked.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// `HOST:PORT`; every address of the name is a replica, and their certificates are for it.
    pub host: Box<str>,
    /// Certificates of the authorities that theirs are from, PEM.
    pub ca_file: PathBuf,
    /// A token of our own for the audience that [`ApiServer`] checks; read again for every question.
    pub token_file: PathBuf,
}

/// What an AdmissionReview is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether an object may be.
    Validate,
    /// What is to be added to a pod.
    Mutate,
}

/// Answers an AdmissionReview with an AdmissionReview, both JSON.
pub type Admission = Arc<dyn Fn(Question, Bytes) -> Bytes + Send + Sync>;

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address can't be had.
    #[error("the controller can't listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A certificate, key or CA file can't be used.
    #[error("{}: {why}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// An account that is not `NAMESPACE/NAME`.
    #[error("{0:?} is no service account: write NAMESPACE/NAME, as in sidetrack/sidetrack-gateway")]
    Account(Box<str>),
    /// `peers` is not `HOST:PORT`.
    #[error("{0:?} names no peers: write HOST:PORT, as in sidetrack-controller-peers.sidetrack.svc:8443")]
    Peers(Box<str>),
    /// A metric of this name is there already.
    #[error("the server's metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    tls: Tls,
    shared: Arc<Shared>,
}

/// What every connection has.
struct Shared {
    publisher: Arc<Publisher>,
    previews: Arc<Previews>,
    auth: Auth,
    validation: Desk,
    mutation: Desk,
    counters: Arc<Counters>,
    /// Bytes that bodies may still hold.
    bodies: Semaphore,
}

impl Server {
    /// Reads the certificate, takes the address and registers the metrics.
    ///
    /// # Errors
    /// Everything that is wrong with the settings or the files that they name.
    pub async fn bind(
        settings: &Settings,
        publisher: Arc<Publisher>,
        checker: Arc<dyn Checker>,
        admission: Admission,
        registry: &Registry,
    ) -> Result<Self, ServeError> {
        let counters = Arc::new(Counters::new(registry, &publisher)?);
        let auth = Auth::new(settings, publisher.sidecars().is_some(), checker, Arc::clone(&counters))?;
        let tls = Tls::load(settings)?;
        let peers = settings.peers.as_ref().map(Peers::new).transpose()?;
        let address = settings.address;
        let listener =
            TcpListener::bind(address).await.map_err(|error| ServeError::Bind { address, error })?;
        let previews = Arc::new(Previews::new(Arc::clone(&publisher), peers));
        let shared = Arc::new(Shared {
            publisher,
            previews,
            auth,
            validation: Desk::new(Question::Validate, &admission),
            mutation: Desk::new(Question::Mutate, &admission),
            counters,
            bodies: Semaphore::new(MAX_BODIES),
        });
        Ok(Self { listener, tls, shared })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What all replicas together know of previews, for the status writer.
    pub fn previews(&self) -> Arc<Previews> {
        Arc::clone(&self.shared.previews)
    }

    /// Serves until `end`, then lets streams end, answers what was asked, and waits at most ten seconds for that.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let (ending, ended) = watch::channel(false);
        let places = Arc::new(Places::default());
        // Each connection has a sender: none can be received from it once all have ended.
        let (open, mut all_ended) = mpsc::channel::<()>(1);
        let reload = tokio::spawn(self.tls.clone().keep_fresh());
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) => match places.take(Class::Stranger, &from.ip().to_string()) {
                        Some(place) => {
                            let (shared, tls, ended) = (Arc::clone(&self.shared), self.tls.acceptor(), ended.clone());
                            let open = open.clone();
                            tokio::spawn(async move {
                                connection::serve(stream, tls, shared, place, ended).await;
                                drop(open);
                            });
                        }
                        None => self.shared.counters.refused("connections"),
                    },
                    // Descriptors have run out, most likely: without a pause this would be a busy loop.
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        reload.abort();
        ending.send_replace(true);
        drop(open);
        let _ = tokio::time::timeout(FAREWELL, all_ended.recv()).await;
    }
}
