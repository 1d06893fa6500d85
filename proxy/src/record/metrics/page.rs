//! From the cells to the text that a scrape reads.
//!
//! The library's own label vectors are not used: they tell series apart by a hash over the labels put end to end, so
//! that `{service="api", preview="12"}` and `{service="api1", preview="2"}` become one. Only its plain structs and
//! its text encoder are.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::service::{BOUNDS, PreviewStats, ServiceStats, SideTotals};
use super::{Inside, Metrics, WorkerStats, status};
use crate::context::edges::OTHER;
use crate::decision::Side;
use crate::error::Code;
use crate::limit::Limit;
use crate::record::standing::Moved;

type Labels<'a> = &'a [(&'a str, &'a str)];

/// The whole page. Names of services are unique, and so are keys of previews: the table sees to both.
pub(super) fn encode<'a>(
    metrics: &'a Metrics,
    services: impl Iterator<Item = &'a ServiceStats>,
    previews: impl Iterator<Item = (&'a str, &'a PreviewStats)>,
    inside: Inside<'_>,
) -> String {
    let mut page = Page::default();
    let services: Vec<_> = std::iter::once(&metrics.unrouted).chain(services).collect();
    page.context(&services, inside);
    page.services(services.into_iter());
    page.previews(previews);
    page.workers(metrics);
    page.limits(metrics);
    page.process(metrics);
    // The encoder fails on a family without series, and `Page::add` lets none in.
    TextEncoder::new().encode_to_string(&page.families).unwrap_or_default()
}

