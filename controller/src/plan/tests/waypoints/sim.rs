//! A cluster in which every part is as late as a test wants it to be: Services as JSON, as the API server has them, with
//! patches applied to that; EndpointSlices that follow when told; waypoints that have a table of some moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sidetrack_config::stream::Item;

use super::super::super::waypoints::{FrontWrite, Settings, Template, WaypointWrite};
use super::super::super::{Plan, plan};
use super::super::cluster::{Cluster, NOW, at, fork_labels, labels, settings};
use crate::interposed::selector;
use crate::names::{FORK_OF, ORIGINAL, PR, WAYPOINT, WAYPOINT_NAME};
use crate::observe;
use crate::plan::labels::is_subset;
use crate::world::{Labels, Meta, Name, Slice, SliceEndpoint, WaypointPod, Workload, WorkloadKind};

type View = BTreeMap<Box<str>, Item>;

pub(super) struct Sim {
    pub(super) cluster: Cluster,
    pub(super) settings: crate::plan::Settings,
    pub(super) now: i64,
    services: BTreeMap<Name, Value>,
    /// Pods without a key, and whether one is a waypoint.
    pods: Vec<(Labels, IpAddr)>,
    waypoints: Vec<(IpAddr, Option<View>)>,
    count: u8,
    uids: u32,
}

