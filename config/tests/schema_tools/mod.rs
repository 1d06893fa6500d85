//! What the tests need of JSON Schema: the paths of all fields, and a validator of the part of the standard
//! that our schema uses. An unknown keyword fails a test, so that the validator cannot look away.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;

use serde_json::Value;
use sidetrack_config::schema::json_schema;

/// The fields of the schema as paths: `services.*.baseline`, `routes[].host`.
pub(crate) fn fields() -> BTreeSet<String> {
    let root = json_schema();
    let mut fields = BTreeSet::new();
    collect(&root, &root, "", &mut fields);
    fields
}

fn collect(schema: &Value, root: &Value, path: &str, fields: &mut BTreeSet<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        collect(root.pointer(&target[1..]).unwrap(), root, path, fields);
    }
    for choice in ["anyOf", "oneOf"].iter().filter_map(|name| schema[*name].as_array()).flatten() {
        collect(choice, root, path, fields);
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(schema, root, &path, fields);
            fields.insert(path);
        }
    }
    if schema["items"].is_object() {
        collect(&schema["items"], root, &format!("{path}[]"), fields);
    }
    if schema["additionalProperties"].is_object() {
        collect(&schema["additionalProperties"], root, &format!("{path}.*"), fields);
    }
}

/// The path of a problem as a path of [`fields`].
pub(crate) fn pattern(path: &str) -> String {
    let mut pattern = String::new();
    let mut above = String::new();
    for step in path.split('.') {
        let named = matches!(above.as_str(), "services" | "previews" | "forks");
        let (name, indices) = step.split_at(step.find('[').unwrap_or(step.len()));
        if !pattern.is_empty() {
            pattern.push('.');
        }
        pattern.push_str(if named { "*" } else { name });
        pattern.push_str(if indices.is_empty() { "" } else { "[]" });
        above = if named { String::new() } else { name.to_owned() };
    }
    pattern
}

/// Why `value` is not what the schema allows.
pub(crate) fn validate(value: &Value) -> Result<(), String> {
    let root = json_schema();
    valid(value, &root, &root, "")
}

fn valid(value: &Value, schema: &Value, root: &Value, path: &str) -> Result<(), String> {
    let Value::Object(keywords) = schema else {
        return match schema {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("{path}: not allowed")),
        };
    };
    for (keyword, rule) in keywords {
        let ok = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => true,
            "$ref" => return valid(value, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), root, path),
            "anyOf" => rule.as_array().unwrap().iter().any(|rule| valid(value, rule, root, path).is_ok()),
            "oneOf" => {
                let fits =
                    rule.as_array().unwrap().iter().filter(|rule| valid(value, rule, root, path).is_ok());
                fits.count() == 1
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is(value, name.as_str().unwrap())),
                name => is(value, name.as_str().unwrap()),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|value| value >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|value| value <= rule.as_i64().unwrap()),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= rule.as_u64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches(text, rule.as_str().unwrap())),
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    valid(item, rule, root, &format!("{path}[{index}]"))?;
                }
                true
            }
            "properties" | "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let known = schema["properties"].get(name);
                    let rule =
                        if keyword == "properties" { known } else { Some(rule).filter(|_| known.is_none()) };
                    if let Some(rule) = rule {
                        valid(value, rule, root, &format!("{path}.{name}"))?;
                    }
                }
                true
            }
            other => panic!("this validator does not know `{other}`"),
        };
        if !ok {
            return Err(format!("{path}: {value} against {keyword} {rule}"));
        }
    }
    Ok(())
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

/// The two kinds of patterns that the schema has: a beginning, and a set of characters.
fn matches(text: &str, pattern: &str) -> bool {
    let inner = pattern.strip_prefix('^').unwrap();
    match inner.strip_prefix('[').and_then(|set| set.strip_suffix("]+$")) {
        Some(set) => {
            assert!(set.starts_with("!#$%&'*+.^_`|~0-9A-Za-z-"), "a set that is not known here: {set}");
            let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(c);
            !text.is_empty() && text.chars().all(legal)
        }
        None => text.starts_with(inner),
    }
}

/// A document as a JSON Schema validator of an editor gets it.
pub(crate) fn read(text: &str) -> Value {
    // `<<` is resolved by us and by editors alike; only `true` and `false` are booleans in YAML 1.2.
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap()
}

/// Writes each default that the schema tells into the maps of `document` that are there, and into those that
/// have nothing but defaults. Gives how many.
pub(crate) fn fill_defaults(document: &mut Value) -> usize {
    let root = json_schema();
    fill(document, &root, &root)
}

fn fill(value: &mut Value, schema: &Value, root: &Value) -> usize {
    let schema = match schema["$ref"].as_str() {
        Some(target) => root.pointer(&target[1..]).unwrap(),
        None => schema,
    };
    let mut told = 0;
    if let (Value::Object(map), Some(properties)) = (&mut *value, schema["properties"].as_object()) {
        for (name, property) in properties {
            if let Some(default) = property.get("default") {
                map.entry(name.clone()).or_insert_with(|| default.clone());
                told += 1;
            }
            // These are optional as a whole; the others may be written empty.
            if ["carriers", "limits", "timeouts", "admin"].contains(&name.as_str()) {
                map.entry(name.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
            }
            if let Some(value) = map.get_mut(name) {
                told += fill(value, property, root);
            }
        }
    }
    match value {
        Value::Object(map) if schema["additionalProperties"].is_object() => {
            told += map
                .values_mut()
                .map(|value| fill(value, &schema["additionalProperties"], root))
                .sum::<usize>();
        }
        Value::Array(items) => {
            told += items.iter_mut().map(|item| fill(item, &schema["items"], root)).sum::<usize>();
        }
        _ => {}
    }
    told
}
