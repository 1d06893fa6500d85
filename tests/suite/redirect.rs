//! `sidetrack init`: what comes in and what goes out comes by the sidecar, and nothing else does.

mod net;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use sidetrack_tests::{Netns, PATIENCE, binary};

use self::net::{Listener, Net, POD, SERVER, SIDECAR, Talk};

/// Addresses that nobody has, as those of Services.
const CLUSTER: [&str; 2] = ["10.96.0.10", "fd96::10"];
const BACKENDS: [&str; 2] = ["nft", "iptables"];

/// An address and a port, as a person writes them.
fn at(host: &str, port: u16) -> String {
    SocketAddr::new(host.parse().unwrap(), port).to_string()
}

/// Shows it with both tools and both IP versions, by the address of the pod, of the server and of a Service.
fn with_each(show: impl Fn(&Net, &str, [&str; 3])) {
    for backend in BACKENDS {
        let net = Net::new();
        for version in [0, 1] {
            show(&net, backend, [POD[version], SERVER[version], CLUSTER[version]]);
        }
    }
}

#[test]
fn what_comes_in_and_what_goes_out_comes_by_the_sidecar() {
    with_each(|net, backend, [pod, server, cluster]| {
        net.init(&["--mode", backend]);
        let to_pod = at(pod, 8080);
        assert_eq!(net.client_meets(&to_pod), format!("inbound {to_pod}"), "{backend}");
        // The address of a Service is still to be seen, also where the pod itself is behind it.
        for to in [at(server, 80), at(server, 5432), at(cluster, 80), to_pod] {
            assert_eq!(net.app_meets(&to), format!("outbound {to}"), "{backend}");
        }
    });
}

#[test]
fn calls_of_the_sidecar_and_within_the_pod_are_left_alone() {
    with_each(|net, backend, [pod, server, _]| {
        net.init(&["--mode", backend]);
        let itself = if pod.contains(':') { "::1" } else { "127.0.0.1" };
        assert_eq!(net.sidecar_meets(server, 80), format!("server {}", at(server, 80)), "{backend}");
        for host in [pod, itself] {
            assert_eq!(net.sidecar_meets(host, 8080), format!("app {}", at(host, 8080)), "{backend}");
        }
        let to = at(itself, 8080);
        assert_eq!(net.app_meets(&to), format!("app {to}"), "{backend}");
        let probe = at(pod, 15090);
        assert_eq!(net.client_meets(&probe), format!("admin {probe}"), "{backend}");
    });
}

#[test]
fn excluded_ports_and_networks_are_left_alone() {
    with_each(|net, backend, [pod, server, _]| {
        net.init(&["--mode", backend, "--exclude-inbound", "9090", "--exclude-outbound", "5432,6379"]);
        let to = at(pod, 9090);
        assert_eq!(net.client_meets(&to), format!("app {to}"), "{backend}");
        assert!(net.client_meets(&at(pod, 8080)).starts_with("inbound "), "{backend}");
        // DNS over TCP is one without being told.
        for to in [at(server, 5432), at(server, 53)] {
            assert_eq!(net.app_meets(&to), format!("server {to}"), "{backend}");
        }
        assert!(net.app_meets(&at(server, 80)).starts_with("outbound "), "{backend}");

        let wide = if server.contains(':') { "fd77::/64" } else { "10.77.0.0/16" };
        net.init(&[
            "--mode",
            backend,
            "--exclude-cidr",
            &format!("{wide},{server}/{}", if server.contains(':') { 128 } else { 32 }),
        ]);
        let to = at(server, 80);
        assert_eq!(net.app_meets(&to), format!("server {to}"), "{backend}");

        net.init(&["--mode", backend, "--include-inbound", "9090"]);
        assert!(net.client_meets(&at(pod, 9090)).starts_with("inbound "), "{backend}");
        let to = at(pod, 8080);
        assert_eq!(net.client_meets(&to), format!("app {to}"), "{backend}");
    });
}

