//! A cluster to make up in a test: what people apply, and what Kubernetes makes of it (pods, EndpointSlices, clones).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::names::{CLONE_HASH, FORK_OF, INGRESS_CLASS, PR};
use crate::plan::labels::is_subset;
use crate::plan::{Plan, Settings, plan};
use crate::preview::{CloneSpec, ForkSpec, PreviewSpec};
use crate::world::{
    Ingress, Labels, Meta, Name, Namespace, Pod, Preview, Service, ServicePort, Slice, SliceEndpoint,
    TargetPort, Workload, WorkloadKind, World,
};

/// Seconds since the epoch at which every test's plan is made.
pub(super) const NOW: i64 = 1_000_000;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        domains: vec!["preview.example.com".into()],
        url_scheme: "https".into(),
        url_port: None,
        host_prefix: "pr-".into(),
        http_ports: vec![80],
        https_ports: vec![443],
        addresses: Vec::new(),
        warn_before: Duration::from_secs(3600),
        waypoints: None,
        sidecars: true,
    }
}

pub(super) fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// The labels of a pod of the fork of `service` for `key`, called after both.
pub(super) fn fork_labels(key: &str, service: &str) -> Labels {
    let app = format!("{service}-{}", key.to_ascii_lowercase());
    labels([(PR, key), (FORK_OF, service), ("app", &app)])
}

/// What people have applied, and what came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) world: World,
    /// Pods that carry no key: the world does not hold them.
    plain: Vec<(Name, Labels, IpAddr)>,
    count: u32,
}

impl Cluster {
    fn meta(&mut self, created: i64) -> Meta {
        self.count += 1;
        let uid = format!("uid-{}", self.count).into();
        Meta { uid, created: at(created), generation: 1, ..Meta::default() }
    }

    fn address(&mut self) -> IpAddr {
        self.count += 1;
        let [_, a, b, c] = self.count.to_be_bytes();
        Ipv4Addr::new(10, a, b, c).into()
    }

    pub(super) fn namespace(&mut self, name: &str, annotations: Labels) {
        let meta = Meta { annotations, ..self.meta(0) };
        self.world.namespaces.insert(Name::new("", name), Arc::new(Namespace { meta }));
    }

    /// A Service with one port, 80 to 8080.
    pub(super) fn service(&mut self, namespace: &str, name: &str, selector: Labels) -> &mut Service {
        let meta = self.meta(0);
        let port = ServicePort {
            port: 80,
            target: TargetPort::Number(8080),
            is_tcp: true,
            ..ServicePort::default()
        };
        let service = Service { meta, ports: vec![port], selector, ..Service::default() };
        let name = Name::new(namespace, name);
        self.world.services.insert(name.clone(), Arc::new(service));
        self.edit_service(&name)
    }

    pub(super) fn edit_service(&mut self, name: &Name) -> &mut Service {
        Arc::make_mut(self.world.services.get_mut(name).unwrap())
    }

    /// A Deployment with one ready pod.
    pub(super) fn deployment(
        &mut self,
        namespace: &str,
        name: &str,
        created: i64,
        pods: Labels,
    ) -> &mut Workload {
        let meta = self.meta(created);
        let owner = (Box::from("ReplicaSet"), meta.uid.clone());
        self.pod(namespace, &format!("{name}-7f-0"), created, pods.clone(), Some(owner));
        let workload = Workload {
            meta,
            pod_labels: pods,
            pod_annotations: Labels::new(),
            replicas: 1,
            ready_replicas: 1,
            updating: false,
            manifest: None,
        };
        let key = (WorkloadKind::Deployment, Name::new(namespace, name));
        self.world.workloads.insert(key.clone(), Arc::new(workload));
        Arc::make_mut(self.world.workloads.get_mut(&key).unwrap())
    }

    pub(super) fn edit_deployment(&mut self, namespace: &str, name: &str) -> &mut Workload {
        let key = (WorkloadKind::Deployment, Name::new(namespace, name));
        Arc::make_mut(self.world.workloads.get_mut(&key).unwrap())
    }

