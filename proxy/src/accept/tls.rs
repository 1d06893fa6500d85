//! TLS of a listener: which certificates it has, how they are reloaded, what a handshake may agree on.
//!
//! One [`ServerTls`] lives as long as its listener. A reload swaps the certificates inside the resolver of one
//! `ServerConfig`; the ticket keys stay, so a client resumes its session across a reload, and connections that
//! are open notice nothing. [`dev_ca`] issues certificates where the configuration names no files.

mod choose;
pub mod dev_ca;
mod error;
pub(crate) mod pem;
mod provided;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::CertificateDer;
use sidetrack_config::model::Tls;

use choose::{Certificates, Resolver};
use dev_ca::DevCa;
pub use error::TlsError;
use pem::Identity;
pub use provided::Provided;

/// The TLS side of one listener. Shared by all workers; reloaded by the control thread.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    source: Mutex<Source>,
}

/// Where the certificates in force came from.
#[derive(Debug)]
struct Source {
    tls: Tls,
    state_dir: PathBuf,
    issued: Option<Issued>,
    /// When the log was told of certificates that clients refuse, or will soon.
    warned: Instant,
}

/// Certificates that were read, or issued.
struct Loaded {
    certificates: Certificates,
    issued: Option<Issued>,
    /// Those of files, each with its file.
    read: Vec<(Identity, PathBuf)>,
}

impl Loaded {
    /// Tells the log of those that clients refuse, or will soon.
    fn warn(&self) {
        self.read.iter().for_each(|(identity, file)| identity.warn_if_untimely(file));
    }
}

/// How long the log is not told again of certificates that are the same: they are read whenever anything beside them
/// changes, be it the log itself.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of a certificate of our own, to see whether it is still the right one.
#[derive(Debug)]
struct Issued {
    authority: CertificateDer<'static>,
    leaf: Identity,
}

impl ServerTls {
    /// Reads the certificates that `tls` names, or issues one by the development CA under `state_dir`; beside them
    /// it serves what is `provided` at the time of a handshake.
    ///
    /// Certificates that have expired or will within 14 days are used all the same, with a warning in the log.
    ///
    /// # Errors
    /// When a file is missing, is not what it should be, or a key belongs to another certificate.
    pub fn load(tls: &Tls, state_dir: &Path, provided: Arc<Provided>) -> Result<Self, TlsError> {
        let loaded = load(tls, state_dir)?;
        loaded.warn();
        let Loaded { certificates, issued, .. } = loaded;
        let resolver = Arc::new(Resolver::new(certificates, provided));
        let config = Arc::new(server_config(Arc::clone(&resolver))?);
        let (tls, state_dir, warned) = (tls.clone(), state_dir.to_owned(), Instant::now());
        Ok(Self { config, resolver, source: Mutex::new(Source { tls, state_dir, issued, warned }) })
    }

    /// What handshakes are made with; always the same one, whatever is reloaded.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reads the files again and gives new handshakes what they say. Returns whether anything changed.
    ///
    /// A certificate of the development CA is issued anew when the CA changed or the certificate ends soon.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the certificates in force stay then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.issued_is_current()? {
            return Ok(false);
        }
        let loaded = load(&source.tls, &source.state_dir)?;
        let changed = !self.resolver.current().same_as(&loaded.certificates);
        if changed || source.warned.elapsed() >= REMINDER {
            loaded.warn();
            source.warned = Instant::now();
        }
        if changed {
            self.resolver.swap(loaded.certificates);
            source.issued = loaded.issued;
        }
        Ok(changed)
    }

    /// Takes over what a changed configuration says of this listener. Returns whether anything changed.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the old source and its certificates stay in force then.
    pub fn replace(&self, tls: &Tls, state_dir: &Path) -> Result<bool, TlsError> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.tls == *tls && source.state_dir == state_dir {
            drop(source);
            return self.reload();
        }
        let loaded = load(tls, state_dir)?;
        loaded.warn();
        let Loaded { certificates, issued, .. } = loaded;
        let changed = !self.resolver.current().same_as(&certificates);
        self.resolver.swap(certificates);
        let (tls, state_dir, warned) = (tls.clone(), state_dir.to_owned(), Instant::now());
        *source = Source { tls, state_dir, issued, warned };
        Ok(changed)
    }

    /// The files that the certificates in force came from: those to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        match &source.tls {
            Tls::Files(files) => {
                files.iter().flat_map(|pair| [pair.cert_file.clone(), pair.key_file.clone()]).collect()
            }
            Tls::SelfSigned { .. } => DevCa::files(&source.state_dir).into(),
            Tls::Controller => Vec::new(),
        }
    }
}

impl Source {
    /// Whether a certificate of our own needs no successor yet.
    fn issued_is_current(&self) -> Result<bool, TlsError> {
        match &self.issued {
            Some(issued) if !issued.leaf.ends_soon() => {
                Ok(*DevCa::open(&self.state_dir)?.certificate() == issued.authority)
            }
            _ => Ok(false),
        }
    }
}

fn load(tls: &Tls, state_dir: &Path) -> Result<Loaded, TlsError> {
    match tls {
        Tls::Files(files) => {
            let identities: Vec<_> = files.iter().map(Identity::read).collect::<Result<_, _>>()?;
            let certificates = Certificates::new(&identities);
            let named = files.iter().map(|pair| pair.cert_file.clone());
            let read = identities.into_iter().zip(named).collect();
            Ok(Loaded { certificates, issued: None, read })
        }
        Tls::SelfSigned { names } => {
            let authority = DevCa::open(state_dir)?;
            let leaf = authority.issue(names)?;
            let certificates = Certificates::new(std::slice::from_ref(&leaf));
            let issued = Some(Issued { authority: authority.certificate().clone(), leaf });
            Ok(Loaded { certificates, issued, read: Vec::new() })
        }
        Tls::Controller => {
            Ok(Loaded { certificates: Certificates::default(), issued: None, read: Vec::new() })
        }
    }
}

/// TLS 1.2 and 1.3 with the suites of rustls, which are those of Mozilla's intermediate profile (ECDHE and AEAD
/// only), in the client's order.
fn server_config(resolver: Arc<Resolver>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // The state of a session travels with the client: nothing that workers would share under a lock, nothing that
    // a flood of handshakes could push out, and one ticket because browsers and pools ask again each time.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}
