//! What is written is read again, whatever happens to the end of it.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;
use crate::source::stream::mirror::{Change, Mirror};

const HELLO: &[u8] = br#"{"hello":{"protocol":1,"epoch":"e"}}"#;

/// The lines of a table: a snapshot of nothing, and then one preview more with each version.
struct Table {
    hash: TableHash,
    version: u64,
}

impl Table {
    fn new() -> Self {
        Self { hash: TableHash::default(), version: 1 }
    }

    fn snapshot() -> Bytes {
        Bytes::from(json!({"snapshot": {"version": 1, "items": {}, "hash": "0"}}).to_string())
    }

    /// A delta that sets the preview `key` to something of about `size` bytes.
    fn delta(&mut self, key: &str, size: usize) -> Bytes {
        let id = format!("preview/{key}");
        let host = "h".repeat(size);
        let item =
            json!({"preview": {"key": key, "forks": {}, "hosts": [host], "onForkDown": "fail"}}).to_string();
        self.hash.add(&id, &item);
        self.version += 1;
        let (from, to, hash) = (self.version - 1, self.version, self.hash);
        Bytes::from(format!(
            r#"{{"delta":{{"from":{from},"to":{to},"upsert":{{"{id}":{item}}},"hash":"{hash}"}}}}"#
        ))
    }
}

/// The version and the previews that a folder has.
fn kept(folder: &Path) -> (Option<u64>, Vec<String>) {
    let mut mirror = Mirror::default();
    read(folder, |line| mirror.line(&line).is_ok()).unwrap();
    let previews = mirror.pending().iter().filter(|(_, change)| matches!(change, Change::Set(_)));
    let previews = previews.map(|(id, _)| id.to_string()).collect();
    (mirror.position().map(|at| at.version), previews)
}

fn begun(folder: &Path) -> Journal {
    let journal = Journal::start(folder, None);
    journal.begin(HELLO.into());
    journal.line(Table::snapshot());
    journal.commit();
    journal
}

#[test]
fn a_snapshot_and_its_deltas_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("deep/state");
    let mut table = Table::new();
    let journal = begun(&state);
    journal.line(table.delta("1", 1));
    journal.line(table.delta("2", 1));
    drop(journal);
    assert_eq!(kept(&state), (Some(3), vec!["preview/1".into(), "preview/2".into()]));
    let mode = fs::metadata(state.join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_snapshot_counts_once_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new();
    let journal = begun(folder.path());
    journal.line(table.delta("1", 1));
    // One that breaks off, and one that can't be taken: deltas go where they belong.
    journal.begin(HELLO.into());
    journal.line(Bytes::from_static(br#"{"snapshot":{"version":9,"items":{}}}"#));
    journal.abandon();
    journal.line(table.delta("2", 1));
    journal.begin(HELLO.into());
    journal.line(Table::snapshot());
    let mut other = Table::new();
    journal.line(other.delta("7", 1));
    drop(journal);
    assert_eq!(kept(folder.path()).0, Some(3), "what is in force is the one before");
    let journal = begun(folder.path());
    drop(journal);
    assert_eq!(kept(folder.path()), (Some(1), Vec::new()));
}

#[test]
fn every_torn_end_leaves_a_table_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new();
    let journal = begun(folder.path());
    for key in ["1", "2", "3"] {
        journal.line(table.delta(key, 1));
    }
    drop(journal);
    let file = folder.path().join(FILE);
    let whole = fs::read(&file).unwrap();
    let mut seen = Vec::new();
    for end in 0..=whole.len() {
        fs::write(&file, &whole[..end]).unwrap();
        let (version, previews) = kept(folder.path());
        assert_eq!(previews.len() as u64, version.unwrap_or(1) - 1, "torn at {end}");
        assert!(seen.last() <= Some(&version), "torn at {end}");
        seen.push(version);
    }
    seen.dedup();
    assert_eq!(seen, [None, Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn it_is_written_anew_at_the_start_and_when_deltas_outgrow_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let mut table = Table::new();
    let journal = begun(folder.path());
    for _ in 0..3 {
        table.hash = TableHash::default();
        journal.line(table.delta("1", 300 << 10));
    }
    journal.line(table.delta("2", 300 << 10));
    drop(journal);
    assert_eq!(kept(folder.path()).0, Some(5));
    let length = fs::metadata(&file).unwrap().len();
    assert!(length < 700 << 10, "two items are left of four lines: {length}");
    // A torn end goes with the next start.
    let good = length;
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b"torn").unwrap();
    let journal = Journal::start(folder.path(), Some(good));
    journal.line(table.delta("3", 1));
    drop(journal);
    assert_eq!(
        kept(folder.path()),
        (Some(6), vec!["preview/1".into(), "preview/2".into(), "preview/3".into()])
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

/// As at a restart in place: both processes have half a snapshot at once.
#[test]
fn two_writers_do_not_meet_and_what_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lost = AtomicBool::new(false);
    let mut pens = [(); 3].map(|()| Pen::new(folder.path()));
    for pen in &mut pens {
        pen.obey(Order::Begin(HELLO.into()), &lost);
    }
    let [first, second, third] = &mut pens;
    for pen in [first, second] {
        pen.obey(Order::Line(Table::snapshot()), &lost);
        pen.obey(Order::Commit, &lost);
        assert!(!lost.load(Ordering::Relaxed));
        assert_eq!(kept(folder.path()).0, Some(1));
    }
    third.obey(Order::Abandon, &lost);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_disk_that_fails_loses_the_rest_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, "a file is in the way").unwrap();
    let journal = Journal::start(&state, None);
    assert!(journal.is_lost(), "nothing is there that a line could go to");
    journal.begin(HELLO.into());
    journal.line(Table::snapshot());
    for _ in 0..500 {
        if journal.is_lost() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(journal.is_lost());
    fs::remove_file(&state).unwrap();
    journal.begin(HELLO.into());
    journal.line(Table::snapshot());
    journal.commit();
    drop(journal);
    assert_eq!(kept(&state).0, Some(1), "the next snapshot is kept again");
}
