//! Upstreams: each has an address of its own, behaves as the director says, and writes down who came.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::Mark;
use crate::clock::Clock;
use crate::wire::Wire;

/// How an upstream behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Answers,
    /// With a fault of the application's own, which is its tester's to see.
    Says503,
    /// After so many milliseconds.
    Late(u64),
    /// Reads, and says nothing.
    Hangs,
    /// Nobody listens.
    Refuses,
    /// A connect gets no answer.
    Swallows,
    /// Accepts and closes.
    Closes,
    /// Resets when the request is there.
    Resets,
    /// Says half a head.
    BreaksOff,
    /// Says half a body.
    Dies,
    /// Says half a body, and then nothing.
    Stalls,
    /// Says what is no HTTP.
    Babbles,
}

impl Manner {
    /// Those in which an answer comes, at once and whole.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Answers | Self::Says503)
    }

    /// Those in which no connection stands.
    pub(crate) fn is_unreachable(self) -> bool {
        matches!(self, Self::Refuses | Self::Swallows)
    }

    /// Those that end a connection before there is an answer.
    pub(crate) fn is_breaking(self) -> bool {
        matches!(self, Self::Closes | Self::Resets | Self::BreaksOff | Self::Babbles)
    }

    /// Those that may cost an endpoint its place for a while (DESIGN 2.3). A slow answer is none of them.
    pub(crate) fn may_eject(self) -> bool {
        self.is_unreachable() || self.is_breaking()
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) request: usize,
    pub(crate) upstream: usize,
    /// The key header that it came with.
    pub(crate) keys: Vec<String>,
    pub(crate) is_strict: bool,
}

pub(crate) type Arrivals = Rc<RefCell<Vec<Arrival>>>;

pub(crate) struct Upstream {
    pub(crate) id: usize,
    pub(crate) is_http2: bool,
    pub(crate) service: usize,
    /// Whose fork it is of; `None`: it is of the baseline.
    pub(crate) preview: Option<String>,
    pub(crate) address: SocketAddr,
    clock: Rc<Clock>,
    arrivals: Arrivals,
    manner: Cell<Manner>,
    /// What it was like, and from when on.
    history: RefCell<Vec<(Mark, Manner)>>,
    /// When its connections were cut.
    cuts: RefCell<Vec<usize>>,
    accepting: RefCell<Option<JoinHandle<()>>>,
    connections: Rc<RefCell<Vec<JoinHandle<()>>>>,
    /// A listener whose queue is full, and what fills it.
    swallowing: RefCell<Option<(Socket, Socket)>>,
}

impl Upstream {
    pub(crate) async fn new(
        (id, service, preview, is_http2): (usize, usize, Option<String>, bool),
        address: SocketAddr,
        clock: &Rc<Clock>,
        arrivals: &Arrivals,
    ) -> Rc<Self> {
        let upstream = Rc::new(Self {
            id,
            is_http2,
            service,
            preview,
            address,
            clock: Rc::clone(clock),
            arrivals: Rc::clone(arrivals),
            manner: Cell::new(Manner::Answers),
            history: RefCell::default(),
            cuts: RefCell::default(),
            accepting: RefCell::default(),
            connections: Rc::default(),
            swallowing: RefCell::default(),
        });
        upstream.behave(Manner::Answers, false).await;
        upstream
    }

    pub(crate) fn name(&self) -> String {
        let preview = self.preview.as_deref().unwrap_or("baseline");
        format!("s{}@{preview}#{}", self.service, self.id)
    }

    /// Behaves in another manner from now on; with `cut` those that are connected are cut off.
    pub(crate) async fn behave(self: &Rc<Self>, manner: Manner, cut: bool) {
        self.manner.set(manner);
        self.history.borrow_mut().push((Mark::now(&self.clock), manner));
        if cut {
            self.cuts.borrow_mut().push(self.clock.step());
            for connection in self.connections.take() {
                connection.abort();
                let _ = connection.await;
            }
        }
        self.connections.borrow_mut().retain(|connection| !connection.is_finished());
        let accepting = self.accepting.take();
        let swallowing = self.swallowing.take();
        if !manner.is_unreachable() && accepting.is_some() {
            *self.accepting.borrow_mut() = accepting;
            return;
        }
        drop(swallowing);
        if let Some(accepting) = accepting {
            accepting.abort();
            let _ = accepting.await;
        }
        match manner {
            Manner::Refuses => {}
            Manner::Swallows => {
                let listener = self.listen(0);
                // One connection is taken into a queue of none, and no other.
                let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                filler.connect(&self.address.into()).unwrap();
                *self.swallowing.borrow_mut() = Some((listener, filler));
            }
            _ => {
                let listener = TcpListener::from_std(self.listen(1024).into()).unwrap();
                let accepting = tokio::task::spawn_local(Rc::clone(self).accept(listener));
                *self.accepting.borrow_mut() = Some(accepting);
            }
        }
    }

