//! One write as one request, or two.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersion};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tracing::info;

use super::wants::{Write, api_version};
use crate::names;
use crate::plan::{CloneWrite, Deletion, Notice, ObjectId, StatusWrite};
use crate::watch::{STATE_NAME, read_state, write_state};
use crate::world::Name;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most characters of an Event's note; the API server takes 1,024 bytes.
const MAX_NOTE: usize = 1_000;

/// Why a write was not done.
#[derive(Debug, ThisError)]
pub(super) enum Failure {
    /// The API server said no: access, admission, quota, validation, conflict.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not well.
    #[error("the API server can't be asked: {0}")]
    Unavailable(String),
    /// Another replica writes now.
    #[error("another replica is the leader")]
    NotLeader,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // 429 and 5xx are about the server, not about the write.
            Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Self::Refused(status.message)
            }
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// Sends writes.
pub(crate) struct Sender {
    client: Client,
    /// Where the state is kept.
    namespace: Box<str>,
    /// Who says so in Events.
    identity: Box<str>,
    /// Whether writes are only logged.
    dry_run: bool,
}

impl Sender {
    /// One that writes as `identity`, and its own state to `namespace`.
    pub(crate) fn new(client: Client, namespace: &str, identity: &str, dry_run: bool) -> Self {
        Self { client, namespace: namespace.into(), identity: identity.into(), dry_run }
    }

    /// Does it.
    pub(super) async fn send(&self, write: &Write) -> Result<(), Failure> {
        if self.dry_run {
            info!("dry run: would write {}", write.describe());
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.request(write)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    /// What asks the API server.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    async fn request(&self, write: &Write) -> Result<(), Failure> {
        match write {
            Write::Preview { name, uid, status } => {
                let kind = ApiResource::erase::<crate::preview::Preview>(&());
                self.status(&kind, name, uid, status).await
            }
            Write::Status(StatusWrite { object, plural, status }) => {
                let kind = resource(&object.api_version, &object.kind, plural);
                self.status(&kind, &object.name, &object.uid, status).await
            }
            Write::Clone(clone) => self.clone_workload(clone).await,
            Write::Delete(deletion) => self.delete(deletion).await,
            Write::Waypoint(write) => self.waypoint(write).await,
            Write::Event(notice) => self.event(notice).await,
            Write::State { seen, gone } => self.state(write_state(seen, gone)).await,
        }
    }

    /// A uid in the patch that is not the object's makes the API server refuse it: one that took its name meanwhile is
    /// another object.
    async fn status(
        &self,
        kind: &ApiResource,
        name: &Name,
        uid: &str,
        status: &Value,
    ) -> Result<(), Failure> {
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": status}));
        let params = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        match self.api(kind, &name.namespace).patch_status(&name.name, &params, &patch).await {
            // It is gone, and so is what there was to say.
            Err(Error::Api(answer)) if answer.code == 404 => Ok(()),
            result => result.map(drop).map_err(Failure::from),
        }
    }

    /// Server-side apply takes over an object that is there already. One that is not a clone of ours stays as it is.
    async fn clone_workload(&self, clone: &CloneWrite) -> Result<(), Failure> {
        let text =
            |pointer: &str| clone.manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let labels = clone.manifest.pointer("/metadata/labels");
        let uid = labels.and_then(|labels| labels.get(names::PREVIEW_UID)?.as_str()).unwrap_or_default();
        let plural = format!("{}s", kind.to_lowercase());
        let api = self.api(&resource(text("/apiVersion"), kind, &plural), namespace);
        if let Some(there) = api.get_opt(name).await?
            && there.labels().get(names::PREVIEW_UID).map(String::as_str) != Some(uid)
        {
            let text = format!("{kind} {namespace}/{name} is there already and is no clone of this Preview");
            return Err(Failure::Refused(text));
        }
        let params = PatchParams::apply(names::MANAGER).force();
        api.patch(name, &params, &Patch::Apply(&clone.manifest)).await?;
        info!("applied the clone {kind} {namespace}/{name} for Preview {}", clone.preview);
        Ok(())
    }

    async fn delete(&self, deletion: &Deletion) -> Result<(), Failure> {
        if let Some(uid) = &deletion.orphan_of
            && self.is_there(uid, &deletion.name.namespace).await?
        {
            return Err(Failure::Unavailable(format!("its Preview (uid {uid}) is there after all")));
        }
        let kind = deletion.kind.as_str();
        let plural = format!("{}s", kind.to_lowercase());
        let api = self.api(&resource(api_version(deletion), kind, &plural), &deletion.name.namespace);
        let preconditions = Preconditions { uid: Some(deletion.uid.to_string()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(&deletion.name.name, &params).await {
            Err(Error::Api(answer)) if answer.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => {
                info!("deleted {kind} {}: {}", deletion.name, deletion.why);
                Ok(())
            }
        }
    }

    /// Whether a Preview is there, whatever the watch says. No answer is no, least of all that there is no such kind: an
    /// API server that has just started says so too.
    async fn is_there(&self, uid: &str, namespace: &str) -> Result<bool, Failure> {
        let kind = ApiResource::erase::<crate::preview::Preview>(&());
        let list = self.api(&kind, namespace).list_metadata(&ListParams::default()).await?;
        Ok(list.items.iter().any(|preview| preview.metadata.uid.as_deref() == Some(uid)))
    }

    async fn event(&self, notice: &Notice) -> Result<(), Failure> {
        let namespace = match &*notice.about.name.namespace {
            "" => "default",
            namespace => namespace,
        };
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &event(notice, namespace, &self.identity)).await {
            // Another replica told it within this hour.
            Err(Error::Api(answer)) if answer.code == 409 => Ok(()),
            result => result.map(drop).map_err(Failure::from),
        }
    }

    /// Replaces what was read, so that two leaders, should there be two for a moment, don't mix their states.
    async fn state(&self, data: std::collections::BTreeMap<String, String>) -> Result<(), Failure> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams { field_manager: Some(names::MANAGER.to_owned()), ..PostParams::default() };
        let known = api.get_opt(STATE_NAME).await?;
        let wanted = ConfigMap { data: Some(data), ..ConfigMap::default() };
        match known {
            Some(known) if read_state(&known) == read_state(&wanted) => {}
            Some(mut known) => {
                known.data = wanted.data;
                api.replace(STATE_NAME, &params, &known).await?;
            }
            None => {
                let metadata = ObjectMeta { name: Some(STATE_NAME.to_owned()), ..ObjectMeta::default() };
                api.create(&params, &ConfigMap { metadata, ..wanted }).await?;
            }
        }
        Ok(())
    }

    pub(super) fn api(&self, kind: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            return Api::all_with(self.client.clone(), kind);
        }
        Api::namespaced_with(self.client.clone(), namespace, kind)
    }
}

