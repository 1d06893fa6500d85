//! The receipt of the whole chain. Applications hand on no response headers, so that what proxies behind them said has to
//! be put together by us, in two ways:
//!
//! - A sidecar sees both sides of its workload: it remembers the receipts of the calls that were made while a request was
//!   open, and adds them to the answer (`calls.rs`).
//! - Every hop inside reports to the gateway that the request came from, whose address rides in our second member of
//!   `tracestate` (`member.rs`), with one datagram (`report.rs`, `wire.rs`); the gateway keeps them for seconds (`store.rs`)
//!   and makes one tree of everything (`tree.rs`).
//!
//! What is known when the head of an answer goes out is in it; for gRPC what is known at its end is in the trailers; the rest
//! has the admin listener. Only requests with a key get here.

pub mod calls;
pub mod hop;
pub mod member;
pub mod report;
pub mod store;
pub mod tree;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use sidetrack_config::model::{Config, Place, Role, contains};
use smallvec::SmallVec;

use crate::decision::{Decision, Side};
use crate::fields::Fields;
use crate::forward::carriers::TRACESTATE;
use crate::identify::{TraceParent, only_traceparent};
use crate::route::table::Table;
use crate::worker::Worker;
use calls::{Call, Open, ids};
use hop::{Hop, Reader};
use member::At;
use report::Report;
use tree::Root;
use wire::Receiver;

/// What our proxies say in `Via`, before a name that tells them apart.
const VIA: &[u8] = b"1.1 sidetrack-";

/// What the main file says of chains.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The name of our second member of `tracestate`; `None`: there is no first one.
    pub member: Option<Box<str>>,
    /// Where hops may report to.
    pub believed: Vec<IpNet>,
}

impl Settings {
    /// Those of a file.
    pub fn new(config: &Config) -> Self {
        Self {
            member: config.carriers.tracestate.as_deref().map(|name| member::name(name).into()),
            believed: config.context.report_to.clone(),
        }
    }
}

/// The part that one request with a key has in its chain.
#[derive(Debug)]
pub struct Chain {
    trace: Option<u128>,
    /// The id of this hop.
    id: u64,
    /// The hop that the request came from.
    behind: u64,
    part: Part,
    /// Whether a proxy of ours has sent the request, and reads what they tell each other.
    is_asked_by_proxy: bool,
    /// What the head of its answer said, where that is one of gRPC.
    head: Option<Head>,
}

/// What a call of gRPC says again at its end.
#[derive(Debug)]
struct Head {
    /// What came with it.
    received: Vec<Hop>,
    micros: u32,
}

#[derive(Debug)]
enum Part {
    /// The first hop, which is reported to.
    First(Waiting),
    /// One that reports.
    Inside {
        /// Where to.
        reports: Option<SocketAddr>,
        /// Whom the workload's calls belong to.
        open: Option<Open>,
        /// What this call belongs to.
        call: Option<Call>,
    },
    /// One that does neither.
    Alone,
}

/// A request whose hops report to this gateway, until it ends.
#[derive(Debug)]
struct Waiting {
    receiver: Arc<Receiver>,
    trace: u128,
    hop: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.store.ended(self.trace, self.hop, Instant::now());
    }
}

/// What a record knows about its request.
#[derive(Debug)]
pub struct Facts {
    /// When it came.
    pub started: Instant,
    /// Where it was sent.
    pub endpoint: Option<SocketAddr>,
    /// Whether it is a call of gRPC.
    pub is_grpc: bool,
}

