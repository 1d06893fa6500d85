//! The server's certificate, and its reload: files that a Secret is mounted as change under us, and handshakes after
//! that get the new one. Connections that are open notice nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::{ServeError, Settings};

/// The TLS side of the server.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: Arc<Files>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

struct Files {
    cert: PathBuf,
    key: PathBuf,
    interval: Duration,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(settings: &Settings) -> Result<Self, ServeError> {
        let files = Files {
            cert: settings.cert_file.clone(),
            key: settings.key_file.clone(),
            interval: settings.reload_interval,
        };
        let current = Arc::new(Current(RwLock::new(Arc::new(files.read()?))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| file_error(&settings.cert_file, &error))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), current, files: Arc::new(files) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Looks at the files again and again. A pair that does not fit, as in the middle of a change, leaves the old one.
    pub(super) async fn keep_fresh(self) {
        loop {
            tokio::time::sleep(self.files.interval).await;
            match self.files.read() {
                Ok(pair) => self.replace(pair),
                Err(error) => tracing::warn!(%error, "the controller's certificate stays as it was"),
            }
        }
    }

    fn replace(&self, pair: CertifiedKey) {
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        if current.cert != pair.cert {
            *current = Arc::new(pair);
            drop(current);
            tracing::info!("the controller's certificate was read anew");
        }
    }
}

impl Files {
    fn read(&self) -> Result<CertifiedKey, ServeError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file_error(&self.key, &error))?;
        let provider = aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| file_error(&self.key, &error))
    }
}

/// The authorities in a file.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, ServeError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| file_error(file, &error))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| file_error(file, &error))?;
    if chain.is_empty() {
        return Err(file_error(file, &"it holds no certificate; it must be PEM, the leaf first"));
    }
    Ok(chain)
}

fn file_error(file: &Path, why: &dyn std::fmt::Display) -> ServeError {
    ServeError::File { file: file.to_owned(), why: why.to_string() }
}
