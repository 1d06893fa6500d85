//! Callers of a Service inside a cluster, as kube-proxy makes them: each call goes to one of the endpoints that the Service's
//! EndpointSlices had, now or a second ago. There is no node here that translates ClusterIPs.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetrack_cluster_tests::Kube;
use sidetrack_tests::{Call, Conn, Reply, eventually, get};
use tokio::task::JoinHandle;

/// How late each node is.
const LATE: [Duration; 2] = [Duration::ZERO, Duration::from_secs(1)];
/// How often EndpointSlices are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Callers that call until they are told to end.
pub(super) struct Callers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What the slices said, and when.
    seen: Mutex<VecDeque<(Instant, Vec<SocketAddr>)>>,
    calls: AtomicUsize,
    through: AtomicUsize,
    next: AtomicUsize,
    ended: AtomicBool,
    failures: Mutex<Vec<String>>,
    /// Who has to answer them.
    upstream: &'static str,
}

impl Shared {
    fn learn(&self, now: (Instant, Vec<SocketAddr>)) {
        let mut seen = self.seen.lock().unwrap();
        seen.push_back(now);
        while seen.front().is_some_and(|(at, _)| at.elapsed() > LATE[1] * 2) {
            seen.pop_front();
        }
    }

    /// One of the endpoints that a node knows that is so late; its oldest knowledge where it knows nothing that old.
    fn endpoint(&self, late: Duration) -> Option<SocketAddr> {
        let seen = self.seen.lock().unwrap();
        let old = seen.iter().rev().find(|(at, _)| at.elapsed() >= late).or_else(|| seen.front());
        let (_, endpoints) = old?;
        endpoints.get(self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1)).copied()
    }

    async fn call_one(&self, late: Duration) -> Result<(), String> {
        let endpoint = self.endpoint(late).ok_or("the Service has no endpoint")?;
        let at = |error: &dyn std::fmt::Display| format!("{endpoint}: {error}");
        let mut conn = Conn::http1(endpoint).await.map_err(|error| at(&error))?;
        let reply = conn.try_send(get("checkout", "/")).await.map_err(|error| at(&error))?;
        if reply.status != 200 || reply.header("x-upstream") != Some(self.upstream) {
            return Err(at(&format!("{reply:?}")));
        }
        self.through.fetch_add(usize::from(is_of_waypoint(&endpoint)), Ordering::Relaxed);
        Ok(())
    }
}

impl Callers {
    /// Starts them; `upstream` has to answer every call.
    pub(super) async fn start(
        kube: &Kube,
        (namespace, service): (&'static str, &'static str),
        upstream: &'static str,
    ) -> Self {
        let shared = Arc::new(Shared { upstream, ..Shared::default() });
        shared.learn((Instant::now(), endpoints(kube, namespace, service).await));
        let mut tasks = Vec::new();
        let (watched, kube) = (shared.clone(), kube.clone());
        tasks.push(tokio::spawn(async move {
            while !watched.ended.load(Ordering::Relaxed) {
                let now = (Instant::now(), endpoints(&kube, namespace, service).await);
                watched.learn(now);
                tokio::time::sleep(LOOK).await;
            }
        }));
        for late in LATE {
            let shared = shared.clone();
            tasks.push(tokio::spawn(async move {
                while !shared.ended.load(Ordering::Relaxed) {
                    let result = shared.call_one(late).await;
                    shared.calls.fetch_add(1, Ordering::Relaxed);
                    if let Err(why) = result {
                        shared.failures.lock().unwrap().push(format!("{late:?} late: {why}"));
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        Self { shared, tasks }
    }

    /// Waits until so many more calls were answered.
    pub(super) async fn called(&self, count: usize) {
        let until = self.shared.calls.load(Ordering::Relaxed) + count;
        eventually("calls are made", async || self.shared.calls.load(Ordering::Relaxed) >= until).await;
    }

    /// Waits until every node, however late, knows waypoints alone; or none of them.
    pub(super) async fn know(&self, waypoints: bool) {
        eventually(&format!("all callers come to waypoints: {waypoints}"), async || {
            let seen = self.shared.seen.lock().unwrap();
            let fits = |all: &[SocketAddr]| {
                !all.is_empty() && all.iter().all(|one| is_of_waypoint(one) == waypoints)
            };
            // What the latest of them knows, and all that was seen since.
            let oldest = seen.iter().rposition(|(at, _)| at.elapsed() >= LATE[1]);
            oldest.is_some_and(|oldest| seen.range(oldest..).all(|(_, all)| fits(all)))
        })
        .await;
    }

    /// A connection to an endpoint of this moment, to be kept.
    pub(super) async fn connect(&self) -> Conn {
        Conn::http1(self.shared.endpoint(Duration::ZERO).unwrap()).await.unwrap()
    }

    /// Calls by an endpoint of this moment.
    pub(super) async fn call(&self, call: Call) -> Reply {
        let endpoint = self.shared.endpoint(Duration::ZERO).unwrap();
        Conn::http1(endpoint).await.unwrap().send(call).await
    }

    /// Ends them; how many calls went through a waypoint, and how many there were. None may have failed.
    pub(super) fn end(self) -> (usize, usize) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.tasks.iter().for_each(JoinHandle::abort);
        let failures = self.shared.failures.lock().unwrap();
        let calls = self.shared.calls.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {calls} calls failed: {:#?}",
            failures.len(),
            &failures[..failures.len().min(10)]
        );
        (self.shared.through.load(Ordering::Relaxed), calls)
    }
}

/// By the ports that waypoints have for Services.
fn is_of_waypoint(endpoint: &SocketAddr) -> bool {
    (15_200..16_200).contains(&endpoint.port())
}

/// The ready endpoints of a Service by its slices.
async fn endpoints(kube: &Kube, namespace: &str, service: &str) -> Vec<SocketAddr> {
    let slices = kube.list("EndpointSlice", namespace).await;
    let of = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
    let mut found = Vec::new();
    for slice in slices.iter().filter(of) {
        let Some(port) = slice["ports"][0]["port"].as_u64() else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == true {
                let ip: std::net::IpAddr = endpoint["addresses"][0].as_str().unwrap().parse().unwrap();
                found.push(SocketAddr::new(ip, u16::try_from(port).unwrap()));
            }
        }
    }
    found
}