    pub(super) fn pod(
        &mut self,
        namespace: &str,
        name: &str,
        created: i64,
        labels: Labels,
        owner: Option<(Box<str>, Box<str>)>,
    ) -> IpAddr {
        let ip = self.address();
        let name = Name::new(namespace, name);
        if !labels.contains_key(PR) {
            self.plain.push((name, labels, ip));
            return ip;
        }
        let meta = Meta { labels, owner, ..self.meta(created) };
        let pod = Pod { meta, ip: Some(ip), ready: true, ports: vec![("http".into(), 8080)] };
        self.world.pods.insert(name, Arc::new(pod));
        ip
    }

    pub(super) fn edit_pod(&mut self, namespace: &str, name: &str) -> &mut Pod {
        Arc::make_mut(self.world.pods.get_mut(&Name::new(namespace, name)).unwrap())
    }

    /// An Ingress of ours: `host` is served by port 80 of `service`.
    pub(super) fn ingress(&mut self, namespace: &str, host: &str, service: &str) {
        let spec = serde_json::from_value(json!({"rules": [{"host": host, "http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}},
        }]}}]}));
        let ingress = Ingress {
            meta: Meta { uid: format!("ingress-{host}").into(), ..Meta::default() },
            class: Some(INGRESS_CLASS.into()),
            spec: spec.unwrap(),
            status: Value::Null,
        };
        self.world.ingresses.insert(Name::new(namespace, host), Arc::new(ingress));
    }

    /// The estate that most tests begin with: Service and Deployment `checkout` in `shop`.
    pub(super) fn shop() -> Self {
        let mut cluster = Self::default();
        cluster.namespace("shop", Labels::new());
        cluster.baseline("shop", "checkout");
        cluster
    }

    /// A Service and its Deployment.
    pub(super) fn baseline(&mut self, namespace: &str, name: &str) {
        self.service(namespace, name, labels([("app", name)]));
        let manifest = manifest(name);
        self.deployment(namespace, name, 0, labels([("app", name), ("tier", "web")])).manifest =
            Some(Arc::new(manifest));
    }

    /// A Deployment that is a fork of a Service of its namespace.
    pub(super) fn fork(&mut self, namespace: &str, key: &str, service: &str, created: i64) -> &mut Workload {
        let name = format!("{service}-{}", key.to_ascii_lowercase());
        self.deployment(namespace, &name, created, fork_labels(key, service))
    }

    pub(super) fn preview(&mut self, namespace: &str, name: &str, created: i64, spec: PreviewSpec) {
        let meta = self.meta(created);
        let preview = Preview { meta, spec, status: None };
        self.world.previews.insert(Name::new(namespace, name), Arc::new(preview));
    }

    pub(super) fn edit_preview(&mut self, namespace: &str, name: &str) -> &mut Preview {
        Arc::make_mut(self.world.previews.get_mut(&Name::new(namespace, name)).unwrap())
    }

    /// What the EndpointSlice controller does: a slice for each Service that selects.
    pub(super) fn observe(&mut self) -> &mut Self {
        let own: Vec<Name> =
            self.world.slices.keys().filter(|name| name.name.ends_with("-auto")).cloned().collect();
        own.iter().for_each(|name| drop(self.world.slices.remove(name)));
        for (name, service) in &self.world.services {
            if service.selector.is_empty() {
                continue;
            }
            let pods = self.world.pods.iter();
            let keyed = pods.filter_map(|(at, pod)| Some((at, &pod.meta.labels, pod.ip?, pod.ready)));
            let plain = self.plain.iter().map(|(at, labels, ip)| (at, labels, *ip, true));
            let endpoints = keyed.chain(plain).filter(|(at, labels, ..)| {
                at.namespace == name.namespace && is_subset(&service.selector, labels)
            });
            let endpoints = endpoints
                .map(|(at, _, address, ready)| SliceEndpoint { address, ready, pod: Some(at.name.clone()) })
                .collect();
            let number = |port: &ServicePort| match &port.target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(_) => 8080,
            };
            let ports = service.ports.iter().map(|port| (port.name.clone(), number(port))).collect();
            let slice = Slice { meta: Meta::default(), service: name.name.clone(), ports, endpoints };
            let at = Name::new(&name.namespace, &format!("{}-auto", name.name));
            self.world.slices.insert(at, Arc::new(slice));
        }
        self
    }

    pub(super) fn plan(&mut self) -> Plan {
        self.plan_at(NOW)
    }

    pub(super) fn plan_at(&mut self, now: i64) -> Plan {
        self.observe();
        plan(&self.world, &settings(), at(now))
    }

    /// What the controller and Kubernetes do with a plan: everything that it writes is there.
    pub(super) fn apply(&mut self, plan: &Plan) {
        self.world.seen.clone_from(&plan.seen);
        self.world.gone.clone_from(&plan.gone);
        for (name, status) in &plan.previews {
            let preview = Arc::make_mut(self.world.previews.get_mut(name).unwrap());
            preview.status = Some(status.clone());
        }
        for deletion in &plan.deletions {
            self.world.workloads.remove(&(deletion.kind, deletion.name.clone())).unwrap();
            let prefix = format!("{}-7f-", deletion.name.name);
            self.world.pods.retain(|name, _| {
                name.namespace != deletion.name.namespace || !name.name.starts_with(&prefix)
            });
        }
        plan.clones.iter().for_each(|clone| self.apply_clone(&clone.manifest));
    }

    fn apply_clone(&mut self, manifest: &Value) {
        let map = |at: &str| -> Labels {
            let map = manifest.pointer(at).and_then(Value::as_object);
            let texts = map.into_iter().flatten();
            texts.map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into())).collect()
        };
        let text = |at: &str| manifest.pointer(at).and_then(Value::as_str).unwrap().to_owned();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let replicas = i32::try_from(manifest.pointer("/spec/replicas").unwrap().as_i64().unwrap()).unwrap();
        let pods = map("/spec/template/metadata/labels");
        let owner = (text("/metadata/ownerReferences/0/kind"), text("/metadata/ownerReferences/0/uid"));
        let (labels, annotations) = (map("/metadata/labels"), map("/metadata/annotations"));
        let workload = self.deployment(&namespace, &name, NOW, pods);
        workload.meta.labels = labels;
        workload.meta.annotations = annotations;
        workload.meta.owner = Some((owner.0.into(), owner.1.into()));
        workload.replicas = replicas;
        workload.manifest = Some(Arc::new(manifest.clone()));
        assert!(workload.meta.annotations.contains_key(CLONE_HASH));
    }
}

