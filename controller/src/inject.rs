//! Injection: a pod that asks for a sidecar is given one when it is made.
//!
//! A pure function of the pod, the cluster and settings; `review` puts it into the words of the API server. It is
//! asked again when others change the pod after us, so a pod that has our container already is left as it is. Whatever
//! stands in the way leaves the pod without a sidecar and says why in a warning: a pod is worth more than a sidecar.
//!
//! Order among init containers. Where the sidecar is an init container that goes on (Kubernetes 1.29), the redirect
//! and then the sidecar come before all others, which find it running: there is no moment in which a call would be
//! redirected to nobody. Where it is a plain container, it starts after all init containers, so the redirect comes as
//! the last of them, and the others call directly; the sidecar is the first of the containers, since kubelet starts
//! them in order.

mod containers;
mod pod;
mod ports;
pub(crate) mod review;
mod services;
pub(crate) mod version;
mod wanted;

use std::path::PathBuf;

use serde_json::{Value, json};
use sidetrack_config::ports::OUTBOUND;

use self::pod::Pod;
use self::wanted::Mode;
use crate::names::{ENV_KEY, ENV_SERVICE, INJECTED};
use crate::world::World;

/// The container that is the sidecar; who has it has been here.
const PROXY: &str = "sidetrack-proxy";
/// The init container that redirects.
const INIT: &str = "sidetrack-init";

/// What injection goes by; the same for every pod.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the sidecar.
    pub image: Box<str>,
    /// The image of `sidetrack init`, which has nft or iptables in it.
    pub init_image: Box<str>,
    /// The controller that sidecars follow, `https://HOST:PORT`.
    pub controller: Box<str>,
    /// The authorities of its certificate, PEM; read anew for every pod.
    pub ca_file: PathBuf,
    /// For whom the sidecar's token is meant.
    pub audience: Box<str>,
    /// `resources` of both containers, as Kubernetes writes them.
    pub resources: Value,
    /// Fields of the configuration of sidecars that no pod says, as `sidetrack sidecar --settings` takes them.
    pub settings: Value,
    /// The namespace of the release, whose pods are never given a sidecar.
    pub namespace: Box<str>,
    /// What stands before a key where people write one.
    pub host_prefix: Box<str>,
    /// The mode of pods that name none: `redirect` or `ports`.
    pub mode: Box<str>,
    /// The pod security level of namespaces that are labelled with none: an admission plugin or a policy engine may have
    /// a default that no label shows.
    pub pod_security: Box<str>,
}

/// A pod and what is known around it.
struct Asked<'a> {
    pod: Pod<'a>,
    namespace: &'a str,
    world: &'a World,
    settings: &'a Settings,
    /// Whether the API server knows init containers that go on.
    native: bool,
    /// PEM.
    ca: &'a str,
}

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It asks for nothing, or has it.
    Leave,
    /// It asks, and can't have it: why, and what to do.
    Refuse(String),
    /// The pod with a sidecar, and what its owner should know.
    Inject(Box<Value>, Vec<String>),
}

/// Who a sidecar is beside.
struct Identity {
    /// The Services that the pod is behind, `NAME.NAMESPACE`, in order; for a fork the one that it is a fork of.
    services: Vec<String>,
    /// The key of a fork.
    key: Option<String>,
}

impl Asked<'_> {
    fn verdict(&self) -> Verdict {
        match wanted::mode(self) {
            Ok(None) => Verdict::Leave,
            Ok(Some(mode)) => self.inject(&mode).unwrap_or_else(Verdict::Refuse),
            Err(why) => Verdict::Refuse(why),
        }
    }

    fn inject(&self, mode: &Mode) -> Result<Verdict, String> {
        let identity = self.identity()?;
        let mut after = self.pod.0.clone();
        let swap = match mode {
            Mode::Redirect(_) => None,
            Mode::Ports => ports::swap(self, &mut after)?,
        };
        if let Some(key) = &identity.key {
            let service = self.fork_of().map_or("", |(_, name)| name);
            pod::env_of_all(&mut after, &[(ENV_KEY, key), (ENV_SERVICE, service)]);
        }
        if *mode == Mode::Ports {
            let outbound = format!("http://127.0.0.1:{OUTBOUND}");
            pod::env_of_all(&mut after, &[("SIDETRACK_OUTBOUND", &outbound)]);
        }
        let (proxy, volumes) =
            (containers::proxy(self, &identity, (mode, swap.as_ref())), containers::volumes(self));
        let init = match mode {
            Mode::Redirect(excluded) => Some(containers::init(self, excluded)),
            Mode::Ports => None,
        };
        let said = json!([proxy, init, volumes]).to_string();
        volumes.into_iter().for_each(|volume| pod::push(&mut after, "/spec/volumes", volume));
        self.place(&mut after, proxy, init);
        let hash = format!("{:016x}", sidetrack_config::stream::item_hash("inject", &said));
        pod::annotate(&mut after, INJECTED, &hash);
        pod::annotate(&mut after, containers::CA_ANNOTATION, self.ca);
        Ok(Verdict::Inject(Box::new(after), self.warnings(mode)))
    }

    /// Puts the containers in their order; see the text of this module.
    fn place(&self, pod: &mut Value, proxy: Value, init: Option<Value>) {
        if self.native {
            let first = init.into_iter().chain([proxy]).collect();
            return pod::put_first(pod, "/spec/initContainers", first);
        }
        if let Some(name) = self.pod.containers().next().and_then(pod::name) {
            // What `kubectl logs` shows is the app's, as before.
            pod::annotate_if_absent(pod, "kubectl.kubernetes.io/default-container", name);
        }
        pod::put_first(pod, "/spec/containers", vec![proxy]);
        if let Some(init) = init {
            pod::push(pod, "/spec/initContainers", init);
        }
    }

    fn identity(&self) -> Result<Identity, String> {
        let key = self.pod.label(crate::names::PR).map(|text| {
            let key = sidetrack_config::Key::parse(text, &self.settings.host_prefix);
            key.map(|key| key.as_str().to_owned())
                .map_err(|error| format!("label {}: {error}", crate::names::PR))
        });
        let key = key.transpose()?;
        let services = match self.fork_of() {
            Some((namespace, name)) => vec![format!("{name}.{namespace}")],
            None => services::selecting(self)
                .keys()
                .map(|name| format!("{}.{}", name.name, name.namespace))
                .collect(),
        };
        Ok(Identity { services, key })
    }

    /// Namespace and name of the Service that the pod is a fork of.
    fn fork_of(&self) -> Option<(&str, &str)> {
        self.pod.label(crate::names::PR)?;
        let name = self.pod.label(crate::names::FORK_OF)?;
        Some((self.pod.label(crate::names::FORK_OF_NAMESPACE).unwrap_or(self.namespace), name))
    }

    fn warnings(&self, mode: &Mode) -> Vec<String> {
        let mut warnings = Vec::new();
        if matches!(mode, Mode::Redirect(_)) && self.pod.runs_as(containers::USER) {
            warnings.push(format!(
                "a container runs as user {}, which is the sidecar's: its calls are not redirected",
                containers::USER
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
