//! Namespaces, Services, EndpointSlices, Pods, Secrets and Ingresses.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{labels, meta};
use crate::world::{
    Ingress, Namespace, Pod, Service, ServicePort, Slice, SliceEndpoint, TargetPort, TlsSecret,
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
    Some(Service {
        meta: meta(&object.metadata),
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        selector: labels(spec.selector.as_ref()),
        external: spec.type_.as_deref() == Some("ExternalName"),
    })
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
