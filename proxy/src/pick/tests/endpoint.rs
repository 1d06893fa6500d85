//! Which endpoint of a set: power of two choices among those that can be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use sidetrack_config::model::Config;

use crate::fixture::{table, table_of};
use crate::pick::{View, draw_two, endpoint};
use crate::route::table::{Endpoint, Endpoints};

/// Loads and ejections by port.
#[derive(Default)]
struct Seen {
    outstanding: BTreeMap<u16, u32>,
    ejected: Vec<u16>,
}

impl View for Seen {
    fn outstanding(&self, endpoint: &Endpoint) -> u32 {
        self.outstanding.get(&endpoint.address.port()).copied().unwrap_or_default()
    }

    fn is_ejected(&self, endpoint: &Endpoint) -> bool {
        self.ejected.contains(&endpoint.address.port())
    }
}

/// Endpoints on the ports 1 to `count`; the unhealthy ones are named.
fn set(count: u16, unhealthy: &[u16]) -> Endpoints {
    let ports: Vec<String> = (1..=count).map(|port| format!("'127.0.0.1:{port}'")).collect();
    let table = table(&format!(
        "listeners: [{{address: 127.0.0.1:0}}]\nservices: {{s: {{baseline: [{}]}}}}",
        ports.join(", ")
    ));
    let set = table.estate.services[0].baseline.clone().unwrap();
    for endpoint in set.iter().filter(|endpoint| unhealthy.contains(&endpoint.address.port())) {
        endpoint.healthy.store(false, Ordering::Relaxed);
    }
    set
}

/// Seeds spread over all numbers.
fn seeds() -> impl Iterator<Item = u64> {
    (0..512u64).map(|n| n.wrapping_mul(0x0080_4020_1008_0402).wrapping_add(n << 55))
}

/// The ports that any seed gives.
fn reached(set: &[Arc<Endpoint>], seen: &Seen, tried: &[u64]) -> Vec<u16> {
    let mut ports: Vec<u16> = seeds()
        .filter_map(|seed| endpoint(set, seen, tried, seed))
        .map(|endpoint| endpoint.address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn any_usable_endpoint_is_drawn_and_no_other() {
    let all = set(5, &[]);
    assert_eq!(reached(&all, &Seen::default(), &[]), [1, 2, 3, 4, 5]);
    assert_eq!(reached(&set(5, &[2, 4]), &Seen::default(), &[]), [1, 3, 5], "unhealthy ones are left out");
    let ejected = Seen { ejected: vec![1, 2], ..Seen::default() };
    assert_eq!(reached(&all, &ejected, &[]), [3, 4, 5]);
    assert_eq!(
        reached(&all, &Seen::default(), &[all[0].id, all[4].id]),
        [2, 3, 4],
        "those that were tried are left out"
    );
    let most = Seen { ejected: vec![1, 2, 3, 4, 5], ..Seen::default() };
    assert_eq!(reached(&all, &most, &[]), [1, 2, 3, 4, 5], "ejected ones are better than none");
    assert_eq!(
        reached(&set(5, &[1, 2]), &Seen { ejected: vec![3, 4, 5], ..Seen::default() }, &[]),
        [3, 4, 5]
    );
    assert_eq!(reached(&set(2, &[1, 2]), &Seen::default(), &[]), [] as [u16; 0]);
    let one = set(1, &[]);
    assert_eq!(
        reached(&one, &Seen { ejected: vec![1], ..Seen::default() }, &[]),
        [1],
        "never the last of its set"
    );
    assert_eq!(reached(&one, &Seen::default(), &[one[0].id]), [] as [u16; 0]);
    assert_eq!(reached(&set(1, &[1]), &Seen::default(), &[]), [] as [u16; 0]);
    assert!(endpoint(&[], &Seen::default(), &[], 7).is_none());
}

/// The last of three is the address of the service itself.
#[test]
fn an_address_of_the_service_is_the_last_resort() {
    let text = "listeners: [{address: 127.0.0.1:0}]\nservices: {s: {baseline: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3']}}";
    let addresses = |config: &mut Config| config.services[0].addresses = vec!["127.0.0.1:3".parse().unwrap()];
    let (table, _) = table_of(text, addresses);
    let all = table.estate.services[0].baseline.clone().unwrap();
    let ejected = |ports: &[u16]| Seen { ejected: ports.to_vec(), ..Seen::default() };
    assert_eq!(reached(&all, &Seen::default(), &[]), [1, 2]);
    assert_eq!(reached(&all, &ejected(&[1]), &[]), [2]);
    assert_eq!(reached(&all, &Seen::default(), &[all[0].id, all[1].id]), [3]);
    assert_eq!(reached(&all, &ejected(&[1]), &[all[1].id]), [3], "before one that rests");
    assert_eq!(reached(&all, &ejected(&[1, 2]), &[]), [3]);
    assert_eq!(reached(&all, &ejected(&[1, 2]), &[all[2].id]), [1, 2]);
    assert_eq!(reached(&all, &ejected(&[1, 2, 3]), &[]), [1, 2, 3]);
}

#[test]
fn of_two_the_one_with_fewer_requests_under_way() {
    let two = set(2, &[]);
    for (first, second, expected) in [(3, 0, 2), (0, 3, 1)] {
        let seen = Seen { outstanding: [(1, first), (2, second)].into(), ..Seen::default() };
        assert_eq!(reached(&two, &seen, &[]), [expected]);
    }
    let worst = Seen { outstanding: [(3, 9)].into(), ..Seen::default() };
    assert_eq!(reached(&set(4, &[]), &worst, &[]), [1, 2, 4], "the busiest is never the better of two");
}

proptest! {
    #[test]
    fn two_draws_differ_and_are_in_range(count in 0usize..50, seed: u64) {
        match draw_two(count, seed) {
            None => prop_assert_eq!(count, 0),
            Some((first, second)) => {
                prop_assert!(first < count && second < count);
                prop_assert!(count == 1 || first != second);
            }
        }
    }
}
