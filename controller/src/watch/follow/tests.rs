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

/// The pauses of `count` failures in a row, in milliseconds.
fn row(pauses: &mut Pauses, now: &mut Instant, count: usize, is_expired: bool) -> Vec<u128> {
    let next = |_| {
        let pause = pauses.next(*now, is_expired);
        *now += pause;
        pause.as_millis()
    };
    (0..count).map(next).collect()
}

#[test]
fn pauses_grow_to_a_few_seconds_and_are_short_again_after_a_quiet_time() {
    let (mut pauses, mut now) = (Pauses::default(), Instant::now());
    let grown = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
    assert_eq!(row(&mut pauses, &mut now, 8, false), grown);
    now += QUIET;
    assert_eq!(row(&mut pauses, &mut now, 8, false), grown);
}

#[test]
fn a_lost_place_after_an_outage_is_listed_anew_at_once_and_in_a_row_of_its_own_ever_less_often() {
    let (mut pauses, mut now) = (Pauses::default(), Instant::now());
    row(&mut pauses, &mut now, 8, false);
    assert_eq!(row(&mut pauses, &mut now, 4, true), [100, 200, 400, 800]);
    assert_eq!(row(&mut pauses, &mut now, 1, false), [1600], "an API server that does not stay is let be");
}

#[tokio::test]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let (sender, _messages) = mpsc::channel(1);
    let restarts = IntCounter::new("restarts", "restarts").unwrap();
    let mut follow = Follow {
        what: "Deployments",
        source: 0,
        api: Api::all(client),
        config: watcher::Config::default(),
        sink: deployments(),
        sender,
        restarts: restarts.clone(),
        is_optional: false,
    };
    tokio::spawn(async move { follow.run_for_lists_within(Duration::from_millis(10)).await });
    // Each question comes on a connection of its own, since none is answered.
    let (_first, _second) = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
    assert!(restarts.get() >= 1);
}

#[test]
fn both_forms_of_410_gone_are_a_lost_place() {
    let status = |code| Box::new(kube::core::Status { code, ..kube::core::Status::default() });
    let start = |code| watcher::Error::WatchStartFailed(kube::Error::Api(status(code)));
    assert!(is_expired(&watcher::Error::WatchError(status(410))) && is_expired(&start(410)));
    assert!(!is_expired(&watcher::Error::WatchError(status(500))) && !is_expired(&start(403)));
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
