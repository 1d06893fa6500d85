//! The chart as it is committed, installed in a cluster, and its processes: started with exactly the arguments, the
//! configuration and the rights that the chart gives them. Only addresses, paths and names are put in their place here.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sidetrack_tests::{
    Ca, Conn, Gateway, Identity, Metrics, Output, PATIENCE, Process, Reply, eventually, get, roots_of,
    run_for,
};

use crate::api::Kube;
use crate::cluster::{Cluster, installed};
use crate::proxies::Proxies;
use crate::sandbox;

/// The namespace of the release.
pub(crate) const NAMESPACE: &str = "sidetrack";
/// What stands for generated certificates in the committed rendering.
const GENERATED: &str = "Z2VuZXJhdGVk";
/// What all proxies share.
const SECRETS: &str = "the-secret-of-the-clusters-of-tests\n";

/// A release of the chart.
pub struct Install {
    folder: PathBuf,
    /// Makes its names different from those of releases in other clusters.
    domain: String,
    kube: Kube,
    kubeconfig: PathBuf,
    count: AtomicUsize,
    replicas: Mutex<Vec<Ipv4Addr>>,
}

/// A running controller; what a process can do, it can do.
pub struct Controller {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: Ipv4Addr,
}

impl Controller {
    /// `GET path` of its metrics listener; `None` while it does not listen.
    pub async fn page(&self, path: &str) -> Option<Reply> {
        let mut conn = Conn::http1((self.address, 9902).into()).await.ok()?;
        Some(conn.send(get("controller", path)).await)
    }

    /// Waits until it knows the whole cluster.
    pub async fn ready(&self) {
        eventually("the controller is ready", async || {
            self.page("/readyz").await.is_some_and(|reply| reply.status == 200)
        })
        .await;
    }

    /// The metrics of this moment.
    pub async fn metrics(&self) -> Metrics {
        Metrics::read(self.page("/metrics").await.unwrap().text())
    }
}

impl Install {
    /// Installs the chart and the kinds of the Gateway API, and makes the Gateway `sidetrack/public` for all namespaces.
    pub async fn new(cluster: &Cluster) -> Self {
        Self::of(cluster, &fs::read_to_string(chart().join("rendered/default.yaml")).unwrap()).await
    }

    /// The same with values that are not committed, as `--set` of Helm takes them.
    pub async fn with(cluster: &Cluster, values: &[&str]) -> Self {
        let mut helm = Command::new(installed("helm").join("node_modules/.bin/helm"));
        helm.args(["template", "sidetrack", "--namespace", NAMESPACE, "--kube-version", "1.33.0"])
            .arg(chart());
        helm.arg("-f").arg(chart().join("rendered/default.values.yaml"));
        helm.args(values.iter().flat_map(|value| ["--set", value]));
        let output = helm.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::of(cluster, &String::from_utf8(output.stdout).unwrap()).await
    }

    async fn of(cluster: &Cluster, rendered: &str) -> Self {
        let folder = cluster.folder().join("install");
        let kube = cluster.admin().await;
        let install = Self {
            domain: format!("{NAMESPACE}.{}.svc", cluster.name()),
            kubeconfig: cluster.kubeconfig_for("controller", ""),
            folder,
            kube,
            count: AtomicUsize::new(0),
            replicas: Mutex::default(),
        };
        install.apply(cluster, rendered).await;
        let token = install.kube.token(NAMESPACE, "sidetrack-controller", "").await;
        cluster.kubeconfig_for("controller", &token);
        for account in ["gateway", "controller"] {
            let token =
                install.kube.token(NAMESPACE, &format!("sidetrack-{account}"), "sidetrack-controller").await;
            install.write(&format!("{account}/token"), &token);
        }
        if let Some(map) = install.kube.get("ConfigMap", NAMESPACE, "sidetrack-controller-waypoint").await {
            install.write("waypoint/waypoint.json", map["data"]["waypoint.json"].as_str().unwrap());
        }
        install.ci().await;
        install.public_gateway().await;
        install
    }

