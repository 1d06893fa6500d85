//! The entries of a chain: what every hop says of itself in `X-PR-Route`, and how lists of them are read, joined and
//! written.
//!
//! A client sees `checkout@42;reason=fork;gen=17`. Between proxies an entry has three parameters more, which a gateway
//! takes for itself: `hop` (the id of the hop), `us` (microseconds to the head of its answer), `depth` (how many hops of
//! the list it stands behind; none: it is the first of its kind).

use std::io::Write;

use memchr::memchr;
use smallvec::SmallVec;

use crate::fields::Fields;

/// Where receipts stand.
pub const ROUTE: &str = "x-pr-route";

/// Where browsers look for durations.
pub const TIMING: &str = "server-timing";

/// The most bytes of all entries of an answer: a chain of a hundred hops must not make the head too large.
pub const BOUND: usize = 4 << 10;

/// In place of entries that are not there for want of room, or since their calls have not ended yet.
pub const CUT: &str = "...";

/// The deepest that a chain is told: no call goes through more services, unless it is a loop.
const DEEPEST: u16 = 32;

/// What the names of our metrics begin with: `pr-1`, `pr-1-1`, `pr-1-2`.
const METRIC: &str = "pr";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// What a client sees of it.
    pub text: Box<str>,
    /// How many hops of the list it stands behind.
    pub depth: u16,
    /// The id of the hop; zero: it has none.
    pub id: u64,
    /// Microseconds until the head of its answer, where that is known.
    pub micros: Option<u32>,
}

impl Hop {
    /// The first hop of a list.
    pub fn new(text: impl Into<Box<str>>, id: u64, micros: Option<u32>) -> Self {
        Self { text: text.into(), depth: 0, id, micros }
    }

    /// The entry in place of those that are missing.
    pub fn cut(depth: u16) -> Self {
        Self { depth, ..Self::new(CUT, 0, None) }
    }

    /// Whether something is missing here.
    pub fn is_cut(&self) -> bool {
        &*self.text == CUT
    }

    /// Service and target: `checkout@42`.
    pub fn place(&self) -> &str {
        let end = memchr(b';', self.text.as_bytes()).unwrap_or(self.text.len());
        self.text.get(..end).unwrap_or_default()
    }

    /// What an entry says; `None`: not even a place.
    fn read(entry: &str) -> Option<Self> {
        let mut hop = Self::new("", 0, None);
        let mut parts = entry.split(';');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            if let Some(id) = part.strip_prefix("hop=").and_then(|text| u64::from_str_radix(text, 16).ok()) {
                hop.id = id;
            } else if let Some(micros) = part.strip_prefix("us=").and_then(|text| text.parse().ok()) {
                hop.micros = Some(micros);
            } else if let Some(depth) = part.strip_prefix("depth=").and_then(|text| text.parse().ok()) {
                hop.depth = DEEPEST.min(depth);
            } else {
                text.push(';');
                text.push_str(part);
            }
        }
        hop.text = text.trim().into();
        (!hop.place().is_empty()).then_some(hop)
    }

    fn write(&self, out: &mut Vec<u8>, reader: Reader) {
        out.extend_from_slice(self.text.as_bytes());
        if reader == Reader::Client {
            return;
        }
        // Writing to a Vec can't fail.
        if self.id != 0 {
            let _ = write!(out, ";hop={:016x}", self.id);
        }
        if let Some(micros) = self.micros {
            let _ = write!(out, ";us={micros}");
        }
        if self.depth != 0 {
            let _ = write!(out, ";depth={}", self.depth);
        }
    }
}

/// Who reads a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A client: what the contract says, and nothing else.
    Client,
    /// A proxy of ours.
    Proxy,
}

/// The entries in the fields of an answer, or of its trailers. What is beyond the bound is cut.
pub fn read(fields: &Fields) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut room = BOUND;
    for entry in fields.items(ROUTE) {
        let text = std::str::from_utf8(entry).ok().filter(|text| is_entry(text) && text.len() <= room);
        let hop = text.and_then(|text| {
            room -= text.len();
            Hop::read(text)
        });
        let Some(hop) = hop else {
            if hops.last().is_none_or(|last: &Hop| !last.is_cut()) {
                hops.push(Hop::cut(hops.last().map_or(0, |last| last.depth)));
            }
            continue;
        };
        hops.push(hop);
    }
    hops
}

/// Whether `text` may stand in a list as one entry.
pub fn is_entry(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b',')
}

