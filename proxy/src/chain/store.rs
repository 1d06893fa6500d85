//! What the gateway keeps of the traces whose hops report to it: while its own requests of them are under way, for seconds
//! after, and within bounds of requests, reports and bytes, which go first. Nothing is kept for a trace that no request of this gateway belongs to.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::hop::Hop;
use super::report::Report;
use super::tree::{Root, tree};

/// How long a trace is kept after its last request has ended.
const KEPT: Duration = Duration::from_secs(30);
/// Workers that look at different traces do not wait for each other.
const SHARDS: usize = 16;
/// The most traces of a shard.
const TRACES: usize = 1024;
/// The most bytes of a shard.
const BYTES: usize = 1 << 20;
/// The most requests, and the most reports, of one trace.
const OF_ONE_TRACE: usize = 128;
/// What a trace and a report take beside the text.
const OVERHEAD: usize = 256;

/// The traces.
#[derive(Debug)]
pub struct Store {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    traces: HashMap<u128, Trace, RandomState>,
    /// The oldest first; a trace with later requests is there more than once, and the last time counts.
    order: VecDeque<(Instant, u128)>,
    bytes: usize,
}

#[derive(Debug)]
struct Trace {
    /// The last time that it is in the order.
    since: Instant,
    /// The hops of this gateway, the oldest first.
    own: Vec<u64>,
    /// Those of them whose requests are under way.
    under_way: Vec<u64>,
    /// Those of them whose answers are there.
    roots: Vec<Root>,
    reports: Vec<Report>,
    is_cut: bool,
    bytes: usize,
}

/// One request of a trace, put together.
#[derive(Debug)]
pub struct Told {
    /// The chain, the gateway's own hop first.
    pub hops: Vec<Hop>,
    /// What hops have said of themselves, by no order.
    pub reports: Vec<Report>,
}

impl Default for Store {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Store {
    fn shard(&self, trace: u128) -> Option<MutexGuard<'_, Shard>> {
        // Callers choose their trace ids, but not so that they would fill one shard: its bounds hold for each.
        let at = usize::try_from((trace ^ (trace >> 64)) % SHARDS as u128).ok()?;
        // Whoever held it has left it whole: nothing in there can fail half-way.
        Some(self.shards.get(at)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request of this trace goes out, with this hop of ours. Every one that begins ends.
    pub fn began(&self, trace: u128, hop: u64, now: Instant) {
        let Some(mut shard) = self.shard(trace) else { return };
        let shard = &mut *shard;
        shard.forget(now);
        let entry = shard.traces.entry(trace).or_insert_with(|| {
            shard.order.push_back((now, trace));
            shard.bytes += OVERHEAD;
            Trace::new(now)
        });
        if entry.own.len() < OF_ONE_TRACE {
            entry.own.push(hop);
            entry.under_way.push(hop);
        } else {
            entry.is_cut = true;
        }
        shard.touch(trace, now);
    }

    /// It has ended, whether it was answered or not.
    pub fn ended(&self, trace: u128, hop: u64, now: Instant) {
        let Some(mut shard) = self.shard(trace) else { return };
        if let Some(entry) = shard.traces.get_mut(&trace) {
            entry.under_way.retain(|other| *other != hop);
            shard.touch(trace, now);
        }
    }

    /// Whether reports of this trace are waited for.
    pub fn is_open(&self, trace: u128) -> bool {
        self.shard(trace).is_some_and(|shard| shard.traces.contains_key(&trace))
    }

    /// A hop has reported; `false`: there is no room for it, or nobody waits for it.
    pub fn reported(&self, report: Report) -> bool {
        let Some(mut shard) = self.shard(report.trace) else { return false };
        let shard = &mut *shard;
        let Some(trace) = shard.traces.get_mut(&report.trace) else { return false };
        if trace.reports.iter().any(|other| other.hop == report.hop) {
            return true;
        }
        let bytes = OVERHEAD + report.text.len();
        if trace.reports.len() >= OF_ONE_TRACE || shard.bytes + bytes > BYTES {
            trace.is_cut = true;
            return false;
        }
        shard.bytes += bytes;
        trace.bytes += bytes;
        trace.reports.push(report);
        true
    }

    /// The answer to a request is there: its chain, as far as it is known. Said again, it takes the place of what was said
    /// before.
    pub fn answered(&self, root: Root) -> Vec<Hop> {
        let cut = |mut hops: Vec<Hop>| {
            hops.push(Hop::cut(1));
            hops
        };
        let Some(mut shard) = self.shard(root.own.trace) else { return cut(root.answered) };
        let shard = &mut *shard;
        // What was reported of it may be forgotten, where there was no room.
        let Some(trace) = shard.traces.get_mut(&root.own.trace) else { return cut(root.answered) };
        let told = trace.told(&root);
        let before = trace.roots.iter().position(|other| other.own.hop == root.own.hop);
        if let Some(before) = before.map(|at| bytes_of(&trace.roots.swap_remove(at))) {
            shard.bytes -= before;
            trace.bytes -= before;
        }
        let bytes = bytes_of(&root);
        if trace.roots.len() < OF_ONE_TRACE && shard.bytes + bytes <= BYTES {
            shard.bytes += bytes;
            trace.bytes += bytes;
            trace.roots.push(root);
        } else {
            trace.is_cut = true;
        }
        told
    }

    /// What is known of a trace by now: each answered request of it. `None`: nothing.
    pub fn of(&self, trace: u128) -> Option<Vec<Told>> {
        let shard = self.shard(trace)?;
        let trace = shard.traces.get(&trace)?;
        let told = |root: &Root| Told {
            hops: trace.told(root),
            reports: trace.reports.iter().chain([&root.own]).cloned().collect(),
        };
        Some(trace.roots.iter().map(told).collect())
    }

    /// Lets go of what is too old.
    pub fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).forget(now);
        }
    }
}

