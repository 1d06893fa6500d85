//! Backends of rules: which Service and port they name, and whether they may.

use std::collections::BTreeSet;

use super::super::services;
use super::gateway_conditions::Problem;
use super::gateway_listener::GROUP;
use super::grants::{self, From};
use crate::gateway_api::BackendRef;
use crate::world::{self, Name, World};

/// What backends come to, gathered over all rules of an object.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// The Services and ports that were found.
    pub(super) services: BTreeSet<(Name, u16)>,
    /// What is wrong with the first that was not.
    pub(super) unresolved: Option<Problem>,
}

impl Backends {
    /// The name in the table of what an HTTPRoute in `namespace` names; `None`: it can't be had.
    pub(super) fn find(&mut self, world: &World, namespace: &str, backend: &BackendRef) -> Option<Box<str>> {
        match find(world, namespace, backend) {
            Ok((name, port, service)) => {
                self.services.insert((name, port));
                Some(service)
            }
            Err(problem) => {
                self.unresolved.get_or_insert(problem);
                None
            }
        }
    }
}

fn find(world: &World, namespace: &str, backend: &BackendRef) -> Result<(Name, u16, Box<str>), Problem> {
    let (group, kind) =
        (backend.group.as_deref().unwrap_or_default(), backend.kind.as_deref().unwrap_or("Service"));
    if !group.is_empty() || kind != "Service" {
        let message =
            format!("a backend of kind `{kind}` in group `{group}` is not implemented; name a Service");
        return Err(Problem::new("InvalidKind", message));
    }
    let name = Name::new(backend.namespace.as_deref().unwrap_or(namespace), &backend.name);
    let from = From { group: GROUP, kind: "HTTPRoute", namespace };
    if !grants::allow(world, from, "Service", &name) {
        let message = format!(
            "no ReferenceGrant in namespace `{}` lets HTTPRoutes of namespace `{namespace}` use the Service `{}`",
            name.namespace, name.name
        );
        return Err(Problem::new("RefNotPermitted", message));
    }
    let not_found = |message: String| Problem::new("BackendNotFound", message);
    let port = backend
        .port
        .ok_or_else(|| not_found(format!("the reference to Service `{name}` has no `port`; write one")))?;
    let service = service(world, &name).map_err(not_found)?;
    let named = in_table(&name, service, port)?;
    Ok((name, port, named))
}

/// A Service that has endpoints of its own.
pub(super) fn service<'a>(world: &'a World, name: &Name) -> Result<&'a world::Service, String> {
    let service = world.services.get(name).ok_or_else(|| format!("there is no Service `{name}`"))?;
    if service.external {
        // Its name may be any address that the gateways reach and the author of the route does not.
        return Err(format!("the Service `{name}` is an ExternalName, which is not routed to"));
    }
    Ok(service)
}

/// The name in the table of a Service's port.
pub(super) fn in_table(name: &Name, service: &world::Service, port: u16) -> Result<Box<str>, Problem> {
    let port_of_table = services::ports(name, service).into_iter().find(|one| one.port.port == port);
    let Some(found) = port_of_table else {
        return Err(Problem::new("BackendNotFound", format!("the Service `{name}` has no TCP port {port}")));
    };
    match found.protocol {
        Some(_) => Ok(found.name),
        None => {
            let message =
                format!("port {port} of the Service `{name}` has an `appProtocol` that we don't speak");
            Err(Problem::new("UnsupportedProtocol", message))
        }
    }
}