/// Puts `own` before what came with an answer. Where the first of that says the same service and target, it is the next
/// proxy on the way to one workload (the sidecar there, behind the one that called), and both are one hop: `own` stays, and
/// the id of the other is given back.
pub fn before(own: Hop, mut received: Vec<Hop>) -> (Vec<Hop>, u64) {
    let is_same = received.first().is_some_and(|first| !first.is_cut() && first.place() == own.place());
    if !is_same {
        return (above(own, received), 0);
    }
    let mut own = own;
    let mut same = 0;
    if let Some(first) = received.first_mut() {
        same = first.id;
        own.depth = 0;
        *first = own;
    }
    for hop in received.iter_mut().skip(1) {
        hop.depth = hop.depth.max(1);
    }
    (received, same)
}

/// Puts `own` above all of `calls`.
pub fn above(own: Hop, mut calls: Vec<Hop>) -> Vec<Hop> {
    for hop in &mut calls {
        hop.depth = DEEPEST.min(hop.depth + 1);
    }
    calls.insert(0, Hop { depth: 0, ..own });
    calls
}

/// Writes the list as a field has it. The first entry is always there; what has no room is cut.
pub fn line(hops: &[Hop], reader: Reader, out: &mut Vec<u8>) {
    let start = out.len();
    for hop in hops {
        let before = out.len();
        if before > start {
            out.extend_from_slice(b", ");
        }
        hop.write(out, reader);
        if before > start && out.len() - start + ", ".len() + CUT.len() > BOUND {
            out.truncate(before);
            out.extend_from_slice(b", ");
            out.extend_from_slice(CUT.as_bytes());
            break;
        }
    }
}

/// Writes the list as `Server-Timing` has it, one metric for each hop. The name says where the hop stands: `pr-1-2` is the
/// second call of `pr-1`.
pub fn timing(hops: &[Hop], out: &mut Vec<u8>) {
    let start = out.len();
    let mut place: SmallVec<[u16; 8]> = SmallVec::new();
    // Every answer with a key has this line, and `write!` takes ten times as long.
    let mut digits = itoa::Buffer::new();
    for hop in hops.iter().filter(|hop| !hop.is_cut()) {
        let depth = usize::from(hop.depth).min(place.len());
        let number = place.get(depth).copied().unwrap_or(0).saturating_add(1);
        place.truncate(depth);
        place.push(number);
        let before = out.len();
        if before > start {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(METRIC.as_bytes());
        for number in &place {
            out.push(b'-');
            out.extend_from_slice(digits.format(*number).as_bytes());
        }
        out.extend_from_slice(b";desc=\"");
        push_quoted(out, hop.place());
        out.push(b'"');
        if let Some(micros) = hop.micros {
            out.extend_from_slice(b";dur=");
            out.extend_from_slice(digits.format(micros / 1000).as_bytes());
            out.push(b'.');
            // Three digits, whatever they are.
            out.extend_from_slice(
                digits.format(1000 + micros % 1000).as_bytes().get(1..).unwrap_or_default(),
            );
        }
        if out.len() - start > BOUND {
            out.truncate(before);
            break;
        }
    }
}

/// Writes `text` as it may stand between quotes.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in out.get_mut(start..).unwrap_or_default() {
        *byte = if matches!(*byte, b'"' | b'\\') { b'_' } else { *byte };
    }
}

/// The metric that says of which trace a chain is, so that its receipts can be asked for.
pub fn timing_of_trace(trace: u128) -> String {
    format!("{METRIC}-trace;desc=\"{trace:032x}\"")
}

