//! A probe of a container, asked as a kubelet asks it: over HTTP, from the node, at the address of the pod.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetrack_tests::{Conn, get};

/// One probe, and what it said so far.
pub(crate) struct Probe {
    path: String,
    at: SocketAddr,
    period: Duration,
    patience: Duration,
    threshold: u64,
    asked: Option<Instant>,
    failures: u64,
    passes: bool,
}

impl Probe {
    /// The one of a container's `spec`, which begins as passed or not; `None` where there is none.
    pub(crate) fn of(probe: &Value, spec: &Value, ip: &str, passes: bool) -> Option<Self> {
        let call = probe.get("httpGet")?;
        let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let port = match call["port"].as_str() {
            Some(name) => {
                let mut all = spec["ports"].as_array().unwrap().iter();
                number(&all.find(|port| port["name"] == name).unwrap()["containerPort"])
            }
            None => number(&call["port"]),
        };
        let seconds = |name: &str| Duration::from_secs(probe[name].as_u64().unwrap());
        Some(Self {
            path: call["path"].as_str().unwrap().to_owned(),
            at: SocketAddr::new(ip.parse().unwrap(), port),
            period: seconds("periodSeconds"),
            patience: seconds("timeoutSeconds"),
            threshold: probe["failureThreshold"].as_u64().unwrap(),
            asked: None,
            failures: 0,
            passes,
        })
    }

    /// What it says, after it was asked where that is due.
    pub(crate) async fn passes(&mut self) -> bool {
        if self.asked.is_none_or(|asked| asked.elapsed() >= self.period) {
            self.asked = Some(Instant::now());
            let good = tokio::time::timeout(self.patience, self.ask()).await.unwrap_or(false);
            self.failures = if good { 0 } else { self.failures + 1 };
            self.passes = good || (self.passes && self.failures < self.threshold);
        }
        self.passes
    }

    async fn ask(&self) -> bool {
        let Ok(mut conn) = Conn::http1(self.at).await else { return false };
        let reply = conn.try_send(get(&self.at.to_string(), &self.path)).await;
        reply.is_ok_and(|reply| (200..400).contains(&reply.status))
    }
}
