//! Network namespaces: hosts of a small network on this machine, from which nothing leads out. Root makes them.
//!
//! A socket stays in the namespace that its thread was in when it was made. So [`Netns::inside`] opens it, and whoever
//! has it uses it from any thread.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{Output, binary};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// A network namespace with `lo` up. It goes with its value, and what is in it with the last socket.
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one; `label` shows in its name, for whoever looks at the machine meanwhile.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("sidetrack-{}-{number}-{label}", std::process::id()))
    }

    /// Makes one of exactly this name.
    pub fn named(name: String) -> Self {
        let netns = Self { name };
        ip(&["netns", "add", &netns.name]);
        netns.run("ip", &["link", "set", "lo", "up"]);
        // Some machines turn it off for what comes later.
        netns.inside(|| {
            for which in ["all", "default", "lo"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "0").unwrap();
            }
        });
        netns
    }

    /// Joins two by a cable whose ends have these addresses (`10.0.0.1/24`, `fd00::1/64`).
    pub fn link(&self, addresses: &[&str], other: &Self, others: &[&str]) {
        let (here, there) = (self.next_device(), other.next_device());
        let peer = ["peer", "name", &there, "netns", &other.name];
        ip(&[&["link", "add", &here, "netns", &self.name, "type", "veth"], &peer[..]].concat());
        self.set_up(&here, addresses);
        other.set_up(&there, others);
    }

    /// Joins hosts by a switch: this namespace is the switch, and each host gets a device with these addresses.
    pub fn switch(&self, hosts: &[(&Self, &[&str])]) {
        self.run("ip", &["link", "add", "switch", "type", "bridge"]);
        self.run("ip", &["link", "set", "switch", "up"]);
        for (host, addresses) in hosts {
            let port = self.next_device();
            self.link(&[], host, addresses);
            self.run("ip", &["link", "set", &port, "master", "switch"]);
        }
    }

    /// Joins this one and the one that the test runs in by a cable, whose end there is called `device`: nobody else is on
    /// it, and `other` is where everything goes.
    pub fn link_to_here(&self, address: &str, device: &str, other: &str) {
        ip(&["link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", &self.name]);
        ip(&["address", "add", other, "peer", address, "dev", device]);
        ip(&["link", "set", device, "up"]);
        self.run("ip", &["address", "add", address, "peer", other, "dev", "eth0"]);
        self.run("ip", &["link", "set", "eth0", "up"]);
        self.route_by(other);
    }

    /// Sends what is for nobody here to the host with this address.
    pub fn route_by(&self, address: &str) {
        let family = if address.contains(':') { "-6" } else { "-4" };
        self.run("ip", &[family, "route", "add", "default", "via", address]);
    }

    fn set_up(&self, device: &str, addresses: &[&str]) {
        self.run("ip", &["link", "set", device, "up"]);
        for address in addresses {
            // Without `nodad` an address of IPv6 could not be used for a second or two.
            let further: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            self.run("ip", &[&["address", "add", address, "dev", device], further].concat());
        }
    }

    /// A name for one more device.
    fn next_device(&self) -> String {
        let devices = self.run("ip", &["-o", "link"]);
        format!("eth{}", devices.lines().filter(|line| line.contains(" eth")).count())
    }

    /// Does `work` in this namespace, on a thread of its own: sockets that are opened and processes that are started by
    /// it are in here.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.name, work)
    }

    /// Lets `command` start in here. It gets a mount namespace of its own, too.
    pub fn entering(&self, command: &Command) -> Command {
        let mut entering = Command::new("ip");
        entering.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        entering
    }

    /// What a program that is run in here wrote to standard output; fails the test if it fails.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.end_of(Command::new(program).args(arguments));
        assert_eq!(output.code, 0, "{program} {}: {}", arguments.join(" "), output.stderr);
        output.stdout
    }

    /// Runs `sidetrack` with `arguments` in here.
    pub fn sidetrack(&self, arguments: &[&str]) -> Output {
        self.end_of(Command::new(binary()).args(arguments).env_remove("SIDETRACK_LOG"))
    }

    /// Runs a command in here and waits for its end.
    pub fn end_of(&self, command: &mut Command) -> Output {
        let output = self.inside(|| command.stdin(Stdio::null()).output().unwrap());
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A test that has failed already must not end the process by a second panic.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// As [`Netns::inside`], for whoever knows nothing but its name.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let enter = || {
            let door = File::open(format!("{NAMES}/{name}")).unwrap();
            move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {} (this test wants root): {said}", arguments.join(" "));
}
