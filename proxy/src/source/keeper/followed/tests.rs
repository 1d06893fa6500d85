//! The table that changes make one by one against the one that is made of all of them at once.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixture::key;
use sidetrack_config::{Owner, parse_for};

const FILE: &str = "
listeners: [{address: 127.0.0.1:0}]
domains: [preview.localhost]
";

fn keeper() -> Keeper {
    let config = parse_for(Path::new("test.yaml"), FILE, Owner::Controller).unwrap().config;
    Keeper::following(Path::new("test.yaml"), config, 1, Metrics::new(1), "https://c", Arc::default())
        .unwrap()
}

fn item(kind: &str, value: Value) -> Change {
    Change::Set(serde_json::from_value(json!({ kind: value })).unwrap())
}

fn service(name: &str, port: u16, protocol: &str) -> (Box<str>, Change) {
    let baseline = [format!("10.0.0.1:{port}")];
    let item = item("service", json!({"name": name, "baseline": baseline, "protocol": protocol}));
    (format!("service/{name}").into(), item)
}

fn preview(key: &str, service: &str, port: u16, aliases: &[&str]) -> (Box<str>, Change) {
    let forks = json!({service: [format!("10.0.0.2:{port}")]});
    let item = item("preview", json!({"key": key, "forks": forks, "aliases": aliases, "onForkDown": "fail"}));
    (format!("preview/{key}").into(), item)
}

fn route(host: &str, service: &str) -> (Box<str>, Change) {
    let action = json!({"forward": [{"service": service, "weight": 1}]});
    let route = json!({"name": host, "host": host, "path": {"prefix": "/"}, "rank": "", "action": action});
    (format!("route/{host}").into(), item("route", route))
}

fn gone(key: &str) -> (Box<str>, Change) {
    (format!("gone/{key}").into(), item("gone", json!({"key": key, "at": "2026-11-20T00:00:00Z"})))
}

