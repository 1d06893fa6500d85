//! YAML text -> a tree in which every key and every value knows its line and column.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use crate::problem::{Problem, Problems};

/// The deepest nesting of a document. Ours is six deep; this leaves room for merge keys and protects the stack.
const MAX_DEPTH: usize = 32;

/// A place in the text, counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    line: u32,
    column: u32,
}

impl Position {
    pub(crate) fn line(self) -> u64 {
        self.line.into()
    }

    pub(crate) fn column(self) -> u64 {
        self.column.into()
    }
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        // The parser counts both in 32 bits.
        let narrow = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self { line: narrow(location.line()), column: narrow(location.column()) }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// Where a number is written (`007` and `1e5` may be meant as text), and its value where it is whole.
    Number {
        written: Span,
        value: Option<i64>,
    },
    Text(Box<str>),
    List(Box<[Node]>),
    Map(Box<[Entry]>),
}

/// A piece of the text, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The piece of `text`.
    pub(crate) fn of(self, text: &str) -> &str {
        let range = usize::try_from(self.start).ok().zip(usize::try_from(self.len).ok());
        range.and_then(|(start, len)| text.get(start..start.checked_add(len)?)).unwrap_or_default().trim()
    }
}

impl From<Location> for Span {
    fn from(location: Location) -> Self {
        let span = location.span();
        let range = span.byte_offset().zip(span.byte_len());
        let range = range.and_then(|(start, len)| Some((start.try_into().ok()?, len.try_into().ok()?)));
        range.map(|(start, len)| Self { start, len }).unwrap_or_default()
    }
}

/// One key of a map, and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Position,
    pub(crate) key: Box<str>,
    pub(crate) value: Node,
}

/// A path from the root of a document, built on the stack: it costs nothing until a problem prints it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(crate) const ROOT: Self = Self { parent: None, step: Step::Root };

    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// The paths above this one, from the nearest to the root.
    pub(crate) fn above(&self) -> impl Iterator<Item = &'a At<'a>> {
        std::iter::successors(self.parent, |at| at.parent)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                if parent.parent.is_some() {
                    f.write_str(".")?;
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if !key.is_empty() && key.len() <= 80 && key.chars().all(plain) {
                    f.write_str(key)
                } else {
                    write!(f, "\"{}\"", shortened(key))
                }
            }
        }
    }
}

/// `text` fit for a message: at most 60 characters, control characters escaped.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

impl Node {
    /// Whether nothing is written here.
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The node at `at`, or the nearest one above it that was written.
    pub(crate) fn find(&self, at: &At<'_>) -> &Self {
        at.parent.map_or(self, |parent| {
            let above = self.find(parent);
            above.child(at.step).unwrap_or(above)
        })
    }

    /// Whether something is written at `at`.
    pub(crate) fn has(&self, at: &At<'_>) -> bool {
        at.parent.is_none_or(|parent| self.has(parent) && self.find(parent).child(at.step).is_some())
    }

    fn child(&self, step: Step<'_>) -> Option<&Self> {
        match (&self.kind, step) {
            (Kind::Map(entries), Step::Key(key)) => {
                entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.value)
            }
            (Kind::List(items), Step::Index(index)) => items.get(index),
            _ => None,
        }
    }

    /// Where the value at `at` stands.
    pub(crate) fn value_position(&self, at: &At<'_>) -> Position {
        self.find(at).at
    }

    /// Where the key that ends `at` stands.
    pub(crate) fn key_position(&self, at: &At<'_>) -> Position {
        let entry = at.parent.and_then(|parent| match (&self.find(parent).kind, at.step) {
            (Kind::Map(entries), Step::Key(key)) => entries.iter().find(|entry| *entry.key == *key),
            _ => None,
        });
        entry.map_or_else(|| self.value_position(at), |entry| entry.at)
    }
}

/// Reads one YAML (or JSON) document.
///
/// Errors are syntax, a key written twice, and inputs that blow up: alias bombs, deep nesting.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Node, Problems> {
    let mut options = serde_saphyr::options! {
        // Only `true` and `false`, as YAML 1.2 has it and editors read it.
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    if let Some(budget) = &mut options.budget {
        // A node takes at least one byte of text, and the text is bounded by its reader: these two only
        // must not stop a big estate. What aliases may add is bounded on its own.
        budget.max_events = 1_000_000 + text.len() * 2;
        budget.max_nodes = 1_000_000 + text.len();
        budget.max_depth = MAX_DEPTH;
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(file, &error))
}

fn syntax(file: &Path, error: &serde_saphyr::Error) -> Problems {
    let error = error.without_snippet();
    let at = error.location().map(Position::from).unwrap_or_default();
    let (message, allowed) = match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => (
            format!("the key `{}` is written twice", shortened(key.as_deref().unwrap_or_default())),
            "each key once".to_owned(),
        ),
        other => {
            let message = UserMessageFormatter.format_message(other);
            (format!("is not valid YAML: {}", message.escape_debug()), String::new())
        }
    };
    let (line, column) = (at.line(), at.column());
    Problems(vec![Problem { file: file.to_owned(), line, column, path: String::new(), message, allowed }])
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<Kind>::deserialize(deserializer)?;
        let kind = match value {
            // What an alias stands for is written where the anchor is.
            Kind::Number { value, .. } => Kind::Number { written: defined.into(), value },
            other => other,
        };
        Ok(Self { at: referenced.into(), kind })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number { written: Span::default(), value: Some(value) })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        // Nothing of ours is as big as what does not fit.
        Ok(Kind::Number { written: Span::default(), value: value.try_into().ok() })
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Kind, E> {
        Ok(Kind::Number { written: Span::default(), value: None })
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<Box<str>>, Node>()? {
            map.push(Entry { at: key.referenced.into(), key: key.value, value });
        }
        Ok(Kind::Map(map.into()))
    }
}

#[cfg(test)]
mod tests;
