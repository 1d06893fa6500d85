//! The one thing that is imitated: a node. What it runs for a pod is a scripted upstream that calls itself as the image
//! of the pod's first container and listens on the pod's address and that container's first port. A sidecar does not
//! count: it is not run. Where all images of a pod are programs of ours, the pod is the real one ([`Pod`]).
//!
//! A pod is ready at once, unless its annotation `test/starts` says `unready`; a test that patches its status later is
//! not contradicted. Pods of the chart are left pending: the tests start those processes by themselves. Waypoints, which
//! the controller makes, are the real ones.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sidetrack_tests::{Upstream, Wire};

use crate::api::Kube;
use crate::net::Net;
use crate::pod::{Pod, is_real};
use crate::sandbox;
use crate::waypoint::{Waypoint, is_waypoint};

const NODE: &str = "node";
/// How long the API server may take to say which pods there are, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node that runs every pod. It ends with its value.
pub(crate) struct Kubelet {
    stop: Arc<AtomicBool>,
    /// Whether what ran is to say what it said.
    tell: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.tell.store(thread::panicking(), Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, its message is out, and the tests that needed it have failed.
            let _ = thread.join();
        }
    }
}

impl Kubelet {
    /// Joins the cluster that `kubeconfig` says; what runs keeps its files below `folder`, and finds the release in `domain`.
    pub(crate) fn start(kubeconfig: PathBuf, folder: PathBuf, domain: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tell = Arc::new(AtomicBool::new(false));
        let (stopped, told) = (stop.clone(), tell.clone());
        let work = async move {
            let kube = Kube::of(&kubeconfig).await;
            kube.create(node()).await;
            let mut node = Node { kube, folder, domain, net: Net::new(), running: HashMap::new() };
            while !stopped.load(Ordering::Relaxed) {
                node.step().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if told.load(Ordering::Relaxed) {
                node.tell();
            }
        };
        let body = move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        };
        let thread = thread::Builder::new().name("kubelet".to_owned()).spawn(body).unwrap();
        Self { stop, tell, thread: Some(thread) }
    }
}

/// The node, which is ready. Of one that never says so the controller manager believes the contrary after a minute, and
/// from then on marks a pod that it sees bound as not ready: now and then after the kubelet has said that it is.
fn node() -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    json!({"kind": "Node", "metadata": {"name": NODE}, "status": {"conditions": [ready]}})
}

/// What runs for a pod.
enum Running {
    /// A scripted upstream, or nothing where it is not to be ready.
    Upstream { _lives: Option<Upstream> },
    /// A waypoint, and whether it was called ready.
    Waypoint(Box<Waypoint>, IpAddr, bool),
    /// All that the pod says.
    Pod(Box<Pod>),
}

impl Running {
    /// Lets it end; says whether it has.
    fn end(&mut self) -> bool {
        match self {
            Self::Upstream { .. } => true,
            Self::Waypoint(waypoint, ..) => waypoint.end(),
            Self::Pod(pod) => pod.end(),
        }
    }

    /// Says of its pod what has changed.
    async fn look(&mut self, kube: &Kube, pod: &Value) {
        match self {
            Self::Upstream { .. } => {}
            Self::Waypoint(waypoint, ip, was_ready) => {
                let ready = waypoint.is_ready().await;
                if ready != *was_ready && say(kube, pod, *ip, ready).await.is_some() {
                    *was_ready = ready;
                }
            }
            Self::Pod(real) => {
                if let Some(status) = real.step().await
                    && write(kube, pod, &status).await.is_some()
                {
                    real.said(status);
                }
            }
        }
    }
}

/// What a node knows and runs.
struct Node {
    kube: Kube,
    folder: PathBuf,
    domain: String,
    net: Net,
    /// By the uid of its pod.
    running: HashMap<String, Running>,
}

