//! What holds whatever happens in which order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::super::ForkState;
use super::checkout;
use super::sim::Sim;
use crate::names::{ORIGINAL, WAYPOINT};
use crate::world::Name;

/// What may happen next.
#[derive(Clone, Debug)]
enum Event {
    Fork(usize),
    Unfork(usize),
    /// One write of a plan, by its place: any of them may be the last that a controller does.
    Write(usize),
    /// The EndpointSlices of one Service follow.
    Sync(usize),
    /// The waypoints take the newest table.
    Acknowledge,
    /// Time passes.
    Wait(i64),
    /// A waypoint more or less.
    Scale(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..3_usize).prop_map(Event::Fork),
        2 => (0..3_usize).prop_map(Event::Unfork),
        8 => any::<usize>().prop_map(Event::Write),
        6 => any::<usize>().prop_map(Event::Sync),
        3 => Just(Event::Acknowledge),
        2 => (0..40_i64).prop_map(Event::Wait),
        1 => (1..4_usize).prop_map(Event::Scale),
    ]
}

/// What somebody else may do to a Service.
#[derive(Clone, Debug)]
enum Meddling {
    Selector(bool),
    Targets,
    Annotation,
    Whole(bool),
    Port(bool),
    Companion,
    /// What `kubectl apply` and all that works like it does: with another label, with `targetPort`.
    Merge(bool, bool),
    /// Every waypoint goes.
    Waypoints,
}

fn meddling() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        any::<bool>().prop_map(Meddling::Selector),
        Just(Meddling::Targets),
        Just(Meddling::Annotation),
        any::<bool>().prop_map(Meddling::Whole),
        any::<bool>().prop_map(Meddling::Port),
        Just(Meddling::Companion),
        any::<(bool, bool)>().prop_map(|(other, target)| Meddling::Merge(other, target)),
        Just(Meddling::Waypoints),
    ]
}

const SERVICES: [&str; 3] = ["checkout", "cart", "pay"];

