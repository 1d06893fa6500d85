//! The world itself: if it does not hold, nothing that is shown in it counts.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use sidetrack_cluster_tests::{Cluster, Estate};
use sidetrack_tests::{Conn, get};

pub(crate) async fn pods_are_real_servers(estate: Arc<Estate>) {
    let space = estate.space("harness").await;
    space.baseline("shop").await;
    let pod = space.pods("shop").await.remove(0);
    let address: SocketAddr = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    let reply = Conn::http1(address).await.unwrap().send(get("shop", "/")).await;
    reply.came_from("shop:main");
    space.set_ready("shop", false).await;
    space.endpoints("shop", 0).await;
    space.kube.delete("Deployment", "harness", "shop").await;
    sidetrack_tests::eventually("the pod is gone", async || space.pods("shop").await.is_empty()).await;
    sidetrack_tests::eventually("nobody listens there", async || Conn::http1(address).await.is_err()).await;
}

pub(crate) async fn the_api_server_can_be_killed(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    let kube = cluster.admin().await;
    // The server makes it a moment after it has begun to answer.
    let is_there = async || kube.get("Namespace", "", "default").await.is_some();
    sidetrack_tests::eventually("the namespace is there", is_there).await;
    kube.create(
        json!({"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"a": "b"}}),
    )
    .await;
    for _ in 0..2 {
        cluster.kill_api().await;
        assert!(!kube.is_ready().await);
        cluster.restart_api().await;
    }
    assert_eq!(kube.get("ConfigMap", "default", "a").await.unwrap()["data"]["a"], "b");
    cluster.compact().await;
    let path = "/api/v1/configmaps?watch=1&resourceVersion=1";
    let event = kube.ask(http::Method::GET, path, "", None).await.unwrap();
    assert_eq!(event["object"]["code"], 410, "{event}");
}
