//! Forks by labels, and the guard.

use super::super::ForkState;
use super::cluster::{Cluster, NOW, at, fork_labels, labels};
use crate::names::{
    ALIASES, ALLOW_FORKS_FROM, FORK_OF, FORK_OF_NAMESPACE, KEEP, ON_FORK_DOWN, PARENTS, PR, REPOSITORY, TTL,
};
use crate::world::{Labels, Name, ServicePort, Slice, SliceEndpoint, TargetPort};
use sidetrack_config::Key;
use sidetrack_config::stream::{Item, OnForkDown, Protocol};

#[test]
fn a_labelled_deployment_is_a_fork() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "PR-42", "checkout", 10);
    let plan = cluster.plan();
    assert_eq!(plan.service("checkout.shop").baseline.as_ref().unwrap().len(), 1);
    assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
    assert_ne!(plan.endpoints("42", "checkout.shop"), plan.service("checkout.shop").baseline.as_deref());
    assert_eq!(plan.states(), [("checkout-pr-42".to_owned(), ForkState::Routed)]);
    assert_eq!(plan.notices, []);
    assert_eq!(plan.seen[&Key::bare("42").unwrap()], at(NOW));
}

#[test]
fn without_a_fork_or_a_route_nothing_is_in_the_table() {
    assert!(Cluster::shop().plan().items.is_empty());
}

#[test]
fn a_fork_that_is_not_ready_is_declared_without_endpoints() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10);
    cluster.edit_pod("shop", "checkout-42-7f-0").ready = false;
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
    assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::NotReady)]);
}

#[test]
fn a_fork_that_is_gone_is_remembered() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10);
    let plan = cluster.plan();
    cluster.apply(&plan);
    cluster.world.workloads.retain(|(_, name), _| &*name.name != "checkout-42");
    cluster.world.pods.clear();
    let plan = cluster.plan_at(NOW + 5);
    assert!(plan.preview("42").is_none());
    assert!(matches!(&plan.items["gone/42"], Item::Gone(gone) if gone.at == at(NOW + 5)));
    assert!(plan.seen.is_empty());
    cluster.apply(&plan);
    assert_eq!(cluster.plan_at(NOW + 60).gone, plan.gone, "the time of the end stays");
    let week = 7 * 24 * 3600;
    assert_eq!(plan.next, Some(at(NOW + 5 + week)));
    assert!(cluster.plan_at(NOW + 5 + week).items.is_empty());
}

#[test]
fn endpoints_come_from_the_forks_own_service() {
    for (own_labels, selector) in [
        // It says so itself; it asks for the key; nobody else can be meant.
        (fork_labels("42", "checkout"), labels([("app", "checkout-42")])),
        (labels([]), labels([(PR, "42")])),
        (labels([]), labels([("app", "checkout-42")])),
    ] {
        let mut cluster = Cluster::shop();
        cluster.fork("shop", "42", "checkout", 10);
        cluster.fork("shop", "42", "cart", 10);
        let own = cluster.service("shop", "checkout-42", selector.clone());
        own.meta.labels = own_labels;
        own.ports[0].target = TargetPort::Number(9999);
        let plan = cluster.plan();
        let endpoints = plan.endpoints("42", "checkout.shop").unwrap_or_else(|| panic!("{:?}", plan.forks));
        assert_eq!(endpoints.len(), 1, "{selector:?}");
        assert_eq!(endpoints[0].port(), 9999, "{selector:?}");
    }
}

#[test]
fn ports_are_named_and_matched() {
    let mut cluster = Cluster::shop();
    let service = cluster.edit_service(&Name::new("shop", "checkout"));
    service.ports[0].name = "http".into();
    service.ports.push(ServicePort {
        name: "grpc".into(),
        port: 90,
        target: TargetPort::Name("rpc".into()),
        is_tcp: true,
        ..ServicePort::default()
    });
    service.ports.push(ServicePort { name: "dns".into(), port: 53, ..ServicePort::default() });
    service.ports.push(ServicePort {
        name: "db".into(),
        port: 5432,
        app_protocol: Some("postgres".into()),
        is_tcp: true,
        ..ServicePort::default()
    });
    cluster.fork("shop", "42", "checkout", 10);
    cluster.edit_pod("shop", "checkout-42-7f-0").ports = vec![("rpc".into(), 9090)];
    let plan = cluster.plan();
    assert_eq!(plan.service("checkout.shop:grpc").protocol, Protocol::H2c);
    assert_eq!(plan.endpoints("42", "checkout.shop:grpc").unwrap()[0].port(), 9090);
    assert_eq!(plan.endpoints("42", "checkout.shop:http").unwrap()[0].port(), 8080);
    assert_eq!(plan.preview("42").unwrap().forks.len(), 2);
    assert!(!plan.items.contains_key("service/checkout.shop:db"));
}