    async fn apply(&self, cluster: &Cluster, rendered: &str) {
        self.kube.create(json!({"kind": "Namespace", "metadata": {"name": NAMESPACE}})).await;
        let kinds = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/gateway-api.yaml");
        kubectl(cluster, &["create", "-f", kinds.to_str().unwrap()]);
        let (ca, identity) = self.certificates();
        let text = filled(&for_1_20(rendered), &ca, &identity);
        // Hooks are not installed: Helm makes them when their hour comes.
        let is_hook = |document: &&str| document.contains("helm.sh/hook");
        let (hooks, objects): (Vec<&str>, Vec<&str>) = text.split("\n---\n").partition(is_hook);
        self.write("hooks.yaml", &hooks.join("\n---\n"));
        self.write("chart.yaml", &objects.join("\n---\n"));
        kubectl(cluster, &["create", "--validate=false", "-f", self.path("chart.yaml").to_str().unwrap()]);
        // Its endpoints are said here, not by what selects pods.
        self.kube
            .patch("Service", NAMESPACE, "sidetrack-controller", json!({"spec": {"selector": null}}))
            .await;
        for kind in ["Preview", "HTTPRoute", "Gateway"] {
            eventually(&format!("{kind} is served"), async || self.kube.try_list(kind, "").await.is_ok())
                .await;
        }
    }

    fn certificates(&self) -> (String, Identity) {
        let ca = Ca::new();
        let names: Vec<String> = ["sidetrack-controller", "sidetrack-controller-peers"]
            .iter()
            .flat_map(|service| [format!("{service}.{}", self.domain), format!("{service}.{NAMESPACE}.svc")])
            .collect();
        let identity = ca.issue(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for account in ["gateway", "controller"] {
            self.write(&format!("{account}/ca.crt"), &ca.pem);
        }
        self.write("tls/tls.crt", &identity.cert);
        self.write("tls/tls.key", &identity.key);
        self.write("context/secrets", SECRETS);
        (ca.pem, identity)
    }

    async fn public_gateway(&self) {
        let from_all = json!({"namespaces": {"from": "All"}});
        let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": from_all}]);
        let spec = json!({"gatewayClassName": "sidetrack", "listeners": listeners});
        let meta = json!({"name": "public", "namespace": NAMESPACE});
        self.kube.create(json!({"kind": "Gateway", "metadata": meta, "spec": spec})).await;
    }

    /// Starts a further replica of the controller, and waits until it has a table.
    pub async fn controller(&self) -> Controller {
        let controller = self.start_controller(&[]).await;
        controller.ready().await;
        controller
    }

    /// Starts one with further arguments, and does not wait.
    pub async fn start_controller(&self, further: &[&str]) -> Controller {
        let address = sandbox::address();
        let name = format!("controller-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let arguments = self.arguments("controller", address).await;
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("$(POD_NAME)", &name)).collect();
        let arguments: Vec<&str> =
            arguments.iter().map(String::as_str).chain(further.iter().copied()).collect();
        // Each scenario begins with a controller that nobody followed before.
        let environment = [("KUBECONFIG", self.kubeconfig.to_str().unwrap()), ("SIDETRACK_SETTLE", "0s")];
        let process = Process::start(&arguments, &self.folder, &environment);
        self.replicas.lock().unwrap().push(address);
        self.announce().await;
        Controller { process, address }
    }

    /// Takes a replica out of what its Services say.
    pub async fn withdraw(&self, address: Ipv4Addr) {
        self.replicas.lock().unwrap().retain(|other| *other != address);
        self.announce().await;
    }

    /// Says to gateways, replicas and the API server which replicas there are.
    async fn announce(&self) {
        let replicas = self.replicas.lock().unwrap().clone();
        for service in ["sidetrack-controller", "sidetrack-controller-peers"] {
            sandbox::name(&format!("{service}.{}", self.domain), &replicas);
        }
        let addresses: Vec<Value> = replicas.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        let ports = json!([{"name": "https", "port": 8443}]);
        let subsets = json!([{"addresses": addresses, "ports": ports}]);
        let subsets = if addresses.is_empty() { json!([]) } else { subsets };
        let meta = json!({"name": "sidetrack-controller", "namespace": NAMESPACE});
        let endpoints =
            json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": meta, "subsets": subsets});
        self.kube.apply(&endpoints).await;
    }

    /// Starts a gateway with a state of its own and waits until it serves.
    pub async fn gateway(&self, name: &str) -> Gateway {
        let address = sandbox::address();
        let map = self.kube.get("ConfigMap", NAMESPACE, "sidetrack-gateway").await.unwrap();
        let text = map["data"]["sidetrack.yaml"].as_str().unwrap();
        let text = text
            .replace("0.0.0.0:9901", "127.0.0.1:0")
            .replace("0.0.0.0", &address.to_string())
            .replace("/var/lib/sidetrack", self.path(name).to_str().unwrap());
        self.write(&format!("{name}.yaml"), &text);
        let arguments = self.arguments("gateway", address).await;
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("$(POD_NAME)", name)).collect();
        // The first two are the command and its configuration, which the world says by itself.
        let rest: Vec<&str> = arguments.iter().skip(2).map(String::as_str).collect();
        Gateway::start_with(&self.path(&format!("{name}.yaml")), &rest).await
    }

