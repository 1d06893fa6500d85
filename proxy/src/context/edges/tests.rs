use std::time::Duration;

use smallvec::smallvec;

use super::*;
use crate::context::Context;
use crate::fixture::{D, TRACE, estate, key};
use crate::head::PlainHead;
use crate::identify::identify;

const REQUEST: &str = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";

/// A memory in which the trace and the request came in with 42 and 57, strictly.
fn memory(now: Instant) -> Memory {
    let memory = Memory::new(now);
    let context = Context { remember: Duration::from_secs(30), entries: 10, ..Context::default() };
    let head = PlainHead::get(D).with("traceparent", TRACE).with("x-request-id", REQUEST);
    let said = Said { keys: smallvec![key("42"), key("57")], strict: true };
    let _ = memory.came_in(&Ids::of(&head), said, &context, now);
    memory
}

/// What is told of a call with these fields, and the keys that it goes on with.
fn told(fields: &[(&str, &str)], is_busy: bool) -> String {
    let now = Instant::now();
    let (memory, table) = (memory(now), estate());
    let head = fields.iter().fold(PlainHead::get("payment"), |head, (name, value)| head.with(name, value));
    let mut identity = identify(&head, table).unwrap();
    let call = Call::of_workload(&head, &mut identity, &table.estate, &memory, || is_busy, now);
    let carrier = identity.carrier.map_or("none", Carrier::as_str);
    let keys = crate::identify::join(&identity.keys, ",");
    assert_eq!(identity.strict, carrier == "trace", "{fields:?}");
    let Some(call) = call else { return format!("nothing: {carrier} {keys}") };
    let survivors = Survivor::ALL.into_iter().filter(|one| call.survivors.has(*one)).map(Survivor::as_str);
    let survivors: Vec<_> = survivors.collect();
    format!("{:?} {}: {carrier} {keys}", call.outcome, survivors.join("+"))
}

#[test]
fn a_call_gets_back_what_its_ids_came_in_with() {
    let b3 = "4bf92f3577b34da6a3ce929d0e0e4736";
    let low = &u64::from_str_radix(&b3[16..], 16).unwrap().to_string();
    for (fields, expected) in [
        (&[("traceparent", TRACE)][..], "Repaired trace: trace 42,57"),
        (&[("x-b3-traceid", b3)], "Repaired trace: trace 42,57"),
        (&[("b3", &format!("{}-00f067aa0ba902b7-1", &b3[16..]))], "Repaired trace: trace 42,57"),
        (&[("x-datadog-trace-id", low)], "Repaired trace: trace 42,57"),
        (&[("x-request-id", REQUEST)], "Repaired request-id: trace 42,57"),
        (&[("x-request-id", REQUEST), ("traceparent", TRACE)], "Repaired trace+request-id: trace 42,57"),
        (&[], "nothing: none "),
        (&[("x-request-id", "another-request-id")], "nothing: none "),
    ] {
        assert_eq!(told(fields, false), expected, "{fields:?}");
    }
}

#[test]
fn what_was_handed_on_is_kept_as_it_is() {
    for (fields, expected) in [
        (&[("x-pr-id", "7")][..], "Kept header: header 7"),
        (&[("baggage", "a=1,pr-id=42.57"), ("traceparent", TRACE)], "Kept baggage+trace: baggage 42,57"),
        (&[("traceparent", TRACE), ("tracestate", "pr-id=42")], "Kept tracestate+trace: tracestate 42"),
        (&[("cookie", "pr-id=42"), ("x-request-id", REQUEST)], "Kept other+request-id: cookie 42"),
        (&[("x-pr-id", "42"), ("baggage", "pr-id=42")], "Kept header+baggage: header 42"),
    ] {
        assert_eq!(told(fields, true), expected, "{fields:?}");
    }
}

#[test]
fn a_call_without_anything_is_missed_where_every_request_has_a_key() {
    assert_eq!(told(&[], true), "Missing none: none ");
    assert_eq!(told(&[("traceparent", TRACE)], true), "Repaired trace: trace 42,57");
}

#[test]
fn an_edge_counts_each_of_them() {
    let stats = EdgeStats::default();
    let now = jiff::Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let survivors = |all: &[Survivor]| {
        all.iter().fold(Survivors::default(), |mut set, one| {
            set.add_if(true, *one);
            set
        })
    };
    let kept = Call { outcome: Outcome::Kept, survivors: survivors(&[Survivor::Header, Survivor::Trace]) };
    stats.count(kept, || now);
    stats.count(Call::arrived(), || now);
    assert_eq!(stats.read().last_lost, None);
    stats.count(Call { outcome: Outcome::Missing, survivors: none() }, || now);
    stats.count(Call::repaired(true, false), || now);
    assert_eq!(
        serde_json::to_value(stats.read()).unwrap(),
        serde_json::json!({
            "kept": 1, "lost": 2, "repaired": 2, "survived": {"header": 1, "trace": 2, "none": 1},
            "lastLost": "2023-11-14T22:13:20.123Z",
        })
    );
}
