//! What is next for one Service: on the way in, on the way out, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::Notice;
use super::super::index::Index;
use super::fit::Asked;
use super::front::{FrontWrite, Gate, Shape, shape};
use super::ports::Ports;
use super::{Companion, Hop, Outcome, Settings, WaypointWrite, companion, fit, notice};
use crate::interposed::{Original, OriginalPort, PORTS, Unfit, is_ours};
use crate::world::{Name, Service, ServicePort, TargetPort};

/// How long a Service without a waypoint that is ready stays turned: one that begins anew is back by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// A Service and what stands for its baseline.
pub(super) struct Face<'a, 'i> {
    pub(super) name: &'a Name,
    pub(super) service: &'a Arc<Service>,
    pub(super) companion: Option<&'i Companion<'a>>,
}

/// What steps are taken with.
pub(super) struct Steps<'s, 'a> {
    pub(super) index: &'s Index<'a>,
    pub(super) settings: &'s Settings,
    pub(super) now: Timestamp,
    pub(super) ports: Ports<'a>,
    pub(super) outcome: &'s mut Outcome,
    pub(super) notices: &'s mut Vec<Notice>,
}

impl<'a> Steps<'_, 'a> {
    /// Does what is next for a Service; says whether it needs the waypoints of its namespace.
    pub(super) fn step(&mut self, face: &Face<'a, '_>, forked: bool) -> bool {
        let shape = shape(face.service);
        let turned = shape != Shape::Plain;
        let wanted = (forked || fit::asked(face.service) == Some(Asked::Always)) && !self.settings.drain;
        if is_ours(&face.service.selector) {
            return self.lost(face);
        }
        let ports = fit::unfit(self.index, face.name, face.service)
            .map_or_else(|| self.ports.of(face.name, face.service, face.companion), Err);
        match ports {
            Ok(ports) if wanted => {
                let hop = self.turn(face, shape, ports);
                self.outcome.hops.insert(face.name.clone(), hop);
                return true;
            }
            Err(unfit) if wanted => self.refuse(face, unfit),
            _ => {}
        }
        self.turn_back(face, shape);
        turned || face.companion.is_some()
    }

    fn refuse(&mut self, face: &Face<'_, '_>, unfit: Unfit) {
        let message = format!(
            "no waypoint is put in front of it: {}. Gateways reach its forks, calls from inside the cluster do not",
            unfit.why()
        );
        let warning = unfit != Unfit::OptedOut;
        self.notices.push(notice(face.name, face.service, warning, "NotInterposed", message));
        self.outcome.hops.insert(face.name.clone(), Hop::Refused(unfit));
    }

    /// On the way in.
    fn turn(&mut self, face: &Face<'a, '_>, shape: Shape, ports: BTreeMap<u16, u16>) -> Hop {
        let turns = face.companion.and_then(|companion| companion.turned);
        let noted = face.service.front.original.as_ref().map_or(0, |original| original.turn);
        let known = turns.map_or(0, |turned| turned.turn);
        // Written when it is seen, so that a turn that somebody undid is known for one whatever they took away.
        let seen = matches!(shape, Shape::Turned | Shape::Wider) && noted > known;
        let turns = if seen { Some(companion::Turned { turn: noted, at: self.now }) } else { turns };
        let unserved = self.unserved(face, shape);
        let companion = companion::Wanted { ports: &ports, turned: turns, unserved, idle: None };
        let in_step = companion.is_same(face.service, face.companion);
        self.keep(face, &companion);
        let turn = match shape {
            Shape::Turned | Shape::Wider => noted.max(known).max(1),
            Shape::Plain | Shape::Half => known.saturating_add(1),
        };
        let goal = original(face.service, &ports, turn);
        if let (Shape::Turned | Shape::Wider, Some(since)) = (shape, unserved) {
            match since.checked_add(PATIENCE) {
                Ok(end) if end > self.now => self.outcome.at(end),
                _ => self.write(face, None, None),
            }
            return Hop::Pending(none_ready(face));
        }
        if shape == Shape::Turned {
            if face.service.front.original.as_ref() != Some(&goal) {
                self.write(face, Some(goal), None);
            }
            return self.behind(face, turns.map(|turned| turned.at));
        }
        let undone = matches!(shape, Shape::Plain | Shape::Half) && turns.is_some();
        if undone && in_step && unserved.is_none() {
            self.tell_undone(face);
        }
        // The pause begins with the turn, or where no waypoint was left.
        let last = turns.filter(|_| undone).map(|turned| companion::Turned {
            at: unserved.map_or(turned.at, |since| since.max(turned.at)),
            ..turned
        });
        let why = match last.and_then(companion::Turned::again) {
            Some(again) if again > self.now => {
                self.outcome.at(again);
                let why = match unserved {
                    Some(_) => "there was no waypoint that was ready",
                    None => "something put its selector or `targetPort` back",
                };
                Some(format!("{why}; it is tried again at {again}"))
            }
            _ => self.not_yet(face, in_step),
        };
        match why {
            Some(why) => {
                if shape == Shape::Half {
                    self.write(face, None, None);
                }
                Hop::Pending(why)
            }
            None => {
                let pods = self.pods(face.name);
                let ports = ports.values().map(|port| format!("port/{}/{port}", face.name.namespace).into());
                let ports = ports.collect();
                if face.service.targets_unsaid {
                    self.tell_unsaid(face);
                }
                self.write(face, Some(goal), Some(Gate { pods, ports }));
                Hop::Pending("the waypoints have not acknowledged its ports yet".to_owned())
            }
        }
    }

    /// Since when there is no waypoint for a Service that points to them. It is known until they serve it again.
    fn unserved(&self, face: &Face<'_, '_>, shape: Shape) -> Option<Timestamp> {
        let known = face.companion.and_then(|companion| companion.unserved);
        match shape {
            Shape::Turned | Shape::Wider => {
                self.pods(face.name).is_empty().then(|| known.unwrap_or(self.now))
            }
            Shape::Plain | Shape::Half => known,
        }
    }

    /// What a Service waits for before it can be turned.
    fn not_yet(&self, face: &Face<'_, '_>, in_step: bool) -> Option<String> {
        if !in_step {
            return Some("the Service for its baseline is being made".to_owned());
        }
        if !self.has_followed(face) {
            return Some("the Service for its baseline does not have all its ready endpoints yet".to_owned());
        }
        if self.pods(face.name).is_empty() {
            return Some(none_ready(face));
        }
        None
    }

    /// Whether the companion has every endpoint that the Service itself has.
    fn has_followed(&self, face: &Face<'_, '_>) -> bool {
        let Some(companion) = face.companion else { return false };
        self.tcp(face).all(|port| {
            let found: BTreeSet<_> = self.addresses(companion.name, port).collect();
            let mut own = self.index.ready_in(face.name, port);
            own.all(|own| {
                self.index.is_waypoint(face.name, port, &own)
                    || !companion.has_family(own.1.address)
                    || found.contains(&(own.1.address, own.2))
            })
        })
    }

    /// Whether a Service that was turned is behind waypoints, by its EndpointSlices.
    fn behind(&self, face: &Face<'_, '_>, since: Option<Timestamp>) -> Hop {
        let is_behind = self.tcp(face).all(|port| {
            let mut found = self.index.ready_in(face.name, port).peekable();
            found.peek().is_some() && found.all(|one| self.index.is_waypoint(face.name, port, &one))
        });
        if is_behind {
            return Hop::Interposed(since);
        }
        Hop::Pending("its EndpointSlices do not hold the waypoints, and them only, yet".to_owned())
    }

    /// On the way out.
    fn turn_back(&mut self, face: &Face<'a, '_>, shape: Shape) {
        if shape != Shape::Plain || face.service.front.noted {
            self.write(face, None, None);
            return;
        }
        let Some(companion) = face.companion else { return };
        let settled = || self.has_come_back(face, companion);
        let idle = companion.idle.or_else(|| settled().then_some(self.now));
        let end = idle.and_then(|since| since.checked_add(self.settings.grace).ok());
        if end.is_some_and(|end| end <= self.now) {
            self.outcome.waypoints.writes.push(companion.forget());
            return;
        }
        end.into_iter().for_each(|end| self.outcome.at(end));
        let wanted = companion::Wanted { ports: &companion.ports, turned: None, unserved: None, idle };
        self.keep(face, &wanted);
    }

    /// Brings the companion in step. One of an earlier Service of that name has to go first.
    fn keep(&mut self, face: &Face<'_, '_>, wanted: &companion::Wanted<'_>) {
        let is_left_over = face.companion.is_none()
            && self.index.world.services.contains_key(&companion::name_of(face.name));
        if !is_left_over && !wanted.is_in_step(face.service, face.companion) {
            let manifest = wanted.manifest(face.name, face.service);
            self.outcome.waypoints.writes.push(WaypointWrite::Companion(manifest));
        }
    }

    /// Whether a Service that was turned back has its pods again, and no waypoint.
    fn has_come_back(&self, face: &Face<'_, '_>, companion: &Companion<'_>) -> bool {
        self.tcp(face).all(|port| {
            let own: Vec<_> = self.index.ready_in(face.name, port).collect();
            let found: BTreeSet<_> =
                own.iter().map(|(_, endpoint, number)| (endpoint.address, *number)).collect();
            !own.iter().any(|own| self.index.is_waypoint(face.name, port, own))
                && self
                    .addresses(companion.name, port)
                    .all(|address| found.contains(&address) || !face.service.has_family(address.0))
        })
    }

    fn addresses(&self, name: &Name, port: &ServicePort) -> impl Iterator<Item = (IpAddr, u16)> {
        self.index.ready_in(name, port).map(|(_, endpoint, number)| (endpoint.address, number))
    }

    fn tcp<'f>(&self, face: &'f Face<'_, '_>) -> impl Iterator<Item = &'f ServicePort> {
        face.service.ports.iter().filter(|port| port.is_tcp)
    }

    /// The waypoints of a Service's namespace that are ready.
    fn pods(&self, name: &Name) -> Vec<Box<str>> {
        let from = Name::new(&name.namespace, "");
        let here = self.index.world.waypoints.range(from..);
        let here = here.take_while(|(pod, _)| pod.namespace == name.namespace);
        here.filter(|(_, pod)| pod.ready).map(|(pod, _)| pod.name.clone()).collect()
    }

    fn write(&mut self, face: &Face<'_, '_>, goal: Option<Original>, gate: Option<Gate>) {
        let write = FrontWrite { name: face.name.clone(), seen: Arc::clone(face.service), goal, gate };
        self.outcome.waypoints.writes.push(WaypointWrite::Front(write));
    }

    /// One that selects waypoints, and nothing says what it was. Somebody's own Service of the waypoints has none of
    /// their ports for Services.
    fn lost(&mut self, face: &Face<'_, '_>) -> bool {
        let points =
            |port: &ServicePort| matches!(port.target, TargetPort::Number(number) if PORTS.contains(&number));
        let is_lost = face.service.ports.iter().any(points);
        if is_lost {
            self.tell_lost(face);
        }
        is_lost
    }

    fn tell_lost(&mut self, face: &Face<'_, '_>) {
        let message = "it points to a waypoint, and both its annotation `sidetrack.dev/original` and the Service for its \
                       baseline are gone: set its `selector` and `targetPort` anew";
        self.notices.push(notice(face.name, face.service, true, "OriginalLost", message));
    }

    fn tell_unsaid(&mut self, face: &Face<'_, '_>) {
        let message = "it is applied server-side without `targetPort`: while a waypoint is in front of it, the next apply puts \
                       its selector back and not its `targetPort`, and calls fail until that is mended a moment later. Say \
                       `targetPort`, or leave both fields of forked Services alone (docs/gitops.md)";
        self.notices.push(notice(face.name, face.service, true, "TargetPortUnsaid", message));
    }

    fn tell_undone(&mut self, face: &Face<'_, '_>) {
        let message = "a waypoint was in front of it, and something put its `selector` or `targetPort` back: tell your GitOps \
                       tool to leave `spec.selector` and `spec.ports[].targetPort` of forked Services alone \
                       (docs/gitops.md)";
        self.notices.push(notice(face.name, face.service, true, "WaypointUndone", message));
    }
}

fn none_ready(face: &Face<'_, '_>) -> String {
    format!("no waypoint of namespace {} is ready", face.name.namespace)
}

/// What a Service is turned from.
fn original(service: &Service, ports: &BTreeMap<u16, u16>, turn: u32) -> Original {
    let tcp = service.ports.iter().filter(|port| port.is_tcp);
    let ports = tcp.filter_map(|port| {
        let waypoint = *ports.get(&port.port)?;
        Some((port.port, OriginalPort { target: port.target.clone(), waypoint }))
    });
    Original { selector: service.selector.clone(), ports: ports.collect(), turn }
}
