//! The planning thread: applies changes to the world, plans, publishes, and hands the plan on to be applied.
//!
//! It owns the pace. A lone change waits [`GATHER`] for others that belong to it; while changes keep coming it rests as
//! long as the last plan took, so that planning takes half a core at most.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::{Outbox, SecretsFile, Watched};
use crate::plan::{self, Plan, Settings, waypoints};
use crate::publish::{About, Publisher};
use crate::report::Metrics;
use crate::watch::{Change, Message};
use crate::world::World;

/// How long a change waits for others: a rollout comes as a handful of events.
const GATHER: Duration = Duration::from_millis(2);
/// The most changes that are taken in before a plan is made of them.
const MAX_BATCH: usize = 4096;
/// How long at most until the next plan, for the clock's sake: a clock that was set is noticed.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The world, which the planning thread alone changes.
pub(crate) type SharedWorld = Arc<RwLock<World>>;

/// What the planning thread has.
pub(crate) struct Planner {
    pub(crate) world: SharedWorld,
    pub(crate) settings: Settings,
    pub(super) template: Option<Watched>,
    pub(super) secrets: Option<SecretsFile>,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) incomplete: Vec<bool>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Planner {
    /// Plans until nobody sends changes any more.
    pub(crate) async fn run(mut self) {
        let mut next = None;
        let mut rest = GATHER;
        while let Some(changes) = self.gather(next, rest).await {
            let mut changed = self.take_in(changes);
            if let Some(template) = &mut self.template {
                changed |= template.look(&mut self.settings.waypoints);
            }
            if let Some(secrets) = &mut self.secrets {
                changed |= secrets.look();
            }
            let is_due = next.is_some_and(|at| Timestamp::now() >= at);
            if self.incomplete.contains(&true) || !(changed || is_due || !self.metrics.has_planned()) {
                continue;
            }
            let begin = Instant::now();
            next = self.plan();
            rest = begin.elapsed().max(GATHER);
        }
    }

    /// Waits for changes or for the clock, and then a little for further changes. `None`: there will be no more.
    async fn gather(&mut self, next: Option<Timestamp>, rest: Duration) -> Option<Vec<Message>> {
        let mut batch = Vec::new();
        // The clock is looked at anew, since timers don't know that it was set.
        let wait = next.map_or(MAX_WAIT, |at| until(at).min(MAX_WAIT));
        match tokio::time::timeout(wait, self.messages.recv()).await {
            Ok(Some(message)) => batch.push(message),
            Ok(None) => return None,
            Err(_) => return Some(batch),
        }
        let end = tokio::time::Instant::now() + rest;
        while batch.len() < MAX_BATCH {
            match tokio::time::timeout_at(end, self.messages.recv()).await {
                Ok(Some(message)) => batch.push(message),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Applies changes; says whether the world is another one, or whole for the first time.
    fn take_in(&mut self, messages: Vec<Message>) -> bool {
        let mut changed = false;
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            match message {
                Message::Change(change) => changed |= apply(change, &mut world),
                Message::Complete(source) => {
                    if let Some(incomplete) = self.incomplete.get_mut(source) {
                        changed |= std::mem::replace(incomplete, false);
                    }
                }
            }
        }
        changed
    }

    /// Makes a plan and hands it on; gives the time of the next one.
    fn plan(&mut self) -> Option<Timestamp> {
        let begin = Instant::now();
        // Whole seconds, since that is how the API writes times, and how first appearances are kept.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        let end = world.take_down_until.filter(|end| now < *end);
        let mut plan = plan::plan(&world, &self.settings(end.is_some()), now);
        plan.next = plan.next.into_iter().chain(end).min();
        let about = About::new(&plan, &world);
        drop(world);
        let planned = begin.elapsed();
        let mut items = std::mem::take(&mut plan.items);
        items.extend(self.secrets.as_ref().and_then(SecretsFile::item));
        let count = items.len();
        let inside = std::mem::take(&mut plan.inside);
        let views = std::mem::take(&mut plan.waypoints.views);
        let updated = self.publisher.publish(items, inside, views, about);
        for item in &updated.left_out {
            error!("{item} is more than a proxy takes, and is left out of the table");
        }
        self.metrics.planned(&plan, count, planned, begin.elapsed());
        if updated.changed {
            debug!(version = updated.version, items = count, took = ?begin.elapsed(), "a new table is published");
        }
        self.keep_times(&plan);
        let next = plan.next;
        self.outbox.put(plan);
        next
    }

    /// What is planned by. While the release is to be removed no waypoint is needed, nor will be soon.
    fn settings(&self, take_down: bool) -> Cow<'_, Settings> {
        match &self.settings.waypoints {
            Some(waypoints) if take_down => {
                let waypoints =
                    waypoints::Settings { drain: true, idle: Duration::ZERO, ..waypoints.clone() };
                Cow::Owned(Settings { waypoints: Some(waypoints), ..self.settings.clone() })
            }
            _ => Cow::Borrowed(&self.settings),
        }
    }

    /// What the plan wants kept is known at once: the next plan must not take a key for a new one because the
    /// ConfigMap is not written yet, or can't be.
    fn keep_times(&self, plan: &Plan) {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        world.seen.clone_from(&plan.seen);
        world.gone.clone_from(&plan.gone);
    }
}

fn apply(change: Change, world: &mut World) -> bool {
    change(world)
}

/// How long until `at` has passed on a clock of whole seconds.
fn until(at: Timestamp) -> Duration {
    let at = at.saturating_add(1.millisecond()).unwrap_or(at);
    Timestamp::now().duration_until(at).try_into().unwrap_or(Duration::ZERO)
}
