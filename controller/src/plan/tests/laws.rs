//! What holds in every cluster.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;
use sidetrack_config::Key;
use sidetrack_config::stream::Item;

use super::super::Plan;
use super::cluster::{Cluster, NOW, cloned, labels, listed, spec};
use crate::names::{ALIASES, ALLOW_FORKS_FROM, FORK_OF, FORK_OF_NAMESPACE, PR, REPOSITORY, TTL};
use crate::preview::{CloneSpec, ForkSpec, PreviewSpec};
use crate::world::{Labels, Name, SliceEndpoint};

/// Something that somebody does to the cluster.
#[derive(Clone, Debug)]
enum Event {
    Service { at: Name, selector: Labels, labels: Labels },
    Baseline { at: Name },
    Deployment { at: Name, created: i64, pods: Labels, annotations: Labels },
    Pod { at: Name, labels: Labels },
    Ready { at: Name, ready: bool },
    Slice { at: Name, service: &'static str, of: Vec<usize>, with_pod: bool },
    Preview { at: Name, created: i64, spec: Box<PreviewSpec> },
    Gone { at: Name },
}

const NAMESPACES: [&str; 2] = ["shop", "team"];
const NAMES: [&str; 5] = ["checkout", "cart", "a", "b", "checkout-pr-42"];
const KEYS: [&str; 4] = ["42", "pr-42", "57", "Not_A_Key"];

fn name() -> impl Strategy<Value = Name> {
    (prop::sample::select(&NAMESPACES[..]), prop::sample::select(&NAMES[..]))
        .prop_map(|(namespace, name)| Name::new(namespace, name))
}

/// Few words, so that selectors meet labels often.
fn some_labels() -> impl Strategy<Value = Labels> {
    let pair = prop_oneof![
        6 => (Just("app"), prop::sample::select(&NAMES[..])),
        2 => (Just("tier"), prop::sample::select(&["web", "db"][..])),
        3 => (Just(PR), prop::sample::select(&KEYS[..])),
        3 => (Just(FORK_OF), prop::sample::select(&NAMES[..])),
        1 => (Just(FORK_OF_NAMESPACE), prop::sample::select(&NAMESPACES[..])),
    ];
    prop::collection::vec(pair, 0..5).prop_map(labels)
}

fn fork_labels() -> impl Strategy<Value = Labels> {
    (some_labels(), prop::sample::select(&KEYS[..]), prop::sample::select(&NAMES[..])).prop_map(
        |(mut own, key, service)| {
            own.extend(labels([(PR, key), (FORK_OF, service)]));
            own
        },
    )
}

fn annotations() -> impl Strategy<Value = Labels> {
    let pair = prop_oneof![
        (Just(TTL), prop::sample::select(&["1h", "2h", "never"][..])),
        (Just(REPOSITORY), prop::sample::select(&["one", "two"][..])),
        (Just(ALIASES), prop::sample::select(&["demo", "57", "demo,x"][..])),
    ];
    prop::collection::vec(pair, 0..3).prop_map(labels)
}

fn preview_spec() -> impl Strategy<Value = PreviewSpec> {
    let clone = prop::option::of(prop::sample::select(&NAMES[..])).prop_map(|deployment| CloneSpec {
        deployment: deployment.map(str::to_owned),
        image: Some("app:2".into()),
        ..CloneSpec::default()
    });
    let fork = (prop::sample::select(&NAMES[..]), 0..3, clone, prop::sample::select(&NAMES[..])).prop_map(
        |(service, kind, clone, from)| match kind {
            0 => listed(service),
            1 => cloned(service, clone),
            _ => ForkSpec { endpoints_from: Some(from.into()), ..listed(service) },
        },
    );
    let ttl = prop::option::of(prop::sample::select(&["1h", "1s"][..]));
    let repository = prop::option::of(prop::sample::select(&["one", "two"][..]));
    let forks = prop::collection::vec(fork, 0..3);
    (prop::sample::select(&KEYS[..]), forks, ttl, repository).prop_map(|(key, forks, ttl, repository)| {
        PreviewSpec {
            ttl: ttl.map(str::to_owned),
            repository: repository.map(str::to_owned),
            aliases: vec!["demo".into()],
            ..spec(key, forks)
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (name(), some_labels(), some_labels())
            .prop_map(|(at, selector, labels)| Event::Service { at, selector, labels }),
        3 => name().prop_map(|at| Event::Baseline { at }),
        6 => (name(), 0..9i64, fork_labels(), annotations())
            .prop_map(|(at, created, pods, annotations)| Event::Deployment { at, created, pods, annotations }),
        1 => (name(), 0..9i64, some_labels(), annotations())
            .prop_map(|(at, created, pods, annotations)| Event::Deployment { at, created, pods, annotations }),
        2 => (name(), fork_labels()).prop_map(|(at, labels)| Event::Pod { at, labels }),
        1 => (name(), any::<bool>()).prop_map(|(at, ready)| Event::Ready { at, ready }),
        1 => (name(), prop::sample::select(&NAMES[..]), prop::collection::vec(0..20usize, 0..4), any::<bool>())
            .prop_map(|(at, service, of, with_pod)| Event::Slice { at, service, of, with_pod }),
        3 => (name(), NOW - 9..NOW, preview_spec())
            .prop_map(|(at, created, spec)| Event::Preview { at, created, spec: Box::new(spec) }),
        1 => name().prop_map(|at| Event::Gone { at }),
    ]
}

impl Cluster {
    fn happen(&mut self, event: &Event) {
        match event.clone() {
            Event::Service { at, selector, labels } => {
                self.service(&at.namespace, &at.name, selector).meta.labels = labels;
            }
            Event::Baseline { at } => self.baseline(&at.namespace, &at.name),
            Event::Deployment { at, created, pods, annotations } => {
                self.deployment(&at.namespace, &at.name, created, pods).meta.annotations = annotations;
            }
            Event::Pod { at, labels } => drop(self.pod(&at.namespace, &at.name, 3, labels, None)),
            Event::Ready { at, ready } => {
                if let Some(pod) = self.world.pods.get_mut(&at) {
                    Arc::make_mut(pod).ready = ready;
                }
            }
            Event::Slice { at, service, of, with_pod } => self.slice(&at, service, &of, with_pod),
            Event::Preview { at, created, spec } => self.preview(&at.namespace, &at.name, created, *spec),
            Event::Gone { at } => {
                self.world.services.remove(&at);
                self.world.previews.remove(&at);
                self.world.workloads.retain(|(_, name), _| *name != at);
                self.world.pods.retain(|name, _| *name != at);
            }
        }
    }

    /// A slice that somebody writes by hand.
    fn slice(&mut self, at: &Name, service: &str, of: &[usize], with_pod: bool) {
        let pods: Vec<_> =
            self.world.pods.iter().filter(|(name, _)| name.namespace == at.namespace).collect();
        let endpoint = |index: &usize| {
            let (name, pod) = pods.get(*index)?;
            Some(SliceEndpoint { address: pod.ip?, ready: true, pod: with_pod.then(|| name.name.clone()) })
        };
        let slice = crate::world::Slice {
            service: service.into(),
            ports: vec![("".into(), 8080)],
            endpoints: of.iter().filter_map(endpoint).collect(),
            ..crate::world::Slice::default()
        };
        self.world.slices.insert(at.clone(), Arc::new(slice));
    }

    /// The addresses of pods whose label is one of a key, or with `None` of any.
    fn addresses(&self, is: impl Fn(Option<Key>) -> bool) -> BTreeSet<IpAddr> {
        let pods = self.world.pods.values();
        let keyed = pods.filter(|pod| is(Key::parse(&pod.meta.labels[PR], "pr-").ok()));
        keyed.filter_map(|pod| pod.ip).collect()
    }
}

fn clusters() -> impl Strategy<Value = (Cluster, Vec<Event>)> {
    prop::collection::vec(event(), 0..24).prop_map(|events| {
        let mut cluster = Cluster::default();
        cluster.namespace("shop", labels([(ALLOW_FORKS_FROM, "*")]));
        cluster.namespace("team", labels([]));
        (cluster, events)
    })
}

fn ips(addresses: &[SocketAddr]) -> BTreeSet<IpAddr> {
    addresses.iter().map(SocketAddr::ip).collect()
}

fn same(a: &Plan, b: &Plan) -> bool {
    a.items == b.items
        && a.inside == b.inside
        && a.forks == b.forks
        && a.previews == b.previews
        && a.clones == b.clones
        && a.deletions == b.deletions
        && a.notices == b.notices
        && (&a.gone, &a.seen, a.next) == (&b.gone, &b.seen, b.next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_user_reaches_a_fork_and_no_key_anothers((mut cluster, events) in clusters()) {
        for event in &events {
            cluster.happen(event);
            let plan = cluster.plan();
            let keyed = cluster.addresses(|_| true);
            for (name, service) in &cluster.world.services {
                let id = format!("service/{}.{}", name.name, name.namespace);
                // Each has one port.
                let told = [&plan.items, &plan.inside].map(|items| items.contains_key(&*id));
                prop_assert!(told[0] != told[1], "sidecars know {service:?} once: {told:?}");
            }
            for item in plan.items.values().chain(plan.inside.values()) {
                match item {
                    Item::Service(service) => {
                        let baseline = ips(service.baseline.as_deref().unwrap_or_default());
                        prop_assert!(baseline.is_disjoint(&keyed), "{service:?}");
                    }
                    Item::Preview(preview) => {
                        let others = cluster.addresses(|key| key != Some(preview.key));
                        for (service, endpoints) in &preview.forks {
                            prop_assert!(ips(endpoints).is_disjoint(&others), "{preview:?}");
                            let shared = plan.service(service).baseline.as_deref().unwrap_or_default();
                            prop_assert!(ips(endpoints).is_disjoint(&ips(shared)), "{preview:?}");
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_is_there_counts_and_not_how_it_came((mut cluster, events) in clusters()) {
        for event in &events {
            cluster.happen(event);
            cluster.plan();
        }
        let last = cluster.plan();
        // The same objects in other maps, put in the other way round.
        let mut other = cluster.clone();
        let world = &mut other.world;
        world.services = std::mem::take(&mut world.services).into_iter().rev().collect();
        world.pods = std::mem::take(&mut world.pods).into_iter().rev().collect();
        world.workloads = std::mem::take(&mut world.workloads).into_iter().rev().collect();
        world.slices = std::mem::take(&mut world.slices).into_iter().rev().collect();
        world.previews = std::mem::take(&mut world.previews).into_iter().rev().collect();
        let again = other.plan();
        prop_assert!(same(&last, &again), "{last:?}\n{again:?}");
    }

    #[test]
    fn a_settled_cluster_is_left_alone((mut cluster, events) in clusters()) {
        events.iter().for_each(|event| cluster.happen(event));
        // A clone that is made may meet a claim that was not there: each step settles one.
        for _ in 0..4 {
            let plan = cluster.plan();
            cluster.apply(&plan);
        }
        let before: Vec<_> = cluster.world.previews.iter().map(|(at, preview)| (at.clone(), preview.status.clone())).collect();
        let plan = cluster.plan_at(NOW + 1);
        prop_assert_eq!(&plan.clones, &[]);
        prop_assert_eq!(&plan.deletions, &[]);
        for (at, status) in before {
            prop_assert_eq!(plan.previews.get(&at), status.as_ref());
        }
        prop_assert_eq!(&plan.seen, &cluster.world.seen);
        prop_assert_eq!(&plan.gone, &cluster.world.gone);
    }

    #[test]
    fn only_clones_are_deleted((mut cluster, events) in clusters()) {
        for event in &events {
            cluster.happen(event);
            let plan = cluster.plan();
            for deletion in &plan.deletions {
                let workload = &cluster.world.workloads[&(deletion.kind, deletion.name.clone())];
                prop_assert!(workload.meta.labels.contains_key(crate::names::PREVIEW_UID));
                prop_assert_eq!(&deletion.uid, &workload.meta.uid);
            }
            cluster.apply(&plan);
        }
    }
}

/// 1,000 Services and 10,000 forks: `cargo test --release -p sidetrack-controller -- --nocapture big`.
#[test]
fn a_big_cluster_is_planned() {
    let mut cluster = Cluster::default();
    for namespace in 0..10 {
        let namespace = format!("n{namespace}");
        for service in 0..100 {
            let service = format!("s{service}");
            cluster.baseline(&namespace, &service);
            for key in 0..10 {
                cluster.fork(&namespace, &format!("{namespace}-{key}"), &service, 10);
            }
        }
    }
    cluster.observe();
    let begin = std::time::Instant::now();
    let plan = super::super::plan(&cluster.world, &super::cluster::settings(), super::cluster::at(NOW));
    println!("planned in {:?}", begin.elapsed());
    assert_eq!(plan.forks.len(), 10_000);
    assert!(plan.forks.iter().all(|fork| fork.state == super::super::ForkState::Routed));
    assert_eq!(plan.items.len(), 1_000 + 100);
}
