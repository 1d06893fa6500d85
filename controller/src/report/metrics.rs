//! The controller's metrics, `sidetrack_controller_*`. Labels are closed sets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::Contact;
use crate::plan::{ForkState, Plan};

const PREFIX: &str = "sidetrack_controller_";
/// Every state, so that a series does not vanish with its last fork.
const STATES: [ForkState; 9] = [
    ForkState::Routed,
    ForkState::NotReady,
    ForkState::NotInterposed,
    ForkState::NoService,
    ForkState::NotAllowed,
    ForkState::Leaks,
    ForkState::Conflict,
    ForkState::Invalid,
    ForkState::Expired,
];

/// All metrics of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    plans: IntCounter,
    plan_seconds: Histogram,
    publish_seconds: Histogram,
    items: AtomicUsize,
    previews: IntGauge,
    forks: IntGaugeVec,
    leader: IntGauge,
    restarts: IntCounter,
    writes: IntCounterVec,
    write_errors: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a name is taken, which is a mistake of ours.
    pub(crate) fn new(contact: &Arc<Contact>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let buckets = vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let histogram = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(full(name), help).buckets(buckets.clone()))
        };
        let metrics = Self {
            plans: IntCounter::new(full("plans_total"), "Plans that were made")?,
            plan_seconds: histogram("plan_seconds", "How long a plan took")?,
            publish_seconds: histogram("publish_seconds", "How long a plan and its publication took")?,
            items: AtomicUsize::default(),
            previews: IntGauge::new(full("previews"), "Preview objects that were planned")?,
            forks: IntGaugeVec::new(
                Opts::new(full("forks"), "Forks that somebody asks for, by what came of them"),
                &["state"],
            )?,
            leader: IntGauge::new(full("leader"), "1 where this replica writes")?,
            restarts: IntCounter::new(
                full("watch_restarts_total"),
                "Watches that failed and were taken up again",
            )?,
            writes: IntCounterVec::new(
                Opts::new(full("writes_total"), "Writes to the API server"),
                &["what"],
            )?,
            write_errors: IntCounterVec::new(
                Opts::new(full("write_errors_total"), "Writes that the API server refused or did not answer"),
                &["what"],
            )?,
            registry,
        };
        metrics.register(contact)?;
        Ok(metrics)
    }

    fn register(&self, contact: &Arc<Contact>) -> Result<(), prometheus::Error> {
        let all: [Box<dyn Collector>; 10] = [
            Box::new(self.plans.clone()),
            Box::new(self.plan_seconds.clone()),
            Box::new(self.publish_seconds.clone()),
            Box::new(self.previews.clone()),
            Box::new(self.forks.clone()),
            Box::new(self.leader.clone()),
            Box::new(self.restarts.clone()),
            Box::new(self.writes.clone()),
            Box::new(self.write_errors.clone()),
            Box::new(Live::new(contact)?),
        ];
        all.into_iter().try_for_each(|one| self.registry.register(one))
    }

    /// The registry, for what others count.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts watches that failed and were taken up again.
    pub(crate) fn restarts(&self) -> &IntCounter {
        &self.restarts
    }

    /// Whether a plan was made yet.
    pub(crate) fn has_planned(&self) -> bool {
        self.plans.get() > 0
    }

    /// How many items the table has.
    pub(crate) fn items(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    /// A plan was made in `planned`, and published by `published`, both since it began.
    pub(crate) fn planned(&self, plan: &Plan, items: usize, planned: Duration, published: Duration) {
        self.plans.inc();
        self.plan_seconds.observe(planned.as_secs_f64());
        self.publish_seconds.observe(published.as_secs_f64());
        self.items.store(items, Ordering::Relaxed);
        self.previews.set(i64::try_from(plan.previews.len()).unwrap_or(i64::MAX));
        let mut counts = BTreeMap::from(STATES.map(|state| (state, 0)));
        for fork in &plan.forks {
            *counts.entry(fork.state).or_default() += 1;
        }
        for (state, count) in counts {
            self.forks.with_label_values(&[state.as_str()]).set(count);
        }
    }

    /// Whether this replica writes.
    pub(crate) fn set_leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// A write of this sort was tried.
    pub(crate) fn wrote(&self, what: &'static str, well: bool) {
        self.writes.with_label_values(&[what]).inc();
        if !well {
            self.write_errors.with_label_values(&[what]).inc();
        }
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a String fails for a family that is not well formed only; those before it are in the page.
        let _ = prometheus::TextEncoder::new().encode_utf8(&self.registry.gather(), &mut page);
        page
    }
}

fn full(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// What is read when somebody asks.
struct Live {
    contact: Arc<Contact>,
    age: Gauge,
}

impl Live {
    fn new(contact: &Arc<Contact>) -> Result<Self, prometheus::Error> {
        let age = Gauge::new(full("api_contact_age_seconds"), "How long ago the API server last answered")?;
        Ok(Self { contact: Arc::clone(contact), age })
    }
}

impl Collector for Live {
    fn desc(&self) -> Vec<&Desc> {
        self.age.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.age.set(self.contact.age().as_secs_f64());
        self.age.collect()
    }
}
