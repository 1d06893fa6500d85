//! What sidecars are told of Services that nobody forks and no route refers to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sidetrack_config::stream::{Item, Service};

use super::cluster::{Cluster, labels};
use crate::plan::Plan;
use crate::world::{Name, ServicePort};

fn port(name: &str, number: u16, app_protocol: Option<&str>) -> ServicePort {
    let app_protocol = app_protocol.map(Into::into);
    ServicePort { name: name.into(), port: number, app_protocol, is_tcp: true, ..ServicePort::default() }
}

/// A Service as one line: protocol, baseline, addresses.
fn line(service: &Service) -> String {
    let Service { baseline, protocol, addresses, .. } = service;
    format!("{protocol:?} {baseline:?} {addresses:?}")
}

impl Plan {
    fn told_inside(&self) -> BTreeMap<&str, String> {
        let services = self.inside.iter().map(|(id, item)| match item {
            Item::Service(service) => (id.strip_prefix("service/").unwrap(), line(service)),
            other => panic!("{other:?}"),
        });
        services.collect()
    }
}

/// `checkout` with its pods, and Services that nobody forks.
fn estate() -> Cluster {
    let mut cluster = Cluster::shop();
    let addresses: Vec<IpAddr> = ["10.96.0.7", "fd00::7"].map(|ip| ip.parse().unwrap()).into();
    cluster.edit_service(&Name::new("shop", "checkout")).addresses = addresses[..1].to_vec();
    cluster.service("shop", "inventory", labels([("app", "inventory")])).addresses = addresses.clone();
    let cart = cluster.service("shop", "cart", labels([("app", "cart")]));
    cart.ports = vec![port("http", 80, None), port("grpc", 90, None), port("db", 5432, Some("postgres"))];
    cart.addresses = addresses[..1].to_vec();
    // Headless: with a port, and with none.
    cluster.baseline("shop", "db");
    cluster.service("shop", "quiet", labels([("app", "quiet")])).ports.clear();
    let name = cluster.service("shop", "elsewhere", labels([]));
    (name.external, name.ports) = (true, vec![port("a", 80, None), port("b", 81, None)]);
    cluster
}

#[test]
fn every_service_is_known_to_sidecars_and_its_address_stands_for_its_pods() {
    let mut cluster = estate();
    cluster.fork("shop", "42", "checkout", 1);
    // The fork's own.
    let own = cluster.service("shop", "checkout-42", labels([("app", "checkout-42")]));
    own.meta.labels = super::cluster::fork_labels("42", "checkout");
    let plan = cluster.plan();
    let both = "[10.96.0.7:80, [fd00::7]:80]";
    let expected = [
        ("cart.shop:db", "Http1 Some([10.96.0.7:5432]) [10.96.0.7:5432]".to_owned()),
        ("cart.shop:grpc", "H2c Some([10.96.0.7:90]) [10.96.0.7:90]".to_owned()),
        ("cart.shop:http", "Http1 Some([10.96.0.7:80]) [10.96.0.7:80]".to_owned()),
        ("checkout-42.shop", "Http1 None []".to_owned()),
        ("db.shop", plan.told_inside()["db.shop"].clone()),
        ("elsewhere.shop", "Http1 None []".to_owned()),
        ("inventory.shop", format!("Http1 Some({both}) {both}")),
        ("quiet.shop", "Http1 None []".to_owned()),
    ];
    assert_eq!(plan.told_inside(), BTreeMap::from(expected), "checkout is told to all");
    let db = &plan.told_inside()["db.shop"];
    assert!(
        db.ends_with(":8080]) []") && db.contains("Some([10."),
        "{db}: its pods, since it has no address"
    );
    assert_eq!(plan.service("checkout.shop").baseline.as_ref().map(Vec::len), Some(1), "its pods");
}

#[test]
fn a_fork_that_comes_and_goes_is_one_item() {
    let mut cluster = estate();
    let before = cluster.plan();
    assert_eq!(before.told_inside()["checkout.shop"], "Http1 Some([10.96.0.7:80]) [10.96.0.7:80]");
    cluster.fork("shop", "42", "checkout", 1);
    let forked = cluster.plan();
    let mut others = before.inside.clone();
    others.remove("service/checkout.shop").unwrap();
    assert_eq!(forked.inside, others);
    assert!(forked.items.contains_key("service/checkout.shop"));
    cluster.world.workloads.retain(|(_, name), _| &*name.name != "checkout-42");
    cluster.world.pods.clear();
    assert_eq!(cluster.plan().inside, before.inside);
}

#[test]
fn without_sidecars_nobody_asks() {
    let mut cluster = estate();
    cluster.observe();
    let settings = crate::plan::Settings { sidecars: false, ..super::cluster::settings() };
    let plan = crate::plan::plan(&cluster.world, &settings, super::cluster::at(super::cluster::NOW));
    assert!(plan.inside.is_empty());
}
