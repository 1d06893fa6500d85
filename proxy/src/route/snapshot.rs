//! Where the current table is kept. Workers look at one number per request, and take the lock only when it has
//! moved. That number counts publications: a controller that begins anew may send a generation that was there before.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::table::Table;

/// The current table, shared by all threads.
#[derive(Debug)]
pub struct Published {
    table: RwLock<Arc<Table>>,
    version: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Published {
    /// Holds `table` as the first one.
    pub fn new(table: Arc<Table>) -> Self {
        Self { table: RwLock::new(table), version: AtomicU64::new(0), changed: watch::Sender::new(0) }
    }

    /// Makes `table` the current one: every request that begins from now on takes it.
    pub fn publish(&self, table: Arc<Table>) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        let version = self.version.fetch_add(1, Ordering::Release) + 1;
        self.changed.send_replace(version);
    }

    /// The current table. Not for the path of a request: see [`Cached`].
    pub fn load(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes when another table is published.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A table as one worker holds it: counted by the worker alone, so that a request that takes it touches no memory of
/// another worker.
#[derive(Debug)]
pub struct Held {
    table: Arc<Table>,
    version: u64,
    own_fields: Rc<[Box<str>]>,
}

impl Held {
    fn new(table: Arc<Table>, version: u64) -> Rc<Self> {
        let own_fields = table.estate.own_fields().map(Box::from).collect();
        Rc::new(Self { table, version, own_fields })
    }

    /// Those of [`Estate::own_fields`](super::table::Estate::own_fields), for who can't hold the table for as long.
    pub const fn own_fields(&self) -> &Rc<[Box<str>]> {
        &self.own_fields
    }

    /// Which publication it is of: tables with the same number are the same.
    pub const fn version(&self) -> u64 {
        self.version
    }
}

impl Deref for Held {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

/// A worker's own reference to the current table.
#[derive(Debug)]
pub struct Cached {
    published: Arc<Published>,
    version: Cell<u64>,
    table: RefCell<Rc<Held>>,
}

impl Cached {
    /// A cache of `published` for this thread.
    pub fn new(published: Arc<Published>) -> Self {
        // First the number, then the table: one that comes in between is fetched again, and none is missed.
        let version = published.version.load(Ordering::Acquire);
        let table = RefCell::new(Held::new(published.load(), version));
        Self { version: Cell::new(version), table, published }
    }

    /// The current table.
    pub fn get(&self) -> Rc<Held> {
        let version = self.published.version.load(Ordering::Acquire);
        if version != self.version.get() {
            *self.table.borrow_mut() = Held::new(self.published.load(), version);
            self.version.set(version);
        }
        Rc::clone(&self.table.borrow())
    }

    /// Which publication [`Cached::get`] gave last. To ask costs no look at what other threads write.
    pub const fn version(&self) -> u64 {
        self.version.get()
    }

    /// Wakes when another table is published.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}
