//! `sidetrack completions`: what a shell must know to complete commands and options.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::out;

/// Prints the script for `shell`.
pub(crate) fn run(shell: Shell, mut command: clap::Command) -> ExitCode {
    let mut script = Vec::new();
    generate(shell, &mut command, "sidetrack", &mut script);
    out::say(&String::from_utf8_lossy(&script))
}
