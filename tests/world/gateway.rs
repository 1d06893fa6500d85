//! `sidetrack gateway` as a process: started, listened to, stopped.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::call::{Call, get};
use crate::client::Conn;
use crate::command::{Output, binary};
use crate::metrics::Metrics;
use crate::raw::Raw;
use crate::reply::Reply;
use crate::wait::{eventually, within};

type Lines = Arc<Mutex<Vec<String>>>;

/// A running gateway. It is killed with its value.
pub struct Gateway {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself, which is what some tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the gateway said ---\n{}", self.stderr.lock().unwrap().join("\n"));
        }
    }
}

impl Gateway {
    /// Starts one with the configuration `file`, and waits until it serves.
    pub async fn start(file: &Path) -> Self {
        Self::start_in(file.parent().unwrap(), file).await
    }

    /// The same, from a working directory that `file` may be relative to.
    pub async fn start_in(folder: &Path, file: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["gateway", "-c"])
            .arg(file)
            .current_dir(folder)
            .env_remove("SIDETRACK_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self { child, stdout, stderr, listeners: Vec::new(), admin: nowhere };
        eventually("the gateway says that it is ready", async || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway ended with {status}");
            }
            gateway.stderr().iter().any(|line| line.contains("ready generation="))
        })
        .await;
        for line in gateway.stderr() {
            let Some((before, address)) = line.split_once("listening address=") else { continue };
            let address = address.split_whitespace().next().unwrap().parse().unwrap();
            match before.trim_end().ends_with("admin") {
                true => gateway.admin = address,
                false => gateway.listeners.push(address),
            }
        }
        assert!(!gateway.listeners.is_empty() && gateway.admin != nowhere, "{:?}", gateway.stderr());
        gateway
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// What it said on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// A new HTTP/1.1 connection to the first listener.
    pub async fn http1(&self) -> Conn {
        Conn::http1(self.address()).await.unwrap()
    }

    /// A new HTTP/2 connection to the first listener.
    pub async fn http2(&self) -> Conn {
        Conn::http2(self.address()).await.unwrap()
    }

    /// A new connection to the first listener for exact bytes.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address()).await
    }

    /// Sends on an HTTP/1.1 connection of its own.
    pub async fn send(&self, call: Call) -> Reply {
        self.http1().await.send(call).await
    }

    /// Sends to the admin listener.
    pub async fn ask(&self, call: Call) -> Reply {
        Conn::http1(self.admin).await.unwrap().send(call).await
    }

    /// `GET path` of the admin listener.
    pub async fn admin(&self, path: &str) -> Reply {
        self.ask(get(&self.admin.to_string(), path)).await
    }

    /// The metrics of this moment.
    pub async fn metrics(&self) -> Metrics {
        let reply = self.admin("/metrics").await;
        assert_eq!(reply.status, 200);
        Metrics::read(reply.text())
    }

    /// The generation of the table in force.
    pub async fn generation(&self) -> f64 {
        self.metrics().await.sum("sidetrack_generation", &[])
    }

    /// Waits until a table later than `generation` is in force.
    pub async fn reloaded(&self, generation: f64) {
        eventually("a later table is in force", async || self.generation().await > generation).await;
    }

    /// Runs a command against the admin listener of this gateway.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let admin = self.admin.to_string();
        let arguments = [arguments, &["--admin", &admin]].concat();
        crate::command::run(&std::env::temp_dir(), &arguments).await
    }

    /// What `explain --json` says of a URL with these header lines.
    pub async fn explain(&self, url: &str, headers: &[&str]) -> serde_json::Value {
        let mut arguments = vec!["explain", url, "--json"];
        arguments.extend(headers.iter().flat_map(|&line| ["-H", line]));
        let output = self.command(&arguments).await;
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The bytes of memory that it has resident.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Waits until it refuses new connections.
    pub async fn refuses(&self) {
        let address = self.address();
        eventually("new connections are refused", async || {
            within("an answer to a connect", tokio::net::TcpStream::connect(address)).await.is_err()
        })
        .await;
    }
}

/// Collects the lines of a stream, colours taken out, until it ends.
fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let pen = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            pen.lock().unwrap().push(plain(&line));
        }
    });
    lines
}

/// A line without ANSI escapes.
fn plain(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}
