//! Between the planning thread and the writer: the newest plan, and every notice since the last round.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::plan::waypoints::{Gate, WaypointWrite};
use crate::plan::{Notice, Plan};

/// How many notices may wait; further ones are dropped until some are told.
const MAX_NOTICES: usize = 10_000;
/// How long a replica that does not lead keeps them: it may be the next leader, and what was new when the last one died
/// is still to be told.
const KEPT: Duration = Duration::from_secs(60);

/// A plan replaces the one before; a notice that is in one plan only must not be missed.
#[derive(Default)]
pub(crate) struct Outbox {
    held: Mutex<Held>,
    news: Notify,
}

#[derive(Default)]
struct Held {
    plan: Option<Arc<Plan>>,
    notices: BTreeMap<Notice, Instant>,
}

impl Outbox {
    /// Puts a plan in; its items have gone another way.
    pub(crate) fn put(&self, mut plan: Plan) {
        let notices = std::mem::take(&mut plan.notices);
        let mut held = self.lock();
        for notice in notices {
            add(&mut held.notices, notice);
        }
        held.plan = Some(Arc::new(plan));
        drop(held);
        self.wake();
    }

    /// The newest plan and what waits to be told; `None` before the first plan.
    pub(super) fn look(&self) -> Option<(Arc<Plan>, Vec<Notice>)> {
        let held = self.lock();
        let plan = held.plan.clone()?;
        Some((plan, held.notices.keys().cloned().collect()))
    }

    /// What waypoints must have before Services are turned to them, with the namespace of each.
    pub(crate) fn gates(&self) -> Vec<(Box<str>, Gate)> {
        let plan = self.lock().plan.clone();
        let writes = plan.iter().flat_map(|plan| &plan.waypoints.writes);
        let gates = writes.filter_map(|write| match write {
            WaypointWrite::Front(front) => Some((front.name.namespace.clone(), front.gate.clone()?)),
            _ => None,
        });
        gates.collect()
    }

    /// Adds a notice that is in no plan.
    pub(super) fn tell(&self, notice: Notice) {
        add(&mut self.lock().notices, notice);
        self.wake();
    }

    /// This one is told.
    pub(super) fn told(&self, notice: &Notice) {
        self.lock().notices.remove(notice);
    }

    /// Somebody else tells them: forgets those that are old.
    pub(super) fn forget_notices(&self, now: Instant) {
        self.lock().notices.retain(|_, since| now.saturating_duration_since(*since) < KEPT);
    }

    /// There may be something to do.
    pub(crate) fn wake(&self) {
        self.news.notify_one();
    }

    /// Waits for that.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(notices: &mut BTreeMap<Notice, Instant>, notice: Notice) {
    if notices.len() < MAX_NOTICES {
        notices.insert(notice, Instant::now());
    }
}
