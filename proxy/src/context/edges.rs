//! What became of the key between two services: a call that a proxy inside sees says what its caller handed on. Counted
//! for each edge (caller, callee) with the counters of the callee: a sidecar has one caller, its workload; a waypoint can't
//! tell who calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use sidetrack_config::carriers::Carrier;
use sidetrack_config::model::Carriers;

use super::ids::Ids;
use super::memory::{Memory, Recall, Said};
use crate::head::Head;
use crate::identify::{Identity, members};
use crate::record::metrics::Counter;
use crate::route::table::Estate;

/// Who calls where that is not known.
pub const UNKNOWN: &str = "unknown";
/// The callee that is no service of the table.
pub const OTHER: &str = "other";

/// What a caller handed on, that says the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivor {
    /// Our header.
    Header,
    /// Our member of `baggage`.
    Baggage,
    /// Our member of `tracestate`.
    Tracestate,
    /// Another carrier: the host, the query, a cookie, one of another tool.
    Other,
    /// A trace id that says the key, or came in with it.
    Trace,
    /// An `X-Request-Id` that came in with the key.
    RequestId,
    /// Nothing.
    None,
}

impl Survivor {
    /// All of them, in the order of [`Survivor::index`].
    pub const ALL: [Self; 7] = [
        Self::Header,
        Self::Baggage,
        Self::Tracestate,
        Self::Other,
        Self::Trace,
        Self::RequestId,
        Self::None,
    ];

    /// The word of the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Baggage => "baggage",
            Self::Tracestate => "tracestate",
            Self::Other => "other",
            Self::Trace => "trace",
            Self::RequestId => "request-id",
            Self::None => "none",
        }
    }

    /// Position in [`Survivor::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Some survivors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survivors(u8);

impl Survivors {
    fn add_if(&mut self, is_there: bool, one: Survivor) {
        self.0 |= u8::from(is_there) << one.index();
    }

    /// Whether `one` is among them.
    pub const fn has(self, one: Survivor) -> bool {
        self.0 >> one.index() & 1 == 1
    }
}

/// What became of the key of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A carrier of ours brought it.
    Kept,
    /// None did; an id said what it was.
    Repaired,
    /// The same of a request that came in to a workload: who lost it is not known.
    Arrived,
    /// None did, nor did an id: every request that the caller has to answer just now has a key, so that this call belongs
    /// to one of them, unless it is of a job in the background.
    Missing,
}

/// A call with a key, or that should have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What became of the key.
    pub outcome: Outcome,
    /// What said it.
    pub survivors: Survivors,
}

impl Call {
    /// A request that came in to the workload of a sidecar, and whose key an id said.
    pub fn arrived() -> Self {
        Self { outcome: Outcome::Arrived, survivors: Survivors::default() }
    }

    /// A call that a waypoint sees: what its own fields say.
    pub fn at_waypoint<H: Head>(head: &H, identity: &Identity, carriers: &Carriers) -> Option<Self> {
        match identity.carrier? {
            Carrier::Trace => Some(Self::repaired(true, false)),
            _ => Some(Self::kept(head, carriers, (false, false))),
        }
    }

    /// A call of the workload of a sidecar, which gets the keys back that it lost. `is_busy` says whether every request that
    /// the workload has to answer just now has a key.
    pub fn of_workload<H: Head>(
        head: &H,
        identity: &mut Identity,
        estate: &Estate,
        memory: &Memory,
        is_busy: impl FnOnce() -> bool,
        now: Instant,
    ) -> Option<Self> {
        let known = Known::of(head, memory, estate.context.remember, now);
        match identity.carrier {
            Some(Carrier::Trace) | None => {}
            Some(_) => return Some(Self::kept(head, &estate.carriers, (known.by_trace, known.by_request))),
        }
        let was_hidden = identity.carrier.is_some();
        match &known.recall {
            Recall::Said(said) => restore(identity, said),
            Recall::Ambiguous => return forget(identity),
            Recall::Nothing if was_hidden => {}
            Recall::Nothing => {
                return is_busy().then(|| Self { outcome: Outcome::Missing, survivors: none() });
            }
        }
        Some(Self::repaired(known.by_trace || was_hidden, known.by_request))
    }

