//! The chart: what is committed is what Helm renders, and a real API server takes it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use sidetrack_cluster_tests::{Cluster, Estate, Install, Kube, Release, Space, for_1_20, installed};
use sidetrack_tests::get;
use tempfile::TempDir;

use crate::forks::from;
use crate::previews::preview;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn committed(name: &str) -> String {
    std::fs::read_to_string(Path::new(HERE).join("../../charts/sidetrack").join(name)).unwrap()
}

pub(crate) async fn what_is_committed_is_what_helm_renders(_: Arc<Estate>) {
    let out = TempDir::new().unwrap();
    let helm = installed("helm").join("node_modules/.bin/helm");
    let status = Command::new(Path::new(HERE).join("render.sh")).arg(&helm).arg(out.path()).status().unwrap();
    assert!(status.success());
    for name in ["default.yaml", "full.yaml"] {
        let rendered = std::fs::read_to_string(out.path().join(name)).unwrap();
        assert!(
            rendered == committed(&format!("rendered/{name}")),
            "{name} is not what Helm renders: tests/cluster/render.sh {} charts/sidetrack/rendered",
            helm.display()
        );
    }
}

pub(crate) async fn values_that_nobody_reads_are_refused(_: Arc<Estate>) {
    let chart = Path::new(HERE).join("../../charts/sidetrack");
    for wrong in
        ["gateway.replica=3", "controller.replicas=0", "gateway.config.routes=x", "image.digest=latest"]
    {
        let mut helm = Command::new(installed("helm").join("node_modules/.bin/helm"));
        let output = helm
            .arg("template")
            .arg(&chart)
            .args(["--kube-version", "1.33.0", "--set", wrong])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{wrong} is taken");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("values don't meet the specifications of the schema"), "{said}");
    }
}

pub(crate) async fn the_crd_is_what_the_binary_prints(_: Arc<Estate>) {
    let output = sidetrack_tests::run(Path::new("."), &["crd"]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout == committed("files/previews.sidetrack.dev.yaml"),
        "sidetrack crd > charts/sidetrack/files/previews.sidetrack.dev.yaml"
    );
}

/// Every option at once: each object is taken as it is, but for what Kubernetes 1.20 does not know.
pub(crate) async fn a_real_api_server_takes_every_option(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    let kube = cluster.admin().await;
    for namespace in ["sidetrack", "shop", "pr-previews"] {
        kube.create(json!({"kind": "Namespace", "metadata": {"name": namespace}})).await;
    }
    let file = cluster.folder().join("full.yaml");
    std::fs::write(&file, for_1_20(&committed("rendered/full.yaml"))).unwrap();
    let kinds = Path::new(HERE).join("kube/gateway-api.yaml");
    for file in [kinds.as_path(), &file] {
        let (good, said) = cluster.kubectl(&["create", "--validate=false", "-f", file.to_str().unwrap()]);
        assert!(good, "{said}");
    }
    let controller = kube.get("Deployment", "sidetrack", "sidetrack-controller").await.unwrap();
    assert_eq!(controller["spec"]["replicas"], 3);
}

/// Rights in named namespaces suffice for what happens there, and end there.
pub(crate) async fn named_namespaces_are_enough(_: Arc<Estate>) {
    let cluster = Cluster::start();
    let (space, other) = (Space::new(&cluster, "shop").await, Space::new(&cluster, "other").await);
    let values = ["controller.watchNamespaces={shop}", "controller.webhook.enabled=false"];
    let release = Release::start(Install::with(&cluster, &values).await, 1).await;
    for space in [&space, &other] {
        space.baseline("cart").await;
        let service = json!({"service": {"name": "cart", "port": {"number": 80}}});
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": service}]);
        let rules =
            json!([{"host": format!("{}.preview.example.com", space.name), "http": {"paths": paths}}]);
        let spec = json!({"ingressClassName": "sidetrack", "rules": rules});
        space.create(json!({"kind": "Ingress", "metadata": {"name": "cart"}, "spec": spec})).await;
    }
    let clone = json!([{"service": "cart", "clone": {"image": "cart:pr-42"}}]);
    preview(&space, "42", json!({"forks": clone})).await;
    let call = || get("shop.preview.example.com", "/");
    release.until("the clone is routed", || call().key("42"), from("cart:pr-42")).await;
    release.gateway.send(call()).await.came_from("cart:main");
    release.gateway.send(get("other.preview.example.com", "/")).await.failed(404, "no_route");
    let controller = Kube::of(&cluster.folder().join("controller.kubeconfig")).await;
    assert_eq!(controller.try_list("Secret", "other").await.unwrap_err().0, 403);
    assert_eq!(controller.try_list("Service", "other").await.unwrap_err().0, 403);
}

/// What the controller may not do: the reverse of every scenario that runs with these rights.
pub(crate) async fn the_controller_has_no_right_too_many(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    Install::new(&cluster).await;
    let controller = Kube::of(&cluster.folder().join("controller.kubeconfig")).await;
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str, name: &str| {
        let attributes =
            json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer =
            controller.ask(http::Method::POST, path, "application/json", Some(&review)).await.unwrap();
        answer["status"]["allowed"] == true
    };
    assert!(
        may("list", "", "secrets", "shop", "").await
            && may("delete", "apps", "deployments", "shop", "a").await
    );
    for (verb, group, resource, namespace, name) in [
        ("create", "", "pods", "shop", ""),
        ("delete", "", "pods", "shop", "a"),
        ("patch", "", "services", "shop", "a"),
        ("create", "", "secrets", "shop", ""),
        ("update", "", "secrets", "sidetrack", "sidetrack-controller-tls"),
        ("delete", "apps", "statefulsets", "shop", "a"),
        ("delete", "sidetrack.dev", "previews", "shop", "a"),
        ("patch", "sidetrack.dev", "previews", "shop", "a"),
        ("patch", "gateway.networking.k8s.io", "httproutes", "shop", "a"),
        ("patch", "", "configmaps", "shop", "a"),
        ("patch", "", "configmaps", "sidetrack", "sidetrack-gateway"),
        ("update", "coordination.k8s.io", "leases", "kube-system", "kube-scheduler"),
        ("create", "", "pods/exec", "shop", "a"),
        ("impersonate", "", "users", "", "admin"),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "shop", ""),
    ] {
        assert!(
            !may(verb, group, resource, namespace, name).await,
            "{verb} {group}/{resource} in {namespace}"
        );
    }
}
