//! The binary: one file per command. It reads arguments, sets up the program's own log, and calls the library.

#[cfg(not(feature = "kubernetes"))]
mod absent;
mod admin;
mod check;
mod client;
mod cluster;
mod completions;
#[cfg(feature = "kubernetes")]
mod controller;
#[cfg(feature = "kubernetes")]
mod crd;
mod demo;
mod doctor;
mod explain;
mod following;
mod gateway;
mod init;
mod out;
mod preview;
mod schema;
mod sidecar;
#[cfg(feature = "kubernetes")]
mod take_down;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Allocations of workers must not meet in one lock; this allocator keeps a heap per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration is wrong (EX_USAGE of sysexits.h): no socket was opened.
const BAD_CONFIGURATION: u8 = 64;

/// Every pull request its own view of one shared cluster.
#[derive(Parser)]
#[command(name = "sidetrack", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// What the program says of itself: error, warn, info, debug, or TARGET=LEVEL [default: info; demo: warn]
    #[arg(long, global = true, env = "SIDETRACK_LOG", value_name = "FILTER", help_heading = "Log")]
    log: Option<String>,
    /// The form of the program's own log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Log")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy
    ///
    /// The file is watched and applied without dropping a request. SIGTERM drains, SIGHUP re-reads. A second process
    /// with the same addresses takes over from the first, which drains.
    #[command(
        after_help = "Examples:\n  sidetrack gateway -c sidetrack.yaml\n  sidetrack gateway -c sidetrack.yaml --log debug\n  \
            sidetrack gateway -c sidetrack.yaml --controller https://sidetrack-controller.sidetrack.svc:9443"
    )]
    Gateway(gateway::Options),
    /// Run the proxy in front of one workload and for its calls
    ///
    /// In a pod, `sidetrack init` has redirected the connections of the pod to it. Calls with a preview's key reach the forks
    /// of that preview; a fork's own calls that carry no key get its key. What is no HTTP passes as it is. SIGTERM drains what
    /// comes in, while calls go on.
    #[command(
        after_help = "Examples:\n  sidetrack sidecar --service checkout.shop --controller https://sidetrack-controller.sidetrack.svc:9443\n  \
            sidetrack sidecar --service checkout.shop --key 42 --app-port 8081 --inbound-port 8080 --controller https://...\n  \
            sidetrack sidecar -c sidecar.yaml\n\n\
            Exit codes: 0 ended by a signal; 1 an address can't be had; 64 an option or the configuration is wrong"
    )]
    Sidecar(Box<sidecar::Options>),
    /// Check a configuration file and everything it names; exits 0 or 64
    #[command(after_help = "Example:\n  sidetrack check -c sidetrack.yaml && echo good")]
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = "Example:\n  sidetrack schema > sidetrack.schema.json")]
    Schema,
    /// Show it on loopback: sample services, pull requests, a gateway with wildcard TLS
    ///
    /// Writes a configuration that can be copied, starts everything in this process, prints URLs and curl lines that
    /// work when pasted, and runs until ctrl-c. Only curl and browsers resolve *.localhost by themselves.
    #[command(
        after_help = "Examples:\n  sidetrack demo\n  sidetrack demo --http-port 9080 --dir ~/sidetrack-demo\n  \
            sidetrack demo --check\n\nExit codes: 0 ended by a signal, or every check passed; 1 a port or the folder can't be \
            had, or a check failed; 64 the configuration in --dir is wrong"
    )]
    Demo(demo::Options),
    /// Ask a running proxy what it would do with a request, and why
    ///
    /// Nothing is sent upstream, and a request that the proxy would refuse is explained too. With --send the real request
    /// goes out, and every hop that it met is told.
    #[command(after_help = "Examples:\n  sidetrack explain http://pr-42.preview.localhost/api/checkout\n  \
            sidetrack explain https://shop.example.com/ -H 'X-PR-ID: 42' --client 10.1.2.3\n  \
            sidetrack explain http://preview.localhost/ -H 'X-PR-ID: 42' --json | jq .reason\n  \
            sidetrack explain --send http://preview.localhost:8080/ -H 'X-PR-ID: 42'\n\n\
            Exit codes: 0 answered; 1 nobody can be reached, or the proxy refuses to answer")]
    Explain(explain::Options),
    /// Say which services lose the key on the way to others, what they hand on, and how to mend it
    ///
    /// Sidecars know both ends of a call, waypoints the callee alone. They have counted since they started.
    #[command(after_help = "Examples:\n  sidetrack doctor --admin 127.0.0.1:15090\n  \
            sidetrack doctor --admin 10.0.0.7:15090 --admin 10.0.0.8:15090 --token-file token --lang go\n\n\
            Exit codes: 0 nothing is lost; 1 something is; 2 a proxy can't be reached, or refuses to answer")]
    Doctor(doctor::Options),
    /// List, set and remove previews of a running proxy
    #[command(subcommand, after_help = "Exit codes: 0 done; 1 the proxy can't be reached, or refuses")]
    Preview(preview::Command),
    /// Wait until every gateway of a cluster has a preview in force
    ///
    /// For pipelines: what is tested after it meets the forks and not the baseline. The controller is asked at --controller;
    /// without that, Preview objects are read through the kubeconfig.
    #[command(
        after_help = "Examples:\n  sidetrack wait 42 --controller https://sidetrack.example.com --token-file token\n  \
            sidetrack wait 42 --for ready --timeout 10m --json | jq -r .url\n  \
            sidetrack wait 42 --for deleted\n\n\
            Exit codes: 0 it is so; 1 time is over, and what is missing is printed; or the controller refuses to answer"
    )]
    Wait(wait::Options),
    /// Run the controller of a cluster: what is deployed becomes the table of every gateway
    ///
    /// Deployments whose pods carry the labels sidetrack.dev/pr and sidetrack.dev/fork-of, Preview objects, the Gateway
    /// API and Ingresses are watched; gateways follow with `sidetrack gateway --controller`. Every replica serves, one of
    /// them writes. The way to the API server is that of the pod, or KUBECONFIG.
    #[cfg(feature = "kubernetes")]
    #[command(
        after_help = "Examples:\n  sidetrack controller --namespace sidetrack --domain preview.example.com \\\n    \
            --tls-cert tls.crt --tls-key tls.key --proxy-account sidetrack/sidetrack-gateway\n  \
            KUBECONFIG=~/.kube/config sidetrack controller --namespace default --dry-run --tls-cert tls.crt --tls-key tls.key\n\n\
            Exit codes: 0 ended by a signal; 1 it can't start; 64 an option or a file that it names is wrong"
    )]
    Controller(Box<controller::Options>),
    /// Print the CustomResourceDefinition of Preview
    #[cfg(feature = "kubernetes")]
    #[command(
        after_help = "Examples:\n  sidetrack crd | kubectl create -f -       # below Kubernetes 1.25 with --validate=false\n  sidetrack crd --docs > docs/preview.md"
    )]
    Crd(crd::Options),
    /// Take all waypoints of a cluster away, before the controller is
    ///
    /// Without a controller nobody puts back the Services that point to waypoints. The controllers are asked to, and it is
    /// waited until they have; they go on afterwards, unless they are deleted within a minute and a half. The chart does this
    /// before `helm uninstall` removes anything.
    #[cfg(feature = "kubernetes")]
    #[command(
        after_help = "Example:\n  sidetrack take-down --namespace sidetrack && kubectl delete -f sidetrack.yaml\n\n\
            Exit codes: 0 none is left; 1 some are, and which is printed"
    )]
    TakeDown(take_down::Options),
    /// Run the controller of a cluster
    #[cfg(not(feature = "kubernetes"))]
    #[command(hide = true)]
    Controller(absent::Anything),
    /// Print the CustomResourceDefinition of Preview
    #[cfg(not(feature = "kubernetes"))]
    #[command(hide = true)]
    Crd(absent::Anything),
    /// Take all waypoints of a cluster away, before the controller is
    #[cfg(not(feature = "kubernetes"))]
    #[command(hide = true)]
    TakeDown(absent::Anything),
    /// Let the traffic of a pod come by its sidecar
    ///
    /// For an init container, as root with CAP_NET_ADMIN: what comes in goes to the sidecar's inbound port, what the app
    /// calls to its outbound port, over IPv4 and IPv6. A second run replaces the rules of the first.
    #[command(
        after_help = "Examples:\n  sidetrack init\n  sidetrack init --exclude-inbound 9090 --exclude-outbound 5432,6379 --exclude-cidr 10.8.0.0/16\n  \
            sidetrack init --print\n\n\
            Exit codes: 0 done; 69 neither nft nor iptables is here, or the kernel can't; 77 the right is missing"
    )]
    Init(init::Options),
    /// Print a script that lets a shell complete commands and options
    #[command(
        after_help = "Examples:\n  sidetrack completions bash > ~/.local/share/bash-completion/completions/sidetrack\n  \
            sidetrack completions zsh > \"${fpath[1]}/_sidetrack\"\n  \
            sidetrack completions fish > ~/.config/fish/completions/sidetrack.fish"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // aws-lc-rs is the one provider of this process; libraries that ask for a default get it too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    log(&arguments);
    match arguments.command {
        Command::Gateway(options) => gateway::run(options),
        Command::Sidecar(options) => sidecar::run(*options),
        Command::Check { config } => check::run(&config),
        Command::Schema => schema::run(),
        Command::Demo(options) => demo::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Preview(command) => preview::run(&command),
        Command::Wait(options) => wait::run(&options),
        Command::Init(options) => init::run(options),
        #[cfg(feature = "kubernetes")]
        Command::Controller(options) => controller::run(*options),
        #[cfg(feature = "kubernetes")]
        Command::Crd(options) => crd::run(&options),
        #[cfg(feature = "kubernetes")]
        Command::TakeDown(options) => take_down::run(&options),
        #[cfg(not(feature = "kubernetes"))]
        Command::Controller(anything) => absent::run("controller", &anything),
        #[cfg(not(feature = "kubernetes"))]
        Command::Crd(anything) => absent::run("crd", &anything),
        #[cfg(not(feature = "kubernetes"))]
        Command::TakeDown(anything) => absent::run("take-down", &anything),
        Command::Completions { shell } => completions::run(shell, Arguments::command()),
    }
}

/// Sets up the program's own log, on standard error.
fn log(arguments: &Arguments) {
    // What a demo shows would drown in what a gateway says of its start.
    let usual = match arguments.command {
        Command::Demo(_) => "warn",
        // kube calls each failed request an error, also those that are tried again; what matters of it, the controller
        // says itself.
        Command::Controller(_) => "info,kube_client=off,kube_runtime=off",
        _ => "info",
    };
    let filter = EnvFilter::try_new(arguments.log.as_deref().unwrap_or(usual));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Of a line that can't be written it would tell standard error, and panic where that can't be written either.
    let builder = builder.log_internal_errors(false);
    match arguments.log_format {
        LogFormat::Text => builder.with_target(false).with_ansi(is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Whether a person looks at standard error, and likes colours.
fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && out::wants_colour()
}