    fn kept<H: Head>(head: &H, carriers: &Carriers, (by_trace, by_request): (bool, bool)) -> Self {
        let mut survivors = Survivors::default();
        let header = carriers.header.as_deref();
        survivors.add_if(header.is_some_and(|name| head.field(name).is_some()), Survivor::Header);
        for (field, name, one) in [
            ("baggage", &carriers.baggage, Survivor::Baggage),
            ("tracestate", &carriers.tracestate, Survivor::Tracestate),
        ] {
            survivors.add_if(name.as_deref().is_some_and(|name| has_member(head, field, name)), one);
        }
        survivors.add_if(survivors == Survivors::default(), Survivor::Other);
        survivors.add_if(by_trace, Survivor::Trace);
        survivors.add_if(by_request, Survivor::RequestId);
        Self { outcome: Outcome::Kept, survivors }
    }

    fn repaired(by_trace: bool, by_request: bool) -> Self {
        let mut survivors = Survivors::default();
        survivors.add_if(by_trace, Survivor::Trace);
        survivors.add_if(by_request, Survivor::RequestId);
        Self { outcome: Outcome::Repaired, survivors }
    }
}

fn none() -> Survivors {
    let mut none = Survivors::default();
    none.add_if(true, Survivor::None);
    none
}

fn has_member<H: Head>(head: &H, list: &str, wanted: &str) -> bool {
    head.lines(list).flat_map(members).any(|member| member.name == wanted.as_bytes())
}

fn restore(identity: &mut Identity, said: &Said) {
    identity.keys.clone_from(&said.keys);
    identity.strict |= said.strict;
    identity.carrier = Some(Carrier::Trace);
    identity.is_private = true;
}

/// An id that came in with more than one thing says nothing, whatever is hidden in it.
fn forget(identity: &mut Identity) -> Option<Call> {
    identity.forget();
    None
}

/// What the memory has of the ids of a call.
struct Known {
    recall: Recall,
    by_trace: bool,
    by_request: bool,
}

impl Known {
    fn of<H: Head>(head: &H, memory: &Memory, life: Duration, now: Instant) -> Self {
        if memory.is_empty() {
            return Self { recall: Recall::Nothing, by_trace: false, by_request: false };
        }
        let ids = Ids::of(head);
        let recall = memory.recall(&ids, life, now);
        let says = |ids: Ids<'_>| matches!(memory.recall(&ids, life, now), Recall::Said(_));
        Self {
            recall,
            by_request: says(Ids { request: ids.request, ..Ids::default() }),
            by_trace: says(Ids { request: None, ..ids }),
        }
    }
}

/// The counters of one edge. Workers share them: they are of requests with keys.
#[derive(Debug, Default)]
pub struct EdgeStats {
    kept: Counter,
    lost: Counter,
    repaired: Counter,
    survived: [Counter; Survivor::ALL.len()],
    /// In milliseconds of the calendar; 0: never.
    last_lost: AtomicI64,
}

/// What was counted for one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Calls that a carrier of ours went along with.
    pub kept: u64,
    /// Calls without one.
    pub lost: u64,
    /// Requests whose key an id gave back: of those, and of what came in to a workload.
    pub repaired: u64,
    /// How many of all calls each survivor went along with; those that none did are not in it.
    pub survived: BTreeMap<&'static str, u64>,
    /// When a call came without one; none did: null.
    pub last_lost: Option<jiff::Timestamp>,
}

impl EdgeStats {
    /// Counts a call. `now` is asked only where it lost its key.
    pub fn count(&self, call: Call, now: impl FnOnce() -> jiff::Timestamp) {
        let lost = || {
            self.lost.inc();
            self.last_lost.store(now().as_millisecond(), Relaxed);
        };
        match call.outcome {
            Outcome::Kept => self.kept.inc(),
            Outcome::Arrived => self.repaired.inc(),
            Outcome::Repaired => {
                self.repaired.inc();
                lost();
            }
            Outcome::Missing => lost(),
        }
        for (one, counter) in Survivor::ALL.into_iter().zip(&self.survived) {
            if call.survivors.has(one) {
                counter.inc();
            }
        }
    }

    /// What was counted so far.
    pub fn read(&self) -> Edge {
        let survived = Survivor::ALL.into_iter().zip(&self.survived);
        let last_lost = Some(self.last_lost.load(Relaxed)).filter(|millis| *millis != 0);
        Edge {
            kept: self.kept.get(),
            lost: self.lost.get(),
            repaired: self.repaired.get(),
            survived: survived
                .map(|(one, counter)| (one.as_str(), counter.get()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            last_lost: last_lost.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()),
        }
    }
}

#[cfg(test)]
mod tests;
