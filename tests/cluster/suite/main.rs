//! Named scenarios against a real kube-apiserver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

use std::process::ExitCode;

use sidetrack_cluster_tests::{Case, run};

/// The scenarios of a module, by name.
macro_rules! cases {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$(Case {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |cluster| Box::pin($module::$name(cluster)),
        }),+]
    };
}

fn main() -> ExitCode {
    run(cases![harness::pods_are_real_servers, harness::the_api_server_can_be_killed])
}
