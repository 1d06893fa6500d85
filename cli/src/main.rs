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
mod explain;
mod gateway;
mod out;
mod preview;
mod schema;
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
    /// Nothing is sent upstream. A request that the proxy would refuse is explained too.
    #[command(after_help = "Examples:\n  sidetrack explain http://pr-42.preview.localhost/api/checkout\n  \
            sidetrack explain https://shop.example.com/ -H 'X-PR-ID: 42' --client 10.1.2.3\n  \
            sidetrack explain http://preview.localhost/ -H 'X-PR-ID: 42' --json | jq .reason\n\n\
            Exit codes: 0 answered; 1 the proxy can't be reached, or refuses to answer")]
    Explain(explain::Options),
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
    /// Run the controller of a cluster
    #[cfg(not(feature = "kubernetes"))]
    #[command(hide = true)]
    Controller(absent::Anything),
    /// Print the CustomResourceDefinition of Preview
    #[cfg(not(feature = "kubernetes"))]
    #[command(hide = true)]
    Crd(absent::Anything),
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
        Command::Check { config } => check::run(&config),
        Command::Schema => schema::run(),
        Command::Demo(options) => demo::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Preview(command) => preview::run(&command),
        Command::Wait(options) => wait::run(&options),
        #[cfg(feature = "kubernetes")]
        Command::Controller(options) => controller::run(*options),
        #[cfg(feature = "kubernetes")]
        Command::Crd(options) => crd::run(&options),
        #[cfg(not(feature = "kubernetes"))]
        Command::Controller(anything) => absent::run("controller", &anything),
        #[cfg(not(feature = "kubernetes"))]
        Command::Crd(anything) => absent::run("crd", &anything),
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
