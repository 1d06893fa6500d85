//! Without privilege: the sidecar listens where the pod's Service sends to, and the app somewhere else.
//!
//! A Service that sends to a *name* is told another number by the pod: the container's port of that name becomes the
//! sidecar's, the app listens where it always did. It stays among the app's ports, since Services find no names on init
//! containers before Kubernetes 1.32. A Service that sends to a *number* leaves the sidecar no choice but to listen
//! there, so the app must go: the annotation `sidetrack.dev/app-port` says where to, and the variable `PORT` tells the
//! app. Probes ask the app itself. One port is all that can be told apart: nothing says what a connection was meant for.

use serde_json::{Value, json};
use sidetrack_config::ports::INBOUND;

use super::pod::{name, set_env};
use super::{Asked, services, wanted};
use crate::names::APP_PORT;
use crate::world::{Name, Service, TargetPort};

/// The first port that needs no privilege.
const UNPRIVILEGED: u16 = 1024;
/// Where a container names a port to be called by kubelet.
const CALLS: [&str; 9] = [
    "/livenessProbe/httpGet",
    "/livenessProbe/tcpSocket",
    "/livenessProbe/grpc",
    "/readinessProbe/httpGet",
    "/readinessProbe/tcpSocket",
    "/readinessProbe/grpc",
    "/startupProbe/httpGet",
    "/startupProbe/tcpSocket",
    "/startupProbe/grpc",
];

/// Who listens where.
#[derive(Debug, PartialEq)]
pub(super) struct Swap {
    /// The sidecar.
    pub(super) listen: u16,
    /// The app.
    pub(super) app: u16,
}

/// Lets the sidecar have the port that the pod's Service sends to; `None` where no Service does.
pub(super) fn swap(asked: &Asked<'_>, pod: &mut Value) -> Result<Option<Swap>, String> {
    let mut targets = targets(asked).into_iter();
    let Some(target) = targets.next() else { return Ok(None) };
    if targets.next().is_some() {
        return Err("its Services send to more than one port, and mode ports can serve one only".to_owned());
    }
    let app = asked.pod.annotation(APP_PORT).map(|text| wanted::port(APP_PORT, text)).transpose()?;
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    let containers = containers.ok_or_else(|| "the pod has no containers".to_owned())?;
    match target {
        TargetPort::Name(port) => by_name(containers, &port, app),
        TargetPort::Number(port) => by_number(containers, port, app),
    }
    .map(Some)
}

/// The ports that Services send to this pod at, by name or number.
fn targets(asked: &Asked<'_>) -> Vec<TargetPort> {
    let own: Vec<&Service> = match asked.fork_of() {
        // The gateway sends to a fork where its Service would.
        Some((namespace, service)) => asked
            .world
            .services
            .get(&Name::new(namespace, service))
            .map(|found| &**found)
            .into_iter()
            .collect(),
        None => services::selecting(asked).into_values().collect(),
    };
    let mut found: Vec<TargetPort> = Vec::new();
    for port in own.into_iter().flat_map(|service| &service.ports).filter(|port| port.is_tcp) {
        if !found.contains(&port.target) {
            found.push(port.target.clone());
        }
    }
    found
}

fn by_name(containers: &mut [Value], wanted: &str, app: Option<u16>) -> Result<Swap, String> {
    for container in containers {
        let Some(port) = ports(container).find(|port| name(port) == Some(wanted)) else { continue };
        let declared = number(port).ok_or_else(|| format!("the port {wanted} has no number"))?;
        let swap = Swap { listen: INBOUND, app: app.unwrap_or(declared) };
        probe_app(container, &[json!(wanted), json!(declared)], swap.app);
        if swap.app != declared {
            tell(container, swap.app)?;
        }
        let ports = container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
        for port in ports.filter(|port| name(port) == Some(wanted)) {
            if let Some(port) = port.as_object_mut() {
                port.insert("containerPort".to_owned(), json!(swap.listen));
            }
        }
        return Ok(swap);
    }
    Err(format!("its Service sends to the port {wanted:?}, and no container has one of that name"))
}

fn by_number(containers: &mut [Value], wanted: u16, app: Option<u16>) -> Result<Swap, String> {
    let Some(app) = app.filter(|app| *app != wanted) else {
        return Err(format!(
            "its Service sends to the number {wanted}, where the sidecar must listen then: let the app listen elsewhere and \
             annotate the pod `{APP_PORT}: \"NUMBER\"`, or let the Service send to a port's name"
        ));
    };
    if wanted < UNPRIVILEGED {
        return Err(format!("its Service sends to {wanted}, where a sidecar without privilege can't listen"));
    }
    let alone = containers.len() == 1;
    let declares = |container: &&mut Value| ports(container).any(|port| number(port) == Some(wanted));
    let Some(container) = containers.iter_mut().find(|container| alone || declares(container)) else {
        return Err(format!(
            "no container says that it listens at {wanted}, so that none can be told to go elsewhere"
        ));
    };
    let named = ports(container)
        .filter(|port| number(port) == Some(wanted))
        .filter_map(|port| port.get("name").cloned());
    let meant: Vec<Value> = named.chain([json!(wanted)]).collect();
    probe_app(container, &meant, app);
    tell(container, app)?;
    Ok(Swap { listen: wanted, app })
}

fn tell(container: &mut Value, app: u16) -> Result<(), String> {
    match set_env(container, "PORT", &app.to_string()) {
        true => Ok(()),
        false => {
            Err("a container takes its variable PORT from somewhere else, and can't be told another"
                .to_owned())
        }
    }
}

/// Lets kubelet's calls of one of these ports go to the app's.
fn probe_app(container: &mut Value, meant: &[Value], app: u16) {
    let hooks = ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"];
    for place in CALLS.iter().chain(&hooks) {
        if let Some(port) = container.pointer_mut(place).and_then(|call| call.get_mut("port"))
            && meant.contains(port)
        {
            *port = json!(app);
        }
    }
}

fn ports(container: &Value) -> impl Iterator<Item = &Value> {
    let all = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    all.filter(|port| port.get("protocol").is_none_or(|protocol| protocol == "TCP"))
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port.get("containerPort")?.as_u64()?).ok()
}
