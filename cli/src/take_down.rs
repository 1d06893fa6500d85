//! `sidetrack take-down`: no waypoint is left, before a release is removed.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sidetrack_controller::run::duration;
use sidetrack_controller::take_down::take_down;

use crate::out;

/// The command's options.
#[derive(Args)]
pub(crate) struct Options {
    /// The namespace of the controller's own objects
    #[arg(long, env = "SIDETRACK_NAMESPACE", value_name = "NAME")]
    namespace: Box<str>,
    /// A namespace that the controller watches, repeatable [default: all]
    #[arg(long, env = "SIDETRACK_WATCH_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    watch_namespace: Vec<Box<str>>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "4m", value_parser = duration)]
    timeout: Duration,
}

/// Waits until it is so.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let work = take_down(&options.namespace, &options.watch_namespace, options.timeout);
        runtime.block_on(work).map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => out::say("no waypoint is left, and no Service points to one"),
        Err(error) => out::fail(&error),
    }
}
