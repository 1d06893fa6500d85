//! Small worlds for the tests of routes, and what they come to.

mod gateways;
mod http_routes;
mod ingresses;
mod properties;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidetrack_config::stream::{Action, Certificate, Item, PathMatch, Route};

use super::super::{Settings, StatusWrite};
use super::{Routed, plan};
use crate::world::{self, Meta, Name, ServicePort, TargetPort, TlsSecret, World};

pub(super) fn settings() -> Settings {
    Settings {
        domains: vec!["preview.example.com".into()],
        url_scheme: "https".into(),
        url_port: None,
        host_prefix: "pr-".into(),
        http_ports: vec![80],
        https_ports: vec![443],
        addresses: vec!["192.0.2.1".into(), "lb.example.com".into()],
        warn_before: Duration::from_secs(3600),
        waypoints: None,
        sidecars: false,
    }
}

/// An object of a kind, called `NAMESPACE/NAME` or `NAME`.
pub(super) fn object(kind: &str, name: &str, spec: Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    json!({
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "generation": 1, "uid": format!("{kind} {name}"),
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
        "status": null,
    })
}

pub(super) fn grant(name: &str, from: Value, to: Value) -> Value {
    object("ReferenceGrant", name, json!({"from": from, "to": to}))
}

fn class() -> Value {
    object("GatewayClass", "sidetrack", json!({"controllerName": "sidetrack.dev/gateway"}))
}

/// The Gateway `infra/gw` of our class.
fn gateway(listeners: Value) -> Value {
    object("Gateway", "infra/gw", json!({"gatewayClassName": "sidetrack", "listeners": listeners}))
}

/// The listener `http` on port 80 that takes routes from all namespaces.
fn http() -> Value {
    json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}})
}

/// The listener `https` on port 443 for a host, with a Secret.
fn https(host: &str, secret: &str) -> Value {
    json!({"name": "https", "port": 443, "protocol": "HTTPS", "hostname": host,
           "allowedRoutes": {"namespaces": {"from": "All"}}, "tls": {"certificateRefs": [{"name": secret}]}})
}

/// A Service with one port, or several.
fn service(name: &str, ports: &[u16]) -> Value {
    object("Service", name, json!({"ports": ports}))
}

/// `shop/web` with these rules, for `shop.example.com`, attached to `infra/gw`.
fn http_route(rules: Value) -> Value {
    let parents = json!([{"name": "gw", "namespace": "infra"}]);
    let spec = json!({"parentRefs": parents, "hostnames": ["shop.example.com"], "rules": rules});
    object("HTTPRoute", "shop/web", spec)
}

/// A rule to `shop/web:80`.
fn to_web() -> Value {
    json!({"backendRefs": [{"name": "web", "port": 80}]})
}

/// A chain and its key, made for a test.
fn pair(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(name: &str, (chain, key): &(String, String)) -> Value {
    object("Secret", name, json!({"chain": chain, "key": key}))
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

fn meta(object: &Value) -> Meta {
    let meta = &object["metadata"];
    let labels = meta["labels"].as_object().into_iter().flatten();
    Meta {
        uid: meta["uid"].as_str().unwrap().into(),
        created: meta["creationTimestamp"].as_str().unwrap().parse().unwrap(),
        generation: meta["generation"].as_i64().unwrap(),
        labels: labels.map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into())).collect(),
        deleting: meta["deletionTimestamp"].is_string(),
        ..Meta::default()
    }
}

fn spec<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object["spec"].clone()).unwrap()
}

pub(super) fn world(objects: impl IntoIterator<Item = Value>) -> World {
    let mut world = World::default();
    for object in objects {
        add(&mut world, &object);
    }
    world
}

