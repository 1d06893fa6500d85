//! Waypoints come and go without a failed call, whatever is written in which order, whoever is late, and whoever
//! meddles.

mod laws;
mod sim;

use serde_json::{Value, json};

use self::sim::Sim;
use super::super::ForkState;
use super::super::waypoints::WaypointWrite;
use crate::interposed::{Unfit, selector};
use crate::names::{ORIGINAL, WAYPOINT};
use crate::world::Name;

fn checkout() -> Name {
    Name::new("shop", "checkout")
}

#[test]
fn a_service_is_turned_once_every_waypoint_knows_its_port_and_back_after_the_last_fork() {
    let mut sim = Sim::new();
    let before = sim.raw(&checkout()).clone();
    sim.fork("42", "checkout");
    sim.step();
    assert!(sim.service("checkout-baseline").is_some());
    assert_eq!(sim.raw(&checkout()), &before, "the baseline is not selected by anything else yet");
    sim.forget();
    sim.sync_all();
    sim.step();
    assert_eq!(sim.raw(&checkout()), &before, "no waypoint knows the port");
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::NotInterposed)]);
    sim.acknowledge();
    sim.step();
    let turned = sim.raw(&checkout()).clone();
    assert_eq!(turned["spec"]["selector"], json!(selector()));
    let port = turned["spec"]["ports"][0]["targetPort"].as_u64().unwrap();
    assert!((15_200..16_200).contains(&port), "{turned}");
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::NotInterposed)]);
    sim.sync_all();
    let plan = sim.plan();
    assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::Routed)]);
    let view = &plan.waypoints.views["shop"];
    assert_eq!(
        view.keys().map(|id| &**id).collect::<Vec<_>>(),
        [&*format!("port/shop/{port}"), "service/checkout.shop"]
    );
    assert_eq!(plan.service("checkout.shop").baseline.as_ref().unwrap().len(), 1, "the pod, and no waypoint");
    sim.settle();
    assert!(sim.plan().waypoints.writes.is_empty());

    sim.unfork("42", "checkout");
    sim.step();
    assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
    assert_eq!(sim.raw(&checkout())["metadata"]["annotations"].get(ORIGINAL), None);
    assert!(
        sim.service("checkout-baseline").is_some(),
        "callers are still on their way through the waypoint"
    );
    assert!(!sim.plan().waypoints.views["shop"].is_empty());
    sim.settle();
    assert!(sim.service("checkout-baseline").is_none());
    assert!(sim.waypoints().is_empty(), "nothing needs them any more");
    assert!(sim.plan().waypoints.views.is_empty());
}

#[test]
fn what_can_have_no_waypoint_says_so_and_waits_for_none() {
    let udp = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    for (unfit, field, value) in [
        (Unfit::Headless, "clusterIP", json!("None")),
        (Unfit::SessionAffinity, "sessionAffinity", json!("ClientIP")),
        (Unfit::NodeLocal, "internalTrafficPolicy", json!("Local")),
        (Unfit::NotReadyAddresses, "publishNotReadyAddresses", json!(true)),
        (Unfit::Exposed, "type", json!("LoadBalancer")),
        (Unfit::Exposed, "type", json!("NodePort")),
        (Unfit::Exposed, "externalIPs", json!(["192.0.2.1"])),
        (Unfit::Rollouts, "selector", json!({"app": "checkout", "rollouts-pod-template-hash": "6c8"})),
        (Unfit::NoSelector, "selector", Value::Null),
        (Unfit::NotTcp, "ports", udp),
        (Unfit::NoHttp, "ports", json!([{"port": 443, "appProtocol": "https"}])),
        (Unfit::NoHttp, "ports", json!([{"port": 80, "name": "redis-main"}])),
        (Unfit::NoHttp, "ports", json!([{"port": 5432}])),
        (Unfit::NoHttp, "ports", json!([{"port": 5432, "name": "main"}])),
        (Unfit::OptedOut, "", json!({WAYPOINT: "false"})),
    ] {
        let mut sim = Sim::new();
        sim.edit(&checkout(), |raw| match field {
            "" => raw["metadata"]["annotations"] = value,
            field => raw["spec"][field] = value,
        });
        sim.fork("42", "checkout");
        sim.settle();
        let plan = sim.plan();
        let told = plan.notices_of("NotInterposed");
        assert!(told.len() == 1 && told[0].contains(unfit.why()), "{unfit:?}: {told:?}");
        let fork = plan.forks.iter().find(|fork| fork.service == checkout());
        let fork = fork.unwrap();
        assert_ne!(fork.state, ForkState::NotInterposed);
        assert!(fork.state != ForkState::Routed || fork.message.contains(unfit.why()), "{fork:?}");
        assert!(sim.service("checkout-baseline").is_none() && sim.waypoints().is_empty(), "{unfit:?}");
    }
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let mut sim = Sim::new();
    sim.create("checkout-baseline", json!({"app": "something-else"}), json!([{"port": 80}]));
    let there = sim.service("checkout-baseline").cloned();
    sim.fork("42", "checkout");
    sim.settle();
    assert_eq!(sim.service("checkout-baseline"), there.as_ref());
    assert!(sim.plan().notices_of("NotInterposed")[0].contains(Unfit::NameTaken.why()));
}

