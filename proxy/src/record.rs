//! Step 6: exactly one record per request, whatever becomes of it. The record travels with the answer's body, and is
//! written when that ends, or is dropped.

pub mod access_log;
mod body;
pub mod metrics;
pub mod opaque;
pub mod receipt;
mod review;
pub mod standing;

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use sidetrack_config::Key;
use sidetrack_config::carriers::Carrier;
use sidetrack_config::model::{Role, Scheme};

use crate::accept::connection::Connection;
use crate::chain::{self, Chain, Facts};
use crate::context::edges::Call;
use crate::context::memory::Hold;
use crate::decide::Told;
use crate::decision::{Decision, Keys, Reason, Side, Target};
use crate::error::{Code, Failure};
use crate::fields::Fields;
use crate::forward::body::Source;
use crate::forward::forwarded::{REQUEST_ID, client, scheme};
use crate::head::RequestHead;
use crate::hex;
use crate::identify::{CookieChange, Identity, Onward};
use crate::pick::Way;
use crate::reading::Taken;
use crate::respond::Answer;
use crate::route::rule::Rule;
use crate::route::snapshot::Held;
use crate::route::table::Service;
use crate::worker::Worker;
use smallvec::SmallVec;

use access_log::{Entry, RawTexts, Texts};
pub use body::ResponseBody;
use metrics::{CLIENT_CLOSED, Gauge, Sample};
use standing::Standing;

/// What is known about a request so far. Dropped, it is written.
pub struct Record {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    table: Rc<Held>,
    started: Instant,
    /// Made where it is asked for first: most get one that says the key.
    request_id: OnceCell<RequestId>,
    /// Whether the id is ours, and may say the key.
    is_own_id: bool,
    /// Whether it came in to the workload of a sidecar, and if so, with a key.
    inbound: Option<(bool, Hold)>,
    hidden: Option<u128>,
    client: IpAddr,
    is_secure: bool,
    line: Option<Line>,
    service: Option<usize>,
    /// Of the table that decided last.
    generation: u64,
    identity: Option<Rc<Identity>>,
    side: Side,
    reason: Option<Reason>,
    preview: Option<Key>,
    endpoint: Option<SocketAddr>,
    retries: u8,
    status: u16,
    error: Option<Code>,
    source: Option<Rc<Source>>,
    sent: Option<Instant>,
    upstream: Option<Duration>,
    response_bytes: u64,
    tunnel_bytes: u64,
    is_refused: bool,
    /// The workload behind this sidecar answers, whatever the table says.
    is_own: bool,
    /// What stands for the baseline is where the connection was meant to go.
    is_meant: bool,
    is_grpc: bool,
    complete: bool,
    /// The version of the table that was asked last.
    asked: u64,
    /// Of an exchange that has seen another table come.
    standing: Option<Standing>,
    /// Its part in the chain of hops, where it has a key and went somewhere.
    chain: Option<Box<Chain>>,
}

/// The id of a request: ours, or a trusted proxy's.
type RequestId = SmallVec<[u8; 32]>;

/// The most bytes of an id that a trusted proxy gives.
const ID_BYTES: usize = 128;

/// What only the access log wants.
struct Line {
    time: SystemTime,
    method: http::Method,
    host: Box<[u8]>,
    target: http::uri::PathAndQuery,
    user_agent: Box<[u8]>,
}

