//! The rules as text, from what is to be redirected. Pure.
//!
//! | Connection | Goes |
//! |---|---|
//! | from elsewhere to the pod | to the sidecar's inbound port |
//! | from elsewhere to a port of the pod at which nobody listens | where it was meant to, and is refused, as without a sidecar: a probe that only connects must not find an app that is not there |
//! | from elsewhere to an excluded port, or one of the sidecar's own | where it was meant to |
//! | from elsewhere through the pod (a container in the pod that routes) | where it was meant to |
//! | from the sidecar | where it was meant to, also to the app, by 127.0.0.1 or by the pod's address |
//! | from the app to 127.0.0.0/8 or ::1 | where it was meant to: one container of the pod calls another |
//! | from the app to the pod's own address | to the sidecar's outbound port: behind a headless Service the pod's own address stands for the service, and a fork of that may be meant |
//! | from the app to a ClusterIP, its own Service's included | to the sidecar's outbound port, which sees the ClusterIP: kube-proxy rewrites it outside of the pod, later |
//! | from the app to an excluded port or network | where it was meant to |
//! | of another protocol, UDP among them | where it was meant to |
//!
//! Only the first packet of a connection is judged, and only one that begins a connection: the kernel also takes the
//! next packet of a connection that is older than the rules for a first one, and would cut it in two.

use std::collections::BTreeSet;
use std::fmt::Write;

use ipnet::IpNet;
use sidetrack_config::ports;

/// DNS over TCP is no business of a proxy for HTTP, and a pod that can't resolve names can do nothing.
const DNS_PORT: u16 = 53;
/// Before the chains that rewrite destinations (-100): the first one to rewrite wins, and what others would have made
/// of the address is not what the app asked for.
const PRIORITY: i32 = -101;

/// The chains of ours in iptables' table `nat`, with what each is called from.
const CHAINS: [(&str, &str); 2] = [("PREROUTING", "SIDETRACK_INBOUND"), ("OUTPUT", "SIDETRACK_OUTBOUND")];

/// What is to be redirected, and where to. Sets, so that the order of options changes no rule.
#[derive(Clone)]
pub(super) struct Redirect {
    /// Where the sidecar takes what comes in.
    pub(super) inbound_port: u16,
    /// Where the sidecar takes what goes out.
    pub(super) outbound_port: u16,
    /// The sidecar's user.
    pub(super) uid: u32,
    /// The sidecar's group.
    pub(super) gid: u32,
    /// Ports of the pod that are reached directly.
    pub(super) exclude_inbound: BTreeSet<u16>,
    /// The only ports of the pod that are not reached directly; empty: all.
    pub(super) include_inbound: BTreeSet<u16>,
    /// Whether ports at which nobody listens are reached directly, which not every kernel can tell.
    pub(super) only_listened: bool,
    /// Ports elsewhere that are called directly.
    pub(super) exclude_outbound: BTreeSet<u16>,
    /// Networks that are called directly.
    pub(super) exclude_networks: BTreeSet<IpNet>,
}

impl Redirect {
    fn direct_inbound(&self) -> BTreeSet<u16> {
        let own = [self.inbound_port, self.outbound_port, ports::ADMIN];
        self.exclude_inbound.iter().copied().chain(own).collect()
    }

    fn direct_outbound(&self) -> BTreeSet<u16> {
        self.exclude_outbound.iter().copied().chain([DNS_PORT]).collect()
    }
}

/// What takes nft's table away, if there is one.
pub(super) const NFT_REMOVE: &str = "add table inet sidetrack\ndelete table inet sidetrack\n";

/// A transaction of nft: our table, in the place of the one that is there, if there is one.
pub(super) fn nft(redirect: &Redirect) -> String {
    let mut text = format!("{NFT_REMOVE}table inet sidetrack {{\n");
    let mut inbound = vec![
        "iifname \"lo\" return".to_owned(),
        "fib daddr type != local return".to_owned(),
        format!("tcp dport {} return", set(&redirect.direct_inbound())),
    ];
    if !redirect.include_inbound.is_empty() {
        inbound.push(format!("tcp dport != {} return", set(&redirect.include_inbound)));
    }
    // Fails to match where there is no socket at all.
    let listened = if redirect.only_listened { "socket transparent 0 " } else { "" };
    inbound.push(format!("{listened}meta l4proto tcp redirect to :{}", redirect.inbound_port));
    chain(&mut text, "inbound", "prerouting", &inbound);

    let mut outbound = vec![
        format!("meta skuid {} return", redirect.uid),
        format!("meta skgid {} return", redirect.gid),
        "ip daddr 127.0.0.0/8 return".to_owned(),
        "ip6 daddr ::1 return".to_owned(),
    ];
    // A rule each: a set takes no two networks of which one is in the other.
    outbound.extend(redirect.exclude_networks.iter().map(|network| match network {
        IpNet::V4(network) => format!("ip daddr {network} return"),
        IpNet::V6(network) => format!("ip6 daddr {network} return"),
    }));
    outbound.push(format!("tcp dport {} return", set(&redirect.direct_outbound())));
    outbound.push(format!("meta l4proto tcp redirect to :{}", redirect.outbound_port));
    chain(&mut text, "outbound", "output", &outbound);
    text.push_str("}\n");
    text
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    // A String takes whatever is written to it.
    let _ = writeln!(text, "\tchain {name} {{\n\t\ttype nat hook {hook} priority {PRIORITY}; policy accept;");
    let first = ["meta l4proto != tcp return", "tcp flags & (fin | syn | rst | ack) != syn return"];
    for rule in first.into_iter().chain(rules.iter().map(String::as_str)) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}

