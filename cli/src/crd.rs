//! `sidetrack crd`: the definition of `Preview`.

use std::process::ExitCode;

use clap::Args;
use sidetrack_controller::preview;

use crate::out;

/// The command's options.
#[derive(Args)]
pub(crate) struct Options {
    /// Print it as JSON instead of YAML
    #[arg(long, conflicts_with = "docs")]
    json: bool,
    /// Print a page that documents every field instead
    #[arg(long)]
    docs: bool,
}

/// Prints it.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.docs {
        return out::say(&preview::page());
    }
    let crd = preview::definition();
    if options.json {
        return out::say(&format!("{crd:#}"));
    }
    match serde_saphyr::to_string(&crd) {
        Ok(yaml) => out::say(&yaml),
        Err(error) => out::fail(&format!("the definition can't be written as YAML: {error}")),
    }
}
