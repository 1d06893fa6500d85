//! Namespaces, Services, EndpointSlices, Pods, Secrets and Ingresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{labels, meta};
use crate::interposed::{Front, Unfit, see_through};
use crate::world::{
    Ingress, Namespace, Pod, Service, ServicePort, Slice, SliceEndpoint, TargetPort, TlsSecret, WaypointPod,
};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The annotation that named the class of an Ingress before `ingressClassName`.
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
/// The most bytes of a certificate chain or key; the API server allows 1 MiB for the whole Secret.
const MAX_PEM: usize = 256 << 10;

/// A namespace.
pub fn namespace(object: core::Namespace) -> Option<Namespace> {
    Some(Namespace { meta: meta(&object.metadata) })
}

/// A Service.
pub fn service(object: core::Service) -> Option<Service> {
    let spec = object.spec?;
    let mut service = Service {
        meta: meta(&object.metadata),
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        selector: labels(spec.selector.as_ref()),
        external: spec.type_.as_deref() == Some("ExternalName"),
        addresses: addresses(&spec),
        family_policy: spec.ip_family_policy.as_deref().map(Into::into),
        families: spec.ip_families.iter().flatten().map(|family| family.as_str().into()).collect(),
        targets_unsaid: targets_unsaid(object.metadata.managed_fields.as_deref().unwrap_or_default()),
        unfit: unfit(&spec),
        front: Front::default(),
    };
    see_through(&mut service);
    Some(service)
}

fn addresses(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    // The list is younger than the field, and holds it where both are there.
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<IpAddr> = listed.filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn unfit(spec: &core::ServiceSpec) -> Option<Unfit> {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    if is(&spec.type_, "ExternalName") {
        return Some(Unfit::ExternalName);
    }
    if is(&spec.cluster_ip, "None") {
        return Some(Unfit::Headless);
    }
    if is(&spec.session_affinity, "ClientIP") {
        return Some(Unfit::SessionAffinity);
    }
    if is(&spec.internal_traffic_policy, "Local") || is(&spec.external_traffic_policy, "Local") {
        return Some(Unfit::NodeLocal);
    }
    if spec.publish_not_ready_addresses == Some(true) {
        return Some(Unfit::NotReadyAddresses);
    }
    let is_exposed = is(&spec.type_, "LoadBalancer")
        || is(&spec.type_, "NodePort")
        || spec.external_ips.as_ref().is_some_and(|addresses| !addresses.is_empty());
    is_exposed.then_some(Unfit::Exposed)
}

/// Whether somebody applies a Service server-side with a port of which nobody says `targetPort`: what is applied again
/// leaves that as it is.
fn targets_unsaid(managers: &[ManagedFieldsEntry]) -> bool {
    let ports = |manager: &ManagedFieldsEntry| {
        let fields = manager.fields_v1.as_ref().and_then(|fields| fields.0.pointer("/f:spec/f:ports"));
        fields
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(port, said)| (port.clone(), said.get("f:targetPort").is_some()))
            .filter(|(port, _)| port.starts_with("k:"))
            .collect::<Vec<_>>()
    };
    let said: BTreeSet<String> =
        managers.iter().flat_map(ports).filter(|(_, said)| *said).map(|(port, _)| port).collect();
    let mut applied =
        managers.iter().filter(|manager| manager.operation.as_deref() == Some("Apply")).flat_map(ports);
    applied.any(|(port, _)| !said.contains(&port))
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok()?;
    let target = match &port.target_port {
        Some(IntOrString::Int(target)) => TargetPort::Number(u16::try_from(*target).ok()?),
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
        None => TargetPort::Number(number),
    };
    Some(ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        port: number,
        target,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
        is_tcp: is_tcp(port.protocol.as_deref()),
        turned: None,
    })
}

/// Whether a port is TCP, which is what it is where it does not say.
fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// An EndpointSlice; `None` for one of names, or of no Service.
pub fn slice(object: discovery::EndpointSlice) -> Option<Slice> {
    let service = object.metadata.labels.as_ref()?.get(SERVICE_NAME)?.as_str().into();
    if object.address_type == "FQDN" {
        return None;
    }
    let ports = object.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let ports = ports.filter_map(|port| {
        Some((port.name.as_deref().unwrap_or_default().into(), u16::try_from(port.port?).ok()?))
    });
    Some(Slice {
        meta: meta(&object.metadata),
        service,
        ports: ports.collect(),
        endpoints: object.endpoints.iter().filter_map(endpoint).collect(),
    })
}

fn endpoint(endpoint: &discovery::Endpoint) -> Option<SliceEndpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|all| all.ready).unwrap_or(true);
    // A Service with `publishNotReadyAddresses` calls a pod ready that is on its way out.
    let terminating = conditions.and_then(|all| all.terminating).unwrap_or(false);
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(SliceEndpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        ready: ready && !terminating,
        pod: pod.and_then(|target| target.name.as_deref()).map(Into::into),
    })
}

/// A pod.
pub fn pod(object: core::Pod) -> Option<Pod> {
    let meta = meta(&object.metadata);
    let status = object.status.unwrap_or_default();
    let is_ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let ports =
        object.spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.ports.iter().flatten());
    let ports = ports.filter(|port| is_tcp(port.protocol.as_deref())).filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.as_deref().unwrap_or_default().into(), number))
    });
    // What has ended keeps its address in its status, though another pod may have it by now.
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    Some(Pod {
        ip: status.pod_ip.as_deref().filter(|_| !has_ended).and_then(|ip| ip.parse().ok()),
        ready: is_ready && !meta.deleting,
        ports: ports.collect(),
        meta,
    })
}

/// A pod of a waypoint.
pub fn waypoint(object: core::Pod) -> Option<WaypointPod> {
    let Pod { meta, ip, ready, .. } = pod(object)?;
    Some(WaypointPod { meta, ip, ready })
}

/// A Secret with a certificate; `None` where one of its halves is missing, is no text or is far too large.
pub fn secret(object: core::Secret) -> Option<TlsSecret> {
    let data = object.data.as_ref()?;
    let text = |name: &str| {
        let bytes = data.get(name).filter(|bytes| bytes.0.len() <= MAX_PEM)?;
        std::str::from_utf8(&bytes.0).ok().map(Into::into)
    };
    Some(TlsSecret { meta: meta(&object.metadata), chain: text("tls.crt")?, key: text("tls.key")? })
}

/// An Ingress.
pub fn ingress(object: networking::Ingress) -> Option<Ingress> {
    let spec = object.spec?;
    let old = object.metadata.annotations.as_ref().and_then(|all| all.get(OLD_INGRESS_CLASS));
    let class = spec.ingress_class_name.as_ref().or(old).map(|class| class.as_str().into());
    let status = object.status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_default();
    Some(Ingress { meta: meta(&object.metadata), class, spec, status })
}
