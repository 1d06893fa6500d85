//! Many at once.

use std::sync::Arc;
use std::time::Instant;

use sidetrack_cluster_tests::{Cluster, Crowd, Estate, Install, Release, crowd, until};
use sidetrack_tests::{Conn, get};

use crate::forks::{from, refused};

const CROWD: Crowd = Crowd { services: 1000, previews: 100, forks: 5 };

/// Every one of 1,000 baselines and 500 forks is where it should be, and a change among them is in force at once.
pub(crate) async fn a_thousand_services_and_a_hundred_previews_of_five_forks(_: Arc<Estate>) {
    let cluster = Cluster::bare();
    let install = Install::new(&cluster).await;
    let kube = cluster.admin().await;
    CROWD.make(&kube).await;
    let release = Release::start(install, 1).await;
    let host = |service: usize| format!("s{service}.preview.example.com");
    let last = Crowd::baseline(CROWD.services - 1).to_string();
    release.until("the last route is there", || get(&host(CROWD.services - 1), "/"), from(&last)).await;
    let mut conn = Conn::http1(release.gateway.address()).await.unwrap();
    for service in 0..CROWD.services {
        conn.send(get(&host(service), "/")).await.came_from(&Crowd::baseline(service).to_string());
    }
    for fork in 0..CROWD.previews * CROWD.forks {
        let (service, key) = (CROWD.service_of(fork), CROWD.key_of(fork));
        conn.send(get(&host(service), "/").key(&key)).await.came_from(&Crowd::fork(fork).to_string());
        // The next but one hundred is of another preview, or of none.
        let other = (service + 100) % CROWD.services;
        let reply = conn.send(get(&host(other), "/").key(&key)).await;
        reply.came_from(&Crowd::baseline(other).to_string());
    }
    let call = || get(&host(0), "/").key("k0");
    let began = Instant::now();
    crowd::move_to(&kube, "f0", Crowd::fork(5000)).await;
    until(&release.gateway, "the fork has moved", call, from(&Crowd::fork(5000).to_string())).await;
    println!("a change among {CROWD:?}: {:?}", began.elapsed());
    crowd::empty(&kube, "f0").await;
    release.until("the fork is down", call, refused(503)).await;
    conn.send(get(&host(0), "/")).await.came_from(&Crowd::baseline(0).to_string());
}