    /// Runs `sidetrack wait KEY` as a job of CI would: with a service account that may read Previews and nothing else.
    pub async fn wait(&self, key: &str, timeout: Duration) -> Output {
        let url = format!("https://sidetrack-controller.{}:8443", self.domain);
        let (ca, token) = (self.path("gateway/ca.crt"), self.path("ci/token"));
        let seconds = format!("{}s", timeout.as_secs());
        let arguments = ["wait", key, "--timeout", &seconds, "--controller", &url];
        let files = ["--controller-ca", ca.to_str().unwrap(), "--token-file", token.to_str().unwrap()];
        run_for(&self.folder, &[&arguments[..], &files[..]].concat(), timeout + PATIENCE).await
    }

    /// Does what the chart has Helm do before it removes the release: starts what the hook's Job does, with the rights of
    /// its account.
    pub async fn begin_removal(&self, cluster: &Cluster) -> Process {
        kubectl(cluster, &["create", "--validate=false", "-f", self.path("hooks.yaml").to_str().unwrap()]);
        let job = self.kube.get("Job", NAMESPACE, "sidetrack-controller-take-down").await.unwrap();
        let spec = &job["spec"]["template"]["spec"];
        assert_eq!(spec["serviceAccountName"], "sidetrack-controller");
        let written = spec["containers"][0]["args"].as_array().unwrap();
        let arguments: Vec<&str> = written.iter().map(|argument| argument.as_str().unwrap()).collect();
        let kubeconfig = [("KUBECONFIG", self.kubeconfig.to_str().unwrap())];
        Process::start(&arguments, &self.folder, &kubeconfig)
    }

    /// What a controller knows of the gateways.
    pub async fn proxies(&self, controller: &Controller) -> Proxies {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap();
        let host = format!("sidetrack-controller.{}", self.domain);
        Proxies::connect(controller.address, &host, roots_of(&read("gateway/ca.crt")), &read("ci/token"))
            .await
    }

    /// Makes the account of [`Install::wait`].
    async fn ci(&self) {
        let meta = json!({"name": "ci", "namespace": NAMESPACE});
        self.kube.create(json!({"kind": "ServiceAccount", "metadata": meta})).await;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sidetrack-previews-view"});
        let subjects = json!([{"kind": "ServiceAccount", "name": "ci", "namespace": NAMESPACE}]);
        let binding = json!({"kind": "ClusterRoleBinding", "metadata": {"name": "ci"}, "roleRef": role, "subjects": subjects});
        self.kube.create(binding).await;
        self.write("ci/token", &self.kube.token(NAMESPACE, "ci", "sidetrack-controller").await);
    }

