//! The same with sidecars alone: nobody reports, and each sidecar adds to its answer what its workload's calls brought.

use sidetrack_tests::Upstream;

use super::*;

/// A workload with its sidecar.
struct Pod {
    app: App,
    sidecar: Gateway,
}

impl Pod {
    fn inbound(&self) -> SocketAddr {
        self.sidecar.listeners[0]
    }
}

/// A sidecar beside `app`, which is an endpoint of `service`. `callees` are the services that it calls, each with what
/// answers for its baseline, and for its fork of preview 42.
async fn pod(
    folder: &Path,
    (name, service, key): (&str, &str, Option<&str>),
    app: App,
    callees: &[(&str, SocketAddr, Option<SocketAddr>)],
) -> Pod {
    let mut listeners = vec![json!({"address": "127.0.0.1:0", "direction": "inbound"})];
    let mut services = json!({service: {"baseline": [app.endpoint()]}});
    let mut forks = json!({});
    if key.is_some() {
        forks[service] = json!([app.endpoint()]);
    }
    for (callee, baseline, fork) in callees {
        listeners.push(json!({"address": "127.0.0.1:0", "direction": "outbound", "service": callee}));
        services[callee] = json!({"baseline": [baseline.to_string()]});
        if let Some(fork) = fork {
            forks[callee] = json!([fork.to_string()]);
        }
    }
    let mut workload = json!({"service": service});
    if let Some(key) = key {
        workload["key"] = key.into();
    }
    let config = json!({
        "role": "sidecar",
        "sidecar": workload,
        "listeners": listeners,
        "services": services,
        "previews": {"42": {"forks": forks}},
    });
    let sidecar = proxy(folder, name, config).await;
    app.calls(&sidecar.listeners[1..]);
    Pod { app, sidecar }
}

/// `frontend -> checkout@42 -> payment`, sidecars everywhere, and a gateway in front that listens for reports or not.
struct Pods {
    gateway: Gateway,
    frontend: Pod,
    checkout: Pod,
    _payment: Pod,
    _folder: TempDir,
}

impl Pods {
    async fn start(when: When, hands_on: &[&'static str], context: Value) -> Self {
        let folder = folder();
        let at = folder.path();
        let app = async |name: &str, when| App::start(name, when, hands_on).await;
        let payment = pod(at, ("payment", "payment", None), app("payment", When::Before).await, &[]).await;
        let checkout = app("checkout-42", When::Before).await;
        let callees = [("payment", payment.inbound(), None)];
        let checkout = pod(at, ("checkout", "checkout", Some("42")), checkout, &callees).await;
        let frontend = app("frontend", when).await;
        let callees = [
            ("checkout", checkout.inbound(), Some(checkout.inbound())),
            ("payment", payment.inbound(), None),
        ];
        let frontend = pod(at, ("frontend", "frontend", None), frontend, &callees).await;
        let gateway = json!({
            "listeners": [{"address": "127.0.0.1:0"}],
            "domains": [D],
            "services": {"frontend": {"baseline": [frontend.inbound().to_string()]}},
            "routes": [{"host": D, "service": "frontend"}],
            "previews": {"42": {}},
            "context": context,
        });
        let gateway = proxy(at, "gateway", gateway).await;
        Self { gateway, frontend, checkout, _payment: payment, _folder: folder }
    }
}

/// What such an estate tells: frontend calls checkout, which calls payment, and then payment by itself.
const TOLD: [&str; 4] = [
    "frontend@baseline;reason=no_fork",
    "checkout@42;reason=fork",
    "payment@baseline;reason=no_fork",
    "payment@baseline;reason=no_fork",
];

#[tokio::test]
async fn each_hop_is_named_once() {
    for (hands_on, context) in [
        (&["traceparent", "tracestate"][..], json!({})),
        (&["traceparent", "x-pr-id"][..], json!({})),
        (&["x-request-id", "x-pr-id"][..], json!({})),
        (&["traceparent", "tracestate"][..], json!({"reports": "127.0.0.1:0"})),
        (&["traceparent", "x-pr-id"][..], json!({"reports": "127.0.0.1:0"})),
    ] {
        let pods = Pods::start(When::Before, hands_on, context.clone()).await;
        for _ in 0..5 {
            let reply = pods.gateway.send(get(D, "/").key("42")).await;
            reply.came_from("frontend");
            assert_eq!(chain(&reply), TOLD, "{hands_on:?} {context} {reply:?}");
            let names: Vec<_> = metrics(&reply).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["pr-1", "pr-1-1", "pr-1-1-1", "pr-1-2"], "{reply:?}");
        }
    }
}

#[tokio::test]
async fn what_a_workload_hands_on_of_answers_is_not_told_twice() {
    let pods = Pods::start(When::AtOnce, &W3C, json!({"reports": "127.0.0.1:0"})).await;
    // The receipts of 8 requests of one trace that are open at once.
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut conn = pods.gateway.http1().await;
        calls.push(tokio::spawn(async move { conn.send(keyed()).await }));
    }
    for call in calls {
        let mut told = chain(&call.await.unwrap());
        told.sort();
        let mut expected = TOLD.to_vec();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
    let seen = pods.frontend.app.seen().len();
    assert_eq!((seen, pods.checkout.app.seen().len()), (8, 8));
}

#[tokio::test]
async fn a_call_that_has_no_answer_yet_is_marked() {
    let folder = folder();
    let held = Upstream::start("held").await;
    let quick = Upstream::start("quick").await;
    let app = App::start("frontend", When::First, &["traceparent", "x-pr-id"]).await;
    let callees = [("held", held.address, None), ("quick", quick.address, None)];
    let pod = pod(folder.path(), ("frontend", "frontend", None), app, &callees).await;
    let mut conn = Conn::http1(pod.inbound()).await.unwrap();
    eventually("the answer comes before that of a call", async || {
        let told = chain(&conn.send(keyed()).await);
        assert_eq!(told[0], TOLD[0]);
        assert!(told.len() < 3 || told[1..] == ["quick@baseline;reason=no_fork", "..."], "{told:?}");
        told.last().unwrap() == "..."
    })
    .await;
}
