//! HTTPRoutes: which listeners they attach to, and what is said about it to each parent.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sidetrack_config::stream::{Route, Scheme};

use super::super::{Settings, StatusWrite};
use super::gateway::{Gateway, Gateways};
use super::gateway_conditions::{API_VERSION, Problem, Stamp, object, with, write};
use super::gateway_hosts::{self, ANY};
use super::gateway_listener::{GROUP, Listener};
use super::http_route_backends::Backends;
use super::http_route_match::unsupported;
use super::http_route_rule::{self as rule, Compiled};
use super::http_route_status::{Refused, conditions, has_entry, parents, refused};
use super::{Collected, rank};
use crate::gateway_api::ParentRef;
use crate::world::{self, Name, World};

/// The most hosts that one HTTPRoute is served for. With its 128 matches it is the bound on its part of the table.
const MAX_HOSTS: usize = 64;

/// The most matches of one HTTPRoute, as the Gateway API has it.
const MAX_MATCHES: usize = 128;

/// On which listeners a host is served.
#[derive(Clone, Copy, Debug, Default)]
struct Schemes {
    http: bool,
    https: bool,
}

impl Schemes {
    fn add(&mut self, scheme: Option<Scheme>) {
        self.http |= scheme == Some(Scheme::Http);
        self.https |= scheme == Some(Scheme::Https);
    }

    fn one(self) -> Option<Scheme> {
        match self {
            Self { http: true, https: true } => None,
            Self { https: true, .. } => Some(Scheme::Https),
            Self { .. } => Some(Scheme::Http),
        }
    }
}

/// Attaches all HTTPRoutes, counting them at their listeners.
pub(super) fn attach(
    world: &World,
    settings: &Settings,
    now: Timestamp,
    gateways: &mut Gateways<'_>,
    out: &mut Collected,
) -> Vec<StatusWrite> {
    let routes = world.http_routes.iter().filter(|(_, route)| !route.meta.deleting);
    routes
        .filter_map(|(name, route)| {
            let attaching = Attaching { world, settings, name, route, hosts: BTreeMap::new() };
            attaching.run(now, gateways, out)
        })
        .collect()
}

/// One HTTPRoute on its way to its parents.
struct Attaching<'a> {
    world: &'a World,
    settings: &'a Settings,
    name: &'a Name,
    route: &'a world::HttpRoute,
    /// What it is served for.
    hosts: BTreeMap<Box<str>, Schemes>,
}

