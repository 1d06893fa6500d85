//! DESIGN 2.3: the key on its way onward.

use proptest::prelude::*;

use crate::fixture::{D, TRACE, estate, estate_with, fields, foreign_member, key_list, lines, said, stamped};
use crate::head::PlainHead;
use crate::identify::{identify, parse_traceparent};

fn get() -> PlainHead {
    PlainHead::get(D)
}

#[test]
fn a_key_goes_onward_in_three_carriers() {
    let table = estate_with("carriers: {path: true, aliases: [mirrord]}");
    for head in [
        get().with("x-pr-id", "PR-57").with("x-pr-id", "demo,57"),
        PlainHead { authority: format!("pr-57--demo.{D}"), ..get() },
        PlainHead { path: "/pr-57--pr-42/x".to_owned(), ..get() },
        PlainHead { query: Some("pr-id=57,42".to_owned()), ..get() },
        get().with("baggage", "pr-id=57%2e42"),
        get().with("cookie", "pr-id=57.42"),
        PlainHead { method: "POST".to_owned(), ..get() }.with("origin", format!("http://pr-57--pr-42.{D}")),
    ] {
        let onward = stamped(&head, &table);
        assert_eq!(lines(&onward, "x-pr-id"), ["57,42"], "{head:?}");
        assert_eq!(lines(&onward, "baggage"), ["pr-id=57.42"], "{head:?}");
        assert_eq!(lines(&onward, "tracestate"), ["pr-id=57.42"], "{head:?}");
        let [parent] = lines(&onward, "traceparent")[..] else { panic!("{onward:?}") };
        let parent = parse_traceparent(parent.as_bytes()).unwrap();
        assert_eq!(parent.flags, 1, "a trace that we start is sampled");
    }
    let tool = stamped(&get().with("baggage", "mirrord-session=57"), &table);
    assert_eq!(lines(&tool, "baggage"), ["pr-id=57,mirrord-session=57"]);
}

#[test]
fn without_a_key_nothing_is_added_or_changed() {
    for head in [
        get(),
        get()
            .with("baggage", "a=1,,b=2;p")
            .with("baggage", "")
            .with("tracestate", "x=1, y=2")
            .with("x-pr-strict", "1"),
        get().with("traceparent", TRACE).with("tracestate", "x=1, y=2"),
        get().with("cookie", "a=1;b=2").with("cookie", "xpr-id=42"),
        get().with("cookie", b"a=\xff"),
        PlainHead { query: Some("pr-id=".to_owned()), ..get() },
    ] {
        assert_eq!(fields(&stamped(&head, estate())), fields(&head), "{head:?}");
    }
}

/// Who begins a trace of its own may hand it on beside that one, and then it would count.
#[test]
fn a_member_that_did_not_count_goes_no_further() {
    let table = estate_with("carriers: {aliases: [signadot]}");
    for parent in [&["rubbish"][..], &[], &[TRACE, TRACE]] {
        let head = parent.iter().fold(get(), |head, parent| head.with("traceparent", *parent));
        for (sent, left) in [
            ("pr-id=42", &[][..]),
            ("a=1, pr-id=42,pr-id-sig=0,sd-routing-key=42", &["a=1"]),
            ("a=1, b=2", &["a=1, b=2"]),
        ] {
            let onward = stamped(&head.clone().with("tracestate", sent), &table);
            assert_eq!(lines(&onward, "tracestate"), left, "{parent:?} {sent}");
            assert_eq!(lines(&onward, "traceparent"), parent);
        }
    }
    let sent = get().with("x-pr-signature", "0-0");
    assert_eq!(lines(&stamped(&sent, &table), "x-pr-signature"), [""; 0]);
    let inside = estate_with("role: waypoint");
    assert_eq!(
        lines(&stamped(&sent, &inside), "x-pr-signature"),
        ["0-0"],
        "an id may say the key further on"
    );
}

#[test]
fn carriers_that_are_off_are_not_written() {
    let table = estate_with("carriers: {header: false, tracestate: false, baggage: x-preview}");
    let onward = stamped(&PlainHead { query: Some("pr-id=42".to_owned()), ..get() }, &table);
    let expected = get().with("baggage", "x-preview=42");
    assert_eq!(fields(&onward), fields(&expected));
}

