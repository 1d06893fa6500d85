//! The whole controller: watch -> observe -> plan -> apply -> publish -> report, wired together here and nowhere else.
//!
//! | Thread | Runs |
//! |---|---|
//! | main | the watches, the Lease, the writes, `/livez`, `/readyz`, `/metrics` |
//! | `plan` | changes to the world, plans, publication |
//! | `publish` | the streams to proxies, the webhook |

mod planner;
mod secrets;
mod settings;
mod template;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kube::{Client, Config};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::info;

use self::planner::Planner;
pub(crate) use self::planner::SharedWorld;
use self::secrets::SecretsFile;
pub use self::settings::{RunSettings, duration};
use self::template::Watched;
pub use self::template::WaypointSettings;
use crate::admission;
use crate::apply::{Applier, Outbox, Sender};
use crate::inject::{review, version};
use crate::leader::{self, Leader, LeaseSettings};
use crate::plan;
use crate::publish::Publisher;
use crate::report::{self, Acknowledged, Contact, Metrics};
use crate::serve::previews::Previews;
use crate::serve::{ApiServer, Question, ServeError, Server};
use crate::watch::{self as watches, Scope, Watches};

/// How long a connection to the API server may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer of the API server may say nothing: longer than a watch of a quiet kind lasts (290 s), since such a
/// watch may be told nothing at all. kube has no bound, and would wait for an answer that never comes for ever.
const SILENCE: Duration = Duration::from_secs(300);
/// How long the end may take: the Lease, then streams that end.
const FAREWELL: Duration = Duration::from_secs(15);

/// Why the controller did not start, or ended by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error(
        "there is no way to the API server: {0}; run it in a pod with a service account, or set KUBECONFIG"
    )]
    Config(#[from] kube::config::InferConfigError),
    /// The client can't be made.
    #[error("the API server can't be talked to: {0}")]
    Client(#[from] kube::Error),
    /// The server for proxies can't start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Something of the system is not to be had.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// A file that waypoints are made of can't be used.
    #[error("{0}")]
    Template(String),
    /// A metric's name is taken.
    #[error("the metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread ended by itself, which is a mistake of ours: it is better to start anew than to serve an old table.
    #[error("the thread `{0}` has ended")]
    Thread(&'static str),
}

/// Runs until SIGTERM or SIGINT: then the Lease is given back, and the streams end.
///
/// # Errors
/// Everything that keeps it from starting. An API server that is away does not.
pub fn run(settings: RunSettings) -> Result<(), RunError> {
    runtime()?.block_on(main(settings))
}

fn runtime() -> Result<Runtime, RunError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("no runtime".to_owned(), error))
}

async fn main(mut settings: RunSettings) -> Result<(), RunError> {
    let waypoints = settings.waypoints.as_ref().map(WaypointSettings::read).transpose();
    settings.plan.waypoints = waypoints.map_err(RunError::Template)?;
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    let client = Client::try_from(config.clone())?;
    let contact = Arc::new(Contact::default());
    let metrics = Arc::new(Metrics::new(&contact)?);
    let publisher = Publisher::new().with_settle(settings.settle);
    let publisher = if settings.inject.is_some() { publisher.with_sidecars() } else { publisher };
    let parts = Parts {
        world: SharedWorld::default(),
        publisher: Arc::new(publisher),
        outbox: Arc::default(),
        metrics,
        contact,
    };
    let (end, ended) = watch::channel(false);
    let address = settings.metrics_address;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.map_err(|error| RunError::Io(format!("{address} can't be listened on"), error))?;
    let (mut serving, previews) = parts.serve(&settings, config, ended.clone()).await?;
    let (mut planning, watching) = parts.plan(&settings, &client)?;
    let (campaign, mut tasks) = parts.lead(&settings, &client, previews, &ended);
    tasks.spawn(report::serve(listener, Arc::clone(&parts.metrics), Arc::clone(&parts.contact)));
    info!(metrics = %address, version = env!("CARGO_PKG_VERSION"), "the controller is up");

    let result = tokio::select! {
        result = signalled() => result,
        _ = &mut serving => return Err(RunError::Thread("publish")),
        _ = &mut planning => return Err(RunError::Thread("plan")),
    };
    info!("the controller ends");
    end.send_replace(true);
    let _ = tokio::time::timeout(FAREWELL, async { tokio::join!(campaign, serving) }).await;
    drop((watching, tasks));
    result
}

