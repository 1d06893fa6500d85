//! What is one too many: it is told so at once and never queued, so that what was let in finishes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dashmap::DashMap;
use sidetrack_config::limits::Limits;

use crate::error::{Code, Failure};
use crate::limit::Limit;

/// The bits of an IPv6 address that one client is known by: it may use any address of its network.
const NETWORK: u128 = u128::MAX << 64;

/// Who is in: connections of all workers. What is asked per request is only read there.
#[derive(Debug)]
pub struct Gate {
    connections: AtomicUsize,
    most: usize,
    /// Connections of each client, where they are limited.
    clients: DashMap<IpAddr, usize>,
    most_per_client: usize,
    /// Whether the process has taken as much memory as it may.
    pressed: AtomicBool,
    /// Workers that have more requests under way than their share.
    borrowing: AtomicUsize,
}

/// What a new connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Ask.
    Served,
    /// Be told that there is no room.
    Refused(Limit),
    /// Nothing.
    Closed(Limit),
}

impl Gate {
    /// An open gate with these limits; zero connections per client: any number.
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            most: limits.max_connections,
            clients: DashMap::new(),
            most_per_client: limits.max_connections_per_client,
            pressed: AtomicBool::new(false),
            borrowing: AtomicUsize::new(0),
        }
    }

    /// One connection more; everyone who enters leaves.
    pub fn enter(&self) -> Entry {
        entry(self.connections.fetch_add(1, Ordering::Relaxed), self.most, Limit::MaxConnections)
    }

    /// A connection ended.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// One connection more of this client; every one that comes goes.
    pub fn come(&self, client: IpAddr) -> Entry {
        if self.most_per_client == 0 {
            return Entry::Served;
        }
        let mut count = self.clients.entry(known_as(client)).or_insert(0);
        let before = *count;
        *count += 1;
        entry(before, self.most_per_client, Limit::MaxConnectionsPerClient)
    }

    /// A connection of this client ended.
    pub fn go(&self, client: IpAddr) {
        if self.most_per_client > 0 {
            self.clients.remove_if_mut(&known_as(client), |_, count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
        }
    }

    /// A worker has more requests under way than its share.
    pub fn borrow(&self) {
        self.borrowing.fetch_add(1, Ordering::Relaxed);
    }

    /// It has no longer.
    pub fn give_back(&self) {
        self.borrowing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether some worker has more than its share.
    pub fn is_borrowed(&self) -> bool {
        self.borrowing.load(Ordering::Relaxed) > 0
    }

    /// Whether there is no memory for anything new.
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Says how it stands with the memory.
    pub fn press(&self, is_pressed: bool) {
        self.pressed.store(is_pressed, Ordering::Relaxed);
    }
}

/// Who comes when `before` are there already. Some of those that are too many are told so; where there are too many of
/// these, too, nothing but an end of the connection is cheap enough.
fn entry(before: usize, most: usize, limit: Limit) -> Entry {
    let told = (most / 16).clamp(16, 256);
    match before {
        before if before < most => Entry::Served,
        before if before < most.saturating_add(told) => Entry::Refused(limit),
        _ => Entry::Closed(limit),
    }
}

fn known_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        address @ IpAddr::V4(_) => address,
    }
}

/// What somebody is told for whom there is no room because of `limit`.
pub fn no_room(limit: Limit) -> Failure {
    let (code, detail) = match limit {
        Limit::MaxConnections => (Code::Overloaded, "too many connections are open; try again"),
        Limit::MaxMemory => (Code::Overloaded, "there is no memory for another request; try again"),
        Limit::MaxConnectionsPerClient => {
            (Code::RateLimited, "too many connections of this address are open; use fewer, or keep them open")
        }
        _ => (Code::Overloaded, "too many requests are under way; try again"),
    };
    Failure::new(code, detail).over(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_told_and_the_rest_is_closed() {
        let gate = Gate::new(&Limits { max_connections: 2, ..Limits::default() });
        let entries: Vec<_> = (0..20).map(|_| gate.enter()).collect();
        let told = |at: usize| entries[at] == Entry::Refused(Limit::MaxConnections);
        assert_eq!(entries[..2], [Entry::Served; 2]);
        assert!((2..18).all(told));
        assert_eq!(entries[18..], [Entry::Closed(Limit::MaxConnections); 2]);
        entries.iter().for_each(|_| gate.leave());
        assert_eq!(gate.enter(), Entry::Served);
    }

    #[test]
    fn clients_are_counted_by_address_and_forgotten() {
        let gate = Gate::new(&Limits { max_connections_per_client: 1, ..Limits::default() });
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let refused = Entry::Refused(Limit::MaxConnectionsPerClient);
        assert_eq!(gate.come(address("10.0.0.1")), Entry::Served);
        assert_eq!(gate.come(address("::ffff:10.0.0.1")), refused, "the same");
        assert_eq!(gate.come(address("10.0.0.2")), Entry::Served);
        assert_eq!(gate.come(address("2001:db8::1")), Entry::Served);
        assert_eq!(gate.come(address("2001:db8::2")), refused, "of one network");
        for client in ["10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"] {
            gate.go(address(client));
        }
        assert!(gate.clients.is_empty());
        let any = Gate::new(&Limits::default());
        assert!((0..100).all(|_| any.come(address("10.0.0.1")) == Entry::Served) && any.clients.is_empty());
    }
}
