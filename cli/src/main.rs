//! The binary: one file per command. It reads arguments, sets up the program's own log, and calls the library.

mod check;
mod gateway;
mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
    /// What the program says of itself, as in RUST_LOG: error, warn, info, debug, or TARGET=LEVEL
    #[arg(long, global = true, env = "SIDETRACK_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// The form of the program's own log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
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
        after_help = "Examples:\n  sidetrack gateway -c sidetrack.yaml\n  sidetrack gateway -c sidetrack.yaml --log debug"
    )]
    Gateway {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // aws-lc-rs is the one provider of this process; libraries that ask for a default get it too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    log(&arguments);
    match arguments.command {
        Command::Gateway { config } => gateway::run(&config),
        Command::Check { config } => check::run(&config),
        Command::Schema => schema::run(),
    }
}

/// Sets up the program's own log, on standard error.
fn log(arguments: &Arguments) {
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_target(false).with_ansi(is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Colours only for people who have not declined them (no-color.org).
fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
