//! Bytes that are no HTTP: both ways as they are, each way to its own end (a half-closed connection is half-closed beyond
//! us, too), until nothing comes for the idle time-out or the drain is over. A connection that a side resets is reset on
//! the other, and one that we end is reset on both: where an end says that all was said, ours must not look like one.
//! Nothing is held for a connection that says nothing.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::gap::stalled;
use crate::drain::Phase;

/// Bytes that one direction holds at most, while they wait to be taken.
const BUFFER: usize = 16 << 10;
/// How long a connection is quiet before the system asks whether its other side is still there, and between two questions:
/// bytes may be an hour apart, and a host that has gone says nothing at all.
const ASKED: Duration = Duration::from_secs(60);

/// What went through.
#[derive(Debug)]
pub struct Passed {
    /// Bytes of the client.
    pub sent: Cell<u64>,
    /// Bytes for the client.
    pub received: Cell<u64>,
    last: Cell<Instant>,
}

impl Default for Passed {
    fn default() -> Self {
        Self { sent: Cell::new(0), received: Cell::new(0), last: Cell::new(Instant::now()) }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides said all they had to say.
    Whole,
    /// A side broke off, or said nothing for too long, or we had to end.
    Cut,
}

/// Passes bytes between `client`, of whom `first` was read already, and `upstream`.
pub async fn relay(
    mut client: TcpStream,
    first: Bytes,
    mut upstream: TcpStream,
    idle: Duration,
    mut drain: watch::Receiver<Phase>,
    passed: &Passed,
) -> Ended {
    for stream in [&client, &upstream] {
        // Where the system refuses, the idle time-out is what there is.
        let _ = SockRef::from(stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(ASKED).with_interval(ASKED));
        // Whatever ends us from now on.
        reset(stream);
    }
    let result = {
        let (from_client, to_client) = client.split();
        let (from_upstream, to_upstream) = upstream.split();
        let both = async {
            tokio::try_join!(
                passed.copy(first, from_client, to_upstream, &passed.sent),
                passed.copy(Bytes::new(), from_upstream, to_client, &passed.received),
            )
        };
        tokio::select! {
            result = both => result.map(drop),
            () = stalled(&passed.last, idle) => Err(io::ErrorKind::TimedOut.into()),
            _ = drain.wait_for(|phase| *phase == Phase::Over) => Err(io::Error::other("the drain is over")),
        }
    };
    match result {
        Ok(()) => {
            for stream in [&client, &upstream] {
                let _ = SockRef::from(stream).set_linger(None);
            }
            Ended::Whole
        }
        Err(error) => {
            tracing::debug!(%error, "a connection broke off");
            Ended::Cut
        }
    }
}

/// Has the connection end in a reset: what was not said must not look like an end.
pub fn reset(stream: &TcpStream) {
    // Where the system refuses, it ends as others do.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Passed {
    /// Passes one direction to its end.
    async fn copy(
        &self,
        first: Bytes,
        from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        count: &Cell<u64>,
    ) -> io::Result<()> {
        if !first.is_empty() {
            to.write_all(&first).await?;
            self.count(count, first.len());
            drop(first);
        }
        loop {
            from.readable().await?;
            let mut buffer = Vec::with_capacity(BUFFER);
            match from.try_read_buf(&mut buffer) {
                Ok(0) => return to.shutdown().await,
                Ok(read) => {
                    to.write_all(&buffer).await?;
                    self.count(count, read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn count(&self, count: &Cell<u64>, bytes: usize) {
        count.set(count.get() + u64::try_from(bytes).unwrap_or(0));
        self.last.set(Instant::now());
    }
}
