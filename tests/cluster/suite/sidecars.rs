//! Sidecars that run: pods that ask for one are made, and run, as the API server gives them back. Their init container
//! redirects, their sidecar is the process that its container says, and their app hands on nothing but `traceparent`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use sidetrack_cluster_tests::{Cluster, Estate, Install, Release, Space, call_from, kill_in, sandbox};
use sidetrack_tests::{Call, Conn, Reply, eventually, get};

/// Waypoints would stand between, and what is shown here could be theirs.
const VALUES: [&str; 2] = ["sidecar.inject.enabled=true", "waypoint.enabled=false"];
const SPACE: &str = "beside";
const FRONTEND: &str = "frontend.preview.example.com";
const SHIPPING: &str = "shipping.preview.example.com";
const BASELINE: [&str; 3] = ["frontend@baseline", "payment@baseline", "ledger@baseline"];
/// How long it may take until a fork whose pod is ready gets requests, on a busy machine; its EndpointSlice alone was seen to
/// take four seconds.
const MOMENTS: Duration = Duration::from_secs(15);

/// A release with sidecars and no waypoints, and in the namespace `beside` the estate `frontend -> payment -> ledger`, and
/// `shipping -> payment`, all of whose pods ask for sidecars; `shipping` for one without privilege.
struct Beside {
    release: Release,
    space: Space,
    _cluster: Cluster,
}

/// Who answered, from front to end: `frontend@baseline`. Nobody, where a proxy did.
fn path(reply: &Reply) -> Vec<String> {
    let (mut found, mut said) = (Vec::new(), reply.json());
    while let (Some(service), Some(version)) = (said["service"].as_str(), said["version"].as_str()) {
        found.push(format!("{service}@{version}"));
        said = said.pointer_mut("/calls/0/answer").map(Value::take).unwrap_or_default();
    }
    found
}

/// The receipt without what differs from run to run.
fn receipt(reply: &Reply) -> Vec<String> {
    let without = |entry: String| entry.split(";gen=").next().unwrap().to_owned();
    reply.receipts().into_iter().map(without).collect()
}

fn is(expected: [&str; 3]) -> impl Fn(&Reply) -> bool {
    move |reply| reply.status == 200 && path(reply) == expected
}

/// Services: payment has two ports, and the one of shipping sends to a name.
fn services() -> [(&'static str, Value); 4] {
    let http = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let two = json!([
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "metrics", "port": 9090, "targetPort": 9090},
    ]);
    let named = json!([{"name": "http", "port": 80, "targetPort": "http"}]);
    [("frontend", http.clone()), ("payment", two), ("ledger", http), ("shipping", named)]
}

/// A Deployment of the chain's service, whose app knows its callee by name and hands on its `traceparent` alone.
fn deployment(service: &str, version: &str, callee: Option<&str>) -> Value {
    let name = if version == "baseline" { service.to_owned() } else { format!("{service}-pr-{version}") };
    let mut labels = json!({"app": name, "sidetrack.dev/inject": "true"});
    if version != "baseline" {
        labels["sidetrack.dev/pr"] = json!(version);
        labels["sidetrack.dev/fork-of"] = json!(service);
    }
    let calls: Value =
        callee.map(|name| (name.to_owned(), json!(format!("http://{name}.{SPACE}")))).into_iter().collect();
    let env = [
        ("SERVICE", service),
        ("VERSION", version),
        ("LISTEN", "0.0.0.0:8080"),
        ("STYLE", "traceparent"),
        ("CALLS", &calls.to_string()),
    ];
    let env = env.map(|(name, value)| json!({"name": name, "value": value}));
    let probe = json!({"httpGet": {"path": "/leaf", "port": "http"}, "periodSeconds": 1});
    let ports = json!([{"containerPort": 8080, "name": "http"}]);
    let image = format!("sidetrack-chain:{version}");
    let container =
        json!({"name": "app", "image": image, "env": env, "ports": ports, "readinessProbe": probe});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let selector = json!({"matchLabels": {"app": name}});
    let spec = json!({"replicas": 1, "selector": selector, "template": template});
    json!({"kind": "Deployment", "metadata": {"name": name}, "spec": spec})
}