#[test]
fn protocols_are_read_from_app_protocol() {
    for (written, name, protocol, server) in [
        (Some("kubernetes.io/h2c"), "", Protocol::H2c, None),
        (Some("HTTPS"), "", Protocol::Https, Some("checkout.shop.svc")),
        (Some("kubernetes.io/ws"), "grpc", Protocol::Http1, None),
        (None, "grpc-api", Protocol::H2c, None),
        (None, "grpcish", Protocol::Http1, None),
    ] {
        let mut cluster = Cluster::shop();
        let port = &mut cluster.edit_service(&Name::new("shop", "checkout")).ports[0];
        port.app_protocol = written.map(Box::from);
        port.name = name.into();
        cluster.fork("shop", "42", "checkout", 10);
        let plan = cluster.plan();
        let service = plan.service("checkout.shop");
        assert_eq!(
            (service.protocol, service.server_name.as_deref()),
            (protocol, server),
            "{written:?} {name}"
        );
    }
}

#[test]
fn another_namespace_has_to_be_allowed() {
    for (on_namespace, on_service, allowed) in [
        ("", "", false),
        ("other", "", false),
        ("other, team-a", "", true),
        ("*", "", true),
        ("", "team-a", true),
    ] {
        let mut cluster = Cluster::shop();
        cluster.namespace("shop", labels([(ALLOW_FORKS_FROM, on_namespace)]));
        let service = cluster.edit_service(&Name::new("shop", "checkout"));
        service.meta.annotations = labels([(ALLOW_FORKS_FROM, on_service)]);
        let mut pods = fork_labels("42", "checkout");
        pods.insert(FORK_OF_NAMESPACE.into(), "shop".into());
        cluster.deployment("team-a", "checkout", 10, pods);
        let plan = cluster.plan();
        let state = if allowed { ForkState::Routed } else { ForkState::NotAllowed };
        assert_eq!(plan.states(), [("checkout".to_owned(), state)], "{on_namespace} {on_service}");
        assert_eq!(plan.preview("42").is_some(), allowed);
        assert_eq!(plan.notices_of("NotAllowed").len(), usize::from(!allowed));
    }
}

#[test]
fn what_is_no_key_is_said() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "feature_x", "checkout", 10);
    let plan = cluster.plan();
    assert!(plan.items.is_empty());
    let [message] = plan.notices_of("ForkInvalid")[..] else { panic!("{:?}", plan.notices) };
    assert!(message.contains("`feature_x` has a character other than"), "{message}");
}

#[test]
fn a_fork_of_nothing_makes_no_preview() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "chekout", 10);
    let plan = cluster.plan();
    assert!(plan.items.is_empty(), "requests with the key would all get the baseline");
    assert_eq!(plan.states(), [("chekout-42".to_owned(), ForkState::NoService)]);
}

#[test]
fn pods_that_a_baseline_service_selects_are_not_routed() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10);
    let ip = cluster.world.pods[&Name::new("shop", "checkout-42-7f-0")].ip.unwrap();
    assert_eq!(cluster.plan().states(), [("checkout-42".to_owned(), ForkState::Routed)]);
    // A later edit of the pods' labels, or of the Service, makes the match.
    let mut edited = cluster.clone();
    edited.edit_service(&Name::new("shop", "checkout")).selector = labels([("app", "checkout-42")]);
    cluster.edit_pod("shop", "checkout-42-7f-0").meta.labels.insert("app".into(), "checkout".into());
    for cluster in [&mut edited, &mut cluster] {
        let plan = cluster.plan();
        assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::Leaks)]);
        assert_eq!(
            plan.endpoints("42", "checkout.shop"),
            Some(&[][..]),
            "a test must not pass on the baseline"
        );
        let baseline = plan.service("checkout.shop").baseline.as_ref().unwrap();
        assert!(baseline.iter().all(|address| address.ip() != ip));
        let [message] = plan.notices_of("Leaks")[..] else { panic!("{:?}", plan.notices) };
        assert!(message.contains("Service shop/checkout (app=checkout"), "{message}");
        assert!(message.contains("change the labels"), "{message}");
    }
}

