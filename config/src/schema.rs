//! The JSON Schema of the configuration file, for editors and for the shape check.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::document::Document;

/// The JSON Schema (draft 2020-12) of the configuration file.
///
/// It knows shapes, words and ranges. What two places of a file say together, only a check knows.
pub fn json_schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".into(), "Sidetrack configuration".into());
    }
    schema
}

/// Says of the derived schema what is true of YAML as we read it: an empty map or list may be written as
/// nothing at all (`previews:`), a scalar may not, and there are no number formats.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            // A property may be called `format` too.
            if schema.get("format").is_some_and(Value::is_string) {
                schema.remove("format");
            }
            if schema.get("default").is_some_and(Value::is_null) {
                schema.remove("default");
            }
            tidy_type(schema);
            unwrap_option(schema);
            schema.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_type(schema: &mut Map<String, Value>) {
    let Some(written) = schema.get_mut("type") else { return };
    let mut types = match written {
        Value::Array(types) => std::mem::take(types),
        Value::String(_) => vec![written.take()],
        _ => return,
    };
    types.retain(|name| name != "null");
    if types.iter().any(|name| name == "object" || name == "array") {
        types.push("null".into());
    }
    *written = match types.as_slice() {
        [only] => only.clone(),
        _ => types.into(),
    };
}

/// `Option<T>` is derived as "`T` or null"; an optional key is one that may be missing, not one that is null.
fn unwrap_option(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else { return };
    choices.retain(|choice| *choice != json!({"type": "null"}));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        schema.extend(only);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_is() {
        let schema = json_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["title"], "Sidetrack configuration");
        assert_eq!(schema["description"], "The configuration of one Sidetrack proxy.");
        assert_eq!(schema["properties"]["workers"]["minimum"], 1);
        assert_eq!(schema["properties"]["admin"]["$ref"], "#/$defs/Admin");
        assert_eq!(schema["properties"]["previews"]["type"], json!(["object", "null"]));
    }

    #[test]
    fn every_key_is_described() {
        fn walk(value: &Value, path: &str) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::Object(properties)) = map.get("properties") {
                        for (name, property) in properties {
                            assert!(property["description"].is_string(), "{path}.{name} has no description");
                        }
                    }
                    map.iter().for_each(|(name, value)| walk(value, &format!("{path}.{name}")));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, path)),
                _ => {}
            }
        }
        walk(&json_schema(), "");
    }
}
