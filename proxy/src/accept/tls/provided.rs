//! Certificates that a controller provides: for every TLS listener, beside those of the file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sidetrack_config::stream::Certificate;

use super::TlsError;
use super::choose::Certificates;
use super::pem::Identity;

/// The certificates of a controller, shared by all listeners. They are swapped inside the resolvers, so that sessions
/// resume and open connections notice nothing.
#[derive(Debug, Default)]
pub struct Provided {
    by_name: Mutex<BTreeMap<Box<str>, Preferred>>,
    current: RwLock<Arc<Certificates>>,
}

/// A certificate and the hosts that it is preferred for.
type Preferred = (Identity, Box<[Box<str>]>);

impl Provided {
    /// Takes `removed` away and `changed` in; gives what is wrong with each that can't be used. The one of the same
    /// name that was there before stays then.
    pub fn change(&self, removed: &[Box<str>], changed: &[Certificate]) -> Vec<(Box<str>, TlsError)> {
        // What a panic could leave behind here is a whole map all the same.
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for name in removed {
            by_name.remove(name);
        }
        let mut bad = Vec::new();
        for certificate in changed {
            let hosts = certificate.hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect();
            match Identity::provided(certificate) {
                Ok(identity) => drop(by_name.insert(certificate.name.clone(), (identity, hosts))),
                Err(error) => bad.push((certificate.name.clone(), error)),
            }
        }
        let sorted = Certificates::preferred(by_name.values().map(|(identity, hosts)| (identity, &**hosts)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sorted);
        bad
    }

    /// What new handshakes get now.
    pub(super) fn current(&self) -> Arc<Certificates> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
