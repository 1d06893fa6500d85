//! Where the parts meet: one control thread with the table's owner, admin, watching and signals; a thread for each
//! worker; the way in and the way out. No other file starts a thread or binds a socket.

mod bind;
mod control;
pub mod ports;
mod signals;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::HeaderValue;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::{Config, Listener};
use sidetrack_config::{Owner, Problem, Problems};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::accept::connection::Door;
use crate::accept::gate::Gate;
use crate::accept::handover::{self, Taken};
use crate::accept::listen;
use crate::accept::tls::{Provided, ServerTls};
use crate::admin::{self, Admin};
use crate::chain::wire::Receiver;
use crate::drain::Phase;
use crate::forward::hold::Holding;
use crate::memory;
use crate::record::access_log;
use crate::record::metrics::Metrics;
use crate::source::keeper::Keeper;
use crate::source::memory::load_apart;
use crate::source::origin::Origin;
use crate::source::resolve::resolve;
use crate::source::stream::{Controller, Follower};
use crate::worker::{Change, Shared, Worker, seed};
use bind::{Bound, clones, clones_of};
use control::Control;
use ports::Ports;
use signals::Signals;

/// How long names may take before the first table.
const FIRST_NAMES: Duration = Duration::from_secs(3);

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// Something that the configuration names is wrong: a certificate, a CA file.
    #[error("{}: {}", .0.display(), .1)]
    Setting(PathBuf, String),
    /// An address, a thread, a log file can't be had.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// A proxy that serves.
#[derive(Clone, Debug)]
pub struct Started {
    /// The addresses of its listeners, in the order of the file.
    pub listeners: Vec<SocketAddr>,
    /// Its admin address.
    pub admin: SocketAddr,
    /// The development CA, where a listener uses it.
    pub ca: Option<PathBuf>,
}

/// How a caller speaks with a proxy that it runs.
#[derive(Debug, Default)]
pub struct Link {
    /// Told once it serves.
    pub started: Option<oneshot::Sender<Started>>,
    /// Drains when this is told, or dropped.
    pub stop: Option<oneshot::Receiver<()>>,
}

/// Checks a configuration as far as can be without opening a socket: the file, and what it names.
///
/// # Errors
/// What is wrong with it. Warnings come with a good one.
pub fn check(path: &Path) -> Result<Vec<Problem>, StartError> {
    let checked = sidetrack_config::load(path)?;
    let config = &checked.config;
    for listener in &config.listeners {
        // A development CA is made at the start, not by a check.
        if let Some(tls @ sidetrack_config::model::Tls::Files(_)) = &listener.tls {
            ServerTls::load(tls, &config.state_dir, Arc::default()).map_err(|error| setting(path, error))?;
        }
    }
    crate::route::build::Builder::new(1).estate(config).map_err(|error| setting(path, error))?;
    Ok(checked.warnings)
}

fn setting(path: &Path, error: impl ToString) -> StartError {
    StartError::Setting(path.to_owned(), error.to_string())
}