#[test]
fn baggage_is_merged_and_a_member_that_says_the_same_stays() {
    let onward = |list: &[&str], strict: bool| {
        let head = list.iter().fold(get().with("x-pr-id", "42,57"), |head, line| head.with("baggage", line));
        let head = if strict { head.with("x-pr-strict", "1") } else { head };
        lines(&stamped(&head, estate()), "baggage").join(" | ")
    };
    for (list, expected) in [
        (&[][..], "pr-id=42.57"),
        (&["a=1;p=q , b=%zz"], "pr-id=42.57,a=1;p=q , b=%zz"),
        (&["a=1, pr-id=42.57 ,b=2"], "a=1, pr-id=42.57 ,b=2"),
        (&["a=1, pr-id=PR-42.demo.57 ,b=2"], "a=1,pr-id=42.57,b=2"),
        (&["a=1,pr-id=42.57;strict=0,b=2"], "a=1,pr-id=42.57,b=2"),
        (&["a=1,pr-id=42.57,b=2,pr-id=42.57"], "a=1,pr-id=42.57,b=2"),
        (&["a=1", "pr-id=42.57", "b=2"], "a=1,pr-id=42.57,b=2"),
        (&["a=1", "b=2"], "pr-id=42.57,a=1,b=2"),
        (&["xpr-id=1,pr-id-x=2"], "pr-id=42.57,xpr-id=1,pr-id-x=2"),
    ] {
        assert_eq!(onward(list, false), expected, "{list:?}");
    }
    assert_eq!(onward(&["a=1,pr-id=42.57"], true), "a=1,pr-id=42.57;strict");
    assert_eq!(onward(&["a=1,pr-id=42.57;strict,b=2"], false), "a=1,pr-id=42.57;strict,b=2");
}

#[test]
fn a_trace_of_the_caller_is_kept_and_one_that_is_broken_begun_anew() {
    let state = |parent: Option<&str>, list: &[&str]| {
        let head = get().with("x-pr-id", "42");
        let head = parent.iter().fold(head, |head, parent| head.with("traceparent", parent));
        let head = list.iter().fold(head, |head, line| head.with("tracestate", line));
        let onward = stamped(&head, estate());
        let [trace] = lines(&onward, "traceparent")[..] else { panic!("{onward:?}") };
        assert!(parse_traceparent(trace.as_bytes()).is_some(), "{trace}");
        (trace == TRACE, lines(&onward, "tracestate").join(" | "))
    };
    assert_eq!(state(Some(TRACE), &[]), (true, "pr-id=42".to_owned()));
    assert_eq!(state(Some(TRACE), &["a=1,b=2"]), (true, "pr-id=42,a=1,b=2".to_owned()));
    assert_eq!(state(Some(TRACE), &["a=1,pr-id=42", "b=2"]), (true, "pr-id=42,a=1,b=2".to_owned()));
    assert_eq!(
        state(Some("rubbish"), &["a=1"]),
        (false, "pr-id=42".to_owned()),
        "a state without its trace is lost"
    );
    assert_eq!(state(None, &["a=1"]), (false, "pr-id=42".to_owned()));
    let full: Vec<String> = (0..32).map(|n| format!("v{n}=1")).collect();
    let (_, onward) = state(Some(TRACE), &[&full.join(",")]);
    let members: Vec<&str> = onward.split(',').collect();
    assert_eq!((members.len(), members[0], members[31]), (32, "pr-id=42", "v30=1"), "the oldest falls off");
}