/// What is kept of a request.
fn bytes_of(root: &Root) -> usize {
    OVERHEAD + root.answered.iter().map(|hop| hop.text.len() + OVERHEAD / 4).sum::<usize>()
}

impl Trace {
    const fn new(since: Instant) -> Self {
        Self {
            since,
            own: Vec::new(),
            under_way: Vec::new(),
            roots: Vec::new(),
            reports: Vec::new(),
            is_cut: false,
            bytes: OVERHEAD,
        }
    }

    fn told(&self, root: &Root) -> Vec<Hop> {
        let others: Vec<u64> = self.own.iter().copied().filter(|hop| *hop != root.own.hop).collect();
        // What nobody knows whose it is may be of a request that goes on; if none does, it is the oldest one's.
        let is_answered = |hop: &u64| self.roots.iter().any(|root| root.own.hop == *hop);
        let takes_strays = self.own.first() == Some(&root.own.hop) && others.iter().all(is_answered);
        let mut hops = tree(root, &others, &self.reports, takes_strays);
        // The trace may have been forgotten since this request began, and begun anew.
        let is_cut = self.is_cut || !self.own.contains(&root.own.hop);
        hops.extend(is_cut.then(|| Hop::cut(1)));
        hops
    }
}

impl Shard {
    /// Something became of this trace. It is in the order anew only where that makes a difference.
    fn touch(&mut self, trace: u128, now: Instant) {
        if let Some(entry) =
            self.traces.get_mut(&trace).filter(|entry| now.duration_since(entry.since) > KEPT / 8)
        {
            entry.since = now;
            self.order.push_back((now, trace));
        }
    }

