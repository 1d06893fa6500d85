//! The page that documents every field of `Preview`, made from its schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::definition;

const INTRODUCTION: &str = "\
# Preview

<!-- Made from the schema: change the docstrings in controller/src/preview.rs, then run
     UPDATE_GOLDEN=1 cargo test -p sidetrack-controller --test page -->

A `Preview` is what a pull request has in the shared cluster: a routing key and forks of the services that it changes.
It is namespaced, of `sidetrack.dev/v1alpha1`, and `kubectl get previews` shows key, phase, link and end. Names ending in `[]` are lists.

    apiVersion: sidetrack.dev/v1alpha1
    kind: Preview
    metadata: {name: pr-42}
    spec:
      key: \"42\"
      ttl: 72h
      forks:
        - service: checkout
          clone: {image: registry.example.com/checkout:pr-42}
        - service: cart            # deployed by somebody else, its pods labelled sidetrack.dev/pr and sidetrack.dev/fork-of
";

/// The page, in Markdown.
pub fn page() -> String {
    let definition = definition();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties");
    let mut page = INTRODUCTION.to_owned();
    for (name, title) in [("spec", "What is asked for"), ("status", "What the controller says")] {
        if let Some(schema) = schema.and_then(|schema| schema.get(name)) {
            // Writing to a String can't fail.
            let _ = write!(page, "\n## `{name}`: {title}\n");
            table(&mut page, name, schema);
        }
    }
    page
}

/// One table for the fields of a map, then those of the maps in it.
fn table(page: &mut String, path: &str, schema: &Value) {
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    page.push_str("\n| Field | Meaning | Allowed | Default |\n|---|---|---|---|\n");
    for (name, field) in fields {
        let default = match field.get("default") {
            Some(default) => format!("`{}`", text(default)),
            None if is_required(name) => "required".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(page, "| `{name}` | {} | {} | {default} |", meaning(field), allowed(field));
    }
    rules(page, schema);
    for (name, field) in fields {
        let (path, field) = inner(&format!("{path}.{name}"), field);
        if field.get("properties").is_some() {
            let _ = write!(page, "\n### `{path}`\n\n{}\n", meaning(field));
            table(page, &path, field);
        }
    }
}

/// The schema of what is in a list, or of the field itself.
fn inner<'a>(path: &str, field: &'a Value) -> (String, &'a Value) {
    match field.get("items") {
        Some(items) => (format!("{path}[]"), items),
        None => (path.to_owned(), field),
    }
}

fn rules(page: &mut String, schema: &Value) {
    let of = |schema: &Value| -> Vec<String> {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        rules
            .into_iter()
            .flatten()
            .filter_map(|rule| rule.get("message")?.as_str().map(str::to_owned))
            .collect()
    };
    let mut all = of(schema);
    all.extend(
        schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values).flat_map(of),
    );
    if !all.is_empty() {
        let _ = write!(page, "\nRules, where the API server knows CEL (1.25 and later):\n\n");
    }
    for message in all {
        let _ = writeln!(page, "- {message}");
    }
}

fn meaning(field: &Value) -> String {
    let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// What may be written.
fn allowed(field: &Value) -> String {
    let value = |name: &str| field.get(name);
    if let Some(words) = value("enum").and_then(Value::as_array) {
        return words.iter().map(|word| format!("`{}`", text(word))).collect::<Vec<_>>().join(", ");
    }
    let kind = match value("type").and_then(Value::as_str) {
        Some("array") => {
            let each = value("items").map(allowed).unwrap_or_default();
            return limited(format!("a list; each: {each}"), field, &[("maxItems", "at most")]);
        }
        Some("object") => match value("additionalProperties") {
            Some(each) => format!("by name; each: {}", allowed(each)),
            None => "a map".to_owned(),
        },
        Some("integer") => "a number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        _ if value("format").is_some_and(|format| format == "date-time") => "a time".to_owned(),
        _ => "a text".to_owned(),
    };
    let kind = limited(kind, field, &[("minimum", "from"), ("maximum", "to"), ("maxLength", "at most")]);
    match value("pattern").and_then(Value::as_str) {
        Some(pattern) => format!("{kind}, `{}`", pattern.replace('|', "\\|")),
        None => kind,
    }
}

fn limited(mut kind: String, field: &Value, limits: &[(&str, &str)]) -> String {
    for (name, words) in limits {
        let Some(limit) = field.get(name).and_then(Value::as_f64) else { continue };
        let unit = if *name == "maxLength" { " characters" } else { "" };
        let _ = write!(kind, ", {words} {limit}{unit}");
    }
    kind
}

/// A value without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
