//! A Service as it is written: whether it points to waypoints, and the patch that makes it so or not.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::interposed::{Original, OriginalPort, Points, is_ours, put_back, selector};
use crate::names::ORIGINAL;
use crate::world::{Name, Service};

/// A Service to turn, or to turn back.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontWrite {
    /// Which one.
    pub name: Name,
    /// As it was seen: if it is another one by now, nothing is written.
    pub seen: Arc<Service>,
    /// What it is turned from; `None`: it is turned back.
    pub goal: Option<Original>,
    /// What has to be true besides.
    pub gate: Option<Gate>,
}

/// What waypoints must have before a Service is turned to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The pods that must: all that are ready.
    pub pods: Vec<Box<str>>,
    /// The ports that they must have in force with the services behind them, by [`sidetrack_config::stream::Item::id`].
    pub ports: Vec<Box<str>>,
}

impl FrontWrite {
    /// What to write instead while the gate is shut: what points to waypoints by half serves nobody.
    pub fn meanwhile(&self) -> Option<Self> {
        let back = Self { goal: None, gate: None, ..self.clone() };
        (shape(&self.seen) == Shape::Half).then_some(back)
    }

    /// Whether a Service is still as it was seen. Where it does not say itself what it was, its companion did.
    pub fn is_of(&self, mut there: Service) -> bool {
        if there.front.original.is_none() || is_ours(&there.selector) {
            let turned = self.seen.ports.iter().filter_map(|port| {
                Some((port.port, OriginalPort { target: port.target.clone(), waypoint: port.turned? }))
            });
            let seen = Original { selector: self.seen.selector.clone(), ports: turned.collect(), turn: 0 };
            put_back(&mut there, &seen);
        }
        there == *self.seen
    }

    /// The strategic merge patch: fields that nobody else's field depends on, all in one.
    pub fn patch(&self) -> Value {
        let (wanted, note) = match &self.goal {
            Some(goal) => (selector(), json!(json!(goal).to_string())),
            None => (self.seen.selector.clone(), Value::Null),
        };
        // Whatever it points to now, and by half: labels of either selector that are not wanted go.
        let (ours, own) = (selector(), &self.seen.selector);
        let gone = own.keys().chain(ours.keys()).filter(|name| !wanted.contains_key(*name));
        let gone = gone.map(|name| (name.to_string(), Value::Null));
        let kept = wanted.iter().map(|(name, value)| (name.to_string(), json!(value)));
        let ports = self.seen.ports.iter().filter(|port| port.is_tcp).map(|port| {
            let turned = self.goal.as_ref().and_then(|goal| goal.ports.get(&port.port));
            let target = turned.map_or_else(|| json!(port.target), |turned| json!(turned.waypoint));
            json!({"port": port.port, "protocol": "TCP", "targetPort": target})
        });
        json!({
            "metadata": {"annotations": {ORIGINAL: note}},
            "spec": {"selector": gone.chain(kept).collect::<Map<_, _>>(), "ports": ports.collect::<Vec<_>>()},
        })
    }
}

/// How far a Service points to waypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Not at all.
    Plain,
    /// With everything.
    Turned,
    /// With everything but ports that it has got since.
    Wider,
    /// With something, so that nobody is served: somebody put the rest back.
    Half,
}

/// How far it does.
pub(super) fn shape(service: &Service) -> Shape {
    let noted = |port: u16| service.front.original.as_ref().is_some_and(|was| was.ports.contains_key(&port));
    let mut tcp = service.ports.iter().filter(|port| port.is_tcp);
    let any = tcp.clone().any(|port| port.turned.is_some());
    match (service.front.selector, any) {
        (Points::Away, false) => Shape::Plain,
        (Points::There, true) if tcp.clone().all(|port| port.turned.is_some()) => Shape::Turned,
        (Points::There, true) if tcp.all(|port| port.turned.is_some() || !noted(port.port)) => Shape::Wider,
        _ => Shape::Half,
    }
}
