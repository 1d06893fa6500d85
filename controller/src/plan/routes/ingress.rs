//! Ingresses of our class, for those who still have them.
//!
//! One thing is other than there: `*.example.com` means any depth below, as in the Gateway API.

use serde_json::{Value, json};
use sidetrack_config::stream::{Action, Backend, Filters, PathMatch, Route, RouteTimeouts};

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend};

use super::super::certificates::Certificates;
use super::super::{ObjectId, Settings, StatusWrite};
use super::gateway_conditions::{object, with, write};
use super::gateway_hosts::{self, ANY};
use super::{Collected, http_route_backends as backends, http_route_rule, rank};
use crate::names::INGRESS_CLASS;
use crate::world::{self, Name, World};

/// The most routes of the table that one Ingress may come to.
const MAX_ROUTES: usize = 1024;

/// Reads the Ingresses of our class, and notes their certificates.
pub(super) fn plan(
    world: &World,
    settings: &Settings,
    certificates: &mut Certificates<'_>,
    out: &mut Collected,
) -> Vec<StatusWrite> {
    let ours = world
        .ingresses
        .iter()
        .filter(|(_, ingress)| ingress.class.as_deref() == Some(INGRESS_CLASS) && !ingress.meta.deleting);
    ours.filter_map(|(name, ingress)| {
        let about = object("networking.k8s.io/v1", "Ingress", name, &ingress.meta);
        let mut reading = Reading { world, settings, name, ingress, about: &about, out };
        reading.certificates(certificates);
        reading.routes();
        status(about, ingress, settings)
    })
    .collect()
}

/// The status of an Ingress, where it says something else now.
fn status(about: ObjectId, ingress: &world::Ingress, settings: &Settings) -> Option<StatusWrite> {
    let addresses = settings.addresses.iter().map(|address| match address.parse::<std::net::IpAddr>() {
        Ok(ip) => json!({"ip": ip}),
        Err(_) => json!({"hostname": address}),
    });
    let addresses: Vec<Value> = addresses.collect();
    let old = &ingress.status;
    let known = old.pointer("/loadBalancer/ingress").and_then(Value::as_array);
    let known = known.map(Vec::as_slice).unwrap_or_default();
    if *known == *addresses {
        return None;
    }
    let status = with(old, [("loadBalancer", json!({"ingress": addresses}))]);
    write(|| about, "ingresses", old, status)
}

/// An Ingress that is read.
struct Reading<'a> {
    world: &'a World,
    settings: &'a Settings,
    name: &'a Name,
    ingress: &'a world::Ingress,
    about: &'a ObjectId,
    out: &'a mut Collected,
}

impl Reading<'_> {
    fn warn(&mut self, reason: &'static str, message: String) {
        self.out.warn(self.about.clone(), reason, message);
    }

    fn certificates(&mut self, certificates: &mut Certificates<'_>) {
        let claim = format!("Ingress {}", rank(self.ingress.meta.created, self.name, 0, 0));
        for tls in self.ingress.spec.tls.iter().flatten() {
            // Without a Secret it is served with what there is for its hosts.
            let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let secret = Name::new(&self.name.namespace, secret);
            if let Err(why) = certificates.check(&secret) {
                self.warn("InvalidCertificate", why);
                continue;
            }
            let hosts = tls.hosts.as_deref().unwrap_or_default();
            if hosts.is_empty() {
                certificates.prefer(&secret, None, &claim);
            }
            for host in hosts {
                match gateway_hosts::check(host, self.settings) {
                    Ok(()) => certificates.prefer(&secret, Some(host), &claim),
                    Err(why) => self.warn("HostRefused", why),
                }
            }
        }
    }

    fn routes(&mut self) {
        let source = self.out.source(self.about.clone());
        let all =
            HTTPIngressPath { path: None, path_type: "Prefix".into(), backend: IngressBackend::default() };
        let spec = &self.ingress.spec;
        let mut count = 0;
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let host = rule.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ANY);
            if let Err(why) = gateway_hosts::check(host, self.settings) {
                self.warn("HostRefused", why);
                continue;
            }
            // A rule without paths sends all requests for its host to the default backend.
            let default = spec
                .default_backend
                .as_ref()
                .map(|backend| HTTPIngressPath { backend: backend.clone(), ..all.clone() });
            let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or(default.as_slice());
            for (position, path) in paths.iter().enumerate() {
                count += 1;
                if count > MAX_ROUTES {
                    return self.warn(
                        "TooManyPaths",
                        format!("has more than {MAX_ROUTES} paths; the rest is not served"),
                    );
                }
                self.route(source, host, path, (index, position));
            }
        }
        if let Some(backend) = &spec.default_backend {
            let index = spec.rules.as_ref().map(Vec::len).unwrap_or_default();
            self.route(source, ANY, &HTTPIngressPath { backend: backend.clone(), ..all }, (index, 0));
        }
    }

    fn route(&mut self, source: usize, host: &str, path: &HTTPIngressPath, (rule, position): (usize, usize)) {
        let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let service = self.backend(&path.backend);
        let route = Route {
            name: format!("ingress/{}/{rule}/{position}/{host}", self.name).into(),
            host: host.into(),
            path: if path.path_type == "Exact" {
                PathMatch::Exact(text.into())
            } else {
                PathMatch::Prefix(text.into())
            },
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            scheme: None,
            rank: rank(self.ingress.meta.created, self.name, rule, position).into(),
            filters: Filters::default(),
            timeouts: RouteTimeouts::default(),
            action: Action::Forward(vec![Backend { service, weight: 1, filters: Filters::default() }]),
        };
        match http_route_rule::check(route) {
            Ok(route) => self.out.routes.push((source, route)),
            Err(problem) => self.warn("PathRefused", problem.message),
        }
    }

    /// The name in the table of a backend; `None`: it can't be had.
    fn backend(&mut self, backend: &IngressBackend) -> Option<Box<str>> {
        match find(self.world, &self.name.namespace, backend) {
            Ok((name, port, service)) => {
                self.out.services.insert((name, port));
                Some(service)
            }
            Err(why) => {
                self.warn("BackendNotFound", format!("{why}; requests for it get 500"));
                None
            }
        }
    }
}

fn find(world: &World, namespace: &str, backend: &IngressBackend) -> Result<(Name, u16, Box<str>), String> {
    let Some(wanted) = &backend.service else {
        return Err("a backend that is no Service is not implemented".into());
    };
    let name = Name::new(namespace, &wanted.name);
    let service = backends::service(world, &name)?;
    let port = wanted.port.as_ref();
    let number = port.and_then(|port| port.number).filter(|number| *number != 0);
    let by_name = port.and_then(|port| port.name.as_deref()).unwrap_or_default();
    let number = match number {
        Some(number) => u16::try_from(number).map_err(|_| format!("`{number}` is no port"))?,
        None => {
            let found = service.ports.iter().find(|port| port.is_tcp && *port.name == *by_name);
            found.ok_or_else(|| format!("the Service `{name}` has no TCP port `{by_name}`"))?.port
        }
    };
    let named = backends::in_table(&name, service, number).map_err(|problem| problem.message)?;
    Ok((name, number, named))
}
