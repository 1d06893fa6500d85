//! What holds for any world.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sidetrack_config::read_route;

use super::super::rank;
use super::*;

/// Listeners of all sorts, good and bad; names are unique.
fn listeners() -> impl Strategy<Value = Value> {
    let named = |listener: Value, name: &str| with(listener, "/name", json!(name));
    let all = vec![
        http(),
        named(with(http(), "/hostname", json!("*.example.com")), "wild"),
        named(with(http(), "/hostname", json!("shop.example.com")), "shop"),
        named(with(http(), "/allowedRoutes/namespaces", json!({"from": "Same"})), "same"),
        named(with(http(), "/port", json!(8081)), "odd"),
        named(with(http(), "/protocol", json!("TCP")), "tcp"),
        https("*.example.com", "good"),
        named(https("shop.example.com", "absent"), "broken"),
        named(https("*.org", "good"), "org"),
    ];
    subsequence(all, 0..=9).prop_shuffle().prop_map(Value::from)
}

fn rule() -> impl Strategy<Value = Value> {
    let paths = select(vec!["/", "/a", "/a/", "/a/b", "/bad//path"]);
    let kinds = select(vec!["Exact", "PathPrefix", "PathPrefix", "RegularExpression"]);
    let matched = (paths, kinds, any::<bool>()).prop_map(|(path, kind, get)| {
        let method = if get { json!("GET") } else { Value::Null };
        json!({"path": {"type": kind, "value": path}, "method": method})
    });
    let backend = (select(vec!["web", "both", "absent"]), select(vec![80, 81]), 0..3)
        .prop_map(|(name, port, weight)| json!({"name": name, "port": port, "weight": weight}));
    let filters = select(vec![
        json!([]),
        json!([]),
        json!([{"type": "CORS"}]),
        json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["server"]}}]),
    ]);
    (prop::collection::vec(matched, 0..4), prop::collection::vec(backend, 0..3), filters).prop_map(
        |(matches, backends, filters)| json!({"matches": matches, "backendRefs": backends, "filters": filters}),
    )
}

fn route() -> impl Strategy<Value = Value> {
    let hosts = ["shop.example.com", "*.example.com", "a.org", "pr-7.preview.example.com", "else.net"];
    let parent = select(vec![
        json!({"name": "gw", "namespace": "infra"}),
        json!({"name": "gw", "namespace": "infra", "sectionName": "http"}),
        json!({"name": "gw", "namespace": "infra", "port": 443}),
        json!({"name": "absent"}),
    ]);
    let names = select(vec!["shop/web", "shop/web-2", "infra/web", "a/b"]);
    let parts = (
        names,
        0..3_u32,
        subsequence(hosts.to_vec(), 0..=5),
        prop::collection::vec(parent, 1..3),
        prop::collection::vec(rule(), 0..3),
    );
    parts.prop_map(|(name, day, hosts, parents, rules)| {
        let route =
            object("HTTPRoute", name, json!({"hostnames": hosts, "parentRefs": parents, "rules": rules}));
        let other =
            json!({"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
        let route = with(route, "/status", json!({"parents": [other]}));
        with(route, "/metadata/creationTimestamp", json!(format!("2026-01-0{}T00:00:00Z", day + 1)))
    })
}

/// The objects of a world; of those with one kind and name the last would win, so that only the first is kept.
fn objects() -> impl Strategy<Value = Vec<Value>> {
    let (chain, key) = pair("*.example.com");
    (listeners(), prop::collection::vec(route(), 0..6), any::<bool>(), any::<bool>()).prop_map(
        move |(listeners, routes, has_service, has_ingress)| {
            let mut objects =
                vec![class(), gateway(listeners), secret("infra/good", &(chain.clone(), key.clone()))];
            objects.extend(routes);
            if has_service {
                objects.extend([service("shop/web", &[80]), service("shop/both", &[80, 81])]);
            }
            if has_ingress {
                let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
                objects.push(object(
                    "Ingress",
                    "shop/in",
                    json!({"ingressClassName": "sidetrack", "defaultBackend": backend}),
                ));
            }
            let mut seen = BTreeSet::new();
            let name = |object: &Value| {
                format!("{}{}{}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
            };
            objects.retain(|object| seen.insert(name(object)));
            objects
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_order_of_objects_gives_one_plan(
        (objects, shuffled) in objects().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (one, other) = (planned(&world(objects)), planned(&world(shuffled)));
        prop_assert_eq!(one.items, other.items);
        prop_assert_eq!(one.statuses, other.statuses);
        prop_assert_eq!(one.notices, other.notices);
        prop_assert_eq!((one.services, one.hosts), (other.services, other.hosts));
    }

    #[test]
    fn a_settled_world_writes_nothing(objects in objects()) {
        let before = world(objects);
        let first = planned(&before);
        let after = written(&before, &first.statuses);
        let again = plan(&after, &settings(), "2026-07-01T00:00:00Z".parse().unwrap());
        prop_assert_eq!(again.statuses, Vec::new());
        prop_assert_eq!(again.items, first.items);
    }

    #[test]
    fn proxies_take_every_route(objects in objects()) {
        let routed = planned(&world(objects));
        let mut names = BTreeSet::new();
        for route in routes(&routed) {
            prop_assert!(names.insert(route.name.clone()), "{} twice", route.name);
            prop_assert!(read_route(route, |_| Some(0)).is_ok(), "{:?}", route);
            prop_assert!(routed.hosts.contains(&route.host));
            prop_assert!(!route.host.starts_with("pr-"));
        }
    }

    #[test]
    fn a_route_that_is_not_accepted_reaches_no_backend(objects in objects()) {
        let world = world(objects);
        let routed = planned(&world);
        for route in routes(&routed) {
            let reaches = matches!(&route.action, Action::Forward(backends) if !backends.is_empty());
            let Some(status) = routed.statuses.iter().find(|write| {
                &*write.object.kind == "HTTPRoute" && route.name.starts_with(&format!("{}/", write.object.name))
            }) else { continue };
            let parents = status.status["parents"].as_array().unwrap();
            let ours = parents.iter().filter(|parent| parent["controllerName"] == "sidetrack.dev/gateway");
            let is_accepted = ours.clone().any(|parent| condition(parent, "Accepted").0 == "True Accepted");
            prop_assert!(is_accepted || !reaches, "{} {}", route.name, status.status);
        }
    }

    #[test]
    fn ranks_have_the_order_of_the_specification(
        one in (0..3_i64, "[a-b](-[a-b])?", "[a-b]([-.]?[a-b])?", 0..20_usize, 0..200_usize),
        other in (0..3_i64, "[a-b](-[a-b])?", "[a-b]([-.]?[a-b])?", 0..20_usize, 0..200_usize),
    ) {
        let rank_of = |(created, namespace, name, rule, position): &(i64, String, String, usize, usize)| {
            let created = jiff::Timestamp::from_second(*created * 100_000_000).unwrap();
            rank(created, &Name::new(namespace, name), *rule, *position)
        };
        let order = |(created, namespace, name, rule, position): &(i64, String, String, usize, usize)| {
            (*created, format!("{namespace}/{name}"), *rule, *position)
        };
        prop_assert_eq!(rank_of(&one).cmp(&rank_of(&other)), order(&one).cmp(&order(&other)));
    }
}