#[test]
fn a_service_of_others_is_not_the_forks_own() {
    // Selected by another baseline, which has a workload of its own.
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", "cart");
    let mut pods = fork_labels("42", "checkout");
    pods.insert("app".into(), "cart".into());
    cluster.deployment("shop", "checkout-42", 10, pods.clone());
    assert_eq!(cluster.plan().states(), [("checkout-42".to_owned(), ForkState::Leaks)]);
    // Its workload is gone for a moment, and its pods are still there.
    cluster.world.workloads.retain(|(_, name), _| &*name.name != "cart");
    assert_eq!(cluster.plan().states(), [("checkout-42".to_owned(), ForkState::Leaks)]);
    // Nobody is there, but somebody forks it.
    let mut cluster = Cluster::shop();
    cluster.service("shop", "cart", labels([("app", "cart")]));
    cluster.deployment("shop", "checkout-42", 10, pods);
    cluster.fork("shop", "57", "cart", 20);
    let plan = cluster.plan();
    assert!(plan.states().contains(&("checkout-42".to_owned(), ForkState::Leaks)), "{:?}", plan.states());
}

#[test]
fn a_slice_that_somebody_writes_gives_no_fork_another_name() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10);
    let address = cluster.world.pods[&Name::new("shop", "checkout-42-7f-0")].ip.unwrap();
    for pod in [None, Some("somebody".into())] {
        let endpoints = vec![SliceEndpoint { address, ready: true, pod }];
        let slice = Slice {
            service: "checkout".into(),
            ports: vec![("".into(), 8080)],
            endpoints,
            ..Slice::default()
        };
        cluster.world.slices.insert(Name::new("shop", "by-hand"), slice.into());
        let plan = cluster.plan();
        let baseline = plan.service("checkout.shop").baseline.as_ref().unwrap();
        assert!(baseline.len() == 1 && baseline[0].ip() != address, "{baseline:?}");
    }
    // Kubernetes' own slices say the truth, and an address goes from one pod to another.
    let slice = cluster.world.slices.get_mut(&Name::new("shop", "by-hand")).unwrap();
    std::sync::Arc::make_mut(slice).meta.labels =
        labels([("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io")]);
    assert_eq!(cluster.plan().service("checkout.shop").baseline.as_ref().unwrap().len(), 2);
}

#[test]
fn a_service_of_a_fork_has_no_baseline() {
    let mut cluster = Cluster::shop();
    cluster.pod("shop", "unlabelled", 5, labels([("app", "mine")]), None);
    cluster.service("shop", "checkout-42", labels([("app", "mine")])).meta.labels =
        fork_labels("42", "checkout");
    // Somebody forks it, or routes to it: a user without a key gets nothing of it.
    cluster.fork("shop", "57", "checkout-42", 10);
    assert_eq!(cluster.plan().service("checkout-42.shop").baseline, None);
}

#[test]
fn labels_that_the_pods_do_not_have_are_no_silent_baseline() {
    for (app, state) in [("mine", ForkState::Invalid), ("checkout", ForkState::Leaks)] {
        let mut cluster = Cluster::shop();
        cluster.baseline("shop", "cart");
        cluster.fork("shop", "42", "cart", 10);
        cluster.deployment("shop", "mine", 10, labels([("app", app)])).meta.labels =
            fork_labels("42", "checkout");
        let plan = cluster.plan();
        assert!(plan.states().contains(&("mine".to_owned(), state)), "{:?}", plan.states());
        assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
        assert_eq!(plan.endpoints("42", "cart.shop").unwrap().len(), 1);
        // A Service that stands for the pods says it for them.
        if state == ForkState::Invalid {
            cluster.service("shop", "mine", labels([("app", "mine")])).meta.labels =
                fork_labels("42", "checkout");
            let plan = cluster.plan();
            assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
            assert_eq!(plan.notices, []);
        }
    }
}