impl Sim {
    /// Service `checkout` in `shop`, port 80 to 8080 of one pod.
    pub(super) fn new() -> Self {
        let template = json!([
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": WAYPOINT_NAME, "labels": {WAYPOINT: "true"}}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": WAYPOINT_NAME, "labels": {WAYPOINT: "true"}}},
        ]);
        let waypoints = Settings {
            template: Arc::new(Template::read(&template.to_string(), "").unwrap()),
            grace: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            drain: false,
        };
        let mut sim = Self {
            cluster: Cluster::default(),
            settings: crate::plan::Settings { waypoints: Some(waypoints), ..settings() },
            now: NOW,
            services: BTreeMap::new(),
            pods: Vec::new(),
            waypoints: Vec::new(),
            count: 0,
            uids: 0,
        };
        sim.cluster.namespace("shop", Labels::new());
        sim.baseline("checkout", json!([{"port": 80, "targetPort": 8080, "protocol": "TCP"}]));
        sim
    }

    /// Three Services, one of them with two ports, one of which a name stands for and the other no HTTP.
    pub(super) fn estate() -> Self {
        let mut sim = Self::new();
        sim.baseline(
            "cart",
            json!([
                {"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"},
                {"name": "mysql", "port": 3306, "targetPort": 3306, "protocol": "TCP"},
            ]),
        );
        sim.baseline("pay", json!([{"name": "grpc", "port": 81, "targetPort": 8080, "protocol": "TCP"}]));
        sim
    }

    fn baseline(&mut self, name: &str, ports: Value) {
        let ip = self.address();
        self.pods.push((labels([("app", name), ("tier", "web")]), ip));
        let mut pods = labels([("app", name), ("tier", "web")]);
        self.cluster.deployment("shop", name, 0, std::mem::take(&mut pods)).pod_labels =
            labels([("app", name), ("tier", "web")]);
        self.create(name, json!({"app": name}), ports);
        self.sync(&Name::new("shop", name));
    }

    fn address(&mut self) -> IpAddr {
        self.count += 1;
        Ipv4Addr::new(10, 200, 0, self.count).into()
    }

    pub(super) fn create(&mut self, name: &str, selector: Value, ports: Value) {
        self.uids += 1;
        let meta =
            json!({"name": name, "namespace": "shop", "uid": format!("s{}", self.uids), "annotations": {}});
        let spec = json!({"clusterIP": "10.96.0.9", "selector": selector, "ports": ports});
        self.services.insert(Name::new("shop", name), json!({"metadata": meta, "spec": spec}));
        self.read();
    }

    /// What watches say of Services.
    fn read(&mut self) {
        let read = |(name, raw): (&Name, &Value)| {
            let object = serde_json::from_value(raw.clone()).unwrap();
            Some((name.clone(), Arc::new(observe::service(object)?)))
        };
        self.cluster.world.services = self.services.iter().filter_map(read).collect();
    }

    pub(super) fn raw(&self, name: &Name) -> &Value {
        &self.services[name]
    }

    pub(super) fn service(&self, name: &str) -> Option<&Value> {
        self.services.get(&Name::new("shop", name))
    }

    /// What another tool does with a patch: maps are merged, the ports known by their numbers.
    pub(super) fn merge(&mut self, name: &Name, spec: &Value) {
        self.edit(name, |raw| merge_spec(&mut raw["spec"], spec));
    }

    /// Whether neither notes nor companions take waypoints for what a Service was.
    pub(super) fn is_known_without_ours(&self) -> bool {
        self.services.iter().all(|(name, raw)| {
            let note = &raw["metadata"]["annotations"][ORIGINAL];
            let note: Value = serde_json::from_str(note.as_str().unwrap_or("{}")).unwrap();
            let companion = if name.name.ends_with("-baseline") { &raw["spec"] } else { &note };
            [&note["selector"], &companion["selector"]].iter().all(|one| one.get(WAYPOINT).is_none())
        })
    }

    /// Gives the pods of an app one label more.
    pub(super) fn label(&mut self, app: &str, name: &str, value: &str) {
        for (labels, _) in &mut self.pods {
            if labels.get("app").is_some_and(|own| &**own == app) {
                labels.insert(name.into(), value.into());
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.services.len()
    }

    pub(super) fn edit(&mut self, name: &Name, edit: impl FnOnce(&mut Value)) {
        edit(self.services.get_mut(name).unwrap());
        self.read();
    }

    /// Deletes a Service, and what it owns.
    pub(super) fn delete(&mut self, name: &Name) {
        let Some(gone) = self.services.remove(name) else { return };
        let uid = &gone["metadata"]["uid"];
        self.services.retain(|_, raw| raw["metadata"]["ownerReferences"][0]["uid"] != *uid);
        self.read();
        let services = &self.services;
        self.cluster
            .world
            .slices
            .retain(|_, slice| services.contains_key(&Name::new("shop", &slice.service)));
    }

    pub(super) fn fork(&mut self, key: &str, service: &str) {
        let name = format!("{service}-{key}");
        if !self.cluster.world.workloads.contains_key(&(WorkloadKind::Deployment, Name::new("shop", &name))) {
            self.cluster.fork("shop", key, service, 0);
        }
    }

    /// A fork whose pods the Service selected before; its name.
    pub(super) fn leak(&mut self, key: &str, service: &str) -> Box<str> {
        let mut labels = fork_labels(key, service);
        labels.insert("app".into(), service.into());
        let name = format!("{service}-{key}");
        self.cluster.deployment("shop", &name, 0, labels);
        name.into()
    }

    pub(super) fn unfork(&mut self, key: &str, service: &str) {
        let name = format!("{service}-{key}");
        self.cluster.world.workloads.remove(&(WorkloadKind::Deployment, Name::new("shop", &name)));
        let is_of = |labels: &Labels| {
            labels.get(PR).is_some_and(|value| &**value == key)
                && labels.get(FORK_OF).is_some_and(|value| &**value == service)
        };
        self.cluster.world.pods.retain(|_, pod| !is_of(&pod.meta.labels));
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.cluster.world, &self.settings, at(self.now))
    }

    /// Everything that one plan writes.
    pub(super) fn step(&mut self) {
        for write in self.plan().waypoints.writes {
            self.write(&write);
        }
    }

    /// One write of a plan.
    pub(super) fn write_one(&mut self, at: usize) {
        let writes = self.plan().waypoints.writes;
        if let Some(write) = writes.get(at % writes.len().max(1)) {
            self.write(write);
        }
    }

    /// Everybody does what is to be done, once.
    pub(super) fn round(&mut self) {
        self.step();
        self.sync_all();
        self.acknowledge();
    }

    /// Everybody does, at this moment.
    pub(super) fn settle_now(&mut self) {
        (0..4).for_each(|_| self.round());
    }

    /// Everybody does, until all times are over.
    pub(super) fn settle(&mut self) {
        for _ in 0..16 {
            self.round();
            self.now += 100;
        }
        self.round();
    }

    fn write(&mut self, write: &WaypointWrite) {
        match write {
            WaypointWrite::Companion(manifest) => self.companion(manifest),
            WaypointWrite::Front(front) if self.is_open(front) => self.front(front),
            WaypointWrite::Front(front) => {
                if let Some(back) = front.meanwhile() {
                    self.front(&back);
                }
            }
            WaypointWrite::Forget { name, uid, .. } => {
                if self.services.get(name).is_some_and(|raw| raw["metadata"]["uid"] == **uid) {
                    self.delete(name);
                }
            }
            WaypointWrite::Make { objects, .. } => self.make(objects.last().unwrap()),
            WaypointWrite::Remove { uid, .. } => {
                let key = (WorkloadKind::Deployment, Name::new("shop", WAYPOINT_NAME));
                assert_eq!(self.cluster.world.workloads.remove(&key).unwrap().meta.uid, *uid);
                self.scale(0);
            }
        }
        self.read();
    }

    fn companion(&mut self, manifest: &Value) {
        let name = Name::new("shop", manifest["metadata"]["name"].as_str().unwrap());
        let mut raw = manifest.clone();
        self.uids += 1;
        let uid = json!(format!("s{}", self.uids));
        raw["metadata"]["uid"] =
            self.services.get(&name).map_or(uid, |there| there["metadata"]["uid"].clone());
        let ip = json!(format!("10.97.0.{}", self.uids));
        raw["spec"]["clusterIP"] =
            self.services.get(&name).map_or(ip, |there| there["spec"]["clusterIP"].clone());
        self.services.insert(name, raw);
    }

    /// Whether every waypoint that is ready has what a turn needs.
    fn is_open(&self, front: &FrontWrite) -> bool {
        let Some(gate) = &front.gate else { return true };
        let plan = self.plan();
        let view = &plan.waypoints.views["shop"];
        assert_eq!(gate.pods.len(), self.waypoints.len());
        let same = |table: &View, id: &str| table.contains_key(id) && table.get(id) == view.get(id);
        let has = |table: &View, id: &str| {
            let Some(Item::Port(port)) = table.get(id) else { return false };
            same(table, id) && same(table, &format!("service/{}", port.service))
        };
        self.waypoints
            .iter()
            .all(|(_, table)| table.as_ref().is_some_and(|table| gate.ports.iter().all(|id| has(table, id))))
    }

    /// A strategic merge patch of a Service: maps are merged, ports are known by their number.
    fn front(&mut self, front: &FrontWrite) {
        let Some(raw) = self.services.get_mut(&front.name) else { return };
        let patch = front.patch();
        merge(&mut raw["metadata"]["annotations"], &patch["metadata"]["annotations"]);
        merge_spec(&mut raw["spec"], &patch["spec"]);
    }

    fn make(&mut self, deployment: &Value) {
        let key = (WorkloadKind::Deployment, Name::new("shop", WAYPOINT_NAME));
        let map = |name: &str| -> Labels {
            let map = deployment["metadata"][name].as_object();
            map.into_iter()
                .flatten()
                .map(|(name, value)| (&**name, value.as_str().unwrap()))
                .map(|(n, v)| (n.into(), v.into()))
                .collect()
        };
        let meta = Meta {
            uid: "waypoints".into(),
            labels: map("labels"),
            annotations: map("annotations"),
            ..Meta::default()
        };
        let workload = Workload {
            meta,
            pod_labels: selector(),
            pod_annotations: Labels::new(),
            replicas: 2,
            ready_replicas: 2,
            updating: false,
            manifest: None,
        };
        self.cluster.world.workloads.insert(key, Arc::new(workload));
        if self.waypoints.is_empty() {
            self.scale(2);
        }
    }

    /// So many waypoints, where there are any. A new one has a table before it is ready.
    pub(super) fn scale(&mut self, count: usize) {
        if count > 0 && self.waypoints().is_empty() {
            return;
        }
        let view = self.plan().waypoints.views.remove("shop");
        while self.waypoints.len() > count {
            let (gone, _) = self.waypoints.pop().unwrap();
            self.pods.retain(|(_, ip)| *ip != gone);
        }
        while self.waypoints.len() < count {
            let ip = self.address();
            self.pods.push((selector(), ip));
            self.waypoints.push((ip, view.clone()));
        }
        let pod = |(at, (ip, _)): (usize, &(IpAddr, Option<View>))| {
            let pod = WaypointPod { meta: Meta::default(), ip: Some(*ip), ready: true };
            (Name::new("shop", &format!("{WAYPOINT_NAME}-{at}")), Arc::new(pod))
        };
        self.cluster.world.waypoints = self.waypoints.iter().enumerate().map(pod).collect();
        // A pod that goes leaves EndpointSlices before it ends; one that comes is in them late.
        let there: Vec<IpAddr> = self.pods.iter().map(|(_, ip)| *ip).collect();
        for slice in self.cluster.world.slices.values_mut() {
            Arc::make_mut(slice).endpoints.retain(|one| there.contains(&one.address));
        }
    }

    /// The Deployments of waypoints.
    pub(super) fn waypoints(&self) -> Vec<&Name> {
        let all = self.cluster.world.workloads.keys().map(|(_, name)| name);
        all.filter(|name| &*name.name == WAYPOINT_NAME).collect()
    }

    /// The waypoints begin anew, and know nothing.
    pub(super) fn forget(&mut self) {
        self.waypoints.iter_mut().for_each(|(_, table)| *table = None);
    }

    pub(super) fn acknowledge(&mut self) {
        let view = self.plan().waypoints.views.remove("shop");
        self.waypoints.iter_mut().for_each(|(_, table)| table.clone_from(&view));
    }

    pub(super) fn sync_one(&mut self, at: usize) {
        let names: Vec<Name> = self.services.keys().cloned().collect();
        self.sync(&names[at % names.len()]);
    }

    pub(super) fn sync_all(&mut self) {
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            self.sync(&name);
        }
    }

    /// What the EndpointSlice controller does for one Service, as it is written.
    fn sync(&mut self, name: &Name) {
        let raw = &self.services[name];
        let selected: Labels = serde_json::from_value(raw["spec"]["selector"].clone()).unwrap_or_default();
        let endpoints =
            self.pods.iter().filter(|(labels, _)| !selected.is_empty() && is_subset(&selected, labels));
        let endpoints =
            endpoints.map(|(_, ip)| SliceEndpoint { address: *ip, ready: true, pod: None }).collect();
        let ports = raw["spec"]["ports"].as_array().unwrap().iter().map(|port| {
            let target = match &port["targetPort"] {
                Value::Number(number) => u16::try_from(number.as_u64().unwrap()).unwrap(),
                Value::String(_) => 8080,
                _ => u16::try_from(port["port"].as_u64().unwrap()).unwrap(),
            };
            (port["name"].as_str().unwrap_or_default().into(), target)
        });
        let slice =
            Slice { meta: Meta::default(), service: name.name.clone(), ports: ports.collect(), endpoints };
        let families = raw["spec"]["ipFamilies"].as_array().into_iter().flatten();
        if families.clone().any(|family| family == "IPv6") {
            let mut slice = slice.clone();
            slice.endpoints.iter_mut().for_each(|one| one.address = in_ipv6(one.address));
            let own = Name::new("shop", &format!("{}-slice6", name.name));
            self.cluster.world.slices.insert(own, Arc::new(slice));
        }
        self.cluster.world.slices.insert(Name::new("shop", &format!("{}-slice", name.name)), Arc::new(slice));
    }

    /// Calls every port of every Service that people made, at every endpoint that its slice has: each must be answered by
    /// the baseline, at the first hop or by way of a waypoint.
    pub(super) fn calls(&self) -> Result<(), String> {
        for slice in self.cluster.world.slices.values() {
            if slice.service.ends_with("-baseline") {
                continue;
            }
            if slice.endpoints.is_empty() {
                return Err(format!("{} has no endpoint", slice.service));
            }
            for endpoint in &slice.endpoints {
                for (port, number) in &slice.ports {
                    self.call(&slice.service, port, in_ipv4(endpoint.address), *number)?;
                }
            }
        }
        Ok(())
    }

    fn call(&self, service: &str, port: &str, ip: IpAddr, number: u16) -> Result<(), String> {
        let Some((_, table)) = self.waypoints.iter().find(|(waypoint, _)| *waypoint == ip) else {
            return self.is_baseline(service, ip, number);
        };
        let table = table.as_ref().ok_or("a waypoint has no table")?;
        let Some(Item::Port(port_item)) = table.get(&*format!("port/shop/{number}")) else {
            return Err(format!("a waypoint is called for {service} at {number}, which it does not have"));
        };
        let name = if service == "cart" { format!("cart.shop:{port}") } else { format!("{service}.shop") };
        if !(*port_item.service == *name || port_item.service.starts_with(&format!("{service}.shop"))) {
            return Err(format!("{service} at {number} is {}", port_item.service));
        }
        let Some(Item::Service(item)) = table.get(&*format!("service/{}", port_item.service)) else {
            return Err(format!("a waypoint does not know {}", port_item.service));
        };
        let baseline = item.baseline.as_deref().unwrap_or_default();
        if baseline.is_empty() {
            return Err(format!("a waypoint knows no endpoint of {service}"));
        }
        let ends = baseline.iter().map(|address| (in_ipv4(address.ip()), address.port()));
        ends.into_iter().try_for_each(|(ip, port)| self.is_baseline(service, ip, port))
    }

    /// Whether one that calls there comes to a pod of the baseline.
    fn is_baseline(&self, service: &str, ip: IpAddr, number: u16) -> Result<(), String> {
        let Some(companion) = self.companion_at(ip) else { return self.is_pod(service, ip, number) };
        let ports = self.services[companion]["spec"]["ports"].as_array().unwrap();
        let Some(port) = ports.iter().find(|port| port["port"] == number) else {
            return Err(format!("{companion} is called at {number}, which it does not have"));
        };
        let port = port["name"].as_str().unwrap_or_default();
        let slices = self.cluster.world.slices.values().filter(|slice| slice.service == companion.name);
        let ends = slices.flat_map(|slice| {
            let number = slice.ports.iter().find(|(name, _)| &**name == port).map(|(_, number)| *number);
            slice.endpoints.iter().map(move |endpoint| (in_ipv4(endpoint.address), number.unwrap()))
        });
        ends.into_iter().try_for_each(|(ip, number)| self.is_pod(service, ip, number))
    }

    /// The Service that stands for a baseline and has this address.
    fn companion_at(&self, ip: IpAddr) -> Option<&Name> {
        let mut services = self.services.iter();
        let has = |(name, raw): &(&Name, &Value)| {
            name.name.ends_with("-baseline") && raw["spec"]["clusterIP"] == json!(ip)
        };
        services.find(has).map(|(name, _)| name)
    }

    fn is_pod(&self, service: &str, ip: IpAddr, number: u16) -> Result<(), String> {
        let app = |labels: &Labels| labels.get("app").is_some_and(|app| &**app == service);
        let is_theirs = self.pods.iter().any(|(labels, pod)| *pod == ip && app(labels));
        match (is_theirs, number) {
            (true, 8080 | 3306 | 9000) => Ok(()),
            _ => Err(format!("{service} is called at {ip}:{number}, where nobody listens for it")),
        }
    }
}

/// The other address of a pod.
fn in_ipv6(address: IpAddr) -> IpAddr {
    let IpAddr::V4(address) = address else { return address };
    let [a, b, c, d] = address.octets().map(u16::from);
    Ipv6Addr::new(0xfd00, 0, 0, 0, a, b, c, d).into()
}

/// The first address of the pod that has this one.
fn in_ipv4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address else { return address };
    let [.., a, b, c, d] = address.segments().map(|one| u8::try_from(one).unwrap_or_default());
    Ipv4Addr::new(a, b, c, d).into()
}

fn merge_spec(spec: &mut Value, patch: &Value) {
    merge(&mut spec["selector"], &patch["selector"]);
    let ports = spec["ports"].as_array_mut().unwrap();
    for change in patch["ports"].as_array().into_iter().flatten() {
        let port = ports.iter_mut().find(|port| port["port"] == change["port"]).unwrap();
        merge(port, change);
    }
}

fn merge(into: &mut Value, patch: &Value) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let map = into.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(map.remove(name)),
            value => drop(map.insert(name.clone(), value.clone())),
        }
    }
}
