//! The API as a plain client sees it: objects are JSON, and what the server says is what counts.

use std::path::Path;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use sidetrack_tests::{PATIENCE, eventually};

/// A connection to an API server as somebody.
#[derive(Clone)]
pub struct Kube {
    client: Client,
}

/// `apiVersion` of each kind that is used here. The path has the plural, which is the kind in lower case and an `s`.
pub fn kinds(kind: &str) -> &'static str {
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" => "apps/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Ingress" | "NetworkPolicy" => "networking.k8s.io/v1",
        "Job" => "batch/v1",
        "Lease" => "coordination.k8s.io/v1",
        "Preview" => "sidetrack.dev/v1alpha1",
        "Gateway" | "GatewayClass" | "HTTPRoute" => "gateway.networking.k8s.io/v1",
        "ReferenceGrant" => "gateway.networking.k8s.io/v1beta1",
        "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => "rbac.authorization.k8s.io/v1",
        "CustomResourceDefinition" => "apiextensions.k8s.io/v1",
        "ValidatingWebhookConfiguration" => "admissionregistration.k8s.io/v1",
        _ => "v1",
    }
}

/// What the server said: the object, or the message of its refusal and its code.
pub type Answer = Result<Value, (u16, String)>;

impl Kube {
    /// Whoever the file `kubeconfig` says.
    pub async fn of(kubeconfig: &Path) -> Self {
        Self::try_of(kubeconfig).await.unwrap()
    }

