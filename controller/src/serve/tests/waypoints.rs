//! Waypoints: each follows the table of its namespace, and what they acknowledge counts where it is asked for.

use sidetrack_config::stream::{Gone, Message, Port, Spoken};

use super::super::peers::Peers;
use super::*;
use crate::plan::waypoints::Gate;
use crate::report::Acknowledged;

fn port(number: u16) -> Item {
    let (namespace, service) = ("shop".into(), "checkout.shop".into());
    Item::Port(Port { namespace, port: number, service, spoken: Spoken::Http })
}

fn items(items: impl IntoIterator<Item = Item>) -> BTreeMap<Box<str>, Item> {
    items.into_iter().map(|item| (item.id().into(), item)).collect()
}

impl Running {
    /// Publishes previews of `checkout.shop`, which waypoints of `shop` serve on a port, with one of them ready.
    fn publish_behind(&self, number: u16, fork_port: u16) -> u64 {
        let Item::Service(mut checkout) = service("checkout.shop", 1) else { panic!() };
        checkout.addresses.push(([10, 96, 0, 1], 80).into());
        let checkout = Item::Service(checkout);
        let gone = Gone { key: Key::bare("41").unwrap(), at: "2026-11-20T00:00:00Z".parse().unwrap() };
        let about = About {
            forks: vec![fork("42", ForkState::Routed)],
            waypoints: BTreeMap::from([("shop".into(), vec!["wp-0".into()])]),
            ..About::default()
        };
        let Item::Preview(mut elsewhere) = preview("43", 1) else { panic!() };
        elsewhere.forks = BTreeMap::from([("cart.other".into(), Vec::new())]);
        let all = [
            checkout.clone(),
            service("cart.other", 1),
            Item::Gone(gone),
            preview("42", fork_port),
            Item::Preview(elsewhere),
        ];
        let views = BTreeMap::from([("shop".into(), items([port(number), checkout]))]);
        self.publisher.publish(items(all), BTreeMap::new(), views, about).version
    }

    /// Lets a waypoint of `shop` follow, and say that it has what there is. It is gone when that is dropped.
    async fn is_had_by(&self, node: &str) -> impl Sized + use<> {
        let token = if node == "wp-0" { "waypoint" } else { "waypoint-1" };
        let view = self.publisher.view("shop").unwrap();
        let version = view.table().unwrap().version();
        let mut client = self.client().await;
        let mut lines = client.follow_as(token, node, "").await;
        let epoch = lines.until(version).await.unwrap();
        assert_eq!(client.report_as(token, node, &epoch, version).await.status, 204);
        (client, lines)
    }

    /// What answers for previews here, and asks another replica.
    fn asking(&self, other: SocketAddr) -> Previews {
        let peers = Peers::new(&PeerSettings {
            host: format!("localhost:{}", other.port()).into(),
            ca_file: self.files.path().join("ca.crt"),
            token_file: self.files.path().join("token"),
        });
        Previews::new(Arc::clone(&self.publisher), Some(peers.unwrap()))
    }
}

fn gate(pods: &[&str], number: u16) -> (Box<str>, Gate) {
    let ports = vec![format!("port/shop/{number}").into()];
    ("shop".into(), Gate { pods: pods.iter().map(|pod| (*pod).into()).collect(), ports })
}

#[tokio::test]
async fn a_waypoint_gets_its_namespace_and_nothing_else() {
    let server = Running::start().await;
    assert_eq!(server.get("/v1/stream?node=wp-0", "waypoint").await.status, 503);
    server.publish_behind(15_200, 1);
    assert_eq!(
        server.get("/v1/stream?node=wp-0", "stranded").await.status,
        503,
        "its namespace has no waypoints"
    );
    for target in ["/v1/previews", "/v1/proxies"] {
        assert_eq!(server.get(target, "waypoint").await.status, 403);
    }
    let mut client = server.client().await;
    let mut lines = client.follow_as("waypoint", "wp-0", "").await;
    assert!(matches!(lines.next().await, Some(Message::Hello(_))));
    let Some(Message::Snapshot(part)) = lines.next().await else { panic!("no snapshot") };
    let ids: Vec<&str> = part.items.keys().map(|id| &**id).collect();
    assert_eq!(ids, ["gone/41", "port/shop/15200", "preview/42", "preview/43", "service/checkout.shop"]);
    assert!(part.items["service/checkout.shop"].get().contains("10.96.0.1:80"));
    assert!(!part.items["preview/43"].get().contains("cart.other"));

    let mut lines = server.client().await.follow("gw-0", "").await;
    assert!(matches!(lines.next().await, Some(Message::Hello(_))));
    let Some(Message::Snapshot(part)) = lines.next().await else { panic!("no snapshot") };
    assert!(part.items.keys().all(|id| !id.starts_with("port/")));
    assert!(
        !part.items["service/checkout.shop"].get().contains("10.96.0.1"),
        "an older gateway would refuse it"
    );
}