/// The guard, clones and endpoints go by what the Service was, whether its note is there or not.
#[test]
fn everything_is_judged_by_the_original_selector() {
    for note in [true, false] {
        let mut sim = Sim::new();
        sim.fork("42", "checkout");
        sim.settle();
        if !note {
            sim.edit(&checkout(), |raw| raw["metadata"]["annotations"] = json!({}));
        }
        let leaking = sim.leak("43", "checkout");
        assert!(sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_some());
        let plan = sim.plan();
        let fork = plan.forks.iter().find(|fork| fork.source.name.name == leaking).unwrap();
        assert_eq!(fork.state, ForkState::Leaks, "{fork:?}");
        assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
    }
}

#[test]
fn a_tool_that_puts_it_back_is_answered_at_once_and_then_ever_later() {
    let mut sim = Sim::new();
    let before = sim.raw(&checkout()).clone();
    sim.fork("42", "checkout");
    sim.settle();
    let mut waits = Vec::new();
    for _ in 0..9 {
        // The tool looks at every moment.
        sim.edit(&checkout(), |raw| *raw = before.clone());
        assert!(!sim.plan().notices_of("WaypointUndone").is_empty());
        let from = sim.now;
        sim.round();
        while sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_none() {
            sim.now += 1;
            sim.round();
            assert!(sim.now - from < 100, "it is given up");
        }
        sim.round();
        waits.push(sim.now - from);
    }
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(waits[0] == 0 && *waits.last().unwrap() == 60, "{waits:?}");
}

#[test]
fn a_half_that_was_put_back_is_made_whole() {
    for edit in [
        json!({"spec": {"selector": {"app": "checkout"}}}),
        json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}}),
    ] {
        let mut sim = Sim::new();
        sim.fork("42", "checkout");
        sim.settle();
        let before = json!({"app": "checkout"});
        sim.edit(&checkout(), |raw| raw["spec"]["selector"] = before);
        sim.round();
        sim.round();
        assert!(sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_some(), "it was long ago");
        sim.edit(&checkout(), |raw| {
            for (name, value) in edit["spec"].as_object().unwrap() {
                raw["spec"][name] = value.clone();
            }
        });
        // It was turned just now, so it is turned back first: half of it serves nobody.
        sim.step();
        assert_eq!(sim.raw(&checkout())["spec"]["selector"], json!({"app": "checkout"}));
        assert_eq!(sim.raw(&checkout())["spec"]["ports"][0]["targetPort"], json!(8080));
        sim.settle();
        assert!(sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_some());
    }
}

