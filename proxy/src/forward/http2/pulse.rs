//! Whether the peer of a connection still lives: one that dies without a word leaves its connection open for minutes.

use std::task::{Context, Waker};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

/// How long nothing may come while something is under way, before the peer is asked; and how long it may take to its
/// answer.
const QUIET: Duration = Duration::from_secs(20);

/// Asks a peer that says nothing for a sign of life. One that nothing is asked of may be silent: servers count pings
/// on an idle connection as abuse.
pub(super) struct Pulse {
    ping: PingPong,
    /// Bytes that had come, and since when there are no more.
    read: u64,
    since: Instant,
    asked: bool,
}

impl Pulse {
    pub(super) const fn new(ping: PingPong, now: Instant) -> Self {
        Self { ping, read: 0, since: now, asked: false }
    }

    /// Whether the peer is alive, as far as can be said `now`, when `read` bytes have come.
    pub(super) fn beats(&mut self, read: u64, busy: bool, now: Instant) -> bool {
        // An answer is taken, so that the next ping can be sent; that it came shows in the bytes.
        let _ = self.ping.poll_pong(&mut Context::from_waker(Waker::noop()));
        if read != self.read || !busy {
            (self.read, self.since, self.asked) = (read, now, false);
        } else if now.saturating_duration_since(self.since) >= QUIET {
            if self.asked {
                return false;
            }
            // Where one is still on its way already, its answer is waited for.
            let _ = self.ping.send_ping(Ping::opaque());
            (self.since, self.asked) = (now, true);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pulse, with a peer that reads and says nothing unless its side is served.
    async fn pulse(now: Instant) -> (Pulse, tokio::task::JoinHandle<()>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (sender, mut connection) = h2::client::handshake(ours).await.unwrap();
        let pulse = Pulse::new(connection.ping_pong().unwrap(), now);
        let driver = tokio::spawn(async move {
            let _ = connection.await;
            drop(sender);
        });
        (pulse, driver, theirs)
    }

    #[tokio::test]
    async fn who_does_not_answer_is_dead() {
        let start = Instant::now();
        let (mut pulse, driver, _theirs) = pulse(start).await;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pulse.beats(0, true, at(19)) && !pulse.asked);
        assert!(pulse.beats(0, true, at(20)) && pulse.asked, "is asked");
        assert!(pulse.beats(0, true, at(39)), "has time");
        assert!(!pulse.beats(0, true, at(40)));
        driver.abort();
    }

    #[tokio::test]
    async fn who_says_something_or_has_nothing_to_say_is_not_asked() {
        let start = Instant::now();
        let (mut pulse, driver, _theirs) = pulse(start).await;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pulse.beats(9, true, at(20)) && !pulse.asked, "bytes came");
        assert!(pulse.beats(9, false, at(50)) && !pulse.asked, "nothing is under way");
        assert!(pulse.beats(9, true, at(69)) && !pulse.asked, "and now something, since 19 s");
        assert!(pulse.beats(9, true, at(70)) && pulse.asked);
        assert!(pulse.beats(26, true, at(71)) && !pulse.asked, "the answer, or anything else");
        assert!(pulse.beats(26, true, at(91)) && pulse.asked, "and again");
        driver.abort();
    }
}
