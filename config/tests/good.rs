//! Files that hold, and the model that they become.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod estate;
mod schema_tools;

use std::fs;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use sidetrack_config::limits::Limits;
use sidetrack_config::model::*;
use sidetrack_config::{Key, check::Checked};

use estate::estate;

/// The example of the documentation.
const EXAMPLE: &str = include_str!("good/example.yaml");

/// Every field, each with another value than its default.
const FULL: &str = include_str!("good/full.yaml");

fn load(text: &str) -> Checked {
    let (_folder, file) = estate(text);
    sidetrack_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn key(text: &str) -> Key {
    Key::bare(text).unwrap()
}

fn at(text: &str) -> Endpoint {
    Endpoint::Address(text.parse().unwrap())
}

#[test]
fn the_example_loads() {
    let Checked { config, warnings } = load(EXAMPLE);
    assert_eq!(warnings, []);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(
        config.services.iter().map(|service| &*service.name).collect::<Vec<_>>(),
        ["checkout", "shop"]
    );
    assert_eq!(config.routes.len(), 3);
    assert_eq!(config.access_log, AccessLog::Json(LogPath::Stdout));
    let preview = &config.previews[&Key::bare("42").unwrap()];
    assert_eq!(preview.forks[&0], [at("127.0.0.1:9110")]);
    assert_eq!(preview.aliases, [key("demo")]);
    assert_eq!(preview.ttl, Some(Duration::from_secs(72 * 3600)));
}

#[test]
fn the_least_file_gets_the_defaults() {
    let (folder, file) = estate("listeners: [{address: 127.0.0.1:0}]\n");
    let Checked { config, warnings } = sidetrack_config::load(&file).unwrap();
    assert_eq!(config.admin, Admin { address: "127.0.0.1:9901".parse().unwrap(), token: None });
    assert_eq!(config.unknown_preview, UnknownPreview::Reject);
    assert_eq!(config.role, Role::Gateway);
    assert_eq!(config.state_dir, folder.path().join(".sidetrack"));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.access_log, AccessLog::Json(LogPath::Stdout));
    assert_eq!((config.workers, config.previews_dir, config.access), (None, None, None));
    let told: Vec<_> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(told, ["services", "routes"]);
}

#[test]
fn a_waypoint_takes_the_baseline() {
    let config = load("listeners: [{address: 127.0.0.1:0}]\nrole: waypoint\n").config;
    assert_eq!(config.unknown_preview, UnknownPreview::Baseline);
}

/// The defaults that the schema tells are those of the model: written out in full they change nothing.
#[test]
fn the_schema_tells_the_true_defaults() {
    const LEAST: &str = "{listeners: [{address: '127.0.0.1:0'}], services: {s: {healthCheck: {path: /}}}, \
                         routes: [{host: '*', service: s}], previews: {'1': {}}}";
    let (_folder, file) = estate(LEAST);
    // Both as texts, since what was read from a file says which file that was.
    let least = sidetrack_config::parse(&file, LEAST).unwrap().config;
    let mut document = schema_tools::read(LEAST);
    let told = schema_tools::fill_defaults(&mut document);
    assert!(told > 35, "the schema tells its defaults, {told} of them");
    let full =
        sidetrack_config::parse(&file, &document.to_string()).unwrap_or_else(|it| panic!("{it}\n{document}"));
    assert_eq!(format!("{:#?}", full.config), format!("{least:#?}"));
}

#[test]
fn the_line_ends_of_an_editor_do_not_matter() {
    let expected = format!("{:?}", load(EXAMPLE).config.services);
    for text in [EXAMPLE.replace('\n', "\r\n"), format!("\u{feff}{EXAMPLE}")] {
        assert_eq!(format!("{:?}", load(&text).config.services), expected);
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "listeners: [{address: 127.0.0.1:0}]\nservices:\n  a: &a {baseline: [127.0.0.1:1], protocol: h2c}\n  \
                b: {<<: *a, host: base}\nroutes: [{host: '*', service: b}]\n";
    let services = load(text).config.services;
    assert_eq!(services[1].protocol, Protocol::H2c);
    assert_eq!((&services[1].baseline, &services[1].host), (&services[0].baseline, &HostRewrite::Base));
    let told =
        sidetrack_config::parse(Path::new("a.yaml"), &text.replace("h2c", "h9")).unwrap_err().to_string();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("a.yaml:3:45: services.a.protocol: found the text `h9`"), "{told}");
}

#[test]
fn off_is_a_word_and_a_boolean() {
    for (written, expected) in [
        ("off", AccessLog::Off),
        ("\"off\"", AccessLog::Off),
        ("false", AccessLog::Off),
        ("{}", AccessLog::Json(LogPath::Stdout)),
        ("{path: stderr}", AccessLog::Json(LogPath::Stderr)),
        ("{format: text}", AccessLog::Text(LogPath::Stdout)),
    ] {
        let text = format!("listeners: [{{address: 127.0.0.1:0}}]\naccessLog: {written}\n");
        assert_eq!(load(&text).config.access_log, expected, "{written}");
    }
}

#[test]
fn carriers_can_be_off() {
    let carriers = load(
        "listeners: [{address: 127.0.0.1:0}]\ncarriers: {header: false, hostPrefix: false, path: false, query: false, \
         baggage: false, tracestate: false, cookie: false, origin: false}\n\
         domains: [a.example]\nservices: {s: }\nroutes: [{host: pr-1.a.example, service: s}]\n",
    )
    .config
    .carriers;
    assert_eq!(carriers.prefix(), "pr-");
    assert!(carriers.header.is_none() && carriers.host_prefix.is_none() && carriers.query.is_none());
    assert!(carriers.baggage.is_none() && carriers.tracestate.is_none() && carriers.cookie.is_none());
    assert!(!carriers.path && !carriers.origin);
}

