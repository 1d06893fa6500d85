//! Connections on which not only HTTP may come. If the client does not speak at once, the connection to where it was meant
//! to go is opened: where the other side speaks first, as databases and mail servers do, its words are passed then, and
//! where the client turns out to speak HTTP, the connection serves its requests. Whatever is no HTTP passes as it is.

use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvFlags, recv};
use sidetrack_config::Key;
use sidetrack_config::model::{Listener, Place, Spoken};
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::connection::{Lifeline, Signal, timeout};
use super::sniff::{FRAME, Speech, greeting, is_blank, speech};
use super::wire::Prefixed;
use crate::decision::Side;
use crate::forward::http1::Open;
use crate::forward::meant::meant;
use crate::forward::relay::{Ended, Passed, relay, reset};
use crate::limit::Limit;
use crate::pick;
use crate::place::{destined, service_of_host};
use crate::record::opaque::Opaque;
use crate::route::table::{Endpoint, Endpoints};
use crate::worker::Worker;

/// The most bytes that are read before it is clear what they are. A request line that is longer is one.
const MOST: usize = 16 << 10;
/// How long a line that begins like a request may take to its end; it is one then. A greeting that begins like one of HTTP/2
/// is none then.
const LINE: Duration = Duration::from_secs(2);
/// How long a client may take to speak before the connection to where it was meant to go is opened. Who speaks HTTP does so
/// at once, and needs none of its own; a server that speaks first is heard this much later.
const HEAD_START: Duration = Duration::from_millis(5);
/// How long a client is listened to when nobody takes the connection to where it was meant to go: a request may be for a
/// fork, and its bytes come behind the handshake. Who waits for the other side to speak meets the reset a moment later
/// than without us.
const REFUSED: Duration = Duration::from_millis(300);
/// How long nothing may go through where the connection is for no service, which would say so itself. What is there is not
/// ours, and applications keep connections to databases and brokers for longer than to services.
const ELSEWHERE: Duration = Duration::from_secs(3600);

/// A connection that has come in.
pub struct Arrival<'a> {
    /// Its listener.
    pub listener: &'a Listener,
    /// The other side.
    pub peer: SocketAddr,
    /// Where it was meant to go, where the system redirected it.
    pub original: Option<SocketAddr>,
    /// It is one too many.
    pub refused: Option<Limit>,
}

/// What is known of where bytes go that are no HTTP. It may be needed for hours, and holds nothing of a table.
struct Far {
    /// The service, where it is for one.
    service: Option<Box<str>>,
    idle: Duration,
    /// The preview of the workload, where it is for that.
    own: Option<Key>,
    meant: Option<SocketAddr>,
    /// The port that the client connected to, where the system redirected it.
    port: Option<u16>,
    /// The generation of the table that was asked.
    generation: u64,
}

/// A connection to there.
type Upstream = (TcpStream, Arc<Endpoint>);

/// How far it is.
enum Reach {
    /// It begins then.
    Later(Instant),
    Coming,
    Here(Upstream),
    /// Nobody took it, and it is waited for the client until then.
    Refused(Instant),
}

/// What came first.
enum First {
    Http(Speech),
    /// Bytes that are no HTTP, or the other side's.
    Other,
    /// Nobody can be reached, and the client has nothing to say either.
    Refused,
    /// The client is gone, or nobody said anything for too long.
    Gone,
}

