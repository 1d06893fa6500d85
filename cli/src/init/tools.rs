//! Hands rules to nft or to iptables, and says what is wrong where they aren't taken.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::rules::{self, Family, Redirect};

/// The number of CAP_NET_ADMIN.
const NET_ADMIN: u32 = 12;

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    /// In words, a line each.
    pub(super) words: Vec<String>,
}

/// Why it was not done.
#[derive(Debug)]
pub(super) enum ToolError {
    /// This process may not change rules.
    NoRight(String),
    /// A tool is not here.
    Missing {
        /// What was looked for.
        tool: String,
    },
    /// A tool, most often because of the kernel, did not take the rules.
    Refused {
        /// Which.
        tool: String,
        /// What it said.
        said: String,
    },
}

impl std::fmt::Display for ToolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRight(why) => write!(
                f,
                "the rules can't be changed: {why}; run it as root with CAP_NET_ADMIN, in a pod by \
                 `securityContext: {{runAsUser: 0, capabilities: {{add: [NET_ADMIN, NET_RAW]}}}}`, or do without \
                 by the annotation `sidetrack.dev/inject-mode: ports`"
            ),
            Self::Missing { tool } => {
                write!(f, "{tool} is not here: use an image that has nftables or iptables installed")
            }
            Self::Refused { tool, said } => write!(
                f,
                "{tool} did not take the rules: {}\nthe kernel needs NAT in nftables (5.2 or later) or in iptables; where it \
                 has neither, use the annotation `sidetrack.dev/inject-mode: ports`",
                said.trim()
            ),
        }
    }
}

/// Redirects by nft, or by iptables where nft is not here or can't.
pub(super) fn apply(redirect: &Redirect) -> Result<Done, ToolError> {
    let why = match nft(redirect) {
        Ok(done) => return Ok(done),
        Err(error @ ToolError::NoRight(_)) => return Err(error),
        Err(ToolError::Missing { tool }) => format!("{tool} is not here"),
        Err(ToolError::Refused { said, .. }) => format!("nft: {}", said.trim()),
    };
    match iptables(redirect) {
        Ok(mut done) => {
            done.words.insert(0, format!("{why}; iptables is used instead"));
            Ok(done)
        }
        Err(ToolError::Missing { tool }) => Err(ToolError::Missing { tool: format!("{why}, and {tool}") }),
        Err(ToolError::Refused { tool, said }) => {
            Err(ToolError::Refused { tool, said: format!("{}\n{why}", said.trim()) })
        }
        Err(error @ ToolError::NoRight(_)) => Err(error),
    }
}

/// Redirects by nft: both IP versions, in one transaction.
pub(super) fn nft(redirect: &Redirect) -> Result<Done, ToolError> {
    allowed()?;
    as_able(redirect, |redirect| {
        feed("nft", &["-f", "-"], &rules::nft(redirect))?;
        Ok(Done { words: vec!["redirected by nft: table inet sidetrack".to_owned()] })
    })
}

/// The rules, or those that a kernel without the match for sockets takes.
fn as_able(
    redirect: &Redirect,
    make: impl Fn(&Redirect) -> Result<Done, ToolError>,
) -> Result<Done, ToolError> {
    match make(redirect) {
        Err(ToolError::Refused { said, .. }) => {
            let mut done = make(&Redirect { only_listened: false, ..redirect.clone() })?;
            done.words.push(format!(
                "this kernel can't tell ports at which nobody listens ({}): probes that only connect (tcpSocket) succeed \
                 while the app is down; use httpGet, grpc or exec",
                said.trim()
            ));
            Ok(done)
        }
        done => done,
    }
}

/// Redirects by iptables, and by ip6tables where there is IPv6.
pub(super) fn iptables(redirect: &Redirect) -> Result<Done, ToolError> {
    allowed()?;
    as_able(redirect, by_iptables)
}

fn by_iptables(redirect: &Redirect) -> Result<Done, ToolError> {
    let mut done = Done::default();
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 && !has_v6(&fs::read_to_string("/proc/net/if_inet6").unwrap_or_default()) {
            done.words.push("IPv6: left out, this network has no address of it".to_owned());
            continue;
        }
        let text = rules::iptables(redirect, family, &saved(family)?);
        restore(family, &text)?;
        done.words.push(format!("redirected by {}: chains SIDETRACK_*", name(family)));
    }
    Ok(done)
}

