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
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
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
    /// A number as written: `007` and `1e5` may be meant as text.
    Number {
        written: String,
        value: Option<i128>,
    },
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map, and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Position,
    pub(crate) key: String,
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
    /// The node at `at`, or the nearest one above it that was written.
    fn find(&self, at: &At<'_>) -> &Self {
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
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
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
            (Kind::Map(entries), Step::Key(key)) => entries.iter().find(|entry| entry.key == key),
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
    let spanned: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(file, &error))?;
    Ok(node(spanned, text))
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
    let (line, column) = (at.line, at.column);
    Problems(vec![Problem { file: file.to_owned(), line, column, path: String::new(), message, allowed }])
}

/// A value as the parser gives it; numbers still lack their text.
enum Raw {
    Null,
    Bool(bool),
    Number(Option<i128>),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

/// Turns what the parser gave into the tree. The depth is bounded by the parser.
fn node(spanned: Spanned<Raw>, text: &str) -> Node {
    let kind = match spanned.value {
        Raw::Null => Kind::Null,
        Raw::Bool(value) => Kind::Bool(value),
        Raw::Number(value) => Kind::Number { written: written(spanned.defined, text), value },
        Raw::Text(value) => Kind::Text(value),
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    at: key.referenced.into(),
                    key: key.value,
                    value: node(value, text),
                })
                .collect(),
        ),
    };
    Node { at: spanned.referenced.into(), kind }
}

/// The text of the scalar at `location`.
fn written(location: Location, text: &str) -> String {
    let span = location.span();
    let bytes = span.byte_offset().zip(span.byte_len()).and_then(|(start, len)| {
        let start = usize::try_from(start).ok()?;
        text.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    });
    bytes.unwrap_or_default().trim().to_owned()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(Some(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(Some(value.into())))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(None))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "a.yaml";

    fn tree(text: &str) -> Node {
        parse(FILE.as_ref(), text).unwrap()
    }

    fn refused(text: &str) -> String {
        parse(FILE.as_ref(), text).unwrap_err().to_string()
    }

    #[test]
    fn every_path_has_its_place() {
        let root = tree("a:\n  - b: 1\n    c: two\n  - {d: [x, yy]}\n");
        let a = At::ROOT.key("a");
        let (first, second) = (a.index(0), a.index(1));
        let d = second.key("d");
        for (at, key, value) in [
            (first.key("b"), (2, 5), (2, 8)),
            (first.key("c"), (3, 5), (3, 8)),
            (d, (4, 6), (4, 9)),
            (d.index(1), (4, 13), (4, 13)),
        ] {
            let pair = |position: Position| (position.line, position.column);
            assert_eq!(pair(root.value_position(&at)), value, "{at}");
            assert_eq!(pair(root.key_position(&at)), key, "{at}");
        }
        assert_eq!(d.index(1).to_string(), "a[1].d[1]");
        // What was not written is looked for where it would have stood.
        assert_eq!(root.value_position(&first.key("none")), root.value_position(&first));
    }

    #[test]
    fn numbers_keep_their_text() {
        let root = tree("x: &n 007\ny: [1e5, *n, 0x1F, -3, 1.50, 99999999999999999999999]\n");
        let Kind::Map(entries) = root.kind else { panic!("a map") };
        let Kind::List(items) = &entries[1].value.kind else { panic!("a list") };
        let texts: Vec<_> = items
            .iter()
            .map(|item| match &item.kind {
                Kind::Number { written, .. } => written.as_str(),
                Kind::Text(text) => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["1e5", "007", "0x1F", "-3", "1.50", "99999999999999999999999"]);
    }

    #[test]
    fn keys_are_text_as_written() {
        let Kind::Map(entries) = tree("42: a\n007: b\noff: c\ntrue: d\n").kind else { panic!("a map") };
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["42", "007", "off", "true"]);
    }

    #[test]
    fn only_true_and_false_are_booleans() {
        let Kind::List(items) = tree("[true, false, off, no, yes]").kind else { panic!("a list") };
        let booleans = items.iter().filter(|item| matches!(item.kind, Kind::Bool(_))).count();
        assert_eq!(booleans, 2);
    }

    #[test]
    fn what_blows_up_is_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(refused(&bomb).contains("is not valid YAML"), "{}", refused(&bomb));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(refused(&deep).contains("is not valid YAML"), "{}", refused(&deep));
    }

    #[test]
    fn syntax_has_a_place() {
        assert!(refused("a: [1\nb: 2\n").starts_with("a.yaml:2:"), "{}", refused("a: [1\nb: 2\n"));
        assert_eq!(
            refused("a: 1\nb: 2\na: 3\n"),
            "a.yaml:3:1: the key `a` is written twice; allowed: each key once"
        );
    }
}
