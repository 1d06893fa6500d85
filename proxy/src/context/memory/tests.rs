use std::collections::HashMap;

use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::fixture::key;

const LIFE: Duration = Duration::from_secs(30);

fn context(entries: usize) -> Context {
    Context { remember: LIFE, entries, ..Context::default() }
}

fn trace(id: u128) -> Ids<'static> {
    Ids { traces: smallvec![id], request: None }
}

fn request(id: &'static str) -> Ids<'static> {
    Ids { traces: smallvec![], request: Some(id.as_bytes()) }
}

fn said(keys: &[&str]) -> Said {
    Said { keys: keys.iter().map(|text| key(text)).collect(), strict: false }
}

fn known(keys: &[&str]) -> Recall {
    Recall::Said(Arc::new(said(keys)))
}

const HIGH: u128 = 7 << 64;

#[test]
fn what_came_in_is_known_of_every_form_of_the_id() {
    let (now, context) = (Instant::now(), context(10));
    let memory = Memory::new(now);
    let _ = memory.came_in(
        &Ids { traces: smallvec![HIGH | 9], request: Some(b"0123456789abcdef") },
        said(&["42", "57"]),
        &context,
        now,
    );
    for ids in [trace(HIGH | 9), trace(9), request("0123456789abcdef")] {
        assert_eq!(memory.recall(&ids, LIFE, now), known(&["42", "57"]), "{ids:?}");
    }
    for ids in [trace(HIGH | 8), trace(6 << 64 | 9), request("0123456789abcdeF"), Ids::default()] {
        assert_eq!(memory.recall(&ids, LIFE, now), Recall::Nothing, "{ids:?}");
    }
}

#[test]
fn a_call_with_ids_of_two_requests_of_which_one_had_no_key_says_nothing() {
    let (now, context) = (Instant::now(), context(10));
    let memory = Memory::new(now);
    let _ = memory.came_in(&trace(1), said(&["42"]), &context, now);
    let _ = memory.came_in(&request("keyed-0123456789"), said(&["42"]), &context, now);
    let _ = memory.came_in_unkeyed(&trace(2), &context, now);
    let _ = memory.came_in_unkeyed(&request("plain-0123456789"), &context, now);
    let recall = |trace, id: &'static str, now| {
        memory.recall(&Ids { traces: smallvec![trace], request: Some(id.as_bytes()) }, LIFE, now)
    };
    assert_eq!(recall(1, "keyed-0123456789", now), known(&["42"]));
    assert_eq!(recall(1, "nobody-0123456789", now), known(&["42"]), "one that nobody knows is no doubt");
    assert_eq!(recall(1, "plain-0123456789", now), Recall::Ambiguous);
    assert_eq!(recall(2, "keyed-0123456789", now), Recall::Ambiguous);
    assert_eq!(recall(2, "plain-0123456789", now), Recall::Nothing);
}

#[test]
fn an_id_is_forgotten_and_each_request_prolongs_it() {
    let (begun, context) = (Instant::now(), context(10));
    let memory = Memory::new(begun);
    let at = |seconds| begun + Duration::from_secs(seconds);
    let _ = memory.came_in(&trace(9), said(&["42"]), &context, at(0));
    let _ = memory.came_in(&trace(9), said(&["42"]), &context, at(20));
    assert_eq!(memory.recall(&trace(9), LIFE, at(49)), known(&["42"]));
    assert_eq!(memory.recall(&trace(9), LIFE, at(50)), Recall::Nothing);
    assert_eq!(memory.len(), 1);
    memory.sweep(LIFE, at(49));
    assert_eq!(memory.len(), 1);
    memory.sweep(LIFE, at(50));
    assert!(memory.is_empty());
    // Its next life has nothing of the one before.
    let _ = memory.came_in(&trace(9), said(&["57"]), &context, at(60));
    let _ = memory.came_in(&trace(9), said(&["42"]), &context, at(90));
    assert_eq!(memory.recall(&trace(9), LIFE, at(90)), known(&["42"]), "not swept, but over");
    assert_eq!(memory.len(), 1);
}

