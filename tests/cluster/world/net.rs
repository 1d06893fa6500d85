//! The network of the pods that really run on a node: a network namespace for each, with a cable to the node, which knows
//! the addresses of Services as kube-proxy makes them known.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sidetrack_tests::{Call, Conn, Netns, PATIENCE, Reply, inside};

/// The network of a node. No two nodes, of whatever clusters, have a pod's address in common.
pub(crate) struct Net {
    number: u8,
    pods: u8,
    rules: String,
}

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), pods: 0, rules: String::new() }
    }

    /// Makes a place for one more pod.
    pub(crate) fn add(&mut self) -> (Ipv4Addr, Netns) {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        self.pods += 1;
        let ip = self.address(self.pods + 1);
        let netns = Netns::named(name(ip));
        let device = format!("pod{}-{}", self.number, self.pods);
        netns.link_to_here(&ip.to_string(), &device, &self.address(1).to_string());
        (ip, netns)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 98, self.number, host)
    }

    /// Turns connections to the address of a Service to an endpoint that is ready: the first one, which serves here. Only
    /// those of this node's pods, since other clusters give the same addresses to other Services.
    pub(crate) fn translate(&mut self, services: &[Value], slices: &[Value]) {
        let rules = self.rules(services, slices);
        if self.pods > 0 && rules != self.rules {
            nft(&rules);
            self.rules = rules;
        }
    }

    fn rules(&self, services: &[Value], slices: &[Value]) -> String {
        let table = format!("ip node{}", self.number);
        let from = format!("ip saddr {}/24", self.address(0));
        let turned = |(service, to): (String, SocketAddr)| format!("{from} {service} dnat to {to}; ");
        let to: String = services.iter().flat_map(|service| ends(service, slices)).map(turned).collect();
        // A pod that meets itself behind a Service would else answer itself past the node.
        let itself = |host: u8| format!("{0} . {0}", self.address(host));
        let itself: Vec<String> = (2..=self.pods + 1).map(itself).collect();
        let back = format!("ip saddr . ip daddr {{ {} }} masquerade; ", itself.join(", "));
        format!(
            "table {table}\ndelete table {table}\ntable {table} {{\n\
             chain to {{ type nat hook prerouting priority dstnat; {to}}}\n\
             chain back {{ type nat hook postrouting priority srcnat; {back}}}\n}}\n"
        )
    }
}

/// What a connection to each port of a Service looks like, and where it is to go.
fn ends(service: &Value, slices: &[Value]) -> Vec<(String, SocketAddr)> {
    let meta = &service["metadata"];
    let is_of = |slice: &&Value| {
        slice["metadata"]["namespace"] == meta["namespace"]
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == meta["name"]
    };
    let own: Vec<&Value> = slices.iter().filter(is_of).collect();
    let Some(ip) = service["spec"]["clusterIP"].as_str().filter(|ip| ip.contains('.')) else {
        return Vec::new();
    };
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let end = |port: &Value| {
        let to = own.iter().find_map(|slice| ready(slice, port["name"].as_str().unwrap_or_default()))?;
        Some((format!("ip daddr {ip} tcp dport {}", port["port"]), to))
    };
    ports.filter_map(end).collect()
}

/// The first endpoint of a slice that is ready, with the port of this name.
fn ready(slice: &Value, name: &str) -> Option<SocketAddr> {
    let ports = slice["ports"].as_array()?;
    let port = ports.iter().find(|port| port["name"].as_str().unwrap_or_default() == name)?;
    let endpoints = slice["endpoints"].as_array()?;
    let endpoint = endpoints.iter().find(|endpoint| endpoint["conditions"]["ready"] == true)?;
    let ip = endpoint["addresses"][0].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(port["port"].as_u64()?).ok()?))
}

fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft (this test wants root) does not take:\n{rules}");
}

fn name(ip: Ipv4Addr) -> String {
    format!("pod-{ip}")
}

/// Sends `call` to `to` from within the pod that has the address `pod`, as its app would.
pub async fn call_from(pod: Ipv4Addr, to: SocketAddr, call: Call) -> Reply {
    let stream = inside(&name(pod), || TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    Conn::http1_on(stream).await.unwrap().send(call).await
}

/// Kills what runs in the pod that has the address `pod` with this word in its arguments, as a node short of memory would.
pub fn kill_in(pod: Ipv4Addr, word: &str) {
    let said = Command::new("ip").args(["netns", "pids", &name(pod)]).output().unwrap();
    for pid in String::from_utf8(said.stdout).unwrap().lines() {
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if arguments.split('\0').any(|argument| argument == word) {
            kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
    }
}