impl Record {
    /// Begins the record of a request. It is boxed: it goes with the answer through many hands.
    pub fn begin(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        head: &RequestHead,
        table: &Rc<Held>,
    ) -> Box<Self> {
        worker.stats.requests_in_flight.inc();
        worker.began();
        connection.lifeline.began();
        let fields = &head.fields;
        let given = fields.get(REQUEST_ID).filter(|id| connection.trusted && id.len() <= ID_BYTES);
        let line = worker.shared.log.is_some().then(|| Line {
            time: SystemTime::now(),
            method: head.method.clone(),
            host: match &head.authority {
                Some(authority) => authority.as_str().as_bytes().into(),
                None => fields.get("host").unwrap_or_default().into(),
            },
            target: head.target.clone(),
            user_agent: fields.get("user-agent").unwrap_or_default().into(),
        });
        // In a box that is there before it, it is made where it stays.
        let room = Box::new_uninit();
        let record = Self {
            started: Instant::now(),
            is_own_id: given.is_none(),
            hidden: None,
            inbound: None,
            request_id: given.map(SmallVec::from_slice).map_or_else(OnceCell::new, OnceCell::from),
            client: client(connection, fields),
            is_secure: scheme(connection, fields) == Scheme::Https,
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            table: Rc::clone(table),
            line,
            service: None,
            generation: table.generation,
            identity: None,
            side: Side::None,
            reason: None,
            preview: None,
            endpoint: None,
            retries: 0,
            status: 0,
            error: None,
            source: None,
            sent: None,
            upstream: None,
            response_bytes: 0,
            tunnel_bytes: 0,
            is_refused: false,
            is_own: false,
            is_meant: false,
            is_grpc: false,
            complete: false,
            asked: table.version(),
            standing: None,
            chain: None,
        };
        Box::write(room, record)
    }

    /// The keys are known, and what of the head did not count.
    pub fn identified(&mut self, identity: &Rc<Identity>, taken: Taken) {
        let stats = &self.worker.stats;
        if taken.by_egress {
            stats.egress_stripped.inc();
        }
        if taken.carriers || taken.ids {
            stats.cut_carriers.inc();
        }
        if identity.onward == Onward::Stamped {
            stats.stamped.inc();
        }
        if taken.ids {
            self.request_id = OnceCell::new();
            self.is_own_id = true;
        }
        self.hide(identity);
        self.identity = Some(Rc::clone(identity));
    }

    /// Makes an id that says the key: for the trace, where one begins here, and for the request, where its id is ours.
    fn hide(&mut self, identity: &Identity) {
        let context = &self.table.estate.context;
        // Only a gateway writes the id of the request.
        let names_request = self.is_own_id && self.table.estate.role == Role::Gateway;
        if identity.keys.is_empty() || (identity.traced && !names_request) {
            return;
        }
        self.hidden = context.hide(identity, self.worker.random());
        if let (Some(id), true) = (self.hidden, names_request) {
            self.request_id = OnceCell::from(RequestId::from_buf(hex::digits::<32>(id)));
        }
    }

    /// The id that says the key, where there is one.
    pub const fn hidden(&self) -> Option<u128> {
        self.hidden
    }

    /// Counts what became of the key of a call, with the service that it is for.
    pub fn called(&self, call: Option<Call>) {
        let Some(call) = call else { return };
        let unrouted = self.worker.shared.metrics.unrouted();
        self.service().map_or(unrouted, |service| &*service.stats).called(call);
    }

    /// The request came in to the workload of a sidecar, which answers it from now on; its ids are held meanwhile.
    pub fn came_in(&mut self, hold: Hold) {
        let is_keyed = self.identity.as_ref().is_some_and(|identity| !identity.keys.is_empty());
        self.inbound(is_keyed).inc();
        self.inbound = Some((is_keyed, hold));
    }

    fn inbound(&self, is_keyed: bool) -> &Gauge {
        let stats = &self.worker.stats;
        if is_keyed { &stats.inbound_keyed } else { &stats.inbound_unkeyed }
    }

    /// When it began.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The target is known, or another one than before.
    pub fn decided(&mut self, decision: &Decision<'_>) {
        self.side = decision.target.side();
        self.generation = decision.generation;
        self.reason = Some(decision.reason);
        self.preview = decision.target.preview();
        self.is_own = matches!(decision.target, Target::Own(..));
        self.is_meant = decision.here.passes();
    }

    /// There is no target, or none any more, by the table of this generation, and this is why.
    pub fn refused(&mut self, failure: &Failure, generation: u64) {
        self.answers_itself();
        self.generation = generation;
        if matches!(failure.code, Code::UnknownPreview | Code::PreviewExpired) {
            self.reason = Some(Reason::UnknownPreview);
        }
    }

    /// The proxy answers in place of the target.
    pub fn answers_itself(&mut self) {
        self.is_refused = true;
        self.preview = None;
        self.side = Side::None;
    }

