//! The world, made quick to ask: built once for a plan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use sidetrack_config::Key;

use super::Settings;
use super::labels::fork_of;
use super::selectors::Selectors;
use super::waypoints::Companion;
use crate::names::{FORK_OF, PR};
use crate::world::{Labels, Name, Pod, Service, ServicePort, Slice, SliceEndpoint, Workload, World};

/// Whose pods these are: the fork for this key of this Service, in this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ForkId<'a> {
    /// Where its pods are.
    pub(super) namespace: &'a str,
    /// Its key.
    pub(super) key: Key,
    /// The Service's namespace and name.
    pub(super) service: (&'a str, &'a str),
}

impl<'a> ForkId<'a> {
    /// What labels say; `None` where they name no key, or no Service.
    pub(super) fn read(namespace: &'a str, labels: &'a Labels, prefix: &str) -> Option<Self> {
        let key = Key::parse(labels.get(PR)?, prefix).ok()?;
        Some(Self { namespace, key, service: fork_of(namespace, labels)? })
    }
}

/// The world by what planning asks for.
#[derive(Debug)]
pub(super) struct Index<'a> {
    /// All of it.
    pub(super) world: &'a World,
    /// What planning goes by.
    pub(super) settings: &'a Settings,
    /// Who selects what.
    pub(super) selectors: Selectors<'a>,
    /// Services that somebody forks, and those that routes refer to: what anybody may get without a key.
    pub(super) shared: HashSet<(&'a str, &'a str)>,
    /// By namespace and Service.
    slices: HashMap<&'a str, HashMap<&'a str, Vec<&'a Slice>>>,
    /// By namespace and name.
    pods: HashMap<&'a str, HashMap<&'a str, (&'a Pod, Option<ForkId<'a>>)>>,
    forks: HashMap<ForkId<'a>, Vec<(&'a Name, &'a Pod)>>,
    addresses: HashMap<IpAddr, &'a Pod>,
    /// Whose workloads a Service selects.
    selected: HashMap<&'a Name, Selected<'a>>,
    labelled: HashMap<ForkId<'a>, Vec<(&'a Name, &'a Service)>>,
    /// What stands for the baseline of a Service while a waypoint is, was or will be in front of it.
    pub(super) companions: BTreeMap<Name, Companion<'a>>,
    /// Addresses of waypoints.
    waypoints: HashSet<IpAddr>,
}

/// Whose workloads a Service selects.
#[derive(Clone, Debug, PartialEq)]
enum Selected<'a> {
    /// This fork's only.
    Fork(ForkId<'a>),
    /// A baseline's, or those of several forks.
    Others,
}

impl<'a> Index<'a> {
    /// Indexes `world`. `routed` are the Services that routes refer to.
    pub(super) fn new(world: &'a World, settings: &'a Settings, routed: &'a BTreeSet<(Name, u16)>) -> Self {
        let mut index = Self {
            world,
            settings,
            selectors: Selectors::new(&world.services),
            shared: routed.iter().map(|(name, _)| (&*name.namespace, &*name.name)).collect(),
            slices: HashMap::new(),
            pods: HashMap::new(),
            forks: HashMap::new(),
            addresses: HashMap::with_capacity(world.pods.len()),
            selected: HashMap::new(),
            labelled: HashMap::new(),
            companions: Companion::all(world),
            waypoints: world.waypoints.values().filter_map(|pod| pod.ip).collect(),
        };
        for (name, slice) in &world.slices {
            index.slices.entry(&name.namespace).or_default().entry(&slice.service).or_default().push(slice);
        }
        index.add_pods();
        index.add_services();
        for ((_, name), workload) in &world.workloads {
            index.add_workload(name, workload);
        }
        index
    }

