//! What a sidecar remembers: the requests that its workload has open, and the receipts of the calls that were made for
//! them. A call is found to belong to a request by its ids. Workers share this, since a call may go out on another one than
//! its request came in on; only requests with a key touch it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::hop::{BOUND, Hop};
use crate::context;
use crate::context::ids::{agree, halves};
use crate::fields::Fields;

/// The most requests that are remembered at once. Beyond it requests are served, and their chains end here.
const OPEN: usize = 16_384;
/// The most of one id.
const OF_ONE_ID: usize = 64;
/// The most calls of one request that are remembered.
const CALLS: usize = 128;

/// By what a call is found to belong to a request.
#[derive(Clone, Debug)]
pub struct Id {
    name: Name,
    /// The high half of a trace id; zero where only the low one came.
    high: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    /// The low half of a trace id, which is all that some tracers hand on.
    Trace(u64),
    /// `X-Request-Id`.
    Request(Box<[u8]>),
}

/// The ids of one request, the surest one first.
pub type Ids = SmallVec<[Id; 2]>;

/// The ids in the fields of a request.
pub fn ids(fields: &Fields) -> Ids {
    let found = context::ids::Ids::among(fields.iter());
    let traces = found.traces.iter().map(|id| {
        let (high, low) = halves(*id);
        Id { name: Name::Trace(low), high }
    });
    let request = found.request.map(|id| Id { name: Name::Request(id.into()), high: 0 });
    traces.chain(request).collect()
}

/// A request that the workload has open.
#[derive(Debug)]
pub struct Inbound {
    /// The id of its hop.
    pub hop: u64,
    /// The id of the span that the workload was given as the caller's.
    pub parent: u64,
    /// Where hops of its trace report to.
    pub reports: Option<SocketAddr>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    /// One for each call; `None`: it has no answer yet.
    of: Vec<Option<Vec<Hop>>>,
    /// Bytes of all entries.
    bytes: usize,
    is_cut: bool,
}

impl Inbound {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Whoever held it has left it whole: nothing in there can fail half-way.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the calls brought so far, in the order in which they were made.
    pub fn receipts(&self) -> Vec<Hop> {
        let calls = self.calls();
        let is_cut = calls.is_cut || calls.of.iter().any(Option::is_none);
        let mut all: Vec<Hop> = calls.of.iter().flatten().flatten().cloned().collect();
        all.extend(is_cut.then(|| Hop::cut(0)));
        all
    }
}

/// A call on its way. Its place is kept, so that what is missing is seen to be.
#[derive(Debug)]
pub struct Call {
    /// The request that it belongs to.
    pub inbound: Arc<Inbound>,
    place: Option<usize>,
}

impl Call {
    fn begin(inbound: Arc<Inbound>) -> Self {
        let mut calls = inbound.calls();
        let place = (calls.of.len() < CALLS).then_some(calls.of.len());
        match place {
            Some(_) => calls.of.push(None),
            None => calls.is_cut = true,
        }
        drop(calls);
        Self { inbound, place }
    }

    /// Its answer is there, and this is what is known of it. What is said later takes the place of what was said before.
    pub fn answered(&self, hops: &[Hop]) {
        let mut calls = self.inbound.calls();
        let calls = &mut *calls;
        let Some(place) = self.place.and_then(|place| calls.of.get_mut(place)) else { return };
        let bytes = |hops: &[Hop]| hops.iter().map(|hop| hop.text.len()).sum::<usize>();
        calls.bytes -= place.as_deref().map_or(0, bytes);
        let mut kept = Vec::new();
        for hop in hops {
            if calls.bytes + hop.text.len() > BOUND {
                calls.is_cut = true;
                break;
            }
            calls.bytes += hop.text.len();
            kept.push(hop.clone());
        }
        *place = Some(kept);
    }
}

/// The requests that are open.
#[derive(Debug, Default)]
pub struct Opened {
    by_id: DashMap<Name, SmallVec<[OfName; 1]>, RandomState>,
    count: AtomicUsize,
}

/// A request under one of its names.
#[derive(Debug)]
struct OfName {
    /// The high half of the trace id: of two traces the low ones may be the same.
    high: u64,
    inbound: Arc<Inbound>,
}

/// A request that is remembered for as long as this lives.
#[derive(Debug)]
pub struct Open {
    opened: Arc<Opened>,
    ids: Ids,
    /// The request.
    pub inbound: Arc<Inbound>,
}