impl Attaching<'_> {
    fn run(
        mut self,
        now: Timestamp,
        gateways: &mut Gateways<'_>,
        out: &mut Collected,
    ) -> Option<StatusWrite> {
        let is_ours = |parent: &&ParentRef| gateways.contains_key(&gateway_name(parent, self.name));
        let ours: Vec<&ParentRef> = self.route.spec.parent_refs.iter().filter(is_ours).collect();
        let old = &self.route.status;
        if ours.is_empty() && !has_entry(old) {
            return None;
        }
        let mut backends = Backends::default();
        let rules = self.compile(&mut backends);
        let refused = refused(&rules);
        let mut said = Vec::new();
        for parent in ours {
            let Some(gateway) = gateways.get_mut(&gateway_name(parent, self.name)) else { continue };
            let result = self.attach(parent, gateway, matches!(refused, Some(Refused::Whole(_))), out);
            said.push((parent, conditions(result.err(), refused.as_ref(), backends.unresolved.as_ref())));
        }
        let stamp = Stamp { generation: self.route.meta.generation, now };
        let parents = parents(&old["parents"], &said, &self.name.namespace, stamp);
        let about = || object(API_VERSION, "HTTPRoute", self.name, &self.route.meta);
        let written = write(about, "httproutes", old, with(old, [("parents", parents)]));
        self.emit(rules, backends, out);
        written
    }

    fn compile(&self, backends: &mut Backends) -> Vec<Compiled> {
        let rules = &self.route.spec.rules;
        let matches: usize = rules.iter().map(|rule| rule.matches.len().max(1)).sum();
        if matches > MAX_MATCHES {
            let message = format!("has {matches} matches; at most {MAX_MATCHES} can be served");
            return vec![Compiled { routes: Vec::new(), refused: Some(unsupported(message)) }];
        }
        rules.iter().map(|rule| rule::compile(self.world, &self.name.namespace, rule, backends)).collect()
    }

    /// Attaches the route to the listeners of one parent; `whole`: nothing of it is served, so it does not count.
    fn attach(
        &mut self,
        parent: &ParentRef,
        gateway: &mut Gateway<'_>,
        whole: bool,
        out: &mut Collected,
    ) -> Result<(), Problem> {
        let refused = gateway.refused.is_some();
        let mut allowed = self.allowed(parent, gateway)?;
        let mut problem = None;
        let mut is_attached = false;
        for listener in &mut allowed {
            let (hosts, bad) = self.effective(listener);
            problem = problem.or(bad);
            if hosts.is_empty() {
                continue;
            }
            is_attached = true;
            listener.attached += usize::from(!whole);
            if !refused && listener.is_served() {
                problem = problem.or(self.serve(hosts, listener.scheme).err());
            }
        }
        match problem {
            Some(problem) if !is_attached => Err(problem),
            Some(problem) => {
                out.warn(
                    object(API_VERSION, "HTTPRoute", self.name, &self.route.meta),
                    "HostRefused",
                    problem.message,
                );
                Ok(())
            }
            None if is_attached => Ok(()),
            None => {
                let message = "no listener that takes the route is for one of its hostnames";
                Err(Problem::new("NoMatchingListenerHostname", message))
            }
        }
    }

    /// The listeners that a parent reference names and that take the route.
    fn allowed<'g, 'a>(
        &self,
        parent: &ParentRef,
        gateway: &'g mut Gateway<'a>,
    ) -> Result<Vec<&'g mut Listener<'a>>, Problem> {
        let own = gateway_name(parent, self.name).namespace;
        let is_named = |listener: &&mut Listener<'_>| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.spec.name)
                && parent.port.is_none_or(|port| port == listener.spec.port)
        };
        let mut named = gateway.listeners.iter_mut().filter(is_named).peekable();
        if named.peek().is_none() {
            let message =
                format!("Gateway `{own}/{}` has no listener as the reference names one", parent.name);
            return Err(Problem::new("NoMatchingParent", message));
        }
        let takes = |listener: &&mut Listener<'_>| {
            listener.takes_http_routes && listener.takes_from(self.world, &own, &self.name.namespace)
        };
        let allowed: Vec<_> = named.filter(takes).collect();
        if allowed.is_empty() {
            let message = format!(
                "no listener that the reference names takes HTTPRoutes of namespace `{}`; \
                 its `allowedRoutes` say which",
                self.name.namespace
            );
            return Err(Problem::new("NotAllowedByListeners", message));
        }
        Ok(allowed)
    }

    /// The hosts that route and listener have in common, and why one of them can't be had.
    fn effective(&self, listener: &Listener<'_>) -> (BTreeSet<Box<str>>, Option<Problem>) {
        let any = [ANY.to_owned()];
        let wanted = &self.route.spec.hostnames;
        let wanted = if wanted.is_empty() { &any } else { wanted.as_slice() };
        let mut problem = None;
        let common = wanted.iter().filter_map(|host| gateway_hosts::intersect(listener.host(), host));
        let hosts = common
            .filter(|host| match gateway_hosts::check(host, self.settings) {
                Ok(()) => true,
                Err(message) => {
                    problem.get_or_insert(unsupported(message));
                    false
                }
            })
            .map(Box::from)
            .collect();
        (hosts, problem)
    }

    fn serve(&mut self, hosts: BTreeSet<Box<str>>, scheme: Option<Scheme>) -> Result<(), Problem> {
        for host in hosts {
            if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host) {
                return Err(unsupported(format!(
                    "more than {MAX_HOSTS} hosts can't be served; `{host}` is not"
                )));
            }
            self.hosts.entry(host).or_default().add(scheme);
        }
        Ok(())
    }

    /// The routes of the table: one for each rule, match and host.
    fn emit(self, rules: Vec<Compiled>, backends: Backends, out: &mut Collected) {
        if self.hosts.is_empty() {
            return;
        }
        out.services.extend(backends.services);
        let source = out.source(object(API_VERSION, "HTTPRoute", self.name, &self.route.meta));
        for (rule, compiled) in rules.into_iter().enumerate() {
            for (position, draft) in compiled.routes {
                let rank: Box<str> = rank(self.route.meta.created, self.name, rule, position).into();
                for (host, schemes) in &self.hosts {
                    out.routes.push((
                        source,
                        Route {
                            name: format!("{}/{rule}/{position}/{host}", self.name).into(),
                            host: host.clone(),
                            scheme: schemes.one(),
                            rank: rank.clone(),
                            ..draft.clone()
                        },
                    ));
                }
            }
        }
    }
}

/// The Gateway that a reference names; where it names something else, a name that no Gateway has.
fn gateway_name(parent: &ParentRef, route: &Name) -> Name {
    let is_gateway = parent.group.as_deref().is_none_or(|group| group == GROUP)
        && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway");
    match is_gateway {
        true => Name::new(parent.namespace.as_deref().unwrap_or(&route.namespace), &parent.name),
        false => Name::default(),
    }
}
