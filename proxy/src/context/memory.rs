//! Which ids came in with which keys: what a sidecar remembers for a while, so that a call of its application that hands on
//! an id alone gets its keys back. Shared by the workers, since a request comes in on one and its calls go out on another.
//! A sidecar without keyed requests writes nothing here but the stamps of `Unkeyed`.
//!
//! A call must never get a key by accident. So an id that came in with two lists of keys, or with and without one, says
//! nothing until it is forgotten; and it is forgotten soon. The low halves of two traces of one key may well be the same: in
//! those that we make (see [`hidden`](super::hidden)) 14 bits are random. They say that key.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::Context;
use super::ids::{Ids, agree, halves};
use crate::decision::Keys;
use crate::record::metrics::Counter;

/// Places where workers can meet; a sidecar has few workers.
const SHARDS: usize = 16;

/// What came in with an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The keys.
    pub keys: Keys,
    /// Whether a baseline answer for a preview that is not there, or down, is an error in any case.
    pub strict: bool,
}

/// What is known of the ids of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// None of them came in with a key.
    Nothing,
    /// This came in with one of them.
    Said(Arc<Said>),
    /// They came in with more than one thing.
    Ambiguous,
}

/// The ids of a request that is under way: they are not forgotten before it is over, however long that takes.
#[derive(Debug, Default)]
#[must_use = "the ids may be forgotten as soon as it is dropped"]
pub struct Hold(SmallVec<[Arc<()>; 2]>);

/// One id.
#[derive(Debug)]
struct Entry {
    /// The high half of a trace id; zero where it may be any: only the low one came, or more than one with it. So of an id
    /// of a request.
    high: u64,
    /// `None`: more than one thing.
    said: Option<Arc<Said>>,
    until: Instant,
    /// Shared with each [`Hold`] of it.
    held: Arc<()>,
}

impl Entry {
    fn lives(&self, now: Instant) -> bool {
        self.until > now || Arc::strong_count(&self.held) > 1
    }
}

/// The ids of the last seconds.
#[derive(Debug)]
pub struct Memory {
    /// By the low half, which every tracer hands on.
    traces: DashMap<u64, Entry, RandomState>,
    requests: DashMap<Box<[u8]>, Entry, RandomState>,
    unkeyed: Unkeyed,
    entries: AtomicUsize,
    /// Ids that turned out to say more than one thing.
    pub ambiguous: Counter,
    /// Ids that were not remembered, since there were too many.
    pub full: Counter,
}

