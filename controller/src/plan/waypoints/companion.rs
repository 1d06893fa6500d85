//! `SERVICE-baseline`: what selects the pods of a Service while the Service itself selects waypoints. It is there before
//! the Service is turned and goes last, and so it is where the cluster keeps what must be known over a restart.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::index::Index;
use super::super::labels::bounded;
use super::super::services;
use super::WaypointWrite;
use crate::interposed::{Original, OriginalPort, PORTS};
use crate::names::{BASELINE_OF, IDLE_SINCE, TURNED, UNSERVED_SINCE, WAYPOINT_PORTS};
use crate::world::{Labels, Name, Service, ServicePort, TargetPort, World};

/// The longest name of a Service.
const MAX_NAME: usize = 63;
/// The first pause after somebody undid a turn, and the longest.
const PAUSES: (u64, u64) = (1, 60);

/// How often a waypoint was put in front of a Service, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::plan) struct Turned {
    pub(super) turn: u32,
    pub(super) at: Timestamp,
}

impl Turned {
    /// When it may be tried again, if somebody undid it: the later, the more often that was.
    pub(super) fn again(self) -> Option<Timestamp> {
        let (first, most) = PAUSES;
        let pause = first.checked_shl(self.turn.saturating_sub(1)).filter(|pause| *pause != 0);
        let pause = pause.map_or(most, |pause| pause.min(most));
        self.at.checked_add(Duration::from_secs(pause)).ok()
    }
}

/// A companion that is there.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Companion<'a> {
    /// What it is called.
    pub(in crate::plan) name: &'a Name,
    service: &'a Service,
    of: (Name, Box<str>),
    /// The waypoints' port for each port of the Service.
    pub(in crate::plan) ports: BTreeMap<u16, u16>,
    /// Whether a waypoint was put in front of the Service since it is there.
    pub(super) turned: Option<Turned>,
    /// Since when there is no waypoint for the Service, though it points to them or did until then.
    pub(super) unserved: Option<Timestamp>,
    /// Since when it is needed no more.
    pub(super) idle: Option<Timestamp>,
}

impl<'a> Companion<'a> {
    /// All of them, by the Service that they stand for.
    pub(in crate::plan) fn all(world: &'a World) -> BTreeMap<Name, Self> {
        let read =
            |(name, service): (&'a Name, &'a std::sync::Arc<Service>)| Self::read(world, name, service);
        world.services.iter().filter_map(read).collect()
    }

    fn read(world: &World, name: &'a Name, service: &'a Service) -> Option<(Name, Self)> {
        let of = owner(name, service)?;
        let stands = world.services.get(&of.0).is_some_and(|owner| owner.meta.uid == of.1);
        if !stands || service.meta.deleting || *name != name_of(&of.0) {
            return None;
        }
        let said = |annotation: &str| service.meta.annotations.get(annotation);
        let ports: BTreeMap<u16, u16> =
            said(WAYPOINT_PORTS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let companion = Self {
            name,
            service,
            of: of.clone(),
            ports: ports.into_iter().filter(|(_, port)| PORTS.contains(port)).collect(),
            turned: said(TURNED).and_then(|text| serde_json::from_str(text).ok()),
            unserved: said(UNSERVED_SINCE).and_then(|text| text.parse().ok()),
            idle: said(IDLE_SINCE).and_then(|text| text.parse().ok()),
        };
        Some((of.0, companion))
    }

    /// What it knows of the Service as it was.
    pub(super) fn original(&self) -> Original {
        let ports = self.service.ports.iter().filter_map(|port| {
            let waypoint = *self.ports.get(&port.port)?;
            Some((port.port, OriginalPort { target: port.target.clone(), waypoint }))
        });
        let turn = self.turned.map_or(0, |turned| turned.turn);
        Original { selector: self.service.selector.clone(), ports: ports.collect(), turn }
    }

    /// Where it is called at a port.
    pub(super) fn addresses(&self, port: &ServicePort) -> Vec<SocketAddr> {
        services::addresses(self.service, port)
    }

    /// Whether its endpoints may have such an address.
    pub(super) fn has_family(&self, address: IpAddr) -> bool {
        self.service.has_family(address)
    }

    /// Since when the older of two that want one port is there.
    pub(super) fn age(&self) -> (Timestamp, &'a str) {
        (self.service.meta.created, &self.service.meta.uid)
    }

    /// Its deletion.
    pub(super) fn forget(&self) -> WaypointWrite {
        let uid = self.service.meta.uid.clone();
        WaypointWrite::Forget { name: self.name.clone(), uid, service: self.of.clone() }
    }
}

/// What a companion in `name`'s place is called.
pub(super) fn name_of(service: &Name) -> Name {
    Name::new(&service.namespace, &bounded(&format!("{}-baseline", service.name), MAX_NAME))
}

/// The Service that a companion is of, by its label and its owner.
fn owner(name: &Name, service: &Service) -> Option<(Name, Box<str>)> {
    let label = service.meta.labels.get(BASELINE_OF)?;
    let (_, uid) = service.meta.owner.as_ref().filter(|(kind, _)| &**kind == "Service")?;
    Some((Name::new(&name.namespace, label), uid.clone()))
}

/// Whether the Service that would be the companion of `service` is something else.
pub(super) fn is_taken(world: &World, service: &Name) -> bool {
    let name = name_of(service);
    let there = world.services.get(&name);
    there.is_some_and(|there| owner(&name, there).is_none_or(|(of, _)| of != *service))
}

/// Whether a port of a Service without a note points into the range of waypoints, so that its companion has to be asked.
pub(super) fn may_be_turned(world: &World, name: &Name, service: &Service) -> bool {
    let points = |target: &TargetPort| matches!(target, TargetPort::Number(number) if PORTS.contains(number));
    service.ports.iter().any(|port| points(&port.target)) && world.services.contains_key(&name_of(name))
}

/// Companions of Services that are gone: their owner's end takes them away, and this is for where nobody collects.
pub(super) fn sweep(index: &Index<'_>, writes: &mut Vec<WaypointWrite>) {
    let services = &index.world.services;
    for (name, service) in services {
        let Some((of, uid)) = owner(name, service).filter(|_| !service.meta.deleting) else { continue };
        if services.get(&of).is_none_or(|owner| owner.meta.uid != uid) {
            let service = (of, uid);
            let uid = services.get(name).map(|companion| companion.meta.uid.clone()).unwrap_or_default();
            writes.push(WaypointWrite::Forget { name: name.clone(), uid, service });
        }
    }
}

/// What a companion should be, besides what the Service is.
pub(super) struct Wanted<'w> {
    pub(super) ports: &'w BTreeMap<u16, u16>,
    pub(super) turned: Option<Turned>,
    pub(super) unserved: Option<Timestamp>,
    pub(super) idle: Option<Timestamp>,
}

