//! Where the proxy listens, and with which certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use super::report::Report;
use super::{Owner, files, grammar, services};
use crate::Key;
use crate::document::{self, Direction, Document};
use crate::model::{
    Admin, Carriers, CertificateFiles, Listener, Place, Role, Service, Spoken, Tls, Workload,
};
use crate::source_map::At;

/// Where the admin listener is if nothing is written.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

pub(super) fn listeners(
    written: &[document::Listener],
    owner: Owner,
    role: Role,
    report: &mut Report<'_>,
) -> Vec<Listener> {
    let root = At::ROOT;
    let at = root.key("listeners");
    if written.is_empty() && (owner, role) != (Owner::Controller, Role::Waypoint) {
        report.problem(&at, "there is no listener", "at least one, such as `- address: 127.0.0.1:8080`");
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let at = at.index(index);
        let listener = listener(written, owner, &at, report);
        if listeners.iter().any(|other| collide(other.address, listener.address)) {
            let message = format!("another listener already has {}", listener.address);
            report.problem(&at.key("address"), message, "each address once");
        }
        listeners.push(listener);
    }
    listeners
}

/// Port 0 is another port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0 && one == other
}

/// A listener whose address cannot be read keeps its place in the list, with an address that collides with
/// nothing: the problem is told already.
fn listener(written: &document::Listener, owner: Owner, at: &At<'_>, report: &mut Report<'_>) -> Listener {
    let address = written.address.as_ref();
    let address = address.and_then(|text| report.read(&at.key("address"), text, grammar::address));
    let tls = written.tls.as_ref().and_then(|written| tls(written, owner, &at.key("tls"), report));
    let proxy_protocol = written.proxy_protocol.as_ref().map(|written| {
        let at = at.key("proxyProtocol");
        let trusted = written.trusted.as_deref().unwrap_or_default();
        if trusted.is_empty() {
            let allowed = "at least one network; leave `proxyProtocol` out if nobody speaks it";
            report.problem(&at.key("trusted"), "names nobody", allowed);
        }
        report.read_all(&at.key("trusted"), trusted, grammar::network)
    });
    Listener {
        tls,
        proxy_protocol: proxy_protocol.unwrap_or_default(),
        trusted_proxies: report.read_all(
            &at.key("trustedProxies"),
            &written.trusted_proxies,
            grammar::network,
        ),
        redirected: written.redirected == Some(true),
        spoken: match written.protocol {
            None | Some(document::Spoken::Http) => Spoken::Http,
            Some(document::Spoken::Tcp) => Spoken::Tcp,
            Some(document::Spoken::Detect) => Spoken::Detect,
        },
        ..Listener::plain(address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }
}

/// Who knows the services: the file, or the controller.
type Known<'a> = (Owner, &'a [Service]);

/// What decides about the service of a request, for each listener; known once the services and the role are.
pub(super) fn places(
    document: &Document,
    listeners: &mut [Listener],
    role: Role,
    known: Known<'_>,
    report: &mut Report<'_>,
) {
    let root = At::ROOT;
    let at = root.key("listeners");
    let all = document.listeners.as_deref().unwrap_or_default();
    for (index, (written, listener)) in all.iter().zip(listeners).enumerate() {
        listener.place = place(written, listener, role, known, &at.index(index), report);
    }
}

fn place(
    written: &document::Listener,
    listener: &Listener,
    role: Role,
    known: Known<'_>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Place {
    let service = written.service.as_deref().map(|name| named(name, known, &at.key("service"), report));
    let place = match (role, written.direction) {
        (Role::Sidecar, Some(Direction::Inbound)) => {
            if service.is_some() {
                let message = "an inbound listener is for the workload's own service";
                report.problem(&at.key("service"), message, "`sidecar.service` alone");
            }
            Place::Inbound
        }
        (Role::Sidecar, Some(Direction::Outbound)) => {
            if service.is_none() && !listener.redirected && listener.spoken == Spoken::Tcp {
                let message = "nothing says where bytes are meant to go";
                report.problem(at, message, "`service`, or `redirected: true`");
            }
            Place::Outbound(service)
        }
        (Role::Sidecar, None) => {
            report.problem(
                at,
                "of a sidecar says no direction",
                "`direction: inbound` or `direction: outbound`",
            );
            Place::Inbound
        }
        (Role::Gateway | Role::Waypoint, direction) => {
            if direction.is_some() {
                let message = "is for sidecars, and this is none";
                report.problem_at_key(&at.key("direction"), message, "`direction` beside `role: sidecar`");
            }
            if listener.spoken != Spoken::Http && service.is_none() {
                let message = "bytes have no host and no path to route by";
                report.problem(&at.key("protocol"), message, "`service` beside it");
            }
            service.map_or(Place::Edge, Place::Service)
        }
    };
    if listener.redirected && role != Role::Sidecar {
        let message = "is for sidecars, and this is none";
        report.problem_at_key(&at.key("redirected"), message, "`redirected` beside `role: sidecar`");
    }
    if listener.spoken != Spoken::Http {
        for (is_there, name) in
            [(listener.tls.is_some(), "tls"), (written.proxy_protocol.is_some(), "proxyProtocol")]
        {
            if is_there {
                let message = format!("has `{name}`, which ends for HTTP only");
                report.problem_at_key(&at.key("protocol"), message, "one of the two");
            }
        }
    }
    place
}

