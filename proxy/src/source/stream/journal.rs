//! The last good table on disk: the lines that made it, `table.jsonl` under `stateDir`, so that a proxy starts and
//! serves while its controller is down.
//!
//! A thread of its own writes, since a slow disk must not keep a change from being routed. A snapshot goes to a new
//! file that takes the place of the old one once it is in force; deltas are added to it, and where they outgrow the
//! snapshot, the file is written anew. What a crash tears off the last line is left out by the next reader.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::Bytes;
use sidetrack_config::stream::{Hello, MAX_LINE, Message, RawItems, Snapshot, TableHash};

use crate::source::disk;

/// The name of the file.
const FILE: &str = "table.jsonl";
/// Bytes that may wait for the disk.
const MAX_QUEUED: usize = 256 << 20;
/// Deltas below this are no reason to write everything anew.
const MIN_DELTAS: u64 = 1 << 20;
/// About how long the lines of a snapshot are that this writes.
const PART: usize = 1 << 20;

/// The writing end.
#[derive(Debug)]
pub(super) struct Journal {
    orders: Option<mpsc::Sender<Order>>,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Write the file anew, of which this many bytes are good.
    Rewrite(u64),
    /// A snapshot begins, under this greeting.
    Begin(Bytes),
    /// A line of a snapshot, or a delta of what came last.
    Line(Bytes),
    /// The snapshot is in force.
    Commit,
    /// The snapshot will not come whole.
    Abandon,
}

impl Journal {
    /// Starts to write under `state_dir`. `good` bytes of the file that is there are its table; `None`: none is.
    pub(super) fn start(state_dir: &Path, good: Option<u64>) -> Self {
        let (orders, receive) = mpsc::channel::<Order>();
        let queued = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicBool::new(good.is_none()));
        let mut pen = Pen::new(state_dir);
        let (counted, gone) = (Arc::clone(&queued), Arc::clone(&lost));
        let thread = std::thread::Builder::new().name("table-journal".into()).spawn(move || {
            for order in receive {
                let bytes = order.bytes();
                pen.obey(order, &gone);
                counted.fetch_sub(bytes, Ordering::Relaxed);
            }
        });
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "the table is not kept on disk")).ok();
        let journal = Self { orders: Some(orders), queued, lost, thread };
        if let Some(good) = good {
            // A process before this one may still hold the file: from now on each has one of its own.
            journal.order(Order::Rewrite(good));
        }
        journal
    }

    /// A snapshot begins, under the greeting `hello`.
    pub(super) fn begin(&self, hello: Bytes) {
        self.lost.store(false, Ordering::Relaxed);
        self.order(Order::Begin(hello));
    }

    /// A line of the snapshot, or a delta.
    pub(super) fn line(&self, line: Bytes) {
        if self.is_lost() {
            return;
        }
        if self.queued.load(Ordering::Relaxed) > MAX_QUEUED {
            tracing::warn!(
                "the disk is too slow for the table: what is kept falls behind until the next snapshot"
            );
            self.lost.store(true, Ordering::Relaxed);
            return;
        }
        self.order(Order::Line(line));
    }

    /// The snapshot is in force.
    pub(super) fn commit(&self) {
        self.order(Order::Commit);
    }

    /// The snapshot will not come whole.
    pub(super) fn abandon(&self) {
        self.order(Order::Abandon);
    }

    /// Whether a line is missing on disk, so that only a snapshot makes it whole again.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) {
        self.queued.fetch_add(order.bytes(), Ordering::Relaxed);
        // Without the thread there is nothing to do, and it said so.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Drop for Journal {
    /// Waits until everything is written.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Order {
    const fn bytes(&self) -> usize {
        match self {
            Self::Begin(line) | Self::Line(line) => line.len(),
            Self::Rewrite(_) | Self::Commit | Self::Abandon => 0,
        }
    }
}

/// Who writes.
struct Pen {
    path: PathBuf,
    current: Option<Written>,
    candidate: Option<Written>,
}

/// A file that is being written.
struct Written {
    file: File,
    /// Where it is until it is in its place. Should it never get there, it is removed.
    temporary: Option<PathBuf>,
    snapshot: u64,
    deltas: u64,
}

impl Pen {
    fn new(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        disk::remove_left_of(&path);
        Self { path, current: None, candidate: None }
    }

