//! The one thing that is imitated: a node. What it runs for a pod is a scripted upstream that calls itself as the image
//! of the pod's first container and listens on the pod's address and that container's first port.
//!
//! A pod is ready at once, unless its annotation `test/starts` says `unready`; a test that patches its status later is
//! not contradicted. Pods of the chart are left pending: the tests start those processes by themselves.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sidetrack_tests::{Upstream, Wire};

use crate::api::Kube;
use crate::sandbox;

const NODE: &str = "node";
/// How long the API server may take to say which pods there are, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node that runs every pod. It ends with its value.
pub(crate) struct Kubelet {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked, its message is out, and the tests that needed it have failed.
            let _ = thread.join();
        }
    }
}

impl Kubelet {
    /// Joins the cluster that `kubeconfig` says.
    pub(crate) fn start(kubeconfig: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = async move {
            let kube = Kube::of(&kubeconfig).await;
            kube.create(node()).await;
            let mut pods = HashMap::new();
            while !stopped.load(Ordering::Relaxed) {
                step(&kube, &mut pods).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let body = move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        };
        let thread = thread::Builder::new().name("kubelet".to_owned()).spawn(body).unwrap();
        Self { stop, thread: Some(thread) }
    }
}

/// The node, which is ready. Of one that never says so the controller manager believes the contrary after a minute, and
/// from then on marks a pod that it sees bound as not ready: now and then after the kubelet has said that it is.
fn node() -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    json!({"kind": "Node", "metadata": {"name": NODE}, "status": {"conditions": [ready]}})
}

/// Looks at every pod once. While the API server is away nothing happens; one that has only just begun may take a
/// connection and say nothing on it.
async fn step(kube: &Kube, running: &mut HashMap<String, Option<Upstream>>) {
    let list = kube.ask(Method::GET, "/api/v1/pods", "", None);
    let Ok(Ok(mut list)) = tokio::time::timeout(PATIENCE, list).await else { return };
    let Value::Array(pods) = list["items"].take() else { return };
    for pod in &pods {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        if pod["metadata"]["deletionTimestamp"].is_string() {
            running.remove(uid);
            remove(kube, pod).await;
        } else if pod["spec"]["nodeName"].is_null()
            && pod["metadata"]["labels"]["app.kubernetes.io/name"] != "sidetrack"
        {
            running.insert(uid.to_owned(), admit(kube, pod).await);
        }
    }
    running.retain(|uid, _| pods.iter().any(|pod| pod["metadata"]["uid"] == **uid));
}

/// Binds a pod, runs it and says so. What fails here because the pod has just gone is seen by the next step.
async fn admit(kube: &Kube, pod: &Value) -> Option<Upstream> {
    let container = &pod["spec"]["containers"][0];
    let port = container["ports"][0]["containerPort"].as_u64().unwrap_or(8080);
    let address = SocketAddr::from((sandbox::address(), u16::try_from(port).unwrap()));
    let ready = pod["metadata"]["annotations"]["test/starts"] != "unready";
    let upstream = match ready {
        true => Some(Upstream::start_at(container["image"].as_str().unwrap(), Wire::Http1, address).await),
        false => None,
    };
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
    let meta = json!({"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target});
    kube.ask(Method::POST, &format!("{}/binding", path(pod)), "application/json", Some(&binding))
        .await
        .ok()?;
    let word = if ready { "True" } else { "False" };
    let ip = address.ip().to_string();
    let status = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": word}, {"type": "ContainersReady", "status": word}],
    }});
    let path = format!("{}/status", path(pod));
    kube.ask(Method::PATCH, &path, "application/merge-patch+json", Some(&status)).await.ok()?;
    upstream
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