/// A Deployment as the API server returns it.
pub(super) fn manifest(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "uid": "someone-elses",
            "resourceVersion": "17",
            "labels": {"app": name, "argocd.argoproj.io/instance": "shop"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "ownerReferences": [{"kind": "Rollout", "uid": "x"}],
        },
        "spec": {
            "replicas": 20,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "tier": "web"}, "annotations": {"prometheus.io/scrape": "true"}},
                "spec": {
                    "containers": [
                        {
                            "name": "app",
                            "image": "registry.example.com/app:1",
                            "env": [{"name": "LEVEL", "value": "info"}, {"name": "HOME_URL", "value": "x"}],
                            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                        },
                        {"name": "log", "image": "log:1"},
                    ],
                    "initContainers": [{"name": "migrate", "image": "app:1"}],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
        "status": {"replicas": 20},
    })
}

/// A Preview for `key` with these forks.
pub(super) fn spec(key: &str, forks: Vec<ForkSpec>) -> PreviewSpec {
    PreviewSpec { key: key.into(), forks, ..PreviewSpec::default() }
}

/// A fork that is labelled so.
pub(super) fn listed(service: &str) -> ForkSpec {
    ForkSpec { service: service.into(), ..ForkSpec::default() }
}

/// A fork that is a clone.
pub(super) fn cloned(service: &str, clone: CloneSpec) -> ForkSpec {
    ForkSpec { clone: Some(clone), ..listed(service) }
}
