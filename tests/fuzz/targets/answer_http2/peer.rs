//! The upstream: says what the script says, and hears what the client does.

use std::rc::Rc;

use sidetrack_proxy::accept::sniff::PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, yield_now};

use super::script::Script;

/// Room on the wire: all of an answer is said without waiting for who hears it.
const WIRE: usize = 2 << 20;
/// Turns of everybody else, until nothing happens any more.
const TURNS: usize = 64;
/// What a client says at most.
const MOST: usize = 4 << 20;
/// Windows, where nobody says otherwise.
const WINDOW: u64 = 65_535;

/// An upstream at work.
pub(super) struct Peer {
    /// Once the request may be sent.
    pub(super) begun: Rc<Notify>,
    /// Once all was said.
    pub(super) said: Rc<Notify>,
    heard: JoinHandle<Vec<u8>>,
}

impl Peer {
    /// One that has this script, and the client's end of its connection.
    pub(super) fn begin(script: &Script) -> (Self, DuplexStream) {
        let (near, far) = tokio::io::duplex(WIRE);
        let (begun, said) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (before, pieces) = (script.before.clone(), script.pieces.clone());
        let (tell, end) = (Rc::clone(&begun), Rc::clone(&said));
        let heard = tokio::task::spawn_local(async move {
            let (mut from, mut to) = tokio::io::split(far);
            let say = async {
                if let Some(before) = before {
                    let _ = to.write_all(&before).await;
                    turns().await;
                }
                tell.notify_one();
                // The request comes first: what answers none is of no stream.
                turns().await;
                let last = pieces.len() - 1;
                for (at, piece) in pieces.iter().enumerate() {
                    // A client that has gone hears no more.
                    let _ = to.write_all(piece).await;
                    if at < last {
                        turns().await;
                    }
                }
                let _ = to.shutdown().await;
                turns().await;
                end.notify_one();
            };
            let hear = async {
                let mut heard = Vec::new();
                while from.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
                    assert!(heard.len() <= MOST, "a client says no more than it is asked to");
                }
                heard
            };
            tokio::join!(say, hear).1
        });
        (Self { begun, said, heard }, near)
    }

    /// What it heard.
    pub(super) async fn end(self) -> Vec<u8> {
        self.heard.await.expect("it ends")
    }
}

async fn turns() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// Frames, as far as there are whole ones: kind, flags, stream and payload.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, &[u8])> {
    let mut frames = Vec::new();
    while let Some([a, b, c, kind, flags, stream @ ..]) = bytes.first_chunk::<9>() {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some(payload) = bytes.get(9..9 + length) else { break };
        frames.push((*kind, *flags, u32::from_be_bytes(*stream) & 0x7fff_ffff, payload));
        bytes = &bytes[9 + length..];
    }
    frames
}

/// The number in the first four octets.
pub(super) fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |number| u64::from(u32::from_be_bytes(*number)))
}

/// What our client sent is HTTP/2, and within the windows.
pub(super) fn check(script: &Script, sent: &[u8]) {
    let sent = sent.strip_prefix(PREFACE).expect("the first words");
    let said = script.said();
    let (mut largest, mut stream, mut connection) = (WINDOW, 0, WINDOW);
    for (kind, _, id, payload) in frames(&said) {
        match (kind, id) {
            (4, 0) => {
                for setting in payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    largest = largest.max(number(&setting[2..]));
                }
            }
            (8, 0) => connection += number(payload) & 0x7fff_ffff,
            (8, 1) => stream += number(payload) & 0x7fff_ffff,
            _ => {}
        }
    }
    let asked = super::differences::sections(sent);
    let first: &[&[u8]] = &[b":method", b":scheme", b":authority", b":path"];
    assert!(asked.iter().all(|names| names == first), "the request is one: {asked:?}");
    let (mut body, mut ended, mut reset, mut left, mut length) = (0_u64, 0, 0, 0, 0);
    for (at, (kind, flags, id, payload)) in frames(sent).into_iter().enumerate() {
        length += 9 + payload.len();
        assert_eq!(at == 0, kind == 4 && flags & 1 == 0, "its settings come first, and once");
        assert!(payload.len() <= 4 * 16_384, "a frame is short");
        assert_eq!(left, 0, "nothing follows the end of a connection");
        match kind {
            0 | 1 => {
                assert_eq!((id, ended, reset), (1, 0, 0), "there is one request");
                ended += u64::from(flags & 1);
                body += if kind == 0 { payload.len() as u64 } else { 0 };
                assert!(kind == 0 || payload.len() > 5);
                assert!(kind == 1 || payload.iter().all(|octet| *octet == b'b'));
            }
            3 => reset += 1,
            7 => left += 1,
            4 | 6 | 8 => assert!(kind != 8 || number(payload) > 0),
            _ => panic!("what kind of frame is {kind}?"),
        }
    }
    assert_eq!(length, sent.len(), "all frames are whole");
    assert!(reset <= 1);
    assert!(body <= (largest + stream).min(connection), "{body} octets are more than the windows");
    assert!(ended == 0 || body == script.body as u64, "all of the body is sent: {body}");
}