    fn obey(&mut self, order: Order, lost: &AtomicBool) {
        if lost.load(Ordering::Relaxed) && matches!(order, Order::Line(_) | Order::Commit) {
            // A file with a hole is none.
            self.candidate = None;
            return;
        }
        if let Err(error) = self.try_obey(order) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the table can't be kept on disk; what is there falls behind until the next snapshot");
            lost.store(true, Ordering::Relaxed);
            self.candidate = None;
            self.current = None;
        }
    }

    fn try_obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Rewrite(good) => self.rewrite(good),
            Order::Begin(hello) => {
                let mut candidate = Written::create(&self.path)?;
                candidate.add(&hello)?;
                self.candidate = Some(candidate);
                Ok(())
            }
            Order::Line(line) => match (&mut self.candidate, &mut self.current) {
                (Some(candidate), _) => candidate.add(&line),
                (None, Some(current)) => {
                    current.add(&line)?;
                    current.deltas += line.len() as u64 + 1;
                    match current.deltas > current.snapshot.max(MIN_DELTAS) {
                        true => self.rewrite(u64::MAX),
                        false => Ok(()),
                    }
                }
                (None, None) => Err(io::Error::other("a change came before its table")),
            },
            Order::Commit => self.commit(),
            Order::Abandon => {
                self.candidate = None;
                Ok(())
            }
        }
    }

    fn commit(&mut self) -> io::Result<()> {
        let Some(mut candidate) = self.candidate.take() else { return Ok(()) };
        candidate.put_in_place(&self.path)?;
        self.current = Some(candidate);
        Ok(())
    }

    /// Writes one snapshot in place of a snapshot and its deltas.
    fn rewrite(&mut self, good: u64) -> io::Result<()> {
        let (hello, version, items) = table_of(&self.path, good)?;
        let mut written = Written::create(&self.path)?;
        let mut buffered = BufWriter::new(&written.file);
        write_table(&mut buffered, hello, version, items)?;
        buffered.flush()?;
        drop(buffered);
        written.put_in_place(&self.path)?;
        self.current = Some(written);
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What is left all the same goes with a later start.
        let _ = self.temporary.take().map(fs::remove_file);
    }
}

impl Written {
    /// A new file that is to become the one at `path`. Only its owner reads it: it holds private keys.
    fn create(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(path);
        disk::make_private_folder(folder)?;
        disk::believe_folder(folder)?;
        let temporary = disk::beside(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self { file, temporary: Some(temporary), snapshot: 0, deltas: 0 })
    }

    /// Makes it the one at `path`; what is in it by now counts as a snapshot.
    fn put_in_place(&mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, path)?;
        }
        self.temporary = None;
        disk::sync_folder_of(path)?;
        self.snapshot = self.file.metadata()?.len();
        Ok(())
    }

    /// Adds a line in one piece, so that only the last one can be torn.
    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        self.file.write_all(&whole)
    }
}

/// The lines of the table under `state_dir`, to `take`, for as long as it says that they are good: gives how many bytes
/// those have.
///
/// # Errors
/// What the file system says, or that another user could have put the table there; that there is no file is none.
pub(super) fn read(state_dir: &Path, mut take: impl FnMut(Bytes) -> bool) -> io::Result<u64> {
    let path = state_dir.join(FILE);
    match disk::open_believed(&path) {
        Ok(file) => lines(file, u64::MAX, &mut take),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn lines(file: File, most: u64, take: &mut impl FnMut(Bytes) -> bool) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut good = 0;
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(MAX_LINE as u64).read_until(b'\n', &mut line)? as u64;
        // Without a line feed it is the end, or torn, or none of ours.
        if line.pop() != Some(b'\n') || good + read > most || !take(line.into()) {
            return Ok(good);
        }
        good += read;
    }
}

/// The table that the first `good` bytes of a file make.
fn table_of(path: &Path, good: u64) -> io::Result<(Hello, u64, RawItems)> {
    let (mut hello, mut version, mut items) = (None, None, RawItems::new());
    lines(disk::open_believed(path)?, good, &mut |line| {
        match serde_json::from_slice(&line) {
            Ok(Message::Hello(greeting)) => hello = Some(greeting),
            Ok(Message::Snapshot(part)) => {
                version = Some(part.version);
                items.extend(part.items);
            }
            Ok(Message::Delta(delta)) => {
                version = Some(delta.to);
                for id in &delta.remove {
                    items.remove(id);
                }
                items.extend(delta.upsert);
            }
            Ok(Message::Ping(_)) => {}
            Err(_) => return false,
        }
        true
    })?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "there is no whole table in it");
    Ok((hello.ok_or_else(missing)?, version.ok_or_else(missing)?, items))
}

fn write_table(file: &mut impl Write, hello: Hello, version: u64, items: RawItems) -> io::Result<()> {
    let mut write = |message: &Message| {
        serde_json::to_writer(&mut *file, message)?;
        file.write_all(b"\n")
    };
    write(&Message::Hello(hello))?;
    let mut hash = TableHash::default();
    let mut part: RawItems = BTreeMap::new();
    let mut bytes = 0;
    for (id, raw) in items {
        hash.add(&id, raw.get());
        if bytes > 0 && bytes + raw.get().len() > PART {
            let items = std::mem::take(&mut part);
            write(&Message::Snapshot(Snapshot { version, items, hash: None }))?;
            bytes = 0;
        }
        bytes += raw.get().len();
        part.insert(id, raw);
    }
    write(&Message::Snapshot(Snapshot { version, items: part, hash: Some(hash) }))
}

#[cfg(test)]
mod tests;
