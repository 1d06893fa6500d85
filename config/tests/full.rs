//! The full file: every field with another value than its default, and the model that it becomes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod estate;
mod schema_tools;

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use serde_json::Value;
use sidetrack_config::carriers::TOOLS;
use sidetrack_config::limits::Limits;
use sidetrack_config::model::*;
use sidetrack_config::{Key, check::Checked};

use estate::estate;

/// Every field of a sidecar, each with another value than its default.
const FULL: &str = include_str!("good/full.yaml");
/// What the full file can't have, since it is a sidecar's.
const GATEWAY: &str = include_str!("good/gateway.yaml");

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
    assert_eq!(config.listeners[0].place, Place::Inbound);
    let last = &config.listeners[2];
    assert_eq!(last.place, Place::Outbound(Some("check".into())));
    assert_eq!((last.redirected, last.spoken), (true, Spoken::Detect));
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
        from: None,
    };
    assert_eq!(config.carriers, carriers);
    let header = AccessHeader { name: "x-preview-token".into(), secret: Secret(b"s3cret".to_vec()) };
    assert_eq!(config.access, Some(Access { allow: vec![net("127.0.0.0/8")], header: Some(header) }));
    assert_eq!(config.unknown_preview, UnknownPreview::Reject);
    assert_eq!(config.role, Role::Sidecar);
    let workload = Workload {
        services: vec!["checkout".into()],
        key: Some(Key::bare("42").unwrap()),
        app: NonZeroU16::new(8080),
    };
    assert_eq!(config.workload, Some(workload));

    let secrets = ["the key that writes", "the key that was"].map(|text| Secret(text.as_bytes().to_vec()));
    let context = Context {
        secrets: Some(secrets.to_vec()),
        trace: false,
        trace64: true,
        sampled: false,
        sign: true,
        require_signed: true,
        formats: vec![TraceFormat::Datadog],
        remember: Duration::from_secs(5),
        remember_entries: 6,
        reports: Some("0.0.0.0:9902".parse().unwrap()),
        reports_as: Some("10.0.0.1:9903".parse().unwrap()),
        report_to: vec!["10.0.0.0/8".parse().unwrap()],
        declared_domains: vec!["example.internal".into()],
    };
    assert_eq!(config.context, context);

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
        addresses: Vec::new(),
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
        addresses: Vec::new(),
    };
    let mut checked = plain("check", Protocol::H2c, None, HostRewrite::Base);
    let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
    checked.health_check = Some(HealthCheck { path: "/".into(), interval, timeout });
    let secure = plain("secure", Protocol::Https, Some(UpstreamTls::default()), HostRewrite::Keep);
    assert_eq!(config.services, [checked, checkout, secure]);

    assert_eq!(
        config.routes,
        [
            Route::to(HostPattern::Any, "/", 2),
            Route::to(HostPattern::Below("example.com".into()), "/api/v1", 1),
            Route::to(HostPattern::Exact("preview.localhost".into()), "/", 0),
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
        decision_drain: seconds(31),
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
        max_connections_per_client: 19,
        max_memory: 20 << 20,
        body_bytes: 21 << 30,
        body_timeout: seconds(22),
        chunk_extension_bytes: 23,
        trailer_bytes: 24 << 10,
        stream_idle_timeout: seconds(25 * 60),
        http2_resets: 26,
        http2_control_frames: 27,
    };
    assert_eq!(config.limits, limits);

    let told: Vec<_> =
        warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect();
    let expected = [
        "previews.BR-42.parents[1]: there is no preview `7` in this file",
        "context.reports: is for gateways, and nobody reports to this proxy",
    ];
    assert_eq!(told, expected);
}

#[test]
fn who_may_name_keys_is_a_gateways_to_say() {
    let config = sidetrack_config::parse(std::path::Path::new("a.yaml"), GATEWAY).unwrap().config;
    assert_eq!(config.carriers.from, Some(vec![net("10.0.0.0/8")]));
}

#[test]
fn the_full_files_have_every_field() {
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
    walk(&schema_tools::read(GATEWAY), "", &mut written);
    // A path of an item ends in `[]`, a path of the list does not.
    let fields = schema_tools::fields();
    let missing: Vec<_> = fields.iter().filter(|field| !written.contains(*field)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn who_follows_a_controller_gets_the_secrets_of_it() {
    use sidetrack_config::{Owner, check::parse_for};
    let parse = |text: &str, owner| parse_for(std::path::Path::new("a.yaml"), text, owner);
    for role in [
        "{role: waypoint",
        "{role: sidecar, listeners: [{address: '127.0.0.1:1', direction: inbound}], sidecar: {service: a}",
    ] {
        for context in ["{require: signed}", "{sign: true}", "{require: signed, sign: true}"] {
            let text = format!("{role}, context: {context}}}");
            let config =
                parse(&text, Owner::Controller).unwrap_or_else(|problems| panic!("{problems}")).config;
            assert_eq!(config.context.secrets, None, "{text}");
            let problems = parse(&text, Owner::File).unwrap_err().to_string();
            assert!(problems.contains("context.keyFile: there is no secret"), "{problems}");
        }
    }
}
