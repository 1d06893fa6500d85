//! Step four, the leader's alone: what the plan wants of the cluster is written to it.
//!
//! The plan says what shall be, again and again; [`ledger`] says what of it is due: a write is not repeated because the
//! watch has not brought it back yet, and one that failed waits before it is tried again. What the API server refuses
//! is told in the Preview's condition `Applied`, or in an Event.

mod ledger;
mod outbox;
mod send;
mod wants;
mod waypoints;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use self::ledger::Ledger;
pub(crate) use self::outbox::Outbox;
use self::send::Failure;
pub(crate) use self::send::Sender;
use self::wants::{Refused, Target, Write};
use crate::leader::Leader;
use crate::plan::Notice;
use crate::report::{Acknowledged, Metrics};
use crate::run::SharedWorld;
use crate::world::Name;

/// Writes under way at once.
const AT_ONCE: usize = 16;
/// How long it is waited at most for something to do: what somebody else overwrote is written again after this.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long it is waited while the API server is away.
const OUTAGE_WAIT: Duration = Duration::from_secs(1);
/// How long it is waited at least between two rounds.
const MIN_WAIT: Duration = Duration::from_millis(20);

/// What writes.
pub(crate) struct Applier {
    world: SharedWorld,
    outbox: Arc<Outbox>,
    leader: Leader,
    metrics: Arc<Metrics>,
    sender: Sender,
    acknowledged: Arc<Acknowledged>,
    ledger: Ledger,
    refused: BTreeMap<Name, Refused>,
}

impl Applier {
    /// One that has written nothing yet.
    pub(crate) fn new(
        world: SharedWorld,
        outbox: Arc<Outbox>,
        leader: Leader,
        metrics: Arc<Metrics>,
        sender: Sender,
        acknowledged: Arc<Acknowledged>,
    ) -> Self {
        Self {
            world,
            outbox,
            leader,
            metrics,
            sender,
            acknowledged,
            ledger: Ledger::default(),
            refused: BTreeMap::new(),
        }
    }

    /// Writes until `end` is true.
    pub(crate) async fn run(mut self, mut end: watch::Receiver<bool>) {
        while !*end.borrow() {
            let wait = match self.ledger.next_retry(Instant::now()) {
                // The API server is away: it is looked again soon.
                _ if self.leader.is_held() && !self.leader.may_write() => OUTAGE_WAIT,
                Some(wait) => wait.clamp(MIN_WAIT, MAX_WAIT),
                None => MAX_WAIT,
            };
            tokio::select! {
                _ = end.wait_for(|end| *end) => return,
                () = self.outbox.news() => {}
                () = self.leader.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let may_write = self.leader.may_write();
            self.metrics.set_leader(may_write);
            if may_write {
                self.round(&mut end).await;
            } else if !self.leader.is_held() {
                // The leader has seen the same, and tells it.
                self.outbox.forget_notices(Instant::now());
            }
        }
    }

    /// Writes what is due; stops half-way when the Lease is lost or the end has come.
    async fn round(&mut self, end: &mut watch::Receiver<bool>) {
        let wants = self.wants();
        let now = Instant::now();
        let targets: HashSet<Target> = wants.iter().map(Write::target).collect();
        let due: Vec<Write> = wants.into_iter().filter(|write| self.ledger.is_due(write, now)).collect();
        let (sender, leader) = (&self.sender, &self.leader);
        let mut results = stream::iter(due)
            .map(|write| async move {
                if !leader.may_write() {
                    return (write, Err(Failure::NotLeader));
                }
                let result = sender.send(&write).await;
                (write, result)
            })
            .buffer_unordered(AT_ONCE);
        let mut done = Vec::new();
        let mut lost = leader.clone();
        loop {
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => break,
                () = lost.changed(), if lost.may_write() => if !lost.may_write() { break },
                result = results.next() => match result {
                    Some(result) => done.push(result),
                    None => break,
                },
            }
        }
        drop(results);
        for (write, result) in done {
            self.took(write, result);
        }
        self.ledger.prune(&targets, Instant::now());
    }

    fn wants(&self) -> Vec<Write> {
        let Some((plan, notices)) = self.outbox.look() else { return Vec::new() };
        let acknowledged = &self.acknowledged;
        let mut wants = wants::waypoints(&plan, &|namespace, gate| acknowledged.is_open(namespace, gate));
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        wants.extend(wants::wants(&plan, notices, &world, &self.refused, &|key| acknowledged.of(key)));
        wants
    }

    /// Takes note of what came of a write.
    fn took(&mut self, write: Write, result: Result<(), Failure>) {
        let now = Instant::now();
        let failure = match result {
            Err(Failure::NotLeader) => return,
            Ok(()) => None,
            Err(failure) => Some(failure),
        };
        self.metrics.wrote(write.what(), failure.is_none());
        let Some(failure) = failure else {
            self.ledger.done(&write, now);
            self.settled(&write);
            return;
        };
        let message = failure.to_string();
        if self.ledger.failed(&write, now, &message) {
            warn!("{} can't be written: {message}", write.describe());
        }
        if let Failure::Refused(message) = failure {
            self.tell(&write, &message);
        }
    }

    /// What was refused before is not any more; an Event is told.
    fn settled(&mut self, write: &Write) {
        match write {
            Write::Clone(clone) if self.refused.remove(&clone.preview).is_some() => {
                info!("{} is written after all", write.describe());
                self.outbox.wake();
            }
            Write::Event(notice) => self.outbox.told(notice),
            _ => {}
        }
    }

    /// Tells people that the API server refuses a write, where they look for it.
    fn tell(&mut self, write: &Write, message: &str) {
        match write {
            Write::Clone(clone) => {
                let message: Box<str> = format!("{}: {message}", write.describe()).into();
                let refused = self.refused.entry(clone.preview.clone());
                let refused =
                    refused.or_insert_with(|| Refused { since: Timestamp::now(), message: message.clone() });
                refused.message = message;
                self.outbox.wake();
            }
            // An Event that can't be written is not told by another one, nor tried again with every plan.
            Write::Event(notice) => {
                self.ledger.done(write, Instant::now());
                self.outbox.told(notice);
            }
            Write::Preview { .. } | Write::Status(_) | Write::Delete(_) | Write::Waypoint(_) => {
                if let Some(about) = write.object() {
                    let message = format!("the API server refuses {}: {message}", write.describe()).into();
                    self.outbox.tell(Notice { about, warning: true, reason: "WriteRefused", message });
                }
            }
            Write::State { .. } => {}
        }
    }
}
