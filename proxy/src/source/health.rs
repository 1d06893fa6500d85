//! Active health checks, where a service has one: a GET to every endpoint of it, forks included. What they find is
//! one flag per endpoint, which `pick` reads.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use sidetrack_config::model::HealthCheck;
use tokio::sync::Semaphore;

use crate::forward::pool::connect;
use crate::route::table::Endpoint;
use crate::worker::LocalExecutor;

/// Failures in a row after which an endpoint is down: one may be an accident.
const FALL: u8 = 2;
/// Checks under way at once.
const AT_ONCE: usize = 256;

/// The checks of all endpoints.
pub struct Checks {
    known: HashMap<u64, Check>,
    slots: Arc<Semaphore>,
}

struct Check {
    endpoint: Weak<Endpoint>,
    rule: HealthCheck,
    due: Instant,
    failures: Rc<std::cell::Cell<u8>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { known: HashMap::new(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Checks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Starts the checks that are due. Called several times a second, on the control thread, while there are any.
    pub fn run(&mut self, now: Instant) {
        let mut dead = Vec::new();
        for (id, check) in self.known.iter_mut().filter(|(_, check)| check.due <= now) {
            let Some(endpoint) = check.endpoint.upgrade() else {
                dead.push(*id);
                continue;
            };
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            check.due = now + check.rule.interval;
            let (rule, failures) = (check.rule.clone(), Rc::clone(&check.failures));
            tokio::task::spawn_local(async move {
                let passed = tokio::time::timeout(rule.timeout, ask(&endpoint, &rule.path)).await == Ok(true);
                judge(&endpoint, &failures, passed);
                drop(slot);
            });
        }
        for id in dead {
            self.known.remove(&id);
        }
    }

    /// Checks these endpoints too from now on, for as long as they are there.
    pub fn learn(&mut self, new: Vec<Weak<Endpoint>>, now: Instant) {
        for endpoint in new.iter().filter_map(Weak::upgrade) {
            let Some(rule) = &endpoint.upstream.health_check else { continue };
            self.known.entry(endpoint.id).or_insert_with(|| Check {
                endpoint: Arc::downgrade(&endpoint),
                rule: rule.clone(),
                due: now,
                failures: Rc::default(),
            });
        }
    }
}

fn judge(endpoint: &Endpoint, failures: &std::cell::Cell<u8>, passed: bool) {
    failures.set(if passed { 0 } else { failures.get().saturating_add(1) });
    let healthy = failures.get() < FALL;
    if endpoint.healthy.swap(healthy, Ordering::Relaxed) != healthy {
        tracing::info!(endpoint = %endpoint.address, healthy, "active check");
    }
}

/// One check: whether 2xx or 3xx answers.
async fn ask(endpoint: &Endpoint, path: &str) -> bool {
    let Ok(io) = connect(endpoint).await else { return false };
    let io = TokioIo::new(io);
    let http2 = endpoint.upstream.protocol.is_http2();
    let scheme = if endpoint.upstream.tls.is_some() { "https" } else { "http" };
    let host = endpoint.address.to_string();
    let uri = if http2 { format!("{scheme}://{host}{path}") } else { path.to_owned() };
    let mut request = Request::get(uri).header("user-agent", "sidetrack-health");
    if !http2 {
        request = request.header("host", host);
    }
    let Ok(request) = request.body(Empty::<Bytes>::new()) else { return false };
    let status = if http2 {
        let Ok((mut sender, connection)) = hyper::client::conn::http2::handshake(LocalExecutor, io).await
        else {
            return false;
        };
        let driver = tokio::task::spawn_local(connection);
        let answer = sender.send_request(request).await;
        driver.abort();
        answer.map(|answer| answer.status())
    } else {
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else {
            return false;
        };
        let driver = tokio::task::spawn_local(connection);
        let answer = sender.send_request(request).await;
        driver.abort();
        answer.map(|answer| answer.status())
    };
    status.is_ok_and(|status| status.is_success() || status.is_redirection())
}

/// How often [`Checks::run`] is called.
pub const STEP: Duration = Duration::from_millis(100);
