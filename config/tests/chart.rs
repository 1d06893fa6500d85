//! The configurations that the chart makes of its values are taken.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod schema_tools;

use std::path::Path;

use serde_json::Value;
use sidetrack_config::model::{Config, Role};
use sidetrack_config::{Owner, parse_for};

/// The configurations of gateways and waypoints in a rendering, in that order.
fn configurations(rendered: &str) -> [Config; 2] {
    let objects: Vec<Value> = rendered.split("\n---\n").map(schema_tools::read).collect();
    let named = |kind: &str, name: &str| {
        let is_meant = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        objects.iter().find(is_meant).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    };
    let gateway = &named("ConfigMap", "sidetrack-gateway")["data"]["sidetrack.yaml"];
    let template = &named("ConfigMap", "sidetrack-controller-waypoint")["data"]["waypoint.json"];
    let template: Vec<Value> = serde_json::from_str(template.as_str().unwrap()).unwrap();
    let waypoint = template.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    let waypoint = &waypoint["data"]["sidetrack.yaml"];
    [gateway, waypoint].map(|text| {
        let checked = parse_for(Path::new("sidetrack.yaml"), text.as_str().unwrap(), Owner::Controller);
        checked.unwrap_or_else(|problems| panic!("{problems}")).config
    })
}

#[test]
fn what_the_chart_writes_is_taken() {
    let [gateway, waypoint] = configurations(include_str!("../../charts/sidetrack/rendered/default.yaml"));
    assert_eq!((gateway.role, waypoint.role), (Role::Gateway, Role::Waypoint));
    assert_eq!(gateway.carriers, waypoint.carriers);
    assert!(waypoint.listeners.is_empty(), "it opens the ports that it is sent");
    let [gateway, waypoint] = configurations(include_str!("../../charts/sidetrack/rendered/full.yaml"));
    assert_eq!(waypoint.carriers.header.as_deref(), Some("x-shop-pr"));
    assert_eq!(waypoint.carriers.header, gateway.carriers.header);
    assert!(gateway.carriers.from.is_some() && waypoint.carriers.from.is_none(), "inside, clients are pods");
    assert!(gateway.context.sign && waypoint.context.sign && waypoint.context.require_signed);
    assert!(gateway.context.reports.is_some() && waypoint.context.reports.is_none());
}