#[test]
fn what_a_person_changes_meanwhile_is_the_new_original() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    sim.edit(&checkout(), |raw| {
        raw["spec"]["selector"] = json!({"app": "checkout", "tier": "web"});
        raw["spec"]["ports"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "admin", "port": 81, "targetPort": 9000}));
        raw["spec"]["ports"][0]["name"] = json!("http");
    });
    sim.settle();
    let raw = sim.raw(&checkout());
    let note = raw["metadata"]["annotations"][ORIGINAL].as_str().unwrap();
    let note: Value = serde_json::from_str(note).unwrap();
    assert_eq!(note["selector"], json!({"app": "checkout", "tier": "web"}));
    assert_eq!(
        (&note["ports"]["80"]["target"], &note["ports"]["81"]["target"]),
        (&json!(8080), &json!(9000))
    );
    assert!(raw["spec"]["selector"].get(WAYPOINT).is_some());
    sim.edit(&checkout(), |raw| drop(raw["spec"]["ports"].as_array_mut().unwrap().remove(1)));
    sim.unfork("42", "checkout");
    sim.settle();
    let spec = &sim.raw(&checkout())["spec"];
    assert_eq!(spec["selector"], json!({"app": "checkout", "tier": "web"}));
    assert_eq!(spec["ports"], json!([{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]));
}

#[test]
fn draining_takes_every_waypoint_away_though_forks_are_there() {
    let mut sim = Sim::new();
    let before = sim.raw(&checkout()).clone();
    sim.fork("42", "checkout");
    sim.settle();
    sim.settings.waypoints.as_mut().unwrap().drain = true;
    sim.settle();
    assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
    assert!(sim.service("checkout-baseline").is_none() && sim.waypoints().is_empty());
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)]);
}

#[test]
fn a_service_that_goes_takes_all_of_it_with_it() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    sim.delete(&checkout());
    sim.settle();
    assert!(sim.service("checkout-baseline").is_none() && sim.waypoints().is_empty());
    sim.create("checkout", json!({"app": "checkout"}), json!([{"port": 80, "targetPort": 8080}]));
    sim.settle();
    assert!(sim.raw(&checkout())["spec"]["selector"].get(WAYPOINT).is_some());
}

#[test]
fn writes_are_told_apart() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    let writes = sim.plan().waypoints.writes;
    assert!(writes.iter().any(|write| matches!(write, WaypointWrite::Companion(_))));
    assert!(writes.iter().any(|write| matches!(write, WaypointWrite::Make { .. })));
    assert_eq!(writes.len(), 2);
}

fn selector_of(sim: &Sim) -> Value {
    sim.raw(&checkout())["spec"]["selector"].clone()
}

fn is_turned(sim: &Sim) -> bool {
    selector_of(sim) == json!(selector())
}

/// `kubectl apply`, Argo CD and Helm merge the selector key by key, so that the Service selects nothing.
#[test]
fn a_merged_selector_is_mended_at_once_and_is_no_original() {
    for own in [
        json!({"app": "checkout"}),
        json!({"app": "checkout", "app.kubernetes.io/name": "checkout"}),
        json!({"app.kubernetes.io/name": "checkout"}),
    ] {
        for with_target in [true, false] {
            for long_ago in [0, 100] {
                let mut sim = Sim::new();
                sim.label("checkout", "app.kubernetes.io/name", "checkout");
                sim.edit(&checkout(), |raw| raw["spec"]["selector"] = own.clone());
                let before = sim.raw(&checkout()).clone();
                sim.fork("42", "checkout");
                sim.settle();
                assert!(is_turned(&sim));
                let mut manifest = json!({"selector": own, "ports": [{"port": 80}]});
                if with_target {
                    manifest["ports"][0]["targetPort"] = json!(8080);
                }
                // It was mended a moment ago, or long ago.
                sim.merge(&checkout(), &manifest);
                sim.round();
                sim.round();
                sim.now += long_ago;
                sim.settle_now();
                sim.merge(&checkout(), &manifest);
                assert!(sim.plan().notices_of("WaypointUndone").len() == 1, "{:?}", sim.plan().notices);
                sim.step();
                let raw = sim.raw(&checkout());
                assert!(
                    raw["spec"] == before["spec"] || is_turned(&sim),
                    "one write makes it whole, there or back: {raw}"
                );
                sim.sync_all();
                assert_eq!(sim.calls(), Ok(()));
                assert!(sim.is_known_without_ours());
                sim.settle();
                assert!(is_turned(&sim));
                sim.unfork("42", "checkout");
                sim.settle();
                assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
            }
        }
    }
}

