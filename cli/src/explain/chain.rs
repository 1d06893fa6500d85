//! The hops that a request met: from the fields of its answer, or from the admin listener of the gateway; and how they look.

use std::fmt::Write;

use hyper::HeaderMap;
use serde_json::{Value, json};

use crate::out::Style;

/// In place of entries that are missing.
const CUT: &str = "...";

/// One hop; what is not known of it is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hop {
    pub(super) depth: usize,
    pub(super) service: String,
    pub(super) target: String,
    pub(super) reason: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) endpoint: Option<String>,
    pub(super) start_ms: Option<f64>,
    pub(super) duration_ms: Option<f64>,
}

/// All that is known of the way of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chain {
    pub(super) hops: Vec<Hop>,
    /// Whether nothing is known to be missing.
    pub(super) complete: bool,
    /// The trace, where the gateway keeps its receipts.
    pub(super) trace: Option<String>,
}

impl Chain {
    /// What the fields of an answer say.
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let entries: Vec<&str> = items(fields, "x-pr-route").collect();
        let mut metrics = items(fields, "server-timing").filter_map(metric);
        let trace = items(fields, "server-timing").filter_map(metric).find(|metric| metric.0 == "pr-trace");
        let mut hops = Vec::new();
        for entry in entries.iter().filter(|entry| **entry != CUT) {
            let mut hop = read(entry);
            let at = format!("{}@{}", hop.service, hop.target);
            // Both lists have the same order; either may be cut short.
            let place = |name: &str| Some(name.strip_prefix("pr-1")?.matches('-').count());
            let found = metrics.by_ref().find(|(name, desc, _)| desc == &at && place(name).is_some());
            if let Some((name, _, duration)) = found {
                hop.depth = place(&name).unwrap_or(0);
                hop.duration_ms = duration;
            } else if !hops.is_empty() {
                hop.depth = 1;
            }
            hops.push(hop);
        }
        Self { complete: !entries.contains(&CUT), hops, trace: trace.map(|(_, trace, _)| trace) }
    }

    /// What the admin listener says of the newest request of a trace; `None`: nothing.
    pub(super) fn told(document: &Value) -> Option<Self> {
        let request = document.get("requests")?.as_array()?.last()?;
        let hops: Vec<Hop> = request.get("hops")?.as_array()?.iter().map(told).collect();
        let complete = request.get("complete").and_then(Value::as_bool).unwrap_or(false);
        let trace = document.get("trace").and_then(Value::as_str).map(str::to_owned);
        Some(Self { hops, complete, trace })
    }

    /// The hops as JSON.
    pub(super) fn json(&self) -> Value {
        let one = |hop: &Hop| {
            json!({
                "depth": hop.depth, "service": hop.service, "target": hop.target, "reason": hop.reason,
                "generation": hop.generation, "endpoint": hop.endpoint,
                "startMs": hop.start_ms, "durationMs": hop.duration_ms,
            })
        };
        self.hops.iter().map(one).collect()
    }

    /// The hops as a tree, a line each: place, time, reason, endpoint.
    pub(super) fn tree(&self, style: Style) -> String {
        let name = |hop: &Hop| format!("{}{}@{}", "  ".repeat(hop.depth), hop.service, hop.target);
        let width = self.hops.iter().map(|hop| name(hop).chars().count()).max().unwrap_or(0);
        let mut page = String::new();
        for hop in &self.hops {
            let name = format!("{:<width$}", name(hop));
            let name = if hop.target == "baseline" { name } else { style.good(&name) };
            let time = hop.duration_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
            let reason = hop.reason.as_deref().unwrap_or("");
            let endpoint = hop.endpoint.as_deref().unwrap_or("");
            let line = format!("  {name}  {time:>10}  {reason:<15}  {}", style.dim(endpoint));
            let _ = writeln!(page, "{}", line.trim_end());
        }
        page
    }
}

/// The items of a list field.
fn items<'a>(fields: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = fields.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// Name, description and duration of a metric.
fn metric(item: &str) -> Option<(String, String, Option<f64>)> {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next()?.to_owned();
    let (mut desc, mut duration) = (String::new(), None);
    for part in parts {
        match part.split_once('=') {
            Some(("desc", text)) => desc = text.trim_matches('"').to_owned(),
            Some(("dur", text)) => duration = text.parse().ok(),
            _ => {}
        }
    }
    Some((name, desc, duration))
}

/// An entry of the receipt: `checkout@42;reason=fork;gen=17`.
fn read(entry: &str) -> Hop {
    let mut parts = entry.split(';');
    let place = parts.next().unwrap_or_default();
    let (service, target) = place.rsplit_once('@').unwrap_or((place, ""));
    let mut hop = Hop { service: service.to_owned(), target: target.to_owned(), ..Hop::default() };
    for part in parts {
        match part.split_once('=') {
            Some(("reason", text)) => hop.reason = Some(text.to_owned()),
            Some(("gen", text)) => hop.generation = text.parse().ok(),
            _ => {}
        }
    }
    hop
}

fn told(hop: &Value) -> Hop {
    let text = |name: &str| hop.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| hop.get(name).and_then(Value::as_f64);
    Hop {
        depth: hop.get("depth").and_then(Value::as_u64).and_then(|depth| depth.try_into().ok()).unwrap_or(0),
        service: text("service").unwrap_or_default(),
        target: text("target").unwrap_or_default(),
        reason: text("reason"),
        generation: hop.get("generation").and_then(Value::as_u64),
        endpoint: text("endpoint"),
        start_ms: number("startMs"),
        duration_ms: number("durationMs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line =
            |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
        lines.iter().map(line).collect()
    }

    fn shown(chain: &Chain) -> Vec<String> {
        let one = |hop: &Hop| {
            format!("{}{}@{} {:?}", ".".repeat(hop.depth), hop.service, hop.target, hop.duration_ms)
        };
        chain.hops.iter().map(one).collect()
    }

    #[test]
    fn the_tree_is_in_the_names_of_the_metrics() {
        let chain = Chain::of(&fields(&[
            ("x-pr-route", "a@baseline;reason=no_fork;gen=1, b@42;reason=fork;gen=2, c@baseline, b@42"),
            ("server-timing", "db;dur=53"),
            (
                "server-timing",
                "pr-1;desc=\"a@baseline\";dur=9.5, pr-1-1;desc=\"b@42\";dur=8, pr-1-1-1;desc=\"c@baseline\", \
                 pr-1-2;desc=\"b@42\";dur=1, pr-trace;desc=\"0af7\"",
            ),
        ]));
        let expected = ["a@baseline Some(9.5)", ".b@42 Some(8.0)", "..c@baseline None", ".b@42 Some(1.0)"];
        assert_eq!(shown(&chain), expected);
        assert_eq!((chain.trace.as_deref(), chain.complete), (Some("0af7"), true));
        assert_eq!((chain.hops[1].reason.as_deref(), chain.hops[1].generation), (Some("fork"), Some(2)));
    }

    #[test]
    fn what_is_missing_is_known_to_be() {
        let chain = Chain::of(&fields(&[("x-pr-route", "a@1;gen=x, b@1, ..."), ("server-timing", "x;y;z")]));
        assert_eq!(
            (shown(&chain), chain.complete),
            (vec!["a@1 None".to_owned(), ".b@1 None".to_owned()], false)
        );
        assert_eq!(Chain::of(&HeaderMap::new()), Chain { complete: true, ..Chain::default() });
        assert_eq!(Chain::told(&json!({"requests": []})), None);
    }
}
