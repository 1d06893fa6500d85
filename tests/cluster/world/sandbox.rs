//! Namespaces for the whole test program: it starts itself again inside of them.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where names are.
const HOSTS: &str = "/etc/hosts";
/// Set inside.
const INSIDE: &str = "SIDETRACK_TEST_SANDBOX";

/// Enters the namespaces, or fails the program. Nothing may have been started before.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        // The whole network is this machine's own, as 127.0.0.0/8 is: every address in it can be listened on.
        sh("ip link set lo up && ip addr add 10.99.0.1/16 dev lo");
        // What is kept for the time that a machine is up is ours: names of network namespaces, files of pods.
        sh("mount -t tmpfs tmpfs /run");
        // Names are ours too, and nobody outside sees them.
        sh(
            "hosts=$(mktemp) && echo '127.0.0.1 localhost' >$hosts && chmod 644 $hosts && mount --bind $hosts /etc/hosts && rm $hosts",
        );
        return;
    }
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    // With the first process of a process namespace every other one in it ends, whatever ended the first.
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    let error = command
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    panic!("unshare of util-linux does not start: {error}");
}

fn sh(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// An address of this world that nobody else was given.
pub fn address() -> Ipv4Addr {
    // 10.99.0.x is kept for what has a fixed place.
    static NEXT: AtomicU16 = AtomicU16::new(256);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(10, 99, high, low)
}

/// Lets `host` mean these addresses, for every process in here.
pub fn name(host: &str, addresses: &[Ipv4Addr]) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap();
    let known = std::fs::read_to_string(HOSTS).unwrap();
    let mut lines: Vec<String> =
        known.lines().filter(|line| !line.ends_with(&format!(" {host}"))).map(str::to_owned).collect();
    lines.extend(addresses.iter().map(|address| format!("{address} {host}")));
    let text = lines.join("\n") + "\n";
    // In place: the file is mounted by itself. It is never empty, for whoever reads it at this moment.
    let mut file = OpenOptions::new().write(true).open(HOSTS).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_len(text.len() as u64).unwrap();
}
