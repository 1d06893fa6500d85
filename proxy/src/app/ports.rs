//! The ports that the table asks for: of a waypoint, one for each service that it serves. They are opened before a table
//! counts as taken, so that whoever hears that it is may send callers here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sidetrack_config::model::{Listener, Place, Spoken};
use tokio::sync::mpsc::UnboundedSender;

use crate::accept::connection::Door;
use crate::accept::listen;
use crate::worker::Change;

/// What a port is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The service that everything is for that comes in there.
    pub service: Box<str>,
    /// What its clients speak.
    pub spoken: Spoken,
}

/// The ports that are open beside the listeners of the file.
#[derive(Debug)]
pub struct Ports {
    address: IpAddr,
    workers: Vec<UnboundedSender<Change>>,
    open: BTreeMap<u16, (Wanted, Arc<Door>)>,
}

impl Ports {
    /// None yet, on all addresses or on `address` alone.
    pub fn new(address: Option<IpAddr>, workers: Vec<UnboundedSender<Change>>) -> Self {
        let address = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Self { address, workers, open: BTreeMap::new() }
    }

    /// Opens those of `wanted` that are not open yet, and closes the others.
    ///
    /// # Errors
    /// Which port can't be opened, and why; the others are as wanted.
    pub fn follow(&mut self, wanted: &BTreeMap<u16, Wanted>) -> Result<(), String> {
        let gone: BTreeSet<u16> =
            self.open.keys().copied().filter(|port| !wanted.contains_key(port)).collect();
        for port in gone {
            self.open.remove(&port);
            self.tell(|_| Some(Change::Close(port)));
            tracing::info!(port, "closed");
        }
        let mut problem = Ok(());
        for (port, wanted) in wanted {
            if let Some((before, door)) = self.open.get_mut(port) {
                if before != wanted {
                    door.set_listener(wanted.listener(door.listener().address));
                    *before = wanted.clone();
                }
            } else if let Err(error) = self.open(*port, wanted) {
                problem = Err(format!("port {port} for service {}: {error}", wanted.service));
            }
        }
        problem
    }

    fn open(&mut self, port: u16, wanted: &Wanted) -> io::Result<()> {
        let count = self.workers.len();
        let mut address = SocketAddr::new(self.address, port);
        let bound = listen::bind(address, count).or_else(|error| {
            // A system without IPv6.
            if self.address != IpAddr::V6(Ipv6Addr::UNSPECIFIED) || error.kind() == io::ErrorKind::AddrInUse {
                return Err(error);
            }
            address.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            listen::bind(address, count)
        });
        let mut sockets = bound?.into_iter();
        let door = Arc::new(Door::new(wanted.listener(address), None));
        self.open.insert(port, (wanted.clone(), Arc::clone(&door)));
        self.tell(|_| Some(Change::Open(Arc::clone(&door), sockets.next()?)));
        tracing::info!(%address, service = %wanted.service, "listening");
        Ok(())
    }

    fn tell(&self, mut change: impl FnMut(usize) -> Option<Change>) {
        for (number, worker) in self.workers.iter().enumerate() {
            if let Some(change) = change(number) {
                // A worker that is gone drains already.
                let _ = worker.send(change);
            }
        }
    }
}

impl Wanted {
    fn listener(&self, address: SocketAddr) -> Listener {
        Listener {
            place: Place::Service(self.service.clone()),
            spoken: self.spoken,
            ..Listener::plain(address)
        }
    }
}
