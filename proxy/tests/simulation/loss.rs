//! What the system loses. Loopback drops packets where others keep it busy, and what was lost comes again by a clock that
//! nobody here moves: seconds have passed in the simulation until then, and what it saw proves nothing.

use std::time::Duration;

/// Until what was lost is sent again: the least time-out of TCP is 200 ms.
const AGAIN: Duration = Duration::from_millis(400);

/// How much was lost so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss(u64);

impl Loss {
    pub(crate) fn now() -> Self {
        Self(dropped() + sent_again())
    }

    /// Waits until nothing is lost for a moment, or long enough: losses come in bursts.
    pub(crate) fn wait_for_calm() {
        for _ in 0..12 {
            let before = Self::now();
            std::thread::sleep(AGAIN);
            if Self::now() == before {
                return;
            }
        }
    }

    /// Whether anything was lost since.
    pub(crate) fn has_grown(self) -> bool {
        if Self::now() == self {
            std::thread::sleep(AGAIN);
        }
        Self::now() != self
    }
}

/// Packets that found the queue of a processor full: the second column, in hexadecimal.
fn dropped() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let column = |line: &str| u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    text.lines().map(column).sum()
}

/// Segments that TCP sent once more.
fn sent_again() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}