#[test]
fn an_id_of_a_request_under_way_is_not_forgotten() {
    let (begun, context) = (Instant::now(), context(10));
    let memory = Memory::new(begun);
    let at = |seconds| begun + Duration::from_secs(seconds);
    let (first, second) = {
        let came_in = || memory.came_in(&trace(9), said(&["42"]), &context, at(0));
        (came_in(), came_in())
    };
    drop(first);
    assert_eq!(memory.recall(&trace(9), LIFE, at(3600)), known(&["42"]), "a stream of an hour");
    memory.sweep(LIFE, at(3600));
    drop(second);
    assert_eq!(memory.recall(&trace(9), LIFE, at(3629)), known(&["42"]), "and a while after it");
    assert_eq!(memory.recall(&trace(9), LIFE, at(3630)), Recall::Nothing);
    memory.sweep(LIFE, at(3630));
    assert!(memory.is_empty());
    // One without a key as well: as long as it goes on, the id says nothing.
    let _ = memory.came_in(&trace(9), said(&["42"]), &context, at(4000));
    let plain = memory.came_in_unkeyed(&trace(9), &context, at(4000));
    assert_eq!(memory.recall(&trace(9), LIFE, at(5000)), Recall::Ambiguous);
    drop(plain);
    assert_eq!(memory.recall(&trace(9), LIFE, at(5000)), Recall::Nothing);
}

#[test]
fn two_lists_of_keys_are_none() {
    let (now, context) = (Instant::now(), context(10));
    let memory = Memory::new(now);
    for keys in [&["42", "57"][..], &["57", "42"], &["42", "57"]] {
        let _ = memory.came_in(&trace(9), said(keys), &context, now);
    }
    assert_eq!(memory.recall(&trace(9), LIFE, now), Recall::Ambiguous);
    assert_eq!(memory.ambiguous.get(), 1);
}

#[test]
fn two_traces_with_one_low_half_say_what_both_say() {
    let (now, context) = (Instant::now(), context(10));
    let (one, other) = (HIGH | 5, 6 << 64 | 5);
    for (keys, expected) in [("42", known(&["42"])), ("57", Recall::Ambiguous)] {
        let memory = Memory::new(now);
        let _ = memory.came_in(&trace(one), said(&["42"]), &context, now);
        let _ = memory.came_in(&trace(other), said(&[keys]), &context, now);
        for id in [one, other, 5] {
            assert_eq!(memory.recall(&trace(id), LIFE, now), expected, "{id:x}");
        }
        // One of them without a key.
        let _ = memory.came_in_unkeyed(&trace(other), &context, now);
        assert_eq!(memory.recall(&trace(5), LIFE, now), Recall::Ambiguous);
    }
}

#[test]
fn an_id_with_and_without_a_key_says_nothing_in_either_order() {
    let (now, context) = (Instant::now(), context(10));
    for ids in [trace(HIGH | 9), request("0123456789abcdef")] {
        for order in [[true, false], [false, true]] {
            let memory = Memory::new(now);
            for keyed in order {
                match keyed {
                    true => drop(memory.came_in(&ids, said(&["42"]), &context, now)),
                    false => drop(memory.came_in_unkeyed(&ids, &context, now)),
                }
            }
            assert_eq!(memory.recall(&ids, LIFE, now), Recall::Ambiguous, "{ids:?} {order:?}");
            assert_eq!(memory.ambiguous.get(), 1);
            // For as long as it goes on, and no longer.
            let _ = memory.came_in(&ids, said(&["42"]), &context, now + LIFE / 2);
            assert_eq!(memory.recall(&ids, LIFE, now + LIFE), Recall::Ambiguous);
            let _ = memory.came_in(&ids, said(&["42"]), &context, now + LIFE * 2);
            assert_eq!(memory.recall(&ids, LIFE, now + LIFE * 2), known(&["42"]));
        }
    }
}

#[test]
fn of_several_ids_those_that_know_speak() {
    let (now, context) = (Instant::now(), context(10));
    let memory = Memory::new(now);
    let _ = memory.came_in(&trace(1), said(&["42"]), &context, now);
    let _ = memory.came_in(&trace(2), said(&["57"]), &context, now);
    let _ = memory.came_in(&trace(3), said(&["42"]), &context, now);
    let _ = memory.came_in_unkeyed(&trace(3), &context, now);
    let recall = |ids: &[u128]| memory.recall(&Ids { traces: ids.into(), request: None }, LIFE, now);
    assert_eq!(recall(&[8, 1]), known(&["42"]));
    assert_eq!(recall(&[3, 1]), known(&["42"]));
    assert_eq!(recall(&[1, 3]), known(&["42"]));
    assert_eq!(recall(&[3]), Recall::Ambiguous);
    assert_eq!(recall(&[1, 2]), Recall::Ambiguous);
}

