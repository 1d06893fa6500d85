//! `sidetrack sidecar`: runs the proxy in front of one workload and behind it. In a pod it has no file: what its options
//! say is put together to a configuration, which is checked as any other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::{Map, Value, json};
use sidetrack_config::ports;
use sidetrack_proxy::source::origin::Origin;

use crate::BAD_CONFIGURATION;
use crate::following::Following;
use crate::gateway::serve;

/// What problems of the options call the configuration that was put together.
const NAME: &str = "options";
/// What options alone say: a pod's own affairs.
const OWN: [&str; 3] = ["role", "sidecar", "listeners"];

/// What `sidecar` is asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A configuration file with `role: sidecar`, in place of all options but those of the controller
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The service that the workload is an endpoint of; several are separated by commas
    #[arg(long, env = "SIDETRACK_SERVICE", value_name = "NAME", required_unless_present = "config")]
    service: Option<String>,
    /// The key of the preview that the workload is a fork of [default: none, it is the baseline]
    #[arg(long, env = "SIDETRACK_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Whether `sidetrack init` redirects the connections of the pod, or they are made to this sidecar
    #[arg(long, env = "SIDETRACK_MODE", value_enum, default_value_t = Mode::Redirect)]
    mode: Mode,
    /// Where connections to the workload come in, on all addresses
    #[arg(long, env = "SIDETRACK_INBOUND_PORT", value_name = "PORT", default_value_t = ports::INBOUND, value_parser = clap::value_parser!(u16).range(1..))]
    inbound_port: u16,
    /// The same on these addresses alone, repeatable
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    inbound: Vec<SocketAddr>,
    /// Where calls of the workload come in, repeatable [default: port 15001 of loopback]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    outbound: Vec<SocketAddr>,
    /// With `--mode ports`: the port of the workload on 127.0.0.1. Alone it means that mode
    #[arg(long, alias = "app", env = "SIDETRACK_APP_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    app_port: Option<u16>,
    /// The admin listener
    #[arg(long, env = "SIDETRACK_ADMIN", value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ports::ADMIN)))]
    admin: SocketAddr,
    /// Where the last good table is kept [default: $XDG_RUNTIME_DIR/sidetrack, else /tmp/sidetrack-UID]
    #[arg(long, env = "SIDETRACK_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What is written of each request and connection, to standard output
    #[arg(long, env = "SIDETRACK_ACCESS_LOG", value_enum, default_value_t = Lines::Off)]
    access_log: Lines,
    /// Further fields of the configuration file, JSON: `domains`, `carriers`, `context` and so on. They count before what
    /// options say, and may not say `role`, `sidecar` or `listeners`
    #[arg(long, env = "SIDETRACK_SETTINGS", value_name = "JSON", default_value = "{}", value_parser = settings)]
    settings: Map<String, Value>,
    /// Worker threads
    #[arg(long, env = "SIDETRACK_WORKERS", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    #[command(flatten)]
    following: Following,
}

/// How connections come to the sidecar.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Redirected by the system
    Redirect,
    /// Made to its ports
    Ports,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Lines {
    Off,
    Json,
    Text,
}

/// Runs until a signal ends it.
pub(crate) fn run(options: Options) -> ExitCode {
    if let Some(file) = &options.config {
        return match sidetrack_config::load_for(file, options.following.owner()) {
            Ok(checked) if checked.config.workload.is_none() => {
                crate::out::tell(&format!(
                    "{}: role: is not `sidecar`; `sidetrack gateway -c` runs it",
                    file.display()
                ));
                ExitCode::from(BAD_CONFIGURATION)
            }
            // What is wrong with it is told by who runs it.
            _ => serve(file, options.following),
        };
    }
    if options.following.controller.is_none() {
        let message = "without -c FILE a sidecar follows a controller: --controller URL\n";
        clap::Error::raw(ErrorKind::MissingRequiredArgument, message).exit();
    }
    let text = document(&options, has_ipv6()).to_string();
    serve(Origin::text(NAME, &text), options.following)
}

/// Reads the fields of `--settings`.
fn settings(text: &str) -> Result<Map<String, Value>, String> {
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        format!("{error}; write an object, as in {{\"domains\": [\"preview.example.com\"]}}")
    })?;
    match OWN.iter().find(|name| map.contains_key(**name)) {
        Some(name) => Err(format!("`{name}` is what the other options say: leave it out")),
        None => Ok(map),
    }
}

