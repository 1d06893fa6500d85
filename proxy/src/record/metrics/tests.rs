//! The page as a scraper sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::service::BOUNDS;
use super::*;
use crate::decision::{Reason, Side};

/// One series: its name and its labels, sorted.
type Series = (String, Vec<(String, String)>);

fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let mut labels: Vec<_> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    labels.sort();
    (name.to_owned(), labels)
}

/// Reads a page and refuses all that a scraper would, or that the contract does not allow.
fn parse(page: &str) -> BTreeMap<Series, f64> {
    assert!(page.ends_with('\n'));
    let (mut values, mut families, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut current = String::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect(line);
            assert!(text.ends_with('.') && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert!(helped.contains(name) && name.starts_with("sidetrack_"), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned(), kind).is_none(), "{line}: twice");
            current = name.to_owned();
        } else {
            let (one, value) = parse_sample(line);
            let suffixes: &[_] = match families[&current] {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(
                suffixes.iter().any(|suffix| one.0 == format!("{current}{suffix}")),
                "{line}: not in {current}"
            );
            assert!(values.insert(one, value).is_none(), "{line}: twice");
        }
    }
    values
}

fn parse_sample(line: &str) -> (Series, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !label.is_empty(),
                "{line}"
            );
            let (value, after) = parse_value(after, line);
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    labels.sort();
    assert!(labels.windows(2).all(|pair| pair[0].0 != pair[1].0), "{line}: a label twice");
    let value = rest.strip_prefix(' ').expect(line);
    ((name.to_owned(), labels), value.parse().expect(line))
}

/// Reads up to the closing quote.
fn parse_value<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                other => panic!("{line}: {other:?} after a backslash"),
            }),
            plain => value.push(plain),
        }
    }
    panic!("{line}: no closing quote");
}

fn page<'a>(metrics: &'a Metrics, services: &'a [ServiceStats]) -> BTreeMap<Series, f64> {
    parse(&metrics.encode(services.iter(), std::iter::empty(), Inside::default()))
}

const SAMPLE: Sample = Sample {
    side: Side::Baseline,
    reason: Some(Reason::NoKey),
    status: 200,
    duration: Duration::from_millis(3),
    request_bytes: 10,
    response_bytes: 100,
};

#[test]
fn an_idle_proxy_has_every_family_that_does_not_depend_on_traffic() {
    let metrics = Metrics::new(2);
    metrics.set_table(TableSize { generation: 7, services: 3, previews: 2, forks: 1 });
    let page = page(&metrics, &[ServiceStats::new("shop", 2)]);
    for (name, value) in [
        ("connections", 0.0),
        ("requests_in_flight", 0.0),
        ("upstream_connections", 0.0),
        ("carriers_cut_total", 0.0),
        ("retries_total", 0.0),
        ("log_dropped_total", 0.0),
        ("generation", 7.0),
        ("table_services", 3.0),
        ("table_previews", 2.0),
        ("table_forks", 1.0),
        ("config_last_reload_ok", 1.0),
    ] {
        assert_eq!(page[&series(&format!("sidetrack_{name}"), &[])], value, "{name}");
    }
    for code in Code::ALL {
        assert_eq!(page[&series("sidetrack_errors_total", &[("code", code.as_str())])], 0.0);
    }
    for kind in ["websocket", "http2", "stream"] {
        assert_eq!(page[&series("sidetrack_decision_drains_total", &[("kind", kind)])], 0.0);
    }
    assert_eq!(page[&series("sidetrack_build_info", &[("version", env!("CARGO_PKG_VERSION"))])], 1.0);
    assert!(!page.keys().any(|(name, _)| name.contains("request_") || name.contains("requests_total")));
}

