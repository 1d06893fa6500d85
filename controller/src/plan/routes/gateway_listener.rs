//! Listeners of a Gateway: what they ask for, and what stands against it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use sidetrack_config::stream::Scheme;

use super::super::Settings;
use super::super::certificates::Certificates;
use super::gateway_conditions::Problem;
use super::gateway_hosts::{self, ANY};
use super::grants::{self, From};
use crate::gateway_api::{self, ObjectRef};
use crate::world::{self, Labels, Name, World};

/// The group of the Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// A listener, and what stands against it.
#[derive(Debug)]
pub(super) struct Listener<'a> {
    /// What it asks for.
    pub(super) spec: &'a gateway_api::Listener,
    /// In clear or with TLS; `None`: a protocol that is not implemented.
    pub(super) scheme: Option<Scheme>,
    /// Why it is not accepted.
    pub(super) refused: Option<Problem>,
    /// Another listener of the Gateway that no request can be told apart from.
    pub(super) conflict: Option<Problem>,
    /// What it refers to and can't be had.
    pub(super) unresolved: Option<Problem>,
    /// The Secrets that it names and that can be used.
    pub(super) certificates: Vec<Name>,
    /// Whether HTTPRoutes may attach to it.
    pub(super) takes_http_routes: bool,
    /// Names of listeners with TLS whose hosts it shares some of.
    pub(super) overlaps: Vec<&'a str>,
    /// How many routes attached.
    pub(super) attached: usize,
}

impl Listener<'_> {
    /// The host that it is for.
    pub(super) fn host(&self) -> &str {
        self.spec.hostname.as_deref().filter(|host| !host.is_empty()).unwrap_or(ANY)
    }

    /// Whether requests come in by it. Certificates don't count: another one may fit its host.
    pub(super) fn is_served(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// Why it does nothing for a client.
    pub(super) fn not_programmed(&self) -> Option<Problem> {
        if !self.is_served() {
            return Some(Problem::new("Invalid", "the listener is not accepted or in conflict"));
        }
        let has_no_certificate = self.scheme == Some(Scheme::Https) && self.certificates.is_empty();
        has_no_certificate.then(|| Problem::new("Invalid", "no certificate of the listener can be used"))
    }

    /// Whether it takes routes from `namespace`, being one of a Gateway in `own`.
    pub(super) fn takes_from(&self, world: &World, own: &str, namespace: &str) -> bool {
        let allowed = self.spec.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        match allowed.and_then(|allowed| allowed.from.as_deref()).unwrap_or("Same") {
            "Same" => own == namespace,
            "All" => true,
            "Selector" => {
                let object = world.namespaces.get(&Name::new("", namespace));
                let selector = allowed.and_then(|allowed| allowed.selector.as_ref());
                object.zip(selector).is_some_and(|(object, selector)| selects(selector, &object.meta.labels))
            }
            // `None`, and what a later version may say.
            _ => false,
        }
    }
}

/// Whether a selector selects labels. An empty one selects all; an operator that is not known, nothing.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|has| **has == *value);
    let any =
        |rule: &LabelSelectorRequirement| rule.values.iter().flatten().any(|value| is(&rule.key, value));
    selector.match_labels.iter().flatten().all(|(key, value)| is(key, value))
        && selector.match_expressions.iter().flatten().all(|rule| match rule.operator.as_str() {
            "In" => any(rule),
            "NotIn" => !any(rule),
            "Exists" => labels.contains_key(&*rule.key),
            "DoesNotExist" => !labels.contains_key(&*rule.key),
            _ => false,
        })
}

/// Reads the listeners of a Gateway.
pub(super) fn read<'a>(
    world: &World,
    settings: &Settings,
    name: &Name,
    gateway: &'a world::Gateway,
    certificates: &mut Certificates<'_>,
) -> Vec<Listener<'a>> {
    let all = &gateway.spec.listeners;
    all.iter()
        .map(|spec| {
            let refused = refuse(spec, settings);
            let (has_route_kind, bad_kind) = kinds(spec);
            let scheme = scheme(spec);
            let (usable, bad_certificate) = match scheme {
                Some(Scheme::Https) => find_certificates(world, name, spec, certificates),
                _ => (Vec::new(), None),
            };
            Listener {
                spec,
                scheme,
                refused,
                conflict: conflict(spec, all),
                unresolved: bad_certificate.or(bad_kind),
                certificates: usable,
                takes_http_routes: has_route_kind && scheme.is_some(),
                overlaps: Vec::new(),
                attached: 0,
            }
        })
        .collect()
}

fn scheme(spec: &gateway_api::Listener) -> Option<Scheme> {
    match spec.protocol.as_str() {
        "HTTP" => Some(Scheme::Http),
        "HTTPS" => Some(Scheme::Https),
        _ => None,
    }
}

