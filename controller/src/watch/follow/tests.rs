//! What a watch makes of lists and events.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::json;

use super::*;
use crate::observe;
use crate::world::{Workload, WorkloadKind, World};

fn deployment(name: &str, replicas: i32) -> Deployment {
    let value = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": replicas, "selector": {}, "template": {"metadata": {"labels": {"app": name}}}},
    });
    serde_json::from_value(value).unwrap()
}

fn deployments() -> Facts<Deployment, Workload> {
    let id = |name| (WorkloadKind::Deployment, name);
    Facts::new(observe::deployment, id, |id: &(WorkloadKind, Name)| id.0 == WorkloadKind::Deployment)
}

fn names(world: &World) -> Vec<(WorkloadKind, &str)> {
    world.workloads.keys().map(|(kind, name)| (*kind, &*name.name)).collect()
}

/// Lists these; the change that comes of it.
fn list(sink: &mut Facts<Deployment, Workload>, objects: Vec<Deployment>) -> Change {
    sink.list();
    for object in objects {
        sink.listed(object);
    }
    sink.complete().unwrap()
}

#[test]
fn what_is_not_on_a_new_list_is_gone_and_the_rest_stays_as_it_is() {
    let (mut world, mut sink) = (World::default(), deployments());
    assert!(list(&mut sink, vec![deployment("a", 1), deployment("b", 1)])(&mut world));
    let known = Arc::clone(world.workloads.values().next().unwrap());
    assert!(list(&mut sink, vec![deployment("a", 1), deployment("c", 1)])(&mut world));
    assert_eq!(names(&world), [(WorkloadKind::Deployment, "a"), (WorkloadKind::Deployment, "c")]);
    assert!(Arc::ptr_eq(&known, world.workloads.values().next().unwrap()));
    assert!(
        !list(&mut sink, vec![deployment("c", 1), deployment("a", 1)])(&mut world),
        "the same list changes nothing"
    );
}

#[test]
fn a_list_that_begins_changes_nothing_and_one_that_is_cut_off_is_forgotten() {
    let (mut world, mut sink) = (World::default(), deployments());
    list(&mut sink, vec![deployment("a", 1)])(&mut world);
    sink.list();
    sink.listed(deployment("cut-off", 1));
    assert_eq!(names(&world), [(WorkloadKind::Deployment, "a")]);
    list(&mut sink, vec![deployment("b", 1)])(&mut world);
    assert_eq!(names(&world), [(WorkloadKind::Deployment, "b")]);
}

#[test]
fn a_list_of_one_kind_leaves_another_that_shares_its_map() {
    let (mut world, mut sink) = (World::default(), deployments());
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"serviceName": "a", "selector": {}, "template": {"metadata": {}}},
    }))
    .unwrap();
    let mut sets = Facts::new(observe::stateful_set, |name| (WorkloadKind::StatefulSet, name), |_: &_| true);
    sets.apply(set).unwrap()(&mut world);
    list(&mut sink, vec![deployment("a", 1)])(&mut world);
    list(&mut sink, Vec::new())(&mut world);
    assert_eq!(names(&world), [(WorkloadKind::StatefulSet, "a")]);
}

#[test]
fn an_event_that_says_nothing_new_is_no_change() {
    let (mut world, mut sink) = (World::default(), deployments());
    assert!(sink.apply(deployment("a", 1)).unwrap()(&mut world));
    assert!(!sink.apply(deployment("a", 1)).unwrap()(&mut world));
    assert!(sink.apply(deployment("a", 2)).unwrap()(&mut world));
    assert!(sink.delete(deployment("a", 2)).unwrap()(&mut world));
    assert!(!sink.delete(deployment("a", 2)).unwrap()(&mut world));
}

#[test]
fn pauses_grow_to_a_few_seconds_and_are_short_again_after_a_quiet_minute() {
    let (mut pauses, mut now) = (Pauses::default(), Instant::now());
    let mut seen = Vec::new();
    for _ in 0..8 {
        let pause = pauses.next(now);
        seen.push(pause.as_millis());
        now += pause;
    }
    assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(pauses.next(now + Duration::from_secs(60)), MIN_PAUSE);
}

#[test]
fn what_stays_forbidden_is_given_up_once() {
    let error = |code: u16| {
        let status = kube::core::Status { code, ..kube::core::Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    };
    let (mut forbidden, now) = (Forbidden::default(), Instant::now());
    assert!(!forbidden.is_news(&error(403), now), "an API server that starts forbids everything");
    assert!(!forbidden.is_news(&error(500), now + FORBIDDEN));
    assert!(forbidden.is_news(&error(403), now + FORBIDDEN));
    assert!(!forbidden.is_news(&error(403), now + FORBIDDEN * 2));
}