fn set(ports: &BTreeSet<u16>) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

/// An IP version, which is a tool of its own with iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What `iptables-restore --noflush` makes our chains by. `saved` is what `iptables-save -t nat` says now: calls of our
/// chains that are in it are replaced, since iptables would add another one.
pub(super) fn iptables(redirect: &Redirect, family: Family, saved: &str) -> String {
    let mut text = "*nat\n".to_owned();
    for (_, chain) in CHAINS {
        // This makes the chain, or empties it.
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    let [(_, inbound), (_, outbound)] = CHAINS;
    for rule in iptables_inbound(redirect) {
        let _ = writeln!(text, "-A {inbound} {rule}");
    }
    for rule in iptables_outbound(redirect, family) {
        let _ = writeln!(text, "-A {outbound} {rule}");
    }
    uncall(&mut text, saved);
    for (hook, chain) in CHAINS {
        let _ = writeln!(text, "-I {hook} -p tcp -j {chain}");
    }
    text.push_str("COMMIT\n");
    text
}

/// What takes our chains away; `None` if nothing of ours is in `saved`.
pub(super) fn iptables_remove(saved: &str) -> Option<String> {
    let mut text = "*nat\n".to_owned();
    uncall(&mut text, saved);
    let is_there = |chain: &str| saved.lines().any(|line| line.starts_with(&format!(":{chain} ")));
    let there = CHAINS.iter().filter(|(_, chain)| is_there(chain));
    for (_, chain) in there.clone() {
        let _ = writeln!(text, "-F {chain}\n-X {chain}");
    }
    text.push_str("COMMIT\n");
    there.count().gt(&0).then_some(text)
}

/// The rules of iptables for both versions, where none of ours are there yet.
pub(super) fn iptables_of_both(redirect: &Redirect) -> String {
    let [v4, v6] = [Family::V4, Family::V6].map(|family| iptables(redirect, family, ""));
    format!("# iptables-restore --noflush\n{v4}# ip6tables-restore --noflush\n{v6}")
}

/// Deletes the calls of our chains that `saved` has.
fn uncall(text: &mut String, saved: &str) {
    for (hook, chain) in CHAINS {
        let call = format!("-A {hook} -p tcp -j {chain}");
        for _ in saved.lines().filter(|line| line.trim_end() == call) {
            let _ = writeln!(text, "-D {hook} -p tcp -j {chain}");
        }
    }
}

fn iptables_inbound(redirect: &Redirect) -> Vec<String> {
    let mut rules = vec![
        "-p tcp ! --syn -j RETURN".to_owned(),
        "-i lo -j RETURN".to_owned(),
        "-m addrtype ! --dst-type LOCAL -j RETURN".to_owned(),
    ];
    rules.extend(returns(&redirect.direct_inbound()));
    let listened = if redirect.only_listened { "-m socket --nowildcard " } else { "" };
    let target = format!("{listened}-j REDIRECT --to-ports {}", redirect.inbound_port);
    match redirect.include_inbound.is_empty() {
        true => rules.push(format!("-p tcp {target}")),
        false => rules
            .extend(redirect.include_inbound.iter().map(|port| format!("-p tcp --dport {port} {target}"))),
    }
    rules
}

fn iptables_outbound(redirect: &Redirect, family: Family) -> Vec<String> {
    let itself = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    let mut rules = vec![
        "-p tcp ! --syn -j RETURN".to_owned(),
        format!("-m owner --uid-owner {} -j RETURN", redirect.uid),
        format!("-m owner --gid-owner {} -j RETURN", redirect.gid),
        format!("-d {itself} -j RETURN"),
    ];
    let of_family = |network: &&IpNet| matches!(network, IpNet::V4(_)) == (family == Family::V4);
    let networks = redirect.exclude_networks.iter().filter(of_family);
    rules.extend(networks.map(|network| format!("-d {network} -j RETURN")));
    rules.extend(returns(&redirect.direct_outbound()));
    rules.push(format!("-p tcp -j REDIRECT --to-ports {}", redirect.outbound_port));
    rules
}

fn returns(ports: &BTreeSet<u16>) -> impl Iterator<Item = String> {
    ports.iter().map(|port| format!("-p tcp --dport {port} -j RETURN"))
}

#[cfg(test)]
mod tests;
