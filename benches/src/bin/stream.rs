//! What one change costs when 200 proxies follow:
//! `cargo run --release -p sidetrack-benches --features controller --bin stream`.
//!
//! A server with real TLS on loopback, one HTTP/2 connection for each proxy, 1,000 services and 10,000 forks in the table.
//! A change moves one fork; a proxy parses the delta and reports it. Everything is in this process, so that the time is
//! that of both ends together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sidetrack_benches::Failed;
use sidetrack_config::Key;
use sidetrack_config::stream::{Item, Message, OnForkDown, Preview, Protocol, Report, Service};
use sidetrack_controller::publish::{About, Publisher};
use sidetrack_controller::serve::auth::{Checker, NoAnswer, User};
use sidetrack_controller::serve::{Server, Settings};
use sidetrack_controller::world::{Meta, Name};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

const PROXIES: usize = 200;
const SERVICES: usize = 1000;
const PREVIEWS: usize = 2000;
const FORKS: usize = 5;
/// How many changes are timed.
const CHANGES: usize = 50;

/// Every token is a proxy's.
struct Anybody;

impl Checker for Anybody {
    fn user<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<User>, NoAnswer>> {
        let name = "system:serviceaccount:a:b".to_owned();
        async { Ok(Some(User { name, ..User::default() })) }.boxed()
    }

    fn may_read<'a>(&'a self, _: &'a User) -> BoxFuture<'a, Result<bool, NoAnswer>> {
        async { Ok(true) }.boxed()
    }

    fn pod<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, Result<Option<Meta>, NoAnswer>> {
        async { Ok(None) }.boxed()
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failed> {
    let folder = tempfile::TempDir::new()?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    let (cert_file, key_file) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&cert_file, certificate.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        cert_file,
        key_file,
        reload_interval: Duration::from_secs(60),
        accounts: vec!["a/b".into()],
        watched: Vec::new(),
        peers: None,
    };
    let publisher = Arc::new(Publisher::new());
    let mut table = table()?;
    let began = Instant::now();
    publisher.update(table.clone(), About::default());
    println!("first table of {} items: {:.1} ms", table.len(), began.elapsed().as_secs_f64() * 1e3);
    let registry = Registry::new();
    let server = Server::bind(
        &settings,
        Arc::clone(&publisher),
        Arc::new(Anybody),
        Arc::new(|_, body| body),
        &registry,
    )
    .await?;
    let address = server.address()?;
    tokio::spawn(server.serve(std::future::pending()));

    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let bytes = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    for number in 0..PROXIES {
        tokio::spawn(proxy(number, address, roots.clone(), Arc::clone(&bytes)));
    }
    acknowledged(&publisher).await;
    println!(
        "{PROXIES} proxies connect, take a snapshot and acknowledge it: {:.0} ms, {:.2} MB each",
        began.elapsed().as_secs_f64() * 1e3,
        bytes.swap(0, Ordering::Relaxed) as f64 / PROXIES as f64 / 1e6
    );
    changes(&publisher, &mut table, &bytes).await;
    Ok(())
}

async fn changes(publisher: &Publisher, table: &mut BTreeMap<Box<str>, Item>, bytes: &AtomicU64) {
    let (mut updates, mut all) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let id = format!("preview/{}", change * 7 % PREVIEWS);
        if let Some(Item::Preview(preview)) = table.get_mut(id.as_str()) {
            for endpoints in preview.forks.values_mut().take(1) {
                *endpoints = vec![([10, 9, 9, 9], u16::try_from(change + 1).unwrap_or(1)).into()];
            }
        }
        let next = table.clone();
        let began = Instant::now();
        publisher.update(next, About::default());
        updates.push(began.elapsed().as_secs_f64() * 1e3);
        acknowledged(publisher).await;
        all.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let sent = bytes.load(Ordering::Relaxed) as f64;
    println!("one change, the publisher's part: {}", spread(&mut updates));
    println!("one change until all {PROXIES} have acknowledged it: {}", spread(&mut all));
    println!("bytes of one change to one proxy: {:.0}", sent / (CHANGES * PROXIES) as f64);
}

/// Median and the slowest of hundred.
fn spread(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    format!("median {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99))
}

/// Waits until every proxy has the newest version.
async fn acknowledged(publisher: &Publisher) {
    let newest = publisher.table().map(|table| table.version());
    loop {
        let nodes = publisher.acks().nodes(Instant::now());
        if nodes.len() == PROXIES && nodes.iter().all(|node| node.acked >= newest) {
            return;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// Follows and acknowledges, for ever.
async fn proxy(
    number: usize,
    address: SocketAddr,
    roots: RootCertStore,
    bytes: Arc<AtomicU64>,
) -> Result<(), Broken> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // From a few addresses: a controller takes so many strangers from each.
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 1, u8::try_from(number % 8)?], 0).into())?;
    let tcp = socket.connect(address).await?;
    tcp.set_nodelay(true)?;
    let stream =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, tcp).await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let node = format!("gw-{number}");
    let mut body = ask(&mut sender, &format!("/v1/stream?node={node}"), Bytes::new()).await?;
    let (mut held, mut epoch) = (Vec::new(), Box::default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            let version = match serde_json::from_slice(&line)? {
                Message::Hello(hello) => {
                    epoch = hello.epoch;
                    continue;
                }
                Message::Snapshot(part) if part.hash.is_some() => part.version,
                Message::Delta(delta) => delta.to,
                Message::Snapshot(_) | Message::Ping(_) => continue,
            };
            let report = Report { node: node.as_str().into(), epoch: epoch.clone(), version, error: None };
            drop(ask(&mut sender, "/v1/report", serde_json::to_vec(&report)?.into()).await?);
        }
    }
    Ok(())
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, target: &str, body: Bytes) -> Result<Incoming, Broken> {
    let request = hyper::Request::builder()
        .method(if body.is_empty() { "GET" } else { "POST" })
        .uri(format!("https://localhost{target}"))
        .header("authorization", "Bearer proxy");
    Ok(sender.send_request(request.body(Full::new(body))?).await?.into_body())
}

/// What ends a task.
type Broken = Box<dyn std::error::Error + Send + Sync>;

fn table() -> Result<BTreeMap<Box<str>, Item>, Failed> {
    let mut table = BTreeMap::new();
    let mut put = |item: Item| table.insert(item.id().into(), item);
    for number in 0..SERVICES {
        let baseline = Some(vec![([10, 0, 0, 1], 8080).into(), ([10, 0, 0, 2], 8080).into()]);
        let name = format!("service-{number}.shop").into();
        put(Item::Service(Service {
            name,
            baseline,
            protocol: Protocol::Http1,
            server_name: None,
            addresses: Vec::new(),
        }));
    }
    for number in 0..PREVIEWS {
        let fork = |fork: usize| {
            let service = format!("service-{}.shop", (number + fork * 31) % SERVICES);
            (service.into(), vec![([10, 1, 0, 1], 8080).into()])
        };
        put(Item::Preview(Preview {
            key: Key::bare(&number.to_string()).map_err(|error| error.to_string())?,
            forks: (0..FORKS).map(fork).collect(),
            parents: Vec::new(),
            aliases: Vec::new(),
            hosts: Vec::new(),
            on_fork_down: OnForkDown::Fail,
            expires: None,
        }));
    }
    Ok(table)
}
