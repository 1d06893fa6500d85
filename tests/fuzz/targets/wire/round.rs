//! One input: its client has an address of its own, by which upstreams tell its requests from those of others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::judge::{Seen, Sent, judge, one};
use super::world::World;

/// How long anything may take: far longer than it does, so that only what never comes is missed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client waits for an answer before it says the rest, and how often it does so.
const PAUSE: Duration = Duration::from_millis(5);
pub(crate) const PAUSES: usize = 4;

/// One input.
pub(crate) struct Round<'w> {
    world: &'w World,
    address: Ipv4Addr,
}

impl<'w> Round<'w> {
    /// The next one.
    pub(crate) fn begin(world: &'w World) -> Self {
        let number = world.round.get() + 1;
        world.round.set(number);
        let [_, high, mid, low] = number.to_be_bytes();
        // 127.0.x.y is for others, and 127.255.255.255 for all.
        Self { world, address: Ipv4Addr::new(127, 1 + high % 254, mid, low) }
    }

    /// A connection of this client.
    pub(crate) async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(IpAddr::V4(self.address), 0)).expect("an address of loopback");
        let stream =
            within("a connection", socket.connect(self.world.proxy)).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("a connection");
        stream
    }

    /// The end: an honest request is answered as ever, and what upstreams saw of this client is what it sent.
    pub(crate) async fn end(self, sent: &[Sent], ordered: bool) {
        let honest = format!("/any/honest-{}", self.world.round.get());
        let answer = self.ask(&honest).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer:?}");
        let log = std::mem::take(&mut *self.world.log.borrow_mut());
        let log: Vec<_> = log.iter().map(|seen| seen.borrow()).collect();
        let (honest, seen): (Vec<&Seen>, Vec<&Seen>) =
            log.iter().map(|seen| &**seen).partition(|seen| seen.request.target == honest);
        assert_eq!(honest.len(), 1, "the honest request came once: {honest:?}");
        for seen in &seen {
            assert!(seen.wrong.is_none() && client(seen).starts_with("127."), "{seen:?}");
        }
        // A request of an earlier input may be late.
        let address = self.address.to_string();
        let ours: Vec<&Seen> = seen.into_iter().filter(|seen| client(seen) == address).collect();
        if let Err(why) = judge(sent, &ours, ordered) {
            let line = |sent: &Sent| format!("\n{:?} {:?}", sent.authority, sent.request);
            panic!("{why}\nsent: {}", sent.iter().map(line).collect::<String>());
        }
    }

    /// The answer to an honest request.
    async fn ask(&self, target: &str) -> String {
        let mut client = self.connect().await;
        let request = format!("GET {target} HTTP/1.1\r\nhost: honest\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("room to write");
        let mut answer = Vec::new();
        let _ = within("an answer to an honest request", client.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Whose request it is, as the proxy tells its upstream.
fn client(seen: &Seen) -> &str {
    one(&seen.request, "x-forwarded-for").unwrap_or_default()
}

/// Says all pieces, with pauses between them; a connection that has ended is seen by reading.
pub(crate) async fn say(stream: &mut TcpStream, pieces: &[impl AsRef<[u8]>]) {
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            let _ = tokio::time::timeout(PAUSE, stream.readable()).await;
        }
        if stream.write_all(piece.as_ref()).await.is_err() {
            return;
        }
    }
}

/// Waits for what must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("no {what} within {PATIENCE:?}"),
    }
}
