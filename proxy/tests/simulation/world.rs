//! One worker of the real proxy with the real owner of its table, and what stands on both sides of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use sidetrack_config::Owner;
use sidetrack_config::check::load_for;
use sidetrack_config::limits::Limits;
use sidetrack_proxy::accept::connection::Door;
use sidetrack_proxy::accept::gate::Gate;
use sidetrack_proxy::accept::listen;
use sidetrack_proxy::drain::Phase;
use sidetrack_proxy::forward::hold::Holding;
use sidetrack_proxy::record::access_log::{self, AccessLog};
use sidetrack_proxy::record::metrics::Metrics;
use sidetrack_proxy::source::keeper::Keeper;
use sidetrack_proxy::worker::{Shared, Worker};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Clients, Mark, Outcome};
use crate::clock::Clock;
use crate::model::{Book, Table};
use crate::random::Random;
use crate::upstream::{Arrivals, Upstream};

/// Time-outs of every service, or of its route where a controller says what there is.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
pub(crate) const RESPONSE: Duration = Duration::from_secs(2);
/// The default, which is that of services of a controller.
pub(crate) const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// That of a whole exchange, where a controller says so.
pub(crate) const WHOLE: Duration = Duration::from_secs(9);
pub(crate) const HOLD: Duration = Duration::from_secs(3);

/// Keys that may be in the main file, in files or PUT, and nowhere.
pub(crate) const MAIN: [&str; 3] = ["m1", "m2", "m3"];
pub(crate) const FILES: [&str; 4] = ["f1", "f2", "f3", "f4"];
pub(crate) const NOWHERE: [&str; 2] = ["n1", "n2"];

pub(crate) struct World {
    pub(crate) clock: Rc<Clock>,
    pub(crate) random: Random,
    pub(crate) trace: Rc<RefCell<Vec<String>>>,
    pub(crate) upstreams: Vec<Rc<Upstream>>,
    pub(crate) arrivals: Arrivals,
    pub(crate) outcomes: Rc<RefCell<Vec<Outcome>>>,
    pub(crate) asked: usize,
    pub(crate) under_way: Vec<JoinHandle<()>>,
    pub(crate) clients: Clients,
    pub(crate) book: Book,
    /// Every table that was in force.
    pub(crate) tables: Vec<Version>,
    pub(crate) keeper: Keeper,
    pub(crate) is_followed: bool,
    pub(crate) version: u64,
    pub(crate) worker: Rc<Worker>,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) holding: Arc<Holding>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) limits: Limits,
    pub(crate) folder: TempDir,
    pub(crate) next_tick: Duration,
    pub(crate) ip: Ipv4Addr,
    pub(crate) next_port: u16,
    /// Which services speak HTTP/2.
    pub(crate) is_http2: Vec<bool>,
    /// How often an endpoint was seen ejected.
    pub(crate) ejections: usize,
    pub(crate) sets: BTreeMap<(usize, Option<String>), (Vec<u64>, Duration)>,
}

/// A table that was in force.
pub(crate) struct Version {
    /// From when on.
    pub(crate) mark: Mark,
    /// The last generation that it had.
    pub(crate) generation: u64,
    pub(crate) table: Table,
}

/// What is written of limits, and of whom the table is.
struct Plan {
    is_followed: bool,
    hold_requests: usize,
    hold_bytes: usize,
}

