//! How fast a cluster's change reaches a request, and what it costs, with everything real: an API server with 1,000
//! Services, 2,000 Previews and 10,000 forks, the controller, and 200 gateways that follow it.
//!
//!     cargo build --release -p sidetrack --features kubernetes
//!     cargo bench -p sidetrack-cluster-tests
//!
//! `cargo test` builds it and runs nothing: what a busy machine measures is no test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use sidetrack_cluster_tests::{Cluster, Controller, Crowd, Install, Kube, crowd, sandbox, until};
use sidetrack_tests::{Conn, Gateway, eventually, get};

const CROWD: Crowd = Crowd { services: 1000, previews: 2000, forks: 5 };
/// Changes whose way to a request is timed.
const CHANGES: usize = 200;
/// Gateways that acknowledge.
const GATEWAYS: usize = 200;
/// Changes that all of them acknowledge.
const ACKNOWLEDGED: usize = 20;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    sandbox::enter();
    let cluster = Cluster::bare();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(measure(&cluster));
}

async fn measure(cluster: &Cluster) {
    // What is measured is the way to gateways; nothing here runs the pods that waypoints would be.
    let install = Install::with(cluster, &["waypoint.enabled=false"]).await;
    let kube = cluster.admin().await;
    CROWD.make(&kube).await;
    let began = Instant::now();
    let controller = install.controller().await;
    say("controller ready after its start", &ms(began.elapsed()));
    let gateway = install.gateway("gateway-0").await;
    let last = CROWD.previews * CROWD.forks - 1;
    let (host, key) = (host(CROWD.service_of(last)), CROWD.key_of(last));
    let there =
        |reply: &sidetrack_tests::Reply| reply.header("x-upstream") == Some(&Crowd::fork(last).to_string());
    until(&gateway, "the table is there", || get(&host, "/").key(&key), there).await;
    memory(&controller);
    idle(&controller).await;
    changes(&kube, &controller, &gateway).await;
    everybody(&install, &kube, &controller).await;
    memory(&controller);
}

fn host(service: usize) -> String {
    format!("s{service}.preview.example.com")
}

fn say(what: &str, figure: &str) {
    println!("{what:<64} {figure}");
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn memory(controller: &Controller) {
    let count = CROWD.previews * CROWD.forks;
    say(
        &format!("controller, resident at {count} forks"),
        &format!("{} MiB", controller.process.resident() >> 20),
    );
}

/// How many plans it has made, and the seconds that they took together.
async fn plans(controller: &Controller) -> (f64, f64) {
    let metrics = controller.metrics().await;
    let sum = |name: &str| metrics.sum(&format!("sidetrack_controller_plan_seconds_{name}"), &[]);
    (sum("count"), sum("sum"))
}

async fn idle(controller: &Controller) {
    // What the start left to do is done by then: statuses are written, a few at a time.
    eventually("nothing is planned any more", async || {
        let before = plans(controller).await.0;
        tokio::time::sleep(Duration::from_secs(3)).await;
        plans(controller).await.0 == before
    })
    .await;
    let before = controller.process.cpu();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let share = (controller.process.cpu() - before).as_secs_f64() / 20.0 * 100.0;
    say("controller, processor while nothing changes", &format!("{share:.2} % of one"));
}

/// Moves one fork to and fro, and asks for it without a pause until the new address answers.
async fn changes(kube: &Kube, controller: &Controller, gateway: &Gateway) {
    let mut conn = Conn::http1(gateway.address()).await.unwrap();
    let bytes = async || controller.metrics().await.sum("sidetrack_controller_stream_bytes_total", &[]);
    let (cpu, sent, planned) = (controller.process.cpu(), bytes().await, plans(controller).await);
    let (mut from_patch, mut from_answer) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let to = Crowd::fork(if change % 2 == 0 { 12_000 } else { 0 });
        let patch = {
            let kube = kube.clone();
            async move {
                crowd::move_to(&kube, "f0", to).await;
                Instant::now()
            }
        };
        let began = Instant::now();
        let patch = tokio::spawn(patch);
        let want = to.to_string();
        eventually("the change is routed", async || {
            for _ in 0..50 {
                let reply = conn.send(get(&host(0), "/").key("k0")).await;
                if reply.header("x-upstream") == Some(&want) {
                    return true;
                }
            }
            false
        })
        .await;
        let routed = Instant::now();
        from_patch.push(routed - began);
        // It may be routed before the API server has answered.
        from_answer.push(routed.saturating_duration_since(patch.await.unwrap()));
    }
    let count = u32::try_from(CHANGES).unwrap();
    percentiles("EndpointSlice change sent -> first request routed", from_patch);
    percentiles("EndpointSlice change answered -> first request routed", from_answer);
    say("controller, processor for one change", &ms((controller.process.cpu() - cpu) / count));
    let now = plans(controller).await;
    let (count_of_plans, seconds) = (now.0 - planned.0, now.1 - planned.1);
    say("plans for one change", &format!("{:.2}", count_of_plans / f64::from(count)));
    say("one plan", &format!("{:.1} ms", seconds / count_of_plans * 1000.0));
    say(
        "bytes on the stream for one change, one gateway",
        &format!("{:.0}", (bytes().await - sent) / f64::from(count)),
    );
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| ms(times[(times.len() - 1) * share / 100]);
    say(what, &format!("median {}, p99 {}, most {}", at(50), at(99), at(100)));
}

/// A change, until every one of many gateways has acknowledged it.
async fn everybody(install: &Install, kube: &Kube, controller: &Controller) {
    let mut gateways = Vec::new();
    for index in 1..=GATEWAYS {
        gateways.push(install.gateway(&format!("gateway-{index}")).await);
    }
    let mut proxies = install.proxies(controller).await;
    proxies.until_all_have(GATEWAYS + 1, 0).await;
    let mut times = Vec::new();
    for change in 0..ACKNOWLEDGED {
        let before = proxies.generation().await;
        let began = Instant::now();
        crowd::move_to(kube, "f0", Crowd::fork(if change % 2 == 0 { 12_000 } else { 0 })).await;
        proxies.until_all_have(GATEWAYS + 1, before).await;
        times.push(began.elapsed());
    }
    percentiles(&format!("change sent -> acknowledged by {} gateways", GATEWAYS + 1), times);
}
