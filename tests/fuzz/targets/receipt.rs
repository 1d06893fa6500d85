//! Receipts as they come over the wire: the datagram of a hop, `X-PR-Route` of an answer, our second member of `tracestate`.

use std::sync::OnceLock;

use sidetrack_config::model::Secret;
use sidetrack_proxy::chain::hop::{self, BOUND, Hop, Reader};
use sidetrack_proxy::chain::member;
use sidetrack_proxy::chain::report::{MOST, Report};
use sidetrack_proxy::context::hidden::Secrets;
use sidetrack_proxy::fields::Fields;

const MEMBER: &str = "pr-at";

fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| Secrets::new([&Secret(b"a secret of this estate".to_vec())]))
}

/// A datagram without its MAC; and the same bytes as lines of `X-PR-Route` and of `tracestate`.
pub(crate) fn check(bytes: &[u8]) {
    assert_eq!(Report::opened(bytes, secrets()), None, "nobody has signed it");
    if let Some(report) = Report::read(bytes) {
        assert!(hop::is_entry(&report.text) && report.hop != 0);
        let sealed = report.sealed(secrets()).expect("what was read can be sent");
        assert!(sealed.len() <= MOST);
        assert_eq!(Report::trace_of(&sealed), Some(report.trace));
        assert_eq!(Report::opened(&sealed, secrets()), Some(report));
    }
    let (mut routes, mut states) = (Fields::default(), Fields::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        routes.append(hop::ROUTE, line);
        states.append("tracestate", line);
    }
    entries(&routes);
    members(states);
}

fn entries(fields: &Fields) {
    let received = hop::read(fields);
    let own = Hop::new("own@42;reason=fork;gen=1", 7, Some(1500));
    for hops in [hop::before(own.clone(), received.clone()).0, hop::above(own, received)] {
        assert!(hops.iter().skip(1).all(|hop| hop.depth > 0), "{hops:?}");
        for reader in [Reader::Client, Reader::Proxy] {
            let line = written(|out| hop::line(&hops, reader, out));
            assert!(line.starts_with("own@42") && line.len() <= BOUND, "{line}");
            let mut again = Fields::default();
            again.append(hop::ROUTE, line.as_bytes());
            let told = hop::read(&again);
            let repeated = written(|out| hop::line(&told, reader, out));
            assert_eq!(repeated, line, "a second time nothing changes");
        }
        let timing = written(|out| hop::timing(&hops, out));
        assert!(hop::is_timing(timing.as_bytes()) && timing.len() <= BOUND, "{timing}");
    }
}

/// What `write` writes, which is text.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("only text is written")
}

fn is_ours(member: &[u8]) -> bool {
    let name = member.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
    name.trim_ascii() == MEMBER.as_bytes()
}

/// The first members that are not ours: as many as there is room for beside it.
fn others(fields: &Fields) -> Vec<Vec<u8>> {
    let members = fields.get_all("tracestate").flat_map(|line| line.split(|byte| *byte == b','));
    let others = members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty() && !is_ours(member));
    others.map(<[u8]>::to_vec).take(31).collect()
}

fn members(mut fields: Fields) {
    let (before, found) = (others(&fields), member::find(&fields, MEMBER));
    let at = found.unwrap_or(member::At { address: ([127, 0, 0, 1], 9902).into(), hop: 9 });
    member::write(&mut fields, MEMBER, Some(at));
    assert_eq!(member::find(&fields, MEMBER), Some(at));
    assert_eq!(others(&fields), before);
    member::write(&mut fields, MEMBER, None);
    assert_eq!((member::find(&fields, MEMBER), others(&fields)), (None, before));
}
