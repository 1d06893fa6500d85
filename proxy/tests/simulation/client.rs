//! Clients: one request each, over a connection of its own or one that is kept.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::wire::{Message, Wire};

/// Where a request carries its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Header,
    Host,
    Query,
    Baggage,
    Cookie,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: usize,
    pub(crate) service: usize,
    pub(crate) keys: Vec<String>,
    pub(crate) carrier: Carrier,
    pub(crate) is_strict: bool,
    /// The length of its body; `None`: a GET.
    pub(crate) body: Option<usize>,
    /// When the client goes away, answered or not.
    pub(crate) patience: Option<Duration>,
    pub(crate) on_new_connection: bool,
}

impl Request {
    fn text(&self) -> String {
        let (keys, own) = (&self.keys, |carrier| !self.keys.is_empty() && self.carrier == carrier);
        let label = if own(Carrier::Host) { format!("pr-{}.", keys[0]) } else { String::new() };
        let query = if own(Carrier::Query) { format!("?pr-id={}", keys.join(",")) } else { String::new() };
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let mut text = format!(
            "{method} /r{}{query} HTTP/1.1\r\nHost: {label}s{}.preview.localhost\r\nAccept: application/json\r\n",
            self.id, self.service
        );
        if own(Carrier::Header) {
            text += &format!("X-PR-ID: {}\r\n", keys.join(", "));
        }
        if own(Carrier::Baggage) {
            text += &format!("Baggage: other=1,pr-id={}\r\n", keys.join("."));
        }
        if own(Carrier::Cookie) {
            text += &format!("Cookie: pr-id={}\r\n", keys.join("."));
        }
        if self.is_strict {
            text += "X-PR-Strict: 1\r\n";
        }
        match self.body {
            Some(length) => format!("{text}Content-Length: {length}\r\n\r\n{}", "b".repeat(length)),
            None => text + "\r\n",
        }
    }
}

/// What was the case when something began or ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) step: usize,
    pub(crate) at: Duration,
}

impl Mark {
    pub(crate) fn now(clock: &Clock) -> Self {
        Self { step: clock.step(), at: clock.now() }
    }
}

/// What became of a request, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Answer(Message),
    /// The connection ended without a head.
    Closed,
    /// The client went away.
    GaveUp,
}

#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) request: Request,
    pub(crate) begun: Mark,
    pub(crate) ended: Mark,
    pub(crate) what: What,
}

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) proxy: SocketAddr,
    pub(crate) clock: Rc<Clock>,
    kept: Rc<RefCell<Vec<Wire>>>,
}

impl Clients {
    pub(crate) fn new(proxy: SocketAddr, clock: &Rc<Clock>) -> Self {
        Self { proxy, clock: Rc::clone(clock), kept: Rc::default() }
    }

    pub(crate) fn hang_up(&self) {
        self.kept.borrow_mut().clear();
    }

    /// Sends a request and waits for what comes.
    pub(crate) async fn ask(self, request: Request) -> Outcome {
        let begun = Mark::now(&self.clock);
        let patience = request.patience.unwrap_or(Duration::MAX);
        let what = tokio::time::timeout(patience, self.exchange(&request)).await.unwrap_or(What::GaveUp);
        self.clock.moved();
        Outcome { request, begun, ended: Mark::now(&self.clock), what }
    }

    async fn exchange(&self, request: &Request) -> What {
        let kept = self.kept.borrow_mut().pop_if(|_| !request.on_new_connection);
        let mut wire = match kept {
            Some(wire) => wire,
            None => Wire::new(TcpStream::connect(self.proxy).await.unwrap()),
        };
        if wire.stream.write_all(request.text().as_bytes()).await.is_err() {
            return What::Closed;
        }
        let Some(answer) = wire.message(&self.clock, false).await else { return What::Closed };
        if answer.whole && answer.get("connection") != Some("close") {
            self.kept.borrow_mut().push(wire);
        }
        What::Answer(answer)
    }
}