impl Drop for Open {
    fn drop(&mut self) {
        for id in &self.ids {
            self.opened.by_id.remove_if_mut(&id.name, |_, all| {
                all.retain(|other| !Arc::ptr_eq(&other.inbound, &self.inbound));
                all.is_empty()
            });
        }
        self.opened.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opened {
    /// A request with these ids is open. Where there is no room for it, it is not found, and its receipt says that something
    /// is missing.
    pub fn open(self: &Arc<Self>, mut ids: Ids, hop: u64, parent: u64, reports: Option<SocketAddr>) -> Open {
        let inbound = Arc::new(Inbound { hop, parent, reports, calls: Mutex::default() });
        let mut is_full = self.count.fetch_add(1, Ordering::Relaxed) >= OPEN;
        if is_full {
            ids.clear();
        }
        ids.retain(|id| {
            let mut all = self.by_id.entry(id.name.clone()).or_default();
            let has_room = all.len() < OF_ONE_ID;
            if has_room {
                all.push(OfName { high: id.high, inbound: Arc::clone(&inbound) });
            }
            is_full |= !has_room;
            has_room
        });
        inbound.calls().is_cut = is_full;
        Open { opened: Arc::clone(self), ids, inbound }
    }

    /// A call with these ids goes out, from a hop (if it says so) and with this span as its caller's: it belongs to the
    /// request that it says it comes from; else to the one whose span the workload has handed on; else to the oldest.
    pub fn call(&self, ids: &Ids, hop: u64, parent: u64) -> Option<Call> {
        ids.iter().find_map(|id| {
            let all = self.by_id.get(&id.name)?;
            let mut all = all.iter().filter(|one| agree(one.high, id.high)).map(|one| &one.inbound);
            let said = all.clone().find(|one| hop != 0 && one.hop == hop);
            let said = said.or_else(|| all.clone().find(|one| one.parent == parent)).or_else(|| all.next());
            said.cloned().map(Call::begin)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: Name, high: u64) -> Id {
        Id { name, high }
    }

    fn ids(trace: u64, request: &str) -> Ids {
        let request = (!request.is_empty()).then(|| id(Name::Request(request.as_bytes().into()), 0));
        [Some(id(Name::Trace(trace), 0)), request].into_iter().flatten().collect()
    }

    fn hops(texts: &[&str]) -> Vec<Hop> {
        texts.iter().map(|text| Hop::new(*text, 0, None)).collect()
    }

    fn said(inbound: &Inbound) -> Vec<String> {
        inbound.receipts().iter().map(|hop| hop.text.to_string()).collect()
    }

    #[test]
    fn calls_are_told_in_their_order_and_once() {
        let opened = Arc::new(Opened::default());
        let open = opened.open(ids(1, "r"), 5, 6, None);
        let first = opened.call(&ids(1, ""), 0, 0).unwrap();
        let second = opened.call(&ids(9, "r"), 0, 0).unwrap();
        second.answered(&hops(&["b@1"]));
        assert_eq!(said(&open.inbound), ["b@1", "..."], "the first one has no answer yet");
        first.answered(&hops(&["a@1", "x@1"]));
        second.answered(&hops(&["b@1", "late@1"]));
        assert_eq!(said(&open.inbound), ["a@1", "x@1", "b@1", "late@1"]);
        drop(open);
        assert!(opened.call(&ids(1, "r"), 0, 0).is_none());
        assert!(opened.by_id.is_empty());
    }

    #[test]
    fn of_several_requests_of_a_trace_one_gets_the_call() {
        let opened = Arc::new(Opened::default());
        let old = opened.open(ids(1, ""), 10, 100, None);
        let new = opened.open(ids(1, ""), 20, 200, None);
        for (hop, parent, whose) in [(20, 100, 20), (0, 200, 20), (0, 100, 10), (0, 300, 10), (30, 200, 20)] {
            assert_eq!(opened.call(&ids(1, ""), hop, parent).unwrap().inbound.hop, whose, "{hop} {parent}");
        }
        drop(old);
        assert_eq!(opened.call(&ids(1, ""), 0, 300).unwrap().inbound.hop, 20);
        drop(new);
    }

    #[test]
    fn traces_with_one_low_half_are_told_apart_where_the_other_half_came() {
        let opened = Arc::new(Opened::default());
        let whole = |high| Ids::from_elem(id(Name::Trace(1), high), 1);
        let old = opened.open(whole(7), 10, 100, None);
        let new = opened.open(whole(8), 20, 200, None);
        for (high, whose) in [(7, Some(10)), (8, Some(20)), (0, Some(10)), (9, None)] {
            assert_eq!(opened.call(&whole(high), 0, 0).map(|call| call.inbound.hop), whose, "{high}");
        }
        drop(old);
        assert!(opened.call(&whole(7), 0, 0).is_none());
        drop(new);
        assert!(opened.by_id.is_empty());
    }

    #[test]
    fn everything_is_bounded_and_what_is_missing_is_marked() {
        let opened = Arc::new(Opened::default());
        let open: Vec<Open> = (0..=OF_ONE_ID).map(|_| opened.open(ids(1, ""), 1, 1, None)).collect();
        assert_eq!(said(&open[0].inbound), [""; 0]);
        assert_eq!(said(&open[OF_ONE_ID].inbound), ["..."]);
        drop(open);
        let open = opened.open(ids(1, ""), 1, 1, None);
        let calls: Vec<Call> = (0..=CALLS).filter_map(|_| opened.call(&ids(1, ""), 0, 0)).collect();
        calls.iter().for_each(|call| call.answered(&hops(&[&"x".repeat(100)])));
        let said = said(&open.inbound);
        assert_eq!((said.len(), said.last().unwrap().as_str()), (BOUND / 100 + 1, "..."));
        let many: Vec<Open> =
            (2..OPEN as u64 + 2).map(|trace| opened.open(ids(trace, ""), 1, 1, None)).collect();
        assert!(opened.call(&ids(OPEN as u64 + 1, ""), 0, 0).is_none());
        drop(many);
        assert!(opened.call(&ids(1, ""), 0, 0).is_some());
    }
}
