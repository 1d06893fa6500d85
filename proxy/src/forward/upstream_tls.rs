//! How upstreams are proven: their roots, their name, what is spoken inside.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use sidetrack_config::model::UpstreamTls;

use crate::accept::tls::{TlsError, pem};

/// Hands out one `ClientConfig` per set of roots and protocol, so that services share sessions and memory.
#[derive(Debug, Default)]
pub struct ClientTls {
    known: Mutex<HashMap<(Option<PathBuf>, bool), Known>>,
}

/// A configuration that some table still uses, and the roots it was made of.
#[derive(Debug)]
struct Known {
    roots: Vec<CertificateDer<'static>>,
    config: Weak<ClientConfig>,
}

impl ClientTls {
    /// What connections to an upstream are made with; ALPN offers `h2` alone or `http/1.1` alone, since the
    /// configuration says which of them the upstream speaks.
    ///
    /// To be asked whenever a table is built: the CA file is read again, and only a change of it makes a new
    /// configuration. What no table uses any more is forgotten.
    ///
    /// # Errors
    /// When the CA file cannot be used, or the system has no roots.
    pub fn connector(&self, tls: &UpstreamTls, http2: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = tls.ca_file.as_deref().map_or_else(|| Ok(Vec::new()), pem::certificates)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (tls.ca_file.clone(), http2);
        if let Some(config) =
            known.get(&name).filter(|known| known.roots == roots).and_then(|k| k.config.upgrade())
        {
            return Ok(config);
        }
        let config = Arc::new(client_config(&roots, tls, http2)?);
        known.retain(|_, known| known.config.strong_count() > 0);
        known.insert(name, Known { roots, config: Arc::downgrade(&config) });
        Ok(config)
    }
}

/// The name that an upstream must prove: `serverName`, else the host of its endpoint (a name, or an IP address,
/// IPv6 with or without brackets).
///
/// # Errors
/// When that is neither a DNS name nor an IP address.
pub fn server_name(endpoint_host: &str, tls: &UpstreamTls) -> Result<ServerName<'static>, TlsError> {
    let host =
        endpoint_host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(endpoint_host);
    let name = tls.server_name.as_deref().unwrap_or(host);
    // RFC 6066 section 3: the name goes without the dot of the root.
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName { name: name.to_owned() })
}

fn client_config(
    roots: &[CertificateDer<'static>],
    tls: &UpstreamTls,
    http2: bool,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.ca_file {
        Some(file) => by_file(roots, file, Arc::clone(&provider))?,
        None => Arc::new(Verifier::new(Arc::clone(&provider)).map_err(no_roots)?),
    };
    // A verifier of our choice passes through `dangerous`; both of these do verify.
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn by_file(
    roots: &[CertificateDer<'static>],
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root.clone())
            .map_err(|error| TlsError::BadCertificate { file: file.to_owned(), detail: error.to_string() })?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().map_err(no_roots)
}

fn no_roots(error: impl ToString) -> TlsError {
    TlsError::Roots { detail: error.to_string() }
}

#[cfg(test)]
mod tests;