impl Beside {
    async fn start() -> Self {
        let cluster = Cluster::start();
        let release = Release::start(Install::with(&cluster, &VALUES).await, 1).await;
        let beside = Self { release, space: Space::new(&cluster, SPACE).await, _cluster: cluster };
        for (name, ports) in services() {
            let spec = json!({"selector": {"app": name}, "ports": ports});
            let service = json!({"kind": "Service", "metadata": {"name": name}, "spec": spec});
            let made = beside.space.create(service).await;
            // What a cluster's DNS would say.
            let ip = made["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
            sandbox::name(&format!("{name}.{SPACE}"), &[ip]);
            beside.injects(name).await;
        }
        for (service, callee) in
            [("frontend", Some("payment")), ("payment", Some("ledger")), ("ledger", None)]
        {
            beside.space.create(deployment(service, "baseline", callee)).await;
        }
        let mut shipping = deployment("shipping", "baseline", Some("payment"));
        shipping["spec"]["template"]["metadata"]["annotations"] =
            json!({"sidetrack.dev/inject-mode": "ports"});
        beside.space.create(shipping).await;
        beside.space.route("frontend", FRONTEND, &[("frontend", 1)]).await;
        beside.space.route("shipping", SHIPPING, &[("shipping", 1)]).await;
        beside
    }

    /// Waits until a pod of this Service would be given a sidecar that knows it.
    async fn injects(&self, service: &str) {
        let container = json!({"name": "app", "image": "nothing"});
        let labels = json!({"app": service, "sidetrack.dev/inject": "true"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try", "labels": labels},
            "spec": {"containers": [container]}});
        let path = format!("/api/v1/namespaces/{SPACE}/pods?dryRun=All");
        eventually(&format!("pods of {service} are given sidecars"), async || {
            let made =
                self.space.kube.ask(Method::POST, &path, "application/json", Some(&pod)).await.unwrap();
            let env = made["spec"]["containers"][0]["env"].to_string();
            env.contains(&format!("{service}.{SPACE}"))
        })
        .await;
    }

    /// Deploys the fork of a service for `key`, and waits until its pod is ready; its address.
    async fn fork(&self, service: &str, key: &str, callee: Option<&str>) -> Ipv4Addr {
        self.space.create(deployment(service, key, callee)).await;
        self.ready(&format!("{service}-pr-{key}")).await
    }

    /// Waits until the pod of a Deployment is ready; its address.
    async fn ready(&self, name: &str) -> Ipv4Addr {
        let mut ip = None;
        eventually(&format!("{name} is ready"), async || {
            let pods = self.space.pods(name).await;
            ip = pods
                .iter()
                .find(|pod| pod["status"]["conditions"].to_string().contains(r#""True","type":"Ready""#))
                .and_then(|pod| pod["status"]["podIP"].as_str()?.parse().ok());
            ip.is_some()
        })
        .await;
        ip.unwrap()
    }

    /// Calls port 80 of a Service from a pod, as its app would.
    async fn call(&self, pod: Ipv4Addr, service: &str, call: impl FnOnce(&str) -> Call) -> Reply {
        let found = self.space.kube.get("Service", SPACE, service).await.unwrap();
        let ip: Ipv4Addr = found["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        call_from(pod, SocketAddr::from((ip, 80)), call(&format!("{service}.{SPACE}"))).await
    }

    async fn until(&self, what: &str, call: impl Fn() -> Call, expected: [&str; 3]) -> Reply {
        self.release.until(what, call, is(expected)).await
    }

    /// The same, and it does not take long: what the cluster knows is followed.
    async fn soon(&self, call: impl Fn() -> Call, expected: [&str; 3]) -> Reply {
        let began = Instant::now();
        let reply = self.until("the table is followed", call, expected).await;
        assert!(began.elapsed() < MOMENTS, "{expected:?} took {:?}", began.elapsed());
        reply
    }

    async fn a_call_of_a_fork_is_stamped(&self, fork: Ipv4Addr) {
        let reply = self.call(fork, "ledger", |host| get(host, "/leaf")).await;
        assert_eq!(
            (path(&reply), receipt(&reply)),
            (vec!["ledger@42".into()], vec!["ledger.beside@42;reason=fork;stamped".into()])
        );
        // One that has a key keeps that; it is of no preview, and a sidecar fails nothing for it.
        let reply = self.call(fork, "ledger", |host| get(host, "/leaf").key("57")).await;
        assert_eq!(path(&reply), ["ledger@baseline"]);
        let baseline = self.ready("payment").await;
        let reply = self.call(baseline, "ledger", |host| get(host, "/leaf")).await;
        assert_eq!((path(&reply), reply.header("x-pr-route")), (vec!["ledger@baseline".into()], None));
    }

    /// By the secrets that came with the table: the sidecar that reads it has never seen a key with this trace.
    async fn a_trace_of_the_gateway_is_read(&self, reply: &Reply) {
        let stranger = self.ready("ledger").await;
        let trace = reply.json()["received"]["traceparent"].take();
        let with = |trace: &str| get("payment.beside", "/leaf").header("traceparent", trace);
        let reply = self.call(stranger, "payment", |_| with(trace.as_str().unwrap())).await;
        assert_eq!(path(&reply), ["payment@42"]);
        let foreign = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let reply = self.call(stranger, "payment", |_| with(foreign)).await;
        assert_eq!((path(&reply), reply.header("x-pr-route")), (vec!["payment@baseline".into()], None));
    }

    /// Its sidecar knows which service it is, although the Service has two ports.
    async fn a_baseline_hands_on_what_is_for_a_fork(&self) {
        let pod = SocketAddr::from((self.ready("payment").await, 8080));
        let mut conn = Conn::http1(pod).await.unwrap();
        let reply = conn.send(get("payment.beside", "/leaf").key("42")).await;
        assert_eq!(
            (path(&reply), receipt(&reply)),
            (vec!["payment@42".into()], vec!["payment.beside:http@42;reason=fork".into()])
        );
        assert_eq!(path(&conn.send(get("payment.beside", "/leaf")).await), ["payment@baseline"]);
    }

    /// Requests go on, also by a sidecar that is started again meanwhile.
    async fn without_a_controller(&mut self, expected: [&str; 3]) {
        let mut controller = self.release.controllers.remove(0);
        controller.process.kill();
        self.release.withdraw(controller.address).await;
        for _ in 0..100 {
            let reply = self.release.gateway.send(keyed(FRONTEND, "42")()).await;
            assert!(is(expected)(&reply), "{:?} {reply:?}", path(&reply));
            let reply = self.release.gateway.send(chain(FRONTEND)()).await;
            assert!(is(BASELINE)(&reply), "{:?} {reply:?}", path(&reply));
        }
        self.nothing_was_restarted().await;
        kill_in(self.ready("frontend").await, "sidecar");
        eventually("the sidecar is started again, and ready by the table that it kept", async || {
            let pods = self.space.pods("frontend").await;
            let state = &pods[0]["status"]["containerStatuses"][0];
            state["name"] == "sidetrack-proxy" && state["restartCount"] == 1 && state["ready"] == true
        })
        .await;
        self.until("requests are routed as before", keyed(FRONTEND, "42"), expected).await;
        self.until("and so are those without a key", chain(FRONTEND), BASELINE).await;
    }

    async fn nothing_was_restarted(&self) {
        for pod in self.space.kube.list("Pod", SPACE).await {
            for state in pod["status"]["containerStatuses"].as_array().unwrap() {
                assert_eq!((&state["restartCount"], &state["ready"]), (&json!(0), &json!(true)), "{pod}");
            }
        }
    }
}

fn chain(host: &'static str) -> impl Fn() -> Call {
    move || get(host, "/chain")
}

fn keyed(host: &'static str, key: &'static str) -> impl Fn() -> Call {
    move || get(host, "/chain").key(key)
}

/// From the first pod to the last fork: every hop is routed, by what was injected and nothing else.
pub(crate) async fn injected_pods_route_every_hop(_: Arc<Estate>) {
    let mut beside = Beside::start().await;
    let reply = beside.until("the baseline answers", chain(FRONTEND), BASELINE).await;
    assert_eq!(reply.header("x-pr-route"), None);
    let sent = reply.json()["calls"][0]["sent"].take();
    assert_eq!(sent.as_object().unwrap().keys().collect::<Vec<_>>(), ["traceparent"]);

    let shipped = ["shipping@baseline", "payment@baseline", "ledger@baseline"];
    beside.until("so it does without a redirect", chain(SHIPPING), shipped).await;

    let payment = beside.fork("payment", "42", Some("ledger")).await;
    let expected = ["frontend@baseline", "payment@42", "ledger@baseline"];
    let reply = beside.soon(keyed(FRONTEND, "42"), expected).await;
    let expected = [
        "frontend.beside@baseline;reason=no_fork",
        "payment.beside:http@42;reason=fork",
        "ledger.beside@baseline;reason=no_fork",
    ];
    assert_eq!(receipt(&reply), expected);
    // A call to a service that nobody forks does not leave the estate: it keeps what its app did not hand on.
    let ledger = reply.json()["calls"][0]["answer"]["calls"][0]["answer"]["received"].take();
    assert_eq!((&ledger["x-pr-id"], &ledger["baggage"]), (&json!("42"), &json!("pr-id=42")));
    assert!(is(BASELINE)(&beside.release.gateway.send(chain(FRONTEND)()).await));

    // One that appears while all is running; then who brings no key is told from whom it comes.
    beside.fork("ledger", "42", None).await;
    let both = ["frontend@baseline", "payment@42", "ledger@42"];
    let reply = beside.soon(keyed(FRONTEND, "42"), both).await;
    beside.a_call_of_a_fork_is_stamped(payment).await;
    beside.a_trace_of_the_gateway_is_read(&reply).await;
    beside.a_baseline_hands_on_what_is_for_a_fork().await;
    beside.soon(keyed(SHIPPING, "42"), ["shipping@baseline", "payment@42", "ledger@42"]).await;
    assert!(is(shipped)(&beside.release.gateway.send(chain(SHIPPING)()).await));

    beside.space.kube.delete("Deployment", SPACE, "ledger-pr-42").await;
    let back = ["frontend@baseline", "payment@42", "ledger@baseline"];
    let reply = beside.soon(keyed(FRONTEND, "42"), back).await;
    assert_eq!(receipt(&reply)[2], "ledger.beside@baseline;reason=no_fork");

    beside.without_a_controller(back).await;
}