/// Passes the bytes of a connection until it ends; one on which HTTP is spoken is given back.
pub async fn serve(
    worker: &Rc<Worker>,
    arrival: &Arrival<'_>,
    mut stream: TcpStream,
    lifeline: &Lifeline,
) -> Option<Prefixed> {
    let (far, set) = find(worker, arrival);
    let mut read = BytesMut::new();
    let mut reaching = pin!(reach(worker, set));
    let mut reach = Reach::Later(Instant::now() + HEAD_START);
    let first = match arrival.listener.spoken {
        Spoken::Http => First::Http(Speech::Unclear),
        Spoken::Tcp => First::Other,
        Spoken::Detect => {
            lifeline.listen();
            let first = tokio::select! {
                first = far.first(worker, &mut stream, &mut read, reaching.as_mut(), &mut reach) => first,
                // The drain does not wait for who has said nothing yet.
                _ = poll_fn(|cx| lifeline.poll_changed(Signal::None, cx)) => return None,
            };
            lifeline.heard();
            first
        }
    };
    // Bytes can't be told why they are refused.
    let gate = &worker.shared.gate;
    let refused = || arrival.refused.or_else(|| gate.is_pressed().then_some(Limit::MaxMemory));
    match first {
        First::Http(speech) => {
            if let Reach::Here((upstream, endpoint)) = reach {
                let is_http2 = speech == Speech::Http2;
                let endpoint = far.meant.map_or(endpoint, |address| worker.meant.at(address, is_http2));
                worker.pool.lend(&endpoint, upstream);
            }
            return Some(Prefixed { prefix: read.freeze(), stream });
        }
        First::Other => match refused() {
            Some(limit) => {
                worker.stats.reached(limit);
                reset(&stream);
            }
            None => {
                lifeline.began();
                let reached = match reach {
                    Reach::Here(reached) => Some(reached),
                    Reach::Later(_) | Reach::Coming => reaching.await,
                    Reach::Refused(_) => None,
                };
                far.pass(worker, arrival, stream, read.freeze(), reached).await;
                lifeline.ended(std::time::Instant::now());
            }
        },
        First::Refused => far.pass(worker, arrival, stream, Bytes::new(), None).await,
        First::Gone => {}
    }
    None
}

/// Where the bytes of a connection go, and the endpoints to choose from.
fn find(worker: &Worker, arrival: &Arrival<'_>) -> (Far, Endpoints) {
    let table = worker.table.get();
    let place = &arrival.listener.place;
    let service = destined(place, arrival.original, &table);
    let workload = table.estate.workload.as_ref().filter(|_| *place == Place::Inbound);
    let far = Far {
        service: service.map(|service| service.name.clone()),
        idle: service.map_or(ELSEWHERE, |service| service.timeouts.idle),
        own: workload.and_then(|workload| workload.key),
        meant: meant(place, arrival.original, &table.estate),
        port: arrival.original.map(|address| address.port()),
        generation: table.generation,
    };
    let set = match far.meant {
        Some(address) => Endpoints::One(worker.meant.at(address, false)),
        None => {
            service.and_then(|service| service.baseline.clone()).unwrap_or_else(|| [].into_iter().collect())
        }
    };
    (far, set)
}

/// Connects to one of these endpoints; `None`: none takes it.
async fn reach(worker: &Worker, set: Endpoints) -> Option<Upstream> {
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    while let Some(endpoint) = pick::endpoint(&set, &worker.pool, &tried, worker.random()) {
        let connecting = TcpStream::connect(endpoint.address);
        if let Ok(Ok(stream)) = timeout(endpoint.upstream.connect_timeout, connecting).await
            && stream.set_nodelay(true).is_ok()
        {
            return Some((stream, Arc::clone(endpoint)));
        }
        worker.pool.failed(endpoint, &set);
        tried.push(endpoint.id);
    }
    None
}

impl Far {
    /// Whether an authority is a name of the service.
    fn is_named(&self, authority: &[u8], worker: &Worker) -> bool {
        let table = worker.table.get();
        let authority = std::str::from_utf8(authority).unwrap_or_default();
        let named = service_of_host(authority, self.port, &table.estate);
        named.is_some_and(|named| self.service.as_ref() == Some(&named.name))
    }

