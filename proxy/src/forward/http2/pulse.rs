//! Whether the peer of a connection still lives: one that dies without a word leaves its connection open for minutes.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing may come while something is under way, before the peer is asked; and how long it may take to its
/// answer.
const QUIET: Duration = Duration::from_secs(20);

/// The same for one that has answered, and has said nothing else since. Servers of gRPC count pings as abuse that come more
/// often than each five minutes while they send nothing (the third such one ends the connection): a stream may be silent.
const PATIENT: Duration = Duration::from_secs(310);
/// How often a peer that says nothing else is asked after [`QUIET`], where more has been asked of it meanwhile.
const ASKS: u8 = 2;
/// Octets of an answer to a ping.
const ANSWER: u64 = 17;

/// Asks a peer that says nothing for a sign of life. One that nothing is asked of may be silent.
pub(super) struct Pulse {
    /// Bytes that had come, and since when there are no more.
    read: u64,
    since: Instant,
    asked: bool,
    /// How often it was asked since it has said anything else.
    asks: u8,
    /// What had been asked of it when it was asked last.
    opened: u32,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Alive,
    /// It is to be asked.
    Ask,
    Dead,
}

impl Pulse {
    pub(super) const fn new(now: Instant) -> Self {
        Self { read: 0, since: now, asked: false, asks: 0, opened: 0 }
    }

    /// Whether the peer is alive, as far as can be said `now`, when `read` bytes have come and streams were `opened` up to
    /// this one.
    pub(super) fn beats(&mut self, read: u64, opened: u32, busy: bool, now: Instant) -> Beat {
        // An answer to a ping shows in the bytes.
        if read != self.read || !busy {
            let said = read.saturating_sub(self.read);
            let is_all_said = said == 0 || (self.asked && said == ANSWER);
            let asks = if is_all_said { self.asks } else { 0 };
            *self = Self { read, since: now, asked: false, asks, opened: self.opened };
            return Beat::Alive;
        }
        let is_new = self.asks == 0 || (self.asks < ASKS && opened != self.opened);
        let patience = if self.asked || is_new { QUIET } else { PATIENT };
        if now.saturating_duration_since(self.since) < patience {
            return Beat::Alive;
        }
        if self.asked {
            return Beat::Dead;
        }
        (self.since, self.asked, self.opened) = (now, true, opened);
        self.asks = self.asks.saturating_add(1);
        Beat::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::Beat::{Alive, Ask, Dead};
    use super::*;

    fn pulse() -> (Pulse, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Pulse::new(start), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn who_does_not_answer_is_dead() {
        let (mut pulse, at) = pulse();
        assert_eq!(pulse.beats(0, 3, true, at(19)), Alive);
        assert_eq!(pulse.beats(0, 3, true, at(20)), Ask);
        assert_eq!(pulse.beats(0, 3, true, at(39)), Alive, "has time");
        assert_eq!(pulse.beats(0, 3, true, at(40)), Dead);
    }

    #[test]
    fn who_says_something_or_has_nothing_to_say_is_not_asked() {
        let (mut pulse, at) = pulse();
        assert_eq!(pulse.beats(9, 3, true, at(20)), Alive, "bytes came");
        assert_eq!(pulse.beats(9, 3, false, at(50)), Alive, "nothing is under way");
        assert_eq!(pulse.beats(9, 3, true, at(69)), Alive, "and now something, since 19 s");
        assert_eq!(pulse.beats(9, 3, true, at(70)), Ask);
        assert_eq!(pulse.beats(30, 3, true, at(71)), Alive, "the answer, and more");
        assert_eq!(pulse.beats(30, 3, true, at(91)), Ask, "and again");
    }

    /// A server of gRPC lets three pings pass that it says nothing between, and the next one in five minutes ends all.
    #[test]
    fn a_stream_may_be_silent_for_long() {
        let (mut pulse, at) = pulse();
        let (mut read, mut asked) = (9, Vec::new());
        for second in 1..1000 {
            if pulse.beats(read, 3, true, at(second)) == Ask {
                read += ANSWER;
                asked.push(second);
            }
        }
        assert_eq!(asked, [21, 332, 643, 954]);
        // Something new is asked of it.
        assert_eq!(pulse.beats(read, 5, true, at(1000)), Alive);
        assert_eq!(pulse.beats(read + 1, 5, true, at(1001)), Alive, "it has begun to answer");
        assert_eq!(pulse.beats(read + 1, 5, true, at(1021)), Ask);
        assert_eq!(pulse.beats(read + 18, 5, true, at(1022)), Alive);
        assert_eq!(pulse.beats(read + 18, 7, true, at(1041)), Alive);
        assert_eq!(pulse.beats(read + 18, 7, true, at(1042)), Ask, "for the new one");
        assert_eq!(pulse.beats(read + 35, 7, true, at(1043)), Alive);
        assert_eq!(pulse.beats(read + 35, 9, true, at(1300)), Alive, "enough is enough");
        assert_eq!(pulse.beats(read + 35, 9, true, at(1353)), Ask);
        assert_eq!(pulse.beats(read + 35, 9, true, at(1373)), Dead, "whatever was before");
    }
}