/// A request, which may be a call of gRPC, is about to go onward with these fields, which say where its next hops report to.
/// `None`: it has no key, and nothing is to be told of it, or nothing but our own part.
pub fn begin(
    fields: &mut Fields,
    decision: &Decision<'_>,
    (place, is_grpc): (&Place, bool),
    worker: &Worker,
    table: &Table,
) -> Option<Box<Chain>> {
    let estate = &table.estate;
    let name = estate.chain.member.as_deref();
    let is_first = estate.role == Role::Gateway;
    if decision.identity.keys.is_empty() {
        // Nobody outside says where hops inside report to. Inside, a workload may add the key to what it calls for this.
        if let Some(name) = name.filter(|_| is_first && fields.contains(TRACESTATE)) {
            member::write(fields, name, None);
        }
        return None;
    }
    let mut chain = Chain {
        trace: None,
        id: worker.random() | 1,
        behind: 0,
        part: Part::Alone,
        is_asked_by_proxy: !is_first && is_asked_by_proxy(fields),
        head: None,
    };
    let parent = || only_traceparent(fields.get_all("traceparent"));
    let at = if is_first {
        let receiver = worker.shared.reports.as_ref().filter(|_| !estate.context.secrets.is_empty());
        receiver.and_then(|receiver| Some(chain.first(receiver, parent()?.trace)))
    } else {
        let parent = parent();
        let said = name.and_then(|name| member::find(fields, name));
        let said = said.filter(|at| contains(&estate.chain.believed, at.address.ip()));
        let is_own = decision.target.side() == Side::Baseline
            || estate.workload.as_ref().is_some_and(|workload| workload.key.is_some());
        chain.inside(said, parent, (place, is_own, fields), worker).filter(|_| parent.is_some())
    };
    if let Some(name) = name {
        member::write(fields, name, at);
    }
    // What is told once, by nobody but us, has nothing to remember.
    let is_alone = matches!(chain.part, Part::Alone) && !is_grpc;
    (!is_alone).then(|| Box::new(chain))
}

impl Chain {
    fn first(&mut self, receiver: &Arc<Receiver>, trace: u128) -> At {
        let waiting = Waiting { receiver: Arc::clone(receiver), trace, hop: self.id };
        receiver.store.began(trace, waiting.hop, Instant::now());
        self.trace = Some(trace);
        self.part = Part::First(waiting);
        At { address: receiver.address, hop: self.id }
    }

    fn inside(
        &mut self,
        said: Option<At>,
        parent: Option<TraceParent>,
        (place, is_own, fields): (&Place, bool, &Fields),
        worker: &Worker,
    ) -> Option<At> {
        self.trace = parent.map(|parent| parent.trace);
        let span = parent.map_or(0, |parent| parent.parent);
        let opened = &worker.shared.opened;
        self.behind = said.map_or(0, |at| at.hop);
        let mut reports = said.map(|at| at.address);
        let (mut open, mut call) = (None, None);
        match place {
            Place::Inbound if is_own => open = Some(opened.open(ids(fields), self.id, span, reports)),
            Place::Outbound(_) => call = opened.call(&ids(fields), self.behind, span),
            Place::Inbound | Place::Service(_) | Place::Edge => {}
        }
        if let (None, Some(call)) = (reports, &call) {
            // The workload has handed on less than all; we know.
            reports = call.inbound.reports;
            self.behind = call.inbound.hop;
        }
        self.part = Part::Inside { reports, open, call };
        reports.map(|address| At { address, hop: self.id })
    }

    /// The chain as far as it is known: our hop, and what came with the answer or what the workload's calls brought.
    fn known(&self, own: Hop, received: Vec<Hop>) -> (Vec<Hop>, u64) {
        if let Part::Inside { open: Some(open), .. } = &self.part {
            let calls = open.inbound.receipts();
            if !calls.is_empty() {
                // What a workload hands on of the answers that it got is in there.
                return (hop::above(own, calls), 0);
            }
        }
        hop::before(own, received)
    }

    fn tell(
        &self,
        own: Hop,
        received: Vec<Hop>,
        facts: &Facts,
        worker: &Worker,
        table: &Table,
        is_head: bool,
    ) -> Vec<Hop> {
        let micros = own.micros.unwrap_or(0);
        let (hops, same) = self.known(own, received);
        if let Part::Inside { call: Some(call), .. } = &self.part {
            call.answered(&hops);
        }
        let Some(trace) = self.trace else { return hops };
        let secrets = &table.estate.context.secrets;
        let report = || {
            let ago = facts.started.elapsed();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let start = u64::try_from(now.saturating_sub(ago).as_micros()).unwrap_or(0);
            let (hop, behind, endpoint) = (self.id, self.behind, facts.endpoint);
            // Our own is the first of them.
            let text = hops.first().map(|own| own.text.clone()).unwrap_or_default();
            Report { trace, hop, behind, same, start, micros, endpoint, text }
        };
        match &self.part {
            Part::First(Waiting { receiver, .. }) => {
                receiver.take(secrets);
                let own = report();
                receiver.store.answered(Root { own, answered: hops })
            }
            Part::Inside { reports: Some(to), .. } if is_head => {
                if let Some(datagram) = report().sealed(secrets) {
                    worker.reporter.send(*to, &datagram);
                }
                hops
            }
            _ => hops,
        }
    }

