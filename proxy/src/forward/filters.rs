//! What a route changes: fields of the request and of the answer, `Host`, the path. The rule's changes come first, then
//! those of its backend; where both name a host or a path, the backend's holds.

use std::borrow::Cow;

use sidetrack_config::model::{PathMatch, PathRewrite};

use crate::decision::Decision;
use crate::fields::Fields;
use crate::route::rule::{Changes, FieldEdits};

/// The changes of a decision, those of the rule first.
fn of<'t>(decision: &Decision<'t>) -> impl DoubleEndedIterator<Item = &'t Changes> {
    decision.rule.changes.as_deref().into_iter().chain(decision.backend.changes.as_deref())
}

/// Changes the fields of a request. Called before our own fields are written, and after those of the client's
/// connection are cut, so that a client can't have `Connection` take away what a filter wrote.
pub fn request(fields: &mut Fields, decision: &Decision<'_>) {
    for changes in of(decision) {
        change(fields, &changes.request);
    }
}

/// Changes the fields of the upstream's answer.
pub fn answer(fields: &mut Fields, decision: &Decision<'_>) {
    for changes in of(decision) {
        change(fields, &changes.response);
    }
}

/// Sets, then adds, then removes.
pub fn change(fields: &mut Fields, changes: &FieldEdits) {
    for (name, value) in &changes.set {
        fields.insert(name.as_str(), value.as_bytes());
    }
    for (name, value) in &changes.add {
        fields.append(name.as_str(), value.as_bytes());
    }
    for name in &changes.remove {
        fields.remove(name.as_str());
    }
}

/// What `Host` says upstream, where a filter says so.
pub fn host<'t>(decision: &Decision<'t>) -> Option<&'t str> {
    of(decision).rev().find_map(|changes| changes.host.as_ref()?.to_str().ok())
}

/// Whether a filter names another path.
pub fn rewrites_path(decision: &Decision<'_>) -> bool {
    of(decision).any(|changes| changes.path.is_some())
}

/// The path of a request, without the segment of its key, as it goes upstream.
pub fn path<'a>(decision: &Decision<'a>, path: &'a str) -> Cow<'a, str> {
    match of(decision).rev().find_map(|changes| changes.path.as_ref()) {
        Some(to) => rewritten(path, to, &decision.rule.path),
        None => Cow::Borrowed(path),
    }
}

/// `path`, which `matched` has matched, with the new path or prefix. A prefix is taken off in whole segments, and no
/// slash is doubled.
pub fn rewritten<'a>(path: &'a str, to: &'a PathRewrite, matched: &PathMatch) -> Cow<'a, str> {
    let (to, prefix) = match (to, matched) {
        (PathRewrite::Full(to), _) => return Cow::Borrowed(to),
        (PathRewrite::Prefix(to), PathMatch::Prefix(prefix) | PathMatch::Exact(prefix)) => (to, prefix),
    };
    let rest = path.strip_prefix(prefix.trim_end_matches('/')).unwrap_or(path);
    match [to.trim_end_matches('/'), rest].concat() {
        empty if empty.is_empty() => Cow::Borrowed("/"),
        new => Cow::Owned(new),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// The table of the Gateway API's documentation of `ReplacePrefixMatch`, and the root as prefix.
    #[test]
    fn a_prefix_is_replaced_in_whole_segments() {
        for (path, prefix, to, new) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/", "/", "/", "/"),
        ] {
            let to = PathRewrite::Prefix(to.into());
            let matched = PathMatch::Prefix(prefix.into());
            assert_eq!(rewritten(path, &to, &matched), new, "{path} {prefix} {to:?}");
        }
        let full = PathRewrite::Full("/one".into());
        assert_eq!(rewritten("/foo/bar", &full, &PathMatch::Exact("/foo/bar".into())), "/one");
    }

    #[test]
    fn set_then_add_then_remove() {
        let field = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let changes = FieldEdits {
            set: vec![field("x-set", "new"), field("x-both", "1")],
            add: vec![field("x-both", "2"), field("x-there", "b")],
            remove: vec![HeaderName::from_static("x-gone"), HeaderName::from_static("x-absent")],
        };
        let mut fields = Fields::default();
        for (name, value) in
            [("x-set", "a"), ("x-set", "b"), ("x-there", "a"), ("x-gone", "1"), ("x-gone", "2")]
        {
            fields.append(name, value.as_bytes());
        }
        change(&mut fields, &changes);
        let lines = |name: &str| {
            fields.get_all(name).map(|v| std::str::from_utf8(v).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines("x-set"), ["new"]);
        assert_eq!(lines("x-both"), ["1", "2"]);
        assert_eq!(lines("x-there"), ["a", "b"]);
        assert_eq!(lines("x-gone"), [""; 0]);
    }
}
