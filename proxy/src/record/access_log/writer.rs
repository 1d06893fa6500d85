//! The thread that formats and writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use sidetrack_config::model::LogPath;

use super::Control;
use super::entry::Entry;
use super::format::{self, Format};
use crate::record::metrics::Metrics;

/// How many bytes are gathered for one write.
const BATCH: usize = 64 << 10;

/// How long the writer looks away after a batch. Meanwhile it is not asleep in the queue, so that no worker pays the
/// system call that would wake it; the queue has room for 1.6 million requests a second.
const PAUSE: Duration = Duration::from_millis(5);

/// How often a destination that fails is complained about.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Opens a destination for appending. A file that is made is for its owner and group alone: paths hold secrets of apps.
///
/// # Errors
/// With the path, and what to do.
pub(super) fn open(path: &LogPath) -> io::Result<File> {
    match path {
        // Not through `io::Stdout`: its lock would make everybody who prints wait for a slow reader.
        LogPath::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogPath::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        LogPath::File(path) => {
            let mut options = OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
            options.append(true).create(true).open(path).map_err(|error| {
                let hint = "name a file in a directory that exists and is writable, or `stdout`";
                let path = path.display();
                io::Error::new(
                    error.kind(),
                    format!("accessLog.path: can't append to {path}: {error}; {hint}"),
                )
            })
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    entries: Receiver<Option<Entry>>,
    output: File,
    path: LogPath,
    format: Format,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    /// Whole lines, at most [`BATCH`] bytes and one line.
    batch: Vec<u8>,
    /// Whether the last line that was written has no end.
    torn: bool,
    complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        entries: Receiver<Option<Entry>>,
        output: File,
        path: LogPath,
        format: Format,
        control: Arc<Control>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            entries,
            output,
            path,
            format,
            control,
            metrics,
            batch: Vec::new(),
            torn: false,
            complained: None,
        }
    }

    /// Runs until the log is closed, or no handle on it is left.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.entries.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                self.take(message);
                while let Ok(message) = self.entries.try_recv() {
                    self.take(message);
                }
                self.flush();
                std::thread::sleep(PAUSE);
                next = self.entries.try_recv().ok();
            }
            if self.control.closing.load(SeqCst) {
                return;
            }
        }
    }

    fn take(&mut self, message: Option<Entry>) {
        let Some(entry) = message else { return };
        format::write(&entry, self.format, &mut self.batch);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.control.reopen.swap(false, SeqCst) {
            self.reopen();
        }
        if let Err(lost) = write_lines(&mut self.output, &self.batch, &mut self.torn) {
            self.metrics.log_dropped.add(lost.lines);
            self.complain(&lost.error);
        }
        self.batch.clear();
    }

    fn reopen(&mut self) {
        if !matches!(self.path, LogPath::File(_)) {
            return;
        }
        match open(&self.path) {
            Ok(output) => (self.output, self.torn) = (output, false),
            Err(error) => self.complain(&error),
        }
    }

    /// Says once a minute that lines are lost: a full disk fails for every batch.
    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            let dropped = self.metrics.log_dropped.get();
            tracing::warn!(%error, dropped, "access log: can't write");
        }
    }
}

/// What a failed write cost.
#[derive(Debug)]
struct Lost {
    lines: u64,
    error: io::Error,
}

/// Writes whole lines. Where a write before ended within a line, that line is ended first, so that the next one is not
/// lost with it.
fn write_lines(output: &mut impl Write, mut lines: &[u8], torn: &mut bool) -> Result<(), Lost> {
    let mut end: &[u8] = if *torn && !lines.is_empty() { b"\n" } else { b"" };
    while !lines.is_empty() {
        let source = if end.is_empty() { &mut lines } else { &mut end };
        let error = match output.write(source) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(written) => {
                *torn = source.get(written - 1) != Some(&b'\n');
                *source = source.get(written..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        return Err(Lost { lines: lines.iter().map(|byte| u64::from(*byte == b'\n')).sum(), error });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many bytes as each step says, or fails.
    struct Narrow {
        steps: std::vec::IntoIter<Option<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let Some(room) = self.steps.next().expect("a step is left") else {
                return Err(io::ErrorKind::StorageFull.into());
            };
            let length = room.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_take_the_next_one_with_it() {
        let steps = vec![Some(2), Some(4), None, None, Some(9), Some(9)];
        let mut output = Narrow { steps: steps.into_iter(), taken: Vec::new() };
        let mut torn = false;
        let lost = write_lines(&mut output, b"aaa\nbbb\nccc\n", &mut torn).unwrap_err();
        assert_eq!((lost.lines, torn), (2, true), "bbb began, and is lost like ccc");
        let lost = write_lines(&mut output, b"ddd\n", &mut torn).unwrap_err();
        assert_eq!((lost.lines, torn), (1, true));
        write_lines(&mut output, b"", &mut torn).unwrap();
        write_lines(&mut output, b"eee\n", &mut torn).unwrap();
        assert_eq!(output.taken, b"aaa\nbb\neee\n");
        assert!(!torn && output.steps.next().is_none());
    }

    #[test]
    fn a_destination_that_takes_nothing_is_an_error_and_no_endless_loop() {
        let lost = write_lines(&mut &mut [][..], b"aaa\n", &mut false).unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (1, io::ErrorKind::WriteZero));
    }

    #[test]
    fn a_file_that_can_not_be_made_says_which_and_what_to_do() {
        let error = open(&LogPath::File("/proc/none/access.log".into())).unwrap_err().to_string();
        assert!(error.contains("accessLog.path") && error.contains("/proc/none/access.log"), "{error}");
        assert!(error.contains("`stdout`"), "{error}");
    }
}