/// A service that must be there, where it is the file that says which there are.
fn named(name: &str, (owner, known): Known<'_>, at: &At<'_>, report: &mut Report<'_>) -> Box<str> {
    if owner == Owner::File
        && let Err((message, allowed)) = services::find(known, name)
    {
        report.problem(at, message, allowed);
    }
    name.into()
}

/// The workload that a sidecar belongs to.
pub(super) fn workload(
    document: &Document,
    role: Role,
    known: Known<'_>,
    carriers: &Carriers,
    report: &mut Report<'_>,
) -> Option<Workload> {
    let root = At::ROOT;
    let at = root.key("sidecar");
    match (&document.sidecar, role) {
        (None, Role::Sidecar) => {
            report.problem(&at, "says nothing of the workload", "`sidecar: {service: NAME}`");
            None
        }
        (Some(_), Role::Gateway | Role::Waypoint) => {
            let message = "is for sidecars, and this is none";
            report.problem_at_key(&at, message, "`sidecar` beside `role: sidecar`");
            None
        }
        (None, _) => None,
        (Some(written), Role::Sidecar) => {
            let read = |text: &str| Key::parse(text, carriers.prefix()).map_err(|error| error.to_string());
            let key = written.key.as_ref().and_then(|text| report.read(&at.key("key"), text, read));
            let names = written.service.as_deref()?.split(',').map(str::trim);
            let services = names.map(|name| named(name, known, &at.key("service"), report)).collect();
            Some(Workload { services, key, app: written.app.and_then(NonZeroU16::new) })
        }
    }
}

fn tls(written: &document::Tls, owner: Owner, at: &At<'_>, report: &mut Report<'_>) -> Option<Tls> {
    match (&written.certificates, &written.self_signed) {
        (Some(files), None) => certificates(files, &at.key("certificates"), report),
        (None, Some(written)) => self_signed(written, &at.key("selfSigned"), report),
        (Some(_), Some(_)) => {
            report.problem(at, "has both `certificates` and `selfSigned`", "one of the two");
            None
        }
        (None, None) if owner == Owner::Controller => Some(Tls::Controller),
        (None, None) => {
            report.problem(at, "says nothing about certificates", "`certificates` or `selfSigned`");
            None
        }
    }
}

fn certificates(written: &[document::Certificate], at: &At<'_>, report: &mut Report<'_>) -> Option<Tls> {
    if written.is_empty() {
        report.problem(at, "names no certificate", "at least one `{certFile: ..., keyFile: ...}`");
    }
    let mut all = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let at = at.index(index);
        let cert_file = files::file(written.cert_file.as_ref(), &at.key("certFile"), report);
        let key_file = files::file(written.key_file.as_ref(), &at.key("keyFile"), report);
        all.extend(
            cert_file.zip(key_file).map(|(cert_file, key_file)| CertificateFiles { cert_file, key_file }),
        );
    }
    Some(Tls::Files(all))
}

fn self_signed(written: &document::SelfSigned, at: &At<'_>, report: &mut Report<'_>) -> Option<Tls> {
    let at = at.key("names");
    let names = written.names.as_deref().unwrap_or_default();
    if names.is_empty() {
        report.problem(&at, "is empty", "at least one name, such as `\"*.preview.localhost\"`");
    }
    Some(Tls::SelfSigned { names: report.read_all(&at, names, grammar::certificate_name) })
}

pub(super) fn admin(
    written: Option<&document::Admin>,
    listeners: &[Listener],
    report: &mut Report<'_>,
) -> Admin {
    let root = At::ROOT;
    let at = root.key("admin");
    let text = written.and_then(|written| written.address.as_ref());
    let address = match text {
        Some(text) => report.read(&at.key("address"), text, grammar::address),
        None => Some(ADMIN),
    };
    let address = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    if let Some(index) = listeners.iter().position(|listener| collide(listener.address, address)) {
        let message = format!("{address} is the address of `listeners[{index}]` and of `admin`");
        report.problem(&at.key("address"), message, "an address of its own for each");
    }
    let token = written.and_then(|written| written.token_file.as_ref());
    Admin { address, token: files::secret(token, &at.key("tokenFile"), report) }
}