    /// The same; `None` if it is not to be used.
    pub(crate) async fn try_of(kubeconfig: &Path) -> Option<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).ok()?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.ok()?;
        Some(Self { client: Client::try_from(config).ok()? })
    }

    /// Whether the server serves.
    pub async fn is_ready(&self) -> bool {
        let request = Request::get("/readyz").body(Vec::new()).unwrap();
        self.client.request_text(request).await.is_ok_and(|text| text == "ok")
    }

    /// Sends any request.
    pub async fn ask(&self, method: Method, path: &str, kind: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        match self.client.request::<Value>(request.body(body.into_bytes()).unwrap()).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err((status.code, status.message)),
            Err(error) => Err((0, error.to_string())),
        }
    }

    /// Makes an object, or hears why not.
    pub async fn try_create(&self, object: &Value) -> Answer {
        let kind = object["kind"].as_str().unwrap();
        let version = object["apiVersion"].as_str().unwrap_or_else(|| kinds(kind));
        let mut object = object.clone();
        object["apiVersion"] = version.into();
        let path = path(version, kind, object["metadata"]["namespace"].as_str().unwrap_or_default(), "");
        self.ask(Method::POST, &path, "application/json", Some(&object)).await
    }

    /// Makes an object.
    #[track_caller]
    pub fn create(&self, object: Value) -> impl Future<Output = Value> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.try_create(&object).await;
            answer.unwrap_or_else(|error| panic!("{caller}: {error:?} for {object}"))
        }
    }

    /// One object; `None` where there is none.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let answer = self.ask(Method::GET, &path(kinds(kind), kind, namespace, name), "", None).await;
        match answer {
            Ok(object) => Some(object),
            Err((404, _)) => None,
            Err(error) => panic!("{kind} {namespace}/{name}: {error:?}"),
        }
    }

    /// The same; `None`, too, while the server is away.
    pub(crate) async fn try_get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.ask(Method::GET, &path(kinds(kind), kind, namespace, name), "", None).await.ok()
    }

    /// The list of a kind, or why there is none.
    pub async fn try_list(&self, kind: &str, namespace: &str) -> Answer {
        self.ask(Method::GET, &path(kinds(kind), kind, namespace, ""), "", None).await
    }

    /// Makes an object, or makes the one that is there say the same, by server-side apply.
    pub async fn apply(&self, object: &Value) -> Value {
        let kind = object["kind"].as_str().unwrap();
        let meta = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let path = path(kinds(kind), kind, meta("namespace"), meta("name"));
        let path = format!("{path}?fieldManager=test&force=true");
        let answer = self.ask(Method::PATCH, &path, "application/apply-patch+yaml", Some(object)).await;
        answer.unwrap_or_else(|error| panic!("{error:?} for {object}"))
    }

    /// Every object of a kind in a namespace; in all where that is empty.
    pub async fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let mut list =
            self.ask(Method::GET, &path(kinds(kind), kind, namespace, ""), "", None).await.unwrap();
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("no items but {other}"),
        }
    }

    /// Changes an object by a JSON merge patch, or hears why not.
    pub async fn try_patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Answer {
        let path = path(kinds(kind), kind, namespace, name);
        self.ask(Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await
    }

    /// Changes an object by a JSON merge patch.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Value {
        let answer = self.try_patch(kind, namespace, name, patch.clone()).await;
        answer.unwrap_or_else(|error| panic!("{kind} {namespace}/{name}: {error:?} for {patch}"))
    }

    /// Changes the status of an object by a JSON merge patch.
    pub async fn patch_status(&self, kind: &str, namespace: &str, name: &str, status: Value) {
        let path = format!("{}/status", path(kinds(kind), kind, namespace, name));
        let patch = json!({"status": status});
        let answer = self.ask(Method::PATCH, &path, "application/merge-patch+json", Some(&patch)).await;
        answer.unwrap_or_else(|error| panic!("{kind} {namespace}/{name}: {error:?} for {patch}"));
    }

    /// Deletes an object, with what it owns; it may be gone already.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let options = json!({"propagationPolicy": "Background"});
        let path = path(kinds(kind), kind, namespace, name);
        match self.ask(Method::DELETE, &path, "application/json", Some(&options)).await {
            Ok(_) | Err((404, _)) => {}
            Err(error) => panic!("{kind} {namespace}/{name}: {error:?}"),
        }
    }

    /// A token of a ServiceAccount for `audience`; empty: for the API server.
    pub async fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let spec = if audience.is_empty() { json!({}) } else { json!({"audiences": [audience]}) };
        self.request_token(namespace, account, spec).await.unwrap()
    }

    /// The same for a pod alone, as the volume of a pod holds it in fact.
    pub async fn pod_token(&self, pod: &Value, account: &str, audience: &str) -> String {
        self.try_pod_token(pod, account, audience).await.unwrap()
    }

    /// The same; `None` while the server is away.
    pub(crate) async fn try_pod_token(&self, pod: &Value, account: &str, audience: &str) -> Option<String> {
        let text = |name: &str| pod["metadata"][name].as_str().unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": text("name"), "uid": text("uid")});
        let spec = json!({"audiences": [audience], "boundObjectRef": bound});
        self.request_token(text("namespace"), account, spec).await
    }

    async fn request_token(&self, namespace: &str, account: &str, spec: Value) -> Option<String> {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.ask(Method::POST, &path, "application/json", Some(&request)).await.ok()?;
        Some(answer["status"]["token"].as_str().unwrap().to_owned())
    }

    /// Waits until an object is as `fits` says, and returns it.
    pub async fn until(
        &self,
        what: &str,
        (kind, namespace, name): (&str, &str, &str),
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut found = None;
        eventually(what, async || {
            found = self.get(kind, namespace, name).await;
            found.as_ref().is_some_and(&fits)
        })
        .await;
        found.unwrap()
    }

    /// Waits for an Event about an object with this reason, and returns its message.
    pub async fn told(&self, namespace: &str, name: &str, reason: &str) -> String {
        let mut found = None;
        let deadline = std::time::Instant::now() + PATIENCE;
        while found.is_none() {
            let all = self.events(namespace, name).await;
            found = all.iter().find(|(each, _)| each == reason).map(|(_, message)| message.clone());
            let late = std::time::Instant::now() > deadline;
            assert!(found.is_some() || !late, "no Event {reason} about {namespace}/{name}, but {all:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        found.unwrap()
    }

    /// The reasons and messages of the Events about an object.
    pub async fn events(&self, namespace: &str, name: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.list("Event", namespace).await;
        let about = events.iter().filter(|event| event["involvedObject"]["name"] == name);
        about.map(|event| (text(&event["reason"]), text(&event["message"]))).collect()
    }
}

/// The path of an object; of the whole kind where `name` is empty.
fn path(version: &str, kind: &str, namespace: &str, name: &str) -> String {
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let plural = match kind.to_lowercase() {
        kind if kind == "endpoints" => kind,
        kind if kind.ends_with('s') => format!("{kind}es"),
        kind if kind.ends_with("cy") => format!("{}ies", &kind[..kind.len() - 1]),
        kind => format!("{kind}s"),
    };
    let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}/{version}{namespace}/{plural}{name}")
}
