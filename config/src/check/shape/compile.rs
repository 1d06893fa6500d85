//! The derived JSON Schema -> [`Shape`], once per process: 100,000 previews are then walked without a look
//! into JSON.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Field, Shape};
use crate::schema::json_schema;

/// The shape of the configuration file.
pub(in crate::check) fn document() -> &'static Shape {
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
        let schema = json_schema();
        compile(&schema, &schema)
    });
    &SHAPE
}

/// The shape of one preview.
pub(in crate::check) fn preview() -> &'static Shape {
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
        let root = json_schema();
        root.pointer("/$defs/Preview").map_or(Shape::Object(Vec::new()), |schema| compile(schema, &root))
    });
    &SHAPE
}

/// Our schema does not contain itself, so this ends.
fn compile(schema: &Value, root: &Value) -> Shape {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Shape::False, |target| compile(target, root));
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(name)?.as_array()) {
        return either(choices.iter().map(|choice| compile(choice, root)).collect());
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Shape::Words(words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    }
    match schema.get("const") {
        Some(Value::String(word)) => return Shape::Words(vec![word.clone()]),
        Some(_) => return Shape::False,
        None => {}
    }
    let item = |name: &str| Box::new(schema.get(name).map_or(Shape::False, |item| compile(item, root)));
    match types(schema).as_slice() {
        ["object", ..] => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => object(properties, schema, root),
            None => Shape::Map(item("additionalProperties")),
        },
        ["array", ..] => Shape::List(item("items")),
        ["string", rest @ ..] => Shape::Text { numbers: !rest.is_empty(), allowed: description(schema) },
        ["boolean"] => Shape::Bool,
        _ => {
            let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
            let (min, max) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u32::MAX.into()));
            Shape::Integer { min, max }
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn description(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or("a text").to_owned()
}

fn object(properties: &Map<String, Value>, schema: &Value, root: &Value) -> Shape {
    let required = schema.get("required").and_then(Value::as_array);
    let fields = properties.iter().map(|(name, schema)| Field {
        name: name.clone(),
        shape: compile(schema, root),
        required: required.is_some_and(|required| required.iter().any(|other| other == name)),
    });
    Shape::Object(fields.collect())
}

/// Words of one enumeration come as one choice each.
fn either(shapes: Vec<Shape>) -> Shape {
    let (mut words, mut others) = (Vec::new(), Vec::new());
    for shape in shapes {
        match shape {
            Shape::Words(more) => words.extend(more),
            other => others.push(other),
        }
    }
    match (words.is_empty(), others.is_empty()) {
        (_, true) => Shape::Words(words),
        (true, false) => Shape::Either(others),
        (false, false) => {
            others.insert(0, Shape::Words(words));
            Shape::Either(others)
        }
    }
}