#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn add(&mut self, kind: MetricType, name: &str, help: &str, series: Vec<Metric>) {
        if series.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("sidetrack_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(series);
        self.families.push(family);
    }

    fn counter(&mut self, name: &str, help: &str, series: Vec<Metric>) {
        self.add(MetricType::COUNTER, name, help, series);
    }

    fn gauge(&mut self, name: &str, help: &str, series: Vec<Metric>) {
        self.add(MetricType::GAUGE, name, help, series);
    }

    fn services<'a>(&mut self, services: impl Iterator<Item = &'a ServiceStats>) {
        let (mut requests, mut durations) = (Vec::new(), Vec::new());
        let (mut request_bytes, mut response_bytes) = (Vec::new(), Vec::new());
        for (service, side) in services.flat_map(|service| Side::ALL.map(|side| (service, side))) {
            let Some(totals) = service.read(side) else { continue };
            let labels = [("service", service.name()), ("target", side.as_str())];
            let [name, target] = labels;
            for (reason, slot, count) in totals.kinds() {
                let code = status::label(slot);
                let reason = reason.map_or("none", |reason| reason.as_str());
                requests.push(counter(&[name, target, ("code", &code), ("reason", reason)], count));
            }
            durations.push(histogram(&labels, &totals));
            request_bytes.push(counter(&labels, totals.request_bytes));
            response_bytes.push(counter(&labels, totals.response_bytes));
        }
        self.counter("requests_total", "Finished requests, by what answered, how and why.", requests);
        let help = "Time from the first byte of a request head to the last byte of the answer.";
        self.add(MetricType::HISTOGRAM, "request_duration_seconds", help, durations);
        self.counter("request_bytes_total", "Bytes of request bodies.", request_bytes);
        self.counter("response_bytes_total", "Bytes of response bodies.", response_bytes);
    }

    fn context(&mut self, services: &[&ServiceStats], inside: Inside<'_>) {
        let (mut repaired, mut lost, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (service, edge) in services.iter().filter_map(|service| Some((service, service.edge()?))) {
            let callee = if service.name().is_empty() { OTHER } else { service.name() };
            repaired.push(counter(&[("service", callee)], edge.repaired));
            if edge.kept + edge.lost == 0 {
                continue;
            }
            let labels = [("service", inside.caller), ("callee", callee)];
            lost.push(counter(&labels, edge.lost));
            kept.push(counter(&labels, edge.kept));
        }
        let help = "Calls to this service whose key an id gave back.";
        self.counter("context_repaired_total", help, repaired);
        let help = "Calls that belong to a request with a key and came without a carrier of it.";
        self.counter("context_lost_total", help, lost);
        let help = "Calls that came with a carrier of a key.";
        self.counter("context_kept_total", help, kept);
        let Some(memory) = inside.memory else { return };
        let help = "Ids that came in with more than one list of keys, or with and without one.";
        self.counter("context_ambiguous_total", help, vec![counter(&[], memory.ambiguous.get())]);
        let help = "Ids that were not remembered, since there were too many (context.rememberEntries).";
        self.counter("context_full_total", help, vec![counter(&[], memory.full.get())]);
        let help = "Ids that are remembered with what came in with them.";
        self.gauge("context_entries", help, vec![gauge(&[], memory.len() as f64)]);
    }

    fn previews<'a>(&mut self, previews: impl Iterator<Item = (&'a str, &'a PreviewStats)>) {
        let (mut requests, mut errors) = (Vec::new(), Vec::new());
        for (preview, stats) in previews {
            let key = ("preview", preview);
            let met = Side::ALL.map(|side| (side, stats.requests(side)));
            requests.extend(
                met.into_iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(side, count)| counter(&[key, ("target", side.as_str())], count)),
            );
            errors.push(counter(&[key], stats.errors()));
        }
        self.counter("preview_requests_total", "Finished requests that named this preview.", requests);
        let help = "Requests that named this preview and that the proxy answered with an error of its own.";
        self.counter("preview_errors_total", help, errors);
    }

    fn workers(&mut self, metrics: &Metrics) {
        let count = |read: fn(&WorkerStats) -> u64| metrics.workers.iter().map(|worker| read(worker)).sum();
        let now =
            |read: fn(&WorkerStats) -> i64| metrics.workers.iter().map(|worker| read(worker)).sum::<i64>();
        let one = |value| vec![gauge(&[], value as f64)];
        self.gauge("connections", "Open client connections.", one(now(|w| w.connections.get())));
        self.gauge("requests_in_flight", "Requests under way.", one(now(|w| w.requests_in_flight.get())));
        let upstreams = now(|w| w.upstream_connections.get());
        self.gauge("upstream_connections", "Open connections to endpoints.", one(upstreams));
        let handshakes = vec![
            counter(&[("code", "ok")], count(|w| w.tls_ok.get())),
            counter(&[("code", "failed")], count(|w| w.tls_failed.get())),
        ];
        self.counter("tls_handshakes_total", "TLS handshakes with clients, by how they ended.", handshakes);
        let cut = vec![counter(&[], count(|w| w.cut_carriers.get()))];
        self.counter(
            "carriers_cut_total",
            "Requests whose header fields named previews and whose client may not.",
            cut,
        );
        let stripped = vec![counter(&[], count(|w| w.egress_stripped.get()))];
        let help = "Calls that left the estate with carriers of keys, which were taken out.";
        self.counter("egress_stripped_total", help, stripped);
        let stamped = vec![counter(&[], count(|w| w.stamped.get()))];
        self.counter("stamped_total", "Calls of a fork that named no preview, and got its key.", stamped);
        let opaque = vec![counter(&[], count(|w| w.opaque_connections.get()))];
        self.counter("opaque_connections_total", "Connections whose bytes passed as they were.", opaque);
        let retries = vec![counter(&[], count(|w| w.retries.get()))];
        self.counter("retries_total", "Times that a request was sent to an endpoint once more.", retries);
        let errors = Code::ALL.map(|code| {
            let count = metrics.workers.iter().map(|worker| worker.errors(code)).sum();
            counter(&[("code", code.as_str())], count)
        });
        self.counter("errors_total", "Errors that the proxy answered by itself, by code.", errors.into());
        let moved = Moved::ALL.map(|moved| {
            let count = metrics.workers.iter().map(|worker| worker.moved_so_far(moved)).sum();
            counter(&[("kind", moved.as_str())], count)
        });
        let help = "What was closed, told to go or put on a drain, since it would get another target now.";
        self.counter("decision_drains_total", help, moved.into());
    }

    fn limits(&mut self, metrics: &Metrics) {
        let limits = Limit::ALL.map(|limit| {
            let count = metrics.workers.iter().map(|worker| worker.limits(limit)).sum();
            counter(&[("reason", limit.as_str())], count)
        });
        let help = "Times that something was refused or ended because a limit was reached, by its setting.";
        self.counter("limits_reached_total", help, limits.into());
    }

    fn process(&mut self, metrics: &Metrics) {
        let process = &metrics.process;
        let dropped = vec![counter(&[], metrics.log_dropped.get())];
        self.counter("log_dropped_total", "Lines of the access log that were not written.", dropped);
        let receipts = vec![
            counter(&[("code", "ok")], metrics.receipts_taken.get()),
            counter(&[("code", "refused")], metrics.receipts_refused.get()),
        ];
        self.counter(
            "receipts_total",
            "Receipts that hops inside reported, by what became of them.",
            receipts,
        );
        let reloads = vec![
            counter(&[("code", "ok")], process.reloads_ok.get()),
            counter(&[("code", "failed")], process.reloads_failed.get()),
        ];
        self.counter("config_reloads_total", "Times that the configuration was read again.", reloads);
        let table = process.table();
        // Exact up to 2^53, as every value of this text format is.
        for (name, help, value) in [
            ("generation", "Generation of the table in force.", table.generation as f64),
            ("table_services", "Services in the table.", table.services as f64),
            ("table_previews", "Previews in the table.", table.previews as f64),
            ("table_forks", "Forks in the table.", table.forks as f64),
            ("config_last_reload_ok", "1 if the last reload was good, else 0.", f64::from(process.last_ok())),
        ] {
            self.gauge(name, help, vec![gauge(&[], value)]);
        }
        if let Some(contact) = metrics.contact() {
            let age = contact.last.elapsed().as_secs_f64();
            for (name, help, value) in [
                (
                    "controller_connected",
                    "1 if the controller's stream is open, else 0.",
                    f64::from(contact.connected),
                ),
                (
                    "controller_last_contact_seconds",
                    "Time since the controller was heard, or since the start.",
                    age,
                ),
                ("controller_version", "Version of the controller's table in force.", contact.version as f64),
                (
                    "controller_version_refused",
                    "1 if the newest version that was heard was refused, else 0.",
                    f64::from(contact.refused),
                ),
            ] {
                self.gauge(name, help, vec![gauge(&[], value)]);
            }
        }
        let version = ("version", env!("CARGO_PKG_VERSION"));
        self.gauge("build_info", "The version that is running; always 1.", vec![gauge(&[version], 1.0)]);
    }
}

fn metric(labels: Labels<'_>) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn counter(labels: Labels<'_>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = metric(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = metric(labels);
    metric.set_gauge(gauge);
    metric
}

/// The count is the sum of the buckets that were read, so that it agrees with them while workers go on counting.
fn histogram(labels: Labels<'_>, totals: &SideTotals) -> Metric {
    let mut count = 0;
    let bounds = BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
    let cumulative = bounds.zip(totals.buckets).map(|(bound, met)| {
        count += met;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    // The encoder writes the bucket of infinity by itself, as `+Inf`.
    histogram.set_bucket(cumulative.take(BOUNDS.len()).collect());
    histogram.set_sample_count(totals.buckets.iter().sum());
    histogram.set_sample_sum(totals.micros as f64 / 1e6);
    let mut metric = metric(labels);
    metric.set_histogram(histogram);
    metric
}
