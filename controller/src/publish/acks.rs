//! Which proxies follow this replica, and what each has in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sidetrack_config::stream::Report;
use thiserror::Error;

use super::lock;

/// How long a proxy whose stream ended is still counted: it may be on its way back, and routes by what it has until it
/// is gone.
const GRACE: Duration = Duration::from_secs(30);
/// The most proxies that are remembered, those included that left a moment ago: the sidecars of a large cluster are the
/// most that there are.
const MAX_PROXIES: usize = 16_384;
/// The most streams of one name: a proxy that comes back has two until its old one is seen to be dead.
const MAX_STREAMS: usize = 2;
/// The most bytes that are kept of what a proxy says against a table.
const MAX_ERROR: usize = 1024;

/// The proxies of this replica.
#[derive(Debug, Default)]
pub struct Acks {
    proxies: Mutex<BTreeMap<Box<str>, Proxy>>,
    settled: OnceLock<Instant>,
}

#[derive(Debug, Default)]
struct Proxy {
    /// Open streams.
    streams: usize,
    acked: Option<u64>,
    rejected: Option<Rejected>,
    left: Option<Instant>,
}

/// One proxy, as this replica knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub node: Box<str>,
    /// Whether its stream is open; if not, it was until half a minute ago at most.
    pub connected: bool,
    /// The newest version that it has in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// The newest that it refused, if it has taken none since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// A version that a proxy refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The version.
    pub version: u64,
    /// Why, in its words.
    pub error: Box<str>,
}

/// Why a proxy can't be counted in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AckError {
    /// Too many of them.
    #[error("this controller already follows {MAX_PROXIES} proxies, which is the most it can")]
    TooMany,
    /// It has too many streams.
    #[error("{0} has {MAX_STREAMS} streams here already: each proxy needs a name of its own (--node)")]
    TooManyStreams(Box<str>),
    /// It has no stream here.
    #[error("{0} has no stream here: report over the connection that the stream came on")]
    Stranger(Box<str>),
    /// Versions are compared within one epoch only.
    #[error(
        "this is not the controller process that the report is for: report over the connection that the stream came on"
    )]
    OtherEpoch,
    /// It says that it has what was never made.
    #[error("version {0} does not exist yet")]
    Future(u64),
}

/// An open stream of a proxy; dropped with it.
#[derive(Debug)]
pub struct Connected {
    acks: Arc<Acks>,
    node: Box<str>,
}

impl Acks {
    /// Counts a stream of `node` in. What it resumes from is what it has heard, which it may have refused: what it has
    /// in force is what it reports over this stream, and it reports that first of all.
    ///
    /// # Errors
    /// When there are too many proxies, or too many streams of this one.
    pub fn connect(self: &Arc<Self>, node: &str) -> Result<Connected, AckError> {
        let mut proxies = lock(&self.proxies);
        if proxies.len() >= MAX_PROXIES && !proxies.contains_key(node) {
            forget(&mut proxies, Instant::now());
            if proxies.len() >= MAX_PROXIES {
                return Err(AckError::TooMany);
            }
        }
        let proxy = proxies.entry(node.into()).or_default();
        if proxy.streams >= MAX_STREAMS {
            return Err(AckError::TooManyStreams(node.into()));
        }
        // Whatever was acknowledged before: it may be a new process of the same name.
        *proxy = Proxy { streams: proxy.streams + 1, ..Proxy::default() };
        Ok(Connected { acks: Arc::clone(self), node: node.into() })
    }

    /// Notes what a proxy says. `epoch` is ours and `newest` the newest version.
    ///
    /// # Errors
    /// When it is for another replica or process, or names a version that does not exist.
    pub fn report(&self, report: &Report, epoch: &str, newest: u64) -> Result<(), AckError> {
        if *report.epoch != *epoch {
            return Err(AckError::OtherEpoch);
        }
        if report.version > newest {
            return Err(AckError::Future(report.version));
        }
        let mut proxies = lock(&self.proxies);
        let now = Instant::now();
        let proxy = proxies.get_mut(&report.node).filter(|proxy| !proxy.is_gone(now));
        let proxy = proxy.ok_or_else(|| AckError::Stranger(report.node.clone()))?;
        match &report.error {
            Some(error) => {
                proxy.rejected = Some(Rejected { version: report.version, error: shortened(error) });
            }
            None => {
                proxy.acked = proxy.acked.max(Some(report.version));
                proxy.rejected.take_if(|rejected| rejected.version <= report.version);
            }
        }
        Ok(())
    }

    /// Says until when proxies of an earlier process may be on their way here: the first to come back does not speak for
    /// those that are not heard of yet. What was said first holds.
    pub fn settle(&self, until: Instant) {
        let _ = self.settled.set(until);
    }

    /// Whether some may still be on their way.
    pub fn is_settling(&self, now: Instant) -> bool {
        self.settled.get().is_some_and(|until| now < *until)
    }

