//! Writes about waypoints. Before each of them the API server is asked what is there now: the world that was planned by
//! may be older, and a Service must not be turned by what it was a moment ago.

use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Error, ResourceExt};
use serde_json::{Value, json};
use tracing::info;

use super::send::{Failure, Sender, resource};
use crate::interposed::Points;
use crate::names::{BASELINE_OF, MANAGER, WAYPOINT, WAYPOINT_NAME};
use crate::observe;
use crate::plan::waypoints::{FrontWrite, WaypointWrite};
use crate::world::{Name, Service};

impl Sender {
    /// Does one of them.
    pub(super) async fn waypoint(&self, write: &WaypointWrite) -> Result<(), Failure> {
        match write {
            WaypointWrite::Companion(manifest) => {
                let own =
                    manifest.pointer("/metadata/labels").and_then(|labels| labels.get(BASELINE_OF)).cloned();
                self.make(manifest, (BASELINE_OF, own.as_ref().and_then(Value::as_str).unwrap_or_default()))
                    .await
            }
            WaypointWrite::Front(front) => self.front(front).await,
            WaypointWrite::Forget { name, uid, service } => self.forget(name, uid, service).await,
            WaypointWrite::Make { namespace, objects } => {
                for object in objects {
                    self.make(object, (WAYPOINT, "true")).await?;
                }
                info!("made the waypoints of namespace {namespace}");
                Ok(())
            }
            WaypointWrite::Remove { namespace, uid, objects } => self.remove(namespace, uid, objects).await,
        }
    }

    /// Server-side apply takes over an object that is there already. One without the label is not ours, and stays.
    async fn make(&self, manifest: &Value, (label, value): (&str, &str)) -> Result<(), Failure> {
        let (api, kind, name) = self.place(manifest);
        if let Some(there) = api.get_opt(name).await?
            && there.labels().get(label).map(String::as_str) != Some(value)
        {
            return Err(Failure::Refused(format!(
                "{kind} {name} is there already and is not labelled `{label}: {value}`"
            )));
        }
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(manifest)).await?;
        Ok(())
    }

    /// One patch: selector, ports and the note of what they were. It is refused where the Service has become another one
    /// since it was looked at.
    async fn front(&self, front: &FrontWrite) -> Result<(), Failure> {
        let api = Api::<core::Service>::namespaced(self.client().clone(), &front.name.namespace);
        let Some(there) = api.get_opt(&front.name.name).await? else { return Ok(()) };
        let version = there.resource_version();
        if !observe::service(there).is_some_and(|there| front.is_of(there)) {
            return Err(changed(&front.name));
        }
        let mut patch = front.patch();
        if let Some(meta) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("uid".to_owned(), json!(front.seen.meta.uid));
            meta.insert("resourceVersion".to_owned(), json!(version));
        }
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&front.name.name, &params, &Patch::Strategic(patch)).await {
            Err(Error::Api(answer)) if answer.code == 404 => return Ok(()),
            Err(Error::Api(answer)) if answer.code == 409 => return Err(changed(&front.name)),
            result => drop(result?),
        }
        match &front.goal {
            Some(_) => info!("turned Service {} to waypoints", front.name),
            None => info!("turned Service {} back from waypoints", front.name),
        }
        Ok(())
    }

    /// Deletes a companion, unless its Service points to waypoints after all.
    async fn forget(
        &self,
        name: &Name,
        uid: &str,
        (service, owner): &(Name, Box<str>),
    ) -> Result<(), Failure> {
        let api = Api::<core::Service>::namespaced(self.client().clone(), &service.namespace);
        let there = api.get_opt(&service.name).await?.and_then(observe::service);
        if there.is_some_and(|there| there.meta.uid == *owner && points_to_waypoints(&there)) {
            return Err(changed(service));
        }
        let plain = resource("v1", "Service", "services");
        self.delete_one(&self.api(&plain, &name.namespace), &name.name, uid).await
    }

    /// Deletes the waypoints of a namespace, unless a Service points to them after all.
    async fn remove(&self, namespace: &str, uid: &str, objects: &[Value]) -> Result<(), Failure> {
        let api = Api::<core::Service>::namespaced(self.client().clone(), namespace);
        let services = api.list(&ListParams::default()).await?;
        let turned = services.items.into_iter().filter_map(observe::service).find(points_to_waypoints);
        if turned.is_some() {
            return Err(Failure::Unavailable(format!(
                "a Service of {namespace} points to waypoints after all"
            )));
        }
        for object in objects.iter().rev() {
            let (api, kind, name) = self.place(object);
            let Some(there) = api.get_opt(name).await? else { continue };
            let is_ours = there.labels().get(WAYPOINT).is_some_and(|value| value == "true");
            let is_meant =
                kind != "Deployment" || name != WAYPOINT_NAME || there.uid().as_deref() == Some(uid);
            if is_ours && is_meant {
                self.delete_one(&api, name, &there.uid().unwrap_or_default()).await?;
            }
        }
        info!("removed the waypoints of namespace {namespace}");
        Ok(())
    }

    async fn delete_one(&self, api: &Api<DynamicObject>, name: &str, uid: &str) -> Result<(), Failure> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(name, &params).await {
            Err(Error::Api(answer)) if answer.code == 404 => Ok(()),
            result => result.map(drop).map_err(Failure::from),
        }
    }

    /// Where an object belongs, its kind and its name.
    fn place<'m>(&self, manifest: &'m Value) -> (Api<DynamicObject>, &'m str, &'m str) {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let kind = text("/kind");
        let plural = format!("{}s", kind.to_lowercase());
        let api = self.api(&resource(text("/apiVersion"), kind, &plural), text("/metadata/namespace"));
        (api, kind, text("/metadata/name"))
    }
}

fn points_to_waypoints(service: &Service) -> bool {
    service.front.selector != Points::Away || service.ports.iter().any(|port| port.turned.is_some())
}

fn changed(service: &Name) -> Failure {
    Failure::Unavailable(format!("Service {service} is another one than a moment ago"))
}
