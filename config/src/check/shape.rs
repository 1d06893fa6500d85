//! The shape check: keys, types and words of a document against its schema, all problems at once.
//!
//! What passes comes out as a [`Value`] that the document is made of. Where something does not, an empty value
//! of the right type stands in, so that the rest of the file can still be checked.

mod compile;
mod value;

use super::report::{Report, nearest, one_of};
use crate::source_map::{At, Entry, Kind, Node, shortened};
pub(super) use compile::{document, preview};
pub(super) use value::Value;

/// A schema, ready to walk.
#[derive(Debug)]
pub(super) enum Shape {
    /// A text; `allowed` says of which grammar. A number counts as the text it was written as, if it may.
    Text { numbers: bool, allowed: String },
    /// One of these words.
    Words(Vec<String>),
    /// `false` and nothing else.
    False,
    /// `true` or `false`.
    Bool,
    /// A whole number in this range.
    Integer { min: i64, max: i64 },
    /// A list of these.
    List(Box<Shape>),
    /// A map from names to these.
    Map(Box<Shape>),
    /// A map of known keys.
    Object(Vec<Field>),
    /// Any of these.
    Either(Vec<Shape>),
}

/// One known key.
#[derive(Debug)]
pub(super) struct Field {
    name: String,
    shape: Shape,
    required: bool,
}

impl Shape {
    /// What may stand here, as a noun phrase.
    fn allowed(&self) -> String {
        match self {
            Self::Text { allowed, .. } => allowed.clone(),
            Self::Words(words) => one_of(words.iter().map(String::as_str)),
            Self::False => "`false`".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::List(item) => format!("a list, each item {}", item.allowed()),
            Self::Map(_) => "a map of names to values".into(),
            Self::Object(fields) => {
                let names: Vec<_> = fields.iter().map(|field| format!("`{}`", field.name)).collect();
                format!("a map with the keys {}", names.join(", "))
            }
            // The phrase of a carrier's name speaks of `false` itself.
            Self::Either(shapes) if shapes.iter().any(|shape| matches!(shape, Self::Text { .. })) => {
                shapes.iter().filter(|shape| matches!(shape, Self::Text { .. })).map(Self::allowed).collect()
            }
            Self::Either(shapes) => shapes.iter().map(Self::allowed).collect::<Vec<_>>().join(", or "),
        }
    }

    /// What stands in for a value that is not of this shape.
    fn stand_in(&self) -> Value<'static> {
        match self {
            Self::Text { .. } => Value::Text(""),
            Self::List(_) => Value::List(Vec::new()),
            Self::Map(_) | Self::Object(_) => Value::Map(Vec::new()),
            Self::Words(_) | Self::False | Self::Bool | Self::Integer { .. } | Self::Either(_) => Value::Null,
        }
    }

    /// Whether a value could be meant to be of this shape.
    fn is_for(&self, node: &Node) -> bool {
        match &node.kind {
            Kind::Null => false,
            Kind::Bool(value) => matches!(self, Self::Bool) || (!value && matches!(self, Self::False)),
            Kind::Number { value, .. } => {
                matches!(self, Self::Text { numbers: true, .. })
                    || (value.is_some() && matches!(self, Self::Integer { .. }))
            }
            Kind::Text(text) => match self {
                Self::Text { .. } => true,
                Self::Words(words) => words.iter().any(|word| **word == **text),
                _ => false,
            },
            Kind::List(_) => matches!(self, Self::List(_)),
            Kind::Map(_) => matches!(self, Self::Map(_) | Self::Object(_)),
        }
    }
}

/// Checks `node` against `shape`.
pub(super) fn check<'n>(node: &'n Node, shape: &'n Shape, at: &At<'_>, report: &mut Report<'n>) -> Value<'n> {
    match (shape, &node.kind) {
        (Shape::Either(shapes), _) => match shapes.iter().find(|shape| shape.is_for(node)) {
            Some(shape) => check(node, shape, at, report),
            None => refuse(node, shape, at, report),
        },
        // `previews:` with nothing after it is what is left when the last one was taken out.
        (Shape::List(_), Kind::Null) => Value::List(Vec::new()),
        (Shape::Map(_), Kind::Null) => Value::Map(Vec::new()),
        (Shape::Object(fields), Kind::Null) => object(&[], fields, at, report),
        (Shape::Text { .. } | Shape::Words(_), Kind::Text(text)) if shape.is_for(node) => Value::Text(text),
        (Shape::Text { numbers: true, .. }, Kind::Number { written, .. }) => {
            Value::Text(report.source(*written))
        }
        (Shape::Bool | Shape::False, Kind::Bool(value)) if shape.is_for(node) => Value::Bool(*value),
        (Shape::Integer { min, max }, Kind::Number { value: Some(value), .. })
            if (min..=max).contains(&value) =>
        {
            u32::try_from(*value).map_or(Value::Null, Value::Number)
        }
        (Shape::List(item), Kind::List(nodes)) => {
            let check = |(n, node)| match check(node, item, &at.index(n), report) {
                // Keeps its place, so that what follows keeps its index.
                Value::Null => Value::Text(""),
                value => value,
            };
            Value::List(nodes.iter().enumerate().map(check).collect())
        }
        (Shape::Map(value), Kind::Map(entries)) => {
            let check =
                |entry: &'n Entry| (&*entry.key, check(&entry.value, value, &at.key(&entry.key), report));
            Value::Map(entries.iter().map(check).collect())
        }
        (Shape::Object(fields), Kind::Map(entries)) => object(entries, fields, at, report),
        _ => refuse(node, shape, at, report),
    }
}

fn object<'n>(entries: &'n [Entry], fields: &'n [Field], at: &At<'_>, report: &mut Report<'n>) -> Value<'n> {
    let mut map = Vec::with_capacity(entries.len());
    for entry in entries {
        let at = at.key(&entry.key);
        match fields.iter().find(|field| *field.name == *entry.key) {
            Some(field) => map.push((&*entry.key, check(&entry.value, &field.shape, &at, report))),
            None => unknown_key(&entry.key, fields, &at, report),
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|entry| *entry.key == *field.name) {
            report.problem(&at.key(&field.name), "is missing", field.shape.allowed());
        }
    }
    Value::Map(map)
}

fn unknown_key(key: &str, fields: &[Field], at: &At<'_>, report: &mut Report<'_>) {
    let names = || fields.iter().map(|field| field.name.as_str());
    let hint = nearest(key, names()).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
    let message = format!("there is no key `{}` here{hint}", shortened(key));
    report.problem_at_key(at, message, one_of(names()));
}

fn refuse(node: &Node, shape: &Shape, at: &At<'_>, report: &mut Report<'_>) -> Value<'static> {
    let found = match &node.kind {
        Kind::Null => "nothing is written here".into(),
        Kind::Bool(value) => format!("found `{value}`"),
        Kind::Number { written, .. } => format!("found the number `{}`", shortened(report.source(*written))),
        Kind::Text(text) => {
            let hint = match shape {
                Shape::Words(words) => nearest(text, words.iter().map(String::as_str)),
                _ => None,
            };
            let hint = hint.map(|word| format!(", did you mean `{word}`?")).unwrap_or_default();
            format!("found the text `{}`{hint}", shortened(text))
        }
        Kind::List(_) => "found a list".into(),
        Kind::Map(_) => "found a map".into(),
    };
    report.problem(at, found, shape.allowed());
    shape.stand_in()
}
