//! Files that hold, and the model that they become.

mod schema_tools;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sidetrack_config::carriers::TOOLS;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::*;
use sidetrack_config::{Key, check::Checked};

/// The example of the documentation.
const EXAMPLE: &str = include_str!("good/example.yaml");

/// Every field, each with another value than its default.
const FULL: &str = include_str!("good/full.yaml");

/// A folder with the files that the good files name.
fn estate(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("tls/wild.crt", "cert"),
        ("tls/wild.key", "key"),
        ("tls/ca.pem", "ca"),
        ("secrets/token", "  s3cret\n"),
        ("secrets/admin", "adm1n"),
        ("previews.d/57.yaml", "{}"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = folder.path().join("sidetrack.yaml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn load(text: &str) -> Checked {
    let (_folder, file) = estate(text);
    sidetrack_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn key(text: &str) -> Key {
    Key::bare(text).unwrap()
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
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
    let preview = &config.previews["42"];
    assert_eq!(preview.forks[&0], [at("127.0.0.1:9110")]);
    assert_eq!(preview.aliases, [key("demo")]);
    assert_eq!(preview.ttl, Some(Duration::from_secs(72 * 3600)));
}

#[test]
fn every_field_arrives() {
    let (folder, file) = estate(FULL);
    let place = |name: &str| folder.path().join(name);
    let Checked { config, warnings } = sidetrack_config::load(&file).unwrap_or_else(|it| panic!("{it}"));

    let files = CertificateFiles { cert_file: place("tls/wild.crt"), key_file: place("tls/wild.key") };
    assert_eq!(config.listeners[0].tls, Some(Tls::Files(vec![files])));
    assert_eq!(config.listeners[0].address.to_string(), "[::1]:8443");
    assert_eq!(config.listeners[0].proxy_protocol, [net("10.0.0.0/8")]);
    assert_eq!(
        config.listeners[0].trusted_proxies,
        [net("10.1.0.0/16"), net("fd00::/8"), net("10.2.0.1/32")]
    );
    let names = ["*.preview.localhost", "preview.localhost", "127.0.0.1"].map(Box::from).to_vec();
    assert_eq!(config.listeners[1].tls, Some(Tls::SelfSigned { names }));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9999");
    assert_eq!(config.admin.token, Some(Secret(b"adm1n".to_vec())));
    assert_eq!(config.domains, ["a.preview.localhost", "preview.localhost", "b.example"].map(Box::from));

    let name = |name: &str| Some(Box::from(name));
    let carriers = Carriers {
        header: name("x-branch"),
        host_prefix: name("br-"),
        path: true,
        query: name("branch"),
        baggage: name("branch"),
        tracestate: name("branch@acme"),
        cookie: name("Branch"),
        origin: false,
        aliases: TOOLS
            .iter()
            .filter(|tool| ["okteto", "signadot"].contains(&tool.name))
            .copied()
            .rev()
            .collect(),
    };
    assert_eq!(config.carriers, carriers);
    let header = AccessHeader { name: "x-preview-token".into(), secret: Secret(b"s3cret".to_vec()) };
    assert_eq!(config.access, Some(Access { allow: vec![net("127.0.0.0/8")], header: Some(header) }));
    assert_eq!(config.unknown_preview, UnknownPreview::Reject);
    assert_eq!(config.role, Role::Waypoint);

    let checkout = Service {
        name: "checkout".into(),
        baseline: Some(vec![at("[::1]:9010"), Endpoint::Name("checkout.svc".into(), 80)]),
        protocol: Protocol::H2,
        tls: Some(UpstreamTls {
            ca_file: Some(place("tls/ca.pem")),
            server_name: Some("checkout.svc".into()),
        }),
        health_check: Some(HealthCheck {
            path: "/healthz".into(),
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(400),
        }),
        timeouts: Timeouts {
            connect: Duration::ZERO,
            response: Duration::from_secs(90),
            idle: Duration::from_secs(3600),
        },
        host: HostRewrite::Name("internal.example".into()),
    };
    let plain = |name: &str, protocol, tls: Option<UpstreamTls>, host| Service {
        name: name.into(),
        baseline: None,
        protocol,
        tls,
        health_check: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::ZERO,
            idle: Duration::from_secs(300),
        },
        host,
    };
    let mut checked = plain("check", Protocol::H2c, None, HostRewrite::Base);
    let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
    checked.health_check = Some(HealthCheck { path: "/".into(), interval, timeout });
    let secure = plain("secure", Protocol::Https, Some(UpstreamTls::default()), HostRewrite::Keep);
    assert_eq!(config.services, [checked, checkout, secure]);

    let route = |host, path: &str, service| Route { host, path: path.into(), service };
    assert_eq!(
        config.routes,
        [
            route(HostPattern::Any, "/", 2),
            route(HostPattern::Below("example.com".into()), "/api/v1", 1),
            route(HostPattern::Exact("preview.localhost".into()), "/", 0),
        ]
    );
    let header = AccessHeader { name: "x-42".into(), secret: Secret(b"s3cret".to_vec()) };
    let preview = Preview {
        forks: [(0, vec![]), (1, vec![at("127.0.0.1:9110"), Endpoint::Name("pr-42".into(), 80)])].into(),
        parents: vec![key("57"), key("7")],
        aliases: vec![key("demo"), key("1e5")],
        hosts: vec!["uat.example.com".into()],
        ttl: Some(Duration::from_secs(7 * 24 * 3600)),
        on_fork_down: OnForkDown::Hold,
        access: Some(Access { allow: vec![net("192.168.0.0/16")], header: Some(header) }),
    };
    let empty = Preview {
        forks: [].into(),
        parents: vec![],
        aliases: vec![],
        hosts: vec![],
        ttl: None,
        on_fork_down: OnForkDown::Fail,
        access: None,
    };
    assert_eq!(config.previews, [(key("42"), preview), (key("57"), empty)].into());
    assert_eq!(config.previews_dir, Some(place("previews.d")));
    assert_eq!(config.state_dir, place("var/state"));
    assert_eq!(config.access_log, AccessLog::Text(LogPath::File(place("access.log"))));
    assert_eq!(config.workers, NonZeroUsize::new(2));
    let seconds = Duration::from_secs;
    let limits = Limits {
        drain_timeout: seconds(1),
        hold_timeout: seconds(2),
        hold_requests: 3,
        hold_bytes: 4,
        max_connections: 5,
        max_in_flight: 6,
        header_bytes: 7 << 10,
        header_count: 8,
        uri_bytes: 9 << 10,
        header_timeout: seconds(10),
        handshake_timeout: seconds(11),
        client_idle_timeout: seconds(12),
        upstream_idle_timeout: Duration::ZERO,
        upstream_idle_connections: 14,
        http2_streams: 15,
        http2_stream_window: 16 << 10,
        http2_connection_window: 17 << 20,
        connection_buffer: 18 << 10,
    };
    assert_eq!(config.limits, limits);

    let told: Vec<_> =
        warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect();
    assert_eq!(told, ["previews.BR-42.parents[1]: there is no preview `7` in this file"]);
}

#[test]
fn the_full_file_has_every_field() {
    let mut written = std::collections::BTreeSet::new();
    fn walk(value: &Value, path: &str, written: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    written.insert(schema_tools::pattern(&path));
                    walk(value, &path, written);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| walk(item, &format!("{path}[{n}]"), written));
            }
            _ => {}
        }
    }
    walk(&schema_tools::read(FULL), "", &mut written);
    // A path of an item ends in `[]`, a path of the list does not.
    let fields = schema_tools::fields();
    let missing: Vec<_> = fields.iter().filter(|field| !written.contains(*field)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
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
    let least = sidetrack_config::load(&file).unwrap().config;
    let mut document = schema_tools::read(LEAST);
    let told = schema_tools::fill_defaults(&mut document);
    assert!(told > 35, "the schema tells its defaults, {told} of them");
    let full =
        sidetrack_config::parse(&file, &document.to_string()).unwrap_or_else(|it| panic!("{it}\n{document}"));
    assert_eq!(format!("{:#?}", full.config), format!("{least:#?}"));
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
