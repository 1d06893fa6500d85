//! What a binary that counts is shown, so that a compiler knows which of its paths are the hot ones (`benches/pgo.sh`): a
//! gateway and a waypoint with the traffic of an estate, over every version of HTTP, in clear and over TLS. Every answer is
//! checked, since a path that fails is not the one to be fast on.
//!
//! `sidetrack-train BINARY [REQUESTS]`, where each of some dozen connections sends so many.

// It fails by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sidetrack_tests::{Ca, Call, Conn, Estate, Gateway, Wire, get, post};
use tokio::task::JoinSet;

const HOST: &str = "web.preview.localhost";
const FORKED: &str = "pr-42.web.preview.localhost";
const RPC: &str = "rpc.preview.localhost";
/// Connections of each kind that stay.
const KEPT: usize = 4;
/// Connections over TLS for one request each, for each hundred requests of a kept one.
const BRIEF: usize = 10;

/// A request, and the upstream that has to answer it.
type Case = (fn() -> Call, &'static str);

/// What browsers, tests and services send over HTTP/1.1 and HTTP/2 alike.
const WEB: [Case; 8] = [
    (|| browser(get(HOST, "/items?page=2")).key("42"), "web-42"),
    (|| browser(get(HOST, "/items")).key("57"), "web"),
    (|| browser(get(FORKED, "/items/7")), "web-42"),
    (|| browser(get(HOST, "/items")), "web"),
    (|| browser(get(HOST, "/items")).header("baggage", "a=1,pr-id=42").key("42"), "web-42"),
    (|| get(HOST, "/").header("cookie", "theme=dark; pr-id=42"), "web-42"),
    (|| browser(post(HOST, "/items", vec![b'x'; 500])).key("42"), "web-42"),
    (|| browser(get(HOST, "/big").act("bytes 10240")).key("42"), "web-42"),
];

const GRPC: [Case; 2] = [
    (|| browser(post(RPC, "/shop.Cart/Get", MESSAGE)).grpc().key("42"), "rpc-42"),
    (|| browser(post(RPC, "/shop.Cart/Get", MESSAGE)).grpc().key("57"), "rpc"),
];

const INSIDE: [Case; 2] = [
    (|| browser(get("web", "/items")).header("tracestate", "pr-id=42").key("42"), "web-42"),
    (|| browser(get("web", "/items")), "web"),
];

/// Uncompressed, its length, and that.
const MESSAGE: &[u8] = b"\0\0\0\0\x10ping ping ping !";

/// With what a browser, or a service that hands its fields on, adds.
fn browser(call: Call) -> Call {
    call.header("accept", "application/json, text/plain, */*")
        .header("accept-language", "en-GB,en;q=0.9")
        .header("accept-encoding", "gzip, br")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("referer", "https://web.preview.localhost/items")
        .header("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = PathBuf::from(arguments.next().expect("usage: sidetrack-train BINARY [REQUESTS]"));
    let requests = arguments.next().map_or(1_000, |count| count.parse().expect("REQUESTS is a number"));
    let answered = gateway(&binary, requests).await + waypoint(&binary, requests).await;
    println!("{answered} requests answered");
}

async fn gateway(binary: &Path, requests: usize) -> usize {
    let ca = Ca::new();
    let mut estate = Estate::new();
    ca.issue(&["*.preview.localhost", "*.web.preview.localhost"]).write(&estate.folder(), "server");
    let tls = json!({"certificates": [{"certFile": "server.crt", "keyFile": "server.key"}]});
    estate.config["listeners"] = json!([{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": tls}]);
    estate.config["accessLog"] = json!({"format": "json"});
    for (host, service, wire) in [(HOST, "web", Wire::Http1), (RPC, "rpc", Wire::H2c)] {
        estate.baseline_on(service, wire.clone()).await;
        estate.route(host, "/", service);
        let fork = estate.upstream_on(&format!("{service}-42"), wire).await;
        estate.preview("42")["forks"][service] = json!([fork]);
    }
    estate.preview("57")["forks"]["other"] = json!(["127.0.0.1:1"]);
    estate.service("other", json!({"baseline": ["127.0.0.1:1"]}));
    let mut gateway = start(binary, &estate).await;

    let (clear, secure) = (gateway.listeners[0], gateway.listeners[1]);
    let mut load = Load { tasks: JoinSet::new(), requests };
    for _ in 0..KEPT {
        load.run(&WEB, Conn::http1(clear).await.unwrap());
        load.run(&WEB, Conn::http2(clear).await.unwrap());
        load.run(&GRPC, Conn::http2(clear).await.unwrap());
        load.run(&WEB, over_tls(&ca, secure, "http/1.1").await);
        load.run(&WEB, over_tls(&ca, secure, "h2").await);
    }
    let mut answered = load.end().await;
    for _ in 0..requests.div_ceil(100) * BRIEF {
        over_tls(&ca, secure, "h2").await.send(get(HOST, "/").key("42")).await.came_from("web-42");
        answered += 1;
    }
    stop(&mut gateway).await;
    answered
}

async fn waypoint(binary: &Path, requests: usize) -> usize {
    let estate = Estate::waypoint("web").await;
    let mut waypoint = start(binary, &estate).await;
    let mut load = Load { tasks: JoinSet::new(), requests };
    for _ in 0..KEPT {
        load.run(&INSIDE, Conn::http1(waypoint.address()).await.unwrap());
    }
    let answered = load.end().await;
    stop(&mut waypoint).await;
    answered
}

async fn start(binary: &Path, estate: &Estate) -> Gateway {
    estate.save();
    let mut command = Command::new(binary);
    command.args(["gateway", "-c"]).arg(estate.file());
    Gateway::of(command).await
}

/// Ends it in peace: what it has counted it writes at its end.
async fn stop(gateway: &mut Gateway) {
    gateway.terminate();
    let status = gateway.ended().await;
    assert!(status.success(), "the gateway ended with {status}");
}

async fn over_tls(ca: &Ca, address: SocketAddr, alpn: &str) -> Conn {
    Conn::tls(address, HOST, &[alpn], ca.roots()).await.unwrap()
}

/// Connections that send at once.
struct Load {
    tasks: JoinSet<()>,
    requests: usize,
}

impl Load {
    /// Sends the cases in turn over this connection.
    fn run(&mut self, cases: &'static [Case], mut conn: Conn) {
        let requests = self.requests;
        self.tasks.spawn(async move {
            for (call, upstream) in cases.iter().cycle().take(requests) {
                conn.send(call()).await.came_from(upstream);
            }
        });
    }

    /// Waits for all of them; how many requests they were.
    async fn end(mut self) -> usize {
        let mut answered = 0;
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
            answered += self.requests;
        }
        answered
    }
}
