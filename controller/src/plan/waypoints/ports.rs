//! Which port of its waypoints a Service has. Those that are given stay; a new one begins its search at a place of its
//! own, so that two Services that don't know of each other yet seldom meet.

use std::collections::{BTreeMap, HashMap};

use sidetrack_config::stream::item_hash;

use super::super::index::Index;
use super::companion::Companion;
use crate::interposed::{PORTS, Unfit};
use crate::world::{Name, Service, TargetPort};

/// Whose each port is, by namespace and number.
pub(super) struct Ports<'a> {
    taken: HashMap<(&'a str, u16), (Name, u16)>,
}

impl<'a> Ports<'a> {
    /// As the cluster has them. Where two have one, it is of the Service that points to it, then of the older companion.
    pub(super) fn new(index: &Index<'a>) -> Self {
        let mut ports = Self { taken: HashMap::new() };
        for (name, service) in &index.world.services {
            for port in &service.ports {
                if let Some(number) = port.turned {
                    ports.take(&name.namespace, number, name, port.port);
                }
            }
        }
        let mut companions: Vec<_> = index.companions.iter().collect();
        companions.sort_by_key(|(_, companion)| companion.age());
        for (name, companion) in companions {
            for (port, number) in &companion.ports {
                ports.take(&companion.name.namespace, *number, name, *port);
            }
        }
        ports
    }

    fn take(&mut self, namespace: &'a str, number: u16, name: &Name, port: u16) {
        self.taken.entry((namespace, number)).or_insert_with(|| (name.clone(), port));
    }

    /// Whether the waypoints' port `number` is that of a port of this Service.
    pub(super) fn is_of(&self, name: &Name, port: u16, number: u16) -> bool {
        self.taken.get(&(&*name.namespace, number)).is_some_and(|(owner, of)| owner == name && *of == port)
    }

    /// The waypoints' port for each port of a Service: as it has them, and new ones for what has none.
    pub(super) fn of(
        &mut self,
        name: &'a Name,
        service: &Service,
        companion: Option<&Companion<'a>>,
    ) -> Result<BTreeMap<u16, u16>, Unfit> {
        let mut ports = BTreeMap::new();
        for port in service.ports.iter().filter(|port| port.is_tcp) {
            let known = port.turned.or_else(|| companion?.ports.get(&port.port).copied());
            let known = known.filter(|number| self.is_of(name, port.port, *number));
            let number = known.or_else(|| self.find(name, service, port.port)).ok_or(Unfit::NoPort)?;
            ports.insert(port.port, number);
        }
        Ok(ports)
    }

    fn find(&mut self, name: &'a Name, service: &Service, port: u16) -> Option<u16> {
        let (first, last) = (u64::from(*PORTS.start()), u64::from(*PORTS.end()));
        let count = last - first + 1;
        let home = item_hash(&name.to_string(), &port.to_string());
        let all = (0..count).map(|step| first + home.wrapping_add(step) % count);
        let is_target =
            |number: u16| service.ports.iter().any(|port| port.target == TargetPort::Number(number));
        let free = all.filter_map(|number| u16::try_from(number).ok()).find(|number| {
            // One that its own pods listen on could not be told from a waypoint's.
            !self.taken.contains_key(&(&*name.namespace, *number)) && !is_target(*number)
        })?;
        self.take(&name.namespace, free, name, port);
        Some(free)
    }
}
