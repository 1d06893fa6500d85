//! What the server counts.

use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::publish::Publisher;

/// The counters of one server.
#[derive(Debug)]
pub(super) struct Counters {
    refused: IntCounterVec,
    /// Bytes that streams were given.
    pub(super) stream_bytes: IntCounter,
    /// Streams that were cut because nobody read them.
    pub(super) slow_streams: IntCounter,
    /// Versions that a proxy refused.
    pub(super) rejections: IntCounter,
}

impl Counters {
    /// Registers them.
    pub(super) fn new(registry: &Registry, publisher: &Arc<Publisher>) -> Result<Self, prometheus::Error> {
        let refused = Opts::new(
            "sidetrack_controller_refused_total",
            "Requests and connections refused: for no good token (401), for a token that may not (403), for want of \
             room (proxies, connections, bodies, reviews).",
        );
        let counters = Self {
            refused: IntCounterVec::new(refused, &["why"])?,
            stream_bytes: IntCounter::new(
                "sidetrack_controller_stream_bytes_total",
                "Bytes of the table given to the streams of proxies.",
            )?,
            slow_streams: IntCounter::new(
                "sidetrack_controller_slow_streams_total",
                "Streams cut because their proxy did not read.",
            )?,
            rejections: IntCounter::new(
                "sidetrack_controller_table_rejections_total",
                "Reports of a proxy that it refused a version of the table.",
            )?,
        };
        registry.register(Box::new(counters.refused.clone()))?;
        registry.register(Box::new(counters.stream_bytes.clone()))?;
        registry.register(Box::new(counters.slow_streams.clone()))?;
        registry.register(Box::new(counters.rejections.clone()))?;
        registry.register(Box::new(Now::new(publisher)?))?;
        Ok(counters)
    }

    /// Counts a refusal; `why` is from a closed set.
    pub(super) fn refused(&self, why: &'static str) {
        self.refused.with_label_values(&[why]).inc();
    }
}

/// What is read when somebody looks.
struct Now {
    publisher: Weak<Publisher>,
    version: IntGauge,
    items: IntGauge,
    proxies: IntGauge,
}

impl Now {
    fn new(publisher: &Arc<Publisher>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            publisher: Arc::downgrade(publisher),
            version: IntGauge::new("sidetrack_controller_table_version", "The newest version of the table.")?,
            items: IntGauge::new("sidetrack_controller_table_items", "Items in the table.")?,
            proxies: IntGauge::new("sidetrack_controller_proxies", "Proxies that follow this replica.")?,
        })
    }
}

impl Collector for Now {
    fn desc(&self) -> Vec<&Desc> {
        [self.version.desc(), self.items.desc(), self.proxies.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(publisher) = self.publisher.upgrade() {
            if let Some(table) = publisher.table() {
                self.version.set(i64::try_from(table.version()).unwrap_or(i64::MAX));
                self.items.set(i64::try_from(table.len()).unwrap_or(i64::MAX));
            }
            self.proxies.set(i64::try_from(publisher.acks().connected()).unwrap_or(i64::MAX));
        }
        [self.version.collect(), self.items.collect(), self.proxies.collect()].concat()
    }
}
