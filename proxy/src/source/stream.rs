//! Following a controller: its lines come from the disk first and then from a connection, through the same code, into
//! the one owner of the table. What can't be followed is asked for anew; what can't be taken is reported, and the last
//! good table stays.

mod back_off;
mod client;
mod journal;
pub mod lines;
pub mod mirror;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use sidetrack_config::stream::Report;
use tokio::sync::watch;

use crate::app::ports::Ports;
use crate::record::metrics::{Contact, Metrics};
use crate::source::keeper::Keeper;
use back_off::{BackOff, Teller};
use client::{Connection, Failed};
pub use client::{Controller, Wrong};
use journal::Journal;
use lines::Lines;
use mirror::{Heard, Lost, Mirror};

/// A controller speaks at least every five seconds; after so long it is taken for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the token's file is looked at: a token that was replaced ends soon, and a stream begun with it.
const TOKEN_LOOK: Duration = Duration::from_secs(5);
/// A connection that stood for so long was a good one: the next failure is a new one.
const GOOD: Duration = Duration::from_secs(5);
/// Until a report that did not arrive is sent again.
const REPORT_AGAIN: Duration = Duration::from_secs(1);

/// Follows one controller.
pub struct Follower {
    controller: Rc<Controller>,
    keeper: Rc<RefCell<Keeper>>,
    metrics: Arc<Metrics>,
    mirror: Mirror,
    journal: Journal,
    /// The greeting of this connection.
    hello: Bytes,
    /// How far the snapshot is that the journal does not have as its table yet.
    candidate: Candidate,
    report: watch::Sender<Option<Report>>,
    contact: Contact,
    /// The ports that the table asks for, once there are workers to serve them.
    ports: Option<Ports>,
    /// Why one of them is not open.
    unopened: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    None,
    Part,
    Whole,
}

/// Why a stream ended that was no failure.
struct TokenReplaced;

impl Follower {
    /// Puts the table of the disk in force, where there is one.
    pub fn open(
        controller: Controller,
        keeper: Rc<RefCell<Keeper>>,
        metrics: Arc<Metrics>,
        state_dir: &Path,
    ) -> Self {
        let mut follower = Self {
            controller: Rc::new(controller),
            keeper,
            metrics,
            mirror: Mirror::default(),
            journal: Journal::start(state_dir, None),
            hello: Bytes::new(),
            candidate: Candidate::None,
            report: watch::Sender::new(None),
            contact: Contact { connected: false, last: Instant::now(), version: 0, refused: false },
            ports: None,
            unopened: None,
        };
        let good = follower.replay(state_dir);
        if follower.mirror.position().is_some() {
            follower.journal = Journal::start(state_dir, Some(good));
            tracing::info!(version = follower.contact.version, "the table of the disk is in force");
        } else {
            let url = follower.controller.url();
            tracing::warn!("no routing table yet: waiting for the controller at {url}");
        }
        follower.tell_metrics();
        follower
    }

    /// Reads the lines of the disk as those of a connection; gives how many bytes of them are good.
    fn replay(&mut self, state_dir: &Path) -> u64 {
        let mut problem = None;
        let read = journal::read(state_dir, |line| match self.mirror.line(&line) {
            Ok(heard) => {
                if matches!(heard, Heard::Whole(_) | Heard::Changed) {
                    self.apply();
                }
                true
            }
            Err(lost) => {
                problem = Some(lost.to_string());
                false
            }
        });
        self.mirror.disconnected();
        let folder = state_dir.display();
        if let Some(problem) = problem {
            tracing::warn!(%folder, "table.jsonl is used up to where it is broken: {problem}");
        }
        read.unwrap_or_else(|error| {
            tracing::warn!(%folder, "the table of the disk is not read: {error}");
            0
        })
    }

    /// Follows for as long as it is polled, and opens the ports that the table asks for.
    pub async fn run(mut self, ports: Ports) {
        self.ports = Some(ports);
        self.open_ports();
        let mut back_off = BackOff::default();
        let mut teller = Teller::default();
        loop {
            let begun = Instant::now();
            let ended = self.connection(&mut teller).await;
            self.disconnected();
            match ended {
                Ok(TokenReplaced) => {
                    tracing::info!("the token was replaced: asking the controller with the new one");
                    continue;
                }
                Err(error) => {
                    if matches!(error, Failed::Lost(_)) {
                        self.mirror.lose_position();
                    }
                    teller.failed(self.controller.url(), &error);
                }
            }
            if begun.elapsed() > GOOD {
                back_off = BackOff::default();
            }
            tokio::time::sleep(back_off.next_wait()).await;
        }
    }

