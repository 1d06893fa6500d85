//! One worker in a thread of its own, and what stands on both sides of it. Blocking sockets: a time-out of the proxy
//! is then its own, and not one of the test's runtime.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;
use sidetrack_config::limits::Limits;
use sidetrack_config::{read_route, stream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::accept::connection::Door;
use crate::accept::gate::Gate;
use crate::accept::listen;
use crate::drain::Phase;
use crate::fixture::table_of;
use crate::forward::hold::Holding;
use crate::record::metrics::Metrics;
use crate::route::snapshot::Published;
use crate::worker::{Shared, Worker};

/// How long a socket may be silent before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an upstream takes where it is asked to be slow; many times the time-out that cuts it.
const SLOW: Duration = Duration::from_secs(2);

/// A worker with services `one` and `two`, the preview 42 with a fork of `two`, and upstreams for all three.
pub(super) struct World {
    address: SocketAddr,
    upstreams: BTreeMap<&'static str, Upstream>,
    phase: watch::Sender<Phase>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Upstream {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
}

impl World {
    /// A worker with these routes, which are those of a stream.
    pub(super) fn new(routes: &[Value]) -> Self {
        let upstreams = BTreeMap::from(["one", "two", "two-42"].map(|name| (name, upstream(name))));
        let at = |name: &str| upstreams[name].address;
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0}}]\ndomains: [preview.localhost]\ncarriers: {{path: true}}\n\
             services: {{one: {{baseline: ['{}']}}, two: {{baseline: ['{}']}}}}\n\
             previews: {{'42': {{forks: {{two: ['{}']}}}}}}",
            at("one"),
            at("two"),
            at("two-42"),
        );
        let (table, listener) = table_of(&text, |config| {
            for route in routes {
                let route: stream::Route = serde_json::from_value(route.clone()).unwrap();
                let service = |name: &str| config.services.iter().position(|it| &*it.name == name);
                let route = read_route(&route, service).unwrap();
                config.routes.push(route);
            }
        });
        let (phase, drain) = watch::channel(Phase::Serving);
        let limits = Limits { max_connections: 1_000, max_in_flight: 1_000, ..Limits::default() };
        let shared = Arc::new(Shared {
            published: Arc::new(Published::new(Arc::new(table))),
            metrics: Metrics::new(1),
            log: None,
            limits,
            drain,
            holding: Arc::new(Holding::default()),
            gate: Gate::new(&limits),
            next_connection: AtomicU64::new(1),
            memory: OnceLock::new(),
            opened: Arc::default(),
            reports: None,
            via: HeaderValue::from_static("1.1 sidetrack-test"),
        });
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let sockets = listen::bind(listener.address, 1).unwrap();
                tell.send(sockets[0].local_addr().unwrap()).unwrap();
                let door = Arc::new(Door::new(listener, None));
                let sockets = sockets.into_iter().map(|socket| (Arc::clone(&door), socket)).collect();
                let (_, changes) = tokio::sync::mpsc::unbounded_channel();
                Worker::new(0, 1, 1, shared).run(sockets, changes).await;
            });
        });
        let address = told.recv_timeout(PATIENCE).unwrap();
        Self { address, upstreams, phase, thread: Some(thread) }
    }

    /// A connection that stays.
    pub(super) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// One request on a connection of its own; `fields` are lines, each with its end.
    pub(super) fn ask(&self, method: &str, host: &str, target: &str, fields: &str) -> Answer {
        self.connect().ask(method, host, target, fields)
    }

    /// How many requests an upstream saw.
    pub(super) fn seen(&self, name: &str) -> usize {
        self.upstreams[name].seen.load(Ordering::SeqCst)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the worker panicked");
        }
    }
}

/// A client of HTTP/1.1.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// One request and its answer.
    pub(super) fn ask(&mut self, method: &str, host: &str, target: &str, fields: &str) -> Answer {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
        let head = head(&mut self.stream).expect("an answer");
        let length = length(&head);
        let mut body = Vec::new();
        let read = (&mut self.stream).take(length).read_to_end(&mut body);
        let is_whole = read.is_ok() && u64::try_from(body.len()).unwrap() == length;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_lowercase(),
            raw: head,
            body: String::from_utf8(body).unwrap(),
            is_whole,
        }
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The head in lower case.
    pub(super) head: String,
    raw: String,
    pub(super) body: String,
    is_whole: bool,
}

impl Answer {
    /// The values of a field, in order.
    pub(super) fn fields(&self, name: &str) -> Vec<&str> {
        values(&self.raw, name)
    }

    /// The values of a field that the upstream received.
    pub(super) fn echoed(&self, name: &str) -> Vec<&str> {
        values(&self.body, name)
    }

    /// The target that the upstream received.
    pub(super) fn target(&self) -> &str {
        self.body.split(' ').nth(1).unwrap()
    }

    /// Which upstream answered; empty: none.
    pub(super) fn upstream(&self) -> &str {
        self.fields("x-upstream").first().copied().unwrap_or_default()
    }

    /// Whether all of the body came.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    #[track_caller]
    pub(super) fn came_from(&self, name: &str) {
        assert_eq!((self.status, self.upstream()), (200, name), "{} {}", self.head, self.body);
    }
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A head with its last empty line; `None` where the connection ended.
fn head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn length(head: &str) -> u64 {
    values(head, "content-length").first().map_or(0, |text| text.parse().unwrap())
}

/// An upstream that answers with the head that it received; slowly where the path asks for it.
fn upstream(name: &'static str) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    // It ends with the process: nothing but the test knows its port.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            thread::spawn(move || serve(name, stream.unwrap(), &count));
        }
    });
    Upstream { address, seen }
}

fn serve(name: &str, stream: TcpStream, count: &AtomicUsize) {
    stream.set_nodelay(true).unwrap();
    let out = RefCell::new(stream.try_clone().unwrap());
    // The proxy may cut the connection whenever it likes.
    let say = |text: &str| out.borrow_mut().write_all(text.as_bytes()).is_ok();
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream) {
        count.fetch_add(1, Ordering::SeqCst);
        if head.contains("/slow-head") {
            thread::sleep(SLOW);
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Upstream: {name}\r\nX-Upstream-Answer: 1\r\nX-Upstream-Answer: 2\r\nX-Secret: 1\r\nContent-Length: {}\r\n\r\n",
            head.len()
        );
        let (first, rest) = head.split_at(4);
        let slow = head.contains("/slow-body");
        let sent = say(&answer) && say(first) && {
            if slow {
                thread::sleep(SLOW);
            }
            say(rest)
        };
        if !sent {
            return;
        }
    }
}