/// Argo Rollouts writes its one label again whenever that is not there: it is turned once, and then left to it.
#[test]
fn what_rollouts_writes_to_is_left_to_it() {
    let mut sim = Sim::new();
    let hash = "rollouts-pod-template-hash";
    sim.label("checkout", hash, "6c8");
    sim.fork("42", "checkout");
    sim.settle();
    assert!(is_turned(&sim), "it has written nothing yet");
    for _ in 0..20 {
        if selector_of(&sim).get(hash).is_none() {
            sim.merge(&checkout(), &json!({"selector": {hash: "6c8"}}));
        }
        sim.round();
        assert_eq!(selector_of(&sim), json!({"app": "checkout", hash: "6c8"}));
        assert_eq!(sim.calls(), Ok(()));
        sim.now += 30;
    }
    assert!(sim.plan().notices_of("NotInterposed")[0].contains(Unfit::Rollouts.why()));
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)]);
}

/// Both waypoints are gone, and the pods of the Service are as well as ever.
#[test]
fn without_a_waypoint_its_own_pods_serve_again() {
    let mut sim = Sim::new();
    let before = sim.raw(&checkout()).clone();
    sim.fork("42", "checkout");
    sim.settle();
    sim.scale(0);
    sim.round();
    assert!(is_turned(&sim), "one that begins anew is back in a moment");
    assert_eq!(sim.plan().next, Some(super::cluster::at(sim.now + 3)));
    sim.now += 3;
    sim.round();
    assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
    assert_eq!(sim.calls(), Ok(()));
    let plan = sim.plan();
    assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::NotInterposed)]);
    assert!(plan.notices_of("WaypointUndone").is_empty(), "nobody else has done it");
    for _ in 0..5 {
        sim.round();
        sim.now += 100;
        assert_eq!(sim.raw(&checkout())["spec"], before["spec"], "there is still none");
    }
    sim.scale(2);
    sim.settle();
    assert!(is_turned(&sim));
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)]);
    assert_eq!(sim.calls(), Ok(()));
}

/// Waypoints that come and go take the Service with them ever less often.
#[test]
fn waypoints_that_come_and_go_are_waited_for_longer_each_time() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    let mut waits = Vec::new();
    for _ in 0..9 {
        sim.scale(0);
        let from = sim.now;
        while is_turned(&sim) {
            sim.round();
            sim.now += 1;
        }
        sim.scale(2);
        while !is_turned(&sim) {
            sim.round();
            sim.now += 1;
            assert!(sim.now - from < 100, "it is given up");
        }
        sim.round();
        sim.round();
        waits.push(sim.now - from);
    }
    assert!(waits.is_sorted() && waits[0] < 8 && (60..65).contains(waits.last().unwrap()), "{waits:?}");
}

/// One that is away for less than that changes nothing.
#[test]
fn a_waypoint_that_is_back_soon_changes_nothing() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    for _ in 0..5 {
        sim.scale(0);
        sim.round();
        sim.now += 2;
        sim.scale(2);
        sim.settle_now();
        assert!(is_turned(&sim));
        sim.now += 2;
    }
}

#[test]
fn always_means_whether_it_is_forked_or_not() {
    let mut sim = Sim::new();
    let before = sim.raw(&checkout()).clone();
    sim.edit(&checkout(), |raw| raw["metadata"]["annotations"][WAYPOINT] = json!("always"));
    sim.settle();
    assert!(is_turned(&sim) && sim.calls() == Ok(()));
    sim.fork("42", "checkout");
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)], "it is there already");
    sim.unfork("42", "checkout");
    sim.settle();
    assert!(is_turned(&sim));
    sim.settings.waypoints.as_mut().unwrap().drain = true;
    sim.settle();
    assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
    sim.settings.waypoints.as_mut().unwrap().drain = false;
    sim.settle();
    assert!(is_turned(&sim));
    sim.edit(&checkout(), |raw| {
        drop(raw["metadata"]["annotations"].as_object_mut().unwrap().remove(WAYPOINT))
    });
    sim.settle();
    assert_eq!(sim.raw(&checkout())["spec"], before["spec"]);
    assert!(sim.waypoints().is_empty() && sim.service("checkout-baseline").is_none());
}

