//! `sidetrack schema`: the JSON Schema of the configuration file.

use std::process::ExitCode;

/// Prints it.
pub(crate) fn run() -> ExitCode {
    println!("{:#}", sidetrack_config::schema::json_schema());
    ExitCode::SUCCESS
}
