//! A pod whose connections the system redirects: the rules of `sidetrack init` in a network namespace, the sidecar as a
//! user of its own, and a server elsewhere that has the address of a Service as kube-proxy would give it.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use sidetrack_tests::{
    Conn, Controller, Estate, Gateway, Netns, Raw, RawUpstream, Upstream, Wire, get, within,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// The user of the sidecar.
const USER: u32 = 15006;
const POD: &str = "10.78.0.1";
const SERVER: &str = "10.78.0.3";
/// Where callers reach `payment.shop` and `checkout.shop`.
const PAYMENT: &str = "10.96.0.10:80";
const CHECKOUT: &str = "10.96.0.11:80";

/// Does `work` where its sockets are those of `netns`: what is polled by this thread is.
fn inside<T: Send, F: Future<Output = T>>(netns: &Netns, work: impl FnOnce() -> F + Send) -> T {
    let handle = Handle::current();
    netns.inside(|| handle.block_on(work()))
}

/// A fork of `checkout` in its pod, with a sidecar that follows a controller.
struct Pod {
    sidecar: Gateway,
    app: Upstream,
    payment: Upstream,
    payment_42: Upstream,
    outside: Upstream,
    greeter: RawUpstream,
    controller: Controller,
    estate: Estate,
    pod: Netns,
    client: Netns,
    _others: [Netns; 2],
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Lets everybody read what is in a folder: the sidecar is another user than the test.
fn open_to_all(file: &str) {
    let folder = Path::new(file).parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

impl Pod {
    async fn start() -> Self {
        let [switch, pod, client, server] = ["switch", "pod", "client", "server"].map(Netns::new);
        switch.switch(&[
            (&pod, &["10.78.0.1/24", "fd78::1/64"]),
            (&client, &["10.78.0.2/24", "fd78::2/64"]),
            (&server, &["10.78.0.3/24", "fd78::3/64"]),
        ]);
        pod.route_by(SERVER);
        server.run("ip", &["address", "add", "10.96.0.10/32", "dev", "lo"]);
        let upstream = |netns: &Netns, name: &'static str, address: &str| {
            let address = at(address);
            inside(netns, move || Upstream::start_at(name, Wire::Http1, address))
        };
        let app = upstream(&pod, "checkout-42", "0.0.0.0:8080");
        let payment = upstream(&server, "payment", "[::]:80");
        let payment_42 = upstream(&server, "payment-42", "[::]:8042");
        let outside = upstream(&server, "outside", "[::]:8888");
        let greeter = inside(&server, || {
            RawUpstream::start_at(at("[::]:5432"), async |mut raw: Raw, _| {
                raw.write("220 hello\r\n").await;
                let said = raw.rest().await;
                raw.write(said).await;
            })
        });
        let controller = inside(&pod, Controller::start);
        let service = |name: &str, baseline: &str, address: &str| json!({"name": name, "baseline": [baseline], "protocol": "http1", "addresses": [address]});
        let payment_at = format!("{SERVER}:80");
        controller.set("service/payment.shop", service("payment.shop", &payment_at, PAYMENT));
        controller.set("service/checkout.shop", service("checkout.shop", "10.78.0.9:8080", CHECKOUT));
        let forks = json!({
            "payment.shop": [format!("{SERVER}:8042")],
            "checkout.shop": ["10.78.0.8:8080", format!("{POD}:8080")],
        });
        controller.set("preview/42", json!({"key": "42", "forks": forks, "onForkDown": "fail"}));
        controller.set("preview/57", json!({"key": "57", "forks": {}, "onForkDown": "fail"}));
        let user = USER.to_string();
        let init = pod.sidetrack(&["init", "--uid", &user, "--gid", &user]);
        assert_eq!(init.code, 0, "{}", init.stderr);
        let estate = Estate::new();
        let arguments = controller.arguments();
        open_to_all(&arguments[3]);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--service", "checkout.shop", "--key", "42", "--access-log", "json"]);
        let folder = estate.folder();
        let state = folder.join("nowhere/to/be/written");
        arguments.extend(["--state-dir", state.to_str().unwrap()]);
        let sidecar = inside(&pod, || Gateway::sidecar_as(USER, Path::new("/"), &arguments));
        assert_eq!(controller.acknowledged().await, Value::Null);
        let others = [switch, server];
        Self {
            sidecar,
            app,
            payment,
            payment_42,
            outside,
            greeter,
            controller,
            estate,
            pod,
            client,
            _others: others,
        }
    }

    /// A connection that the app opens.
    fn call(&self, address: &str) -> Conn {
        inside(&self.pod, || Conn::http1(at(address))).unwrap()
    }

    /// The last line of the sidecar's log in which this field is that.
    async fn logged(&self, field: &str, value: &str) -> Value {
        let mut found = Value::Null;
        sidetrack_tests::eventually(&format!("{field} {value} is logged"), async || {
            let lines = self.sidecar.stdout();
            let mut lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = lines.rfind(|line| line[field] == value).unwrap_or_default();
            !found.is_null()
        })
        .await;
        found
    }
}

/// How a connection from `netns` ends, on which the other side has nothing to say.
fn end_of(netns: &Netns, address: &str) -> ErrorKind {
    let meeting = async || {
        let mut stream = TcpStream::connect(at(address)).await?;
        let count = within("the end", stream.read(&mut [0; 8])).await?;
        assert_eq!(count, 0, "{address} has something to say");
        Err(std::io::Error::from(ErrorKind::UnexpectedEof))
    };
    let met: std::io::Result<()> = inside(netns, meeting);
    met.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_reached_and_calls_by_its_sidecar() {
    let pod = Pod::start().await;

    // What comes in.
    let mut conn = inside(&pod.client, || Conn::http1(at("10.78.0.1:8080"))).unwrap();
    let reply = conn.send(get("checkout", "/").key("42")).await;
    assert_eq!((reply.upstream(), reply.receipt().as_str()), ("checkout-42", "checkout.shop@42;reason=fork"));
    conn.send(get("10.78.0.1", "/healthz-of-the-app")).await.came_from("checkout-42");

    // A call to the address of a Service, without a key: it gets that of the fork.
    let mut conn = pod.call(PAYMENT);
    let reply = conn.send(get("a-name-of-the-app's-own", "/")).await;
    assert_eq!(reply.receipt(), "payment.shop@42;reason=fork;stamped");
    reply.came_from("payment-42");
    // The baseline is where it was meant to go: whoever balances there goes on to.
    let reply = conn.send(get("payment.shop", "/").key("57")).await;
    assert_eq!(
        (reply.upstream(), reply.receipt().as_str()),
        ("payment", "payment.shop@baseline;reason=no_fork")
    );
    assert_eq!(reply.echo().host(), "payment.shop");
    let line = pod.logged("reason", "no_fork").await;
    assert_eq!(line["endpoint"], PAYMENT, "{line}");
    // The same over IPv6 by name, and over HTTP/2.
    pod.call("[fd78::3]:80").send(get("payment", "/")).await.came_from("payment-42");
    let mut http2 = inside(&pod.pod, || Conn::http2(at(PAYMENT))).unwrap();
    http2.send(get("payment.shop.svc.cluster.local", "/")).await.came_from("payment-42");

    // A call to its own Service stays in the pod, though the fork has another endpoint.
    for _ in 0..4 {
        let reply = pod.call(CHECKOUT).send(get("checkout", "/")).await;
        assert_eq!((reply.upstream(), reply.receipts().len()), ("checkout-42", 1), "{reply:?}");
    }

    // What leaves takes nothing along.
    let call = get("api.example.com", "/").key("42").header("baggage", "a=b, pr-id=42 ,c=d");
    let call = call.header("x-pr-strict", "1").header("cookie", "pr-id=42; session=9");
    let reply = pod.call(&format!("{SERVER}:8888")).send(call).await;
    reply.came_from("outside");
    let echo = reply.echo();
    for name in ["x-pr-id", "x-pr-strict", "tracestate", "traceparent", "via"] {
        assert_eq!(echo.header(name), None, "{name}: {echo:?}");
    }
    assert_eq!((echo.header("baggage"), echo.header("cookie")), (Some("a=b,c=d"), Some("session=9")));
    assert!(!reply.lists("vary", "x-pr-id"), "{reply:?}");
    let metrics = inside(&pod.pod, || pod.sidecar.metrics());
    assert_eq!(metrics.sum("sidetrack_egress_stripped_total", &[]), 1.0);
    // A host of the estate that nobody knows keeps them.
    let reply =
        pod.call(&format!("{SERVER}:8888")).send(get("legacy.shop.svc.cluster.local", "/").key("57")).await;
    assert_eq!((reply.upstream(), reply.echo().header("x-pr-id")), ("outside", Some("57")));

    assert!(pod.app.count() >= 6 && pod.payment.count() == 1 && pod.payment_42.count() == 3);
    assert_eq!((pod.outside.count(), pod.controller.version()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_as_without_a_sidecar() {
    let pod = Pod::start().await;
    let stream = inside(&pod.pod, || TcpStream::connect(at("10.78.0.3:5432"))).unwrap();
    let mut raw = Raw::from(stream);
    assert_eq!(raw.exactly(11).await.unwrap(), b"220 hello\r\n");
    raw.write("bye").await;
    raw.finish().await;
    assert_eq!((raw.rest().await.as_str(), pod.greeter.connections()), ("bye", 1));
    let line = pod.logged("protocol", "TCP").await;
    assert_eq!((&line["host"], &line["endpoint"]), (&json!("10.78.0.3:5432"), &json!("10.78.0.3:5432")));
    // Nobody listens there: the app hears of it.
    assert_eq!(end_of(&pod.pod, "10.78.0.3:9"), ErrorKind::ConnectionReset);
    assert_eq!(end_of(&pod.client, "10.78.0.1:9"), ErrorKind::ConnectionRefused);
    // Whoever connects to the sidecar itself would go round for ever.
    for (netns, address) in [
        (&pod.pod, "127.0.0.1:15001"),
        (&pod.pod, "[::1]:15001"),
        (&pod.pod, "127.0.0.1:15006"),
        (&pod.client, "10.78.0.1:15006"),
        (&pod.client, "[fd78::1]:15006"),
    ] {
        assert_eq!(end_of(netns, address), ErrorKind::ConnectionReset, "{address}");
    }
    assert!(pod.estate.folder().exists() && pod.app.count() == 0);
}