impl World {
    /// The world of a seed.
    pub(crate) async fn new(seed: u64, trace: &Rc<RefCell<Vec<String>>>) -> Self {
        let mut random = Random::new(seed);
        let clock = Rc::new(Clock::new());
        let plan = Plan {
            is_followed: random.chance(30),
            hold_requests: 1 + random.below(5),
            hold_bytes: *random.pick(&[600, 1 << 16]),
        };
        // Addresses that no other process or seed has, so that one that refuses is nobody else's meanwhile.
        let process = u8::try_from(2 + std::process::id() % 250).unwrap();
        let [.., high, low] = seed.to_be_bytes();
        let ip = Ipv4Addr::new(127, process, high, low);
        let door = SocketAddr::new(IpAddr::V4(ip), 9_000);
        let folder = tempfile::tempdir_in(memory()).unwrap();
        let (path, text) = (folder.path().join("sidetrack.yaml"), settings(door, &folder, &plan));
        std::fs::write(&path, &text).unwrap();
        std::fs::create_dir(folder.path().join("previews.d")).unwrap();
        let owner = if plan.is_followed { Owner::Controller } else { Owner::File };
        let config = load_for(&path, owner).unwrap().config;
        let metrics = Metrics::new(1);
        let log = access_log::start(&config.access_log, Arc::clone(&metrics)).unwrap();
        let listener = config.listeners[0].clone();
        let limits = Limits { max_connections: 10_000, max_in_flight: 10_000, ..config.limits };
        let keeper = match plan.is_followed {
            false => Keeper::new(&path, config, 1, Arc::clone(&metrics)),
            true => Keeper::following(&path, config, 1, Arc::clone(&metrics), "https://c", Arc::default()),
        };
        let keeper = keeper.unwrap();
        let (phase, drain) = watch::channel(Phase::Serving);
        let holding = Arc::new(Holding::default());
        let shared = Arc::new(Shared {
            published: keeper.published(),
            metrics: Arc::clone(&metrics),
            log: log.clone(),
            limits,
            drain,
            holding: Arc::clone(&holding),
            gate: Gate::new(&limits),
            next_connection: AtomicU64::new(1),
            memory: OnceLock::new(),
            opened: Arc::default(),
            reports: None,
            via: HeaderValue::from_static("1.1 sidetrack-simulation"),
        });
        let worker = Worker::new(0, 1, random.next() | 1, shared);
        let sockets = listen::bind(door, 1).unwrap();
        let door_settings = Arc::new(Door::new(listener, None));
        let sockets = sockets.into_iter().map(|socket| (Arc::clone(&door_settings), socket)).collect();
        // Nobody opens or closes a port while it serves.
        let (_, changes) = tokio::sync::mpsc::unbounded_channel();
        let serving = tokio::task::spawn_local(Rc::clone(&worker).run(sockets, changes));
        let mut world = Self {
            clients: Clients::new(door, &clock),
            clock,
            random,
            trace: Rc::clone(trace),
            upstreams: Vec::new(),
            arrivals: Arrivals::default(),
            outcomes: Rc::default(),
            asked: 0,
            under_way: Vec::new(),
            book: Book::default(),
            tables: Vec::new(),
            keeper,
            is_followed: plan.is_followed,
            version: 0,
            worker,
            serving,
            phase,
            holding,
            metrics,
            log,
            limits,
            folder,
            // Between the whole seconds of TTLs, so that it is never in doubt which came first.
            next_tick: Duration::from_millis(500),
            ip,
            next_port: 9_001,
            is_http2: Vec::new(),
            ejections: 0,
            sets: BTreeMap::new(),
        };
        world.found().await;
        world
    }

    /// Writes down what the director does.
    pub(crate) fn note(&self, what: &str) {
        let (step, now) = (self.clock.step(), self.clock.now().as_secs_f64());
        self.trace.borrow_mut().push(format!("{step:4} {now:8.3}s {what}"));
    }

    /// The table as it is now is in force, as this generation.
    pub(crate) fn in_force(&mut self) {
        let generation = self.keeper.generation();
        if let Some(last) = self.tables.last() {
            assert!(last.generation < generation, "a change was not published: generation {generation}");
        }
        self.keep(generation);
    }

    /// Keeps the table as it is now, as this generation.
    pub(crate) fn keep(&mut self, generation: u64) {
        let table = self.book.table.clone();
        self.tables.push(Version { mark: Mark::now(&self.clock), generation, table });
    }

    pub(crate) fn address(&self, upstream: usize) -> SocketAddr {
        self.upstreams[upstream].address
    }

    pub(crate) fn main_path(&self) -> PathBuf {
        self.folder.path().join("sidetrack.yaml")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// What the main file says besides services, routes and previews.
    pub(crate) fn settings(&self) -> String {
        let text = std::fs::read_to_string(self.main_path()).unwrap();
        let end = text.find("#\n").unwrap() + 2;
        text[..end].to_owned()
    }
}

/// Where files are kept: in memory where that is possible, since each change of the table is synced to disk.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

fn settings(door: SocketAddr, folder: &TempDir, plan: &Plan) -> String {
    let Plan { is_followed, hold_requests, hold_bytes } = plan;
    let log = folder.path().join("access.log");
    let folder = if *is_followed { "" } else { "previewsDir: previews.d\n" };
    format!(
        "listeners: [{{address: '{door}'}}]\ndomains: [preview.localhost]\n{folder}\
         limits: {{holdTimeout: 3s, holdRequests: {hold_requests}, holdBytes: {hold_bytes}, drainTimeout: 60s}}\n\
         accessLog: {{format: json, path: '{}'}}\n#\n",
        log.display()
    )
}