/// Reads the fields that every sidecar is given, and holds them against the configuration that comes of them in a pod.
///
/// # Errors
/// Everything that is wrong with them.
#[cfg(feature = "kubernetes")]
pub(crate) fn settings_of_pods(text: &str) -> Result<Value, String> {
    use clap::Parser as _;
    use sidetrack_config::{Owner, parse_for};

    #[derive(clap::Parser)]
    struct Pod {
        #[command(flatten)]
        options: Options,
    }
    let settings = settings(text)?;
    let pod = Pod::try_parse_from(["pod", "--service", "a.b"]).map_err(|error| error.to_string())?;
    let document = document(&Options { settings: settings.clone(), ..pod.options }, false).to_string();
    match parse_for(NAME.as_ref(), &document, Owner::Controller) {
        Ok(_) => Ok(Value::Object(settings)),
        Err(problems) => Err(problems.to_string()),
    }
}

/// Puts `more` into `into`, map by map.
fn merge(into: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (into.get_mut(name), value) {
            (Some(Value::Object(into)), Value::Object(more)) => merge(into, more),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

/// The configuration that the options stand for.
fn document(options: &Options, has_ipv6: bool) -> Value {
    let is_redirected = options.mode == Mode::Redirect && options.app_port.is_none();
    let any = if has_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let mut loopback = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, ports::OUTBOUND))];
    // A redirect keeps the version: calls over IPv6 come to `::1`.
    loopback.extend(has_ipv6.then_some(SocketAddr::from((Ipv6Addr::LOCALHOST, ports::OUTBOUND))));
    let or = |given: &[SocketAddr], default: Vec<SocketAddr>| match given {
        [] => default,
        given => given.to_vec(),
    };
    let inbound = or(&options.inbound, vec![SocketAddr::new(any, options.inbound_port)]).into_iter().map(|address| {
        json!({"address": address, "direction": "inbound", "redirected": is_redirected, "protocol": "detect"})
    });
    // Whoever calls a port of ours by its name speaks HTTP: nothing else would say where it is to go.
    let protocol = if is_redirected { "detect" } else { "http" };
    let outbound = or(&options.outbound, loopback).into_iter().map(|address| {
        json!({"address": address, "direction": "outbound", "redirected": is_redirected, "protocol": protocol})
    });
    let state = options.state_dir.clone().unwrap_or_else(default_state_dir);
    let key = options.key.as_ref().filter(|key| !key.is_empty());
    let said = [
        ("service", options.service.as_ref().map(|name| json!(name))),
        ("key", key.map(|key| json!(key))),
        ("app", options.app_port.map(|port| json!(port))),
    ];
    let sidecar: Map<String, Value> =
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let mut document = json!({
        "role": "sidecar",
        "sidecar": sidecar,
        "listeners": inbound.chain(outbound).collect::<Vec<_>>(),
        "admin": {"address": options.admin},
        "stateDir": state,
        "accessLog": match options.access_log {
            Lines::Off => json!("off"),
            Lines::Json => json!({"format": "json", "path": "stdout"}),
            Lines::Text => json!({"format": "text", "path": "stdout"}),
        },
        "workers": options.workers,
    });
    if let Some(document) = document.as_object_mut() {
        merge(document, &options.settings);
    }
    document
}

/// A folder of this user: what others can put into a folder for all is not used.
fn default_state_dir() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let shared = || std::env::temp_dir().join(format!("sidetrack-{}", rustix::process::geteuid().as_raw()));
    own.map_or_else(shared, |folder| folder.join("sidetrack"))
}