fn add(world: &mut World, object: &Value) {
    let (meta, status) = (meta(object), object["status"].clone());
    let at = &object["metadata"];
    let name = Name::new(at["namespace"].as_str().unwrap(), at["name"].as_str().unwrap());
    match object["kind"].as_str().unwrap() {
        "Namespace" => drop(world.namespaces.insert(name, Arc::new(world::Namespace { meta }))),
        "GatewayClass" => {
            let class = world::GatewayClass { meta, spec: spec(object), status };
            world.gateway_classes.insert(name, Arc::new(class));
        }
        "Gateway" => {
            world.gateways.insert(name, Arc::new(world::Gateway { meta, spec: spec(object), status }));
        }
        "HTTPRoute" => {
            world.http_routes.insert(name, Arc::new(world::HttpRoute { meta, spec: spec(object), status }));
        }
        "ReferenceGrant" => {
            world.reference_grants.insert(name, Arc::new(world::ReferenceGrant { meta, spec: spec(object) }));
        }
        "Ingress" => {
            let class = object["spec"]["ingressClassName"].as_str().map(Box::from);
            world
                .ingresses
                .insert(name, Arc::new(world::Ingress { meta, class, spec: spec(object), status }));
        }
        "Secret" => {
            let text = |field: &str| object["spec"][field].as_str().unwrap().into();
            world.secrets.insert(name, Arc::new(TlsSecret { meta, chain: text("chain"), key: text("key") }));
        }
        "Service" => {
            let ports = object["spec"]["ports"].as_array().unwrap().iter().map(|port| ServicePort {
                name: format!("p{port}").into(),
                port: port.as_u64().unwrap().try_into().unwrap(),
                target: TargetPort::Number(8080),
                app_protocol: object["spec"]["appProtocol"].as_str().map(Box::from),
                is_tcp: object["spec"]["udp"].is_null(),
                turned: None,
            });
            let external = object["spec"]["external"].is_boolean();
            let service = world::Service { meta, ports: ports.collect(), external, ..Default::default() };
            world.services.insert(name, Arc::new(service));
        }
        other => panic!("{other}"),
    }
}

/// The world once these statuses are written.
fn written(world: &World, statuses: &[StatusWrite]) -> World {
    let mut world = world.clone();
    for StatusWrite { object, status, .. } in statuses {
        let status = status.clone();
        match &*object.kind {
            "GatewayClass" => {
                Arc::make_mut(world.gateway_classes.get_mut(&object.name).unwrap()).status = status;
            }
            "Gateway" => Arc::make_mut(world.gateways.get_mut(&object.name).unwrap()).status = status,
            "HTTPRoute" => Arc::make_mut(world.http_routes.get_mut(&object.name).unwrap()).status = status,
            "Ingress" => Arc::make_mut(world.ingresses.get_mut(&object.name).unwrap()).status = status,
            other => panic!("{other}"),
        }
    }
    world
}

fn planned(world: &World) -> Routed {
    plan(world, &settings(), "2026-06-01T00:00:00Z".parse().unwrap())
}

/// The plan of `shop/web` with these rules, with everything there that it needs.
fn planned_rules(rules: Value) -> Routed {
    planned(&world([
        class(),
        gateway(json!([http()])),
        service("shop/web", &[80]),
        service("shop/both", &[80, 81]),
        http_route(rules),
    ]))
}

/// The status that is written about an object.
fn status<'a>(routed: &'a Routed, kind: &str, name: &str) -> &'a Value {
    let found =
        routed.statuses.iter().find(|write| &*write.object.kind == kind && &*write.object.name.name == name);
    &found.unwrap_or_else(|| panic!("no status of {kind} {name}")).status
}

/// Status and reason of a condition, `-` where there is none, and its message.
fn condition<'a>(holder: &'a Value, kind: &str) -> (String, &'a str) {
    let found = holder["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind);
    found.map_or(("-".into(), ""), |found| {
        let text = |field: &str| found[field].as_str().unwrap();
        (format!("{} {}", text("status"), text("reason")), text("message"))
    })
}

/// The first parent in the status of `shop/web`.
fn parent(routed: &Routed) -> &Value {
    &status(routed, "HTTPRoute", "web")["parents"][0]
}

fn accepted(routed: &Routed) -> String {
    condition(parent(routed), "Accepted").0
}

fn routes(routed: &Routed) -> Vec<&Route> {
    let routes = routed.items.iter().filter_map(|item| match item {
        Item::Route(route) => Some(&**route),
        _ => None,
    });
    routes.collect()
}

fn certificates(routed: &Routed) -> Vec<&Certificate> {
    let certificates = routed.items.iter().filter_map(|item| match item {
        Item::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    certificates.collect()
}

/// A route in a line: host, path, services with their weights.
fn line(route: &Route) -> String {
    let path = match &route.path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => path.to_string(),
    };
    let action = match &route.action {
        Action::Forward(backends) => {
            let each =
                backends.iter().map(|b| format!("{}*{}", b.service.as_deref().unwrap_or("-"), b.weight));
            each.collect::<Vec<_>>().join(",")
        }
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
    };
    format!("{} {path} {action}", route.host)
}

fn lines(routed: &Routed) -> Vec<String> {
    routes(routed).into_iter().map(line).collect()
}
