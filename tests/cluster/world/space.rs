//! A namespace of one test, and what is deployed in it.

use serde_json::{Value, json};
use sidetrack_tests::eventually;

use crate::api::Kube;
use crate::cluster::Cluster;

/// A namespace. It goes with the cluster.
pub struct Space {
    /// Who deploys.
    pub kube: Kube,
    /// The namespace.
    pub name: String,
}

impl Space {
    /// Makes the namespace `name` and waits until pods can be made in it.
    pub async fn new(cluster: &Cluster, name: &str) -> Self {
        let kube = cluster.admin().await;
        kube.create(json!({"kind": "Namespace", "metadata": {"name": name}})).await;
        kube.until("a token for pods", ("ServiceAccount", name, "default"), |account| {
            account["secrets"].is_array()
        })
        .await;
        Self { kube, name: name.to_owned() }
    }

    /// Makes an object in the namespace.
    #[track_caller]
    pub fn create(&self, mut object: Value) -> impl Future<Output = Value> + '_ {
        object["metadata"]["namespace"] = self.name.as_str().into();
        self.kube.create(object)
    }

    /// Deploys the baseline of a service: a Deployment of one pod that calls itself `NAME:main`, and its Service, port 80.
    pub async fn baseline(&self, name: &str) {
        self.create(deployment(name, &format!("{name}:main"), &json!({"app": name}))).await;
        self.service(name).await;
        self.endpoints(name, 1).await;
    }

    /// Gives the namespace a label with which the API server does not ask the webhooks of the release, soon, as if they had
    /// been away.
    pub async fn unguard(&self) {
        let label = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "kube-system"}}});
        self.kube.patch("Namespace", "", &self.name, label).await;
    }

    /// Makes the Service `name` of the pods with the label `app: NAME`.
    pub async fn service(&self, name: &str) {
        let ports = json!([{"port": 80, "targetPort": 8080}]);
        let spec = json!({"selector": {"app": name}, "ports": ports});
        self.create(json!({"kind": "Service", "metadata": {"name": name}, "spec": spec})).await;
    }

    /// Deploys the fork of a service for `key` by plain labels: a Deployment of one pod that calls itself
    /// `SERVICE:pr-KEY`. Its name, which the label `app` of its pods repeats.
    pub async fn fork(&self, service: &str, key: &str) -> String {
        let name = format!("{service}-pr-{key}");
        let labels = json!({"app": name, "sidetrack.dev/pr": key, "sidetrack.dev/fork-of": service});
        self.create(deployment(&name, &format!("{service}:pr-{key}"), &labels)).await;
        name
    }

    /// Waits until a Service has `count` endpoints that are ready.
    pub async fn endpoints(&self, service: &str, count: usize) {
        eventually(&format!("{service} has {count} endpoints"), async || {
            let slices = self.kube.list("EndpointSlice", &self.name).await;
            let of = slices
                .iter()
                .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service);
            let endpoints = of.filter_map(|slice| slice["endpoints"].as_array()).flatten();
            endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count() == count
        })
        .await;
    }

    /// The pods with the label `app: APP`.
    pub async fn pods(&self, app: &str) -> Vec<Value> {
        let pods = self.kube.list("Pod", &self.name).await;
        pods.into_iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).collect()
    }

    /// Says of the pods with the label `app: APP` that they are ready, or not.
    pub async fn set_ready(&self, app: &str, ready: bool) {
        let word = if ready { "True" } else { "False" };
        let conditions =
            json!([{"type": "Ready", "status": word}, {"type": "ContainersReady", "status": word}]);
        for pod in self.pods(app).await {
            let name = pod["metadata"]["name"].as_str().unwrap();
            self.kube.patch_status("Pod", &self.name, name, json!({"conditions": conditions})).await;
        }
    }

    /// Makes the HTTPRoute `NAME` of the Gateway of all tests: every path of `host` to these services, each with a weight.
    pub async fn route(&self, name: &str, host: &str, services: &[(&str, u32)]) {
        let backend =
            |(service, weight): &(&str, u32)| json!({"name": service, "port": 80, "weight": weight});
        let rules = json!([{"backendRefs": services.iter().map(backend).collect::<Vec<_>>()}]);
        self.http_route(name, host, rules).await;
    }

    /// Makes the HTTPRoute `NAME` of the Gateway of all tests for `host` with these rules.
    pub async fn http_route(&self, name: &str, host: &str, rules: Value) {
        let parent = json!({"namespace": "sidetrack", "name": "public"});
        let spec = json!({"parentRefs": [parent], "hostnames": [host], "rules": rules});
        self.create(json!({"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec})).await;
    }
}

/// A Deployment of one pod.
pub fn deployment(name: &str, image: &str, labels: &Value) -> Value {
    let container =
        json!({"name": "app", "image": image, "ports": [{"containerPort": 8080, "name": "http"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let selector = json!({"matchLabels": {"app": labels["app"]}});
    let spec = json!({"replicas": 1, "selector": selector, "template": template});
    json!({"kind": "Deployment", "metadata": {"name": name}, "spec": spec})
}