#[test]
fn a_cookie_that_says_something_else_does_not_go_onward() {
    let cookie = |text: &[u8]| {
        let onward = stamped(&get().with("x-pr-id", "42").with("cookie", text), estate());
        let kept = onward.fields.into_iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value);
        kept.collect::<Vec<_>>()
    };
    for (text, expected) in [
        (&b"a=1;b=2"[..], Some(&b"a=1;b=2"[..])),
        (b"a=1;pr-id=42;b=2", Some(b"a=1;pr-id=42;b=2")),
        (b"a=1; pr-id=57; b=2", Some(b"a=1; b=2")),
        (b"pr-id=57", None),
        (b"a=pr-id=57", Some(b"a=pr-id=57")),
        (b"a=\xff; pr-id=57; b=\xfe", Some(b"a=\xff; b=\xfe")),
        (b"a=1; pr-id=\xff", Some(b"a=1")),
    ] {
        assert_eq!(cookie(text), expected.map(<[u8]>::to_vec).into_iter().collect::<Vec<_>>(), "{text:?}");
    }
    let keyless = stamped(&get().with("cookie", "a=1; pr-id=4_2"), estate());
    assert_eq!(lines(&keyless, "cookie"), ["a=1"], "a key that nobody can read");
}

/// The members of a field that are not ours, trimmed.
fn others(head: &PlainHead, name: &str) -> Vec<Vec<u8>> {
    let lines = head.fields.iter().filter(|(field, _)| field == name);
    let members = lines.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    let members = members.filter(|member| !member.trim_ascii().starts_with(b"pr-id"));
    let members = members.map(|member| if name == "baggage" { member } else { member.trim_ascii() });
    members.filter(|member| !member.trim_ascii().is_empty()).map(<[u8]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_stamped_reads_the_same_and_stamping_it_again_changes_nothing(
        keys in key_list(),
        source in prop::sample::select(vec!["header", "baggage", "tracestate", "cookie", "query", "host"]),
        spelled in prop::sample::select(vec!["", "PR-", "pr-"]),
        strict: bool,
        traced: bool,
        baggage in prop::collection::vec(prop::collection::vec(foreign_member(), 0..4), 0..3),
        tracestate in prop::collection::vec(prop::collection::vec(foreign_member(), 0..4), 0..3),
    ) {
        let list = |separator: &str| keys.iter().map(|key| format!("{spelled}{key}")).collect::<Vec<_>>().join(separator);
        let label = || keys.iter().map(|key| format!("pr-{key}")).collect::<Vec<_>>().join("--");
        let mut head = match source {
            "header" => get().with("x-pr-id", list(",")),
            "baggage" => get().with("baggage", format!("pr-id={}", list("."))),
            "tracestate" => get().with("tracestate", format!("pr-id={}", list("."))),
            "cookie" => get().with("cookie", format!("a=1; pr-id={}", list("."))),
            "query" => PlainHead { query: Some(format!("pr-id={}", list(","))), ..get() },
            _ => PlainHead { authority: format!("{}.{D}", label()), ..get() },
        };
        for (name, lines) in [("baggage", &baggage), ("tracestate", &tracestate)] {
            head = lines.iter().fold(head, |head, members| head.with(name, members.join(&b","[..])));
        }
        if traced || source == "tracestate" {
            head = head.with("traceparent", TRACE);
        }
        if strict {
            head = head.with("x-pr-strict", "1");
        }
        let before = identify(&head, estate()).unwrap();
        let once = stamped(&head, estate());
        let after = identify(&once, estate()).unwrap();
        prop_assert_eq!(said(&once, estate()), format!("header {}", keys.join(",")));
        prop_assert_eq!((&after.keys, after.strict), (&before.keys, before.strict));
        prop_assert_eq!(fields(&stamped(&once, estate())), fields(&once), "stamping is idempotent");
        for name in ["x-pr-id", "baggage", "tracestate", "traceparent"] {
            prop_assert_eq!(once.fields.iter().filter(|(field, _)| field == name).count(), 1, "one line of {}", name);
        }
        prop_assert_eq!(others(&once, "baggage"), others(&head, "baggage"));
        if traced || source == "tracestate" {
            prop_assert_eq!(others(&once, "tracestate"), others(&head, "tracestate"));
        }
        // Without our header, the other two carriers say the same by themselves.
        for kept in ["baggage", "tracestate"] {
            let mut alone = get();
            alone.fields = once.fields.iter().filter(|(name, _)| name == kept || name == "traceparent").cloned().collect();
            prop_assert_eq!(said(&alone, estate()), format!("{} {}", kept, keys.join(",")));
        }
    }
}