impl Memory {
    /// An empty memory; `now` is when it begins.
    pub fn new(now: Instant) -> Self {
        Self {
            traces: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
            requests: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
            unkeyed: Unkeyed::new(now),
            entries: AtomicUsize::new(0),
            ambiguous: Counter::default(),
            full: Counter::default(),
        }
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// Whether nothing is remembered, so that no id needs to be looked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A request with these ids came in with what `said` holds.
    pub fn came_in(&self, ids: &Ids<'_>, said: Said, context: &Context, now: Instant) -> Hold {
        let mut hold = Hold::default();
        if context.remember.is_zero() {
            return hold;
        }
        let said = Arc::new(said);
        for id in &ids.traces {
            let (high, low) = halves(*id);
            let was_unkeyed = || self.unkeyed.has(low, context.remember, now);
            hold.0.extend(self.put(self.traces.entry(low), high, was_unkeyed, &said, context, now));
        }
        if let Some(id) = ids.request {
            let was_unkeyed = || self.unkeyed.has(id, context.remember, now);
            hold.0.extend(self.put(self.requests.entry(id.into()), 0, was_unkeyed, &said, context, now));
        }
        hold
    }

    /// Puts one id in its place, which is locked meanwhile.
    fn put<K: Eq + std::hash::Hash>(
        &self,
        place: Place<'_, K, Entry>,
        high: u64,
        was_unkeyed: impl Fn() -> bool,
        said: &Arc<Said>,
        context: &Context,
        now: Instant,
    ) -> Option<Arc<()>> {
        let until = now + context.remember;
        let fresh = || {
            let said = (!was_unkeyed()).then(|| Arc::clone(said));
            if said.is_none() {
                self.ambiguous.inc();
            }
            Entry { high, said, until, held: Arc::default() }
        };
        let held = match place {
            Place::Vacant(_) if self.len() >= context.entries => {
                self.full.inc();
                return None;
            }
            Place::Vacant(place) => {
                self.entries.fetch_add(1, Relaxed);
                // First the count, then the stamp: see `came_in_unkeyed`.
                fence(SeqCst);
                Arc::clone(&place.insert(fresh()).held)
            }
            Place::Occupied(mut place) if !place.get().lives(now) => {
                place.insert(fresh());
                Arc::clone(&place.get().held)
            }
            Place::Occupied(mut place) => {
                let entry = place.get_mut();
                entry.until = until;
                entry.hear(high, said, &self.ambiguous);
                Arc::clone(&entry.held)
            }
        };
        Some(held)
    }

    /// A request with these ids came in without a key.
    pub fn came_in_unkeyed(&self, ids: &Ids<'_>, context: &Context, now: Instant) -> Hold {
        let mut hold = Hold::default();
        if context.remember.is_zero() || ids.is_empty() {
            return hold;
        }
        let lows = || ids.traces.iter().map(|id| halves(*id));
        lows().for_each(|(_, low)| self.unkeyed.add(low, now));
        ids.request.into_iter().for_each(|id| self.unkeyed.add(id, now));
        // First the stamp, then the count: of two requests that come at once, the one with a key sees the stamp, or this
        // one sees its entry.
        fence(SeqCst);
        if self.is_empty() {
            return hold;
        }
        let until = now + context.remember;
        for (high, low) in lows() {
            if let Some(mut entry) = self.traces.get_mut(&low).filter(|entry| agree(entry.high, high)) {
                hold.0.extend(entry.doubt(until, now, &self.ambiguous));
            }
        }
        if let Some(mut entry) = ids.request.and_then(|id| self.requests.get_mut(id)) {
            hold.0.extend(entry.doubt(until, now, &self.ambiguous));
        }
        hold
    }

    /// What came in with the ids of a call, `life` ago at most. One that came in with a key says nothing beside one that came
    /// in without: the call is of two requests, as where an application keeps an id of the one before.
    pub fn recall(&self, ids: &Ids<'_>, life: Duration, now: Instant) -> Recall {
        if self.is_empty() {
            return Recall::Nothing;
        }
        let traces = ids.traces.iter().map(|id| {
            let (high, low) = halves(*id);
            let entry = self.traces.get(&low).filter(|entry| entry.lives(now) && agree(entry.high, high));
            Heard::of(entry.as_deref(), || self.unkeyed.has(low, life, now))
        });
        let request = ids.request.map(|id| {
            let entry = self.requests.get(id).filter(|entry| entry.lives(now));
            Heard::of(entry.as_deref(), || self.unkeyed.has(id, life, now))
        });
        let (mut recalled, mut is_of_unkeyed) = (Recall::Nothing, false);
        for heard in traces.chain(request) {
            recalled = match (recalled, heard) {
                (recalled, Heard::Nothing) => recalled,
                (recalled, Heard::Unkeyed) => {
                    is_of_unkeyed = true;
                    recalled
                }
                (Recall::Said(before), Heard::Said(said)) if before.keys != said.keys => {
                    return Recall::Ambiguous;
                }
                (Recall::Said(before), _) => Recall::Said(before),
                // An id that says more than one thing does not silence one that says one.
                (_, Heard::Said(said)) => Recall::Said(said),
                (_, Heard::Ambiguous) => Recall::Ambiguous,
            };
        }
        match recalled {
            Recall::Said(_) if is_of_unkeyed => Recall::Ambiguous,
            recalled => recalled,
        }
    }

    /// Forgets what is over, at `now`; what is under way is remembered for `life` longer. To be asked once a second or so.
    pub fn sweep(&self, life: Duration, now: Instant) {
        if self.is_empty() {
            return;
        }
        let mut left = 0;
        let mut keep = |entry: &mut Entry| {
            if Arc::strong_count(&entry.held) > 1 {
                entry.until = entry.until.max(now + life);
            }
            let stays = entry.until > now;
            left += usize::from(!stays);
            stays
        };
        self.traces.retain(|_, entry| keep(entry));
        self.requests.retain(|_, entry| keep(entry));
        self.entries.fetch_sub(left, Relaxed);
        if self.is_empty() {
            self.traces.shrink_to_fit();
            self.requests.shrink_to_fit();
        }
    }
}

/// What is known of one id.
enum Heard {
    Nothing,
    /// It came in without a key, and only so.
    Unkeyed,
    Said(Arc<Said>),
    Ambiguous,
}

impl Heard {
    fn of(entry: Option<&Entry>, is_unkeyed: impl FnOnce() -> bool) -> Self {
        match entry.map(|entry| &entry.said) {
            Some(Some(said)) => Self::Said(Arc::clone(said)),
            Some(None) => Self::Ambiguous,
            None if is_unkeyed() => Self::Unkeyed,
            None => Self::Nothing,
        }
    }
}

impl Entry {
    /// The id came once more, with this.
    fn hear(&mut self, high: u64, said: &Arc<Said>, ambiguous: &Counter) {
        if !agree(self.high, high) {
            self.high = 0;
        }
        let Some(before) = &self.said else { return };
        if before.keys != said.keys {
            self.said = None;
            ambiguous.inc();
        } else if said.strict && !before.strict {
            self.said = Some(Arc::clone(said));
        }
    }