/// Why a listener is not accepted.
fn refuse(spec: &gateway_api::Listener, settings: &Settings) -> Option<Problem> {
    let ports = match scheme(spec) {
        Some(Scheme::Http) => &settings.http_ports,
        Some(Scheme::Https) => &settings.https_ports,
        None => {
            let message = format!("protocol `{}` is not implemented; write `HTTP` or `HTTPS`", spec.protocol);
            return Some(Problem::new("UnsupportedProtocol", message));
        }
    };
    if !ports.contains(&spec.port) {
        let served: Vec<String> = ports.iter().map(u16::to_string).collect();
        let (port, protocol) = (spec.port, &spec.protocol);
        let served = if served.is_empty() { "none".into() } else { served.join(", ") };
        let message = format!("the gateways don't serve {protocol} on port {port}; ports for it: {served}");
        return Some(Problem::new("PortUnavailable", message));
    }
    let tls = spec.tls.as_ref();
    let mode = tls.and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    if scheme(spec) == Some(Scheme::Https) && mode != "Terminate" {
        let message = format!("TLS mode `{mode}` is not implemented; write `Terminate`");
        return Some(Problem::new("UnsupportedValue", message));
    }
    if tls.and_then(|tls| tls.frontend_validation.as_ref()).is_some_and(|asked| !asked.is_null()) {
        let message = "`tls.frontendValidation` (certificates of clients) is not implemented; take it out";
        return Some(Problem::new("UnsupportedValue", message));
    }
    let host = spec.hostname.as_deref().filter(|host| !host.is_empty()).unwrap_or(ANY);
    gateway_hosts::check(host, settings).err().map(|message| Problem::new("UnsupportedValue", message))
}

/// Whether a listener takes HTTPRoutes, and what else it names.
fn kinds(spec: &gateway_api::Listener) -> (bool, Option<Problem>) {
    let named = spec.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    let is_http_route = |kind: &&gateway_api::RouteKind| {
        kind.group.as_deref().is_none_or(|group| group == GROUP) && kind.kind == "HTTPRoute"
    };
    let problem = named.iter().find(|kind| !is_http_route(kind)).map(|kind| {
        let message = format!("routes of kind `{}` are not implemented; write `HTTPRoute`", kind.kind);
        Problem::new("InvalidRouteKinds", message)
    });
    (named.is_empty() || named.iter().any(|kind| is_http_route(&kind)), problem)
}

/// The listener that `spec` can't be told apart from. Only what we would serve counts.
fn conflict(spec: &gateway_api::Listener, all: &[gateway_api::Listener]) -> Option<Problem> {
    scheme(spec)?;
    let same_port = |other: &&gateway_api::Listener| {
        other.name != spec.name && other.port == spec.port && scheme(other).is_some()
    };
    let others = || all.iter().filter(same_port);
    if let Some(other) = others().find(|other| other.protocol != spec.protocol) {
        let message = format!("listener `{}` has protocol {} on the same port", other.name, other.protocol);
        return Some(Problem::new("ProtocolConflict", message));
    }
    let host = |listener: &gateway_api::Listener| listener.hostname.clone().unwrap_or_default();
    let other = others().find(|other| host(other) == host(spec))?;
    let message = format!("listener `{}` has the same port and hostname", other.name);
    Some(Problem::new("HostnameConflict", message))
}

/// Names to each listener with TLS those whose hosts it shares: browsers use one connection for both.
pub(super) fn mark_overlaps(listeners: &mut [Listener<'_>]) {
    let with_tls: Vec<_> = listeners
        .iter()
        .filter(|listener| listener.scheme == Some(Scheme::Https) && listener.is_served())
        .map(|listener| (listener.spec, listener.host().to_owned()))
        .collect();
    for listener in listeners {
        let Some((_, host)) = with_tls.iter().find(|(spec, _)| spec.name == listener.spec.name) else {
            continue;
        };
        let shares = |(spec, other): &&(&gateway_api::Listener, String)| {
            spec.name != listener.spec.name
                && spec.port == listener.spec.port
                && gateway_hosts::intersect(host, other).is_some()
        };
        listener.overlaps = with_tls.iter().filter(shares).map(|(spec, _)| spec.name.as_str()).collect();
    }
}

/// The Secrets that a listener names: those that can be used, and what is wrong with the first other one.
fn find_certificates(
    world: &World,
    gateway: &Name,
    spec: &gateway_api::Listener,
    certificates: &mut Certificates<'_>,
) -> (Vec<Name>, Option<Problem>) {
    let named = spec.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
    let mut problem = named.is_empty().then(|| {
        let message = "the listener names no certificate; write `tls.certificateRefs`";
        Problem::new("InvalidCertificateRef", message)
    });
    let mut usable = Vec::new();
    for reference in named {
        match find_certificate(world, gateway, reference, certificates) {
            Ok(name) => usable.push(name),
            Err(wrong) => problem = problem.or(Some(wrong)),
        }
    }
    (usable, problem)
}

fn find_certificate(
    world: &World,
    gateway: &Name,
    reference: &ObjectRef,
    certificates: &mut Certificates<'_>,
) -> Result<Name, Problem> {
    let (group, kind) =
        (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or("Secret"));
    if !group.is_empty() || kind != "Secret" {
        let message = format!("a certificate of kind `{kind}` is not implemented; name a Secret");
        return Err(Problem::new("InvalidCertificateRef", message));
    }
    let name = Name::new(reference.namespace.as_deref().unwrap_or(&gateway.namespace), &reference.name);
    let from = From { group: GROUP, kind: "Gateway", namespace: &gateway.namespace };
    if !grants::allow(world, from, "Secret", &name) {
        let message = format!(
            "no ReferenceGrant in namespace `{}` lets Gateways of namespace `{}` use the Secret `{}`",
            name.namespace, gateway.namespace, name.name
        );
        return Err(Problem::new("RefNotPermitted", message));
    }
    certificates.check(&name).map_err(|message| Problem::new("InvalidCertificateRef", message))?;
    Ok(name)
}
