//! GatewayClasses and Gateways: which are ours, and which of their listeners the gateways can serve. What is said
//! about them is in `gateway_status`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Settings;
use super::super::certificates::Certificates;
use super::gateway_conditions::Problem;
use super::gateway_listener::{self, Listener};
use super::rank;
use crate::gateway_api::GatewayClassSpec;
use crate::names::CONTROLLER;
use crate::world::{self, Name, World};

/// A Gateway of one of our classes.
#[derive(Debug)]
pub(super) struct Gateway<'a> {
    /// The object.
    pub(super) object: &'a world::Gateway,
    /// Its listeners, in its order.
    pub(super) listeners: Vec<Listener<'a>>,
    /// Why nothing of it is served.
    pub(super) refused: Option<Problem>,
    /// Why it can't have the addresses that it asks for.
    pub(super) address: Option<Problem>,
}

/// Our Gateways, by namespace and name.
pub(super) type Gateways<'a> = BTreeMap<&'a Name, Gateway<'a>>;

/// Reads the Gateways of our classes, and notes the certificates that their listeners name.
pub(super) fn read<'a>(
    world: &'a World,
    settings: &Settings,
    certificates: &mut Certificates<'_>,
) -> Gateways<'a> {
    world
        .gateways
        .iter()
        .filter(|(_, gateway)| !gateway.meta.deleting)
        .filter_map(|(name, gateway)| {
            let class = class(world, &gateway.spec.gateway_class_name)?;
            let refused = refuse(gateway, class);
            let mut listeners = gateway_listener::read(world, settings, name, gateway, certificates);
            if refused.is_none() {
                prefer(&listeners, &claim(name, gateway), certificates);
            }
            gateway_listener::mark_overlaps(&mut listeners);
            let address = address(gateway, settings);
            Some((name, Gateway { object: gateway, listeners, refused, address }))
        })
        .collect()
}

/// The class of a Gateway, if it is ours.
fn class<'a>(world: &'a World, name: &str) -> Option<&'a GatewayClassSpec> {
    let class = world.gateway_classes.get(&Name::new("", name))?;
    (class.spec.controller_name == CONTROLLER).then_some(&class.spec)
}

/// Why a class is not accepted.
pub(super) fn refuse_class(class: &GatewayClassSpec) -> Option<Problem> {
    is_set(class.parameters_ref.as_ref()).then(|| {
        Problem::new(
            "InvalidParameters",
            "`spec.parametersRef` is not implemented: settings are those of the chart; take it out",
        )
    })
}

/// Why nothing of a Gateway is served. What it asks for and would not get may be what keeps strangers out.
fn refuse(gateway: &world::Gateway, class: &GatewayClassSpec) -> Option<Problem> {
    if let Some(problem) = refuse_class(class) {
        return Some(Problem::new(problem.reason, format!("its class is not accepted: {}", problem.message)));
    }
    let spec = &gateway.spec;
    let parameters = spec.infrastructure.as_ref().and_then(|wanted| wanted.get("parametersRef"));
    if is_set(parameters) {
        let message = "`spec.infrastructure.parametersRef` is not implemented; take it out";
        return Some(Problem::new("InvalidParameters", message));
    }
    if is_set(spec.tls.as_ref()) {
        let message =
            "`spec.tls` (certificates of clients, and for backends) is not implemented; take it out";
        return Some(Problem::new("Invalid", message));
    }
    let kind = |address: &Value| address["type"].as_str().unwrap_or("IPAddress").to_owned();
    let unsupported = spec.addresses.iter().map(kind).find(|kind| kind != "IPAddress" && kind != "Hostname");
    unsupported.map(|kind| {
        let message =
            format!("an address of type `{kind}` is not implemented; write `IPAddress` or `Hostname`");
        Problem::new("UnsupportedAddress", message)
    })
}

/// Whether a field that may be anything says something.
fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty()))
}

/// Why a Gateway can't have its addresses: those of the gateways are given by their Service.
fn address(gateway: &world::Gateway, settings: &Settings) -> Option<Problem> {
    let have = &settings.addresses;
    let wanted = gateway.spec.addresses.iter().filter_map(|address| address["value"].as_str());
    if let Some(address) =
        wanted.filter(|value| !value.is_empty()).find(|value| !have.iter().any(|a| **a == **value))
    {
        let message = format!("`{address}` is no address of the gateways; theirs are: {}", have.join(", "));
        return Some(Problem::new("AddressNotUsable", message));
    }
    have.is_empty().then(|| {
        let message = "the gateways have no address yet: neither their Service nor the settings give one";
        Problem::new("AddressNotAssigned", message)
    })
}

/// The rank of a Gateway among those who have certificates for a host. Gateways are of those who run the cluster, so
/// that they stand before Ingresses.
fn claim(name: &Name, gateway: &world::Gateway) -> String {
    format!("Gateway {}", rank(gateway.meta.created, name, 0, 0))
}

/// Notes which certificates the listeners that are served want to be used for their hosts.
fn prefer(listeners: &[Listener<'_>], claim: &str, certificates: &mut Certificates<'_>) {
    for listener in listeners.iter().filter(|listener| listener.is_served()) {
        let host = listener.spec.hostname.as_deref().filter(|host| !host.is_empty());
        for name in &listener.certificates {
            certificates.prefer(name, host, claim);
        }
    }
}
