//! A pod of a waypoint: the real proxy, with the arguments, the configuration and the account that its Deployment says, on
//! the pod's address. It is ready when it says so itself.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidetrack_tests::{Conn, Process, get};

use crate::api::Kube;

/// How long a pod that is to end goes on as before, which is the `preStop` that Kubernetes 1.20 does not know yet.
const FAREWELL: Duration = Duration::from_secs(1);

/// One that runs.
pub(crate) struct Waypoint {
    process: Process,
    admin: SocketAddr,
    ending: Option<Instant>,
}

/// Whether a pod is one.
pub(crate) fn is_waypoint(pod: &Value) -> bool {
    pod["metadata"]["labels"]["sidetrack.dev/waypoint"] == "true"
}

impl Waypoint {
    /// Starts it below `folder`; `domain` stands for where the release is reached. `None`: the pod has gone meanwhile,
    /// or the API server is away.
    pub(crate) async fn start(
        kube: &Kube,
        pod: &Value,
        ip: IpAddr,
        folder: &Path,
        domain: &str,
    ) -> Option<Self> {
        let text = |name: &str| pod["metadata"][name].as_str().unwrap();
        let (namespace, name) = (text("namespace"), text("name"));
        let folder = folder.join(format!("waypoint-{}", text("uid")));
        let map = kube.try_get("ConfigMap", namespace, "sidetrack-waypoint").await?;
        let token = kube.try_pod_token(pod, "sidetrack-waypoint", "sidetrack-controller").await?;
        let admin = SocketAddr::new(ip, 9901);
        let config = map["data"]["sidetrack.yaml"].as_str().unwrap();
        let config = config
            .replace("0.0.0.0:9901", &admin.to_string())
            .replace("/var/lib/sidetrack", folder.join("state").to_str().unwrap());
        // Here every pod has the same network: its ports are opened on its own address.
        let listeners = json!([{"address": SocketAddr::new(ip, 15_199)}]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("sidetrack.yaml"), format!("{config}\nlisteners: {listeners}\n")).unwrap();
        fs::write(folder.join("ca.crt"), map["data"]["ca.crt"].as_str().unwrap()).unwrap();
        fs::write(folder.join("token"), token).unwrap();
        let put = |argument: &Value| {
            let argument =
                argument.as_str().unwrap().replace("$(POD_NAME)", name).replace("sidetrack.svc", domain);
            ["/etc/sidetrack", "/var/run/sidetrack"]
                .iter()
                .fold(argument, |argument, path| argument.replace(path, folder.to_str().unwrap()))
        };
        let arguments: Vec<String> =
            pod["spec"]["containers"][0]["args"].as_array().unwrap().iter().map(put).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Some(Self { process: Process::start(&arguments, &folder, &[]), admin, ending: None })
    }

    /// What its readiness probe says.
    pub(crate) async fn is_ready(&self) -> bool {
        let Ok(mut conn) = Conn::http1(self.admin).await else { return false };
        conn.try_send(get("waypoint", "/readyz")).await.is_ok_and(|reply| reply.status == 200)
    }

    /// Lets it end; says whether it has.
    pub(crate) fn end(&mut self) -> bool {
        let since = *self.ending.get_or_insert_with(Instant::now);
        if since.elapsed() < FAREWELL {
            return false;
        }
        if self.process.has_ended() {
            return true;
        }
        self.process.terminate();
        false
    }
}
