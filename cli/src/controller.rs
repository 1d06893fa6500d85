//! `sidetrack controller`: what is deployed in a cluster becomes the routing table of every gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sidetrack_controller::run::{RunError, RunSettings, WaypointSettings, duration, run as run_controller};
use sidetrack_controller::serve::{self, PeerSettings, ServeError};
use sidetrack_controller::{inject, plan};
use sidetrack_proxy::accept::listen::raise_descriptor_limit;

use crate::sidecar::settings_of_pods;
use crate::{BAD_CONFIGURATION, out};

/// How often the files with the certificate are looked at.
const RELOAD: Duration = Duration::from_secs(10);

/// The command's options.
#[derive(Args)]
pub(crate) struct Options {
    /// The namespace of its own objects: the Lease and the ConfigMap `sidetrack-state`
    #[arg(long, env = "SIDETRACK_NAMESPACE", value_name = "NAME", help_heading = "Cluster")]
    namespace: Box<str>,
    /// Its name among the replicas, that of its pod
    #[arg(
        long,
        env = "HOSTNAME",
        value_name = "NAME",
        default_value = "sidetrack-controller",
        help_heading = "Cluster"
    )]
    identity: Box<str>,
    /// A namespace to watch, repeatable [default: all]
    #[arg(
        long,
        env = "SIDETRACK_WATCH_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    watch_namespace: Vec<Box<str>>,
    /// The Lease that the writing replica holds
    #[arg(
        long,
        env = "SIDETRACK_LEASE_NAME",
        value_name = "NAME",
        default_value = "sidetrack-controller",
        help_heading = "Cluster"
    )]
    lease_name: Box<str>,
    /// For how long it is held after it was renewed: what it takes until another replica writes when the holder dies
    #[arg(long, env = "SIDETRACK_LEASE_DURATION", value_name = "TIME", default_value = "15s", value_parser = duration, help_heading = "Cluster")]
    lease_duration: Duration,
    /// Write nothing to the cluster; log what would be written
    #[arg(long, env = "SIDETRACK_DRY_RUN", help_heading = "Cluster")]
    dry_run: bool,

    /// A domain whose labels may carry a key, as the gateways have it, repeatable; links are made of the first
    #[arg(
        long,
        env = "SIDETRACK_DOMAIN",
        value_name = "DOMAIN",
        value_delimiter = ',',
        help_heading = "Links and listeners"
    )]
    domain: Vec<Box<str>>,
    /// The scheme of links
    #[arg(long, env = "SIDETRACK_URL_SCHEME", value_name = "SCHEME", default_value = "https", value_parser = ["http", "https"], help_heading = "Links and listeners")]
    url_scheme: String,
    /// The port of links, where it is not the scheme's own
    #[arg(long, env = "SIDETRACK_URL_PORT", value_name = "PORT", help_heading = "Links and listeners")]
    url_port: Option<u16>,
    /// What stands before a key in a host name
    #[arg(
        long,
        env = "SIDETRACK_HOST_PREFIX",
        value_name = "TEXT",
        default_value = "pr-",
        help_heading = "Links and listeners"
    )]
    host_prefix: Box<str>,
    /// A port of Gateway listeners that the gateways serve in clear, repeatable
    #[arg(
        long,
        env = "SIDETRACK_HTTP_PORT",
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "80",
        help_heading = "Links and listeners"
    )]
    http_port: Vec<u16>,
    /// A port of Gateway listeners that the gateways serve with TLS, repeatable
    #[arg(
        long,
        env = "SIDETRACK_HTTPS_PORT",
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "443",
        help_heading = "Links and listeners"
    )]
    https_port: Vec<u16>,
    /// An address to report in the status of Gateways and Ingresses, repeatable
    #[arg(
        long,
        env = "SIDETRACK_GATEWAY_ADDRESS",
        value_name = "ADDRESS",
        value_delimiter = ',',
        help_heading = "Links and listeners"
    )]
    gateway_address: Vec<Box<str>>,
    /// How long before its end a preview is marked as expiring
    #[arg(long, env = "SIDETRACK_WARN_BEFORE", value_name = "TIME", default_value = "1h", value_parser = duration, help_heading = "Links and listeners")]
    warn_before: Duration,

    /// What the waypoints of a namespace are made of: a JSON list of objects [default: no waypoints]
    #[arg(
        long,
        env = "SIDETRACK_WAYPOINT_TEMPLATE",
        value_name = "FILE",
        requires = "waypoint_ca",
        help_heading = "Waypoints"
    )]
    waypoint_template: Option<PathBuf>,
    /// The authorities by which waypoints know this controller, PEM: put where the template says `$(CONTROLLER_CA)`
    #[arg(long, env = "SIDETRACK_WAYPOINT_CA", value_name = "FILE", help_heading = "Waypoints")]
    waypoint_ca: Option<PathBuf>,
    /// How long the waypoints' port and SERVICE-baseline stay after a Service was turned back to its pods
    #[arg(long, env = "SIDETRACK_WAYPOINT_GRACE", value_name = "TIME", default_value = "30s", value_parser = duration, help_heading = "Waypoints")]
    waypoint_grace: Duration,
    /// How long the waypoints of a namespace stay after the last Service that needed them
    #[arg(long, env = "SIDETRACK_WAYPOINT_IDLE", value_name = "TIME", default_value = "5m", value_parser = duration, help_heading = "Waypoints")]
    waypoint_idle: Duration,
    /// Turn every Service back to its pods and take all waypoints away, though forks are there: before waypoints are
    /// switched off
    #[arg(
        long,
        env = "SIDETRACK_WAYPOINT_DRAIN",
        requires = "waypoint_template",
        help_heading = "Waypoints"
    )]
    waypoint_drain: bool,

    /// Secrets that all proxies of the estate share, one a line, the first one writes: by them proxies inside read keys from
    /// trace ids and check signatures; read again when it changes [default: each gateway has its own]
    #[arg(long, env = "SIDETRACK_CONTEXT_SECRETS", value_name = "FILE", help_heading = "Servers")]
    context_secrets: Option<PathBuf>,
    /// How long after its start nothing counts as acknowledged: gateways may be on their way back to it
    #[arg(long, env = "SIDETRACK_SETTLE", value_name = "TIME", default_value = "15s", value_parser = duration, help_heading = "Servers")]
    settle: Duration,
    /// Where proxies get the table, and the API server its admission reviews, over HTTPS
    #[arg(
        long,
        env = "SIDETRACK_PUBLISH_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8443",
        help_heading = "Servers"
    )]
    publish_address: SocketAddr,
    /// The certificate chain of that server, PEM; read again when it changes
    #[arg(long, env = "SIDETRACK_TLS_CERT", value_name = "FILE", help_heading = "Servers")]
    tls_cert: PathBuf,
    /// Its key, PEM
    #[arg(long, env = "SIDETRACK_TLS_KEY", value_name = "FILE", help_heading = "Servers")]
    tls_key: PathBuf,
    /// A service account that may have the table, private keys included: that of the gateways, repeatable
    #[arg(
        long,
        env = "SIDETRACK_PROXY_ACCOUNT",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        help_heading = "Servers"
    )]
    proxy_account: Vec<Box<str>>,
    /// For whom tokens of proxies must be meant
    #[arg(
        long,
        env = "SIDETRACK_AUDIENCE",
        value_name = "TEXT",
        default_value = "sidetrack-controller",
        help_heading = "Servers"
    )]
    audience: Box<str>,
    /// The other replicas, by a name that has all their addresses; asked for what their proxies acknowledge
    #[arg(long, env = "SIDETRACK_PEERS", value_name = "HOST:PORT", requires_all = ["peers_ca", "peers_token"], help_heading = "Servers")]
    peers: Option<Box<str>>,
    /// The authorities of the replicas' certificates, PEM
    #[arg(long, env = "SIDETRACK_PEERS_CA", value_name = "FILE", help_heading = "Servers")]
    peers_ca: Option<PathBuf>,
    /// A token of this replica for its audience
    #[arg(long, env = "SIDETRACK_PEERS_TOKEN", value_name = "FILE", help_heading = "Servers")]
    peers_token: Option<PathBuf>,
    /// The image of the sidecar for pods that ask for one; without it none is injected
    #[arg(long, env = "SIDETRACK_INJECT_IMAGE", value_name = "IMAGE", requires_all = ["inject_controller", "peers_ca"], help_heading = "Sidecars")]
    inject_image: Option<Box<str>>,
    /// The image of `sidetrack init`, with nft or iptables in it [default: the sidecar's]
    #[arg(long, env = "SIDETRACK_INJECT_INIT_IMAGE", value_name = "IMAGE", help_heading = "Sidecars")]
    inject_init_image: Option<Box<str>>,
    /// Where sidecars find this controller; they check it by what --peers-ca holds
    #[arg(long, env = "SIDETRACK_INJECT_CONTROLLER", value_name = "URL", help_heading = "Sidecars")]
    inject_controller: Option<Box<str>>,
    /// `resources` of the injected containers, JSON
    #[arg(long, env = "SIDETRACK_INJECT_RESOURCES", value_name = "JSON", default_value = "{}", value_parser = resources, help_heading = "Sidecars")]
    inject_resources: serde_json::Value,
    /// How the traffic of pods that name no mode comes by their sidecar
    #[arg(long, env = "SIDETRACK_INJECT_MODE", value_name = "MODE", default_value = "redirect", value_parser = ["redirect", "ports"], help_heading = "Sidecars")]
    inject_mode: String,
    /// The pod security level of namespaces that are labelled with none, where the cluster has a default of its own: but
    /// for `privileged`, their pods are given no redirect
    #[arg(long, env = "SIDETRACK_INJECT_POD_SECURITY_DEFAULT", value_name = "LEVEL", default_value = "privileged", value_parser = ["privileged", "baseline", "restricted"], help_heading = "Sidecars")]
    inject_pod_security_default: String,
    /// Fields of the configuration file for all sidecars, JSON: what `sidetrack sidecar --settings` takes
    #[arg(long, env = "SIDETRACK_INJECT_SETTINGS", value_name = "JSON", default_value = "{}", value_parser = settings_of_pods, help_heading = "Sidecars")]
    inject_settings: serde_json::Value,
    /// Where /livez, /readyz and /metrics are
    #[arg(
        long,
        env = "SIDETRACK_METRICS_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9902",
        help_heading = "Servers"
    )]
    metrics_address: SocketAddr,
}