impl Node {
    /// Looks at every pod once. While the API server is away nothing happens; one that has only just begun may take a
    /// connection and say nothing on it.
    async fn step(&mut self) {
        let Some(pods) = self.list("/api/v1/pods").await else { return };
        for pod in &pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                if self.running.get_mut(uid).is_none_or(Running::end) {
                    self.running.remove(uid);
                    remove(&self.kube, pod).await;
                }
            } else if let Some(running) = self.running.get_mut(uid) {
                running.look(&self.kube, pod).await;
            } else if pod["spec"]["nodeName"].is_null()
                && pod["metadata"]["labels"]["app.kubernetes.io/name"] != "sidetrack"
            {
                let runs = self.admit(pod).await;
                self.running.extend(runs.map(|runs| (uid.to_owned(), runs)));
            }
        }
        self.running.retain(|uid, _| pods.iter().any(|pod| pod["metadata"]["uid"] == **uid));
        if self.running.values().any(|running| matches!(running, Running::Pod(_))) {
            self.translate().await;
        }
    }

    async fn list(&self, path: &str) -> Option<Vec<Value>> {
        let list = self.kube.ask(Method::GET, path, "", None);
        let mut list = tokio::time::timeout(PATIENCE, list).await.ok()?.ok()?;
        match list["items"].take() {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    async fn admit(&mut self, pod: &Value) -> Option<Running> {
        if is_waypoint(pod) {
            return admit_waypoint(&self.kube, pod, &self.folder, &self.domain).await;
        }
        if is_real(pod) {
            let mut real = Pod::new(&self.kube, pod, &self.folder, &mut self.net).await?;
            bind(&self.kube, pod).await?;
            real.start();
            return Some(Running::Pod(Box::new(real)));
        }
        Some(Running::Upstream { _lives: admit(&self.kube, pod).await })
    }

    /// Lets the addresses of Services lead to pods, for those that have a network of their own.
    async fn translate(&mut self) {
        let services = self.list("/api/v1/services").await;
        let slices = self.list("/apis/discovery.k8s.io/v1/endpointslices").await;
        if let (Some(services), Some(slices)) = (services, slices) {
            self.net.translate(&services, &slices);
        }
    }

    fn tell(&self) {
        for running in self.running.values() {
            if let Running::Pod(pod) = running {
                pod.tell();
            }
        }
    }
}

/// Binds a pod, runs it and says so. What fails here because the pod has just gone is seen by the next step.
async fn admit(kube: &Kube, pod: &Value) -> Option<Upstream> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let container = containers.iter().find(|container| container["name"] != "sidetrack-proxy").unwrap();
    let port = container["ports"][0]["containerPort"].as_u64().unwrap_or(8080);
    let address = SocketAddr::from((sandbox::address(), u16::try_from(port).unwrap()));
    let ready = pod["metadata"]["annotations"]["test/starts"] != "unready";
    let upstream = match ready {
        true => Some(Upstream::start_at(container["image"].as_str().unwrap(), Wire::Http1, address).await),
        false => None,
    };
    bind(kube, pod).await?;
    say(kube, pod, address.ip(), ready).await?;
    upstream
}

/// The same for a waypoint, which is not ready yet.
async fn admit_waypoint(kube: &Kube, pod: &Value, folder: &Path, domain: &str) -> Option<Running> {
    let ip = sandbox::address().into();
    let waypoint = Waypoint::start(kube, pod, ip, folder, domain).await?;
    bind(kube, pod).await?;
    say(kube, pod, ip, false).await?;
    Some(Running::Waypoint(Box::new(waypoint), ip, false))
}

async fn bind(kube: &Kube, pod: &Value) -> Option<()> {
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
    let meta = json!({"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target});
    let path = format!("{}/binding", path(pod));
    kube.ask(Method::POST, &path, "application/json", Some(&binding)).await.ok().map(drop)
}

/// Says that a pod runs, and whether it is ready.
async fn say(kube: &Kube, pod: &Value, ip: IpAddr, ready: bool) -> Option<()> {
    let word = if ready { "True" } else { "False" };
    let ip = ip.to_string();
    let status = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": word}, {"type": "ContainersReady", "status": word}],
    });
    write(kube, pod, &status).await
}

/// Writes the status of a pod.
async fn write(kube: &Kube, pod: &Value, status: &Value) -> Option<()> {
    let status = json!({"status": status});
    let path = format!("{}/status", path(pod));
    kube.ask(Method::PATCH, &path, "application/merge-patch+json", Some(&status)).await.ok().map(drop)
}

/// Lets a pod that was asked to end be gone.
async fn remove(kube: &Kube, pod: &Value) {
    let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
    // Another step may have done so.
    let _ = kube.ask(Method::DELETE, &path(pod), "application/json", Some(&now)).await;
}

fn path(pod: &Value) -> String {
    let part = |name: &str| pod["metadata"][name].as_str().unwrap();
    format!("/api/v1/namespaces/{}/pods/{}", part("namespace"), part("name"))
}
