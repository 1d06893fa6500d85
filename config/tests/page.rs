//! `docs/configuration.md`: every field of the configuration file, as the JSON Schema tells it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidetrack-config --test page` writes the page anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod schema_tools;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sidetrack_config::schema::json_schema;

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the JSON Schema; change the docstrings in config/src/document, then run
     UPDATE_GOLDEN=1 cargo test -p sidetrack-config --test page -->

One YAML file. Names are camelCase, an unknown name is an error, and every problem of a file is told at once with its
line, its column and what is allowed. `sidetrack check -c FILE` checks a file, `sidetrack schema` prints its JSON Schema
for editors. A file that can be copied: [examples/sidetrack.yaml](../examples/sidetrack.yaml).

Paths are relative to the folder of the file. A change of the file is applied within a second and drops no request; a
change of `listeners` (addresses), `admin`, `stateDir`, `workers`, `accessLog` or `limits` is named in the log and waits
for the next start. A bad file changes nothing: the last good table stays in force.

";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A section of the page: one kind of map, and where in the file it may stand.
struct Section<'s> {
    path: String,
    schema: &'s Map<String, Value>,
}

/// Every map of the file, parents first, each kind once.
fn sections(schema: &Value) -> Vec<Section<'_>> {
    let mut found = vec![Section { path: String::new(), schema: schema.as_object().unwrap() }];
    let mut seen = BTreeSet::new();
    let mut next = 0;
    while let Some(Section { path, schema: of }) = found.get(next) {
        let fields = of["properties"].as_object().unwrap();
        let below = fields.iter().flat_map(|(name, field)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            maps(field, schema, path)
        });
        let below: Vec<_> = below.filter(|(name, _)| seen.insert(name.clone())).map(|(_, map)| map).collect();
        // Right behind its parent, so that what belongs together stands together.
        found.splice(next + 1..next + 1, below);
        next += 1;
    }
    found
}

/// The maps that a field holds, with the names of their kinds.
fn maps<'s>(field: &'s Value, root: &'s Value, path: String) -> Vec<(String, Section<'s>)> {
    let mut found = Vec::new();
    if let Some(target) = field["$ref"].as_str() {
        let schema = root.pointer(&target[1..]).unwrap();
        match schema["properties"].is_object() {
            true => found.push((target.to_owned(), Section { path, schema: schema.as_object().unwrap() })),
            false => found.extend(maps(schema, root, path)),
        }
    } else if field["items"].is_object() {
        found.extend(maps(&field["items"], root, format!("{path}[]")));
    } else if field["additionalProperties"].is_object() {
        found.extend(maps(&field["additionalProperties"], root, format!("{path}.NAME")));
    } else {
        for choice in field["anyOf"].as_array().into_iter().flatten() {
            found.extend(maps(choice, root, path.clone()));
        }
    }
    found
}

/// What may stand in a field, in words.
fn allowed(field: &Value, root: &Value) -> String {
    if let Some(target) = field["$ref"].as_str() {
        let schema = root.pointer(&target[1..]).unwrap();
        return match schema["properties"].is_object() {
            true => "a map, see below".to_owned(),
            false => allowed(schema, root),
        };
    }
    if field["items"].is_object() {
        return match allowed(&field["items"], root).as_str() {
            "a map, see below" => "a list of maps, see below".to_owned(),
            item => format!("a list; each: {item}"),
        };
    }
    match &field["additionalProperties"] {
        Value::Object(_) => match allowed(&field["additionalProperties"], root).as_str() {
            "a map, see below" => return "a map from name to map, see below".to_owned(),
            value => return format!("a map from name to {value}"),
        },
        _ => {}
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = field[choice].as_array() {
            return choices.iter().map(|choice| one_choice(choice, root)).collect::<Vec<_>>().join("; ");
        }
    }
    if let Some(words) = field["enum"].as_array() {
        return words.iter().map(|word| format!("`{}`", plain(word))).collect::<Vec<_>>().join(", ");
    }
    match (field["type"].as_str(), &field["minimum"], &field["maximum"]) {
        (Some("integer"), low, high) => format!("{} to {}", plain(low), plain(high)),
        (Some("boolean"), ..) => "`true` or `false`".to_owned(),
        _ => plain(&field["description"]),
    }
}

fn one_choice(choice: &Value, root: &Value) -> String {
    match choice.get("const") {
        Some(word) => format!("`{}`: {}", plain(word), sentence(choice)),
        None => allowed(choice, root),
    }
}

/// A description inside a line: without its full stop.
fn sentence(value: &Value) -> String {
    plain(&value["description"]).trim_end_matches('.').to_owned()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(" \n", " ").replace('\n', " "),
        Value::Null => "0".to_owned(),
        other => other.to_string(),
    }
}

fn page() -> String {
    let schema = json_schema();
    let mut page = INTRODUCTION.to_owned();
    for Section { path, schema: of } in sections(&schema) {
        match path.as_str() {
            "" => page.push_str("## The file\n\n"),
            path => writeln!(page, "## `{path}`\n\n{}\n", plain(&of["description"])).unwrap(),
        }
        page.push_str("| Field | Meaning | Allowed | Default |\n|---|---|---|---|\n");
        let required: Vec<&str> =
            of.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in of["properties"].as_object().unwrap() {
            let default = match field.get("default") {
                Some(default) => format!("`{}`", plain(default)),
                None if required.contains(&name.as_str()) => "required".to_owned(),
                None => String::new(),
            };
            let (meaning, allowed) = (plain(&field["description"]), allowed(field, &schema));
            writeln!(page, "| `{name}` | {meaning} | {allowed} | {default} |").unwrap();
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

#[test]
fn the_page_is_what_the_schema_says() {
    let (path, page) = (root("docs/configuration.md"), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, written, "docs/configuration.md is old: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn every_field_is_on_the_page() {
    let page = page();
    let fields = schema_tools::fields();
    assert!(fields.len() > 80, "{fields:#?}");
    for field in fields {
        let name = field.rsplit('.').next().unwrap();
        // Names of services and the like are the author's own.
        assert!(name == "*" || page.contains(&format!("| `{name}` |")), "{field} is missing");
    }
}

#[test]
fn the_example_is_good() {
    let checked = sidetrack_config::load(&root("examples/sidetrack.yaml")).unwrap();
    assert_eq!(checked.warnings.len(), 0, "{:?}", checked.warnings);
    assert!(checked.config.services.len() > 1 && !checked.config.previews.is_empty());
}

#[test]
fn the_readme_shows_the_example() {
    let example = fs::read_to_string(root("examples/sidetrack.yaml")).unwrap();
    let readme = fs::read_to_string(root("README.md")).unwrap();
    assert!(readme.contains(&format!("```yaml\n{example}```\n")), "README.md and examples/sidetrack.yaml differ");
}