#[tokio::test]
async fn the_stream_of_a_namespace_that_has_no_waypoints_any_more_ends() {
    let server = Running::start().await;
    server.publish_behind(15_200, 1);
    let mut client = server.client().await;
    let mut lines = client.follow_as("waypoint", "wp-0", "").await;
    assert!(matches!(lines.next().await, Some(Message::Hello(_))));
    server.publisher.publish(items([service("a", 1)]), BTreeMap::new(), BTreeMap::new(), About::default());
    while lines.next().await.is_some() {}
    assert_eq!(client.get("/v1/stream?node=wp-0", Some("waypoint")).await.status, 503);
}

#[tokio::test]
async fn a_preview_is_ready_once_the_waypoints_of_what_it_forks_have_it() {
    let server = Running::start().await;
    let version = server.publish_behind(15_200, 1);
    let mut gateway = server.client().await;
    let mut lines = gateway.follow("gw-0", "").await;
    let epoch = lines.until(version).await.unwrap();
    gateway.report("gw-0", &epoch, version, None).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["ready"], false, "{said}");
    assert_eq!(said["reasons"][0], "waypoint shop/wp-0 has not acknowledged it");

    let view = server.publisher.view("shop").unwrap();
    let first = view.table().unwrap().version();
    let mut client = server.client().await;
    let mut from = client.follow_as("waypoint", "wp-0", "").await;
    let epoch = from.until(first).await.unwrap();
    assert_ne!(&*epoch, server.publisher.epoch(), "versions of two tables say nothing about each other");
    assert_eq!(client.report_as("waypoint", "wp-0", &epoch, first).await.status, 204);
    assert_eq!(server.get("/v1/previews/42", "reader").await.json()["ready"], true);

    // Its fork is another one: the waypoint has to have that too.
    let version = server.publish_behind(15_200, 2);
    lines.until(version).await;
    gateway.report("gw-0", server.publisher.epoch(), version, None).await;
    let said = server.get("/v1/previews/42", "reader").await.json();
    assert_eq!(said["proxies"]["waypoints"][0], "shop/wp-0");
    assert_eq!(said["ready"], false);
}

/// A gate is open when every pod that it names has the port as it is here, whichever replica it follows.
#[tokio::test]
async fn a_gate_opens_when_every_waypoint_has_the_port_wherever_it_says_so() {
    let files = Arc::new(Files::new());
    let other = Running::with(Arc::clone(&files), None).await;
    let own = Running::with(files, Some(other.address)).await;
    own.publish_behind(15_200, 1);
    other.publish_behind(15_201, 1);
    let previews = own.asking(other.address);
    let both = gate(&["wp-0", "wp-1"], 15_200);
    assert_eq!(previews.open(std::slice::from_ref(&both)).await, [false]);

    let _here = own.is_had_by("wp-0").await;
    let elsewhere = other.is_had_by("wp-1").await;
    let gates = [both.clone(), gate(&["wp-0"], 15_200), gate(&["wp-0"], 15_201), gate(&["wp-0"], 15_299)];
    assert_eq!(
        previews.open(&gates).await,
        [false, true, false, false],
        "the other replica has another port"
    );
    other.publish_behind(15_200, 1);
    assert_eq!(
        previews.open(std::slice::from_ref(&both)).await,
        [false],
        "and nobody has acknowledged this one yet"
    );
    drop(elsewhere);
    let _elsewhere = other.is_had_by("wp-1").await;
    assert_eq!(previews.open(std::slice::from_ref(&both)).await, [true]);
}

/// What changes while another replica is asked about another gate nobody has said to have.
#[tokio::test]
async fn an_open_gate_is_not_open_for_what_came_meanwhile() {
    let own = Running::start().await;
    own.publish_behind(15_200, 1);
    let _here = own.is_had_by("wp-0").await;
    let acknowledged = Acknowledged::new(Arc::clone(&own.publisher));
    let (open, shut) = (gate(&["wp-0"], 15_200), gate(&["wp-1"], 15_200));
    let alone = Previews::new(Arc::clone(&own.publisher), None);
    assert!(acknowledged.look_at_gates(&alone, vec![open.clone()]).await);
    assert!(acknowledged.is_open("shop", &open.1));

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let previews = own.asking(silent.local_addr().unwrap());
    let looking = acknowledged.look_at_gates(&previews, vec![open.clone(), shut.clone()]);
    let changing = async {
        let asked = silent.accept().await.unwrap();
        let other = || service("checkout.shop", 2);
        let views = BTreeMap::from([("shop".into(), items([port(15_200), other()]))]);
        own.publisher.publish(items([other()]), BTreeMap::new(), views, About::default());
        drop(asked);
    };
    assert!(!tokio::join!(looking, changing).0);
    for (_, gate) in [open, shut] {
        assert!(!acknowledged.is_open("shop", &gate), "{gate:?}");
    }
}
