//! Limits and time-outs: what was written in range, the default for the rest.

use super::grammar;
use super::report::Report;
use crate::document;
use crate::document::text::{Duration, Size};
use crate::limits::Limits;
use crate::source_map::At;

/// The biggest HTTP/2 flow-control window, RFC 9113 section 6.9.1.
const MAX_WINDOW: u64 = (1 << 31) - 1;

/// The smallest window of a connection: no setting can make it smaller, RFC 9113 section 6.9.2.
const MIN_CONNECTION_WINDOW: u64 = 65_535;

/// The longest request target that the HTTP library holds.
const MAX_URI: u64 = 65_534;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

pub(super) fn limits(written: &document::Limits, report: &mut Report<'_>) -> Limits {
    let root = At::ROOT;
    let mut reader = Reader { at: root.key("limits"), report };
    let r = &mut reader;
    let d = Limits::default();
    Limits {
        drain_timeout: r.time("drainTimeout", &written.drain_timeout, d.drain_timeout),
        decision_drain: r.time("decisionDrain", &written.decision_drain, d.decision_drain),
        hold_timeout: r.time("holdTimeout", &written.hold_timeout, d.hold_timeout),
        hold_requests: count(written.hold_requests, d.hold_requests),
        hold_bytes: r.size("holdBytes", &written.hold_bytes, (0, TIB), d.hold_bytes),
        max_connections: count(written.max_connections, d.max_connections),
        max_connections_per_client: count(written.max_connections_per_client, d.max_connections_per_client),
        max_in_flight: count(written.max_in_flight, d.max_in_flight),
        max_memory: r.size("maxMemory", &written.max_memory, (0, KIB * TIB), d.max_memory),
        header_bytes: r.size("headerBytes", &written.header_bytes, (KIB, 16 * MIB), d.header_bytes),
        header_count: count(written.header_count, d.header_count),
        uri_bytes: r.size("uriBytes", &written.uri_bytes, (256, MAX_URI), d.uri_bytes),
        header_timeout: r.time("headerTimeout", &written.header_timeout, d.header_timeout),
        body_bytes: r.size("bodyBytes", &written.body_bytes, (0, KIB * TIB), d.body_bytes),
        body_timeout: r.time("bodyTimeout", &written.body_timeout, d.body_timeout),
        chunk_extension_bytes: r.size(
            "chunkExtensionBytes",
            &written.chunk_extension_bytes,
            (0, MIB),
            d.chunk_extension_bytes,
        ),
        trailer_bytes: r.size("trailerBytes", &written.trailer_bytes, (0, MIB), d.trailer_bytes),
        stream_idle_timeout: r.time("streamIdleTimeout", &written.stream_idle_timeout, d.stream_idle_timeout),
        handshake_timeout: r.time("handshakeTimeout", &written.handshake_timeout, d.handshake_timeout),
        client_idle_timeout: r.time("clientIdleTimeout", &written.client_idle_timeout, d.client_idle_timeout),
        upstream_idle_timeout: r.time(
            "upstreamIdleTimeout",
            &written.upstream_idle_timeout,
            d.upstream_idle_timeout,
        ),
        upstream_idle_connections: count(written.upstream_idle_connections, d.upstream_idle_connections),
        http2_streams: written.http2_streams.unwrap_or(d.http2_streams),
        http2_stream_window: r.size(
            "http2StreamWindow",
            &written.http2_stream_window,
            (KIB, MAX_WINDOW),
            d.http2_stream_window,
        ),
        http2_connection_window: r.size(
            "http2ConnectionWindow",
            &written.http2_connection_window,
            (MIN_CONNECTION_WINDOW, MAX_WINDOW),
            d.http2_connection_window,
        ),
        http2_resets: written.http2_resets.unwrap_or(d.http2_resets),
        http2_control_frames: written.http2_control_frames.unwrap_or(d.http2_control_frames),
        connection_buffer: r.size(
            "connectionBuffer",
            &written.connection_buffer,
            (KIB, KIB * MIB),
            d.connection_buffer,
        ),
    }
}

/// Ranges of counts are in the schema.
fn count(written: Option<u32>, default: usize) -> usize {
    written.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
}

struct Reader<'r, 'a> {
    at: At<'r>,
    report: &'r mut Report<'a>,
}

impl Reader<'_, '_> {
    fn time(
        &mut self,
        key: &str,
        written: &Option<Duration>,
        default: std::time::Duration,
    ) -> std::time::Duration {
        let text = written.as_ref();
        text.and_then(|text| self.report.read(&self.at.key(key), text, grammar::duration)).unwrap_or(default)
    }

    fn size<T: TryFrom<u64>>(
        &mut self,
        key: &str,
        written: &Option<Size>,
        (min, max): (u64, u64),
        default: T,
    ) -> T {
        let in_range = |text: &str| match grammar::size(text)? {
            size if size < min => Err(format!("is less than {min} bytes")),
            size if size > max => Err(format!("is more than {max} bytes")),
            size => T::try_from(size).map_err(|_| "is more than this machine can count".to_owned()),
        };
        let text = written.as_ref();
        text.and_then(|text| self.report.read(&self.at.key(key), text, in_range)).unwrap_or(default)
    }
}
