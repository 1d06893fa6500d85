//! A pod, a client and a server: network namespaces at one switch. In the pod listen an app and what stands for the
//! sidecar: whoever connects is told who it met and where it wanted to go, by SO_ORIGINAL_DST.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use sidetrack_tests::{Netns, Output, PATIENCE};
use socket2::{Domain, SockRef, Socket, Type};

pub(super) const POD: [&str; 2] = ["10.77.0.1", "fd77::1"];
const CLIENT: [&str; 2] = ["10.77.0.2", "fd77::2"];
pub(super) const SERVER: [&str; 2] = ["10.77.0.3", "fd77::3"];
/// The user of the sidecar.
pub(super) const SIDECAR: u32 = 65532;

/// A listener that tells everybody who it is and what they asked for, then gives back each line.
pub(super) struct Listener(TcpListener);

impl Drop for Listener {
    fn drop(&mut self) {
        // Ends its thread.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

impl Listener {
    pub(super) fn start(netns: &Netns, who: &'static str, address: SocketAddr) -> Self {
        let listener = netns.inside(|| bound(address));
        let shared = listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in shared.incoming() {
                let Ok(stream) = stream else { return };
                thread::spawn(move || tell(who, &stream));
            }
        });
        Self(listener)
    }
}

/// A socket of one IP version: one for both would see mapped addresses.
fn bound(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

fn tell(who: &str, mut stream: &TcpStream) -> Option<()> {
    let wanted = original(stream);
    writeln!(stream, "{who} {wanted}").ok()?;
    for line in BufReader::new(stream).lines() {
        writeln!(stream, "{}", line.ok()?).ok()?;
    }
    Some(())
}

/// Where the other side of an accepted connection wanted to go.
fn original(stream: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let here = stream.local_addr().unwrap();
    let found = if here.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok().and_then(|address| address.as_socket()).unwrap_or(here)
}

/// A connection that has been told who it met.
pub(super) struct Talk {
    reader: BufReader<TcpStream>,
    pub(super) met: String,
}

impl Talk {
    pub(super) fn open(from: &Netns, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let stream = from.inside(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self { reader: BufReader::new(stream), met: String::new() };
        talk.met = talk.line();
        talk
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a line and has it back: the connection lives.
    pub(super) fn goes_on(&mut self) {
        self.reader.get_mut().write_all(b"still here\n").unwrap();
        assert_eq!(self.line(), "still here");
    }
}

/// The little network.
pub(super) struct Net {
    pub(super) pod: Netns,
    pub(super) client: Netns,
    pub(super) server: Netns,
    _switch: Netns,
    _listeners: Vec<Listener>,
}

impl Net {
    pub(super) fn new() -> Self {
        let [switch, pod, client, server] = ["switch", "pod", "client", "server"].map(Netns::new);
        let address = |[v4, v6]: [&str; 2]| [format!("{v4}/24"), format!("{v6}/64")];
        let ends = [(&pod, POD), (&client, CLIENT), (&server, SERVER)].map(|(host, at)| (host, address(at)));
        let ends = ends.each_ref().map(|(host, [v4, v6])| (*host, [v4.as_str(), v6.as_str()]));
        switch.switch(&ends.each_ref().map(|(host, addresses)| (*host, &addresses[..])));
        SERVER.iter().for_each(|server| pod.route_by(server));
        let mut listeners = Vec::new();
        for any in ["0.0.0.0", "::"] {
            let any: IpAddr = any.parse().unwrap();
            let mut listen = |netns, who, port| {
                listeners.push(Listener::start(netns, who, SocketAddr::new(any, port)));
            };
            listen(&pod, "inbound", 15006);
            listen(&pod, "outbound", 15001);
            listen(&pod, "admin", 15090);
            listen(&pod, "app", 8080);
            listen(&pod, "app", 9090);
            [80, 53, 5432].into_iter().for_each(|port| listen(&server, "server", port));
        }
        Self { pod, client, server, _switch: switch, _listeners: listeners }
    }

    /// Runs `sidetrack init`, which must work.
    #[track_caller]
    pub(super) fn init(&self, arguments: &[&str]) -> Output {
        let output = self.pod.sidetrack(&[&["init"], arguments].concat());
        assert_eq!(output.code, 0, "{}", output.stderr);
        output
    }

    /// Who the app meets at this address.
    pub(super) fn app_meets(&self, to: &str) -> String {
        Talk::open(&self.pod, to).met
    }

    /// Who somebody from elsewhere meets at this address.
    pub(super) fn client_meets(&self, to: &str) -> String {
        Talk::open(&self.client, to).met
    }

    /// Who the sidecar's user meets at this address.
    pub(super) fn sidecar_meets(&self, host: &str, port: u16) -> String {
        let script = format!("exec 3<>/dev/tcp/{host}/{port} && head -n 1 <&3");
        let output = self.pod.end_of(Command::new("bash").args(["-c", &script]).uid(SIDECAR).gid(SIDECAR));
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stdout.trim_end().to_owned()
    }

    /// Every rule of the pod, as both tools tell it; what counters of iptables say is no rule.
    pub(super) fn rules(&self) -> String {
        let saved = ["iptables-save", "ip6tables-save"].map(|tool| self.pod.run(tool, &["-t", "nat"]));
        let lines = saved.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with(['#', ':']));
        let of_nft = self.pod.run("nft", &["-s", "list", "table", "inet", "others"]);
        let tables = self.pod.run("nft", &["list", "tables"]);
        let sidetrack =
            self.pod.end_of(Command::new("nft").args(["-s", "list", "table", "inet", "sidetrack"])).stdout;
        format!("{of_nft}{tables}{sidetrack}{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// Makes rules that are not ours, with both tools.
    pub(super) fn rules_of_others(&self) {
        let table = "table inet others { chain c { type nat hook output priority 0; tcp dport 7777 redirect to :7778; }; }";
        self.pod.run("nft", &[table]);
        for tool in ["iptables", "ip6tables"] {
            self.pod.run(tool, &["-t", "nat", "-N", "OTHERS"]);
            self.pod
                .run(tool, &["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "7779", "-j", "OTHERS"]);
        }
    }
}
