//! Namespaces for the whole test program: it starts itself again inside of them.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// Set inside.
const INSIDE: &str = "SIDETRACK_TEST_SANDBOX";

/// Enters the namespaces, or fails the program. Nothing may have been started before.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        // The whole network is this machine's own, as 127.0.0.0/8 is: every address in it can be listened on.
        for arguments in ["link set lo up", "addr add 10.99.0.1/16 dev lo"] {
            let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip of iproute2");
            assert!(status.success(), "ip {arguments}");
        }
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

/// An address of this world that nobody else was given.
pub fn address() -> Ipv4Addr {
    // 10.99.0.x is kept for what has a fixed place.
    static NEXT: AtomicU16 = AtomicU16::new(256);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(10, 99, high, low)
}