    /// The request is sent to an endpoint.
    pub fn sending(&mut self, endpoint: SocketAddr, source: &Rc<Source>) {
        self.endpoint = Some(endpoint);
        self.sent = self.line.is_some().then(Instant::now);
        self.source = Some(Rc::clone(source));
    }

    /// The request goes out once more, since the attempt before brought no answer.
    pub fn retried(&mut self) {
        self.retries = self.retries.saturating_add(1);
        self.worker.stats.retries.inc();
    }

    /// The upstream's head is there.
    pub fn answered(&mut self) {
        self.upstream = self.sent.map(|sent| sent.elapsed());
    }

    /// The proxy answers by itself.
    pub fn failed(&mut self, failure: &Failure) {
        self.error = Some(failure.code);
        self.side = Side::None;
        self.worker.stats.error(failure.code);
        if let Some(limit) = failure.limit {
            self.worker.stats.reached(limit);
        }
    }

    /// Who asked.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The id of the request.
    pub fn request_id(&self) -> &[u8] {
        self.request_id.get_or_init(|| new_id(&self.worker))
    }

    /// What was read from the request.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Whether its client asked over TLS, be it that of a trusted proxy.
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether the proxy answers by itself, and with what.
    pub fn error(&self) -> Option<Code> {
        self.error
    }

    /// Whether the client is told to go.
    pub fn is_going(&self) -> bool {
        let lifeline = &self.connection.lifeline;
        lifeline.is_going() || (self.worker.leaving.get() && !lifeline.stays())
    }