    fn disconnected(&mut self) {
        self.contact.connected = false;
        self.tell_metrics();
        self.mirror.disconnected();
        if self.candidate == Candidate::Part {
            self.journal.abandon();
            self.candidate = Candidate::None;
        }
        if self.journal.is_lost() {
            // The disk lacks a line, and only a snapshot mends it.
            self.mirror.lose_position();
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self, teller: &mut Teller) -> Result<TokenReplaced, Failed> {
        let token = self.controller.token()?;
        let mut connection = self.controller.connect().await?;
        let mut body =
            connection.stream(&self.controller, token.as_deref(), self.mirror.position(), SILENCE).await?;
        let _reporter = Reporter::start(&connection, Rc::clone(&self.controller), self.report.subscribe());
        let mut lines = Lines::default();
        let mut looks = tokio::time::interval(TOKEN_LOOK);
        let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = &mut silence => return Err(Failed::Silence(SILENCE)),
                _ = looks.tick() => {
                    // One that can't be read just now is no reason to leave.
                    if self.controller.token().is_ok_and(|now| now != token) {
                        return Ok(TokenReplaced);
                    }
                    // A port that another process had may be free now.
                    if self.unopened.is_some() {
                        self.open_ports();
                    }
                    continue;
                }
            };
            let frame = frame.ok_or(Failed::Ended)??;
            silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
            self.contact.last = Instant::now();
            if let Ok(piece) = frame.into_data() {
                lines.push(&piece);
            }
            while let Some(line) = lines.next_line()? {
                self.line(line)?;
                if !self.contact.connected {
                    self.contact.connected = true;
                    teller.connected(self.controller.url());
                }
                // A long snapshot leaves room for health checks and the admin listener.
                tokio::task::yield_now().await;
            }
            self.tell_metrics();
        }
    }

    /// Takes one line in, and what it completes into force.
    fn line(&mut self, line: Bytes) -> Result<(), Lost> {
        match self.mirror.line(&line)? {
            Heard::Ping => {}
            Heard::Hello => {
                self.hello = line;
                // It may have begun anew, or be another one, and not know what is in force here.
                let position = self.mirror.position();
                self.report.send_if_modified(|report| {
                    report.as_ref().is_some_and(|report| position.is_some_and(|at| at.epoch == report.epoch))
                });
            }
            Heard::Begun => self.begin(line, Candidate::Part),
            Heard::Part => self.journal.line(line),
            Heard::Whole(is_first) => {
                match is_first {
                    true => self.begin(line, Candidate::Whole),
                    false => self.journal.line(line),
                }
                self.candidate = Candidate::Whole;
                self.apply();
            }
            Heard::Changed => {
                self.journal.line(line);
                self.apply();
            }
        }
        Ok(())
    }

    fn begin(&mut self, line: Bytes, candidate: Candidate) {
        self.journal.begin(self.hello.clone());
        self.journal.line(line);
        self.candidate = candidate;
    }

    /// Puts in force what was heard, and says so; or says why not.
    fn apply(&mut self) {
        let Some(position) = self.mirror.position().cloned() else { return };
        let mut keeper = self.keeper.borrow_mut();
        let applied = keeper.apply(position.version, self.mirror.pending());
        let refused = applied.err();
        if let Some(why) = &refused
            && keeper.status().version.as_ref() != Some(why)
        {
            let version = position.version;
            tracing::error!(version, "version not taken, the last good table stays: {why}");
        }
        keeper.refused_version(refused.clone());
        drop(keeper);
        self.contact.refused = refused.is_some();
        if refused.is_none() {
            tracing::debug!(
                version = position.version,
                changes = self.mirror.pending().len(),
                "table in force"
            );
            self.mirror.settled();
            self.contact.version = position.version;
            if std::mem::replace(&mut self.candidate, Candidate::None) == Candidate::Whole {
                self.journal.commit();
            }
        }
        self.open_ports();
        self.report.send_replace(Some(Report {
            node: self.controller.node().into(),
            epoch: position.epoch,
            version: position.version,
            error: refused.map(Into::into).or_else(|| self.unopened.clone()),
        }));
    }

    /// Has the ports open that the table in force asks for. Until they are, its version is not reported as taken: callers
    /// would be sent to a closed door.
    fn open_ports(&mut self) {
        let Some(ports) = &mut self.ports else { return };
        let before = std::mem::take(&mut self.unopened);
        self.unopened = ports.follow(&self.keeper.borrow().ports()).err().map(Into::into);
        if self.unopened == before {
            return;
        }
        if let Some(why) = &self.unopened {
            tracing::error!("{why}; trying again");
        }
        let (before, now) = (before.as_ref(), &self.unopened);
        self.report.send_if_modified(|report| match report {
            Some(report) if report.error.as_ref() == before => {
                report.error.clone_from(now);
                true
            }
            _ => false,
        });
    }

    fn tell_metrics(&self) {
        self.metrics.set_contact(self.contact);
    }
}

/// Sends reports while a connection lasts: in order, and of those that wait only the newest, so that no slow answer
/// keeps a change from being routed.
struct Reporter(tokio::task::JoinHandle<()>);

impl Drop for Reporter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reporter {
    fn start(
        connection: &Connection,
        controller: Rc<Controller>,
        mut reports: watch::Receiver<Option<Report>>,
    ) -> Self {
        let mut sender = connection.sender();
        Self(tokio::task::spawn_local(async move {
            while reports.changed().await.is_ok() {
                send_newest(&mut sender, &controller, &mut reports).await;
            }
        }))
    }
}

/// Sends the newest report until one arrives.
async fn send_newest(
    sender: &mut SendRequest<Full<Bytes>>,
    controller: &Controller,
    reports: &mut watch::Receiver<Option<Report>>,
) {
    let mut told = false;
    loop {
        let Some(report) = reports.borrow_and_update().clone() else { return };
        let Err(error) = client::report(sender, controller, &report).await else { return };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(version = report.version, "the controller did not take the report: {error}");
        }
        tokio::time::sleep(REPORT_AGAIN).await;
    }
}
