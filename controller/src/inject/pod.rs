//! A pod as JSON: what is asked of it, and how it is changed. A pod may hold what no library of ours knows yet, so it is
//! not read into a type.

use serde_json::{Map, Value, json};

/// A pod that is read.
pub(super) struct Pod<'a>(pub(super) &'a Value);

impl<'a> Pod<'a> {
    /// A label; `None` where it is empty, too.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        self.said("labels", name)
    }

    /// An annotation; `None` where it is empty, too.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.said("annotations", name)
    }

    fn said(&self, field: &str, name: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get(field)?.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// All labels.
    pub(super) fn labels(&self) -> impl Fn(&str) -> Option<&'a str> {
        let labels = self.0.pointer("/metadata/labels");
        move |name| labels?.get(name)?.as_str()
    }

    /// A field of its spec.
    pub(super) fn spec(&self, field: &str) -> Option<&'a Value> {
        self.0.get("spec")?.get(field)
    }

    /// Its containers, without init containers.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        self.spec("containers").and_then(Value::as_array).into_iter().flatten()
    }

    /// Its init containers.
    pub(super) fn init_containers(&self) -> impl Iterator<Item = &'a Value> {
        self.spec("initContainers").and_then(Value::as_array).into_iter().flatten()
    }

    /// Whether the pod or one of its containers says that it runs as `user`.
    pub(super) fn runs_as(&self, user: u32) -> bool {
        let says = |value: &Value| {
            value.pointer("/securityContext/runAsUser").and_then(Value::as_u64) == Some(user.into())
        };
        self.0.get("spec").is_some_and(says) || self.containers().any(says)
    }
}

/// The name of a container, a port or a variable.
pub(super) fn name(part: &Value) -> Option<&str> {
    part.get("name")?.as_str()
}

/// The list at `pointer`, whose last part is made where it is missing or null.
fn list<'a>(pod: &'a mut Value, pointer: &str) -> Option<&'a mut Vec<Value>> {
    let (parent, field) = pointer.rsplit_once('/')?;
    let parent = pod.pointer_mut(parent)?.as_object_mut()?;
    made(parent, field, json!([])).as_array_mut()
}

fn made<'a>(parent: &'a mut Map<String, Value>, field: &str, empty: Value) -> &'a mut Value {
    let place = parent.entry(field).or_insert(Value::Null);
    if place.is_null() {
        *place = empty;
    }
    place
}

/// Adds to the end of the list at `pointer`.
pub(super) fn push(pod: &mut Value, pointer: &str, value: Value) {
    if let Some(list) = list(pod, pointer) {
        list.push(value);
    }
}

/// Adds to the front of the list at `pointer`.
pub(super) fn put_first(pod: &mut Value, pointer: &str, values: Vec<Value>) {
    if let Some(list) = list(pod, pointer) {
        list.splice(0..0, values);
    }
}

/// Sets an annotation.
pub(super) fn annotate(pod: &mut Value, name: &str, value: &str) {
    if let Some(annotations) = annotations(pod) {
        annotations.insert(name.to_owned(), json!(value));
    }
}

/// Sets an annotation that is not there.
pub(super) fn annotate_if_absent(pod: &mut Value, name: &str, value: &str) {
    if let Some(annotations) = annotations(pod) {
        annotations.entry(name).or_insert_with(|| json!(value));
    }
}

fn annotations(pod: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = made(pod.as_object_mut()?, "metadata", json!({}));
    made(metadata.as_object_mut()?, "annotations", json!({})).as_object_mut()
}

/// Gives every container these variables, where it has none of the name: an owner's word counts.
pub(super) fn env_of_all(pod: &mut Value, variables: &[(&str, &str)]) {
    for pointer in ["/spec/containers", "/spec/initContainers"] {
        let containers = pod.pointer_mut(pointer).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            for (name, value) in variables {
                env_if_absent(container, name, value);
            }
        }
    }
}

fn env_if_absent(container: &mut Value, variable: &str, value: &str) {
    let Some(env) = list(container, "/env") else { return };
    if !env.iter().any(|entry| name(entry) == Some(variable)) {
        env.push(json!({"name": variable, "value": value}));
    }
}

/// Gives a container a variable; `false` where it takes it from somewhere else.
pub(super) fn set_env(container: &mut Value, variable: &str, value: &str) -> bool {
    let Some(env) = list(container, "/env") else { return false };
    match env.iter_mut().find(|entry| name(entry) == Some(variable)) {
        Some(entry) if entry.get("valueFrom").is_some_and(|from| !from.is_null()) => false,
        Some(entry) => {
            *entry = json!({"name": variable, "value": value});
            true
        }
        None => {
            env.push(json!({"name": variable, "value": value}));
            true
        }
    }
}