    /// Whether the trailers of its answer say it again.
    pub const fn has_trailers(&self) -> bool {
        self.head.is_some()
    }

    /// Whether hops are told apart by their ids.
    const fn has_ids(&self) -> bool {
        matches!(self.part, Part::First(_) | Part::Inside { reports: Some(_), .. })
    }
}

/// The answer to a request with a key has its receipt: `entry` is our own. `chain` is missing where the request went nowhere.
pub fn finish(
    fields: &mut Fields,
    entry: String,
    chain: Option<&mut Chain>,
    facts: &Facts,
    worker: &Worker,
    table: &Table,
) {
    let micros = u32::try_from(facts.started.elapsed().as_micros()).unwrap_or(u32::MAX);
    let own = own(entry, chain.as_deref(), micros);
    let received = hop::read(fields);
    let reader = reader(chain.as_deref(), table);
    let trace =
        chain.as_deref().filter(|chain| matches!(chain.part, Part::First(_))).and_then(|chain| chain.trace);
    let hops: SmallVec<[Hop; 1]> = match chain {
        Some(chain) => {
            if facts.is_grpc {
                chain.head = Some(Head { received: received.clone(), micros });
            }
            chain.tell(own, received, facts, worker, table, true).into()
        }
        None if received.is_empty() => SmallVec::from_buf([own]),
        None => hop::before(own, received).0.into(),
    };
    write(fields, &hops, reader);
    if table.estate.role == Role::Gateway {
        // Those of another gateway behind this one are among ours.
        fields.retain_values(hop::TIMING, |line| !hop::is_timing(line));
        fields.append_with(hop::TIMING, |out| {
            hop::timing(&hops, out);
            if let Some(trace) = trace {
                out.extend_from_slice(b", ");
                out.extend_from_slice(hop::timing_of_trace(trace).as_bytes());
            }
        });
    }
}

/// The trailers of a call of gRPC have the receipt, too: calls go on behind the head.
pub fn trailers(
    fields: &mut Fields,
    entry: String,
    chain: &Chain,
    facts: &Facts,
    worker: &Worker,
    table: &Table,
) {
    let Some(head) = &chain.head else { return };
    let own = own(entry, Some(chain), head.micros);
    let received = if fields.contains(hop::ROUTE) { hop::read(fields) } else { head.received.clone() };
    let hops = chain.tell(own, received, facts, worker, table, false);
    write(fields, &hops, reader(Some(chain), table));
}

/// Writes a list in place of what came with the answer.
fn write(fields: &mut Fields, hops: &[Hop], reader: Reader) {
    fields.remove(hop::ROUTE);
    fields.append_with(hop::ROUTE, |out| hop::line(hops, reader, out));
}

fn own(entry: String, chain: Option<&Chain>, micros: u32) -> Hop {
    let id = chain.filter(|chain| chain.has_ids()).map_or(0, |chain| chain.id);
    Hop::new(entry, id, Some(micros))
}

/// Who reads our answer. What stands between may hand it on, and hops are told apart by their ids.
fn reader(chain: Option<&Chain>, table: &Table) -> Reader {
    match chain {
        Some(chain) if table.estate.role != Role::Gateway && (chain.is_asked_by_proxy || chain.has_ids()) => {
            Reader::Proxy
        }
        _ => Reader::Client,
    }
}

/// Whether a proxy of ours has sent the request that goes onward with these fields, our own `Via` among them.
fn is_asked_by_proxy(fields: &Fields) -> bool {
    fields.items("via").filter(|hop| hop.starts_with(VIA)).nth(1).is_some()
}
