//! DESIGN 2.1, carrier by carrier: what is read, what is an error, and what is neither.

mod explicit;
mod fill_in;
mod host;
mod properties;
mod trace;
mod url;

use crate::head::PlainHead;

/// Writes `keys` into one of the six explicit carriers of a head, in the list form of that carrier. The table must
/// have `path: true` for `path`.
fn put(head: PlainHead, carrier: &str, keys: &[&str]) -> PlainHead {
    let list = |separator: &str| keys.join(separator);
    let label = || keys.iter().map(|key| format!("pr-{key}")).collect::<Vec<_>>().join("--");
    match carrier {
        "header" => head.with("x-pr-id", list(",")),
        "host" => PlainHead { authority: format!("{}.{}", label(), head.authority), ..head },
        "path" => PlainHead { path: format!("/{}{}", label(), head.path), ..head },
        "query" => PlainHead { query: Some(format!("a=1&pr-id={}", list(","))), ..head },
        "baggage" => head.with("baggage", format!("a=1,pr-id={}", list("."))),
        "tracestate" => head
            .with("traceparent", crate::fixture::TRACE)
            .with("tracestate", format!("a=1,pr-id={}", list("."))),
        other => panic!("{other} is no explicit carrier"),
    }
}
