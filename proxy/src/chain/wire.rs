//! Reports on their way: a hop sends one datagram and waits for nothing; the gateway takes what has come when it has an
//! answer to give, and from time to time. No datagram is sent twice, none is answered.

use std::cell::OnceCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::sync::watch;

use super::report::{MOST, Report};
use super::store::Store;
use crate::context::hidden::Secrets;
use crate::drain::Phase;
use crate::record::metrics::Metrics;
use crate::route::snapshot::Published;

/// The most datagrams that are looked at for one answer: a flood must not keep it waiting.
const FOR_ONE_ANSWER: usize = 32;
/// The most at once, and how long the next ones wait then: a flood may take some per cent of a CPU, and what is beyond that
/// the system throws away.
const AT_ONCE: usize = 512;
const PAUSE: Duration = Duration::from_millis(10);
/// How often it is looked whether something is too old.
const SWEEP: Duration = Duration::from_secs(5);
/// What the system may keep for us: some thousand datagrams.
const BUFFER: usize = 4 << 20;

/// What a worker sends reports with: a socket for each family, opened when it is first needed.
#[derive(Debug, Default)]
pub struct Sender {
    v4: OnceCell<Option<UdpSocket>>,
    v6: OnceCell<Option<UdpSocket>>,
}

impl Sender {
    /// Sends a datagram, or doesn't where that would mean to wait. Whether it arrives nobody knows.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let (cell, any): (_, SocketAddr) = match to {
            SocketAddr::V4(_) => (&self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let open = || {
            let socket =
                UdpSocket::bind(any).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            socket.inspect_err(|error| tracing::warn!(%error, "no receipt can be reported")).ok()
        };
        let Some(socket) = cell.get_or_init(open) else { return };
        if let Err(error) = socket.send_to(datagram, to) {
            tracing::debug!(%error, %to, "a receipt was not reported");
        }
    }
}

/// What a gateway takes reports with.
#[derive(Debug)]
pub struct Receiver {
    /// Held from reading a datagram until it is in the store: who finds nothing left to read finds all of it there, also what
    /// another thread has read. `None` once a drain began: a successor has the address then, and the system must not share
    /// reports out to both.
    socket: Mutex<Option<UdpSocket>>,
    /// The address that hops are told.
    pub address: SocketAddr,
    /// What they have said.
    pub store: Store,
    metrics: Arc<Metrics>,
}

impl Receiver {
    /// Listens on `listen`; hops are told `shown` where that is set, and else the same.
    ///
    /// # Errors
    /// The address can't be had.
    pub fn open(listen: SocketAddr, shown: Option<SocketAddr>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let domain = if listen.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // A successor takes it while we still have it.
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // As much of it as the system grants.
        let _ = socket.set_recv_buffer_size(BUFFER);
        socket.bind(&listen.into())?;
        let socket = UdpSocket::from(socket);
        let own = socket.local_addr()?;
        let address = match shown {
            // A free port is known only now.
            Some(shown) if shown.port() == 0 => SocketAddr::new(shown.ip(), own.port()),
            Some(shown) => shown,
            None => own,
        };
        Ok(Self { socket: Mutex::new(Some(socket)), address, store: Store::default(), metrics })
    }

    fn socket(&self) -> MutexGuard<'_, Option<UdpSocket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has come, for an answer that is to be given.
    pub fn take(&self, secrets: &Secrets) {
        self.take_some(secrets, FOR_ONE_ANSWER);
    }

    /// Takes at most so many datagrams, and says how many there were.
    fn take_some(&self, secrets: &Secrets, most: usize) -> usize {
        // One byte more: a longer one is none of ours.
        let mut buffer = [0; MOST + 1];
        (0..most).take_while(|_| self.take_one(secrets, &mut buffer)).count()
    }

    /// Takes one datagram, if there is one.
    fn take_one(&self, secrets: &Secrets, buffer: &mut [u8]) -> bool {
        let socket = self.socket();
        let received = socket.as_ref().and_then(|socket| socket.recv_from(buffer).ok());
        let Some((length, _)) = received else { return false };
        let datagram = buffer.get(..length).unwrap_or_default();
        // What nobody waits for costs no MAC.
        let is_open = Report::trace_of(datagram).is_some_and(|trace| self.store.is_open(trace));
        let report = is_open.then(|| Report::opened(datagram, secrets)).flatten();
        let counter = match report.is_some_and(|report| self.store.reported(report)) {
            true => &self.metrics.receipts_taken,
            false => &self.metrics.receipts_refused,
        };
        counter.inc();
        true
    }

    /// Takes late ones, until the drain begins.
    pub async fn run(self: Arc<Self>, published: Arc<Published>, mut drain: watch::Receiver<Phase>) {
        let ends = async {
            // An error means that nobody is there to say more.
            let _ = drain.wait_for(|phase| *phase != Phase::Serving).await;
        };
        tokio::select! {
            () = ends => {}
            error = self.listen(&published) => tracing::error!(%error, "late receipts are not heard of"),
        }
        *self.socket() = None;
    }

    async fn listen(&self, published: &Published) -> io::Error {
        let clone = self.socket().as_ref().map(UdpSocket::try_clone);
        let socket = match clone {
            Some(Ok(socket)) => tokio::net::UdpSocket::from_std(socket),
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return error,
        };
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                ready = socket.readable() => if let Err(error) = ready { return error },
                _ = sweep.tick() => {
                    self.store.sweep(Instant::now());
                    continue;
                }
            }
            let table = published.load();
            let secrets = &table.estate.context.secrets;
            // The runtime waits again only where it hears that there is nothing more.
            let _ = socket.try_io(Interest::READABLE, || match self.take_some(secrets, AT_ONCE) {
                AT_ONCE => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            });
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use sidetrack_config::model::Secret;

    use super::*;
    use crate::chain::hop::Hop;
    use crate::chain::tree::Root;

    /// What was sent before an answer is in its receipt, though the thread that hears of late ones may have read it.
    #[test]
    fn what_another_thread_has_read_is_there_too() {
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let receiver = Arc::new(Receiver::open(listen, None, Metrics::new(1)).unwrap());
        let secrets = Secrets::new(&[Secret(b"a secret of sixteen bytes".to_vec())]);
        let is_over = Arc::new(AtomicBool::new(false));
        let late = std::thread::spawn({
            let (receiver, secrets, is_over) = (receiver.clone(), secrets.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    receiver.take_some(&secrets, AT_ONCE);
                }
            }
        });
        let sender = Sender::default();
        let report = |trace, hop| {
            let text = format!("s{hop}@42").into();
            Report { trace, hop, behind: hop - 1, same: 0, start: hop, micros: 1, endpoint: None, text }
        };
        let missing = (1..=2000_u128).filter(|trace| {
            receiver.store.began(*trace, 1, Instant::now());
            sender.send(receiver.address, &report(*trace, 2).sealed(&secrets).unwrap());
            receiver.take(&secrets);
            let answered = vec![Hop::new("s1@42".to_owned(), 1, None)];
            receiver.store.answered(Root { own: report(*trace, 1), answered }).len() != 2
        });
        let missing = missing.count();
        is_over.store(true, Ordering::Relaxed);
        late.join().unwrap();
        assert_eq!(missing, 0);
    }
}
