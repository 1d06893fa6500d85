//! Counters, and the page that a scrape reads.
//!
//! Workers write, one control thread reads. What a request adds to belongs to its worker alone, on cache lines of its
//! own, so that counting is never a place where cores meet; a scrape adds the workers up. Who belongs to a service or
//! a preview is counted on [`ServiceStats`] and [`PreviewStats`], which the table owns: they are found without a
//! lookup, and vanish with what they count.

mod cell;
mod page;
mod service;
mod status;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use self::cell::PerWorker;
pub use self::cell::{Counter, Gauge, Held};
pub use self::service::{PreviewStats, Sample, ServiceStats};
pub use self::status::{CLIENT_CLOSED, shown};
use super::standing::Moved;
use crate::context::memory::Memory;
use crate::error::Code;
use crate::limit::Limit;

/// Everything that is counted and belongs to no service and no preview.
#[derive(Debug)]
pub struct Metrics {
    workers: PerWorker<Arc<WorkerStats>>,
    unrouted: ServiceStats,
    process: Process,
    /// Lines of the access log that were not written.
    pub log_dropped: Counter,
    /// Receipts of hops inside that were taken.
    pub receipts_taken: Counter,
    /// Datagrams that were none, or for which there was no room.
    pub receipts_refused: Counter,
}

impl Metrics {
    /// Counters at zero for that many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: PerWorker::new(workers),
            unrouted: ServiceStats::new("", workers),
            process: Process::default(),
            log_dropped: Counter::default(),
            receipts_taken: Counter::default(),
            receipts_refused: Counter::default(),
        })
    }

    /// The counters of the worker with this index, counted from 0; a thread that is no worker may use any index past
    /// the last. Cloning the `Arc` touches memory of that worker only, cloning the one of [`Metrics`] does not.
    pub fn worker(&self, index: usize) -> &Arc<WorkerStats> {
        self.workers.get(index)
    }

    /// Requests under way, of all workers.
    pub fn in_flight(&self) -> i64 {
        self.workers.iter().map(|worker| worker.requests_in_flight.get()).sum()
    }

    /// Whether every request that a sidecar's workload has to answer just now has a key, and there is one.
    pub fn is_inbound_keyed(&self) -> bool {
        let sum = |gauge: fn(&WorkerStats) -> &Gauge| -> i64 {
            self.workers.iter().map(|worker| gauge(worker).get()).sum()
        };
        sum(|worker| &worker.inbound_unkeyed) == 0 && sum(|worker| &worker.inbound_keyed) > 0
    }

    /// Where requests are counted that met no service: `service=""`.
    pub const fn unrouted(&self) -> &ServiceStats {
        &self.unrouted
    }

    /// Says which table is in force.
    pub fn set_table(&self, table: TableSize) {
        *self.process.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Says how it stands with the controller that is followed.
    pub fn set_contact(&self, contact: Contact) {
        *self.process.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(contact);
    }

    /// How it stands with the controller; `None`: none is followed.
    pub fn contact(&self) -> Option<Contact> {
        *self.process.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a reload and remembers how it went. Before the first one, the last is taken as good: nothing runs
    /// without a table.
    pub fn reloaded(&self, ok: bool) {
        let reloads = if ok { &self.process.reloads_ok } else { &self.process.reloads_failed };
        reloads.inc();
        self.process.last_failed.store(!ok, Relaxed);
    }

    /// The page, in the text format of Prometheus ([`CONTENT_TYPE`]). A service or preview that is given twice makes
    /// the page invalid.
    pub fn encode<'a>(
        &'a self,
        services: impl Iterator<Item = &'a ServiceStats>,
        previews: impl Iterator<Item = (&'a str, &'a PreviewStats)>,
        inside: Inside<'a>,
    ) -> String {
        page::encode(self, services, previews, inside)
    }
}

/// What a proxy inside the estate has beside that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inside<'a> {
    /// The caller of every call that was counted; empty at a gateway, which counts none.
    pub caller: &'a str,
    /// What a sidecar remembers.
    pub memory: Option<&'a Memory>,
}

/// The content type of the page.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What one worker counts.
#[derive(Debug, Default)]
#[repr(align(128))] // two cache lines: the one next to a line that is read is often fetched with it
pub struct WorkerStats {
    /// Open client connections.
    pub connections: Gauge,
    /// Requests under way.
    pub requests_in_flight: Gauge,
    /// Open connections to endpoints.
    pub upstream_connections: Gauge,
    /// Times that a request was sent once more.
    pub retries: Counter,
    /// Requests under way that came in to the workload of a sidecar with a key.
    pub inbound_keyed: Gauge,
    /// Those that came in without one.
    pub inbound_unkeyed: Gauge,
    /// Requests of clients that may not name previews, and had done so in header fields.
    pub cut_carriers: Counter,
    /// Calls of a workload that left the estate with carriers, which were taken out.
    pub egress_stripped: Counter,
    /// Calls of a fork that named no preview, and got its key.
    pub stamped: Counter,
    /// Connections whose bytes passed as they were.
    pub opaque_connections: Counter,
    tls_ok: Counter,
    tls_failed: Counter,
    errors: [Counter; Code::ALL.len()],
    limits: [Counter; Limit::ALL.len()],
    moved: [Counter; Moved::ALL.len()],
}

impl WorkerStats {
    /// Counts a TLS handshake with a client.
    pub fn tls_handshake(&self, ok: bool) {
        if ok { self.tls_ok.inc() } else { self.tls_failed.inc() }
    }

    /// Counts an error that the proxy answered by itself.
    pub fn error(&self, code: Code) {
        if let Some(errors) = self.errors.get(code.index()) {
            errors.inc();
        }
    }

    /// Counts something that was refused or ended because a limit was reached.
    pub fn reached(&self, limit: Limit) {
        if let Some(limits) = self.limits.get(limit.index()) {
            limits.inc();
        }
    }

    /// Counts what is drained since another target would be decided for it now.
    pub fn moved(&self, moved: Moved) {
        if let Some(count) = self.moved.get(moved.index()) {
            count.inc();
        }
    }

    fn moved_so_far(&self, moved: Moved) -> u64 {
        self.moved.get(moved.index()).map_or(0, Counter::get)
    }

    fn limits(&self, limit: Limit) -> u64 {
        self.limits.get(limit.index()).map_or(0, Counter::get)
    }

    fn errors(&self, code: Code) -> u64 {
        self.errors.get(code.index()).map_or(0, Counter::get)
    }
}

/// How big the table in force is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Its generation.
    pub generation: u64,
    /// Services in it.
    pub services: usize,
    /// Previews in it.
    pub previews: usize,
    /// Forks of all previews together.
    pub forks: usize,
}

/// How it stands with the controller that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Whether its stream is open.
    pub connected: bool,
    /// When it was heard last; never: when this process began.
    pub last: Instant,
    /// Its version that is in force; 0: none.
    pub version: u64,
    /// Whether the newest one that was heard was refused.
    pub refused: bool,
}

/// What the control thread writes.
#[derive(Debug, Default)]
struct Process {
    table: Mutex<TableSize>,
    contact: Mutex<Option<Contact>>,
    reloads_ok: Counter,
    reloads_failed: Counter,
    last_failed: AtomicBool,
}

impl Process {
    fn table(&self) -> TableSize {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_ok(&self) -> bool {
        !self.last_failed.load(Relaxed)
    }
}
