//! Which certificate a client gets: the one for the name it asks for, else the first.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pem::Identity;
use super::provided::Provided;

/// The certificates of one listener, by name. Immutable: a reload makes a new one.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// `*.example.com` is held as `example.com`.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Sorts identities by their names.
    pub(super) fn new(identities: &[Identity]) -> Self {
        let mut sorted = Self::default();
        for identity in identities {
            sorted.all.push(Arc::clone(&identity.key));
            sorted.name(identity, &identity.names);
        }
        sorted
    }

    /// Sorts identities by the hosts that each is preferred for, and after those by their names.
    pub(super) fn preferred<'a>(
        identities: impl Iterator<Item = (&'a Identity, &'a [Box<str>])> + Clone,
    ) -> Self {
        let mut sorted = Self::default();
        for (identity, hosts) in identities.clone() {
            sorted.all.push(Arc::clone(&identity.key));
            sorted.name(identity, hosts);
        }
        for (identity, _) in identities {
            sorted.name(identity, &identity.names);
        }
        sorted
    }

    /// Adds `identity` under `names`.
    fn name(&mut self, identity: &Identity, names: &[Box<str>]) {
        for name in names {
            let (map, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent),
                None => (&mut self.exact, &**name),
            };
            map.entry(name.into()).or_default().push(Arc::clone(&identity.key));
        }
    }

    /// Whether both hold the same chains in the same order. The keys are the same then too: each was checked
    /// against its leaf.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.all.iter().map(|key| &key.cert).eq(other.all.iter().map(|key| &key.cert))
    }

    /// The certificate for `name`, of a kind that the client can verify.
    ///
    /// An ECDSA and an RSA certificate may bear one name; the first in the configuration that the client's
    /// signature schemes allow wins. Where none is allowed the first is given, so that the handshake fails with
    /// the alert that says so.
    ///
    /// `provided` are those of the controller: they come after our own where both bear the name as well.
    pub(super) fn choose(
        &self,
        provided: &Self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let all = [self, provided];
        let exact = name.into_iter().flat_map(|name| all.map(|of| of.exact.get(name)));
        // RFC 9525 section 6.3: the wildcard stands for exactly one label.
        let parent = name.and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        let wildcard = parent.into_iter().flat_map(|parent| all.map(|of| of.wildcard.get(parent)));
        let of_name = exact.chain(wildcard).flatten().flatten();
        pick(of_name, schemes).or_else(|| pick(all.into_iter().flat_map(|of| &of.all), schemes))
    }
}

fn pick<'a>(
    mut candidates: impl Iterator<Item = &'a Arc<CertifiedKey>> + Clone,
    schemes: &[SignatureScheme],
) -> Option<Arc<CertifiedKey>> {
    let verifiable = candidates.clone().find(|candidate| candidate.key.choose_scheme(schemes).is_some());
    verifiable.or_else(|| candidates.next()).cloned()
}

/// What rustls asks at every full handshake. The certificates are swapped inside it, so that the rest of the
/// `ServerConfig`, the ticket keys above all, survives a reload.
#[derive(Debug)]
pub(super) struct Resolver {
    current: RwLock<Arc<Certificates>>,
    provided: Arc<Provided>,
}

impl Resolver {
    pub(super) fn new(certificates: Certificates, provided: Arc<Provided>) -> Self {
        Self { current: RwLock::new(Arc::new(certificates)), provided }
    }

    /// What new handshakes get now.
    pub(super) fn current(&self) -> Arc<Certificates> {
        // A holder of this lock only copies or sets a pointer, so a poisoned one is as good as new.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives new handshakes other certificates.
    pub(super) fn swap(&self, certificates: Certificates) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case, and only those schemes that the cipher suites of a TLS 1.2 client
        // can be used with.
        let provided = self.provided.current();
        self.current().choose(&provided, hello.server_name(), hello.signature_schemes())
    }
}
