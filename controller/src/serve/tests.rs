//! The server on real sockets, with real TLS, beside a checker that a test scripts.

mod access;
mod acks;
mod client;
mod pods;
mod replicas;
mod streams;
mod waypoints;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sidetrack_config::Key;
use sidetrack_config::stream::{Item, OnForkDown, Preview};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::auth::{NoAnswer, User};
use super::*;
use crate::plan::{Fork, ForkState, ObjectId};
use crate::publish::About;
use crate::publish::tests::service;
use crate::world::{Meta, Name};
use client::{Client, Reply};

/// Knows a few tokens, counts questions, and can be made silent.
#[derive(Default)]
struct Script {
    users: Mutex<HashMap<&'static str, User>>,
    pods: Mutex<HashMap<Name, Meta>>,
    asked: AtomicUsize,
    silent: AtomicBool,
}

impl Script {
    fn new() -> Arc<Self> {
        let user = |name: &str| User { name: name.to_owned(), ..User::default() };
        let users = HashMap::from([
            ("proxy", user("system:serviceaccount:sidetrack:gateway")),
            ("reader", user("system:serviceaccount:ci:tests")),
            ("waypoint", of_pod("shop:sidetrack-waypoint", "wp-0")),
            ("waypoint-1", of_pod("shop:sidetrack-waypoint", "wp-1")),
            ("stranded", of_pod("cart:sidetrack-waypoint", "wp-0")),
            ("other", of_pod("shop:checkout", "checkout-0")),
        ]);
        let waypoint = meta(&[("sidetrack.dev/waypoint", "true")], &[]);
        let pods = [("shop", "wp-0"), ("shop", "wp-1"), ("cart", "wp-0")];
        let pods = pods.map(|(namespace, name)| (Name::new(namespace, name), waypoint.clone()));
        Arc::new(Self { users: Mutex::new(users), pods: Mutex::new(pods.into()), ..Self::default() })
    }

    fn ask<T>(&self, answer: T) -> Result<T, NoAnswer> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) { Err(NoAnswer("it is down".to_owned())) } else { Ok(answer) }
    }
}

impl Checker for Script {
    fn user<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, NoAnswer>> {
        let user = self.users.lock().unwrap().get(token).cloned();
        async move { self.ask(user) }.boxed()
    }

    fn may_read<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<bool, NoAnswer>> {
        async move { self.ask(user.name.ends_with(":ci:tests")) }.boxed()
    }

    fn pod<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Meta>, NoAnswer>> {
        async move { self.ask(self.pods.lock().unwrap().get(name).cloned()) }.boxed()
    }
}

/// Whom the API server says a token is of that is bound to a pod.
fn of_pod(account: &str, pod: &str) -> User {
    let extra = [("pod-name", pod), ("pod-uid", "uid-1")];
    let extra =
        extra.map(|(name, said)| (format!("authentication.kubernetes.io/{name}"), vec![said.to_owned()]));
    User { name: format!("system:serviceaccount:{account}"), extra: extra.into(), ..User::default() }
}

/// A pod with these labels and annotations, whose uid is that of [`of_pod`].
fn meta(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Meta {
    let all = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    Meta { uid: "uid-1".into(), labels: all(labels), annotations: all(annotations), ..Meta::default() }
}

/// An authority, and the files of a server that it vouches for.
struct Files {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        fs::write(dir.path().join("token"), "proxy\n").unwrap();
        let files = Self { dir, authority };
        files.issue();
        files
    }

    /// Writes a new certificate for `localhost`, and gives it.
    fn issue(&self) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path().join("tls.crt"), certificate.pem()).unwrap();
        fs::write(self.path().join("tls.key"), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A server that runs.
struct Running {
    files: Arc<Files>,
    publisher: Arc<Publisher>,
    script: Arc<Script>,
    registry: Registry,
    address: SocketAddr,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::with(Arc::new(Files::new()), None).await
    }

    async fn with(files: Arc<Files>, peers: Option<SocketAddr>) -> Self {
        Self::of(files, peers, Publisher::new()).await
    }

    async fn of(files: Arc<Files>, peers: Option<SocketAddr>, publisher: Publisher) -> Self {
        let peers = peers.map(|peer| PeerSettings {
            host: format!("localhost:{}", peer.port()).into(),
            ca_file: files.path().join("ca.crt"),
            token_file: files.path().join("token"),
        });
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            cert_file: files.path().join("tls.crt"),
            key_file: files.path().join("tls.key"),
            reload_interval: Duration::from_millis(20),
            accounts: vec!["sidetrack/gateway".into()],
            watched: vec!["shop".into(), "cart".into()],
            peers,
        };
        let (publisher, script, registry) = (Arc::new(publisher), Script::new(), Registry::new());
        let checker: Arc<dyn Checker> = Arc::clone(&script) as _;
        let admission: Admission = Arc::new(|question, body| {
            let word: &[u8] = if question == Question::Validate { b"reviewed " } else { b"changed " };
            [word, &*body].concat().into()
        });
        let server =
            Server::bind(&settings, Arc::clone(&publisher), checker, admission, &registry).await.unwrap();
        let address = server.address().unwrap();
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = ended.await;
        }));
        Self { files, publisher, script, registry, address, end, task }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address, self.files.path(), true).await
    }

    async fn get(&self, target: &str, token: &str) -> Reply {
        self.client().await.get(target, Some(token)).await
    }

    /// Publishes services, and previews of them.
    fn publish(&self, items: impl IntoIterator<Item = Item>) -> u64 {
        let items: BTreeMap<_, _> = items.into_iter().map(|item| (item.id().into(), item)).collect();
        let forks = items.values().filter_map(|item| match item {
            Item::Preview(preview) => Some(fork(preview.key.as_str(), ForkState::Routed)),
            _ => None,
        });
        let about = About { forks: forks.collect(), ..About::default() };
        self.publisher.update(items, about).version
    }

    /// What a counter says.
    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        metrics.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

fn preview(key: &str, port: u16) -> Item {
    Item::Preview(Preview {
        key: Key::bare(key).unwrap(),
        forks: BTreeMap::from([("checkout.shop".into(), vec![([10, 0, 0, 2], port).into()])]),
        parents: Vec::new(),
        aliases: Vec::new(),
        hosts: Vec::new(),
        on_fork_down: OnForkDown::Fail,
        expires: None,
    })
}

fn fork(key: &str, state: ForkState) -> Fork {
    let name = Name::new("shop", "checkout");
    let source = ObjectId {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: Name::new("shop", "checkout-42"),
        uid: "1".into(),
    };
    Fork { key: Key::bare(key).unwrap(), service: name, source, state, message: "said".into(), endpoints: 1 }
}