#[test]
fn what_is_left_empty_is_empty() {
    let config =
        load("listeners: [{address: 127.0.0.1:0}]\ndomains:\nservices:\nroutes:\npreviews:\nlimits:\n")
            .config;
    assert!(config.services.is_empty() && config.previews.is_empty() && config.domains.is_empty());
}

#[test]
fn the_open_door_is_told() {
    let text = "listeners: [{address: 127.0.0.1:0}, {address: '0.0.0.0:0'}]\nservices: {s: }\nroutes: [{host: '*', service: s}]\n";
    let told: Vec<_> = load(text).warnings.iter().map(|warning| warning.path.clone()).collect();
    assert_eq!(told, ["listeners[1].address"]);
    assert_eq!(load(&format!("{text}access: {{allow: [10.0.0.0/8]}}\n")).warnings, []);
}

#[test]
fn warnings_do_not_refuse() {
    let text = "listeners: [{address: 127.0.0.1:0}]\ncarriers: {path: true}\npreviewsDir: later.d\n\
                services: {s: {baseline: [a:1, a:1]}}\nroutes: [{host: '*', path: /pr-x, service: s}]\n";
    let told: Vec<_> = load(text).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    for (line, part) in
        told.iter().zip(["later.d` is not there yet", "names a:1 twice", "`/pr-x` is read as a key"])
    {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn hosts_that_name_no_preview_are_told() {
    let text = "listeners: [{address: 127.0.0.1:0}]\ncarriers: {hostPrefix: false}\nservices: {s: {baseline: [a:1]}}\n\
                routes: [{host: '*', service: s}]\npreviews: {'42': {hosts: [uat.example.com]}, '57': {}}\n";
    let told: Vec<_> = load(text).warnings.iter().map(|warning| warning.path.clone()).collect();
    assert_eq!(told, ["previews.42.hosts"]);
    assert_eq!(load(&text.replace("hostPrefix: false", "hostPrefix: pr-")).warnings, []);
}

#[test]
fn a_file_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| sidetrack_config::load(path).unwrap_err().to_string();
    assert!(told(&folder.path().join("none.yaml")).contains("cannot be read"));
    assert!(told(folder.path()).contains("cannot be read"));
    let latin = folder.path().join("latin.yaml");
    fs::write(&latin, b"# one\n# caf\xe9\n").unwrap();
    assert!(told(&latin).ends_with("is not UTF-8 text: line 2 has other bytes"), "{}", told(&latin));
}

#[test]
fn secrets_are_not_printed() {
    let (_folder, file) = estate(FULL);
    let printed = format!("{:?}", sidetrack_config::load(&file).unwrap());
    assert!(!printed.contains("s3cret") && !printed.contains("adm1n") && printed.contains("Secret(..)"));
}

#[test]
fn a_sidecar_has_a_workload_and_ways_in_and_out() {
    let config = load(
        "listeners:
  - {address: 127.0.0.1:1, direction: inbound, redirected: true, protocol: detect}
  - {address: 127.0.0.1:2, direction: outbound}
  - {address: 127.0.0.1:3, direction: outbound, service: payment, protocol: tcp}
role: sidecar
sidecar: {service: 'checkout, payment', key: PR-42, app: 8080}
services: {checkout: {baseline: [127.0.0.1:9000]}, payment: {baseline: [127.0.0.1:9001]}}
",
    )
    .config;
    let places: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.place.clone(), listener.redirected, listener.spoken))
        .collect();
    assert_eq!(
        places,
        [
            (Place::Inbound, true, Spoken::Detect),
            (Place::Outbound(None), false, Spoken::Http),
            (Place::Outbound(Some("payment".into())), false, Spoken::Tcp),
        ]
    );
    let key = Some(Key::bare("42").unwrap());
    let services = ["checkout", "payment"].map(Box::from).to_vec();
    assert_eq!(config.workload, Some(Workload { services, key, app: NonZeroU16::new(8080) }));
    assert_eq!(config.context.declared_domains, ["svc.cluster.local", "svc"].map(Box::from));
    assert_eq!(config.unknown_preview, UnknownPreview::Baseline);
}

#[test]
fn a_listener_of_a_waypoint_belongs_to_a_service() {
    let config = load(
        "listeners: [{address: 127.0.0.1:1, service: shop}]
role: waypoint
services: {shop: {baseline: [127.0.0.1:9000]}}
",
    )
    .config;
    assert_eq!(config.listeners[0].place, Place::Service("shop".into()));
    assert_eq!(config.workload, None);
}

#[test]
fn a_gateway_is_reported_to_and_hops_report_to_this_machine_unless_the_file_says_more() {
    let (_folder, path) = estate(
        "listeners: [{address: 127.0.0.1:0}]\ncontext: {reports: 0.0.0.0:9902, reportsAs: 10.0.0.1:0}\n",
    );
    let context = sidetrack_config::load(&path).unwrap().config.context;
    assert_eq!(context.reports, Some("0.0.0.0:9902".parse().unwrap()));
    assert_eq!(context.reports_as, Some("10.0.0.1:0".parse().unwrap()));
    let own: Vec<ipnet::IpNet> = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap()).to_vec();
    assert_eq!(context.report_to, own);
}