/// Waits for the signal to end.
async fn signalled() -> Result<(), RunError> {
    let listen = |kind| signal(kind).map_err(|error| RunError::Io("signals can't be had".to_owned(), error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What the steps share.
struct Parts {
    world: SharedWorld,
    publisher: Arc<Publisher>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    contact: Arc<Contact>,
}

impl Parts {
    /// Starts the thread that serves proxies. It has a client of its own: one that is shared would run on this thread.
    async fn serve(
        &self,
        settings: &RunSettings,
        config: Config,
        mut ended: watch::Receiver<bool>,
    ) -> Result<(oneshot::Receiver<()>, Arc<Previews>), RunError> {
        let (tell, told) = oneshot::channel();
        let (serve, audience) = (settings.serve.clone(), settings.audience.clone());
        let (publisher, metrics) = (Arc::clone(&self.publisher), Arc::clone(&self.metrics));
        let (world, inject) = (Arc::clone(&self.world), settings.inject.clone());
        // Whether a fork leaks is asked alone, of which neither sidecars nor waypoints say anything.
        let plan = plan::Settings { sidecars: false, waypoints: None, ..settings.plan.clone() };
        let injects = inject.is_some();
        let serving = thread("publish", async move {
            let ready = Arc::clone(&metrics);
            let native = Arc::new(OnceLock::new());
            let known = Arc::clone(&native);
            let answer = Arc::new(move |question, body| {
                let is_whole = ready.has_planned();
                match question {
                    Question::Validate => admission::answer(&world, &plan, is_whole, &body),
                    Question::Mutate => {
                        review::answer(&world, inject.as_ref(), known.get().copied(), is_whole, &body)
                    }
                }
            });
            let bound = async {
                let client = Client::try_from(config)?;
                if injects {
                    let asker = client.clone();
                    tokio::spawn(async move { version::learn(asker, &native).await });
                }
                let checker = Arc::new(ApiServer::new(client, &audience));
                Ok(Server::bind(&serve, publisher, checker, answer, metrics.registry()).await?)
            };
            match bound.await {
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
                Ok(server) => {
                    let _ = tell.send(Ok(server.previews()));
                    server.serve(async move { drop(ended.wait_for(|end| *end).await) }).await;
                }
            }
        })?;
        let previews = told.await.unwrap_or(Err(RunError::Thread("publish")))?;
        Ok((serving, previews))
    }

    /// Starts the watches, and the thread that plans by what they say.
    fn plan(
        &self,
        settings: &RunSettings,
        client: &Client,
    ) -> Result<(oneshot::Receiver<()>, JoinSet<()>), RunError> {
        let scope =
            Scope { namespace: settings.namespace.clone(), watched: settings.watch_namespaces.clone() };
        let Watches { messages, sources, tasks } = watches::start(client, &scope, self.metrics.restarts());
        let planner = Planner {
            world: Arc::clone(&self.world),
            settings: settings.plan.clone(),
            template: settings.waypoints.clone().map(Watched::new),
            secrets: settings.secrets.clone().map(SecretsFile::new),
            messages,
            incomplete: vec![true; sources],
            publisher: Arc::clone(&self.publisher),
            outbox: Arc::clone(&self.outbox),
            metrics: Arc::clone(&self.metrics),
        };
        Ok((thread("plan", planner.run())?, tasks))
    }

    /// Starts the campaign for the Lease, and what its holder does.
    fn lead(
        &self,
        settings: &RunSettings,
        client: &Client,
        previews: Arc<Previews>,
        ended: &watch::Receiver<bool>,
    ) -> (JoinHandle<()>, JoinSet<()>) {
        let lease = LeaseSettings {
            namespace: settings.namespace.clone(),
            name: settings.lease_name.clone(),
            identity: settings.identity.clone(),
            duration: settings.lease_duration,
        };
        let (leader, campaign) = if settings.dry_run {
            // The Lease is a write too.
            (Leader::always(), tokio::spawn(async {}))
        } else {
            let (leader, campaign) =
                leader::campaign(client.clone(), lease, Arc::clone(&self.contact), ended.clone());
            (leader, tokio::spawn(campaign))
        };
        let acknowledged = Arc::new(Acknowledged::new(Arc::clone(&self.publisher)));
        let sender = Sender::new(client.clone(), &settings.namespace, &settings.identity, settings.dry_run);
        let applier = Applier::new(
            Arc::clone(&self.world),
            Arc::clone(&self.outbox),
            leader.clone(),
            Arc::clone(&self.metrics),
            sender,
            Arc::clone(&acknowledged),
        );
        let (publisher, outbox, contact) =
            (Arc::clone(&self.publisher), Arc::clone(&self.outbox), Arc::clone(&self.contact));
        let client = client.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(applier.run(ended.clone()));
        tasks.spawn(async move { acknowledged.keep(&previews, &leader, &outbox).await });
        tasks.spawn(async move { contact.keep(client, &publisher).await });
        (campaign, tasks)
    }
}

/// Starts a thread that runs `work`; what is returned says when it has ended, be it by a panic.
fn thread(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<oneshot::Receiver<()>, RunError> {
    let runtime = runtime()?;
    let (ended, end) = oneshot::channel::<()>();
    let body = move || {
        runtime.block_on(work);
        drop(ended);
    };
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map_err(|error| RunError::Io(format!("the thread `{name}` can't be started"), error))?;
    Ok(end)
}