/// Runs until a signal.
pub(crate) fn run(options: Options) -> ExitCode {
    // Each proxy that follows has a connection, and usual is 1,024. Where it can't be raised the rest is refused.
    let _ = raise_descriptor_limit();
    match run_controller(settings(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (RunError::Template(_)
            | RunError::Serve(ServeError::Account(_) | ServeError::Peers(_) | ServeError::File { .. })),
        ) => {
            crate::out::tell(&error.to_string());
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(error) => out::fail(&error.to_string()),
    }
}

/// Requests and limits, as a container has them.
fn resources(text: &str) -> Result<serde_json::Value, String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match value {
        serde_json::Value::Object(_) => Ok(value),
        _ => Err("write an object, as in {\"requests\": {\"cpu\": \"10m\"}}".to_owned()),
    }
}

fn settings(options: Options) -> RunSettings {
    let inject = match (&options.inject_image, &options.inject_controller, &options.peers_ca) {
        (Some(image), Some(controller), Some(ca_file)) => Some(inject::Settings {
            image: image.clone(),
            init_image: options.inject_init_image.as_ref().unwrap_or(image).clone(),
            controller: controller.clone(),
            ca_file: ca_file.clone(),
            audience: options.audience.clone(),
            resources: options.inject_resources.clone(),
            settings: options.inject_settings.clone(),
            namespace: options.namespace.clone(),
            host_prefix: options.host_prefix.clone(),
            mode: options.inject_mode.as_str().into(),
            pod_security: options.inject_pod_security_default.as_str().into(),
        }),
        _ => None,
    };
    let peers = match (options.peers, options.peers_ca, options.peers_token) {
        (Some(host), Some(ca_file), Some(token_file)) => Some(PeerSettings { host, ca_file, token_file }),
        _ => None,
    };
    let waypoints = match (options.waypoint_template, options.waypoint_ca) {
        (Some(template), Some(ca)) => Some(WaypointSettings {
            template,
            ca,
            grace: options.waypoint_grace,
            idle: options.waypoint_idle,
            drain: options.waypoint_drain,
        }),
        _ => None,
    };
    RunSettings {
        namespace: options.namespace,
        identity: options.identity,
        watch_namespaces: options.watch_namespace.clone(),
        plan: plan::Settings {
            domains: options.domain,
            url_scheme: options.url_scheme.into(),
            url_port: options.url_port,
            host_prefix: options.host_prefix,
            http_ports: options.http_port,
            https_ports: options.https_port,
            addresses: options.gateway_address,
            warn_before: options.warn_before,
            waypoints: None,
            sidecars: inject.is_some(),
        },
        waypoints,
        settle: options.settle,
        serve: serve::Settings {
            address: options.publish_address,
            cert_file: options.tls_cert,
            key_file: options.tls_key,
            reload_interval: RELOAD,
            accounts: options.proxy_account,
            watched: options.watch_namespace.clone(),
            peers,
        },
        inject,
        secrets: options.context_secrets,
        audience: options.audience,
        metrics_address: options.metrics_address,
        lease_name: options.lease_name,
        lease_duration: options.lease_duration,
        dry_run: options.dry_run,
    }
}
