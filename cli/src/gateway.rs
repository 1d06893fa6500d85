//! `sidetrack gateway`: runs the proxy.

use std::path::Path;
use std::process::ExitCode;

use sidetrack_proxy::app::{self, Link, StartError};

use crate::BAD_CONFIGURATION;

/// Runs until a signal or a successor ends it.
pub(crate) fn run(config: &Path) -> ExitCode {
    match app::run(config, Link::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says why a proxy did not start, and gives the exit code of that.
pub(crate) fn failed(error: &StartError) -> ExitCode {
    eprintln!("{error}");
    match error {
        StartError::Config(_) | StartError::Setting(..) => ExitCode::from(BAD_CONFIGURATION),
        StartError::Io(..) => ExitCode::FAILURE,
    }
}
