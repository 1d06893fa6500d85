//! The sockets of this process: its own, or those of the process before it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use sidetrack_config::model::{Config, Listener, Tls};

use super::{StartError, Started};
use crate::accept::connection::Door;
use crate::accept::handover::{self, Taken};
use crate::accept::listen;

/// The sockets of this process.
pub(super) struct Bound {
    /// Address, and one socket or more.
    pub(super) sockets: Vec<(SocketAddr, Vec<TcpListener>)>,
    /// Of the admin address.
    pub(super) admin: Vec<TcpListener>,
    /// What was taken from a process before us.
    pub(super) taken: Vec<Taken>,
}

impl Bound {
    /// Sockets for all addresses.
    pub(super) fn all(doors: &[Arc<Door>], admin: SocketAddr, workers: usize) -> Result<Self, StartError> {
        let mut taken = Vec::new();
        let mut sockets = Vec::new();
        for door in doors {
            let address = door.listener().address;
            let of = obtain(address, workers, &mut taken)?;
            let actual = of.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
            sockets.push((actual, of));
        }
        let admin = obtain(admin, 1, &mut taken)?;
        Ok(Self { sockets, admin, taken })
    }

    /// What a caller may know of them.
    pub(super) fn started(&self, config: &Config) -> Started {
        let self_signed = |listener: &Listener| matches!(listener.tls, Some(Tls::SelfSigned { .. }));
        Started {
            listeners: self.sockets.iter().map(|(address, _)| *address).collect(),
            admin: self
                .admin
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .unwrap_or(config.admin.address),
            ca: config.listeners.iter().any(self_signed).then(|| config.state_dir.join("ca.pem")),
        }
    }
}

/// Sockets for an address: those of the process before us, where there is one, else new ones.
fn obtain(address: SocketAddr, count: usize, taken: &mut Vec<Taken>) -> Result<Vec<TcpListener>, StartError> {
    let failed = |error| StartError::Io(format!("listening on {address}"), error);
    let Some(mut before) = handover::take(address).map_err(failed)? else {
        return listen::bind(address, count).map_err(failed);
    };
    let mut sockets = std::mem::take(&mut before.listeners);
    tracing::info!(%address, sockets = sockets.len(), "taken over from the process before");
    taken.push(before);
    if sockets.len() < count {
        sockets.extend(listen::join(address, count - sockets.len()).map_err(failed)?);
    }
    Ok(sockets)
}

/// The same sockets once more.
pub(super) fn clones(
    address: SocketAddr,
    sockets: &[TcpListener],
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    Ok((address, clones_of(sockets)?))
}

/// The same sockets once more.
pub(super) fn clones_of(sockets: &[TcpListener]) -> io::Result<Vec<TcpListener>> {
    sockets.iter().map(TcpListener::try_clone).collect()
}