    /// Waits for whoever speaks first.
    async fn first(
        &self,
        worker: &Worker,
        stream: &mut TcpStream,
        read: &mut BytesMut,
        mut reaching: Pin<&mut impl Future<Output = Option<Upstream>>>,
        reach: &mut Reach,
    ) -> First {
        let over = (!self.idle.is_zero()).then(|| Instant::now() + self.idle);
        let is_named = |authority: &[u8]| self.is_named(authority, worker);
        let own = self.service.is_some().then_some(&is_named as &dyn Fn(&[u8]) -> bool);
        let mut line = None;
        // A client of HTTP/2 says its preface unasked (RFC 9113 section 3.4), and has most likely said it by now: its server
        // is often nearer to us, and must not decide for it.
        let mut is_greeted = false;
        loop {
            tokio::select! {
                biased;
                count = stream.read_buf(read) => match count {
                    // Some ask by ending their side.
                    Ok(0) => return First::Other,
                    Ok(_) => match speech(read, own) {
                        Speech::Other => return First::Other,
                        Speech::Unclear if read.len() < MOST => {
                            line.get_or_insert_with(|| Instant::now() + LINE);
                        }
                        Speech::Unclear => return First::Http(Speech::Http1),
                        speech => return First::Http(speech),
                    },
                    Err(_) => return First::Gone,
                },
                () = until(later(reach)) => *reach = Reach::Coming,
                reached = &mut reaching, if matches!(reach, Reach::Coming) => {
                    *reach = match reached {
                        Some(reached) => Reach::Here(reached),
                        None => Reach::Refused(Instant::now() + REFUSED),
                    };
                }
                said = answered(reach), if !is_greeted => match said {
                    Speech::Http2 => is_greeted = true,
                    _ => return First::Other,
                },
                () = until(refused(reach)) => return First::Refused,
                // An empty line alone is a question, too, in protocols of lines (RFC 1288).
                () = until(line) => return match is_blank(read) {
                    true => First::Other,
                    false => First::Http(Speech::Http1),
                },
                () = until(over) => return First::Gone,
            }
        }
    }

    /// Passes bytes to their end, and writes that down.
    async fn pass(
        &self,
        worker: &Worker,
        arrival: &Arrival<'_>,
        stream: TcpStream,
        first: Bytes,
        reached: Option<Upstream>,
    ) {
        let opaque = Opaque {
            client: arrival.peer.ip(),
            service: self.service.as_deref().unwrap_or_default(),
            meant: arrival.original,
            side: match (self.own, &self.service) {
                (Some(_), _) => Side::Fork,
                (None, Some(_)) => Side::Baseline,
                (None, None) => Side::None,
            },
            preview: self.own,
            generation: self.generation,
            endpoint: reached.as_ref().map(|(_, endpoint)| endpoint.address),
        };
        let log = opaque.begin(worker);
        let passed = Passed::default();
        let Some((upstream, endpoint)) = reached else {
            reset(&stream);
            return log.end(&passed, Ended::Cut);
        };
        worker.stats.opaque_connections.inc();
        let _counted = (worker.pool.count(&endpoint), Open::new(&worker.stats));
        let drain = worker.shared.drain.clone();
        let ended = relay(stream, first, upstream, self.idle, drain, &passed).await;
        log.end(&passed, ended);
    }
}

const fn later(reach: &Reach) -> Option<Instant> {
    match reach {
        Reach::Later(until) => Some(*until),
        Reach::Coming | Reach::Here(_) | Reach::Refused(_) => None,
    }
}

/// Waits until the other side has spoken, or ended; what it speaks. Its words stay where they are.
async fn answered(reach: &Reach) -> Speech {
    let Reach::Here((stream, _)) = reach else { return pending().await };
    // An error is met by whoever reads.
    drop(stream.readable().await);
    timeout(LINE, greeted(stream)).await.unwrap_or(Speech::Other)
}

/// What a side speaks that has begun to. It is looked at by a handle of our own: that we wait for more of what is not yet
/// clear must not keep whoever reads from what is there.
async fn greeted(stream: &TcpStream) -> Speech {
    let handle = stream.as_fd().try_clone_to_owned().and_then(|handle| TcpStream::from_std(handle.into()));
    let Ok(handle) = handle else { return Speech::Other };
    loop {
        let Ok(ready) = handle.ready(Interest::READABLE).await else { return Speech::Other };
        let looked = handle.try_io(Interest::READABLE, || {
            let mut said = [0; FRAME];
            let (_, count) = recv(&handle, &mut said, RecvFlags::PEEK)?;
            match greeting(said.get(..count).unwrap_or_default()) {
                // Said so, it is the next bytes that are waited for.
                Speech::Unclear if !ready.is_read_closed() => Err(io::ErrorKind::WouldBlock.into()),
                speech => Ok(speech),
            }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked.unwrap_or(Speech::Other),
        }
    }
}

const fn refused(reach: &Reach) -> Option<Instant> {
    match reach {
        Reach::Refused(until) => Some(*until),
        Reach::Later(_) | Reach::Coming | Reach::Here(_) => None,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
