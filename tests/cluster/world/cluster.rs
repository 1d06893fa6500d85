//! One API server with all that belongs to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use sidetrack_tests::{Conn, eventually, post};
use tempfile::TempDir;

use crate::api::Kube;
use crate::kubelet::Kubelet;

/// How long an API server may take to start: several do so at once. As in start.sh.
const API_PATIENCE: Duration = Duration::from_secs(240);

/// A running API server with etcd and, by default, the controller manager and a node. All of it ends with its value.
pub struct Cluster {
    folder: TempDir,
    port: u16,
    /// The API server, once it was started again.
    again: Mutex<Option<Child>>,
    /// Its only node, where there are pods.
    kubelet: Option<Kubelet>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kubelet = None;
        if let Some(mut child) = self.again.lock().unwrap().take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = script("stop.sh").arg(self.state()).status();
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::start()
    }
}

impl Cluster {
    /// Starts one with the controller manager and a node: 10 s.
    pub fn start() -> Self {
        Self::launch(true)
    }

    /// Starts one in which nobody makes Pods or EndpointSlices: 5 s.
    pub fn bare() -> Self {
        Self::launch(false)
    }

    fn launch(controller_manager: bool) -> Self {
        // In a network of our own every port is free.
        static NEXT: AtomicU16 = AtomicU16::new(16_440);
        let port = NEXT.fetch_add(10, Ordering::Relaxed);
        let folder = TempDir::new().unwrap();
        let mut cluster = Self { folder, port, again: Mutex::default(), kubelet: None };
        let mut start = script("start.sh");
        start.arg(cluster.state()).arg(port.to_string()).env("KUBE_BIN", binaries()).stdout(Stdio::null());
        if controller_manager {
            start.env("KCM", "1");
        }
        let status = start.status().unwrap();
        assert!(status.success(), "start.sh: {status}");
        cluster.kubelet = controller_manager.then(|| {
            let domain = format!("{}.{}.svc", crate::install::NAMESPACE, cluster.name());
            Kubelet::start(cluster.kubeconfig(), cluster.folder().to_owned(), domain)
        });
        cluster
    }

    /// What administers it may do anything.
    pub async fn admin(&self) -> Kube {
        Kube::of(&self.kubeconfig()).await
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state().join("kubeconfig")
    }

    /// Writes a kubeconfig for somebody with `token` and returns its path.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": self.state().join("ca.crt"),
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "u"}}],
        });
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// A name that no other cluster of this process has.
    pub fn name(&self) -> String {
        format!("c{}", self.port)
    }

    /// A folder that lives as long as the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs kubectl as the administrator; what it said on both streams, and whether it succeeded.
    pub fn kubectl(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(binaries().join("kubectl"));
        let output = command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Kills the API server; etcd keeps what it knew.
    pub async fn kill_api(&self) {
        let pid = match &mut *self.again.lock().unwrap() {
            Some(child) => {
                child.kill().unwrap();
                child.wait().unwrap();
                return;
            }
            None => self.pid(1),
        };
        kill_process(pid, Signal::KILL).unwrap();
        eventually("the API server has ended", async || test_kill_process(pid).is_err() || is_zombie(pid))
            .await;
    }

    /// Starts it again and waits until it answers, for as long as `start.sh` does: beside other clusters that begin, an
    /// API server takes longer than anything else here. One that ends is started anew, as a kubelet does.
    pub async fn restart_api(&self) {
        let start =
            || Command::new(self.state().join("run-kube-apiserver")).stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + API_PATIENCE;
        let mut child = start();
        while !self.answers().await {
            assert!(
                Instant::now() < deadline,
                "waited {API_PATIENCE:?} in vain until the API server answers"
            );
            if child.try_wait().unwrap().is_some() {
                child = start();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        *self.again.lock().unwrap() = Some(child);
    }

    /// Asks once, and not for long: one that has only just begun may take a connection and say nothing on it.
    async fn answers(&self) -> bool {
        let ask = async || match Kube::try_of(&self.kubeconfig()).await {
            Some(kube) => kube.is_ready().await,
            None => false,
        };
        tokio::time::timeout(Duration::from_secs(3), ask()).await.unwrap_or(false)
    }

    /// Makes etcd forget every revision before now: whoever watches from an older one hears 410 Gone.
    pub async fn compact(&self) {
        let mut etcd = Conn::http1(([127, 0, 0, 1], self.port + 1).into()).await.unwrap();
        let call = |path: &str, body: serde_json::Value| post("etcd", path, body.to_string());
        let reply = etcd.send(call("/v3/kv/range", json!({"key": "YQ=="}))).await;
        let revision = reply.json()["header"]["revision"].clone();
        let reply =
            etcd.send(call("/v3/kv/compaction", json!({"revision": revision, "physical": true}))).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("kube")
    }

    /// The process on line `index` of what start.sh started: etcd, API server, controller manager.
    fn pid(&self, index: usize) -> Pid {
        let pids = fs::read_to_string(self.state().join("pids")).unwrap();
        Pid::from_raw(pids.lines().nth(index).unwrap().parse().unwrap()).unwrap()
    }
}

/// Whether a process has ended and its parent, the first of the namespace, has not asked for it.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("kube").join(name))
}

/// The folder that `tests/run` had install.sh fill: in the cache, named after the hash of the script.
fn binaries() -> PathBuf {
    installed("kube")
}

/// The folder of the cache in which `tests/run` installed `what`.
pub fn installed(what: &str) -> PathBuf {
    let output = script("where.sh").arg(what).output().unwrap();
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let path = folder.display();
    assert!(folder.join(".done").exists(), "no {what} in {path}: `tests/run cluster` installs it, once");
    folder
}
