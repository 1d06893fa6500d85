//! Strategic merge patch, as far as a Deployment needs it. Objects are merged, `null` takes a field away. Lists are
//! replaced, but for those in [`merge_key`], whose entries are merged by their key. `$patch: delete` takes an object
//! or an entry away, `$patch: replace` puts it in place of the old one; in a list it is an entry of its own that does
//! so for the whole list. Not covered, and refused: the directives `$setElementOrder/`, `$deleteFromPrimitiveList/` and
//! `$retainKeys`, which programs write and people don't.

use serde_json::{Map, Value};

/// How deep a patch may be: deeper than any field of a Deployment.
const MAX_DEPTH: usize = 32;

/// Applies `patch` to `target`.
///
/// # Errors
/// What of the patch can't be understood.
pub(super) fn apply(target: &mut Value, patch: &Value) -> Result<(), String> {
    if !patch.is_object() {
        return Err("is no object".into());
    }
    merge(target, patch, MAX_DEPTH)
}

/// What the entries of a list are told apart by: the `patchMergeKey` of the API.
fn merge_key(list: &str, entries: &[Value]) -> Option<&'static str> {
    let has = |key: &str| entries.iter().any(|entry| entry.get(key).is_some());
    match list {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => {
            Some("name")
        }
        // Of a container; `ports` of nothing else is in a Deployment.
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "hostAliases" => Some(if has("ip") { "ip" } else { "hostnames" }),
        _ => None,
    }
}

fn merge(target: &mut Value, patch: &Value, depth: usize) -> Result<(), String> {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return Ok(());
    };
    let depth = depth.checked_sub(1).ok_or("is too deep")?;
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => *target = Value::Object(Map::new()),
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        None | Some("merge") => {}
        Some(other) => return Err(format!("`$patch: {other}` is none of `delete`, `merge`, `replace`")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return Ok(()) };
    for (name, value) in patch.iter().filter(|(name, _)| *name != "$patch") {
        if name.starts_with('$') {
            return Err(format!("`{name}` is a directive that Sidetrack does not know"));
        }
        field(fields, name, value, depth)?;
    }
    Ok(())
}

fn field(fields: &mut Map<String, Value>, name: &str, value: &Value, depth: usize) -> Result<(), String> {
    if value.is_null() {
        fields.remove(name);
        return Ok(());
    }
    let slot = fields.entry(name.to_owned()).or_insert(Value::Null);
    match value.as_array() {
        Some(entries) => match merge_key(name, entries) {
            Some(key) => list(slot, name, key, entries, depth)?,
            None => slot.clone_from(value),
        },
        None => merge(slot, value, depth)?,
    }
    if slot.is_null() {
        fields.remove(name);
    }
    Ok(())
}

/// Merges a list whose entries have a key.
fn list(target: &mut Value, name: &str, key: &str, entries: &[Value], depth: usize) -> Result<(), String> {
    let directive = |entry: &Value| entry.get("$patch").and_then(Value::as_str).map(str::to_owned);
    let whole = |entry: &Value| directive(entry).as_deref() == Some("replace") && entry.get(key).is_none();
    if !target.is_array() || entries.iter().any(whole) {
        *target = Value::Array(Vec::new());
    }
    let Some(list) = target.as_array_mut() else { return Ok(()) };
    for entry in entries.iter().filter(|entry| !whole(entry)) {
        let Some(id) = entry.get(key) else {
            return Err(format!("an entry of `{name}` has no `{key}`, which tells it apart"));
        };
        let at = list.iter().position(|other| other.get(key) == Some(id));
        if directive(entry).as_deref() == Some("delete") {
            if let Some(at) = at {
                list.remove(at);
            }
            continue;
        }
        match at.and_then(|at| list.get_mut(at)) {
            Some(old) => merge(old, entry, depth)?,
            None => {
                let mut new = Value::Null;
                merge(&mut new, entry, depth)?;
                list.push(new);
            }
        }
    }
    Ok(())
}