    /// The id came once more, without a key.
    fn doubt(&mut self, until: Instant, now: Instant, ambiguous: &Counter) -> Option<Arc<()>> {
        if !self.lives(now) {
            return None;
        }
        self.until = until;
        ambiguous.add(self.said.take().is_some().into());
        Some(Arc::clone(&self.held))
    }
}

/// Ids that came in without a key, so that one that comes with a key afterwards is known for what it is: a client that
/// gives all its requests one id. A stamp for each, in a place that it shares with others, so that it is cheap and bounded:
/// an old one may be lost, which is why one that comes again and again is stamped again and again.
#[derive(Debug)]
struct Unkeyed {
    stamps: Box<[AtomicU64]>,
    begun: Instant,
    hasher: RandomState,
}

/// 128 KiB, of which a quiet sidecar touches little.
const STAMPS: usize = 1 << 14;

impl Unkeyed {
    fn new(now: Instant) -> Self {
        let stamps = std::iter::repeat_with(AtomicU64::default).take(STAMPS).collect();
        Self { stamps, begun: now, hasher: RandomState::default() }
    }

    /// The place of an id, and what stands there of it at this second: half of its hash, and the time.
    fn stamp(&self, id: impl std::hash::Hash, now: Instant) -> (Option<&AtomicU64>, u64, u64) {
        let hash = self.hasher.hash_one(id);
        let place = usize::try_from(hash).unwrap_or(0) % STAMPS;
        // Never zero, which an empty place has.
        let second = now.saturating_duration_since(self.begun).as_secs() + 1;
        (self.stamps.get(place), hash >> 32, second & 0xffff_ffff)
    }

    fn add(&self, id: impl std::hash::Hash, now: Instant) {
        let (place, name, second) = self.stamp(id, now);
        let stamp = name << 32 | second;
        // Most often a busy id has its stamp of this second, and then nothing is written.
        if let Some(place) = place.filter(|place| place.load(Relaxed) != stamp) {
            place.store(stamp, Relaxed);
        }
    }

    fn has(&self, id: impl std::hash::Hash, life: Duration, now: Instant) -> bool {
        let (place, name, second) = self.stamp(id, now);
        let stamp = place.map_or(0, |place| place.load(Relaxed));
        let then = stamp & 0xffff_ffff;
        then != 0 && stamp >> 32 == name && second.saturating_sub(then) <= life.as_secs()
    }
}

#[cfg(test)]
mod tests;