/// Whether a line of `Server-Timing` is one of ours.
pub fn is_timing(line: &[u8]) -> bool {
    line.strip_prefix(METRIC.as_bytes()).is_some_and(|rest| rest.starts_with(b"-1;desc="))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&str]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|line| fields.append(ROUTE, line.as_bytes()));
        fields
    }

    fn list(text: &str) -> Vec<Hop> {
        read(&fields(&[text]))
    }

    /// What `write` writes.
    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn line(hops: &[Hop], reader: Reader) -> String {
        text(|out| super::line(hops, reader, out))
    }

    fn timing(hops: &[Hop]) -> String {
        text(|out| super::timing(hops, out))
    }

    fn shown(hops: &[Hop]) -> String {
        line(hops, Reader::Proxy)
    }

    #[test]
    fn what_proxies_say_to_each_other_is_not_for_clients() {
        let hops = list("a@42;reason=fork;gen=3;hop=00000000000000ff;us=1200,b@baseline;x;depth=1");
        assert_eq!((hops[0].id, hops[0].micros, hops[1].depth), (255, Some(1200), 1));
        assert_eq!(line(&hops, Reader::Client), "a@42;reason=fork;gen=3, b@baseline;x");
        assert_eq!(shown(&hops), "a@42;reason=fork;gen=3;hop=00000000000000ff;us=1200, b@baseline;x;depth=1");
        assert_eq!(timing(&hops), "pr-1;desc=\"a@42\";dur=1.200, pr-1-1;desc=\"b@baseline\"");
    }

    #[test]
    fn both_ends_of_a_call_are_one_hop() {
        let own = || Hop::new("a@42;gen=1", 7, None);
        let (joined, same) = before(own(), list("a@42;gen=2;hop=09, b@baseline;depth=1, c@42"));
        assert_eq!(shown(&joined), "a@42;gen=1;hop=0000000000000007, b@baseline;depth=1, c@42;depth=1");
        assert_eq!(same, 9);
        let (joined, same) = before(own(), list("a@baseline;hop=09, b@42;depth=1"));
        assert_eq!(
            shown(&joined),
            "a@42;gen=1;hop=0000000000000007, a@baseline;hop=0000000000000009;depth=1, b@42;depth=2"
        );
        assert_eq!(same, 0);
        assert_eq!(above(own(), list("a@42")).len(), 2, "who calls itself has made a hop");
    }

    #[test]
    fn names_of_metrics_are_places_in_the_tree() {
        let hops = list("a@1, b@1;depth=1, c@1;depth=2, ...;depth=2, d@1;depth=1, e@1;depth=9");
        let names: Vec<_> =
            timing(&hops).split(", ").map(|m| m.split(';').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["pr-1", "pr-1-1", "pr-1-1-1", "pr-1-2", "pr-1-2-1"]);
        assert!(is_timing(timing(&hops).as_bytes()));
        assert!(!is_timing(b"db;dur=53"));
    }

    #[test]
    fn what_is_cut_is_marked() {
        let long = vec!["a@baseline;reason=no_fork;gen=1"; 300].join(", ");
        let hops = list(&long);
        assert!(hops.last().unwrap().is_cut());
        let (hops, _) = before(Hop::new("own@baseline", 0, None), hops);
        let line = line(&hops, Reader::Client);
        assert!(line.len() <= BOUND && line.ends_with(", ...") && line.starts_with("own@baseline, a@"));
        assert_eq!(line.matches("...").count(), 1);
        let odd = list("a@1, \u{e9}, \u{e9}, b@1");
        assert_eq!(shown(&odd), "a@1, ..., b@1", "what can't be read is missed once");
        assert_eq!(
            shown(&list("hop=1; a@1;x ;hop=02, ;us=1, b@1")),
            "hop=1; a@1;x;hop=0000000000000002, ..., b@1"
        );
    }

    fn any_hop() -> impl Strategy<Value = Hop> {
        let text = "[a-z]{1,6}@(42|baseline)(;reason=fork)?(;gen=[0-9]{1,3})?";
        (text, 0_u16..4, any::<u64>(), any::<Option<u32>>()).prop_map(|(text, depth, id, micros)| Hop {
            text: text.into(),
            depth,
            id,
            micros,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(hops in prop::collection::vec(any_hop(), 0..20)) {
            prop_assert_eq!(read(&fields(&[&shown(&hops)])), hops);
        }

        #[test]
        fn joining_loses_nothing_and_keeps_the_order(
            own in any_hop(),
            hops in prop::collection::vec(any_hop(), 0..20),
        ) {
            let (joined, _) = before(own.clone(), hops.clone());
            let is_same = hops.first().is_some_and(|first| first.place() == own.place());
            let rest = if is_same { &hops[1..] } else { &hops[..] };
            prop_assert_eq!(&joined[0].text, &own.text);
            prop_assert_eq!(joined[0].depth, 0);
            let texts = |hops: &[Hop]| hops.iter().map(|hop| hop.text.clone()).collect::<Vec<_>>();
            prop_assert_eq!(texts(&joined[1..]), texts(rest));
            prop_assert!(joined[1..].iter().all(|hop| hop.depth >= 1));
        }

        #[test]
        fn no_answer_of_an_application_breaks_it(lines in prop::collection::vec("[ -~]{0,200}", 0..60)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let (hops, _) = before(Hop::new("own@42", 1, None), read(&fields(&lines)));
            for line in [line(&hops, Reader::Client), line(&hops, Reader::Proxy)] {
                prop_assert!(line.len() <= BOUND && line.starts_with("own@42"));
            }
            prop_assert!(timing(&hops).len() <= BOUND);
            prop_assert!(timing(&hops).starts_with("pr-1;desc=\"own@42\""));
        }
    }
}
