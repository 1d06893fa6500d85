//! What is counted for one service, and for one preview.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::context::edges::{Call, Edge, EdgeStats};

use super::cell::{Counter, PerWorker};
use super::status::{SLOTS, slot};
use crate::decision::{Reason, Side};

/// Upper bounds of the duration buckets: from less than one hop takes on loopback to where clients give up.
pub(super) const BOUNDS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// A slot for each reason, and one before them for requests that got none.
const REASONS: usize = Reason::ALL.len() + 1;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Which side answered.
    pub side: Side,
    /// Why; `None` where the proxy answered before there was a decision.
    pub reason: Option<Reason>,
    /// HTTP status; 0 where the client went away before there was an answer.
    pub status: u16,
    /// From the first byte of the head to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
}

/// The counters of one service. They live as long as the table that names the service.
#[derive(Debug)]
pub struct ServiceStats {
    name: Box<str>,
    cells: PerWorker<[OnceLock<Box<SideCells>>; Side::ALL.len()]>,
    /// What became of the keys of calls to it; made at the first one, so that a gateway has none.
    edge: OnceLock<Box<EdgeStats>>,
}

/// What one worker counts for one side. Made at the first request, so that a service nobody asks for costs a few
/// pointers; aligned, so that it shares no cache line (nor the neighbour that is fetched with it) with another worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SideCells {
    /// Not cumulative; the last one is for what is over every bound.
    buckets: [Counter; BOUNDS.len() + 1],
    /// Microseconds: nanoseconds would overflow within a year of 600 open streams.
    duration: Counter,
    request_bytes: Counter,
    response_bytes: Counter,
    reasons: [OnceLock<Box<StatusCells>>; REASONS],
}

/// What one worker counts for one side and reason, by status.
#[derive(Debug)]
#[repr(align(128))]
struct StatusCells([Counter; SLOTS]);

impl Default for StatusCells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ServiceStats {
    /// Counters at zero for the service of this name, written by that many workers.
    pub fn new(name: &str, workers: usize) -> Self {
        Self { name: name.into(), cells: PerWorker::new(workers), edge: OnceLock::new() }
    }

    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts what became of the key of a call to it.
    pub fn called(&self, call: Call) {
        self.edge.get_or_init(Box::default).count(call, jiff::Timestamp::now);
    }

    /// What became of the keys of calls to it; `None`: there was none.
    pub fn edge(&self) -> Option<Edge> {
        self.edge.get().map(|edge| edge.read())
    }

    /// Counts a request that `worker` finished. Allocates only at the first of its kind.
    pub fn record(&self, worker: usize, sample: &Sample) {
        if let Some(side) = self.cells.get(worker).get(sample.side.index()) {
            side.get_or_init(Box::default).record(sample);
        }
    }

    /// The sum of all workers for one side; `None` where it has met no request.
    pub(super) fn read(&self, side: Side) -> Option<SideTotals> {
        let mut totals = None;
        for cells in self.cells.iter().filter_map(|sides| sides.get(side.index())?.get()) {
            cells.add_to(totals.get_or_insert_default());
        }
        totals
    }
}

impl SideCells {
    fn record(&self, sample: &Sample) {
        let bucket = BOUNDS.partition_point(|bound| *bound < sample.duration);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.inc();
        }
        self.duration.add(u64::try_from(sample.duration.as_micros()).unwrap_or(u64::MAX));
        // A body is more often absent than not, and an atomic add costs more than a look.
        if sample.request_bytes > 0 {
            self.request_bytes.add(sample.request_bytes);
        }
        if sample.response_bytes > 0 {
            self.response_bytes.add(sample.response_bytes);
        }
        let reason = sample.reason.map_or(0, |reason| reason.index() + 1);
        if let Some(cells) = self.reasons.get(reason) {
            cells.get_or_init(Box::default).record(sample.status);
        }
    }

    fn add_to(&self, totals: &mut SideTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        totals.micros += self.duration.get();
        totals.request_bytes += self.request_bytes.get();
        totals.response_bytes += self.response_bytes.get();
        for (total, cells) in totals.reasons.iter_mut().zip(&self.reasons) {
            let Some(cells) = cells.get() else { continue };
            for (total, cell) in total.iter_mut().zip(&cells.0) {
                *total += cell.get();
            }
        }
    }
}

impl StatusCells {
    fn record(&self, status: u16) {
        if let Some(cell) = self.0.get(slot(status)) {
            cell.inc();
        }
    }
}

/// The numbers of one service and side.
#[derive(Debug)]
pub(super) struct SideTotals {
    /// Not cumulative.
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    /// Sum of the durations, in microseconds.
    pub(super) micros: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    reasons: [[u64; SLOTS]; REASONS],
}

impl Default for SideTotals {
    fn default() -> Self {
        Self {
            buckets: Default::default(),
            micros: 0,
            request_bytes: 0,
            response_bytes: 0,
            reasons: [[0; SLOTS]; REASONS],
        }
    }
}

impl SideTotals {
    /// (reason, status slot, requests) of each kind that was met.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (Option<Reason>, usize, u64)> {
        let reasons = std::iter::once(None).chain(Reason::ALL.into_iter().map(Some));
        reasons.zip(&self.reasons).flat_map(|(reason, counts)| {
            let met = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            met.map(move |(slot, count)| (reason, slot, *count))
        })
    }
}

/// The counters of one preview, shared by all workers: a preview is one person's traffic. Most previews of a large
/// table have none, so they are made when the first request comes.
#[derive(Debug, Default)]
pub struct PreviewStats(OnceLock<Arc<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    requests: [Counter; Side::ALL.len()],
    errors: Counter,
}

impl PreviewStats {
    /// The same counters, for the next version of the preview: requests that still hold this one go on counting.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(OnceLock::from(Arc::clone(self.counts())))
    }

    fn counts(&self) -> &Arc<Counts> {
        self.0.get_or_init(Arc::default)
    }

    /// Counts a request that named this preview, by the side that answered.
    pub fn record(&self, side: Side) {
        if let Some(requests) = self.counts().requests.get(side.index()) {
            requests.inc();
        }
    }

    /// Counts a request that named this preview and that the proxy had to answer by itself.
    pub fn error(&self) {
        self.counts().errors.inc();
    }

    /// How many requests this side answered.
    pub fn requests(&self, side: Side) -> u64 {
        self.0.get().and_then(|counts| counts.requests.get(side.index())).map_or(0, Counter::get)
    }

    /// How many requests the proxy had to answer by itself.
    pub fn errors(&self) -> u64 {
        self.0.get().map_or(0, |counts| counts.errors.get())
    }
}
