//! The controller's server beside the real API server: real tokens, real rights, and `sidetrack wait` as a pipeline has it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use sidetrack_cluster_tests::{Cluster, Estate, Kube};
use sidetrack_config::Key;
use sidetrack_config::stream::{Item, OnForkDown, Preview, Report};
use sidetrack_controller::plan::{Fork, ForkState, ObjectId};
use sidetrack_controller::publish::{About, Publisher};
use sidetrack_controller::serve::{ApiServer, Server, Settings};
use sidetrack_controller::world::Name;
use sidetrack_tests::{Ca, Conn, eventually, get};

const AUDIENCE: &str = "sidetrack-controller";

/// A server whose checker is the API server of `cluster`, with preview 42 in its table.
async fn server(cluster: &Cluster, ca: &Ca) -> (SocketAddr, Arc<Publisher>, u64) {
    let identity = ca.issue(&["localhost"]);
    identity.write(cluster.folder(), "server");
    std::fs::write(cluster.folder().join("ca.crt"), &ca.pem).unwrap();
    let settings = Settings {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        cert_file: cluster.folder().join("server.crt"),
        key_file: cluster.folder().join("server.key"),
        reload_interval: Duration::from_secs(5),
        accounts: vec!["default/gateway".into()],
        watched: vec!["default".into()],
        peers: None,
    };
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let checker = Arc::new(ApiServer::new(kube::Client::try_from(config).unwrap(), AUDIENCE));
    let publisher = Arc::new(Publisher::new().with_sidecars());
    let version = publisher.update(items(), About { forks: vec![fork()], ..About::default() }).version;
    let registry = prometheus::Registry::new();
    let server = Server::bind(&settings, publisher.clone(), checker, Arc::new(|_, body| body), &registry)
        .await
        .unwrap();
    let address = server.address().unwrap();
    tokio::spawn(server.serve(std::future::pending()));
    (address, publisher, version)
}

fn items() -> BTreeMap<Box<str>, Item> {
    let preview = Item::Preview(Preview {
        key: Key::bare("42").unwrap(),
        forks: BTreeMap::from([("checkout.shop".into(), vec![([10, 0, 0, 2], 80).into()])]),
        parents: Vec::new(),
        aliases: Vec::new(),
        hosts: Vec::new(),
        on_fork_down: OnForkDown::Fail,
        expires: None,
    });
    BTreeMap::from([(preview.id().into(), preview)])
}

fn fork() -> Fork {
    let source = ObjectId {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: Name::new("shop", "checkout-42"),
        uid: "1".into(),
    };
    Fork {
        key: Key::bare("42").unwrap(),
        service: Name::new("shop", "checkout"),
        source,
        state: ForkState::Routed,
        message: "".into(),
        endpoints: 1,
    }
}

async fn account(kube: &Kube, name: &str) {
    kube.create(json!({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}})).await;
}

async fn status(address: SocketAddr, ca: &Ca, target: &str, token: &str) -> u16 {
    let mut conn = Conn::tls(address, "localhost", &["h2"], ca.roots()).await.unwrap();
    conn.send(get("localhost", target).header("authorization", &format!("Bearer {token}"))).await.status
}

pub(crate) async fn tokens_and_rights_are_those_of_the_cluster(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    let kube = cluster.admin().await;
    let ca = Ca::new();
    for name in ["gateway", "ci", "stranger"] {
        account(&kube, name).await;
    }
    kube.create(json!({"kind": "ClusterRole", "metadata": {"name": "see-previews"},
        "rules": [{"apiGroups": ["sidetrack.dev"], "resources": ["previews"], "verbs": ["get"]}]}))
        .await;
    kube.create(json!({"kind": "ClusterRoleBinding", "metadata": {"name": "see-previews"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "see-previews"},
        "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": "default"}]}))
        .await;
    let (address, publisher, version) = server(&cluster, &ca).await;
    let gateway = kube.token("default", "gateway", AUDIENCE).await;
    let ci = kube.token("default", "ci", AUDIENCE).await;
    let stranger = kube.token("default", "stranger", AUDIENCE).await;
    let for_api = kube.token("default", "gateway", "").await;
    for (target, token, expected) in [
        // A bad query is said after the rights are checked, and ends at once where a stream would not.
        ("/v1/stream", &gateway, 400),
        ("/v1/stream", &ci, 403),
        ("/v1/stream", &stranger, 403),
        ("/v1/stream", &for_api, 401),
        ("/v1/previews", &for_api, 401),
        ("/v1/previews", &gateway, 200),
        ("/v1/previews", &ci, 200),
        ("/v1/previews", &stranger, 403),
        ("/v1/previews", &format!("{ci}x"), 401),
    ] {
        assert_eq!(status(address, &ca, target, token).await, expected, "{target}");
    }

    for (pod, annotations, status) in
        [("injected", json!({"sidetrack.dev/injected": "0123"}), 400), ("plain", json!({}), 403)]
    {
        let meta = json!({"name": pod, "namespace": "default", "annotations": annotations});
        let containers = json!([{"name": "app", "image": "shop:main"}]);
        let spec = json!({"serviceAccountName": "stranger", "containers": containers});
        let made = kube.create(json!({"kind": "Pod", "metadata": meta, "spec": spec})).await;
        let token = kube.pod_token(&made, "stranger", AUDIENCE).await;
        assert_eq!(self::status(address, &ca, "/v1/stream", &token).await, status, "{pod}");
        assert_eq!(self::status(address, &ca, "/v1/stream?node=gw-1", &token).await, 403, "{pod}");
    }

    let folder = cluster.folder();
    std::fs::write(folder.join("ci-token"), &ci).unwrap();
    let url = format!("https://localhost:{}", address.port());
    let common = ["--controller", &url, "--controller-ca", "ca.crt", "--token-file", "ci-token"];
    let said =
        sidetrack_tests::run(folder, &[&["wait", "42", "--timeout", "1s"], &common[..]].concat()).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("no gateway is connected"), "{said:?}");
    let _stream = publisher.acks().connect("gw-1").unwrap();
    let said =
        sidetrack_tests::run(folder, &[&["wait", "42", "--timeout", "1s"], &common[..]].concat()).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("gateway gw-1 has not acknowledged it"), "{said:?}");
    let report = Report { node: "gw-1".into(), epoch: publisher.epoch().into(), version, error: None };
    publisher.acks().report(&report, publisher.epoch(), version).unwrap();
    let said =
        sidetrack_tests::run(folder, &[&["wait", "42", "--timeout", "10s"], &common[..]].concat()).await;
    assert_eq!((said.code, said.stdout.trim()), (0, "preview 42 is ready"), "{said:?}");
    let listed = sidetrack_tests::run(folder, &[&["preview", "ls"], &common[..]].concat()).await;
    assert!(listed.stdout.contains("shop/checkout=1 ready"), "{listed:?}");

    cluster.kill_api().await;
    assert_eq!(status(address, &ca, "/v1/previews", &gateway).await, 200, "who was known stays known");
    assert_eq!(status(address, &ca, "/v1/previews", &ci).await, 200);
    let new = format!("{gateway}x");
    assert_eq!(status(address, &ca, "/v1/previews", &new).await, 503);
    cluster.restart_api().await;
    eventually("the API server answers again", async || {
        status(address, &ca, "/v1/previews", &new).await == 401
    })
    .await;
}
