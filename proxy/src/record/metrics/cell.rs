//! The numbers themselves, and who may write which.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number that only grows. Relaxed: no other memory is published through it, and a scrape may be a little late.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// One more until the guard is dropped, however its owner ends.
    #[must_use = "the gauge falls back as soon as the guard is dropped"]
    pub fn hold(&self) -> Held<'_> {
        self.inc();
        Held(self)
    }

    /// How many are there. Negative only on one worker's share, where things end on another than they began on.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One unit of a [`Gauge`].
#[derive(Debug)]
pub struct Held<'a>(&'a Gauge);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One `T` for each worker, and one for all threads that are none.
#[derive(Debug)]
pub(super) struct PerWorker<T> {
    workers: Box<[T]>,
    others: T,
}

impl<T: Default> PerWorker<T> {
    /// One for each of `workers` threads.
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: std::iter::repeat_with(T::default).take(workers).collect(), others: T::default() }
    }
}

impl<T> PerWorker<T> {
    /// The one of the worker with this index, counted from 0; the common one where there is no such worker, so
    /// that nothing goes uncounted.
    pub(super) fn get(&self, worker: usize) -> &T {
        self.workers.get(worker).unwrap_or(&self.others)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.workers.iter().chain(std::iter::once(&self.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_unit_comes_back_even_when_its_owner_panics() {
        let gauge = Gauge::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = gauge.hold();
            assert_eq!(gauge.get(), 1);
            panic!("the owner ends");
        }));
        assert!(outcome.is_err());
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn every_worker_has_its_own_and_a_stranger_has_one_too() {
        let cells = PerWorker::<Counter>::new(2);
        for worker in [0, 1, 2, usize::MAX] {
            cells.get(worker).inc();
        }
        assert_eq!(cells.iter().map(Counter::get).collect::<Vec<_>>(), [1, 1, 2]);
    }
}