#[test]
fn labels_that_are_equal_when_put_end_to_end_stay_apart() {
    let metrics = Metrics::new(1);
    let services = ["api", "api1"].map(|name| ServiceStats::new(name, 1));
    let previews = [PreviewStats::default(), PreviewStats::default()];
    services[0].record(0, &SAMPLE);
    (0..2).for_each(|_| services[1].record(0, &SAMPLE));
    previews[0].record(Side::Fork);
    (0..3).for_each(|_| previews[1].record(Side::Fork));
    previews[1].error();
    let page =
        parse(&metrics.encode(services.iter(), ["12", "2"].into_iter().zip(&previews), Inside::default()));
    let sent =
        |service| series("sidetrack_response_bytes_total", &[("service", service), ("target", "baseline")]);
    assert_eq!((page[&sent("api")], page[&sent("api1")]), (100.0, 200.0));
    let named = |key| series("sidetrack_preview_requests_total", &[("preview", key), ("target", "fork")]);
    assert_eq!((page[&named("12")], page[&named("2")]), (1.0, 3.0));
    let failed = |key| series("sidetrack_preview_errors_total", &[("preview", key)]);
    assert_eq!((page[&failed("12")], page[&failed("2")]), (0.0, 1.0));
    assert_eq!(page.keys().filter(|(name, _)| name == "sidetrack_requests_total").count(), 2);
}

#[test]
fn a_scrape_adds_up_what_real_threads_counted() {
    const WORKERS: usize = 4;
    const EACH: usize = 5_000;
    let metrics = Metrics::new(WORKERS);
    let services = [ServiceStats::new("shop", WORKERS)];
    std::thread::scope(|scope| {
        // One thread more than workers: what a stranger counts is kept too.
        for worker in 0..=WORKERS {
            let (metrics, service) = (&metrics, &services[0]);
            scope.spawn(move || {
                let stats = metrics.worker(worker);
                for round in 0..EACH {
                    let _held = stats.requests_in_flight.hold();
                    service
                        .record(worker, &Sample { status: if round % 5 == 0 { 404 } else { 200 }, ..SAMPLE });
                    metrics.unrouted().record(worker, &Sample { side: Side::None, reason: None, ..SAMPLE });
                    stats.error(Code::NoRoute);
                    stats.retries.inc();
                    stats.tls_handshake(round % 2 == 0);
                }
                stats.connections.inc();
            });
        }
        // Scrapes while they count must parse as well, and agree with themselves.
        for _ in 0..20 {
            buckets(&page(&metrics, &services), "shop");
        }
    });
    let page = page(&metrics, &services);
    let total = (EACH * (WORKERS + 1)) as f64;
    let value = |name: &str, labels: &[_]| page[&series(&format!("sidetrack_{name}"), labels)];
    let requests = |service, target, code, reason| {
        value(
            "requests_total",
            &[("service", service), ("target", target), ("code", code), ("reason", reason)],
        )
    };
    assert_eq!(requests("shop", "baseline", "200", "no_key"), total * 0.8);
    assert_eq!(requests("shop", "baseline", "404", "no_key"), total * 0.2);
    assert_eq!(requests("", "none", "200", "none"), total);
    assert_eq!(value("errors_total", &[("code", "no_route")]), total);
    assert_eq!(value("retries_total", &[]), total);
    assert_eq!(value("tls_handshakes_total", &[("code", "ok")]), total / 2.0);
    assert_eq!(value("tls_handshakes_total", &[("code", "failed")]), total / 2.0);
    assert_eq!(value("connections", &[]), (WORKERS + 1) as f64);
    assert_eq!(value("requests_in_flight", &[]), 0.0);
    let sides = [("service", "shop"), ("target", "baseline")];
    assert_eq!(value("request_bytes_total", &sides), total * 10.0);
    assert_eq!(value("response_bytes_total", &sides), total * 100.0);
    assert!((value("request_duration_seconds_sum", &sides) - total * 0.003).abs() < 1e-6);
}