/// Takes away what either made. A tool that is not here has made nothing.
pub(super) fn remove() -> Result<Done, ToolError> {
    allowed()?;
    let mut done = Done::default();
    let mut missing = Vec::new();
    match feed("nft", &["-f", "-"], rules::NFT_REMOVE) {
        Ok(_) => done.words.push("nft: nothing of ours is left".to_owned()),
        Err(ToolError::Missing { tool }) => missing.push(tool),
        // A kernel without nftables.
        Err(error @ ToolError::Refused { .. }) => done.words.push(error.to_string()),
        Err(error @ ToolError::NoRight(_)) => return Err(error),
    }
    for family in [Family::V4, Family::V6] {
        match saved(family) {
            Ok(saved) => {
                if let Some(text) = rules::iptables_remove(&saved) {
                    restore(family, &text)?;
                }
                done.words.push(format!("{}: nothing of ours is left", name(family)));
            }
            Err(ToolError::Missing { tool }) => missing.push(tool),
            Err(error @ ToolError::Refused { .. }) => done.words.push(error.to_string()),
            Err(error @ ToolError::NoRight(_)) => return Err(error),
        }
    }
    match done.words.is_empty() {
        true => Err(ToolError::Missing { tool: missing.join(", ") }),
        false => Ok(done),
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn saved(family: Family) -> Result<String, ToolError> {
    feed(&format!("{}-save", name(family)), &["-t", "nat"], "")
}

fn restore(family: Family, text: &str) -> Result<String, ToolError> {
    // -w: the old iptables has one lock for all who change rules.
    feed(&format!("{}-restore", name(family)), &["--noflush", "-w"], text)
}

/// Runs a tool with `text` on its standard input; what it wrote to its standard output.
fn feed(tool: &str, arguments: &[&str], text: &str) -> Result<String, ToolError> {
    let refused = |said: String| ToolError::Refused { tool: tool.to_owned(), said };
    let output = match spawn(tool, arguments, text) {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ToolError::Missing { tool: tool.to_owned() });
        }
        Err(error) => return Err(refused(error.to_string())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match said.contains("Operation not permitted") || said.contains("Permission denied") {
        true => Err(ToolError::NoRight(format!("{tool}: {}", said.trim()))),
        false => Err(refused(said)),
    }
}

fn spawn(tool: &str, arguments: &[&str], text: &str) -> io::Result<Output> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Rules are smaller than a pipe holds. A tool that ends without reading them says why itself.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait_with_output()
}

/// Whether this process may change rules, by what the kernel says of it: a tool would say it in its own words, late.
fn allowed() -> Result<(), ToolError> {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) if !has_net_admin(&status) => {
            Err(ToolError::NoRight("this process has no CAP_NET_ADMIN".to_owned()))
        }
        // Where the kernel does not say, the tool will.
        _ => Ok(()),
    }
}

/// Whether a process with this `/proc/PID/status` has CAP_NET_ADMIN; yes, where it does not say.
fn has_net_admin(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_none_or(|capabilities| capabilities & (1 << NET_ADMIN) != 0)
}

/// Whether any address of `/proc/net/if_inet6` is one that others can call: not `::1`, not link-local. A kernel
/// without IPv6 has no such file.
fn has_v6(addresses: &str) -> bool {
    let called =
        |line: &str| !line.starts_with("00000000000000000000000000000001") && !line.starts_with("fe8");
    addresses.lines().any(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_the_capability_has_it() {
        assert!(has_net_admin("Name:\tx\nCapEff:\t0000000000001000\n"));
        assert!(has_net_admin("CapEff:\t000001ffffffffff\n"));
        assert!(!has_net_admin("CapPrm:\t0000000000001000\nCapEff:\t0000000000002000\n"));
        assert!(has_net_admin("Name:\tx\n"));
    }

    #[test]
    fn only_addresses_that_others_can_call_count() {
        assert!(!has_v6(""));
        assert!(!has_v6("00000000000000000000000000000001 01 80 10 80       lo\n"));
        assert!(!has_v6("fe80000000000000f8163efffe000001 02 40 20 80     eth0\n"));
        assert!(has_v6("fd000000000000000000000000000002 02 40 00 80     eth0\n"));
    }
}
