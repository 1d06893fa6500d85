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
change of `listeners` (addresses, TLS or none), `admin`, `stateDir`, `workers`, `accessLog` or `limits` is named in the log and waits
for the next start. A bad file changes nothing: the last good table stays in force.

";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A section of the page: one kind of map, and where in the file it first stands.
struct Section<'s> {
    /// The place of its kind in the schema; empty for the file itself.
    kind: &'s str,
    path: String,
    schema: &'s Map<String, Value>,
}

/// The page in the making.
struct Page<'s> {
    root: &'s Value,
    sections: Vec<Section<'s>>,
}

impl<'s> Page<'s> {
    /// Every map of the file, parents first, each kind once.
    fn new(root: &'s Value) -> Self {
        let file = Section { kind: "", path: String::new(), schema: root.as_object().unwrap() };
        let mut page = Self { root, sections: vec![file] };
        let mut seen = BTreeSet::new();
        let mut next = 0;
        while let Some(Section { path, schema, .. }) = page.sections.get(next) {
            let mut below = Vec::new();
            for (name, field) in schema["properties"].as_object().unwrap() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                page.maps(field, &path, &mut below);
            }
            below.retain(|section| seen.insert(section.kind));
            // Right behind its parent, so that what belongs together stands together.
            page.sections.splice(next + 1..next + 1, below);
            next += 1;
        }
        page
    }

    fn at(&self, target: &str) -> &'s Value {
        self.root.pointer(&target[1..]).unwrap()
    }

    /// The maps that a field holds.
    fn maps(&self, field: &'s Value, path: &str, found: &mut Vec<Section<'s>>) {
        if let Some(kind) = field["$ref"].as_str() {
            match self.at(kind) {
                map if map["properties"].is_object() => {
                    let (path, schema) = (path.to_owned(), map.as_object().unwrap());
                    found.push(Section { kind, path, schema });
                }
                other => self.maps(other, path, found),
            }
        }
        if field["items"].is_object() {
            self.maps(&field["items"], &format!("{path}[]"), found);
        }
        if field["additionalProperties"].is_object() {
            self.maps(&field["additionalProperties"], &format!("{path}.NAME"), found);
        }
        for choice in field["anyOf"].as_array().into_iter().flatten() {
            self.maps(choice, path, found);
        }
    }

    /// What may stand in a field, in words.
    fn allowed(&self, field: &Value) -> String {
        if let Some(kind) = field["$ref"].as_str() {
            return match self.sections.iter().find(|section| section.kind == kind) {
                Some(section) => format!("a map, see `{}`", section.path),
                None => self.allowed(self.at(kind)),
            };
        }
        if field["items"].is_object() {
            return format!("a list; each: {}", self.allowed(&field["items"]));
        }
        if field["additionalProperties"].is_object() {
            return format!("by name; each: {}", self.allowed(&field["additionalProperties"]));
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = field[choice].as_array() {
                let mut words: Vec<_> = choices.iter().map(|choice| self.choice(choice)).collect();
                // The phrase of a carrier's name says by itself that it may be `false`.
                words.retain(|word| *word != "`false`: Turns it off");
                return words.join("; ");
            }
        }
        if let Some(words) = field["enum"].as_array() {
            let words: Vec<_> = words.iter().map(|word| format!("`{}`", plain(word))).collect();
            return format!("one of {}", words.join(", "));
        }
        match field["type"].as_str() {
            Some("integer") => format!("{} to {}", plain(&field["minimum"]), plain(&field["maximum"])),
            Some("boolean") => "`true` or `false`".to_owned(),
            _ => plain(&field["description"]),
        }
    }

    fn choice(&self, choice: &Value) -> String {
        match choice.get("const") {
            Some(word) => {
                format!("`{}`: {}", plain(word), plain(&choice["description"]).trim_end_matches('.'))
            }
            None => self.allowed(choice),
        }
    }

    fn write(&self) -> String {
        let mut page = INTRODUCTION.to_owned();
        for Section { path, schema, .. } in &self.sections {
            match path.as_str() {
                "" => page.push_str("## The file\n\n"),
                path => writeln!(page, "## `{path}`\n\n{}\n", plain(&schema["description"])).unwrap(),
            }
            page.push_str("| Field | Meaning | Allowed | Default |\n|---|---|---|---|\n");
            for (name, field) in schema["properties"].as_object().unwrap() {
                let default = match field.get("default") {
                    Some(default) => format!("`{}`", plain(default)),
                    None if is_required(schema, name) => "required".to_owned(),
                    None => String::new(),
                };
                let (meaning, allowed) = (plain(&field["description"]), self.allowed(field));
                writeln!(page, "| `{name}` | {meaning} | {allowed} | {default} |").unwrap();
            }
            page.push('\n');
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
        page
    }
}

fn is_required(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
}

/// A value as it stands in a line of the page; what the schema does not say is zero.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace('\n', " "),
        Value::Null => "0".to_owned(),
        other => other.to_string(),
    }
}

fn page() -> String {
    Page::new(&json_schema()).write()
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
    assert!(
        readme.contains(&format!("```yaml\n{example}```\n")),
        "README.md and examples/sidetrack.yaml differ"
    );
}
