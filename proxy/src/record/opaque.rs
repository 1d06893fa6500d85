//! The record of a connection whose bytes passed as they were: one line in the log.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use sidetrack_config::Key;

use super::access_log::{AccessLog, Entry, RawTexts, Texts};
use crate::decision::{Keys, Side};
use crate::error::Code;
use crate::forward::relay::{Ended, Passed};
use crate::worker::Worker;

/// What is known of it when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Opaque<'a> {
    /// Who opened it.
    pub client: IpAddr,
    /// The service that it is for; empty: none.
    pub service: &'a str,
    /// Where it was meant to go, where the system redirected it.
    pub meant: Option<SocketAddr>,
    /// Which side it goes to.
    pub side: Side,
    /// The preview of that side.
    pub preview: Option<Key>,
    /// The generation of the table that was asked.
    pub generation: u64,
    /// Where it goes; `None`: nobody took it.
    pub endpoint: Option<SocketAddr>,
}

/// A line that is written at its end.
pub struct Line<'a> {
    opaque: Opaque<'a>,
    log: Option<&'a AccessLog>,
    connection: u64,
    time: SystemTime,
    started: Instant,
}

impl<'a> Opaque<'a> {
    /// Begins its record.
    pub fn begin(self, worker: &'a Worker) -> Line<'a> {
        let connection = worker.next_connection();
        let (time, started) = (SystemTime::now(), Instant::now());
        if self.endpoint.is_none() {
            worker.stats.error(Code::UpstreamUnavailable);
        }
        Line { opaque: self, log: worker.shared.log.as_ref(), connection, time, started }
    }
}

impl Line<'_> {
    /// Writes it.
    pub fn end(self, passed: &Passed, ended: Ended) {
        let Some(log) = self.log else { return };
        let Opaque { client, service, meant, side, preview, generation, endpoint } = self.opaque;
        let host = meant.map(|address| address.to_string()).unwrap_or_default();
        let is_reached = endpoint.is_some();
        log.log(Entry {
            time: self.time,
            texts: Texts::new(&RawTexts {
                host: host.as_bytes(),
                service: service.as_bytes(),
                ..RawTexts::default()
            }),
            client,
            connection: self.connection,
            protocol: "TCP",
            scheme: "tcp",
            method: None,
            keys: Keys::new(),
            carrier: None,
            target: if is_reached { side } else { Side::None },
            reason: None,
            preview,
            generation,
            endpoint,
            retries: 0,
            status: if is_reached { 200 } else { 503 },
            error: (!is_reached).then_some(Code::UpstreamUnavailable),
            request_bytes: passed.sent.get(),
            response_bytes: passed.received.get(),
            duration: self.started.elapsed(),
            upstream: None,
            aborted: ended == Ended::Cut,
        });
    }
}
