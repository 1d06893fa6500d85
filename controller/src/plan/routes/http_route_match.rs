//! Matches of a rule: path, method, header fields, query parameters. What such a text may hold is checked by
//! [`sidetrack_config::read_route`], as the proxies do.

use sidetrack_config::stream::{FieldMatch, PathMatch};

use super::gateway_conditions::Problem;
use crate::gateway_api::{Match, NamedValue, TypedValue};

/// What one match asks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    /// The path.
    pub(super) path: PathMatch,
    /// The method, where it matters.
    pub(super) method: Option<Box<str>>,
    /// Header fields.
    pub(super) headers: Vec<FieldMatch>,
    /// Query parameters.
    pub(super) query: Vec<FieldMatch>,
}

/// A value that we have no use for.
pub(super) fn unsupported(message: impl Into<String>) -> Problem {
    Problem::new("UnsupportedValue", message)
}

/// Reads one match.
pub(super) fn read(written: &Match) -> Result<Matched, Problem> {
    Ok(Matched {
        path: path(written.path.as_ref())?,
        method: written.method.as_deref().map(Box::from),
        headers: fields(&written.headers, "header", |one, other| one.eq_ignore_ascii_case(other))?,
        query: fields(&written.query_params, "query parameter", |one, other| one == other)?,
    })
}

fn path(written: Option<&TypedValue>) -> Result<PathMatch, Problem> {
    let value = written.and_then(|path| path.value.as_deref()).unwrap_or("/");
    match written.and_then(|path| path.type_.as_deref()).unwrap_or("PathPrefix") {
        "Exact" => Ok(PathMatch::Exact(value.into())),
        "PathPrefix" => Ok(PathMatch::Prefix(value.into())),
        other => Err(unsupported(format!(
            "a path match of type `{other}` is not implemented; write `PathPrefix` or `Exact`"
        ))),
    }
}

/// What must be there. The first of several with one name counts, as the specification says.
fn fields(
    written: &[NamedValue],
    what: &str,
    same: impl Fn(&str, &str) -> bool,
) -> Result<Vec<FieldMatch>, Problem> {
    let mut read: Vec<FieldMatch> = Vec::new();
    for field in written {
        if let Some(other) = field.type_.as_deref().filter(|kind| *kind != "Exact") {
            let name = &field.name;
            return Err(unsupported(format!(
                "a match of type `{other}` for {what} `{name}` is not implemented; write `Exact`"
            )));
        }
        if !read.iter().any(|earlier| same(&earlier.name, &field.name)) {
            read.push(FieldMatch { name: field.name.as_str().into(), value: field.value.as_str().into() });
        }
    }
    Ok(read)
}