    /// Whether the client speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.connection.is_http2
    }

    /// Where the keys were found.
    pub fn carrier(&self) -> Option<Carrier> {
        self.identity.as_ref().and_then(|identity| identity.carrier)
    }

    /// What becomes of the carriers on their way onward.
    pub fn onward(&self) -> Onward {
        self.identity.as_ref().map_or(Onward::Carried, |identity| identity.onward)
    }

    /// Where the keys come from, in a word.
    fn origin(&self) -> Option<&'static str> {
        match self.onward() {
            Onward::Stamped => Some("stamp"),
            Onward::Carried | Onward::Left => self.carrier().map(Carrier::as_str),
        }
    }

    /// What becomes of the cookie: an unknown preview that a cookie names is told once, and the cookie cleared.
    pub fn cookie(&self) -> CookieChange {
        let asked = self.identity.as_ref().map_or(CookieChange::Keep, |identity| identity.cookie);
        match self.error {
            Some(Code::UnknownPreview | Code::PreviewExpired) if self.carrier() == Some(Carrier::Cookie) => {
                CookieChange::Clear
            }
            Some(_) if asked == CookieChange::Set => CookieChange::Keep,
            _ => asked,
        }
    }

    /// The service that the route named.
    pub fn service_name(&self) -> Option<&str> {
        self.service().map(|service| &*service.name)
    }

    fn service(&self) -> Option<&Service> {
        self.service.and_then(|index| self.table.estate.services.get(index)).map(AsRef::as_ref)
    }

    /// The receipt of what was decided here; `None` without a key, and where it did not come to a reason.
    fn receipt(&self) -> Option<String> {
        self.identity.as_ref().filter(|identity| !identity.keys.is_empty())?;
        let at = match &self.preview {
            Some(key) => key.as_str(),
            None if self.is_refused => "none",
            None => "baseline",
        };
        let is_stamped = self.onward() == Onward::Stamped;
        Some(receipt::entry(self.service_name()?, at, (self.reason?, is_stamped), self.generation))
    }

    /// The request has this part in its chain.
    pub fn chained(&mut self, chain: Option<Box<Chain>>) {
        self.chain = chain;
    }

    /// Writes the receipt of the whole chain into the fields of an answer. Who asks without a key is told of none, whatever
    /// the upstream says.
    pub fn tell(&mut self, fields: &mut Fields) {
        let Some(entry) = self.receipt() else {
            fields.remove(chain::hop::ROUTE);
            return;
        };
        let facts = self.facts();
        chain::finish(fields, entry, self.chain.as_deref_mut(), &facts, &self.worker, &self.table);
    }

    /// The same in the trailers of a call of gRPC.
    fn tell_in(&self, trailers: &mut Fields) {
        let chain = self.chain.as_deref().filter(|chain| chain.has_trailers());
        match chain.and_then(|chain| Some((chain, self.receipt()?))) {
            Some((chain, entry)) => {
                chain::trailers(trailers, entry, chain, &self.facts(), &self.worker, &self.table);
            }
            None => {
                trailers.remove(chain::hop::ROUTE);
            }
        }
    }

    const fn facts(&self) -> Facts {
        Facts { started: self.started, endpoint: self.endpoint, is_grpc: self.is_grpc }
    }

    /// Sends the answer on, and the record with its body, or to its tunnel.
    pub fn attach(mut self: Box<Self>, mut answer: Answer) -> Answer {
        self.status = answer.status.as_u16();
        // An answer without a body is complete with its head.
        self.complete = answer.body.is_ended();
        answer.body.record = Some(self);
        answer
    }

    /// The request is a call of gRPC.
    pub fn set_grpc(&mut self, is_grpc: bool) {
        self.is_grpc = is_grpc;
    }

    /// Whether the request is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// A tunnel ended.
    pub fn tunnelled(&mut self, sent: u64, received: u64) {
        self.tunnel_bytes = sent;
        self.response_bytes = received;
    }

    fn keys(&self) -> Keys {
        self.identity.as_ref().map(|identity| identity.keys.clone()).unwrap_or_default()
    }

    fn sample(&self, now: Instant) -> Sample {
        Sample {
            side: self.side,
            reason: self.reason,
            status: if self.status == 0 { CLIENT_CLOSED } else { self.status },
            duration: now.saturating_duration_since(self.started),
            request_bytes: self.source.as_ref().map_or(0, |source| source.bytes()) + self.tunnel_bytes,
            response_bytes: self.response_bytes,
        }
    }

    fn count(&self, sample: &Sample) {
        let metrics = &self.worker.shared.metrics;
        let stats = self.service().map_or(metrics.unrouted(), |service| &*service.stats);
        stats.record(self.worker.index, sample);
        for preview in
            self.identity.iter().flat_map(|id| id.keys.iter()).filter_map(|key| self.table.preview(key))
        {
            preview.stats.record(self.side);
            if self.error.is_some() {
                preview.stats.error();
            }
        }
    }

    fn write(&mut self, sample: &Sample) {
        let (Some(log), Some(line)) = (&self.worker.shared.log, self.line.take()) else { return };
        log.log(Entry {
            time: line.time,
            texts: Texts::new(&RawTexts {
                request_id: self.request_id(),
                host: &line.host,
                path: line.target.as_str().as_bytes(),
                service: self.service_name().unwrap_or("").as_bytes(),
                user_agent: &line.user_agent,
            }),
            client: self.client,
            connection: self.connection.id,
            protocol: if self.connection.is_http2 { "HTTP/2" } else { "HTTP/1.1" },
            scheme: self.connection.scheme(),
            method: Some(line.method),
            keys: self.keys(),
            carrier: self.origin(),
            target: self.side,
            reason: self.reason,
            preview: self.preview,
            generation: self.generation,
            endpoint: self.endpoint,
            retries: self.retries,
            status: self.status,
            error: self.error,
            request_bytes: sample.request_bytes,
            response_bytes: sample.response_bytes,
            duration: sample.duration,
            upstream: self.upstream,
            aborted: !self.complete,
        });
    }
}

impl Told for Record {
    fn routed(&mut self, _: &Rule, way: Way<'_>) {
        self.service = way.service().map(|service| service.index);
    }

    fn admitted(&mut self) {}

    fn refused(&mut self, failure: &Failure, generation: u64) {
        Self::refused(self, failure, generation);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let sample = self.sample(now);
        self.count(&sample);
        self.write(&sample);
        self.worker.stats.requests_in_flight.dec();
        if let Some((is_keyed, _)) = &self.inbound {
            self.inbound(*is_keyed).dec();
        }
        self.worker.ended();
        self.connection.lifeline.ended(now);
    }
}

/// A fresh id: 128 random bits, in hexadecimal.
fn new_id(worker: &Worker) -> RequestId {
    let bits = (u128::from(worker.random()) << 64) | u128::from(worker.random());
    RequestId::from_buf(hex::digits::<32>(bits))
}
