//! Lines as a reader finds them in real files and pipes.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use proptest::prelude::*;
use sidetrack_config::Key;
use sidetrack_config::model::LogPath;

use super::*;
use crate::decision::{Keys, Reason, Side};
use crate::error::Code;

fn key(text: &str) -> Key {
    Key::bare(text).unwrap()
}

fn full() -> Entry {
    Entry {
        time: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_999),
        texts: Texts::new(&RawTexts {
            request_id: b"7f3a",
            host: b"pr-42.preview.localhost:8080",
            path: b"/api/checkout?id=1&q=a%20b",
            service: b"checkout",
            user_agent: b"curl/8.5.0 (x \"y\")",
        }),
        client: "::ffff:10.0.0.7".parse().unwrap(),
        connection: 12,
        protocol: "HTTP/1.1",
        scheme: "https",
        method: Some(http::Method::POST),
        keys: Keys::from_iter([key("42"), key("shop-1")]),
        carrier: Some("host"),
        target: Side::Fork,
        reason: Some(Reason::ParentFork),
        preview: Some(key("shop-1")),
        generation: 9,
        endpoint: Some("[::1]:9110".parse().unwrap()),
        retries: 1,
        status: 200,
        error: None,
        request_bytes: 5,
        response_bytes: 1_024,
        duration: Duration::from_nanos(12_345_678),
        upstream: Some(Duration::from_millis(11)),
        aborted: true,
    }
}

fn bare() -> Entry {
    Entry {
        texts: Texts::new(&RawTexts { path: b"-", ..RawTexts::default() }),
        method: http::Method::from_bytes(b"PURGE").ok(),
        keys: Keys::new(),
        carrier: None,
        target: Side::None,
        reason: None,
        preview: None,
        endpoint: None,
        status: 0,
        error: Some(Code::NoRoute),
        upstream: None,
        aborted: false,
        ..full()
    }
}

fn line(entry: &Entry, format: Format) -> String {
    let mut out = Vec::new();
    super::format::write(entry, format, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_json_line() {
    let expected = concat!(
        r#"{"time":"2023-11-14T22:13:20.123Z","request_id":"7f3a","client":"10.0.0.7","connection":12,"#,
        r#""protocol":"HTTP/1.1","scheme":"https","method":"POST","host":"pr-42.preview.localhost:8080","#,
        r#""path":"/api/checkout?id=1&q=a%20b","keys":"42,shop-1","carrier":"host","service":"checkout","#,
        r#""target":"fork","reason":"parent_fork","preview":"shop-1","generation":9,"endpoint":"[::1]:9110","#,
        r#""retries":1,"status":200,"request_bytes":5,"response_bytes":1024,"duration_ms":12.345,"#,
        r#""upstream_ms":11.000,"aborted":true,"user_agent":"curl/8.5.0 (x \"y\")"}"#,
        "\n"
    );
    assert_eq!(line(&full(), Format::Json), expected);
    let expected = concat!(
        r#"{"time":"2023-11-14T22:13:20.123Z","request_id":null,"client":"10.0.0.7","connection":12,"#,
        r#""protocol":"HTTP/1.1","scheme":"https","method":"PURGE","host":null,"path":"-","keys":null,"#,
        r#""service":null,"target":"none","reason":null,"generation":9,"retries":1,"status":499,"#,
        r#""error":"no_route","request_bytes":5,"response_bytes":1024,"duration_ms":12.345,"user_agent":null}"#,
        "\n"
    );
    assert_eq!(line(&bare(), Format::Json), expected);
}

#[test]
fn a_text_line() {
    let expected = concat!(
        "time=2023-11-14T22:13:20.123Z request_id=7f3a client=10.0.0.7 connection=12 protocol=HTTP/1.1 scheme=https ",
        r#"method=POST host=pr-42.preview.localhost:8080 path="/api/checkout?id=1&q=a%20b" keys=42,shop-1 "#,
        "carrier=host service=checkout target=fork reason=parent_fork preview=shop-1 generation=9 ",
        "endpoint=[::1]:9110 retries=1 status=200 request_bytes=5 response_bytes=1024 duration_ms=12.345 ",
        r#"upstream_ms=11.000 aborted=true user_agent="curl/8.5.0 (x \"y\")""#,
        "\n"
    );
    assert_eq!(line(&full(), Format::Text), expected);
    let expected = concat!(
        "time=2023-11-14T22:13:20.123Z request_id=- client=10.0.0.7 connection=12 protocol=HTTP/1.1 scheme=https ",
        r#"method=PURGE host=- path="-" keys=- service=- target=none reason=- generation=9 retries=1 status=499 "#,
        "error=no_route request_bytes=5 response_bytes=1024 duration_ms=12.345 user_agent=-\n"
    );
    assert_eq!(line(&bare(), Format::Text), expected);
}

#[test]
fn times_outside_the_calendar_are_still_a_line() {
    let entry = Entry { time: UNIX_EPOCH - Duration::from_millis(1), ..full() };
    assert!(line(&entry, Format::Text).starts_with("time=1969-12-31T23:59:59.999Z "));
}

proptest! {
    #[test]
    fn hostile_texts_stay_one_line_of_valid_json(texts in prop::array::uniform5(hostile())) {
        let [request_id, host, path, service, user_agent] = &texts;
        let texts = Texts::new(&RawTexts { request_id, host, path, service, user_agent });
        let entry = Entry { texts, ..full() };
        let json = line(&entry, Format::Json);
        let text = line(&entry, Format::Text);
        for line in [&json, &text] {
            let inside = line.strip_suffix('\n').unwrap();
            prop_assert!(!inside.chars().any(|c| c.is_control() || "\u{2028}\u{2029}".contains(c)), "{line:?}");
        }
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (name, sent) in [("request_id", request_id), ("path", path), ("user_agent", user_agent)] {
            let expected = String::from_utf8_lossy(sent);
            prop_assert_eq!(value[name].as_str().unwrap_or_default(), &*expected, "{}", name);
        }
        // No text can bring a field of its own: in the text format, a quoted value hides its spaces.
        prop_assert_eq!(value.as_object().unwrap().len(), fields(&text), "{}", text);
    }
}

/// Short enough not to be cut; what is likely to break a line is likely to come.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b" =\"\\\n\r\t\x1b{},\x7f".to_vec())];
    let unicode = "[\u{80}-\u{9f}\u{2028}\u{2029}\u{fffd}ä]{0,10}".prop_map(String::into_bytes);
    prop_oneof![prop::collection::vec(byte, 0..120), unicode]
}

/// How many `name=value` a text line holds.
fn fields(line: &str) -> usize {
    let (mut quoted, mut escaped, mut count) = (false, false, 1);
    for char in line.trim_end_matches('\n').chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => count += 1,
            _ => {}
        }
    }
    assert!(!quoted, "{line}");
    count
}