/// Whether this pod has IPv6.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use clap::Parser;
    use sidetrack_config::model::{Config, Place, Spoken};
    use sidetrack_config::{Owner, parse_for};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn config(arguments: &[&str], has_ipv6: bool) -> Config {
        let given = ["sidecar", "--service", "checkout.shop,checkout.shop:grpc", "--controller", "https://c"];
        let options = Command::parse_from([&given[..], arguments].concat()).options;
        let text = document(&options, has_ipv6).to_string();
        parse_for(Path::new(NAME), &text, Owner::Controller).unwrap().config
    }

    fn listeners(config: &Config) -> Vec<(String, bool, bool)> {
        let listeners = config.listeners.iter();
        listeners
            .map(|listener| {
                let address = listener.address.to_string();
                (address, listener.redirected, listener.place == Place::Inbound)
            })
            .collect()
    }

    #[test]
    fn in_a_pod_nothing_but_the_service_is_said() {
        let both = config(&["--key", "42"], true);
        let expected = [
            ("[::]:15006".to_owned(), true, true),
            ("127.0.0.1:15001".to_owned(), true, false),
            ("[::1]:15001".to_owned(), true, false),
        ];
        assert_eq!(listeners(&both), expected);
        assert!(both.listeners.iter().all(|listener| listener.spoken == Spoken::Detect));
        let workload = both.workload.unwrap();
        assert_eq!(workload.services, ["checkout.shop", "checkout.shop:grpc"].map(Box::from));
        assert_eq!((workload.key.unwrap().as_str(), workload.app), ("42", None));
        assert_eq!(both.workers.map(usize::from), Some(1));
        let old = config(&["--key", ""], false);
        assert_eq!(listeners(&old)[0].0, "0.0.0.0:15006");
        assert_eq!((old.listeners.len(), old.workload.unwrap().key), (2, None));
    }

    #[test]
    fn a_worker_that_nobody_calls_has_its_calls_alone() {
        let options = Command::parse_from(["sidecar", "--service", "", "--mode", "ports"]).options;
        let text = document(&options, false).to_string();
        let config = parse_for(Path::new(NAME), &text, Owner::Controller).unwrap().config;
        assert_eq!(config.workload.unwrap().service(), "");
        assert!(config.listeners.iter().all(|listener| !listener.redirected));
    }

    #[test]
    fn without_privilege_connections_are_made_to_its_ports() {
        for arguments in [&["--app", "8081"][..], &["--mode", "ports", "--app-port", "8081"]] {
            let config = config(&[arguments, &["--inbound-port", "8080"]].concat(), false);
            let expected =
                [("0.0.0.0:8080".to_owned(), false, true), ("127.0.0.1:15001".to_owned(), false, false)];
            assert_eq!(listeners(&config), expected);
            assert_eq!(config.workload.unwrap().app.map(u16::from), Some(8081));
            let spoken = config.listeners.iter().map(|listener| listener.spoken);
            assert_eq!(spoken.collect::<Vec<_>>(), [Spoken::Detect, Spoken::Http]);
        }
    }

    #[test]
    fn settings_are_fields_of_the_configuration() {
        let settings = r#"{"domains": ["preview.example.com"], "carriers": {"header": "x-shop-pr"},
            "context": {"require": "signed", "remember": "5s"}, "workers": 3}"#;
        let given = config(&["--settings", settings], false);
        assert_eq!(given.domains, ["preview.example.com"].map(Box::from));
        assert_eq!(given.carriers.header.as_deref(), Some("x-shop-pr"));
        assert_eq!(given.carriers.baggage.as_deref(), Some("pr-id"), "what is not said stays");
        assert!(given.context.require_signed);
        assert_eq!(given.context.remember, Duration::from_secs(5));
        assert_eq!(given.workers.map(usize::from), Some(3));
        assert_eq!(listeners(&given).len(), 2);
        let mut into = json!({"admin": {"address": "a"}, "domains": ["a"]}).as_object().unwrap().clone();
        merge(&mut into, json!({"admin": {"tokenFile": "b"}, "domains": ["b"]}).as_object().unwrap());
        assert_eq!(
            Value::Object(into),
            json!({"admin": {"address": "a", "tokenFile": "b"}, "domains": ["b"]})
        );
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn settings_that_no_pod_could_have_are_refused_with_all_that_is_wrong() {
        let fine = r#"{"carriers": {"header": "x-shop-pr"}, "context": {"require": "signed"}}"#;
        assert_eq!(settings_of_pods(fine).unwrap(), serde_json::from_str::<Value>(fine).unwrap());
        for (text, expected) in [
            ("[]", "write an object, as in"),
            (r#"{"role": "gateway"}"#, "`role` is what the other options say"),
            (r#"{"listeners": []}"#, "`listeners` is what"),
            (r#"{"carrier": {}}"#, "there is no key `carrier`"),
            (r#"{"context": {"remembers": "1s"}}"#, "no key `remembers` here"),
            (r#"{"carriers": {"from": ["10.0.0.0/8"]}}"#, "carriers.from: is for gateways"),
            (r#"{"services": {"a": {}}}"#, "`services` is the controller's to say"),
        ] {
            let error = settings_of_pods(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn what_the_chart_makes_of_its_values_are_settings() {
        let rendered = include_str!("../../charts/sidetrack/rendered/full.yaml");
        let quoted = rendered.lines().find_map(|line| line.trim().strip_prefix(r#"- "--inject-settings="#));
        let text: String = serde_json::from_str(&format!("\"{}", quoted.unwrap())).unwrap();
        let settings = settings_of_pods(&text).unwrap();
        assert_eq!(settings["domains"], json!(["preview.example.com", "pr.example.org"]));
        assert_eq!(settings["carriers"], json!({"header": "x-shop-pr"}), "`from` is the gateways'");
        let context = json!({"sign": true, "require": "signed",
            "declaredDomains": ["svc.cluster.local", "svc", "example.internal"]});
        assert_eq!(settings["context"], context, "`reports` is the gateways', the rest is of inject.config");
    }
}
