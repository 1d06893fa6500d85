//! The manifest of a clone.

use serde_json::{Map, Value, json};

use super::super::ForkState;
use super::super::claims::{Asked, Claim};
use super::super::guard;
use super::super::index::Index;
use super::super::labels::bounded;
use super::{hash, merge};
use crate::names::{
    CLONE_HASH, ENV_KEY, ENV_SERVICE, FORK_OF, FORK_OF_NAMESPACE, PR, PREFIX, PREVIEW, PREVIEW_UID,
};
use crate::preview::CloneSpec;
use crate::world::{Labels, Name};

/// The longest value of a label.
const MAX_LABEL: usize = 63;

/// A clone to make.
#[derive(Debug)]
pub(super) struct Order<'o, 'a> {
    pub(super) index: &'o Index<'a>,
    pub(super) asked: &'o Asked<'a>,
    pub(super) claim: &'o Claim<'a>,
    pub(super) clone: &'a CloneSpec,
    pub(super) name: &'o Name,
}

type Refused = (ForkState, String);

fn invalid(why: impl Into<String>) -> Refused {
    (ForkState::Invalid, why.into())
}

impl Order<'_, '_> {
    /// Makes the clone from the manifest of the baseline: the spec is taken over, of the metadata nothing but what is
    /// ours. Labels and annotations of the Deployment itself belong to whoever deployed it: with them Argo CD, Flux
    /// or Helm would take the clone for theirs.
    pub(super) fn build(&self, baseline: &Value) -> Result<Value, Refused> {
        let mut spec = baseline.get("spec").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
        set(&mut spec, "replicas", json!(self.clone.replicas.unwrap_or(1)));
        remove(&mut spec, &["paused", "selector"]);
        let mut template = spec.get_mut("template").map(Value::take).unwrap_or_else(|| json!({}));
        self.strip(&mut template);
        self.change_container(&mut template)?;
        set(&mut spec, "template", template);
        let mut whole = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec});
        if let Some(patch) = &self.clone.patch {
            merge::apply(&mut whole, patch).map_err(|why| invalid(format!("`clone.patch`: {why}")))?;
        }
        self.claim_as_ours(&mut whole)?;
        let hash = hash(&whole);
        if let Some(metadata) = whole.get_mut("metadata") {
            insert(metadata, "annotations", CLONE_HASH, json!(hash));
        }
        Ok(whole)
    }

    /// Takes away what is the baseline's: every label by which a Service selects the pods, and what `kubectl` notes.
    fn strip(&self, template: &mut Value) {
        let Some(metadata) = template.get_mut("metadata") else { return };
        remove(metadata, &["creationTimestamp", "name", "generateName", "namespace", "ownerReferences"]);
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/restartedAt");
            annotations.retain(|name, _| !name.starts_with(PREFIX));
        }
        let mut labels = labels_of(metadata);
        labels.retain(|name, _| !name.starts_with(PREFIX));
        let namespace = &self.name.namespace;
        let matching: Vec<_> = self.index.selectors.matching(namespace, &labels).collect();
        let selecting = matching.iter().flat_map(|(_, service)| service.selector.keys());
        let selecting: Vec<&str> = selecting.map(|name| &**name).collect();
        labels.retain(|name, _| !selecting.contains(&&**name));
        set(metadata, "labels", to_value(&labels));
    }

    fn change_container(&self, template: &mut Value) -> Result<(), Refused> {
        let containers = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        let containers = containers.ok_or_else(|| invalid("the Deployment has no containers"))?;
        let wanted = self.clone.container.as_deref().filter(|name| !name.is_empty());
        let found = match wanted {
            Some(name) => containers
                .iter_mut()
                .find(|container| container.get("name").is_some_and(|other| other == name)),
            None => containers.first_mut(),
        };
        let Some(container) = found else {
            let why = format!("the Deployment has no container `{}`", wanted.unwrap_or_default());
            return Err(invalid(why));
        };
        if let Some(image) = &self.clone.image {
            set(container, "image", json!(image));
        }
        if let Some(args) = &self.clone.args {
            set(container, "args", json!(args));
        }
        for (name, value) in &self.clone.env {
            set_env(container, name, value);
        }
        Ok(())
    }

    /// Says whose the clone is. After the patch, which can change none of this.
    fn claim_as_ours(&self, whole: &mut Value) -> Result<(), Refused> {
        let ours = self.labels();
        let Some(spec) = whole.get_mut("spec") else {
            return Err(invalid("`clone.patch` takes the spec away"));
        };
        let selector: Labels = ours
            .iter()
            .filter(|(name, _)| &***name != PREVIEW)
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        set(spec, "selector", json!({"matchLabels": to_value(&selector)}));
        let Some(template) = spec.get_mut("template").filter(|template| template.is_object()) else {
            return Err(invalid("`clone.patch` takes the template away"));
        };
        for (name, value) in &ours {
            if let Some(metadata) = entry(template, "metadata") {
                insert(metadata, "labels", name, json!(value));
            }
        }
        let labels = template.get("metadata").map(labels_of).unwrap_or_default();
        if let Some(why) = guard::selected(self.index, &self.claim.id, &labels, None) {
            return Err((ForkState::Leaks, why));
        }
        let environment = [(ENV_KEY, self.claim.id.key.as_str()), (ENV_SERVICE, self.claim.id.service.1)];
        for list in ["/spec/containers", "/spec/initContainers"] {
            let containers = template.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers {
                environment.iter().for_each(|(name, value)| set_env(container, name, value));
            }
        }
        let mut metadata = whole.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
        remove(
            &mut metadata,
            &["uid", "resourceVersion", "managedFields", "generation", "creationTimestamp"],
        );
        set(&mut metadata, "name", json!(self.name.name));
        set(&mut metadata, "namespace", json!(self.name.namespace));
        for (name, value) in &ours {
            insert(&mut metadata, "labels", name, json!(value));
        }
        set(&mut metadata, "ownerReferences", json!([self.owner()]));
        set(whole, "metadata", metadata);
        set(whole, "apiVersion", json!("apps/v1"));
        set(whole, "kind", json!("Deployment"));
        remove(whole, &["status"]);
        Ok(())
    }

    fn labels(&self) -> Labels {
        let (home, service) = self.claim.id.service;
        let mut labels = Labels::from([
            (PR.into(), self.claim.id.key.as_str().into()),
            (FORK_OF.into(), service.into()),
            (PREVIEW.into(), bounded(&self.asked.name.name, MAX_LABEL).into()),
            (PREVIEW_UID.into(), self.asked.object.meta.uid.clone()),
        ]);
        if home != &*self.name.namespace {
            labels.insert(FORK_OF_NAMESPACE.into(), home.into());
        }
        labels
    }

    fn owner(&self) -> Value {
        let id = self.asked.id();
        json!({
            "apiVersion": id.api_version,
            "kind": id.kind,
            "name": id.name.name,
            "uid": id.uid,
            "controller": true,
            "blockOwnerDeletion": false,
        })
    }
}