impl Wanted<'_> {
    /// Whether the one that is there is this one.
    pub(super) fn is_in_step(&self, service: &Service, there: Option<&Companion<'_>>) -> bool {
        self.is_same(service, there)
            && there.is_some_and(|there| there.service.meta.annotations == self.annotations())
    }

    /// Whether it selects the same pods, and has the same ports for them.
    pub(super) fn is_same(&self, service: &Service, there: Option<&Companion<'_>>) -> bool {
        let Some(there) = there else { return false };
        let own =
            there.service.ports.iter().map(|port| (&port.name, port.port, &port.target, &port.app_protocol));
        let tcp = service.ports.iter().filter(|port| port.is_tcp);
        let wanted = tcp.map(|port| (&port.name, port.port, &port.target, &port.app_protocol));
        let families = |service: &Service| (service.family_policy.clone(), service.families.clone());
        there.service.selector == service.selector
            && own.eq(wanted)
            && there.ports == *self.ports
            && families(there.service) == families(service)
    }

    fn annotations(&self) -> Labels {
        let turned = self.turned.map(|turned| (TURNED, json!(turned).to_string()));
        let unserved = self.unserved.map(|since| (UNSERVED_SINCE, since.to_string()));
        let idle = self.idle.map(|idle| (IDLE_SINCE, idle.to_string()));
        let ports = [(WAYPOINT_PORTS, json!(self.ports).to_string())];
        let all = ports.into_iter().chain(turned).chain(unserved).chain(idle);
        all.map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// The whole object.
    pub(super) fn manifest(&self, name: &Name, service: &Service) -> Value {
        let tcp = service.ports.iter().filter(|port| port.is_tcp);
        let ports: Vec<Value> = tcp
            .map(|port| {
                let mut written = Map::from_iter([
                    ("port".to_owned(), json!(port.port)),
                    ("targetPort".to_owned(), json!(port.target)),
                    ("protocol".to_owned(), json!("TCP")),
                ]);
                if !port.name.is_empty() {
                    written.insert("name".to_owned(), json!(port.name));
                }
                if let Some(protocol) = &port.app_protocol {
                    written.insert("appProtocol".to_owned(), json!(protocol));
                }
                Value::Object(written)
            })
            .collect();
        let mut spec = Map::from_iter([
            ("selector".to_owned(), json!(service.selector)),
            ("ports".to_owned(), ports.into()),
        ]);
        // Without them it had one family only, and the Service's endpoints of the other one were in no slice of it.
        if let Some(policy) = &service.family_policy {
            spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
        }
        if !service.families.is_empty() {
            spec.insert("ipFamilies".to_owned(), json!(service.families));
        }
        let own = name_of(name);
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": own.name,
                "namespace": own.namespace,
                "labels": {BASELINE_OF: name.name, "app.kubernetes.io/managed-by": "sidetrack"},
                "annotations": self.annotations(),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": name.name, "uid": service.meta.uid,
                    "controller": true, "blockOwnerDeletion": false,
                }],
            },
            "spec": spec,
        })
    }
}
