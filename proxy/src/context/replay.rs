//! An id that says a key is as good as the key, and who has seen one can send it: in a log, in an answer. So where not
//! everybody may name every preview, a gateway takes it out of the request of somebody who may not name that one. It looks
//! further than who reads ids for good: a service may hand on what this one would not read, in a form that the next one does.

use std::net::IpAddr;

use sidetrack_config::model::Role;

use super::hidden::index_of;
use crate::admit::admit;
use crate::fields::Fields;
use crate::head::Head;
use crate::identify::{Identity, is_twin};
use crate::route::table::Table;

/// Fields that hold an id, as tracers write them that services of an estate may use at once.
const IDS: [&str; 9] = [
    "traceparent",
    "b3",
    "x-b3-traceid",
    "x-datadog-trace-id",
    "x-request-id",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "sentry-trace",
];

/// Fields that mean nothing without one.
const BESIDE: [&str; 8] = [
    "tracestate",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
];

/// The most numbers of one request that are looked at; one with more has none of ours.
const MOST: usize = 64;

/// Whether a request from `client` has an id that says a key which it may not name.
pub fn is_replay<H: Head>(
    head: &H,
    identity: &Identity,
    client: IpAddr,
    is_trusted: bool,
    table: &Table,
) -> bool {
    let secrets = &table.estate.context.secrets;
    if table.estate.role != Role::Gateway || !table.restricts() || secrets.is_empty() {
        return false;
    }
    let may = |key| {
        // What it names is asked about in its turn.
        identity.keys.contains(&key) || is_trusted && admit(head, &[key], client, table).is_ok()
    };
    let lines = head.fields().filter(|(name, _)| is_among(name, &IDS));
    let mut numbers = lines.flat_map(|(_, value)| numbers(value)).take(MOST + 1);
    let mut count = 0;
    numbers.any(|id| {
        count += 1;
        let said = secrets.read(u128::from(id), table.keys_of_index(index_of(u128::from(id))));
        count > MOST || said.is_some_and(|hidden| !may(hidden.key))
    })
}

/// Whether the field `name` is one of `list`, or is read as one by servers that take `_` for `-`.
fn is_among(name: &[u8], list: &[&str]) -> bool {
    list.iter().any(|known| is_twin(name, known.as_bytes()))
}

/// The low halves of the ids that a value may hold: the end of each run of hexadecimal digits, and each number. The low half
/// alone is what every tracer hands on, and what stands before it is made up easily.
fn numbers(value: &[u8]) -> impl Iterator<Item = u64> {
    let runs = value.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| !run.is_empty());
    runs.flat_map(|run| {
        let text = std::str::from_utf8(run).unwrap_or_default();
        let low = text.get(text.len().saturating_sub(16)..).unwrap_or_default();
        // A short one is a flag or a version; an id lacks its leading zeros at most.
        let hexadecimal = (text.len() >= 12).then(|| u64::from_str_radix(low, 16).ok()).flatten();
        [hexadecimal, text.parse().ok().filter(|_| text.len() >= 12)].into_iter().flatten()
    })
}

/// Takes the ids of a request out.
pub fn cut(fields: &mut Fields) {
    fields.retain(|name| !is_among(name, &IDS) && !is_among(name, &BESIDE));
}

#[cfg(test)]
mod tests {
    use sidetrack_config::model::Secret;

    use super::*;
    use crate::decision::Keys;
    use crate::fixture::{D, ESTATE, TRACE, estate, estate_with, key, stamped, table_of};
    use crate::head::PlainHead;
    use crate::identify::identify;

    const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
    const INSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn gateway(lines: &str) -> Table {
        let (table, _) = table_of(&format!("{lines}\n{ESTATE}"), |config| {
            config.context.secrets = Some(vec![Secret(b"a secret of the estate".to_vec())]);
        });
        table
    }

    /// What a request without a carrier says.
    fn none() -> Identity {
        identify(&PlainHead::get(D), estate()).unwrap()
    }

    /// A request without a key whose trace says 42.
    fn replayed() -> PlainHead {
        let sent = stamped(&PlainHead::get(D).with("x-pr-id", "42"), &gateway(""));
        let trace = sent.fields.into_iter().filter(|(name, _)| name == "traceparent");
        PlainHead { fields: trace.collect(), ..PlainHead::get(D) }
    }