/// Runs a proxy until it has drained. With a `controller`, that says which services, routes and previews there are,
/// and the file the rest.
///
/// # Errors
/// Why it did not start; with [`StartError::Config`] or [`StartError::Setting`] no socket was opened.
pub fn run(origin: impl Into<Origin>, controller: Option<Controller>, link: Link) -> Result<(), StartError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |error| StartError::Io(what, error)
    };
    // Absolute, as the system names what has changed.
    let origin = origin.into().absolute().map_err(io("working directory"))?;
    let path = origin.path();
    let owner = if controller.is_some() { Owner::Controller } else { Owner::File };
    let checked = load_apart(&origin, owner)?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    let provided = Arc::new(Provided::default());
    let doors = doors(path, &checked.config, &provided)?;
    let workers = workers(&checked.config);
    let metrics = Metrics::new(workers);
    let keeper = match &controller {
        None => Keeper::new(origin.clone(), checked.config, workers, Arc::clone(&metrics)),
        Some(controller) => {
            let (origin, metrics) = (origin.clone(), Arc::clone(&metrics));
            Keeper::following(origin, checked.config, workers, metrics, controller.url(), provided)
        }
    };
    let keeper = keeper.map_err(|error| setting(path, error))?;
    // The keeper's, which is without the previews.
    let config = keeper.config().clone();
    let descriptors = listen::raise_descriptor_limit().unwrap_or(1024);
    let runtime = runtime().map_err(io("runtime"))?;
    let keeper = Rc::new(RefCell::new(keeper));
    let follower = controller.map(|controller| {
        Follower::open(controller, Rc::clone(&keeper), Arc::clone(&metrics), &config.state_dir)
    });
    // Names first, so that the first request finds its endpoints.
    let names = keeper.borrow().names();
    if let Ok(found) = runtime.block_on(async { tokio::time::timeout(FIRST_NAMES, resolve(names)).await }) {
        keeper.borrow_mut().resolved(found);
    }
    let log = access_log::start(&config.access_log, Arc::clone(&metrics)).map_err(io("access log"))?;
    let (phase, drain) = watch::channel(Phase::Serving);
    let reports = reports(&config, &metrics)?;
    let limits = effective(config.limits, descriptors);
    let shared = Arc::new(Shared {
        published: keeper.borrow().published(),
        metrics: Arc::clone(&metrics),
        log: log.clone(),
        limits,
        drain: drain.clone(),
        holding: Arc::new(Holding::default()),
        gate: Gate::new(&limits),
        next_connection: AtomicU64::new(1),
        memory: OnceLock::new(),
        opened: Arc::default(),
        reports: reports.clone(),
        via: via(),
    });
    let bound = Bound::all(&doors, config.admin.address, workers)?;
    let started = bound.started(&config);
    let Bound { sockets, admin: admin_sockets, taken } = bound;
    let clones: Vec<_> = sockets
        .iter()
        .map(|(address, of)| clones(*address, of))
        .collect::<io::Result<_>>()
        .map_err(io("socket"))?;
    let admin_clones = clones_of(&admin_sockets).map_err(io("socket"))?;
    let Threads { threads, changes, done } =
        spawn(&doors, sockets, workers, &shared).map_err(io("thread"))?;
    let ports = Ports::new(config.listeners.first().map(|listener| listener.address.ip()), changes);
    let mut control = Control {
        origin: origin.clone(),
        keeper: Rc::clone(&keeper),
        doors,
        phase,
        done,
        threads: workers,
        limits: config.limits,
        log: log.clone(),
        following: None,
    };
    let memory_of = Arc::clone(&shared);
    let admin =
        Rc::new(Admin { keeper, metrics, settings: config.admin.clone(), shared: Arc::clone(&shared) });
    let served = runtime.block_on(async move {
        // Before anybody is told that it serves: the system's own answer to SIGHUP is to end a process.
        let signals = Signals::new();
        tokio::task::spawn_local(watch_memory(Arc::clone(&memory_of)));
        tokio::task::spawn_local(forget(memory_of));
        announce(&started, &control);
        if let Some(reports) = reports {
            tracing::info!("receipts of hops inside are taken address={}", reports.address);
            let published = control.keeper.borrow().published();
            tokio::task::spawn_local(reports.run(published, drain));
        }
        control.following =
            follower.map(|follower| tokio::task::spawn_local(follower.run(ports)).abort_handle());
        for listener in admin_sockets {
            tokio::task::spawn_local(admin::serve(Rc::clone(&admin), listener));
        }
        let successor = doors_open(&started, clones, admin_clones);
        // Only now, with everybody accepting, may the one before us stop.
        let _ = tokio::task::spawn_blocking(move || taken.into_iter().for_each(Taken::ready)).await;
        if let Some(tell) = link.started {
            let _ = tell.send(started);
        }
        // A task: what a runtime itself waits for is woken by way of the system, many times a second.
        tokio::task::spawn_local(control.run(signals, link.stop, successor)).await
    });
    if let Some(panic) = served.err().and_then(|error| error.try_into_panic().ok()) {
        std::panic::resume_unwind(panic);
    }
    for thread in threads {
        let _ = thread.join();
    }
    if let Some(log) = log {
        log.close();
    }
    tracing::info!("drained");
    Ok(())
}

/// What hops inside report to, where the file says so.
fn reports(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<Receiver>>, StartError> {
    let Some(listen) = config.context.reports else { return Ok(None) };
    let failed = |error| StartError::Io(format!("context.reports {listen}"), error);
    let told = match config.context.reports_as {
        None if listen.ip().is_unspecified() => {
            let ip = std::env::var("POD_IP").ok().and_then(|ip| ip.parse::<IpAddr>().ok());
            let unsaid = || {
                io::Error::other(
                    "say by which IP it is reached: context.reportsAs, or POD_IP in the environment",
                )
            };
            Some(SocketAddr::new(ip.ok_or_else(unsaid).map_err(failed)?, 0))
        }
        told => told,
    };
    Receiver::open(listen, told, Arc::clone(metrics)).map(|receiver| Some(Arc::new(receiver))).map_err(failed)
}

/// The listeners with their TLS, before any socket opens.
fn doors(path: &Path, config: &Config, provided: &Arc<Provided>) -> Result<Vec<Arc<Door>>, StartError> {
    let door = |listener: &Listener| {
        let load = |tls| ServerTls::load(tls, &config.state_dir, Arc::clone(provided));
        let tls = listener.tls.as_ref().map(load).transpose();
        let tls = tls.map_err(|error| setting(path, error))?;
        Ok(Arc::new(Door::new(listener.clone(), tls.map(Arc::new))))
    };
    config.listeners.iter().map(door).collect()
}

fn workers(config: &Config) -> usize {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    config.workers.map_or_else(cpus, usize::from)
}

/// The limits with what zero stands for: a connection through the proxy takes two descriptors, and a request under
/// way a few tens of KiB. More connections than there are descriptors for can't be had, whatever the file says.
fn effective(mut limits: Limits, descriptors: u64) -> Limits {
    let most = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).saturating_sub(64).clamp(64, 1 << 20);
    if limits.max_connections > most {
        tracing::warn!(
            "limits.maxConnections: {} connections need {} open files and this process may have {descriptors}; it \
             takes {most} connections. Raise the limit (`ulimit -n`, `LimitNOFILE=` of systemd), or lower maxConnections",
            limits.max_connections,
            (limits.max_connections + 64) * 2,
        );
    }
    if limits.max_connections == 0 || limits.max_connections > most {
        limits.max_connections = most;
    }
    if limits.max_in_flight == 0 {
        limits.max_in_flight = most.saturating_mul(2);
    }
    if limits.max_memory == 0 {
        limits.max_memory = memory::allowed().unwrap_or(u64::MAX);
    }
    limits
}

