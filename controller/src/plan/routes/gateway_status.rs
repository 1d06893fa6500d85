//! What is said about GatewayClasses and Gateways.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{Settings, StatusWrite};
use super::gateway::{self, Gateway, Gateways};
use super::gateway_conditions::{API_VERSION, Condition, Problem, Stamp, object, with, write};
use super::gateway_listener::{GROUP, Listener};
use crate::names::CONTROLLER;
use crate::world::World;

/// The most addresses that the status of a Gateway has room for.
const MAX_ADDRESSES: usize = 16;

/// Conditions of a Gateway that are ours.
const GATEWAY: [&str; 2] = ["Accepted", "Programmed"];

/// Conditions of a listener that are ours.
const LISTENER: [&str; 5] = ["Accepted", "Conflicted", "ResolvedRefs", "Programmed", "OverlappingTLSConfig"];

/// The statuses of our classes that say something else now.
pub(super) fn classes(world: &World, now: Timestamp) -> impl Iterator<Item = StatusWrite> {
    let ours = world.gateway_classes.iter().filter(|(_, class)| class.spec.controller_name == CONTROLLER);
    ours.filter(|(_, class)| !class.meta.deleting).filter_map(move |(name, class)| {
        let stamp = Stamp { generation: class.meta.generation, now };
        let condition = Condition::of("Accepted", "Accepted", gateway::refuse_class(&class.spec).as_ref());
        let old = &class.status;
        let conditions = stamp.merge(&old["conditions"], &[condition], &["Accepted"]);
        let status = with(old, [("conditions", conditions)]);
        let about = || object(API_VERSION, "GatewayClass", name, &class.meta);
        write(about, "gatewayclasses", old, status)
    })
}

/// The statuses of our Gateways that say something else now.
pub(super) fn gateways(
    gateways: &Gateways<'_>,
    settings: &Settings,
    now: Timestamp,
) -> impl Iterator<Item = StatusWrite> {
    gateways.iter().filter_map(move |(name, gateway)| {
        let (meta, old) = (&gateway.object.meta, &gateway.object.status);
        let stamp = Stamp { generation: meta.generation, now };
        let conditions = stamp.merge(&old["conditions"], &conditions(gateway), &GATEWAY);
        let listeners =
            gateway.listeners.iter().map(|listener| listener_status(gateway, listener, stamp)).collect();
        let status = with(
            old,
            [
                ("addresses", addresses(settings)),
                ("conditions", conditions),
                ("listeners", Value::Array(listeners)),
            ],
        );
        write(|| object(API_VERSION, "Gateway", name, meta), "gateways", old, status)
    })
}

fn conditions(gateway: &Gateway<'_>) -> [Condition; 2] {
    let not_served = |listener: &&Listener<'_>| !listener.is_served();
    let bad: Vec<&str> =
        gateway.listeners.iter().filter(not_served).map(|listener| &*listener.spec.name).collect();
    let none_is_good = bad.len() == gateway.listeners.len();
    let invalid =
        Problem::new("ListenersNotValid", format!("listeners that are not served: {}", bad.join(", ")));
    let accepted = match &gateway.refused {
        Some(problem) => Condition::fails("Accepted", problem),
        None if none_is_good => Condition::fails("Accepted", &invalid),
        // The specification wants the reason there also where the rest of the Gateway is accepted.
        None if !bad.is_empty() => Condition::holds("Accepted", invalid.reason, invalid.message),
        None => Condition::holds("Accepted", "Accepted", ""),
    };
    let idle =
        gateway.refused.is_some() || gateway.listeners.iter().all(|one| one.not_programmed().is_some());
    let nothing = Problem::new("Invalid", "no listener is served; their conditions say why");
    let programmed = if idle { Some(&nothing) } else { gateway.address.as_ref() };
    [accepted, Condition::of("Programmed", "Programmed", programmed)]
}

fn listener_status(gateway: &Gateway<'_>, listener: &Listener<'_>, stamp: Stamp) -> Value {
    let old = &gateway.object.status;
    let old = old["listeners"].as_array().into_iter().flatten();
    let old = old.clone().find(|was| was["name"] == *listener.spec.name).unwrap_or(&Value::Null);
    let conflicted = match &listener.conflict {
        Some(problem) => Condition::holds("Conflicted", problem.reason, &*problem.message),
        None => Condition::fails("Conflicted", &Problem::new("NoConflicts", "")),
    };
    // A listener in conflict is not accepted either: no listener of the conflict wins.
    let refused = listener.refused.as_ref().or(listener.conflict.as_ref());
    let whole = gateway.refused.as_ref().map(|_| Problem::new("Invalid", "the Gateway is not accepted"));
    let not_programmed = whole.or_else(|| listener.not_programmed());
    let mut conditions = vec![
        Condition::of("Accepted", "Accepted", refused),
        conflicted,
        Condition::of("ResolvedRefs", "ResolvedRefs", listener.unresolved.as_ref()),
        Condition::of("Programmed", "Programmed", not_programmed.as_ref()),
    ];
    if !listener.overlaps.is_empty() {
        let message = format!(
            "shares hosts with {}: browsers may use one connection for both",
            listener.overlaps.join(", ")
        );
        conditions.push(Condition::holds("OverlappingTLSConfig", "OverlappingHostnames", message));
    }
    let kinds: &[Value] =
        &if listener.takes_http_routes { vec![json!({"group": GROUP, "kind": "HTTPRoute"})] } else { vec![] };
    json!({
        "name": listener.spec.name,
        "supportedKinds": kinds,
        "attachedRoutes": listener.attached,
        "conditions": stamp.merge(&old["conditions"], &conditions, &LISTENER),
    })
}

fn addresses(settings: &Settings) -> Value {
    let addresses = settings.addresses.iter().take(MAX_ADDRESSES).map(|address| {
        let kind = if address.parse::<IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
        json!({"type": kind, "value": address})
    });
    addresses.collect()
}
