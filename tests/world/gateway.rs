//! `sidetrack gateway` as a process: started, asked, called.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use crate::call::{Call, get};
use crate::client::Conn;
use crate::command::Output;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::raw::Raw;
use crate::reply::Reply;
use crate::wait::{eventually, within};

/// A running gateway; what a process can do, it can do.
pub struct Gateway {
    process: Process,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Gateway {
    /// Starts one with the configuration `file`, and waits until it serves.
    pub async fn start(file: &Path) -> Self {
        Self::launch(file.parent().unwrap(), file, &[]).await
    }

    /// The same, from a working directory that `file` may be relative to.
    pub async fn start_in(folder: &Path, file: &Path) -> Self {
        Self::launch(folder, file, &[]).await
    }

    /// The same with further arguments.
    pub async fn start_with(file: &Path, arguments: &[&str]) -> Self {
        Self::launch(file.parent().unwrap(), file, arguments).await
    }

    /// The same with so many open files at most.
    pub async fn start_with_descriptors(file: &Path, most: usize) -> Self {
        let arguments = ["gateway", "-c", file.to_str().unwrap()];
        Self::ready(Process::start_with_descriptors(most, &arguments, file.parent().unwrap())).await
    }

    /// Starts one whose files can be limited: see [`Process::limit_files`].
    pub async fn start_limited(file: &Path) -> Self {
        let arguments = ["gateway", "-c", file.to_str().unwrap()];
        Self::ready(Process::start_limited(&arguments, file.parent().unwrap())).await
    }

    /// Starts `sidetrack sidecar` with these arguments and this environment, in `folder`.
    pub async fn sidecar(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let arguments = [&["sidecar"], arguments].concat();
        Self::ready(Process::start(&arguments, folder, environment)).await
    }

    /// The same as this user.
    pub async fn sidecar_as(user: u32, folder: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["sidecar"], arguments].concat();
        Self::ready(Process::start_as(user, &arguments, folder, &[])).await
    }

    /// Starts what a command says, and waits until it serves.
    pub async fn of(command: Command) -> Self {
        Self::ready(Process::of(command, "gateway")).await
    }

    async fn launch(folder: &Path, file: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["gateway", "-c", file.to_str().unwrap()], arguments].concat();
        Self::ready(Process::start(&arguments, folder, &[])).await
    }

    async fn ready(mut process: Process) -> Self {
        process.says("ready generation=").await;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self { process, listeners: Vec::new(), admin: nowhere };
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

    /// Waits until it refuses new connections.
    pub async fn refuses(&self) {
        let address = self.address();
        eventually("new connections are refused", async || {
            within("an answer to a connect", tokio::net::TcpStream::connect(address)).await.is_err()
        })
        .await;
    }
}