    /// The arguments of a container of the chart, with addresses and paths of here.
    async fn arguments(&self, component: &str, address: Ipv4Addr) -> Vec<String> {
        let deployment =
            self.kube.get("Deployment", NAMESPACE, &format!("sidetrack-{component}")).await.unwrap();
        let written = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let put = |argument: &Value| {
            let argument = argument.as_str().unwrap();
            argument
                .replace("0.0.0.0", &address.to_string())
                .replace("/var/run/sidetrack", self.path(component).to_str().unwrap())
                .replace("/etc/sidetrack/tls", self.path("tls").to_str().unwrap())
                .replace("/etc/sidetrack/context", self.path("context").to_str().unwrap())
                .replace("/etc/sidetrack/waypoint", self.path("waypoint").to_str().unwrap())
                .replace(&format!("{NAMESPACE}.svc"), &self.domain)
        };
        written.iter().map(put).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The folder of the chart.
fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/sidetrack")
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) {
    let (good, said) = cluster.kubectl(arguments);
    assert!(good, "kubectl {}: {said}", arguments.join(" "));
}

/// The rendering as Kubernetes 1.20 takes it: versions that it does not have yet are mapped, kinds of others' CRDs and
/// what came later are left out. Nothing else may be changed here, or what is tested is not what is shipped.
pub fn for_1_20(rendered: &str) -> String {
    let is_here = |document: &&str| {
        let foreign = ["cert-manager.io/v1", "monitoring.coreos.com/v1"];
        !foreign.iter().any(|version| document.contains(&format!("apiVersion: {version}\n")))
    };
    let documents: Vec<&str> = rendered.split("\n---\n").filter(is_here).collect();
    without_sleep(&documents.join("\n---\n"))
        .replace("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n")
        .replace("\"apiVersion\": \"policy/v1\"", "\"apiVersion\": \"policy/v1beta1\"")
        .replace("apiVersion: autoscaling/v2\n", "apiVersion: autoscaling/v2beta2\n")
        .lines()
        .filter(|line| !line.contains("lifecycle: {preStop: {sleep:"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The same in the objects that the chart keeps as JSON, a line for each brace.
fn without_sleep(rendered: &str) -> String {
    let mut kept = String::new();
    let mut within: Option<&str> = None;
    for line in rendered.lines() {
        let indent = line.split('"').next().unwrap_or_default();
        match within {
            Some(outer) if line.starts_with(&format!("{outer}}}")) => within = None,
            Some(_) => {}
            None if line.trim_start() == "\"lifecycle\": {" => within = Some(indent),
            None => kept.extend([line, "\n"]),
        }
    }
    kept
}

/// The rendering with certificates of ours where Helm made some, or where the committed one says that it would.
fn filled(rendered: &str, ca: &str, identity: &Identity) -> String {
    let value = |name: &str| match name {
        "ca.crt" | "caBundle" => base64(ca),
        "tls.crt" => base64(&identity.cert),
        "tls.key" => base64(&identity.key),
        "secrets" => base64(SECRETS),
        other => panic!("{other} is generated?"),
    };
    let line = |line: &str| match line.split_once(": ") {
        // PEM begins so in base64.
        Some((start, end)) if end == GENERATED || end.starts_with("LS0t") => {
            format!("{start}: {}\n", value(start.trim()))
        }
        _ => format!("{line}\n"),
    };
    rendered.lines().map(line).collect()
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits =
            bytes.iter().chain(&[0, 0]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digit = |place: usize| match place > bytes.len() {
            true => '=',
            false => char::from(DIGITS[bits >> (18 - 6 * place) & 63]),
        };
        [0, 1, 2, 3].map(digit)
    };
    text.as_bytes().chunks(3).flat_map(group).collect()
}
