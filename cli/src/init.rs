//! `sidetrack init`: lets the traffic of a pod come by its sidecar. Runs in an init container, in the pod's network
//! namespace, as root with CAP_NET_ADMIN.
//!
//! The rules are a pure function of the options ([`rules`]); [`tools`] hands them to nft or to iptables. What is there
//! already of ours is replaced in one step, and nothing of others' is touched.

mod rules;
mod tools;

use std::process::ExitCode;

use ipnet::IpNet;
use sidetrack_config::ports;

use self::rules::Redirect;
use self::tools::{Done, ToolError};
use crate::out;

/// The right is missing (EX_NOPERM of sysexits.h).
const NO_RIGHT: u8 = 77;
/// Neither tool is there, or the kernel can't redirect (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// The command's options.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the sidecar takes what comes in
    #[arg(long, value_name = "PORT", default_value_t = ports::INBOUND, value_parser = port(), help_heading = "Sidecar")]
    inbound_port: u16,
    /// Where the sidecar takes what goes out
    #[arg(long, value_name = "PORT", default_value_t = ports::OUTBOUND, value_parser = port(), help_heading = "Sidecar")]
    outbound_port: u16,
    /// The user that the sidecar runs as, whose own calls are left alone; no container of the app may run as this one
    #[arg(long, value_name = "UID", default_value = "65532", help_heading = "Sidecar")]
    uid: u32,
    /// The group that the sidecar runs as, the same
    #[arg(long, value_name = "GID", default_value = "65532", help_heading = "Sidecar")]
    gid: u32,
    /// A port of the pod whose connections go to the app directly, repeatable
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = port(), help_heading = "What is redirected")]
    exclude_inbound: Vec<u16>,
    /// A port of the pod whose connections come by the sidecar, repeatable [default: all]
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = port(), help_heading = "What is redirected")]
    include_inbound: Vec<u16>,
    /// A port elsewhere that the app calls directly, repeatable; 53 always is one
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = port(), help_heading = "What is redirected")]
    exclude_outbound: Vec<u16>,
    /// A network that the app calls directly, repeatable
    #[arg(long, value_name = "CIDR", value_delimiter = ',', help_heading = "What is redirected")]
    exclude_cidr: Vec<IpNet>,
    /// What makes the rules; `auto` tries nft, then iptables
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    /// Print the rules and change nothing
    #[arg(long, conflicts_with = "remove")]
    print: bool,
    /// Take the rules away, whatever made them
    #[arg(long)]
    remove: bool,
}

/// What makes the rules.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Auto,
    Nft,
    Iptables,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

/// Makes, prints or removes the rules.
pub(crate) fn run(options: Options) -> ExitCode {
    let (mode, print, remove) = (options.mode, options.print, options.remove);
    let redirect = redirect(options);
    if print {
        return out::say(&match mode {
            Mode::Auto | Mode::Nft => rules::nft(&redirect),
            Mode::Iptables => rules::iptables_of_both(&redirect),
        });
    }
    let done = match (remove, mode) {
        (true, _) => tools::remove(),
        (false, Mode::Auto) => tools::apply(&redirect),
        (false, Mode::Nft) => tools::nft(&redirect),
        (false, Mode::Iptables) => tools::iptables(&redirect),
    };
    match done {
        Ok(done) => {
            told(&done);
            ExitCode::SUCCESS
        }
        Err(error) => {
            crate::out::tell(&error.to_string());
            ExitCode::from(match error {
                ToolError::NoRight(_) => NO_RIGHT,
                ToolError::Missing { .. } | ToolError::Refused { .. } => UNAVAILABLE,
            })
        }
    }
}

/// Says on standard error what was done: in a pod it is the container's log.
fn told(done: &Done) {
    for word in &done.words {
        crate::out::tell(&word.to_string());
    }
}

fn redirect(options: Options) -> Redirect {
    Redirect {
        inbound_port: options.inbound_port,
        outbound_port: options.outbound_port,
        uid: options.uid,
        gid: options.gid,
        exclude_inbound: options.exclude_inbound.into_iter().collect(),
        only_listened: true,
        include_inbound: options.include_inbound.into_iter().collect(),
        exclude_outbound: options.exclude_outbound.into_iter().collect(),
        exclude_networks: options.exclude_cidr.into_iter().map(|network| network.trunc()).collect(),
    }
}
