//! Whether what was decided of an exchange that goes on for long still stands: the same question, asked of the table that
//! is in force by now. Pure, but for what is remembered from the first time.

use std::net::SocketAddr;
use std::sync::Arc;

use sidetrack_config::Key;

use crate::decision::{Keys, Target};
use crate::identify::Identity;
use crate::pick;
use crate::route::table::{Behind, Endpoint, Service, Table};

/// What is drained when its decision no longer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A tunnel is closed.
    WebSocket,
    /// A connection of HTTP/2 is told to go.
    Http2,
    /// An answer that goes on gets an end.
    Stream,
}

impl Moved {
    /// Every kind, in the order of the index that [`Moved::index`] gives.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Http2, Self::Stream];

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Http2 => "http2",
            Self::Stream => "stream",
        }
    }

    /// Position in [`Moved::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// An exchange and what answers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    /// What was read from the request.
    pub(super) identity: &'a Identity,
    /// The service that it is for.
    pub(super) service: &'a str,
    /// The preview whose fork answers; `None`: the baseline does.
    pub(super) preview: Option<Key>,
    /// The endpoint that does.
    pub(super) endpoint: SocketAddr,
    /// Whether what stands for the baseline is where the connection was meant to go, whatever the table says.
    pub(super) is_meant: bool,
}

/// What the table that decided has said of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The preview whose fork it named. Where that was down, or everything goes to one place, it does not answer.
    asked: Option<Key>,
    /// Whether the endpoint is one that can leave the target.
    listed: bool,
}

impl Standing {
    /// What `table`, which decided, says of `exchange`.
    pub(super) fn of(exchange: &Exchange<'_>, table: &Table) -> Self {
        let Some(service) = table.estate.service(exchange.service) else {
            return Self { asked: exchange.preview, listed: false };
        };
        let asked = target(exchange, service, table).and_then(Target::preview);
        let listed = match exchange.preview.and_then(|key| table.preview(&key)) {
            Some(preview) => find(preview.fork(service), exchange.endpoint).is_some(),
            // An address that the name of a baseline no longer gives has not gone: names take turns.
            // Nor has a pod that was meant, when it is not ready.
            None => {
                !exchange.is_meant
                    && find(service.baseline.as_deref(), exchange.endpoint)
                        .is_some_and(|found| found.behind == Behind::One)
            }
        };
        Self { asked, listed }
    }

    /// Whether `table` would still have `exchange` answered by who does. Health is no part of it.
    pub(super) fn holds(self, exchange: &Exchange<'_>, table: &Table) -> bool {
        let Some(service) = table.estate.service(exchange.service) else { return false };
        let Some(target) = target(exchange, service, table) else { return false };
        let now = target.preview();
        let endpoints = match exchange.preview {
            Some(_) => Some(target.endpoints()),
            None => service.baseline.as_deref(),
        };
        (now == exchange.preview || now == self.asked)
            && (!self.listed || find(endpoints, exchange.endpoint).is_some())
    }
}

/// The target of an exchange by now: one of its keys may have become another name of a preview.
fn target<'t>(exchange: &Exchange<'_>, service: &'t Service, table: &'t Table) -> Option<Target<'t>> {
    let identity = exchange.identity;
    let keys: Keys = identity.keys.iter().map(|key| table.canonical(*key)).collect();
    let renamed = (keys != identity.keys).then(|| Identity { keys, ..identity.clone() });
    let baseline = |key: Option<&Key>| match exchange.is_meant {
        true => Ok(Target::Baseline(&[])),
        false => pick::baseline(service, key),
    };
    let picked = pick::target_or(renamed.as_ref().unwrap_or(identity), service, table, baseline);
    picked.ok().map(|(target, _)| target)
}

/// The endpoint with this address: what else is said of it may change under an exchange.
fn find(endpoints: Option<&[Arc<Endpoint>]>, address: SocketAddr) -> Option<&Endpoint> {
    endpoints?.iter().find(|endpoint| endpoint.address == address).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests;