/// Everything that a request can meet in a table, by names.
fn told(keeper: &Keeper) -> String {
    let table = keeper.published().load();
    let name = |number: usize| table.estate.services[number].name.clone();
    let endpoints = |list: &[Arc<crate::route::table::Endpoint>]| {
        list.iter().map(|one| format!("{} {:?};", one.address, one.upstream.protocol)).collect::<String>()
    };
    let mut lines = BTreeSet::new();
    for (number, service) in table.estate.services.iter().enumerate() {
        assert_eq!(service.index, number);
        if let Some(known) = table.estate.service(&service.name) {
            assert_eq!(known.index, number);
            lines.insert(format!("known {}", known.name));
        }
        if let Some(baseline) = &service.baseline {
            lines.insert(format!("service {} {}", service.name, endpoints(baseline)));
        }
    }
    for preview in table.previews() {
        let mut line = format!("preview {}", preview.key);
        for (number, list) in preview.forks.iter() {
            let _ = write!(line, " {}={}", name(number), endpoints(list));
        }
        for alias in preview.aliases() {
            assert_eq!(table.alias(alias), Some(preview.key));
            let _ = write!(line, " alias {alias}");
        }
        lines.insert(line);
    }
    for name in ["a", "b", "c"] {
        if table.is_gone(&key(name)) {
            lines.insert(format!("gone {name}"));
        }
    }
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn changes() -> impl Strategy<Value = Changes> {
    let names = || prop::sample::select(vec!["s0", "s1", "s2"]);
    let keys = || prop::sample::select(vec!["a", "b", "c"]);
    let protocols = prop::sample::select(vec!["http1", "h2c"]);
    let one = prop_oneof![
        (names(), 1u16..3, protocols).prop_map(|(name, port, protocol)| service(name, port, protocol)),
        names().prop_map(|name| (format!("service/{name}").into(), Change::Removed)),
        // `x-KEY` is its own; `api` is a's, where no route has that label.
        (keys(), names(), 1u16..3, any::<bool>()).prop_map(|(key, name, port, has_alias)| {
            let own = format!("x-{key}");
            let aliases: &[&str] = match (has_alias, key) {
                (false, _) => &[],
                (true, "a") => &["api", "x-a"],
                (true, _) => &[&own],
            };
            preview(key, name, port, aliases)
        }),
        keys().prop_map(|key| (format!("preview/{key}").into(), Change::Removed)),
        Just(route("api.preview.localhost", "s0")),
        Just(("route/api.preview.localhost".into(), Change::Removed)),
        keys().prop_map(gone),
        keys().prop_map(|key| (format!("gone/{key}").into(), Change::Removed)),
    ];
    prop::collection::vec(one, 1..5).prop_map(|all| all.into_iter().collect())
}

proptest! {
    #[test]
    fn step_by_step_is_the_same_as_at_once(steps in prop::collection::vec(changes(), 1..10)) {
        let mut stepped = keeper();
        let mut all = Changes::new();
        for (version, step) in (1..).zip(&steps) {
            stepped.apply(version, step).unwrap();
            all.extend(step.clone());
            all.retain(|_, change| *change != Change::Removed);
            let mut at_once = keeper();
            at_once.apply(version, &all).unwrap();
            prop_assert_eq!(told(&stepped), told(&at_once), "after {:?}", step);
        }
    }
}

#[test]
fn a_refusal_changes_nothing() {
    let mut keeper = keeper();
    keeper.apply(1, &Changes::from([service("s0", 1, "http1"), preview("a", "s0", 1, &[])])).unwrap();
    let before = told(&keeper);
    let bad = || ("rule/x".into(), Change::Bad("unknown".to_owned()));
    let (name, mut wrong) = route("x.test", "s9");
    if let Change::Set(Item::Route(route)) = &mut wrong {
        route.path = stream::PathMatch::Prefix("no-slash".into());
    }
    for change in [bad(), (name, wrong)] {
        let more = [service("s1", 2, "h2c"), service("s0", 7, "h2c"), preview("b", "s8", 1, &[]), change];
        keeper.apply(2, &Changes::from(more)).unwrap_err();
        assert_eq!((told(&keeper), keeper.generation()), (before.clone(), 1));
    }
    keeper.apply(3, &Changes::from([preview("b", "s8", 1, &[]), service("s8", 3, "h2c")])).unwrap();
    assert!(told(&keeper).contains("preview b s8=10.0.0.2:1 H2c;"), "{}", told(&keeper));
}

#[test]
fn numbers_of_services_that_are_gone_are_used_again() {
    let mut keeper = keeper();
    keeper.apply(1, &Changes::from([service("kept", 1, "http1"), preview("a", "kept", 1, &[])])).unwrap();
    for version in 2..6000 {
        let (last, next) = (format!("s{}", version - 1), format!("s{version}"));
        let last = (format!("service/{last}").into(), Change::Removed);
        keeper.apply(version, &Changes::from([last, service(&next, 1, "http1")])).unwrap();
    }
    let table = keeper.published().load();
    assert!(table.estate.services.len() < 3000, "{}", table.estate.services.len());
    assert_eq!(
        told(&keeper),
        "known kept\nknown s5999\npreview a kept=10.0.0.2:1 Http1;\nservice kept 10.0.0.1:1 Http1;\n\
         service s5999 10.0.0.1:1 Http1;"
    );
    let names: HashSet<_> = table.estate.services.iter().map(|service| &service.name).collect();
    assert_eq!(names.len(), table.estate.services.len(), "each has counters of its own");
}

#[test]
fn an_endpoint_keeps_its_identity() {
    let mut keeper = keeper();
    keeper.apply(1, &Changes::from([service("s0", 1, "http1"), preview("a", "s0", 1, &[])])).unwrap();
    let id = |keeper: &Keeper| {
        keeper.published().load().preview(&key("a")).unwrap().forks.iter().next().unwrap().1[0].id
    };
    let before = id(&keeper);
    keeper.apply(2, &Changes::from([service("s0", 2, "http1"), preview("a", "s0", 1, &["x-a"])])).unwrap();
    assert_eq!(id(&keeper), before, "its connections go on");
}

/// A Service as sidecars are told of it: with its address, and the endpoints where somebody forks it.
fn of_cluster(baseline: Option<&str>) -> (Box<str>, Change) {
    let addresses = ["10.96.0.1:80"];
    let baseline = baseline.unwrap_or(addresses[0]);
    let told =
        json!({"name": "cart.shop", "baseline": [baseline], "protocol": "http1", "addresses": addresses});
    ("service/cart.shop".into(), item("service", told))
}

#[test]
fn a_service_is_known_by_name_and_address_while_it_is_there() {
    let mut keeper = keeper();
    let known = |keeper: &Keeper| {
        let estate = Arc::clone(&keeper.published().load().estate);
        let by_address = estate.at("10.96.0.1:80".parse().unwrap()).map(|service| service.index);
        assert_eq!(estate.service("cart.shop").map(|service| service.index), by_address);
        estate.service("cart.shop").map(Service::hides_its_pods)
    };
    let fork = || preview("a", "cart.shop", 1, &[]);
    let gone = || ("service/cart.shop".into(), Change::Removed);
    keeper.apply(1, &Changes::from([fork()])).unwrap();
    assert_eq!(known(&keeper), None, "a fork alone makes no service");
    for (version, change, expected) in [
        (2, of_cluster(None), Some(true)),
        (3, of_cluster(Some("10.0.0.1:8080")), Some(false)),
        (4, of_cluster(None), Some(true)),
        (5, gone(), None),
        (6, of_cluster(None), Some(true)),
        (7, gone(), None),
    ] {
        keeper.apply(version, &Changes::from([change])).unwrap();
        assert_eq!(known(&keeper), expected, "version {version}");
        // What a file says anew is not about services.
        let checked = parse_for(Path::new("test.yaml"), FILE, Owner::Controller).unwrap();
        let checked = keeper.with_services(checked);
        keeper.adopt_settings(checked).unwrap();
        assert_eq!(known(&keeper), expected, "version {version} with settings that were read again");
    }
}
