//! What is known about a request when it has ended.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use sidetrack_config::Key;

use crate::decision::{Keys, Reason, Side};
use crate::error::Code;

/// One request, as a line of the log has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When its head began to arrive.
    pub time: SystemTime,
    /// Request id, host, path, service and user agent.
    pub texts: Texts,
    /// Who sent it, after `X-Forwarded-For` and the PROXY protocol where they are believed.
    pub client: IpAddr,
    /// The client connection, numbered since the start of the process.
    pub connection: u64,
    /// `HTTP/1.1`, `HTTP/2`, or `TCP` for what is no HTTP.
    pub protocol: &'static str,
    /// `http`, `https` or `tcp`.
    pub scheme: &'static str,
    /// The method; `None`: it is no HTTP.
    pub method: Option<http::Method>,
    /// The keys that it carried.
    pub keys: Keys,
    /// Where the keys were found, or `stamp`.
    pub carrier: Option<&'static str>,
    /// Which side answered.
    pub target: Side,
    /// Why; `None` where there was no decision.
    pub reason: Option<Reason>,
    /// The preview that decided.
    pub preview: Option<Key>,
    /// The generation of the table that was asked.
    pub generation: u64,
    /// Where it was sent.
    pub endpoint: Option<SocketAddr>,
    /// How many times it was sent again.
    pub retries: u8,
    /// HTTP status; 0 where the client went away before there was an answer.
    pub status: u16,
    /// What the proxy answered by itself.
    pub error: Option<Code>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// From the first byte of the head to the last byte of the answer.
    pub duration: Duration,
    /// From the request's being sent to the head of the upstream's answer.
    pub upstream: Option<Duration>,
    /// Whether the answer ended before it was complete.
    pub aborted: bool,
}

/// The texts of a request as they were received; what is absent is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawTexts<'a> {
    /// The id of the request.
    pub request_id: &'a [u8],
    /// `Host` or `:authority`.
    pub host: &'a [u8],
    /// The request target, with its query.
    pub path: &'a [u8],
    /// The name of the service.
    pub service: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
}

/// The texts of a request, bounded and copied into one allocation.
///
/// Copied, though a slice of what was received would be cheaper: a queue of such slices would pin whole read buffers.
/// Made before the head goes on to the upstream, since it is gone when the line is written.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each text ends, in the order of [`RawTexts`].
    ends: [u16; 5],
}

/// The most bytes that each text keeps; together below what `ends` can say. The rest is cut, and `…` put there.
const BOUNDS: [usize; 5] = [128, 256, 4096, 256, 256];
const CUT: &[u8] = "…".as_bytes();

impl Texts {
    /// Copies what fits.
    pub fn new(raw: &RawTexts<'_>) -> Self {
        let texts = [raw.request_id, raw.host, raw.path, raw.service, raw.user_agent];
        let length = texts.iter().zip(BOUNDS).map(|(text, bound)| text.len().min(bound + CUT.len())).sum();
        let (mut bytes, mut ends) = (Vec::with_capacity(length), [0; 5]);
        for ((text, bound), end) in texts.into_iter().zip(BOUNDS).zip(&mut ends) {
            match text.get(..bound) {
                Some(head) if text.len() > bound => bytes.extend([head, CUT].iter().copied().flatten()),
                _ => bytes.extend_from_slice(text),
            }
            *end = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        }
        Self { bytes, ends }
    }

    /// Request id, host, path, service and user agent, in this order.
    pub(super) fn all(&self) -> [&[u8]; 5] {
        let mut start = 0;
        self.ends.map(|end| {
            let range = start..usize::from(end);
            start = range.end;
            self.bytes.get(range).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_a_long_one_is_cut() {
        let path = [b'p'; 5_000];
        let raw = RawTexts { request_id: b"id", path: &path, service: b"shop", ..RawTexts::default() };
        let texts = Texts::new(&raw);
        let [id, host, cut, service, agent] = texts.all();
        assert_eq!((id, host, service, agent), (&b"id"[..], &b""[..], &b"shop"[..], &b""[..]));
        assert_eq!(std::str::from_utf8(cut).unwrap(), format!("{}…", "p".repeat(4_096)));
        assert!(texts.bytes.capacity() < 4_096 + 32, "one allocation, of what is needed");
    }

    #[test]
    fn the_longest_texts_fit() {
        let long = [b'x'; 70_000];
        let raw = RawTexts { request_id: &long, host: &long, path: &long, service: &long, user_agent: &long };
        for (text, bound) in Texts::new(&raw).all().into_iter().zip(BOUNDS) {
            assert_eq!(text.len(), bound + CUT.len());
        }
        let [_, host, ..] = Texts::new(&RawTexts { host: &long[..256], ..raw }).all().map(<[u8]>::len);
        assert_eq!(host, 256, "not cut at its bound");
    }
}