/// A kind of the API.
pub(super) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let group_version = GroupVersion::gv(group, version);
    ApiResource::from_gvk_with_plural(&group_version.with_kind(kind), plural)
}

fn event(notice: &Notice, namespace: &str, identity: &str) -> Event {
    let ObjectId { api_version, kind, name, uid } = &notice.about;
    let now = Timestamp::now();
    // The same words within the same hour are the same Event, whoever says them.
    let mut hasher = DefaultHasher::new();
    (notice, now.as_second() / 3600).hash(&mut hasher);
    let object: String = name.name.chars().take(200).collect();
    Event {
        action: Some("Route".to_owned()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:016x}", hasher.finish())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        note: Some(notice.message.chars().take(MAX_NOTE).collect()),
        reason: Some(notice.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.to_string()),
            kind: Some(kind.to_string()),
            name: Some(name.name.to_string()),
            namespace: Some(name.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("sidetrack.dev/controller".to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api;
    use crate::world::WorkloadKind;

    fn sender(client: Client) -> Sender {
        Sender::new(client, "sidetrack", "one", false)
    }

    #[tokio::test]
    async fn an_orphan_is_deleted_only_if_the_api_server_knows_no_preview_of_it() {
        let list = |uid: &str| {
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
                "items": [{
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"name": "mine", "namespace": "shop", "uid": uid},
                }],
            })
        };
        let gone = json!({"kind": "Status", "status": "Failure", "code": 404, "message": "no such kind"});
        for (status, body, is_deleted) in
            [(200, list("p"), false), (404, gone, false), (200, list("another"), true)]
        {
            let (client, asked) = fake_api::serve(move |line| match line.starts_with("GET") {
                true => (status, body.to_string()),
                false => (200, json!({"kind": "Status", "status": "Success"}).to_string()),
            })
            .await;
            let deletion = Deletion {
                kind: WorkloadKind::Deployment,
                name: Name::new("shop", "checkout-pr-42"),
                uid: "d".into(),
                orphan_of: Some("p".into()),
                why: "its Preview has ended or is gone".into(),
            };
            assert_eq!(sender(client).send(&Write::Delete(deletion)).await.is_ok(), is_deleted);
            let asked = asked.lock().unwrap();
            assert_eq!(asked.iter().any(|line| line.starts_with("DELETE")), is_deleted, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_a_clone_of_the_preview_is_left_alone() {
        let manifest = |uid: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "a", "namespace": "shop", "labels": {names::PREVIEW_UID: uid}},
            })
        };
        for (there, is_written) in [("another", false), ("p", true)] {
            let body = manifest(there).to_string();
            let (client, asked) = fake_api::serve(move |_| (200, body.clone())).await;
            let clone = CloneWrite { preview: Name::new("shop", "mine"), manifest: manifest("p") };
            assert_eq!(sender(client).send(&Write::Clone(clone)).await.is_ok(), is_written);
            let asked = asked.lock().unwrap();
            assert_eq!(asked.iter().any(|line| line.starts_with("PATCH")), is_written, "{asked:?}");
        }
    }
}