/// The buckets of a service's baseline, checked to be cumulative and complete, by bound; empty where there are none.
fn buckets(page: &BTreeMap<Series, f64>, service: &str) -> BTreeMap<String, f64> {
    let bounds: Vec<_> =
        BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).chain(["+Inf".into()]).collect();
    let labels = [("service", service), ("target", "baseline")];
    let Some(count) = page.get(&series("sidetrack_request_duration_seconds_count", &labels)) else {
        return BTreeMap::new();
    };
    let read = |bound: &String| {
        let labels = [("service", service), ("target", "baseline"), ("le", bound)];
        page[&series("sidetrack_request_duration_seconds_bucket", &labels)]
    };
    let values: Vec<_> = bounds.iter().map(read).collect();
    assert!(values.is_sorted(), "{values:?}");
    assert_eq!(values.last(), Some(count));
    bounds.into_iter().zip(values).collect()
}

#[test]
fn a_duration_counts_in_every_bucket_that_it_is_not_over() {
    let metrics = Metrics::new(1);
    let services = [ServiceStats::new("shop", 1)];
    for micros in [0, 500, 501, 1_000, 60_000_000, 60_000_001] {
        services[0].record(0, &Sample { duration: Duration::from_micros(micros), ..SAMPLE });
    }
    let buckets = buckets(&page(&metrics, &services), "shop");
    for (bound, expected) in [("0.0005", 2.0), ("0.001", 4.0), ("15", 4.0), ("60", 5.0), ("+Inf", 6.0)] {
        assert_eq!(buckets[bound], expected, "{bound}: {buckets:?}");
    }
}

#[test]
fn made_up_status_codes_share_the_slots_of_their_classes() {
    let metrics = Metrics::new(1);
    let services = [ServiceStats::new("shop", 1)];
    for status in 100..1_000 {
        services[0].record(0, &Sample { status, ..SAMPLE });
    }
    services[0].record(0, &Sample { status: 0, ..SAMPLE });
    let page = page(&metrics, &services);
    let codes: BTreeMap<_, _> = page
        .iter()
        .filter(|((name, _), _)| name == "sidetrack_requests_total")
        .map(|((_, labels), value)| {
            (labels.iter().find(|(name, _)| name == "code").unwrap().1.as_str(), *value)
        })
        .collect();
    assert!(codes.len() <= status::SLOTS, "{codes:?}");
    assert_eq!(codes.values().sum::<f64>(), 901.0);
    assert_eq!((codes["200"], codes["499"], codes["other"]), (1.0, 2.0, 400.0));
    // 510 is the only one of 5xx besides those that are in the table by name.
    assert_eq!(
        codes["5xx"],
        100.0 - codes.keys().filter(|c| c.starts_with('5') && **c != "5xx").count() as f64
    );
}

#[test]
fn hostile_names_cannot_break_a_line() {
    let metrics = Metrics::new(1);
    let name = "a\"} 1\nsidetrack_generation 9\\";
    let services = [ServiceStats::new(name, 1)];
    services[0].record(0, &SAMPLE);
    let page = page(&metrics, &services);
    assert_eq!(
        page[&series("sidetrack_request_bytes_total", &[("service", name), ("target", "baseline")])],
        10.0
    );
    assert_eq!(page[&series("sidetrack_generation", &[])], 0.0);
}

#[test]
fn a_reload_is_counted_and_the_last_one_shows() {
    let metrics = Metrics::new(1);
    metrics.reloaded(true);
    metrics.reloaded(false);
    let bad = page(&metrics, &[]);
    assert_eq!(bad[&series("sidetrack_config_last_reload_ok", &[])], 0.0);
    metrics.reloaded(true);
    let good = page(&metrics, &[]);
    assert_eq!(good[&series("sidetrack_config_last_reload_ok", &[])], 1.0);
    assert_eq!(good[&series("sidetrack_config_reloads_total", &[("code", "ok")])], 2.0);
    assert_eq!(good[&series("sidetrack_config_reloads_total", &[("code", "failed")])], 1.0);
}
