//! Tables of pods: a token gives one to the pod that it is bound to, if that is to have one, under its own name.

use super::*;

impl Running {
    /// One with a table for sidecars, which knows the pod of the token `other`.
    async fn for_sidecars(annotations: &[(&str, &str)]) -> Self {
        let server = Self::of(Arc::new(Files::new()), None, Publisher::new().with_sidecars()).await;
        server.publisher.publish(
            BTreeMap::from([("service/a".into(), service("a", 1))]),
            BTreeMap::new(),
            BTreeMap::new(),
            About::default(),
        );
        server.script.pods.lock().unwrap().insert(Name::new("shop", "checkout-0"), meta(&[], annotations));
        server
    }

    async fn refuses(&self, target: &str, token: &str, status: u16, detail: &str) {
        let reply = self.get(target, token).await;
        assert_eq!(reply.status.as_u16(), status, "{token}: {:?}", reply.body);
        let said = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(said.contains(detail), "{said}");
    }
}

const INJECTED: [(&str, &str); 1] = [("sidetrack.dev/injected", "0123")];
const STREAM: &str = "/v1/stream?node=checkout-0";

#[tokio::test]
async fn a_sidecar_has_its_table_by_the_token_of_its_pod() {
    let server = Running::for_sidecars(&INJECTED).await;
    let mut client = server.client().await;
    let mut lines = client.follow_as("other", "checkout-0", "").await;
    let sidecars = server.publisher.sidecars().unwrap();
    let version = sidecars.table().unwrap().version();
    let epoch = lines.until(version).await.unwrap();
    assert_eq!(client.report_as("other", "checkout-0", &epoch, version).await.status, 204);
    let nodes = sidecars.acks().nodes(std::time::Instant::now());
    assert_eq!((&*nodes[0].node, nodes[0].acked), ("shop/checkout-0", Some(version)));
    // Nor may it speak for another one.
    assert_eq!(client.report_as("other", "checkout-1", &epoch, version).await.status, 403);
    server.refuses("/v1/stream?node=checkout-1", "other", 403, "token is of pod shop/checkout-0").await;
    assert_eq!(server.script.asked.load(Ordering::SeqCst), 2, "the token and the pod, once each");
}

#[tokio::test]
async fn who_is_no_such_pod_has_none() {
    let server = Running::for_sidecars(&[]).await;
    server.refuses(STREAM, "other", 403, "not annotated `sidetrack.dev/injected`").await;

    let other = |account: &str, pod: &str| of_pod(account, pod);
    let loose = User { extra: BTreeMap::new(), ..other("shop:checkout", "") };
    let loose_waypoint = User { extra: BTreeMap::new(), ..other("shop:sidetrack-waypoint", "") };
    server.script.users.lock().unwrap().extend([
        ("loose", loose),
        ("loose-waypoint", loose_waypoint),
        ("elsewhere", other("kube-system:default", "a")),
        ("gone", other("shop:checkout", "gone")),
        ("person", User { name: "ada".to_owned(), ..other("", "checkout-0") }),
        ("no-waypoint", other("shop:sidetrack-waypoint", "checkout-0")),
    ]);
    server.refuses("/v1/stream?node=a", "loose", 403, "bound to no pod").await;
    server.refuses("/v1/stream?node=a", "loose-waypoint", 403, "bound to no pod").await;
    server.refuses("/v1/stream?node=a", "elsewhere", 403, "does not watch its namespace").await;
    server.refuses("/v1/stream?node=gone", "gone", 403, "not there any more").await;
    server.refuses(STREAM, "person", 403, "--proxy-account").await;
    server.refuses(STREAM, "no-waypoint", 403, "it is no waypoint").await;

    // Another pod has the name by now.
    let mut after = meta(&[], &INJECTED);
    after.uid = "uid-2".into();
    server.script.pods.lock().unwrap().insert(Name::new("shop", "checkout-1"), after);
    server.script.users.lock().unwrap().insert("before", other("shop:checkout", "checkout-1"));
    server.refuses("/v1/stream?node=checkout-1", "before", 403, "not there any more").await;
}

#[tokio::test]
async fn a_pod_that_can_not_be_looked_up_comes_again() {
    let server = Running::for_sidecars(&INJECTED).await;
    server.refuses("/v1/previews", "other", 403, "may not get previews").await;
    server.script.silent.store(true, Ordering::SeqCst);
    server.refuses(STREAM, "other", 503, "does not answer").await;
    server.script.silent.store(false, Ordering::SeqCst);
    let mut client = server.client().await;
    let _lines = client.follow_as("other", "checkout-0", "").await;
    // What was good once is good without the API server, as the token itself is.
    server.script.silent.store(true, Ordering::SeqCst);
    let _lines = client.follow_as("other", "checkout-0", "").await;
}

#[tokio::test]
async fn a_pod_has_a_stream_and_another_and_no_third() {
    let server = Running::for_sidecars(&INJECTED).await;
    let mut client = server.client().await;
    let first = client.follow_as("other", "checkout-0", "").await;
    let _second = client.follow_as("other", "checkout-0", "").await;
    let reply = server.get(STREAM, "other").await;
    assert_eq!((reply.status.as_u16(), &reply.fields["retry-after"]), (503, &"5".parse().unwrap()));
    assert!(server.count("sidetrack_controller_refused_total") > 0.5);
    drop(first);
    // A stream that is open has no end to wait for.
    let again = async || tokio::time::timeout(Duration::from_millis(300), server.get(STREAM, "other")).await;
    let free = async {
        while let Ok(reply) = again().await {
            assert_eq!(reply.status, 503);
        }
    };
    tokio::time::timeout(Duration::from_secs(8), free).await.unwrap();
}
