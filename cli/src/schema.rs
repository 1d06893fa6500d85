//! `sidetrack schema`: the JSON Schema of the configuration file.

use std::process::ExitCode;

use crate::out;

/// Prints it.
pub(crate) fn run() -> ExitCode {
    out::say(&format!("{:#}", sidetrack_config::schema::json_schema()))
}
