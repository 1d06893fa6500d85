//! What callers inside the estate call services: by name and by address. A sidecar may know ten thousand, of which one
//! comes or goes at a time, and a table is made for each such change: so they are kept as previews are.

use std::net::SocketAddr;

use sidetrack_config::model;
use smallvec::SmallVec;

use super::sharded::Sharded;

/// The numbers of the ports of a Service.
type Ports = SmallVec<[usize; 2]>;

/// The services that are there, by what callers know of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    names: Sharded<Box<str>, usize>,
    addresses: Sharded<SocketAddr, usize>,
    /// Services of several ports, each of which is a service here (`checkout.shop:grpc`), and the numbers of those.
    several: Sharded<Box<str>, Ports>,
}

impl Known {
    /// All of `services`, by their position.
    pub(crate) fn of(services: &[model::Service]) -> Self {
        let mut known = Self::default();
        for (number, service) in services.iter().enumerate() {
            known.insert(&service.name, number);
            known.add_addresses(&service.addresses, number);
        }
        known
    }

    /// The number of the service with this name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The number of the service that is reached at `address`.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    /// The numbers of the services that are ports of `host`.
    pub(crate) fn ports(&self, host: &str) -> &[usize] {
        self.several.get(host).map_or(&[], |ports| ports)
    }

    /// Adds a service that is new.
    pub(crate) fn insert(&mut self, name: &str, number: usize) {
        if self.names.insert(name.into(), number).is_some() {
            return;
        }
        if let Some(host) = host_of_port(name) {
            let mut ports = Ports::from_slice(self.ports(host));
            ports.push(number);
            // Whichever came first: what is said of them must not hang on that.
            ports.sort_unstable();
            self.several.insert(host.into(), ports);
        }
    }

    /// Takes a service out.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(number) = self.names.remove(name) else { return };
        if let Some(host) = host_of_port(name) {
            let others = self.ports(host).iter().copied().filter(|other| *other != number);
            let others: Ports = others.collect();
            match others.is_empty() {
                false => self.several.insert(host.into(), others),
                true => self.several.remove(host),
            };
        }
    }

    /// Says that the service with this number is reached at these addresses, too.
    pub(crate) fn add_addresses(&mut self, addresses: &[SocketAddr], number: usize) {
        for address in addresses {
            self.addresses.insert(*address, number);
        }
    }

    /// Says that it is not any more. An address may have gone to another service meanwhile.
    pub(crate) fn remove_addresses(&mut self, addresses: &[SocketAddr], number: usize) {
        for address in addresses {
            if self.at(*address) == Some(number) {
                self.addresses.remove(address);
            }
        }
    }
}

/// The Service of several ports that `name` is a port of.
fn host_of_port(name: &str) -> Option<&str> {
    name.split_once(':').map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_several_ports_is_known_while_one_of_them_is() {
        let mut known = Known::default();
        known.insert("checkout.shop:http", 0);
        known.insert("checkout.shop:grpc", 1);
        known.insert("checkout.shop:grpc", 1);
        known.remove("checkout.shop:http");
        assert!(known.ports("checkout.shop") == [1] && known.named("checkout.shop").is_none());
        assert_eq!((known.named("checkout.shop:http"), known.named("checkout.shop:grpc")), (None, Some(1)));
        known.remove("checkout.shop:grpc");
        known.remove("checkout.shop:grpc");
        assert!(known.ports("checkout.shop").is_empty());
    }

    #[test]
    fn an_address_that_went_to_another_service_stays_with_it() {
        let [first, second] = ["10.96.0.1:80", "[fd00::1]:80"].map(|text| text.parse().unwrap());
        let mut known = Known::default();
        known.add_addresses(&[first, second], 0);
        known.add_addresses(&[first], 1);
        known.remove_addresses(&[first, second], 0);
        assert_eq!((known.at(first), known.at(second)), (Some(1), None));
    }
}