    fn add_pods(&mut self) {
        let world = self.world;
        for (name, pod) in &world.pods {
            let id = self.fork_id(&name.namespace, &pod.meta.labels);
            if let Some(id) = &id {
                self.shared.insert(id.service);
                self.forks.entry(id.clone()).or_default().push((name, pod));
            }
            self.pods.entry(&name.namespace).or_default().insert(&name.name, (pod, id));
            if let Some(ip) = pod.ip {
                self.addresses.insert(ip, pod);
            }
        }
    }

    fn add_services(&mut self) {
        let world = self.world;
        for (name, service) in &world.services {
            if let Some(id) = self.fork_id(&name.namespace, &service.meta.labels) {
                self.shared.insert(id.service);
                // What is forked is no fork of itself, whatever it says.
                if id.service != (&*name.namespace, &*name.name) && !service.external {
                    self.labelled.entry(id).or_default().push((name, service));
                }
            }
        }
        for preview in world.previews.iter() {
            for fork in &preview.1.spec.forks {
                let namespace = fork.namespace.as_deref().unwrap_or(&preview.0.namespace);
                self.shared.insert((namespace, &fork.service));
            }
        }
        for services in self.labelled.values_mut() {
            services.sort_by_key(|(name, service)| (service.meta.created, *name));
        }
    }

    fn add_workload(&mut self, name: &'a Name, workload: &'a Workload) {
        let id = self.fork_id(&name.namespace, &workload.pod_labels);
        if let Some(id) = &id {
            self.shared.insert(id.service);
        }
        for (service, _) in self.selectors.matching(&name.namespace, &workload.pod_labels) {
            let seen = id.clone().map_or(Selected::Others, Selected::Fork);
            let entry = self.selected.entry(service).or_insert_with(|| seen.clone());
            if *entry != seen {
                *entry = Selected::Others;
            }
        }
    }