#[test]
fn strictness_is_the_strictest_that_came() {
    let (now, context) = (Instant::now(), context(10));
    let memory = Memory::new(now);
    for strict in [false, true, false] {
        let _ = memory.came_in(&trace(9), Said { strict, ..said(&["42"]) }, &context, now);
    }
    let Recall::Said(said) = memory.recall(&trace(9), LIFE, now) else { panic!() };
    assert!(said.strict);
}

#[test]
fn it_has_a_bound_and_can_be_off() {
    let (now, small) = (Instant::now(), context(100));
    let memory = Memory::new(now);
    for id in 1..=1000 {
        let _ = memory.came_in(&trace(id), said(&["42"]), &small, now);
    }
    assert_eq!((memory.len(), memory.full.get()), (100, 900));
    // Those that are there go on.
    let _ = memory.came_in(&trace(1), said(&["57"]), &small, now);
    assert_eq!(memory.recall(&trace(1), LIFE, now), Recall::Ambiguous);
    memory.sweep(LIFE, now + LIFE);
    let _ = memory.came_in(&trace(1000), said(&["42"]), &small, now + LIFE);
    assert_eq!(memory.recall(&trace(1000), LIFE, now + LIFE), known(&["42"]));
    let off = Context { remember: Duration::ZERO, ..context(100) };
    let _ = memory.came_in(&trace(5000), said(&["42"]), &off, now);
    assert_eq!(memory.recall(&trace(5000), LIFE, now), Recall::Nothing);
}

#[test]
fn workers_meet_without_loss() {
    let (now, context) = (Instant::now(), context(100_000));
    let memory = Memory::new(now);
    std::thread::scope(|scope| {
        for worker in 0..4_u128 {
            let (memory, context) = (&memory, &context);
            scope.spawn(move || {
                for id in 1..=2_000 {
                    let _ = memory.came_in(&trace(id), said(&["42"]), context, now);
                    let _ = memory.came_in(&trace(worker << 32 | id), said(&["42"]), context, now);
                    memory.sweep(LIFE, now);
                }
            });
        }
    });
    assert_eq!(memory.len(), 8_000);
    memory.sweep(LIFE, now + LIFE);
    assert_eq!((memory.len(), memory.traces.len()), (0, 0));
}

#[derive(Clone, Debug)]
struct Step {
    id: u128,
    keys: Option<&'static str>,
    wait: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = prop_oneof![2 => Just(Some("42")), 1 => Just(Some("57")), 1 => Just(None)];
    let step = (1_u128..6, keys, 0_u64..12).prop_map(|(id, keys, wait)| Step { id, keys, wait });
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// What no order of requests may do: give a call keys that are not those of every request with its id that came in
    /// within the life of one.
    #[test]
    fn a_call_has_the_keys_of_all_requests_of_its_id(steps in steps()) {
        let (begun, context) = (Instant::now(), context(1000));
        let memory = Memory::new(begun);
        let mut now = begun;
        let mut seen: HashMap<u128, Vec<(Instant, Option<&str>)>> = HashMap::new();
        for Step { id, keys, wait } in steps {
            now += Duration::from_secs(wait);
            match keys {
                Some(keys) => drop(memory.came_in(&trace(id), said(&[keys]), &context, now)),
                None => drop(memory.came_in_unkeyed(&trace(id), &context, now)),
            }
            seen.entry(id).or_default().push((now, keys));
            memory.sweep(LIFE, now);
            for id in 1..6 {
                let all = seen.get(&id).map_or(&[][..], Vec::as_slice);
                let recent: Vec<_> = all.iter().filter(|(at, _)| now < *at + LIFE).map(|(_, keys)| *keys).collect();
                match memory.recall(&trace(id), LIFE, now) {
                    Recall::Said(said) => {
                        let only = Some(said.keys[0].as_str().to_owned());
                        prop_assert!(!recent.is_empty());
                        prop_assert!(recent.iter().all(|keys| keys.map(str::to_owned) == only), "{recent:?} gave {only:?}");
                    }
                    Recall::Nothing => prop_assert!(recent.iter().all(Option::is_none), "{recent:?} gave nothing"),
                    Recall::Ambiguous => prop_assert!(all.iter().any(|(_, keys)| *keys != Some("42"))),
                }
            }
        }
    }
}