    fn listen(&self, backlog: i32) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&self.address.into()).unwrap_or_else(|error| panic!("{}: {error}", self.address));
        socket.listen(backlog).unwrap();
        socket
    }

    /// Everything that it was like in these steps.
    pub(crate) fn manners(&self, from: usize, to: usize) -> Vec<Manner> {
        self.manners_behind(|mark| mark.step <= from, to)
    }

    /// Everything that it was like from a moment to a step.
    pub(crate) fn manners_since(&self, at: Duration, to: usize) -> Vec<Manner> {
        self.manners_behind(|mark| mark.at < at, to)
    }

    /// From the last one that was before, which went on until another came.
    fn manners_behind(&self, is_before: impl Fn(&Mark) -> bool, to: usize) -> Vec<Manner> {
        let history = self.history.borrow();
        let first = history.iter().rposition(|(mark, _)| is_before(mark)).unwrap_or(0);
        let meant = history[first..].iter().take_while(|(mark, _)| mark.step <= to);
        meant.map(|(_, manner)| *manner).collect()
    }

    /// Since when it answered, at once and whole, and did so in a step; `None`: it did not.
    pub(crate) fn good_since(&self, step: usize) -> Option<Duration> {
        let history = self.history.borrow();
        let until = history.iter().rposition(|(mark, _)| mark.step <= step)?;
        let good = history[..=until].iter().rev().take_while(|(_, manner)| manner.is_good());
        good.last().map(|(mark, _)| mark.at)
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner.get()
    }

    /// Whether it takes no request in this manner. Over HTTP/2 a stream may be refused, and a connection may end before a
    /// stream of it is written.
    pub(crate) fn is_down_when(&self, manner: Manner) -> bool {
        manner.is_unreachable()
            || (self.is_http2 && matches!(manner, Manner::BreaksOff | Manner::Closes | Manner::Babbles))
    }

    pub(crate) fn was_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.borrow().iter().any(|step| (from..=to).contains(step))
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.clock.moved();
            if self.manner.get() == Manner::Closes {
                continue;
            }
            let connection = match self.is_http2 {
                true => tokio::task::spawn_local(Rc::clone(&self).serve_http2(stream)),
                false => tokio::task::spawn_local(Rc::clone(&self).serve(Wire::new(stream))),
            };
            self.connections.borrow_mut().push(connection);
        }
    }

    async fn serve(self: Rc<Self>, mut wire: Wire) {
        while let Some(request) = wire.message(&self.clock, true).await {
            if !request.whole {
                return;
            }
            let target = request.first.split(' ').nth(1).unwrap();
            let id = target.trim_start_matches("/r").parse().unwrap();
            let is_strict = request.all("baggage").iter().any(|value| value.contains(";strict"));
            let keys = request.all("x-pr-id").into_iter().map(str::to_owned).collect();
            self.arrived(Arrival { request: id, upstream: self.id, keys, is_strict });
            if !self.answer(&mut wire.stream, id).await {
                return;
            }
            self.clock.moved();
        }
    }

    pub(crate) fn arrived(&self, arrival: Arrival) {
        self.arrivals.borrow_mut().push(arrival);
    }

    pub(crate) fn moved(&self) {
        self.clock.moved();
    }

    /// Answers as it does now; `false`: the connection ends.
    async fn answer(&self, stream: &mut TcpStream, id: usize) -> bool {
        let name = self.name();
        let answer = |status: &str| match id % 2 {
            0 => format!(
                "HTTP/1.1 {status}\r\nX-Upstream: {}\r\nContent-Length: {}\r\n\r\n{name}",
                self.id,
                name.len()
            ),
            _ => format!(
                "HTTP/1.1 {status}\r\nX-Upstream: {}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{name}\r\n0\r\n\r\n",
                self.id,
                name.len()
            ),
        };
        let whole = answer("200 OK");
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        let (text, goes_on) = match self.manner.get() {
            // What is connected is served, though nobody is let in any more.
            Manner::Answers | Manner::Refuses | Manner::Swallows | Manner::Closes => (&*whole, true),
            Manner::Says503 => (&*answer("503 Service Unavailable"), true),
            Manner::Late(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                (&*whole, true)
            }
            Manner::Hangs => std::future::pending().await,
            Manner::Resets => {
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
                ("", false)
            }
            Manner::BreaksOff => (&whole[..head / 2], false),
            Manner::Dies => (&whole[..head + 3], false),
            Manner::Stalls => {
                let _ = stream.write_all(&whole.as_bytes()[..head + 3]).await;
                std::future::pending().await
            }
            Manner::Babbles => ("220 smtp.example.com ESMTP\r\n\r\n", false),
        };
        stream.write_all(text.as_bytes()).await.is_ok() && goes_on
    }
}
