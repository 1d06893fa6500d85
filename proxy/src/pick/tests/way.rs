//! Which backend of a rule: shares by weight, and what can't be resolved.

use proptest::prelude::*;
use sidetrack_config::model::{Action, Backend, Filters, HostPattern, Route};

use crate::fixture::estate;
use crate::pick::{Way, way};
use crate::route::rule::Rule;

fn rule(backends: &[(Option<usize>, u32)]) -> Rule {
    let backend =
        |&(service, weight): &(Option<usize>, u32)| Backend { service, weight, filters: Filters::default() };
    let mut route = Route::to(HostPattern::Any, "/", 0);
    route.name = "shop/web/0".into();
    route.action = Action::Forward(backends.iter().map(backend).collect());
    Rule::new(0, &route, &estate().estate.carriers)
}

fn service(rule: &Rule, seed: u64) -> Result<usize, String> {
    match way(rule, estate(), seed) {
        Ok(Way::To(_, service)) => Ok(service.index),
        Ok(Way::Redirect(to)) => panic!("{to:?}"),
        Err(failure) => {
            assert_eq!((failure.code.as_str(), failure.status()), ("internal", 500));
            Err(failure.detail.into())
        }
    }
}

#[test]
fn each_backend_takes_its_share() {
    let rule = rule(&[(Some(0), 90), (Some(1), 0), (Some(2), 10)]);
    let mut counts = [0_u32; 3];
    // Seeds that are spread evenly give exactly the shares.
    for step in 0..10_000_u64 {
        counts[service(&rule, step * (u64::MAX / 10_000)).unwrap()] += 1;
    }
    assert!(counts[0].abs_diff(9_000) <= 1 && counts[1] == 0, "{counts:?}");
}

#[test]
fn what_is_not_there_is_500() {
    for backends in [&[][..], &[(Some(0), 0)][..], &[(None, 0), (Some(1), 0)][..]] {
        let error = service(&rule(backends), 7).unwrap_err();
        assert_eq!(error, "route shop/web/0 (path /): no backend has a weight above zero");
    }
    for backend in [None, Some(99)] {
        let error = service(&rule(&[(backend, 1)]), 7).unwrap_err();
        assert_eq!(
            error,
            "route shop/web/0 (path /): the backend of this request is no service that is known"
        );
    }
    // The share of a backend that is not there fails; the others don't take it over.
    let half = rule(&[(None, 1), (Some(1), 1)]);
    assert!(service(&half, 0).is_err());
    assert_eq!(service(&half, u64::MAX), Ok(1));
}

proptest! {
    #[test]
    fn nobody_without_a_weight_is_drawn(
        weights in prop::collection::vec(prop_oneof![Just(0), 0..=u32::MAX], 1..8),
        seed: u64,
    ) {
        let backends: Vec<_> = weights.iter().enumerate().map(|(at, weight)| (Some(at % 3), *weight)).collect();
        let rule = rule(&backends);
        match service(&rule, seed) {
            Ok(index) => prop_assert!(backends.iter().any(|(at, weight)| *at == Some(index) && *weight > 0)),
            Err(_) => prop_assert!(weights.iter().all(|weight| *weight == 0)),
        }
    }
}
