//! `sidetrack gateway`: runs the proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use sidetrack_proxy::app::{self, Link, StartError};
use sidetrack_proxy::source::origin::Origin;

use crate::BAD_CONFIGURATION;
use crate::following::Following;

/// What `gateway` is asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    following: Following,
}

/// Runs until a signal or a successor ends it.
pub(crate) fn run(options: Options) -> ExitCode {
    serve(&options.config, options.following)
}

/// Runs a proxy with this configuration until a signal or a successor ends it.
pub(crate) fn serve(origin: impl Into<Origin>, following: Following) -> ExitCode {
    let controller = match following.controller() {
        Ok(controller) => controller,
        Err(wrong) => {
            crate::out::tell(&wrong.to_string());
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match app::run(origin, controller, Link::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says why a proxy did not start, and gives the exit code of that.
pub(crate) fn failed(error: &StartError) -> ExitCode {
    crate::out::tell(&error.to_string());
    match error {
        StartError::Config(_) | StartError::Setting(..) => ExitCode::from(BAD_CONFIGURATION),
        StartError::Io(..) => ExitCode::FAILURE,
    }
}
