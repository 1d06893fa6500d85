//! Endpoints that no table names: where connections were meant to go before the system redirected them to a sidecar, and
//! the workload behind it. They are spoken to as others are, by the pool of their worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use sidetrack_config::model::{Place, Protocol};

use crate::accept::connection::Connection;
use crate::route::table::{Behind, Endpoint, Estate, Upstream};

/// The most addresses that are kept: an application that speaks with more at once opens connections anew.
const MOST: usize = 1024;
/// How long one is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(60);
/// How long a connection may take. What is there is not ours, and may be far.
const CONNECT: Duration = Duration::from_secs(10);
/// Numbers from here on are none that a table gives.
const FIRST: u64 = 1 << 63;

struct Kept {
    endpoint: Arc<Endpoint>,
    used: Instant,
}

/// The endpoints of one worker that no table names.
pub struct Meant {
    kept: RefCell<HashMap<(SocketAddr, bool), Kept, RandomState>>,
    next: Cell<u64>,
    http1: Arc<Upstream>,
    h2c: Arc<Upstream>,
}

impl Default for Meant {
    fn default() -> Self {
        let speaks = |protocol| {
            Arc::new(Upstream { protocol, tls: None, connect_timeout: CONNECT, health_check: None })
        };
        Self {
            kept: RefCell::default(),
            next: Cell::new(FIRST),
            http1: speaks(Protocol::Http1),
            h2c: speaks(Protocol::H2c),
        }
    }
}

impl Meant {
    /// Where requests of `connection` were meant to go, spoken to as its client speaks; `None`: the table alone knows.
    pub fn endpoint(&self, connection: &Connection, estate: &Estate) -> Option<Arc<Endpoint>> {
        let address = meant(&connection.listener.place, connection.original.as_deref().copied(), estate)?;
        Some(self.at(address, connection.is_http2))
    }

    /// The endpoint with this address.
    pub fn at(&self, address: SocketAddr, is_http2: bool) -> Arc<Endpoint> {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        if let Some(known) = kept.get_mut(&(address, is_http2)) {
            known.used = now;
            return Arc::clone(&known.endpoint);
        }
        if kept.len() >= MOST {
            let oldest = kept.iter().min_by_key(|(_, known)| known.used).map(|(at, _)| *at);
            oldest.map(|at| kept.remove(&at));
        }
        let id = self.next.get();
        self.next.set(id + 1);
        let endpoint = Arc::new(Endpoint {
            id,
            address,
            upstream: Arc::clone(if is_http2 { &self.h2c } else { &self.http1 }),
            server_name: None,
            behind: Behind::One,
            healthy: AtomicBool::new(true),
        });
        kept.insert((address, is_http2), Kept { endpoint: Arc::clone(&endpoint), used: now });
        endpoint
    }

    /// Forgets what nobody has asked for in a while. Called once a second.
    pub fn sweep(&self) {
        self.kept.borrow_mut().retain(|_, known| known.used.elapsed() < KEPT);
    }
}

/// The address that what comes in at `place` is meant for, where that is not the table's to say.
pub fn meant(place: &Place, original: Option<SocketAddr>, estate: &Estate) -> Option<SocketAddr> {
    let workload = || {
        let port = estate.workload.as_ref()?.app?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.get())))
    };
    match place {
        Place::Edge | Place::Service(_) => None,
        Place::Inbound => original.or_else(workload),
        Place::Outbound(_) => original,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()))
    }

    #[test]
    fn an_address_keeps_its_endpoint_and_their_number_is_bounded() {
        let meant = Meant::default();
        let first = meant.at(address(1), false);
        assert!(Arc::ptr_eq(&first, &meant.at(address(1), false)));
        assert_ne!(first.id, meant.at(address(1), true).id, "spoken to in another way");
        for number in 2..2 * MOST {
            let is_new = meant.at(address(number), false).id;
            assert!(is_new > FIRST && meant.kept.borrow().len() <= MOST);
            // What is in use stays.
            assert!(Arc::ptr_eq(&first, &meant.at(address(1), false)), "{number}");
        }
        meant.sweep();
        assert_eq!(meant.kept.borrow().len(), MOST, "nothing has idled");
    }
}