    /// Whose pods have these labels.
    pub(super) fn fork_id(&self, namespace: &'a str, labels: &'a Labels) -> Option<ForkId<'a>> {
        ForkId::read(namespace, labels, &self.settings.host_prefix)
    }

    /// The key of a pod; `None` where its label is none.
    pub(super) fn key_of(&self, pod: &Pod) -> Option<Key> {
        Key::parse(pod.meta.labels.get(PR)?, &self.settings.host_prefix).ok()
    }

    /// The EndpointSlices of a Service: all of them add up.
    pub(super) fn slices(&self, service: &Name) -> &[&'a Slice] {
        let here = self.slices.get(&*service.namespace);
        here.and_then(|here| here.get(&*service.name)).map_or(&[], Vec::as_slice)
    }

    /// The endpoints of a port of a Service that are ready, each with its slice and the number of its port: those of its
    /// own slices that are no waypoints, and those of its companion's. Between two steps a pod may be in both.
    pub(super) fn ready(
        &self,
        service: &Name,
        port: &ServicePort,
    ) -> impl Iterator<Item = (&'a Slice, &'a SliceEndpoint, u16)> {
        let companion = self.companions.get(service).map(|companion| companion.name);
        let own = self.ready_in(service, port).filter(|found| !self.is_waypoint(service, port, found));
        own.chain(companion.into_iter().flat_map(|companion| self.ready_in(companion, port)))
    }

    /// The endpoints that are ready in the slices of the Service of this name itself.
    pub(super) fn ready_in(
        &self,
        service: &Name,
        port: &ServicePort,
    ) -> impl Iterator<Item = (&'a Slice, &'a SliceEndpoint, u16)> {
        self.slices(service).iter().flat_map(|slice| {
            let number = slice.ports.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            ready.filter_map(move |endpoint| Some((*slice, endpoint, number?)))
        })
    }

    /// Whether an endpoint in a Service's own slices is a waypoint: its port is one that waypoints have for the Service,
    /// or its pod is known as one. A slice may be here before the pod is.
    pub(super) fn is_waypoint(
        &self,
        service: &Name,
        port: &ServicePort,
        (_, endpoint, number): &(&Slice, &SliceEndpoint, u16),
    ) -> bool {
        let companion = self.companions.get(service).and_then(|companion| companion.ports.get(&port.port));
        port.turned == Some(*number) || companion == Some(number) || self.has_waypoint(endpoint)
    }

    /// Whether an endpoint has the address of a waypoint.
    pub(super) fn has_waypoint(&self, endpoint: &SliceEndpoint) -> bool {
        self.waypoints.contains(&endpoint.address)
    }

    /// The pods of a fork, by name.
    pub(super) fn pods(&self, id: &ForkId<'a>) -> &[(&'a Name, &'a Pod)] {
        self.forks.get(id).map_or(&[], Vec::as_slice)
    }

    /// All forks that have pods.
    pub(super) fn forks_with_pods(&self) -> impl Iterator<Item = (&ForkId<'a>, &[(&'a Name, &'a Pod)])> {
        self.forks.iter().map(|(id, pods)| (id, pods.as_slice()))
    }

    /// The pod with a key that an endpoint in `namespace` is, and whose it is where its labels say so. An endpoint that
    /// names no pod is known by its address, and so is one of a slice that is not Kubernetes' own: it may name any pod.
    pub(super) fn keyed_pod(
        &self,
        namespace: &str,
        slice: &Slice,
        endpoint: &SliceEndpoint,
    ) -> Option<(&'a Pod, Option<&ForkId<'a>>)> {
        let named = endpoint.pod.as_deref().and_then(|pod| self.pods.get(namespace)?.get(pod));
        match named {
            Some((pod, id)) => Some((pod, id.as_ref())),
            None if endpoint.pod.is_some() && is_kubernetes_own(slice) => None,
            None => self.addresses.get(&endpoint.address).map(|pod| (*pod, None)),
        }
    }

    /// Whether a Service is there for a fork: it says so itself. What says so of itself is the baseline all the same.
    pub(super) fn is_of_fork(&self, name: &'a Name, service: &'a Service) -> bool {
        let id = self.fork_id(&name.namespace, &service.meta.labels);
        id.is_some_and(|id| id.service != (&*name.namespace, &*name.name))
    }

    /// The Services that carry the labels of a fork themselves, the oldest first.
    pub(super) fn labelled_services(&self, id: &ForkId<'a>) -> &[(&'a Name, &'a Service)] {
        self.labelled.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether a Service that selects pods of the fork `id` is the fork's own. It is where it carries the fork's labels
    /// or its selector asks for the key. It is too where nobody but this fork can be meant: it is neither forked nor
    /// routed to, and neither a workload nor an endpoint of it is anybody else's.
    pub(super) fn is_own(&self, id: &ForkId<'a>, name: &Name, service: &Service) -> bool {
        let full = (&*name.namespace, &*name.name);
        if full == id.service {
            return false;
        }
        if service.selector.contains_key(PR) {
            return true;
        }
        let labels = &service.meta.labels;
        if labels.contains_key(PR) && labels.contains_key(FORK_OF) {
            let prefix = &self.settings.host_prefix;
            return ForkId::read(id.namespace, labels, prefix).is_some_and(|other| other.key == id.key);
        }
        let alone = match self.selected.get(name) {
            Some(Selected::Fork(other)) => other == id,
            Some(Selected::Others) => false,
            None => true,
        };
        alone && !self.shared.contains(&full) && self.endpoints_are(id, name)
    }

    fn endpoints_are(&self, id: &ForkId<'a>, service: &Name) -> bool {
        self.slices(service).iter().all(|slice| {
            slice.endpoints.iter().all(|endpoint| {
                let keyed = self.keyed_pod(&service.namespace, slice, endpoint);
                keyed.is_some_and(|(_, whose)| whose == Some(id))
            })
        })
    }
}

/// Whether the controller of Kubernetes made a slice, from the pods as they are.
fn is_kubernetes_own(slice: &Slice) -> bool {
    let made_by = slice.meta.labels.get("endpointslice.kubernetes.io/managed-by");
    made_by.is_some_and(|name| &**name == "endpointslice-controller.k8s.io")
}