/// Looks at the memory of the process, for as long as it lives.
async fn watch_memory(shared: Arc<Shared>) {
    let Some(memory) = memory::Resident::open() else { return };
    loop {
        let Some(resident) = memory.bytes() else { return };
        let is_pressed = resident > shared.limits.max_memory;
        if is_pressed != shared.gate.is_pressed() {
            tracing::warn!(resident, allowed = shared.limits.max_memory, is_pressed, "limits.maxMemory");
            shared.gate.press(is_pressed);
        }
        tokio::time::sleep(memory::next_look(shared.limits.max_memory.saturating_sub(resident))).await;
    }
}

/// Forgets the ids of requests whose time is over.
async fn forget(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(memory) = shared.memory.get() {
            memory.sweep(shared.published.load().estate.context.remember, Instant::now());
        }
    }
}

/// This process in `Via`: a name of its own, so that it knows the requests that it has forwarded before.
fn via() -> HeaderValue {
    use std::hash::BuildHasher;
    let id = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
    HeaderValue::try_from(format!("1.1 sidetrack-{id:016x}"))
        .unwrap_or(HeaderValue::from_static("1.1 sidetrack"))
}

/// The workers.
struct Threads {
    threads: Vec<JoinHandle<()>>,
    /// How each is told of further listeners.
    changes: Vec<mpsc::UnboundedSender<Change>>,
    /// Told by each when it has finished.
    done: mpsc::UnboundedReceiver<()>,
}

/// Starts the workers; sockets beyond their number are shared out, so that none is left unread.
fn spawn(
    doors: &[Arc<Door>],
    sockets: Vec<(SocketAddr, Vec<TcpListener>)>,
    workers: usize,
    shared: &Arc<Shared>,
) -> io::Result<Threads> {
    let mut shares: Vec<Vec<(Arc<Door>, TcpListener)>> = (0..workers).map(|_| Vec::new()).collect();
    for (door, (_, of)) in doors.iter().zip(sockets) {
        for (number, socket) in of.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(number % workers) {
                share.push((Arc::clone(door), socket));
            }
        }
    }
    let (finished, done) = mpsc::unbounded_channel();
    let (mut threads, mut changes) = (Vec::new(), Vec::new());
    for (index, share) in shares.into_iter().enumerate() {
        let (change, changed) = mpsc::unbounded_channel();
        changes.push(change);
        let (shared, finished) = (Arc::clone(shared), finished.clone());
        let (tell, made) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // A runtime stays on the thread that has made it.
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(error)),
            };
            drop(tell);
            runtime.block_on(async move {
                Worker::new(index, workers, seed(index), shared).run(share, changed).await;
                let _ = finished.send(());
            });
        })?;
        if let Ok(error) = made.recv() {
            return Err(error);
        }
        threads.push(thread);
    }
    Ok(Threads { threads, changes, done })
}

/// A runtime for the tasks of this thread. They never leave it, and it schedules them by itself: a `LocalSet` in an
/// ordinary one would be a second scheduler below the first.
fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

fn announce(started: &Started, control: &Control) {
    for (address, door) in started.listeners.iter().zip(&control.doors) {
        tracing::info!("listening address={address} tls={}", door.tls.is_some());
    }
    tracing::info!("admin listening address={}", started.admin);
    if let Some(ca) = &started.ca {
        tracing::info!("development CA: {}\n{}", ca.display(), crate::accept::tls::dev_ca::trust_hint(ca));
    }
    tracing::info!("ready generation={}", control.keeper.borrow().generation());
}

/// Keeps the doors for a successor; wakes when one has taken over.
fn doors_open(
    started: &Started,
    clones: Vec<(SocketAddr, Vec<TcpListener>)>,
    admin: Vec<TcpListener>,
) -> mpsc::UnboundedReceiver<()> {
    let (tell, successor) = mpsc::unbounded_channel();
    for (address, sockets) in clones.into_iter().chain([(started.admin, admin)]) {
        let tell = tell.clone();
        tokio::task::spawn_local(async move {
            tokio::select! {
                served = handover::serve(address, sockets) => match served {
                    Ok(()) => drop(tell.send(())),
                    Err(error) => tracing::warn!(%address, %error, "no successor can take over"),
                },
                // The drain has begun for another reason: let go of the sockets.
                () = tell.closed() => {}
            }
        });
    }
    successor
}
