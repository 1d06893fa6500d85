//! The proxy in this process, and the upstreams around it. Started once, and used for every input.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use sidetrack_proxy::app::{self, Link};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::judge::Seen;
use super::{upstream, upstream_http2};

/// The upstreams: a service, and the key whose fork it is. Those of `two` speak HTTP/2.
const UPSTREAMS: [(&str, &str); 6] =
    [("shop", ""), ("shop", "42"), ("shop", "57"), ("two", ""), ("two", "42"), ("two", "57")];

/// What the upstreams have seen.
pub(crate) type Log = Rc<RefCell<Vec<Rc<RefCell<Seen>>>>>;

/// What all inputs share.
pub(crate) struct World {
    runtime: Runtime,
    tasks: LocalSet,
    /// Where the proxy listens.
    pub(crate) proxy: SocketAddr,
    /// What the upstreams have seen since the last look.
    pub(crate) log: Log,
    /// Counts the inputs.
    pub(crate) round: Cell<u32>,
    _stop: oneshot::Sender<()>,
}

thread_local! {
    static WORLD: World = World::start();
}

/// Runs `play` in the world, with its upstreams.
pub(crate) fn within(play: impl AsyncFnOnce(&World)) {
    WORLD.with(|world| world.tasks.block_on(&world.runtime, play(world)));
}

impl World {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // libFuzzer has a main of its own, which does not set SIGPIPE aside as that of Rust does: a client of ours that writes
        // where the proxy has closed must not end the process. A handler stays once it is there.
        drop(runtime.block_on(async { signal(SignalKind::pipe()) }).unwrap());
        let tasks = LocalSet::new();
        let log = Log::default();
        let upstreams = UPSTREAMS.map(|(service, key)| {
            let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let address = listener.local_addr().unwrap();
            let log = Rc::clone(&log);
            match service {
                "shop" => tasks.spawn_local(upstream::serve(listener, service, key, log)),
                _ => tasks.spawn_local(upstream_http2::serve(listener, service, key, log)),
            };
            (service, key, address)
        });
        let (proxy, stop) = proxy(&configuration(&upstreams));
        Self { runtime, tasks, proxy, log, round: Cell::new(0), _stop: stop }
    }
}

fn configuration(upstreams: &[(&str, &str, SocketAddr)]) -> String {
    let of = |service: &str, key: &str| {
        let found = upstreams.iter().find(|(its, of, _)| *its == service && *of == key);
        found.expect("an upstream").2
    };
    let forks = |key: &str| format!("{{shop: ['{}'], two: ['{}']}}", of("shop", key), of("two", key));
    format!(
        "listeners: [{{address: 127.0.0.1:0}}]
admin: {{address: 127.0.0.1:0}}
domains: [preview.localhost]
services:
  shop: {{baseline: ['{}']}}
  two: {{baseline: ['{}'], protocol: h2c}}
routes:
  - {{host: preview.localhost, service: shop}}
  - {{host: preview.localhost, path: /two, service: two}}
  - {{host: two.preview.localhost, service: two}}
  - {{host: '*', path: /any, service: shop}}
previews:
  '42': {{forks: {}, aliases: [demo]}}
  '57': {{forks: {}}}
accessLog: off
workers: 1
",
        of("shop", ""),
        of("two", ""),
        forks("42"),
        forks("57"),
    )
}

/// Starts the proxy in threads of its own; it ends with the process.
fn proxy(configuration: &str) -> (SocketAddr, oneshot::Sender<()>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("sidetrack.yaml"), configuration).expect("a file");
    let (started, serving) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let file = Path::new(folder.path()).join("sidetrack.yaml");
        let ended = app::run(&file, None, Link { started: Some(started), stop: Some(stopped) });
        let _ = tell.send(ended);
        drop(folder);
    });
    match serving.blocking_recv() {
        Ok(started) => (started.listeners[0], stop),
        Err(_) => panic!("the proxy did not start: {:?}", told.recv()),
    }
}
