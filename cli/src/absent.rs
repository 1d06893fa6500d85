//! Commands that this binary was built without. They are here to say so: the demo needs no Kubernetes, and a newcomer's
//! first build is a third shorter without it.

use std::process::ExitCode;

use clap::Args;

use crate::out;

/// Whatever follows.
#[derive(Args)]
pub(crate) struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Says what to do.
pub(crate) fn run(command: &str, anything: &Anything) -> ExitCode {
    let rest = anything.rest.join(" ");
    out::fail(&format!(
        "this binary was built without Kubernetes; build it with: cargo build --release --features kubernetes\n\
         and then run: sidetrack {command} {rest}"
    ))
}