#[test]
fn pods_that_name_a_service_and_no_key_are_told() {
    let mut cluster = Cluster::shop();
    cluster.deployment("shop", "no-key", 10, labels([(FORK_OF, "checkout")]));
    let plan = cluster.plan();
    let [message] = plan.notices_of("ForkInvalid")[..] else { panic!("{:?}", plan.notices) };
    assert!(message.contains(PR), "{message}");
}

#[test]
fn a_fork_that_is_not_allowed_fails_where_its_key_is_at_home() {
    let cart = |namespace: &str| -> Labels {
        let mut pods = fork_labels("42", "cart");
        pods.extend(labels([(FORK_OF_NAMESPACE, namespace), ("app", "cart-42")]));
        pods
    };
    let mut cluster = Cluster::shop();
    cluster.baseline("other", "cart");
    cluster.fork("shop", "42", "checkout", 10);
    cluster.deployment("shop", "cart-42", 10, cart("other"));
    let plan = cluster.plan();
    assert!(plan.states().contains(&("cart-42".to_owned(), ForkState::NotAllowed)));
    assert_eq!(plan.endpoints("42", "cart.other"), Some(&[][..]), "a test must not pass on the baseline");
    // A stranger's labels put nobody's preview out of order.
    let mut cluster = Cluster::shop();
    cluster.baseline("other", "cart");
    cluster.fork("shop", "42", "checkout", 10);
    cluster.deployment("stranger", "cart-42", 10, cart("other"));
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "cart.other"), None);
    assert_eq!(plan.preview("42").unwrap().forks.len(), 1);
}

#[test]
fn a_service_can_carry_the_labels_itself() {
    let mut cluster = Cluster::shop();
    cluster.pod("shop", "unlabelled", 5, labels([("app", "mine")]), None);
    cluster.service("shop", "checkout-42", labels([("app", "mine")])).meta.labels =
        fork_labels("42", "checkout");
    let plan = cluster.plan();
    assert_eq!(plan.endpoints("42", "checkout.shop").unwrap().len(), 1);
    // It must not stand for the baseline itself, nor for a part of it.
    for selector in [labels([("app", "checkout")]), labels([("tier", "web")])] {
        cluster.edit_service(&Name::new("shop", "checkout-42")).selector = selector;
        let plan = cluster.plan();
        assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::Leaks)]);
        assert_eq!(plan.endpoints("42", "checkout.shop"), Some(&[][..]));
        assert_eq!(
            plan.service("checkout.shop").baseline.as_ref().unwrap().len(),
            1,
            "users keep their endpoints"
        );
    }
}

#[test]
fn bare_pods_are_a_fork() {
    let mut cluster = Cluster::shop();
    cluster.pod("shop", "mine", 5, fork_labels("42", "checkout"), None);
    assert_eq!(cluster.plan().states(), [("mine".to_owned(), ForkState::Routed)]);
}

#[test]
fn of_two_sources_the_older_stays() {
    let mut cluster = Cluster::shop();
    let pods = fork_labels("42", "checkout");
    cluster.deployment("shop", "checkout-new", 20, pods.clone());
    cluster.deployment("shop", "checkout", 10, pods);
    let old = cluster.world.pods[&Name::new("shop", "checkout-7f-0")].ip.unwrap();
    let plan = cluster.plan();
    assert_eq!(
        plan.states(),
        [("checkout".to_owned(), ForkState::Routed), ("checkout-new".to_owned(), ForkState::Conflict)]
    );
    let endpoints: Vec<_> = plan.endpoints("42", "checkout.shop").unwrap().iter().map(|a| a.ip()).collect();
    assert_eq!(endpoints, [old]);
    assert_eq!(plan.notices_of("Conflict").len(), 1);
}