/// Sets a variable of a container in its place, or after the others. A value that came from elsewhere is replaced.
fn set_env(container: &mut Value, name: &str, value: &str) {
    let Some(object) = container.as_object_mut() else { return };
    let list = object.entry("env").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    let new = json!({"name": name, "value": value});
    match list.iter_mut().find(|variable| variable.get("name").is_some_and(|other| other == name)) {
        Some(variable) => *variable = new,
        None => list.push(new),
    }
}

/// The labels in a `metadata`.
pub(super) fn labels_of(metadata: &Value) -> Labels {
    let labels = metadata.get("labels").and_then(Value::as_object);
    let texts = labels.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_str()?)));
    texts.map(|(name, value)| (name.as_str().into(), value.into())).collect()
}

fn to_value(labels: &Labels) -> Value {
    labels.iter().map(|(name, value)| (name.to_string(), json!(value))).collect::<Map<_, _>>().into()
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn remove(object: &mut Value, names: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        names.iter().for_each(|name| drop(object.remove(*name)));
    }
}

/// The object under `name`, made where there is none.
fn entry<'v>(object: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    let value = object.as_object_mut()?.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    Some(value)
}

fn insert(object: &mut Value, map: &str, name: &str, value: Value) {
    if let Some(map) = entry(object, map) {
        set(map, name, value);
    }
}
