//! What a hop tells the gateway: one datagram, when the head of its answer is there. A fixed head, the entry, and a MAC
//! over both:
//!
//! ```text
//! "sdtr" version 1 | trace 16 | hop 8 | behind 8 | same 8 | start 8 | duration 4 | family 1 address 16 port 2 | length 2 entry | MAC 16
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::hop::is_entry;
use crate::context::hidden::Secrets;

const MAGIC: &[u8; 5] = b"sdtr\x01";

/// What the MAC is of, so that one secret can serve other purposes too.
const PURPOSE: &[u8] = b"sidetrack receipt\0";

/// Bytes before the entry.
const HEAD: usize = MAGIC.len() + 16 + 4 * 8 + 4 + 1 + 16 + 2 + 2;
const MAC: usize = 16;
/// The most bytes of an entry: names are far shorter.
const ENTRY: usize = 400;
/// The most bytes of a datagram.
pub const MOST: usize = HEAD + ENTRY + MAC;

/// What a hop says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The trace of its request.
    pub trace: u128,
    /// Its id.
    pub hop: u64,
    /// The hop that the request came from.
    pub behind: u64,
    /// The hop that it has joined with itself, since both are one; zero: none.
    pub same: u64,
    /// When the request came, in microseconds since 1970 by the clock of that machine.
    pub start: u64,
    /// Microseconds until the head of its answer.
    pub micros: u32,
    /// Where it sent the request.
    pub endpoint: Option<SocketAddr>,
    /// Its entry: `checkout@42;reason=fork;gen=17`.
    pub text: Box<str>,
}

impl Report {
    /// The datagram; `None`: there is no secret, or the entry is too long.
    pub fn sealed(&self, secrets: &Secrets) -> Option<Vec<u8>> {
        let length = u16::try_from(self.text.len()).ok().filter(|length| usize::from(*length) <= ENTRY)?;
        let mut out = Vec::with_capacity(HEAD + self.text.len() + MAC);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.trace.to_be_bytes());
        for number in [self.hop, self.behind, self.same, self.start] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.micros.to_be_bytes());
        let (family, ip, port) = match self.endpoint {
            None => (0, Ipv6Addr::UNSPECIFIED, 0),
            Some(SocketAddr::V4(at)) => (4, at.ip().to_ipv6_mapped(), at.port()),
            Some(SocketAddr::V6(at)) => (6, *at.ip(), at.port()),
        };
        out.push(family);
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&port.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.text.as_bytes());
        let mac = secrets.tag(&[PURPOSE, &out])?;
        out.extend_from_slice(&mac.to_be_bytes());
        Some(out)
    }

    /// The trace that a datagram is of, believed or not: nothing is computed for one that nobody waits for.
    pub fn trace_of(datagram: &[u8]) -> Option<u128> {
        let mut left = Left(datagram.strip_prefix(MAGIC)?);
        left.take().map(u128::from_be_bytes)
    }

    /// What a datagram says, if it has the MAC of one who knows a secret, and is whole.
    pub fn opened(datagram: &[u8], secrets: &Secrets) -> Option<Self> {
        let (message, mac) = datagram.split_last_chunk::<MAC>()?;
        secrets.verify(&[PURPOSE, message], u128::from_be_bytes(*mac)).then(|| Self::read(message))?
    }

    /// What a datagram without its MAC says.
    pub fn read(message: &[u8]) -> Option<Self> {
        let mut left = Left(message.strip_prefix(MAGIC)?);
        let trace = u128::from_be_bytes(left.take()?);
        let [hop, behind, same, start] =
            [left.take()?, left.take()?, left.take()?, left.take()?].map(u64::from_be_bytes);
        let micros = u32::from_be_bytes(left.take()?);
        let [family] = left.take()?;
        let ip = Ipv6Addr::from(left.take::<16>()?);
        let port = u16::from_be_bytes(left.take()?);
        let endpoint = match family {
            0 => None,
            4 => Some(SocketAddr::new(IpAddr::V4(ip.to_ipv4_mapped()?), port)),
            6 => Some(SocketAddr::new(IpAddr::V6(ip), port)),
            _ => return None,
        };
        let length = usize::from(u16::from_be_bytes(left.take()?));
        let text = std::str::from_utf8(left.0).ok()?;
        let is_whole = text.len() == length && (1..=ENTRY).contains(&length) && is_entry(text) && hop != 0;
        is_whole.then(|| Self { trace, hop, behind, same, start, micros, endpoint, text: text.into() })
    }
}

/// What is left to read.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.0.split_first_chunk::<N>()?;
        self.0 = left;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sidetrack_config::model::Secret;

    use super::*;

    fn seal(secrets: &[&str]) -> Secrets {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret(text.as_bytes().to_vec())).collect();
        Secrets::new(&secrets)
    }

    fn any_report() -> impl Strategy<Value = Report> {
        let numbers = (any::<u128>(), 1_u64.., any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
        let endpoint = any::<Option<(std::net::Ipv4Addr, u16)>>();
        (numbers, endpoint, "[a-z]{1,20}@(42|baseline);reason=fork;gen=1").prop_map(
            |((trace, hop, behind, same, start, micros), endpoint, text)| {
                let endpoint = endpoint.map(SocketAddr::from);
                Report { trace, hop, behind, same, start, micros, endpoint, text: text.into() }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_by_who_has_the_secret(report in any_report()) {
            let sealed = report.sealed(&seal(&["new", "old"])).unwrap();
            prop_assert!(sealed.len() <= MOST);
            prop_assert_eq!(Report::trace_of(&sealed), Some(report.trace));
            prop_assert_eq!(Report::opened(&sealed, &seal(&["other", "new"])), Some(report.clone()));
            prop_assert_eq!(Report::opened(&sealed, &seal(&["old"])), None, "the first one writes");
            prop_assert_eq!(Report::opened(&sealed, &seal(&[])), None);
            prop_assert_eq!(report.sealed(&seal(&[])), None);
        }

        #[test]
        fn a_changed_one_is_not_believed(report in any_report(), at: prop::sample::Index, bit in 0_u8..8) {
            let mut sealed = report.sealed(&seal(&["a"])).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(Report::opened(&sealed, &seal(&["a"])), None);
        }

        #[test]
        fn nothing_else_is_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Report::opened(&bytes, &seal(&["a"])), None);
            if let Some(report) = Report::read(&bytes) {
                prop_assert!(is_entry(&report.text));
            }
        }
    }
}
