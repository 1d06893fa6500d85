//! What applications hand on with their calls, in Rust; see `tests/clients/apps/styles.py`. All of these are as applications
//! write them by hand.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// Fields of a request by their names in lower case.
pub(crate) type Fields = BTreeMap<String, String>;

/// Every field that can say a key, or an id that one is found by.
pub(crate) const ALL: [&str; 15] = [
    "x-pr-id",
    "baggage",
    "traceparent",
    "tracestate",
    "x-request-id",
    "b3",
    "x-b3-traceid",
    "x-b3-parentspanid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
];

/// What a call has of what its request brought; `None`: there is no such style here.
pub(crate) fn onward(style: &str, received: &Fields) -> Option<Fields> {
    let picked = |names: &[&str]| -> Fields {
        let found = |name: &&str| Some(((*name).to_owned(), received.get(*name)?.clone()));
        names.iter().filter_map(found).collect()
    };
    let got = |name: &str| received.get(name).cloned();
    Some(match style {
        "everything" => picked(&ALL),
        "full" => picked(&["x-pr-id", "baggage", "traceparent", "tracestate", "x-request-id"]),
        "baggage" => {
            let mut fields = picked(&["baggage", "tracestate"]);
            fields.insert("traceparent".into(), traceparent(received));
            fields
        }
        "traceparent" => fields([("traceparent", traceparent(received))]),
        "b3" => fields([
            (
                "x-b3-traceid",
                got("x-b3-traceid").unwrap_or_else(|| format!("{:016x}{:016x}", random(), random())),
            ),
            ("x-b3-spanid", format!("{:016x}", random())),
            ("x-b3-sampled", got("x-b3-sampled").unwrap_or_else(|| "1".into())),
        ]),
        "datadog" => {
            let mut fields = datadog(received);
            fields.extend(picked(&["x-datadog-sampling-priority", "x-datadog-tags"]));
            fields
        }
        "datadog-64" => datadog(received),
        "request-id" => picked(&["x-request-id"]),
        "none" => Fields::new(),
        _ => return None,
    })
}

fn fields<const N: usize>(pairs: [(&str, String); N]) -> Fields {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The trace goes on under a new span.
fn traceparent(received: &Fields) -> String {
    let came = received.get("traceparent").map_or("", String::as_str);
    let parts: Vec<&str> = came.split('-').collect();
    match parts[..] {
        [version, trace, _, flags, ..] => format!("{version}-{trace}-{:016x}-{flags}", random()),
        _ => format!("00-{:016x}{:016x}-{:016x}-01", random(), random(), random()),
    }
}

/// The low half of the id, under a new span.
fn datadog(received: &Fields) -> Fields {
    let trace = received.get("x-datadog-trace-id").cloned().unwrap_or_else(|| (random() >> 1).to_string());
    fields([("x-datadog-trace-id", trace), ("x-datadog-parent-id", (random() >> 1).to_string())])
}

/// A number that nobody had before: the standard library seeds its hashers at random.
fn random() -> u64 {
    RandomState::new().hash_one(std::thread::current().id()) | 1
}