#[test]
fn one_key_for_two_repositories_conflicts() {
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", "cart");
    cluster.fork("shop", "42", "checkout", 20).meta.annotations = labels([(REPOSITORY, "github.com/a/new")]);
    cluster.fork("shop", "42", "cart", 10).meta.annotations = labels([(REPOSITORY, "github.com/a/Old.git")]);
    let plan = cluster.plan();
    assert_eq!(
        plan.states(),
        [("cart-42".to_owned(), ForkState::Routed), ("checkout-42".to_owned(), ForkState::Conflict)]
    );
    assert_eq!(plan.preview("42").unwrap().forks.len(), 1);
    cluster.edit_deployment("shop", "checkout-42").meta.annotations =
        labels([(REPOSITORY, "github.com/a/old/")]);
    assert_eq!(cluster.plan().preview("42").unwrap().forks.len(), 2);
}

#[test]
fn annotations_say_the_terms_and_the_oldest_counts() {
    let mut cluster = Cluster::shop();
    cluster.baseline("shop", "cart");
    let terms = [(TTL, "2h"), (PARENTS, "pr-7, 8"), (ALIASES, "demo"), (ON_FORK_DOWN, "hold")];
    cluster.fork("shop", "42", "checkout", 10).meta.annotations = labels(terms);
    cluster.fork("shop", "42", "cart", 20).pod_annotations = labels([(TTL, "9h"), (PARENTS, "7,8")]);
    let plan = cluster.plan();
    let preview = plan.preview("42").unwrap();
    let key = |text| Key::bare(text).unwrap();
    assert_eq!(preview.parents, [key("7"), key("8")]);
    assert_eq!(preview.aliases, [key("demo")]);
    assert_eq!(preview.on_fork_down, OnForkDown::Hold);
    assert_eq!(preview.expires, Some(at(NOW + 7200)));
    assert_eq!(plan.next, Some(at(NOW + 3600)), "an hour before the end people are warned");
    let [message] = plan.notices_of("DifferentSetting")[..] else { panic!("{:?}", plan.notices) };
    assert!(message.contains("`ttl`"), "{message}");
}

#[test]
fn a_fork_ends_with_its_ttl_and_stays_deployed() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10).meta.annotations = labels([(TTL, "2h")]);
    let plan = cluster.plan();
    cluster.apply(&plan);
    let plan = cluster.plan_at(NOW + 3600);
    assert_eq!(plan.notices_of("Expiring").len(), 1);
    assert!(plan.preview("42").is_some());
    let plan = cluster.plan_at(NOW + 7200);
    assert!(plan.preview("42").is_none());
    assert!(plan.items.contains_key("gone/42"));
    assert_eq!(plan.states(), [("checkout-42".to_owned(), ForkState::Expired)]);
    assert_eq!(plan.notices_of("Expired").len(), 1);
    assert_eq!(plan.deletions, []);
    cluster.edit_deployment("shop", "checkout-42").meta.labels = labels([(KEEP, "true")]);
    let plan = cluster.plan_at(NOW + 7200);
    assert!(plan.preview("42").is_some());
    assert!(!plan.items.contains_key("gone/42"));
}

#[test]
fn a_ttl_that_cannot_be_read_ends_nothing() {
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "42", "checkout", 10).meta.annotations = labels([(TTL, "72")]);
    let plan = cluster.plan();
    assert_eq!(plan.preview("42").unwrap().expires, None);
    assert!(plan.notices_of("InvalidSetting")[0].contains("`72` has no unit"), "{:?}", plan.notices);
}

#[test]
fn a_key_without_a_service_is_guarded_too() {
    // A worker of the pull request: no fork, and never to be reached by a user.
    let mut cluster = Cluster::shop();
    cluster.fork("shop", "57", "checkout", 10);
    cluster.deployment("shop", "worker", 10, labels([(PR, "42"), ("app", "checkout")]));
    let plan = cluster.plan();
    assert_eq!(plan.service("checkout.shop").baseline.as_ref().unwrap().len(), 1);
    assert!(plan.preview("42").is_none());
    assert_eq!(plan.notices_of("Leaks").len(), 1, "{:?}", plan.notices);
    let fork = labels([(FORK_OF, "checkout")]);
    cluster.deployment("shop", "no-key", 10, fork);
    assert!(cluster.plan().preview("42").is_none());
}
