//! `sidetrack check`: says what is wrong with a configuration, and opens no socket.

use std::path::Path;
use std::process::ExitCode;

use sidetrack_proxy::app;

use crate::gateway::failed;
use crate::out;

/// Checks a file and what it names.
pub(crate) fn run(config: &Path) -> ExitCode {
    match app::check(config) {
        Ok(warnings) => {
            for warning in &warnings {
                out::tell(&format!("warning: {warning}"));
            }
            out::say(&format!("{}: good", config.display()))
        }
        Err(error) => failed(&error),
    }
}