    #[test]
    fn who_may_not_name_a_preview_may_not_say_its_id() {
        let open = gateway("");
        assert!(open.candidates.is_none(), "where everybody may, nothing is looked for");
        assert!(!is_replay(&replayed(), &none(), OUTSIDE, true, &open));
        let closed = gateway("access: {allow: [10.0.0.0/8]}");
        assert!(is_replay(&replayed(), &none(), OUTSIDE, true, &closed));
        assert!(!is_replay(&replayed(), &none(), INSIDE, true, &closed));
        assert!(!is_replay(&PlainHead::get(D).with("traceparent", TRACE), &none(), OUTSIDE, true, &closed));
        let distrusting = gateway("carriers: {from: [10.0.0.0/8]}");
        assert!(is_replay(&replayed(), &none(), OUTSIDE, false, &distrusting));
        let value = String::from_utf8(replayed().fields[0].1.clone()).unwrap();
        let half = PlainHead::get(D).with("x-b3-traceid", &value[19..35]);
        assert!(is_replay(&half, &none(), OUTSIDE, true, &closed));
    }

    #[test]
    fn however_it_is_written() {
        let closed = gateway("access: {allow: [10.0.0.0/8]}");
        let trace = &String::from_utf8(replayed().fields[0].1.clone()).unwrap()[3..35];
        let low = &trace[16..];
        let decimal = u64::from_str_radix(low, 16).unwrap().to_string();
        for (name, value) in [
            ("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")),
            ("traceparent", format!("00-0123456789abcdef{low}-00f067aa0ba902b7-01")),
            ("b3", format!("{trace}-00f067aa0ba902b7-1")),
            ("b3", trace.to_uppercase()),
            ("x-b3-traceid", low.to_owned()),
            ("x_b3_traceid", low.to_owned()),
            ("x-datadog-trace-id", decimal),
            ("x-request-id", trace.to_owned()),
            ("uber-trace-id", format!("{trace}:00f067aa0ba902b7:0:1")),
            ("x-amzn-trace-id", format!("Root=1-{}-{};Sampled=1", &trace[..8], &trace[8..])),
            ("x-cloud-trace-context", format!("{trace}/1;o=1")),
            ("sentry-trace", format!("{trace}-00f067aa0ba902b7-1")),
        ] {
            // Behind another one, which a service may take for it or not.
            let head =
                PlainHead::get(D).with(name, "00-4bf92f3577b34da6a3ce929d0e0e4736-1-01").with(name, value);
            assert!(is_replay(&head, &none(), OUTSIDE, true, &closed), "{head:?}");
            assert!(!is_replay(&head, &none(), INSIDE, true, &closed), "{head:?}");
            let named = Identity { keys: Keys::from_iter([key("42")]), ..none() };
            assert!(!is_replay(&head, &named, OUTSIDE, true, &closed), "access is asked about what it names");
            let other = Identity { keys: Keys::from_iter([key("57")]), ..none() };
            assert!(is_replay(&head, &other, OUTSIDE, true, &closed), "{head:?}");
        }
        let many = (0..=MOST).fold(String::new(), |text, number| format!("{text}:{number:016x}"));
        assert!(is_replay(&PlainHead::get(D).with("b3", many), &none(), OUTSIDE, true, &closed));
    }

    #[test]
    fn one_preview_with_a_rule_of_its_own_is_guarded_too() {
        let with_rule = "'42': {access: {allow: [10.0.0.0/8]}, ";
        let mut table = {
            let text = ESTATE.replace("'42': {", with_rule);
            let (table, _) = table_of(&text, |config| {
                config.context.secrets = Some(vec![Secret(b"a secret of the estate".to_vec())]);
            });
            table
        };
        assert!(is_replay(&replayed(), &none(), OUTSIDE, true, &table));
        assert!(!is_replay(&replayed(), &none(), INSIDE, true, &table));
        table.remove(&key("42"));
        assert!(!table.restricts() && table.candidates.is_none());
        assert!(estate_with("").candidates.is_none());
    }

    #[test]
    fn nothing_of_an_id_is_left() {
        let mut fields = Fields::default();
        for name in IDS.into_iter().chain(BESIDE).chain(["x_request_id", "baggage"]) {
            fields.append(name, b"x");
        }
        cut(&mut fields);
        assert_eq!((fields.len(), fields.get("baggage")), (1, Some(&b"x"[..])));
    }
}
