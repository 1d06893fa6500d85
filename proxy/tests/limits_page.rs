//! `docs/limits.md`: every limit with its default, what happens when it is reached, and why it is there.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidetrack-proxy --test limits_page` writes the page anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sidetrack_config::limits::about::ABOUT;
use sidetrack_config::schema::json_schema;
use sidetrack_proxy::limit::Limit;

const INTRODUCTION: &str = "\
# Limits and time-outs

<!-- Made from config/src/limits/about.rs and the JSON Schema; run
     UPDATE_GOLDEN=1 cargo test -p sidetrack-proxy --test limits_page -->

Everything that a client, a service or a file can make grow has a bound, and everything that can be waited for has an
end. All are on by default and stand under `limits` in the configuration file; `0` means none for times, and what the
table says for the rest. Those of a service stand in its `timeouts`: `connect`, `response` (off by default), and `idle`,
which ends an exchange in which nothing moved in either direction since the answer began.

What was refused or ended is counted in `sidetrack_limits_reached_total{reason=...}`, where the column \"Counted\" says so;
answers with a code are counted in `sidetrack_errors_total{code=...}`, too ([errors](errors.md)).

| Limit | Default | When it is reached | Counted | Why |
|---|---|---|---|---|
";

const EPILOGUE: &str = "
Bounds that nothing changes: a PROXY protocol header has 4 KiB, the line of a chunk 4 KiB, the head of a service's answer
64 KiB and 100 fields, its trailers (over HTTP/2 64 KiB) and chunk extensions 16 KiB; a request names 8 keys and their parents at most 8 more
previews; each direction of an upgraded connection holds 16 KiB; of 1xx answers 8 wait for a client; an HTTP/2 client that
leaves a ping unanswered for 20 s is gone; a connection that we end is listened to for 1 s more, so that its last answer
arrives; a client that says `Expect: 100-continue` waits for a service that does not answer it for 1 s.
";

/// The limits as the schema has them.
fn schema() -> serde_json::Map<String, Value> {
    let schema: Value = serde_json::to_value(json_schema()).unwrap();
    let limits = schema["properties"]["limits"]["$ref"].as_str().unwrap();
    schema.pointer(&limits[1..]).unwrap()["properties"].as_object().unwrap().clone()
}

fn page() -> String {
    let schema = schema();
    let counted: BTreeSet<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
    let mut page = INTRODUCTION.to_owned();
    for about in ABOUT {
        let default = match &schema[about.name]["default"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let is_counted = if counted.contains(about.name) { "yes" } else { "" };
        writeln!(page, "| `{}` | `{default}` | {} | {is_counted} | {} |", about.name, about.over, about.why)
            .unwrap();
    }
    page + EPILOGUE
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, written, "docs/limits.md is old: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn every_limit_of_the_configuration_is_on_it_and_every_reason_is_a_limit() {
    let names: BTreeSet<String> = ABOUT.iter().map(|about| about.name.to_owned()).collect();
    assert_eq!(names.len(), ABOUT.len());
    assert_eq!(names, schema().keys().cloned().collect());
    for limit in Limit::ALL {
        assert!(names.contains(limit.as_str()), "{limit}");
    }
}
