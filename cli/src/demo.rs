//! `sidetrack demo`: an estate in one process, to look at: sample services, previews, a gateway with wildcard TLS.

mod check;
mod estate;
mod guide;
mod requests;
mod samples;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sidetrack_proxy::app::{self, Link, Started};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::gateway;
use crate::out::{self, Style};
use estate::{Folder, Ports};
use requests::Place;
use samples::Sample;

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Port of the gateway [default: 8080, with --check any free one]
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Port of the gateway with TLS [default: 8443, with --check any free one]
    #[arg(long, value_name = "PORT")]
    https_port: Option<u16>,
    /// Port of the admin listener [default: 9901, with --check any free one]
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Folder for configuration, access log and development CA [default: a fresh one, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Send the requests that the demo shows, judge the answers, and end: 0 if all are right, else 1
    #[arg(long)]
    check: bool,
}

impl Options {
    fn ports(&self) -> Ports {
        let or = |given: Option<u16>, usual| given.unwrap_or(if self.check { 0 } else { usual });
        Ports {
            http: or(self.http_port, 8080),
            https: or(self.https_port, 8443),
            admin: or(self.admin_port, 9901),
        }
    }
}

/// Runs it until a signal, or until everything is checked.
pub(crate) fn run(options: &Options) -> ExitCode {
    begin(options).unwrap_or_else(|error| out::fail(&format!("{error:#}")))
}

fn begin(options: &Options) -> anyhow::Result<ExitCode> {
    options.ports().look()?;
    let samples = Sample::all().context("the sample services get no port on loopback")?;
    let folder = Folder::new(options.dir.as_deref())?;
    let file = folder.write(options.ports(), &samples)?;
    let (tell_started, started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Host { samples, started, stop, ended, check: options.check };
    let (path, keeps) = (folder.path().to_owned(), folder.keeps);
    let host = std::thread::Builder::new()
        .name("demo".to_owned())
        .spawn(move || runtime.block_on(host.run(path, keeps)))?;
    let served = app::run(&file, None, Link { started: Some(tell_started), stop: Some(stopped) });
    drop(end);
    let is_good = host.join().unwrap_or(false);
    Ok(match served {
        Ok(()) if is_good => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => gateway::failed(&error),
    })
}

/// The thread beside the gateway: it runs the sample services, and shows or checks.
struct Host {
    samples: Vec<Sample>,
    /// Told when the gateway serves.
    started: oneshot::Receiver<Started>,
    /// Dropped, it ends the gateway.
    stop: oneshot::Sender<()>,
    /// Closed when the gateway has ended.
    ended: oneshot::Receiver<()>,
    check: bool,
}

impl Host {
    /// Returns when the gateway has ended; `false` where a check has failed or nothing started.
    async fn run(self, folder: PathBuf, keeps: bool) -> bool {
        for sample in self.samples {
            tokio::spawn(sample.serve());
        }
        let Ok(started) = self.started.await else { return false };
        let (&[http, https], Some(ca)) = (started.listeners.as_slice(), started.ca) else { return false };
        let place = Place { http, https, admin: started.admin, ca, folder };
        let (check, mut ended) = (self.check, self.ended);
        let work = async {
            if check {
                return check::run(&place).await;
            }
            out::say(&guide::text(&place, keeps, Style::new()));
            hung_up().await;
            true
        };
        tokio::select! {
            is_good = work => {
                drop(self.stop);
                // Requests under way still want their answers while the gateway drains.
                let _ = ended.await;
                is_good
            }
            // A signal: the end of a demo, and a check that was broken off.
            _ = &mut ended => !check,
        }
    }
}

/// The terminal is gone. A gateway reads its configuration again on this signal, but a demo has lost its audience.
async fn hung_up() {
    match signal(SignalKind::hangup()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}
