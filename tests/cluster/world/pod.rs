//! A pod that really runs, as its spec says that the API server gives: its own network, its volumes, its init containers
//! one after the other, then its containers. Such are those all of whose images are programs of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidetrack_tests::Netns;

use crate::api::Kube;
use crate::container::{Around, Container, program, run, volume};
use crate::net::Net;

/// One that runs. Its containers end before its network does.
pub(crate) struct Pod {
    pod: Value,
    containers: Vec<Container>,
    folder: PathBuf,
    ip: String,
    netns: Netns,
    ending: Option<Instant>,
    /// What was said of it last.
    said: Value,
}

/// Whether a pod is one.
pub(crate) fn is_real(pod: &Value) -> bool {
    containers(pod, "initContainers")
        .chain(containers(pod, "containers"))
        .all(|container| program(container["image"].as_str().unwrap()).is_some())
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

impl Pod {
    /// Gives it a network and its volumes, below `folder`. `None`: the API server is away.
    pub(crate) async fn new(kube: &Kube, pod: &Value, folder: &Path, net: &mut Net) -> Option<Self> {
        let (ip, netns) = net.add();
        let folder = folder.join(format!("pod-{ip}"));
        fs::create_dir_all(&folder).unwrap();
        let made = Self {
            pod: pod.clone(),
            containers: Vec::new(),
            folder,
            ip: ip.to_string(),
            netns,
            ending: None,
            said: Value::Null,
        };
        for each in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            volume(kube, each, &made.around()).await?;
        }
        Some(made)
    }

    /// Runs its init containers, and starts the others.
    pub(crate) fn start(&mut self) {
        for init in containers(&self.pod, "initContainers") {
            if let Err(why) = run(init, &self.around()) {
                // It stays as it is, not ready, and whoever waits for it reads this.
                return eprintln!("init container {} of {}: {why}", init["name"], self.ip);
            }
        }
        let start = |spec| Container::start(spec, &self.around());
        self.containers = containers(&self.pod, "containers").map(start).collect();
    }

    fn around(&self) -> Around<'_> {
        Around { pod: &self.pod, ip: &self.ip, netns: &self.netns, folder: &self.folder }
    }

    /// Looks after its containers; its status, where that is another one now.
    pub(crate) async fn step(&mut self) -> Option<Value> {
        let around = Around { pod: &self.pod, ip: &self.ip, netns: &self.netns, folder: &self.folder };
        let mut states = Vec::new();
        for container in &mut self.containers {
            states.push(container.step(&around).await);
        }
        let ready = !states.is_empty() && states.iter().all(|state| state["ready"] == true);
        let word = if ready { "True" } else { "False" };
        let status = json!({
            "phase": if states.is_empty() { "Pending" } else { "Running" },
            "podIP": self.ip, "podIPs": [{"ip": self.ip}], "containerStatuses": states,
            "conditions": [{"type": "Ready", "status": word}, {"type": "ContainersReady", "status": word}],
        });
        (status != self.said).then_some(status)
    }

    /// This was said of it.
    pub(crate) fn said(&mut self, status: Value) {
        self.said = status;
    }

    /// Lets its containers end; says whether they have.
    pub(crate) fn end(&mut self) -> bool {
        let grace = self.pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or_default();
        match self.ending {
            None => {
                self.ending = Some(Instant::now());
                self.containers.iter_mut().for_each(|container| container.end(false));
            }
            Some(since) if since.elapsed() > Duration::from_secs(grace) => {
                self.containers.iter_mut().for_each(|container| container.end(true));
            }
            Some(_) => {}
        }
        self.containers.iter_mut().all(Container::has_ended)
    }

    /// What its containers said.
    pub(crate) fn tell(&self) {
        self.containers.iter().for_each(|container| container.tell(&self.ip));
    }
}
