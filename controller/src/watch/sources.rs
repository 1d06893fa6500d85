//! Which kinds are watched, and how.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::{apps, core as k8s};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use prometheus::IntCounter;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::follow::{End, Facts, Follow, Sink};
use super::state::{self, State};
use super::{Message, Scope, optional};
use crate::observe::{self, Fact};
use crate::world::{Name, WorkloadKind};
use crate::{gateway_api, names, preview};

/// How long it is waited for a kind that must be there.
const RETRY: Duration = Duration::from_secs(1);

/// What the controller can do without: whoever does not let it read Secrets has no certificates from there.
const SECRETS: &str = "Secrets";

/// What watches are started with.
pub(super) struct Start {
    pub(super) client: Client,
    pub(super) scope: Scope,
    pub(super) restarts: IntCounter,
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) sources: usize,
    pub(super) tasks: JoinSet<()>,
}

/// The name of a fact of a kind that has a map of its own.
fn plain(name: Name) -> Name {
    name
}

impl Start {
    /// Starts the watch of every kind.
    pub(super) fn all(&mut self) {
        self.core();
        self.workloads();
        self.custom();
        self.state();
    }

    fn core(&mut self) {
        let all = Config::default;
        self.cluster("Namespaces", observe::namespace);
        self.each("Services", all(), observe::service, plain, |_| true);
        self.each("EndpointSlices", all(), observe::slice, plain, |_| true);
        self.each("Pods", all().labels(names::PR), observe::pod, plain, |_| true);
        self.each("waypoint Pods", all().labels(names::WAYPOINT), observe::waypoint, plain, |_| true);
        self.each("Ingresses", all(), observe::ingress, plain, |_| true);
        let tls = all().fields("type=kubernetes.io/tls");
        self.each(SECRETS, tls, observe::secret, plain, |_| true);
    }

    fn workloads(&mut self) {
        use WorkloadKind::{Deployment, ReplicaSet, Rollout, StatefulSet};
        let all = Config::default;
        let id = |name| (Deployment, name);
        self.each::<apps::v1::Deployment, _>("Deployments", all(), observe::deployment, id, |id| {
            id.0 == Deployment
        });
        let id = |name| (StatefulSet, name);
        self.each::<apps::v1::StatefulSet, _>("StatefulSets", all(), observe::stateful_set, id, |id| {
            id.0 == StatefulSet
        });
        let id = |name| (ReplicaSet, name);
        self.each::<apps::v1::ReplicaSet, _>("ReplicaSets", all(), observe::replica_set, id, |id| {
            id.0 == ReplicaSet
        });
        let rollout = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
        self.each_custom(
            "Argo Rollout",
            &rollout,
            observe::rollout,
            |name| (Rollout, name),
            |id| id.0 == Rollout,
        );
    }

    fn custom(&mut self) {
        let preview = ApiResource::erase::<preview::Preview>(&());
        self.each_custom("Preview", &preview, observe::preview, plain, |_| true);
        let class = ApiResource::erase::<gateway_api::GatewayClass>(&());
        let api = Api::all_with(self.client.clone(), &class);
        let follow = self.follow(
            "GatewayClass",
            api,
            Config::default(),
            Facts::new(observe::gateway_class, plain, |_| true),
        );
        self.tasks.spawn(optional::run(self.client.clone(), class, follow));
        let gateway = ApiResource::erase::<gateway_api::Gateway>(&());
        self.each_custom("Gateway", &gateway, observe::gateway, plain, |_| true);
        let route = ApiResource::erase::<gateway_api::HttpRoute>(&());
        self.each_custom("HTTPRoute", &route, observe::http_route, plain, |_| true);
        let grant = ApiResource::erase::<gateway_api::ReferenceGrant>(&());
        self.each_custom("ReferenceGrant", &grant, observe::reference_grant, plain, |_| true);
    }

    /// The controller's own ConfigMap.
    fn state(&mut self) {
        let api = Api::<k8s::v1::ConfigMap>::namespaced(self.client.clone(), &self.scope.namespace);
        let config = Config::default().fields(&format!("metadata.name={}", state::NAME));
        self.spawn("the state ConfigMap", api, config, State::default());
    }

    /// One watch of a kind that is in no namespace.
    fn cluster<K, F>(&mut self, what: &'static str, read: fn(K) -> Option<F>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        F: Fact<Id = Name>,
    {
        let api = Api::all(self.client.clone());
        self.spawn(what, api, Config::default(), Facts::new(read, plain, |_| true));
    }

    /// A watch of a kind, or one for each namespace.
    fn each<K, F>(
        &mut self,
        what: &'static str,
        config: Config,
        read: fn(K) -> Option<F>,
        id: fn(Name) -> F::Id,
        is_ours: fn(&F::Id) -> bool,
    ) where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Debug + Send + 'static,
        F: Fact,
        F::Id: InNamespace,
    {
        if self.scope.watched.is_empty() {
            let api = Api::all(self.client.clone());
            return self.spawn(what, api, config, Facts::new(read, id, is_ours));
        }
        for namespace in self.scope.watched.clone() {
            let api = Api::namespaced(self.client.clone(), &namespace);
            let is_ours = move |id: &F::Id| is_ours(id) && id.namespace() == &*namespace;
            self.spawn(what, api, config.clone(), Facts::new(read, id, is_ours));
        }
    }

    /// The same for a kind whose CRD may not be there.
    fn each_custom<F>(
        &mut self,
        what: &'static str,
        kind: &ApiResource,
        read: fn(DynamicObject) -> Option<F>,
        id: fn(Name) -> F::Id,
        is_ours: fn(&F::Id) -> bool,
    ) where
        F: Fact,
        F::Id: InNamespace,
    {
        let client = self.client.clone();
        if self.scope.watched.is_empty() {
            let api = Api::all_with(client.clone(), kind);
            let follow = self.follow(what, api, Config::default(), Facts::new(read, id, is_ours));
            self.tasks.spawn(optional::run(client, kind.clone(), follow));
            return;
        }
        for namespace in self.scope.watched.clone() {
            let api = Api::namespaced_with(client.clone(), &namespace, kind);
            let is_ours = move |id: &F::Id| is_ours(id) && id.namespace() == &*namespace;
            let follow = self.follow(what, api, Config::default(), Facts::new(read, id, is_ours));
            self.tasks.spawn(optional::run(client.clone(), kind.clone(), follow));
        }
    }

    fn spawn<K, S>(&mut self, what: &'static str, api: Api<K>, config: Config, sink: S)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        S: Sink<K> + 'static,
    {
        let mut follow = self.follow(what, api, config, sink);
        self.tasks.spawn(async move {
            // A kind that is part of Kubernetes can be missing only for a moment, while an API server starts.
            while let End::NoSuchKind = follow.run().await {
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    fn follow<K, S>(&mut self, what: &'static str, api: Api<K>, config: Config, sink: S) -> Follow<K, S> {
        let source = self.sources;
        self.sources += 1;
        Follow {
            what,
            source,
            api,
            config,
            sink,
            sender: self.sender.clone(),
            restarts: self.restarts.clone(),
            is_optional: what == SECRETS,
        }
    }
}

/// A fact's name that says where the object is.
trait InNamespace {
    /// The namespace.
    fn namespace(&self) -> &str;
}

impl InNamespace for Name {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl InNamespace for (WorkloadKind, Name) {
    fn namespace(&self) -> &str {
        &self.1.namespace
    }
}
