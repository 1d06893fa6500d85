//! The options of a proxy that follows a controller.

use std::path::{Path, PathBuf};

use sidetrack_config::Owner;
use sidetrack_proxy::source::stream::Controller;

/// Where a pod finds the token that is meant for the controller, if it is given one.
const PROJECTED_TOKEN: &str = "/var/run/secrets/sidetrack/token";

/// Whom to follow, and how to be known there.
#[derive(clap::Args)]
pub(crate) struct Following {
    /// The controller to follow; it says which services, routes and previews there are, and the file must not
    #[arg(long, env = "SIDETRACK_CONTROLLER", value_name = "URL", help_heading = "Controller")]
    pub(crate) controller: Option<String>,
    /// PEM roots to prove the controller with [default: the system's]
    #[arg(
        long,
        env = "SIDETRACK_CONTROLLER_CA",
        value_name = "FILE",
        requires = "controller",
        help_heading = "Controller"
    )]
    controller_ca: Option<PathBuf>,
    /// The token to show to the controller; read again when it is replaced
    /// [default: /var/run/secrets/sidetrack/token, if it is there]
    #[arg(
        long,
        env = "SIDETRACK_CONTROLLER_TOKEN",
        value_name = "FILE",
        requires = "controller",
        help_heading = "Controller"
    )]
    controller_token: Option<PathBuf>,
    /// The name of this proxy, unique among those of the controller [default: POD_NAME, else the host's name]
    #[arg(long, env = "SIDETRACK_NODE", value_name = "NAME", help_heading = "Controller")]
    node: Option<String>,
}

impl Following {
    /// Who says which services there are.
    pub(crate) const fn owner(&self) -> Owner {
        if self.controller.is_some() { Owner::Controller } else { Owner::File }
    }

    /// The controller, where one is followed.
    ///
    /// # Errors
    /// What is wrong with its URL, in words.
    pub(crate) fn controller(self) -> Result<Option<Controller>, String> {
        let Self { controller, controller_ca, controller_token, node } = self;
        let Some(url) = controller else { return Ok(None) };
        let projected = Path::new(PROJECTED_TOKEN);
        let token = controller_token.or_else(|| projected.exists().then(|| projected.to_owned()));
        Controller::new(&url, controller_ca, token, &node.unwrap_or_else(own_name))
            .map(Some)
            .map_err(|wrong| wrong.to_string())
    }
}

/// The name of this pod, or of this host.
fn own_name() -> String {
    std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}