fn happen(sim: &mut Sim, event: &Event) {
    match event {
        Event::Fork(at) => sim.fork("42", SERVICES[*at]),
        Event::Unfork(at) => sim.unfork("42", SERVICES[*at]),
        Event::Write(at) => sim.write_one(*at),
        Event::Sync(at) => sim.sync_one(*at),
        Event::Acknowledge => sim.acknowledge(),
        Event::Wait(seconds) => sim.now += seconds,
        Event::Scale(count) => sim.scale(*count),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Calls are answered by the baseline at every moment, whichever of the writes are done in which order and however
    /// late EndpointSlices and waypoints are; and in the end all is as it was.
    #[test]
    fn no_call_fails_on_the_way_in_or_out(events in prop::collection::vec(event(), 0..60)) {
        let mut sim = Sim::estate();
        let before: Vec<_> = SERVICES.map(|name| sim.raw(&Name::new("shop", name)).clone()).into();
        for event in &events {
            happen(&mut sim, event);
            if let Err(why) = sim.calls() {
                prop_assert!(false, "{why} after {event:?}");
            }
        }
        sim.settle();
        prop_assert_eq!(sim.calls(), Ok(()));
        let plan = sim.plan();
        prop_assert!(plan.waypoints.writes.is_empty(), "{:?}", plan.waypoints.writes);
        prop_assert!(plan.forks.iter().all(|fork| fork.state == ForkState::Routed), "{:?}", plan.forks);
        for (at, service) in SERVICES.iter().enumerate() {
            let forked = plan.forks.iter().any(|fork| &*fork.service.name == *service);
            let raw = sim.raw(&Name::new("shop", service));
            prop_assert_eq!(raw["spec"]["selector"].get(WAYPOINT).is_some(), forked);
            prop_assert!(forked || raw["spec"] == before[at]["spec"], "{raw}");
            sim.unfork("42", service);
        }
        sim.settle();
        prop_assert!(sim.waypoints().is_empty());
        prop_assert_eq!(sim.count(), SERVICES.len());
    }

    /// Whatever somebody does to a Service and its companion, at whatever moment: it comes to what it should be, nothing is
    /// written any more then, and calls are answered.
    #[test]
    fn it_converges_from_every_state(
        events in prop::collection::vec(event(), 0..30),
        meddling in prop::collection::vec((meddling(), prop::collection::vec(event(), 0..6)), 1..4),
        forked in any::<bool>(),
    ) {
        let mut sim = Sim::estate();
        events.iter().for_each(|event| happen(&mut sim, event));
        let mut selector = json!({"app": "checkout"});
        for (what, events) in &meddling {
            meddle(&mut sim, what, &mut selector);
            for event in events {
                happen(&mut sim, event);
                prop_assert!(sim.is_known_without_ours(), "{:?}", sim.raw(&checkout()));
            }
        }
        sim.scale(2);
        if forked { sim.fork("43", "checkout") } else { SERVICES.iter().for_each(|name| sim.unfork("42", name)) }
        sim.settle();
        let plan = sim.plan();
        prop_assert!(plan.waypoints.writes.is_empty(), "{:?}", plan.waypoints.writes);
        prop_assert_eq!(sim.calls(), Ok(()));
        prop_assert_eq!(is_turned(&sim), forked);
        let seen = &sim.cluster.world.services[&checkout()];
        prop_assert_eq!(json!(seen.selector), selector);
    }
}

/// Whether only the annotation and the companion know what the Service was: to lose both, in whichever order, before a
/// controller has seen the loss of one is what nothing in the cluster can make good.
fn is_turned(sim: &Sim) -> bool {
    sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_some()
}

fn meddle(sim: &mut Sim, what: &Meddling, selector: &mut Value) {
    match what {
        Meddling::Selector(other) => {
            *selector =
                if *other { json!({"app": "checkout", "tier": "web"}) } else { json!({"app": "checkout"}) };
            let wanted = selector.clone();
            sim.edit(&checkout(), |raw| raw["spec"]["selector"] = wanted);
        }
        Meddling::Targets => sim.edit(&checkout(), |raw| raw["spec"]["ports"][0]["targetPort"] = json!(8080)),
        Meddling::Annotation => {
            if !is_turned(sim) || sim.service("checkout-baseline").is_some() {
                sim.edit(&checkout(), |raw| {
                    raw["metadata"]["annotations"].as_object_mut().map(|all| all.remove(ORIGINAL));
                });
            }
        }
        Meddling::Whole(annotation) => {
            let wanted = selector.clone();
            sim.edit(&checkout(), |raw| {
                raw["spec"]["selector"] = wanted;
                raw["spec"]["ports"] = json!([{"port": 80, "targetPort": 8080, "protocol": "TCP"}]);
                if *annotation {
                    raw["metadata"]["annotations"] = json!({});
                }
            });
        }
        Meddling::Port(there) => sim.edit(&checkout(), |raw| {
            let ports = raw["spec"]["ports"].as_array_mut().unwrap();
            ports.retain(|port| port["port"] == 80);
            if *there {
                ports.push(json!({"name": "admin", "port": 81, "targetPort": 8080, "protocol": "TCP"}));
            }
        }),
        Meddling::Merge(other, target) => {
            let mut spec = json!({"selector": {"app": "checkout"}, "ports": [{"port": 80}]});
            if *other {
                spec["selector"]["tier"] = json!("web");
                selector["tier"] = json!("web");
            }
            if *target {
                spec["ports"][0]["targetPort"] = json!(8080);
            }
            sim.merge(&checkout(), &spec);
        }
        Meddling::Waypoints => sim.scale(0),
        Meddling::Companion => {
            let noted = sim.raw(&checkout())["metadata"]["annotations"].get(ORIGINAL).is_some();
            if noted || !is_turned(sim) {
                sim.delete(&Name::new("shop", "checkout-baseline"));
            }
        }
    }
}
