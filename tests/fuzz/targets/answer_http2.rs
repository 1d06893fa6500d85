//! What a hostile upstream answers over HTTP/2, through our reader of it and through the client of the h2 crate: what both
//! take they read alike, and what only one of them takes is in the list of [`differences`].
//!
//! The script of an upstream, a line for each thing that it says. The first line is what it is asked: `GET`, `HEAD`, or
//! `POST 5` with so many octets; `late` behind it: no body is used before all was said; `mute`: no SETTINGS come first, nor are
//! ours heard.
//!
//! | line | frame |
//! |---|---|
//! | `headers 1`, `trailers 1`, `more 1` | HEADERS, HEADERS with the end of the stream, CONTINUATION, of stream 1 |
//! | `data 1 text` | DATA |
//! | `priority 1`, `push 1`, `ping`, `reset 1 8`, `window 1 5`, `settings 3=0 4=5`, `goaway 1 0` | what they say |
//! | `frame 0 1 1 text` | any: kind, flags, stream and payload |
//! | `raw text` | none: the octets as they are |
//! | `pause` | none: what was said is heard before more is |
//! | `open` | none: what stands before it is said before there is a request |
//! | `times 5 LINE` | the line so often |
//!
//! Words before the text of a frame: `end`, `ack` and `priority` set the flag, `open` takes END_HEADERS out; `pad=5` octets of
//! padding, `size=5` octets more of text, `length=5` is what the head says of the length, `of=1` the stream.
//!
//! Other lines are those of the section that a frame before them has: `name: value` as it is (`-` before it: the same), `+` of
//! the table from now on, `!` of none ever, `~` in the code of Huffman, `*` both; in place of the name may stand its index
//! (`#28: 5`). `#8` is a whole line of the table, `=0` a change of its size, `.text` are octets as they are. In texts `\r`,
//! `\n`, `\t`, `\0`, `\\` and `\x4e` stand for octets.

mod differences;
mod hpack;
mod ours;
mod peer;
mod script;
mod theirs;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use self::script::Script;

/// How long an input may take: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an upstream may send of one answer before it is used, as the module says that is tried here.
const STREAM_WINDOW: u32 = 64 << 10;

/// The values of each name, in order; what is no text of ASCII is escaped.
type Lines = BTreeMap<String, Vec<String>>;
/// A head.
type Head = (u16, Lines);

/// What a reader will have made of an answer, and what the upstream got.
type Exchange<'s> = Pin<Box<dyn Future<Output = (Read, Vec<u8>)> + 's>>;

/// What a reader made of an answer.
#[derive(Default)]
struct Read {
    early: Vec<Head>,
    head: Option<Head>,
    body: Vec<u8>,
    trailers: Option<Lines>,
    /// Why it is not whole.
    fault: Option<String>,
}

impl fmt::Display for Read {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { early, head, body, trailers, fault } = self;
        let first = body[..body.len().min(40)].escape_ascii();
        write!(to, "{early:?}, {head:?}, {} octets ({first}), {trailers:?}, {fault:?}", body.len())
    }
}

/// A script.
pub(crate) fn check(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: RefCell<Runtime> =
            RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
    }
    let script = Script::read(bytes);
    let (ours, sent, theirs, sent_by_h2) = RUNTIME.with_borrow(|runtime| {
        let within = |what, future| {
            runtime.block_on(LocalSet::new().run_until(async {
                tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} ends"))
            }))
        };
        let (ours, sent) = within("our exchange", Box::pin(ours::read(&script)) as Exchange<'_>);
        let (theirs, sent_by_h2) = within("that of h2", Box::pin(theirs::read(&script)));
        (ours, sent, theirs, sent_by_h2)
    });
    peer::check(&script, &sent);
    if ours.fault.is_none() {
        assert!(
            !differences::overruns(&script.said(), &sent),
            "no more is taken than there is room for: {ours}"
        );
    }
    // What came before anything was wrong is the same.
    let early = ours.early.len().min(theirs.early.len());
    assert_eq!(ours.early[..early], theirs.early[..early], "an early answer: {ours}, {theirs}");
    if let (Some(one), Some(other)) = (&ours.head, &theirs.head) {
        assert_eq!(one, other, "the head");
    }
    let length = ours.body.len().min(theirs.body.len());
    assert!(ours.body[..length] == theirs.body[..length], "the body: {ours}, {theirs}");
    match (&ours.fault, &theirs.fault) {
        (None, None) => {
            assert_eq!(ours.early.len(), theirs.early.len());
            assert_eq!((ours.head.is_some(), ours.body.len()), (theirs.head.is_some(), theirs.body.len()));
            assert_eq!(
                ours.trailers.unwrap_or_default(),
                theirs.trailers.unwrap_or_default(),
                "the trailers"
            );
        }
        (Some(_), Some(_)) => {}
        (Some(why), None) => {
            assert!(
                differences::is_stricter(why, &script, &sent, &theirs),
                "we refuse what h2 takes: {why}; {theirs}"
            );
        }
        (None, Some(why)) => {
            assert!(
                differences::is_laxer(why, &script, &ours, &sent_by_h2),
                "we take what h2 refuses: {why}; {ours}, {theirs}"
            );
        }
    }
}
