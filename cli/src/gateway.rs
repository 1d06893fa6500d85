//! `sidetrack gateway`: runs the proxy.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sidetrack_proxy::app::{self, Link, StartError};
use sidetrack_proxy::source::stream::Controller;

use crate::BAD_CONFIGURATION;

/// Where a pod finds the token that is meant for the controller, if it is given one.
const PROJECTED_TOKEN: &str = "/var/run/secrets/sidetrack/token";

/// What `gateway` is asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The controller to follow; it says which services, routes and previews there are, and the file must not
    #[arg(long, env = "SIDETRACK_CONTROLLER", value_name = "URL", help_heading = "Controller")]
    controller: Option<String>,
    /// PEM roots to prove the controller with [default: the system's]
    #[arg(
        long,
        env = "SIDETRACK_CONTROLLER_CA",
        value_name = "FILE",
        requires = "controller",
        help_heading = "Controller"
    )]
    controller_ca: Option<PathBuf>,
    /// The token to show to the controller; read again when it is replaced
    /// [default: /var/run/secrets/sidetrack/token, if it is there]
    #[arg(
        long,
        env = "SIDETRACK_CONTROLLER_TOKEN",
        value_name = "FILE",
        requires = "controller",
        help_heading = "Controller"
    )]
    controller_token: Option<PathBuf>,
    /// The name of this proxy, unique among those of the controller [default: POD_NAME, else the host's name]
    #[arg(long, env = "SIDETRACK_NODE", value_name = "NAME", help_heading = "Controller")]
    node: Option<String>,
}

/// Runs until a signal or a successor ends it.
pub(crate) fn run(options: Options) -> ExitCode {
    let Options { config, controller, controller_ca, controller_token, node } = options;
    let controller = controller.map(|url| {
        let projected = Path::new(PROJECTED_TOKEN);
        let token = controller_token.or_else(|| projected.exists().then(|| projected.to_owned()));
        Controller::new(&url, controller_ca, token, &node.unwrap_or_else(own_name))
    });
    let controller = match controller.transpose() {
        Ok(controller) => controller,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match app::run(&config, controller, Link::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// The name of this pod, or of this host.
fn own_name() -> String {
    std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Says why a proxy did not start, and gives the exit code of that.
pub(crate) fn failed(error: &StartError) -> ExitCode {
    eprintln!("{error}");
    match error {
        StartError::Config(_) | StartError::Setting(..) => ExitCode::from(BAD_CONFIGURATION),
        StartError::Io(..) => ExitCode::FAILURE,
    }
}
