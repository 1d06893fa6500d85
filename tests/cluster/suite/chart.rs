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
    for wrong in [
        "gateway.replica=3",
        "controller.replicas=0",
        "sidecar.inject.enable=true",
        "sidecar.inject.mode=tproxy",
        "waypoint.grace=soon",
        "gateway.config.routes=x",
        "image.digest=latest",
    ] {
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

/// Helm asks the cluster: a Service that points to waypoints must not lose the one who puts it back.
pub(crate) async fn waypoints_in_use_are_not_switched_off(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    let kube = cluster.admin().await;
    kube.create(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    let annotations = json!({"sidetrack.dev/original": "{}"});
    let meta = json!({"name": "checkout", "namespace": "shop", "annotations": annotations});
    kube.create(json!({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})).await;
    let folder = TempDir::new().unwrap();
    let helm = |arguments: &[&str]| {
        let mut helm = Command::new(installed("helm").join("node_modules/.bin/helm"));
        let output =
            helm.args(arguments).current_dir(folder.path()).env("KUBECONFIG", cluster.kubeconfig()).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    // Helm asks in an upgrade only, and not in a dry run: one of a release of nothing. What the chart says of versions is
    // left out, since the API server of here is too old for it; so in the end no upgrade is made.
    let source = Path::new(HERE).join("../../charts/sidetrack");
    assert!(
        Command::new("cp").arg("-r").arg(source).arg(folder.path().join("chart")).status().unwrap().success()
    );
    let about = std::fs::read_to_string(folder.path().join("chart/Chart.yaml")).unwrap();
    let about: Vec<&str> = about.lines().filter(|line| !line.starts_with("kubeVersion:")).collect();
    std::fs::write(folder.path().join("chart/Chart.yaml"), about.join("\n")).unwrap();
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    let nothing = "apiVersion: v2\nname: nothing\nversion: 0.1.0\n";
    std::fs::write(folder.path().join("nothing/Chart.yaml"), nothing).unwrap();
    helm(&["install", "sidetrack", "nothing"]);
    let said = |values: &str| helm(&["upgrade", "sidetrack", "chart", "--set", values]);
    let refusal = "Service shop/checkout points to waypoints";
    for wrong in ["waypoint.enabled=false", "controller.watchNamespaces={other}"] {
        assert!(said(wrong).contains(refusal), "{wrong}: {}", said(wrong));
    }
    for right in ["waypoint.drain=true", "controller.watchNamespaces={shop}"] {
        let said = said(right);
        assert!(
            said.contains("UPGRADE FAILED: [resource mapping not found") && !said.contains(refusal),
            "{right}: {said}"
        );
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
    let waypoints = ("patch", "", "services", "shop", "a");
    let cluster = Cluster::bare();
    Install::with(&cluster, &["waypoint.enabled=false"]).await;
    assert!(!may(&cluster, waypoints).await);
    let cluster = Cluster::bare();
    Install::new(&cluster).await;
    for given in
        [waypoints, ("list", "", "secrets", "shop", ""), ("delete", "apps", "deployments", "shop", "a")]
    {
        assert!(may(&cluster, given).await, "{given:?}");
    }
    for taken in [
        ("create", "", "pods", "shop", ""),
        ("delete", "", "pods", "shop", "a"),
        ("update", "", "services", "shop", "a"),
        ("patch", "", "serviceaccounts", "shop", "default"),
        ("get", "", "configmaps", "shop", "a"),
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
        assert!(!may(&cluster, taken).await, "{taken:?}");
    }
}

/// Whether the controller has a right: verb, API group, resource, namespace and name.
async fn may(
    cluster: &Cluster,
    (verb, group, resource, namespace, name): (&str, &str, &str, &str, &str),
) -> bool {
    let attributes =
        json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let controller = Kube::of(&cluster.folder().join("controller.kubeconfig")).await;
    let answer = controller.ask(http::Method::POST, path, "application/json", Some(&review)).await.unwrap();
    answer["status"]["allowed"] == true
}
