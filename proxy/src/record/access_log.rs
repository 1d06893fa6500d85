//! One line for each request, written by a thread that no request waits for.
//!
//! A worker puts an [`Entry`] in a bounded queue and goes on; where the queue is full, because the disk or the reader
//! of a pipe is slow, the entry is dropped and counted. Formatting and writing belong to the log's own thread.

mod entry;
mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sidetrack_config::model;

pub use self::entry::{Entry, RawTexts, Texts};
use self::format::Format;
use self::writer::Writer;
use super::metrics::Metrics;

/// How many entries may wait: at 100,000 requests a second, the writer may stall for 80 ms before one is lost.
const QUEUE: usize = 8192;

/// How long [`AccessLog::close`] waits for a destination that takes nothing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on the log; each worker has a clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `None` carries nothing: it wakes the writer for [`Control`].
    queue: SyncSender<Option<Entry>>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
}

/// What the handles say to the writer besides entries, and it to them.
#[derive(Debug)]
struct Control {
    reopen: AtomicBool,
    closing: AtomicBool,
    /// Ends, without ever yielding anything, when the writer's thread does.
    ended: Mutex<Receiver<()>>,
}

/// Opens the destination and starts the thread; `None` where the log is off.
///
/// # Errors
/// The file can't be opened, or the thread not started; the text says what to do.
pub fn start(config: &model::AccessLog, metrics: Arc<Metrics>) -> io::Result<Option<AccessLog>> {
    let (format, path) = match config {
        model::AccessLog::Off => return Ok(None),
        model::AccessLog::Json(path) => (Format::Json, path),
        model::AccessLog::Text(path) => (Format::Text, path),
    };
    let output = writer::open(path)?;
    let (queue, entries) = sync_channel(QUEUE);
    let (alive, ended) = sync_channel(0);
    let control = Arc::new(Control {
        reopen: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        ended: Mutex::new(ended),
    });
    let writer =
        Writer::new(entries, output, path.clone(), format, Arc::clone(&control), Arc::clone(&metrics));
    std::thread::Builder::new().name("access-log".into()).spawn(move || {
        let _alive: SyncSender<()> = alive;
        writer.run();
    })?;
    Ok(Some(AccessLog { queue, control, metrics }))
}

impl AccessLog {
    /// Hands over an entry. Never blocks: an entry that finds the queue full is dropped and counted.
    pub fn log(&self, entry: Entry) {
        if self.queue.try_send(Some(entry)).is_err() {
            self.metrics.log_dropped.inc();
        }
    }

    /// Opens the file anew, for whoever moved the old one away. Every line that is queued goes to one or the other.
    pub fn reopen(&self) {
        self.control.reopen.store(true, SeqCst);
        self.wake();
    }

    /// Waits until everything queued is written, at most 5 s, and ends the thread; `false` where that was not enough.
    /// What is logged through another handle from then on may be lost.
    pub fn close(self) -> bool {
        self.control.closing.store(true, SeqCst);
        self.wake();
        let ended = self.control.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(CLOSE_TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    /// Where there is no room, the writer is not asleep and looks at [`Control`] by itself.
    fn wake(&self) {
        let _ = self.queue.try_send(None);
    }
}