/// A probe that only connects would find a sidecar well that has no app behind it.
#[test]
fn a_port_at_which_nobody_listens_refuses() {
    with_each(|net, backend, [pod, server, _]| {
        net.init(&["--mode", backend]);
        for to in [at(pod, 7000), at(pod, 15002)] {
            let refused = net.client.inside(|| TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{backend}");
        }
        // The port of an app that listens at one address only is found there.
        let listener = Listener::start(&net.pod, "app", SocketAddr::new(pod.parse().unwrap(), 7001));
        let to = at(pod, 7001);
        assert_eq!(net.client_meets(&to), format!("inbound {to}"), "{backend}");
        drop(listener);
        // What the app calls is the sidecar's to refuse: it may know another place.
        assert!(net.app_meets(&at(server, 7000)).starts_with("outbound "), "{backend}");
    });
}

#[test]
fn datagrams_are_left_alone() {
    with_each(|net, backend, [pod, server, _]| {
        net.init(&["--mode", backend]);
        let listen = |netns: &Netns, host: &str| {
            let host = host.to_owned();
            let socket = netns.inside(|| UdpSocket::bind((host.as_str(), 0))).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (name_server, app) = (listen(&net.server, server), listen(&net.pod, pod));
        app.send_to(b"who", name_server.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 3];
        let (_, from) = name_server.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes, from), (b"who", app.local_addr().unwrap()), "{backend}");
    });
}

#[test]
fn a_second_run_changes_nothing_and_no_connection_is_cut() {
    for backend in BACKENDS {
        let net = Net::new();
        let talks = || {
            POD.iter().zip(SERVER).flat_map(|(pod, server)| {
                [Talk::open(&net.client, &at(pod, 8080)), Talk::open(&net.pod, &at(server, 80))]
            })
        };
        // As old as can be: without any rule the kernel does not even keep track of connections.
        let mut older: Vec<Talk> = talks().collect();
        net.rules_of_others();
        assert_eq!(older[0].met, format!("app {}", at(POD[0], 8080)));
        net.init(&["--mode", backend]);
        let rules = net.rules();
        let mut redirected: Vec<Talk> = talks().collect();
        assert_eq!(redirected[0].met, format!("inbound {}", at(POD[0], 8080)));
        net.init(&["--mode", backend]);
        assert_eq!(net.rules(), rules, "{backend}");
        older.iter_mut().chain(&mut redirected).for_each(Talk::goes_on);
    }
}

#[test]
fn nothing_is_left_and_nothing_of_others_is_touched() {
    for backend in BACKENDS {
        let net = Net::new();
        net.rules_of_others();
        let before = net.rules();
        assert!(before.contains("OTHERS") && before.contains("7778"), "{before}");
        net.init(&["--mode", backend]);
        let during = net.rules();
        assert!(during.contains("15006") && during.contains("OTHERS") && during.contains("7778"), "{during}");
        net.init(&["--remove"]);
        assert_eq!(net.rules(), before, "{backend}");
        let to = at(POD[0], 8080);
        assert_eq!(net.client_meets(&to), format!("app {to}"), "{backend}");
        // There is nothing to remove any more, which is no failure.
        net.init(&["--remove"]);
        assert_eq!(net.rules(), before, "{backend}");
    }
}

#[test]
fn iptables_is_used_where_nft_is_not_there() {
    let net = Net::new();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        net.pod.end_of(command.arg("init").args(arguments).env("PATH", folder.path()))
    };
    let output = run(&[]);
    assert_eq!(output.code, 69, "{}", output.stderr);
    assert!(
        output.stderr.contains("nft is not here") && output.stderr.contains("image"),
        "{}",
        output.stderr
    );
    let found = net.pod.run("sh", &["-c", "command -v iptables"]);
    for tool in ["iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"] {
        let real = Path::new(found.trim()).with_file_name(tool);
        symlink(std::fs::canonicalize(real).unwrap(), folder.path().join(tool)).unwrap();
    }
    let output = run(&[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("iptables is used instead"), "{}", output.stderr);
    for pod in POD {
        assert!(net.client_meets(&at(pod, 8080)).starts_with("inbound "));
    }
    assert_eq!(run(&["--mode", "nft"]).code, 69);
}

#[test]
fn without_the_right_it_says_what_to_do() {
    let net = Net::new();
    let before = net.pod.run("nft", &["list", "ruleset"]);
    let mut command = Command::new(binary());
    let output = net.pod.end_of(command.arg("init").uid(SIDECAR).gid(SIDECAR));
    assert_eq!(output.code, 77, "{}", output.stderr);
    for words in ["CAP_NET_ADMIN", "securityContext", "inject-mode: ports"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    assert_eq!(net.pod.run("nft", &["list", "ruleset"]), before);
}

#[test]
fn printing_changes_nothing() {
    let net = Net::new();
    let before = net.pod.run("nft", &["list", "ruleset"]);
    let output = net.init(&["--print", "--exclude-inbound", "9090"]);
    assert!(output.stdout.contains("tcp dport { 9090, 15001, 15006, 15090 } return"), "{}", output.stdout);
    assert!(net.init(&["--print", "--mode", "iptables"]).stdout.contains("-A SIDETRACK_INBOUND"));
    assert_eq!(net.pod.run("nft", &["list", "ruleset"]), before);
}
