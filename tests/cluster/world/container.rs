//! A container of a pod that really runs: the process that its spec says, in the pod's network, as the user, with the
//! capabilities, the environment and the files that the spec says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sidetrack_tests::{Netns, Process, binary};

use crate::api::Kube;
use crate::probe::Probe;

/// Who a container is where neither its spec nor its image says: nobody in particular.
const USER: u64 = 65532;
/// Where its program is, as an image would have it.
const PROGRAM: &str = "/run/image/program";

/// Puts files where the container expects them, shuts its root where the spec says so, and becomes the program.
const START: &str = r#"set -e
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}"; touch "$2"; fi
    mount --bind "$1" "$2"
    mount -o "remount,bind,$3" "$2"
    shift 3
done
shift
if [ "$0" = closed ]; then
    mount -o remount,bind,ro /
    mount -t tmpfs -o ro tmpfs /tmp
fi
exec "$@"
"#;

/// What a container is given by its pod.
pub(crate) struct Around<'a> {
    /// The pod, as the API server has it.
    pub(crate) pod: &'a Value,
    /// Its address.
    pub(crate) ip: &'a str,
    /// Its network.
    pub(crate) netns: &'a Netns,
    /// Where its volumes are, by their names.
    pub(crate) folder: &'a Path,
}

/// One that runs, again and again.
pub(crate) struct Container {
    spec: Value,
    process: Process,
    restarts: u32,
    ready: Option<Probe>,
    alive: Option<Probe>,
}

/// The program of an image; `None`: nothing that runs here.
pub(crate) fn program(image: &str) -> Option<PathBuf> {
    let name = image.rsplit('/').next()?.split(':').next()?;
    let built = |name| Some(binary().with_file_name(name));
    match name {
        "sidetrack" | "sidetrack-init" => built("sidetrack"),
        "sidetrack-chain" => built("sidetrack-chain"),
        _ => None,
    }
}

impl Container {
    pub(crate) fn start(spec: &Value, around: &Around<'_>) -> Self {
        let probe = |name: &str, passes| Probe::of(&spec[name], spec, around.ip, passes);
        Self {
            process: Process::of(command(spec, around), spec["name"].as_str().unwrap()),
            restarts: 0,
            ready: probe("readinessProbe", false),
            alive: probe("livenessProbe", true),
            spec: spec.clone(),
        }
    }

    /// Asks its probes that are due, and starts it again where it has ended, or is not alive. Its state, as the API has it.
    pub(crate) async fn step(&mut self, around: &Around<'_>) -> Value {
        let alive = is_passed(self.alive.as_mut()).await;
        if !alive {
            self.process.kill();
        }
        if self.process.has_ended() {
            let said = self.process.stderr().join("\n");
            eprintln!("container {} of {} has ended (alive: {alive}):\n{said}", self.spec["name"], around.ip);
            let restarts = self.restarts + 1;
            *self = Self { restarts, ..Self::start(&self.spec, around) };
        }
        let ready = is_passed(self.ready.as_mut()).await;
        serde_json::json!({
            "name": self.spec["name"], "image": self.spec["image"], "imageID": self.spec["image"],
            "ready": ready, "restartCount": self.restarts,
        })
    }