/// Connections that were opened before go past the waypoint for good, and the preview says since when they don't.
#[test]
fn a_fork_says_since_when_calls_reach_it() {
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    let plan = sim.plan();
    let message = &plan.forks[0].message;
    assert!(message.contains("reach it on connections opened since 1970-01-"), "{message}");
}

/// What is reached from outside would be a door to forks that no gateway guards, unless somebody says that it is right.
#[test]
fn what_is_reached_from_outside_must_ask_for_a_waypoint() {
    for (value, is) in [("true", true), ("always", true), ("false", false), ("yes", false)] {
        let mut sim = Sim::new();
        sim.edit(&checkout(), |raw| {
            raw["spec"]["type"] = json!("LoadBalancer");
            raw["metadata"]["annotations"][WAYPOINT] = json!(value);
        });
        sim.fork("42", "checkout");
        sim.settle();
        assert_eq!(is_turned(&sim), is, "{value}");
    }
    // One that becomes so while a waypoint is in front of it.
    let mut sim = Sim::new();
    sim.fork("42", "checkout");
    sim.settle();
    sim.edit(&checkout(), |raw| raw["spec"]["type"] = json!("NodePort"));
    sim.settle();
    assert!(!is_turned(&sim));
}

/// The Service for the baseline needs the endpoints of both families.
#[test]
fn a_dual_stack_service_is_turned() {
    let mut sim = Sim::new();
    sim.edit(&checkout(), |raw| {
        raw["spec"]["ipFamilyPolicy"] = json!("PreferDualStack");
        raw["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    });
    sim.sync_all();
    sim.fork("42", "checkout");
    sim.settle();
    let companion = &sim.service("checkout-baseline").unwrap()["spec"];
    assert_eq!(companion["ipFamilyPolicy"], json!("PreferDualStack"));
    assert_eq!(companion["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(is_turned(&sim));
    assert_eq!(sim.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)]);
    assert_eq!(sim.calls(), Ok(()));
    let baseline = sim.plan().service("checkout.shop").baseline.clone().unwrap();
    assert_eq!(baseline.len(), 2, "{baseline:?}");
    sim.unfork("42", "checkout");
    sim.settle();
    assert!(sim.service("checkout-baseline").is_none() && sim.calls() == Ok(()));
}

/// What applies it server-side without `targetPort` would put back half of it: that is told when it is turned.
#[test]
fn a_target_that_nobody_says_is_told() {
    let mut sim = Sim::new();
    let ports = json!({"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}});
    let fields = json!({"f:spec": {"f:selector": {}, "f:ports": ports}});
    sim.edit(&checkout(), |raw| {
        raw["metadata"]["managedFields"] =
            json!([{"manager": "flux", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    });
    sim.fork("42", "checkout");
    sim.round();
    assert_eq!(sim.plan().notices_of("TargetPortUnsaid").len(), 1);
    sim.edit(&checkout(), |raw| {
        let said =
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:targetPort": {}}}}});
        let other =
            json!({"manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": said});
        raw["metadata"]["managedFields"].as_array_mut().unwrap().push(other);
    });
    assert!(sim.plan().notices_of("TargetPortUnsaid").is_empty(), "somebody says it");
}

/// Somebody's own Service of the waypoints, for their metrics, is his.
#[test]
fn a_service_of_the_waypoints_themselves_is_left_alone() {
    let mut sim = Sim::new();
    for (name, selector) in [("metrics", json!({WAYPOINT: "true"})), ("all", json!(selector()))] {
        sim.create(name, selector, json!([{"port": 9901}]));
        let before = sim.raw(&Name::new("shop", name)).clone();
        sim.settle();
        assert_eq!(sim.raw(&Name::new("shop", name)), &before);
        assert!(sim.waypoints().is_empty() && sim.plan().notices.is_empty());
    }
}