fn open(path: &Path, metrics: &Arc<Metrics>) -> AccessLog {
    let config = model::AccessLog::Json(LogPath::File(path.to_owned()));
    start(&config, Arc::clone(metrics)).unwrap().unwrap()
}

/// The connection numbers of the lines of a file.
fn connections(text: &str) -> Vec<u64> {
    let read =
        |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["connection"].as_u64().unwrap();
    text.lines().map(read).collect()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} within 10 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_is_off_is_none() {
    assert!(start(&model::AccessLog::Off, Metrics::new(1)).unwrap().is_none());
}

#[test]
fn everything_that_was_queued_is_written_at_the_end_and_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    std::fs::write(&path, "").unwrap();
    let metrics = Metrics::new(2);
    for round in 0..2 {
        let log = open(&path, &metrics);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let log = log.clone();
                scope.spawn(move || {
                    for number in 0..1_000 {
                        log.log(Entry { connection: round * 2_000 + worker * 1_000 + number, ..full() });
                    }
                });
            }
        });
        assert!(log.close());
    }
    let mut seen = connections(&std::fs::read_to_string(&path).unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..4_000).collect::<Vec<_>>());
    assert_eq!(metrics.log_dropped.get(), 0);
}

#[test]
fn dropping_the_last_handle_writes_what_is_queued_and_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = open(&path, &Metrics::new(1));
    let control = Arc::clone(&log.control);
    (0..100).for_each(|connection| log.log(Entry { connection, ..full() }));
    drop(log);
    let ended = control.ended.lock().unwrap().recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(connections(&std::fs::read_to_string(&path).unwrap()).len(), 100);
}

#[test]
fn a_reader_that_does_not_read_costs_lines_that_are_counted_and_no_time() {
    const SENT: u64 = 20_000;
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let metrics = Metrics::new(1);
    let log = open(Path::new(&format!("/dev/fd/{}", pipe.as_raw_fd())), &metrics);
    drop(pipe);
    // Returns at all: nobody reads until every entry was handed over.
    (0..SENT).for_each(|connection| log.log(Entry { connection, ..full() }));
    let dropped = metrics.log_dropped.get();
    let written = u64::try_from(QUEUE).unwrap() + 1_000; // the queue, the batch and what fits in the pipe
    assert!((SENT - written..SENT).contains(&dropped), "{dropped}");
    let text = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert!(log.close());
    let seen = connections(&text.join().unwrap().unwrap());
    assert_eq!(seen.len() as u64 + metrics.log_dropped.get(), SENT, "each is written or counted");
    assert!(seen.is_sorted());
}

#[test]
fn closing_does_not_wait_for_ever() {
    let (_reader, pipe) = std::io::pipe().unwrap();
    let log = open(Path::new(&format!("/dev/fd/{}", pipe.as_raw_fd())), &Metrics::new(1));
    (0..2_000).for_each(|connection| log.log(Entry { connection, ..full() }));
    let start = Instant::now();
    assert!(!log.close(), "nobody reads the pipe");
    assert!((CLOSE_TIMEOUT..CLOSE_TIMEOUT * 2).contains(&start.elapsed()));
}

#[test]
fn a_full_disk_is_counted_and_does_not_end_the_thread() {
    let metrics = Metrics::new(1);
    let log = open(Path::new("/dev/full"), &metrics);
    for round in 1..=3 {
        log.log(full());
        until("the lost line is counted", || metrics.log_dropped.get() == round);
    }
    assert!(log.close());
}

#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = open(&path, &Metrics::new(1));
    log.log(Entry { connection: 1, ..full() });
    until("the first line", || std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
    std::fs::rename(&path, &old).unwrap();
    log.log(Entry { connection: 2, ..full() });
    until("the second line", || connections(&std::fs::read_to_string(&old).unwrap()).len() == 2);
    log.reopen();
    until("the new file", || path.exists());
    log.log(Entry { connection: 3, ..full() });
    assert!(log.close());
    assert_eq!(connections(&std::fs::read_to_string(&old).unwrap()), [1, 2]);
    assert_eq!(connections(&std::fs::read_to_string(&path).unwrap()), [3]);
}