    /// Asks it to end, or ends it at once.
    pub(crate) fn end(&mut self, at_once: bool) {
        match (self.process.has_ended(), at_once) {
            (true, _) => {}
            (false, true) => self.process.kill(),
            (false, false) => self.process.terminate(),
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// What it said, for whoever looks for a fault.
    pub(crate) fn tell(&self, ip: &str) {
        let said = self.process.stderr().join("\n");
        eprintln!("--- what container {} of {ip} said ---\n{said}", self.spec["name"]);
    }
}

async fn is_passed(probe: Option<&mut Probe>) -> bool {
    match probe {
        Some(probe) => probe.passes().await,
        None => true,
    }
}

/// Runs one that is to end by itself; what it said where it failed.
pub(crate) fn run(spec: &Value, around: &Around<'_>) -> Result<(), String> {
    let output = command(spec, around).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

fn command(spec: &Value, around: &Around<'_>) -> Command {
    let environment = environment(spec, around);
    let security = &spec["securityContext"];
    let mut start = Command::new("sh");
    let closed = security["readOnlyRootFilesystem"] == true;
    start.args(["-c", START, if closed { "closed" } else { "open" }]);
    start.arg(program(spec["image"].as_str().unwrap()).unwrap()).args([PROGRAM, "ro"]);
    for mount in spec["volumeMounts"].as_array().into_iter().flatten() {
        let volume = around.folder.join(mount["name"].as_str().unwrap());
        // Those of kinds that nobody here reads were not made.
        if volume.exists() {
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            start.arg(volume).args([mount["mountPath"].as_str().unwrap(), mode]);
        }
    }
    start.args(["--", "setpriv"]).args(rights(security)).arg(PROGRAM);
    let arguments = spec["args"].as_array().into_iter().flatten();
    start.args(arguments.map(|argument| expanded(argument.as_str().unwrap(), &environment)));
    let mut command = around.netns.entering(&start);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir("/").envs(environment);
    command
}

/// What `setpriv` makes of a security context.
fn rights(security: &Value) -> Vec<String> {
    let id = |name: &str| security[name].as_u64().unwrap_or(USER);
    let mut rights = vec![
        format!("--reuid={}", id("runAsUser")),
        format!("--regid={}", id("runAsGroup")),
        "--clear-groups".to_owned(),
    ];
    if security["allowPrivilegeEscalation"] == false {
        rights.push("--no-new-privs".to_owned());
    }
    let capabilities = &security["capabilities"];
    if capabilities["drop"][0] == "ALL" {
        let added = capabilities["add"].as_array().into_iter().flatten();
        let added = added.map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase()));
        let these = format!("-all{}", added.collect::<String>());
        rights.extend(["--bounding-set", "--inh-caps"].map(|option| format!("{option}={these}")));
    }
    rights
}

/// The variables of a container, each with its value.
fn environment(spec: &Value, around: &Around<'_>) -> Vec<(String, String)> {
    let value = |entry: &Value| match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some(path) => field(around, path),
        None => entry["value"].as_str().unwrap_or_default().to_owned(),
    };
    let all = spec["env"].as_array().into_iter().flatten();
    all.map(|entry| (entry["name"].as_str().unwrap().to_owned(), value(entry))).collect()
}

/// A field of the pod, by the path that the downward API has for it.
fn field(around: &Around<'_>, path: &str) -> String {
    if path == "status.podIP" {
        return around.ip.to_owned();
    }
    let (list, name) = path.strip_suffix("']").and_then(|path| path.split_once("['")).unwrap_or((path, ""));
    let mut found = list.split('.').fold(around.pod, |value, part| &value[part]);
    if !name.is_empty() {
        found = &found[name];
    }
    found.as_str().unwrap_or_else(|| panic!("the downward API has {path}?")).to_owned()
}

fn expanded(text: &str, environment: &[(String, String)]) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// Makes a volume, where it is of a kind that a sidecar has. `None`: the API server is away.
pub(crate) async fn volume(kube: &Kube, volume: &Value, around: &Around<'_>) -> Option<()> {
    let projected = &volume["projected"];
    let folder = around.folder.join(volume["name"].as_str().unwrap());
    if volume["emptyDir"].is_object() {
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let Some(sources) = projected["sources"].as_array() else { return Some(()) };
    fs::create_dir_all(&folder).unwrap();
    let mode = u32::try_from(projected["defaultMode"].as_u64().unwrap()).unwrap();
    let write = |path: &Value, text: &str| {
        let path = folder.join(path.as_str().unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for source in sources {
        let token = &source["serviceAccountToken"];
        if let Some(audience) = token["audience"].as_str() {
            let account = around.pod["spec"]["serviceAccountName"].as_str().unwrap();
            write(&token["path"], &kube.try_pod_token(around.pod, account, audience).await?);
        }
        for item in source["downwardAPI"]["items"].as_array().into_iter().flatten() {
            write(&item["path"], &field(around, item["fieldRef"]["fieldPath"].as_str().unwrap()));
        }
    }
    Some(())
}