    /// Lets go of what is too old, and of the oldest where there is too much.
    fn forget(&mut self, now: Instant) {
        while let Some((since, trace)) = self.order.front().copied() {
            let is_full = self.traces.len() >= TRACES || self.bytes > BYTES / 2;
            if !is_full && now.duration_since(since) < KEPT {
                return;
            }
            self.order.pop_front();
            let Entry::Occupied(entry) = self.traces.entry(trace) else { continue };
            match entry.get().since == since {
                true if is_full || entry.get().under_way.is_empty() => self.bytes -= entry.remove().bytes,
                true => self.touch(trace, now),
                false => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(trace: u128, hop: u64, behind: u64) -> Report {
        let text = format!("s{hop}@42").into();
        Report { trace, hop, behind, same: 0, start: hop, micros: 1, endpoint: None, text }
    }

    fn root(trace: u128, hop: u64) -> Root {
        Root { own: report(trace, hop, 0), answered: vec![Hop::new(format!("s{hop}@42"), hop, None)] }
    }

    fn said(hops: &[Hop]) -> String {
        hops.iter().map(|hop| &*hop.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn reports_are_kept_for_requests_that_went_out_here() {
        let (store, now) = (Store::default(), Instant::now());
        assert!(!store.is_open(7) && !store.reported(report(7, 2, 1)));
        store.began(7, 1, now);
        assert!(store.is_open(7) && store.reported(report(7, 2, 1)) && store.reported(report(7, 2, 1)));
        assert_eq!(said(&store.answered(root(7, 1))), "s1@42 s2@42");
        assert!(store.reported(report(7, 3, 2)), "late ones are kept");
        let told = store.of(7).unwrap();
        assert_eq!((told.len(), said(&told[0].hops).as_str()), (1, "s1@42 s2@42 s3@42"));
        store.ended(7, 1, now);
        store.sweep(now + KEPT);
        assert!(store.of(7).is_none());
    }

    #[test]
    fn an_answer_is_waited_for_and_what_is_forgotten_meanwhile_is_marked() {
        let (store, now) = (Store::default(), Instant::now());
        store.began(7, 1, now);
        assert!(store.reported(report(7, 2, 1)));
        let late = (1..10).map(|times| now + times * KEPT).inspect(|now| store.sweep(*now)).last().unwrap();
        assert_eq!(said(&store.answered(root(7, 1))), "s1@42 s2@42");
        store.ended(7, 1, late);
        store.sweep(late + KEPT / 2);
        assert!(store.of(7).is_some(), "who asks for it has time to");
        store.sweep(late + KEPT);
        assert!(store.of(7).is_none());
        // For want of room it goes all the same, and may come again with another request.
        store.began(7, 1, late);
        for trace in 8..20_000 {
            store.began(trace, 1, late);
        }
        assert!(!store.is_open(7));
        assert_eq!(said(&store.answered(root(7, 1))), "s1@42 ...");
        store.began(7, 3, late);
        store.ended(7, 1, late);
        assert_eq!(said(&store.answered(root(7, 1))), "s1@42 ...");
        assert_eq!(said(&store.answered(root(7, 3))), "s3@42");
    }

    #[test]
    fn what_stands_behind_nobody_is_the_oldest_requests_once_no_other_goes_on() {
        let (store, now) = (Store::default(), Instant::now());
        store.began(7, 1, now);
        store.began(7, 2, now);
        store.reported(report(7, 9, 8));
        assert_eq!(said(&store.answered(root(7, 1))), "s1@42");
        assert_eq!(said(&store.answered(root(7, 2))), "s2@42");
        assert_eq!(said(&store.of(7).unwrap()[0].hops), "s1@42 s9@42");
    }

    #[test]
    fn a_trace_that_goes_on_is_kept() {
        let (store, now) = (Store::default(), Instant::now());
        store.began(7, 1, now);
        store.ended(7, 1, now);
        store.began(7, 2, now + KEPT / 2);
        store.ended(7, 2, now + KEPT / 2);
        store.sweep(now + KEPT);
        assert!(store.is_open(7));
        store.sweep(now + KEPT + KEPT / 2);
        assert!(!store.is_open(7));
        for shard in &store.shards {
            let shard = shard.lock().unwrap();
            assert_eq!((shard.order.len(), shard.bytes, shard.traces.len()), (0, 0, 0));
        }
    }

    #[test]
    fn floods_are_bounded_and_what_is_left_out_is_marked() {
        let (store, now) = (Store::default(), Instant::now());
        for trace in 0..40_000 {
            store.began(trace, 1, now);
        }
        let kept = (0..40_000).filter(|trace| store.is_open(*trace)).count();
        assert_eq!(kept, TRACES * SHARDS);
        assert!(store.is_open(39_999) && !store.is_open(0), "the oldest go");
        let many = (2..1000).filter(|hop| store.reported(report(39_999, *hop, 1))).count();
        assert_eq!(many, OF_ONE_TRACE);
        assert!(said(&store.answered(root(39_999, 1))).ends_with(" ..."));
        for trace in 38_000..39_999 {
            // Whether there is room for them is what is asked below.
            for hop in 2..100 {
                let _ = store.reported(report(trace, hop, 1));
            }
        }
        for shard in &store.shards {
            let shard = shard.lock().unwrap();
            let real: usize = shard.traces.values().map(|trace| trace.bytes).sum();
            assert!(shard.bytes <= BYTES && shard.bytes == real, "{} {real}", shard.bytes);
        }
    }
}