    /// All proxies, those included that left a moment ago.
    pub fn nodes(&self, now: Instant) -> Vec<Node> {
        let mut proxies = lock(&self.proxies);
        forget(&mut proxies, now);
        let mut nodes = Vec::with_capacity(proxies.len());
        for (node, proxy) in proxies.iter() {
            let (connected, rejected) = (proxy.streams > 0, proxy.rejected.clone());
            nodes.push(Node { node: node.clone(), connected, acked: proxy.acked, rejected });
        }
        nodes
    }

    /// How many have an open stream.
    pub fn connected(&self) -> usize {
        lock(&self.proxies).values().filter(|proxy| proxy.streams > 0).count()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(proxy) = lock(&self.acks.proxies).get_mut(&self.node) {
            proxy.streams = proxy.streams.saturating_sub(1);
            if proxy.streams == 0 {
                proxy.left = Some(Instant::now());
            }
        }
    }
}

impl Proxy {
    fn is_gone(&self, now: Instant) -> bool {
        self.left.is_some_and(|left| now.saturating_duration_since(left) >= GRACE)
    }
}

fn forget(proxies: &mut BTreeMap<Box<str>, Proxy>, now: Instant) {
    proxies.retain(|_, proxy| !proxy.is_gone(now));
}

fn shortened(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(MAX_ERROR)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: &str, version: u64, error: Option<&str>) -> Report {
        Report { node: node.into(), epoch: "e".into(), version, error: error.map(Into::into) }
    }

    #[test]
    fn one_that_left_is_forgotten_after_the_grace() {
        let acks = Arc::new(Acks::default());
        let stream = acks.connect("a").unwrap();
        acks.report(&said("a", 3, None), "e", 5).unwrap();
        let later = Instant::now() + GRACE * 10;
        assert_eq!(acks.nodes(later)[0].acked, Some(3), "a silent stream is no reason to forget");
        drop(stream);
        let within = Instant::now() + GRACE - Duration::from_secs(1);
        assert_eq!((acks.nodes(within)[0].connected, acks.nodes(within)[0].acked), (false, Some(3)));
        assert!(acks.nodes(within + Duration::from_secs(2)).is_empty());
        assert_eq!(acks.report(&said("a", 4, None), "e", 5), Err(AckError::Stranger("a".into())));
    }

    #[test]
    fn a_second_stream_of_a_proxy_outlives_its_first() {
        let acks = Arc::new(Acks::default());
        let first = acks.connect("a").unwrap();
        acks.report(&said("a", 3, None), "e", 5).unwrap();
        let second = acks.connect("a").unwrap();
        acks.report(&said("a", 4, None), "e", 5).unwrap();
        drop(first);
        let node = acks.nodes(Instant::now() + GRACE * 2).remove(0);
        assert_eq!((node.connected, node.acked), (true, Some(4)));
        drop(second);
        assert_eq!(acks.connected(), 0);
        let _again = acks.connect("a").unwrap();
        assert_eq!(acks.nodes(Instant::now())[0].acked, None, "a new process of that name has nothing yet");
    }

    #[test]
    fn what_was_refused_stays_so_until_something_newer_is_taken() {
        let acks = Arc::new(Acks::default());
        let _stream = acks.connect("a").unwrap();
        acks.report(&said("a", 3, None), "e", 9).unwrap();
        acks.report(&said("a", 4, Some(&"é".repeat(2000))), "e", 9).unwrap();
        let node = acks.nodes(Instant::now()).remove(0);
        assert_eq!((node.acked, node.rejected.as_ref().unwrap().version), (Some(3), 4));
        assert_eq!(node.rejected.unwrap().error.len(), MAX_ERROR);
        acks.report(&said("a", 3, None), "e", 9).unwrap();
        assert!(acks.nodes(Instant::now())[0].rejected.is_some());
        acks.report(&said("a", 5, None), "e", 9).unwrap();
        assert_eq!(
            (acks.nodes(Instant::now())[0].acked, &acks.nodes(Instant::now())[0].rejected),
            (Some(5), &None)
        );
    }

    #[test]
    fn a_report_for_another_process_or_of_the_future_is_refused() {
        let acks = Arc::new(Acks::default());
        let _stream = acks.connect("a").unwrap();
        assert_eq!(acks.report(&said("a", 3, None), "other", 5), Err(AckError::OtherEpoch));
        assert_eq!(acks.report(&said("a", 6, None), "e", 5), Err(AckError::Future(6)));
        assert_eq!(acks.report(&said("b", 3, None), "e", 5), Err(AckError::Stranger("b".into())));
        assert_eq!(acks.nodes(Instant::now())[0].acked, None);
    }

    #[test]
    fn proxies_are_bounded() {
        let acks = Arc::new(Acks::default());
        let streams: Vec<_> = (0..MAX_PROXIES).map(|n| acks.connect(&n.to_string()).unwrap()).collect();
        assert_eq!(acks.connect("more").unwrap_err(), AckError::TooMany);
        let second = acks.connect("7").unwrap();
        assert_eq!(acks.connect("7").unwrap_err(), AckError::TooManyStreams("7".into()));
        drop(second);
        assert!(acks.connect("7").is_ok(), "one that is known may come again");
        drop(streams);
    }
}
