//! Filters of a rule or a backend: changes of fields, another target, a redirect. One that is not implemented is
//! refused by name: what it would have done may be what keeps strangers out.

use sidetrack_config::model::{is_protected_request_field, is_protected_response_field};
use sidetrack_config::stream::{FieldChanges, FieldMatch, Filters, PathRewrite, Redirect, Rewrite, Scheme};

use super::gateway_conditions::Problem;
use super::http_route_match::unsupported;
use crate::gateway_api::{Filter, HeaderFilter, NamedValue, PathModifier, RedirectFilter};

/// What filters come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Changes.
    pub(super) filters: Filters,
    /// A redirect, in place of backends.
    pub(super) redirect: Option<Redirect>,
}

/// Reads filters.
pub(super) fn read(written: &[Filter]) -> Result<Read, Problem> {
    let mut read = Read::default();
    for (index, filter) in written.iter().enumerate() {
        let kind = filter.type_.as_str();
        if written.iter().take(index).any(|earlier| earlier.type_ == kind) {
            return Err(incompatible(format!("filter `{kind}` is there twice; write it once")));
        }
        let empty = || unsupported(format!("filter `{kind}` says nothing"));
        match kind {
            "RequestHeaderModifier" => {
                let written = filter.request_header_modifier.as_ref().ok_or_else(empty)?;
                read.filters.request = changes(written, is_protected_request_field)?;
            }
            "ResponseHeaderModifier" => {
                let written = filter.response_header_modifier.as_ref().ok_or_else(empty)?;
                read.filters.response = changes(written, is_protected_response_field)?;
            }
            "RequestRedirect" => {
                read.redirect = Some(redirect(filter.request_redirect.as_ref().ok_or_else(empty)?)?);
            }
            "URLRewrite" => {
                let rewrite = filter.url_rewrite.as_ref().ok_or_else(empty)?;
                let path = rewrite.path.as_ref().map(path).transpose()?;
                read.filters.rewrite = Some(Rewrite { host: text(rewrite.hostname.as_ref()), path });
            }
            other => return Err(unsupported(format!("filter `{other}` is not implemented"))),
        }
    }
    if read.redirect.is_some() && read.filters.rewrite.is_some() {
        return Err(incompatible("`URLRewrite` and `RequestRedirect` can't be together"));
    }
    Ok(read)
}

/// Filters that can't be together.
pub(super) fn incompatible(message: impl Into<String>) -> Problem {
    Problem::new("IncompatibleFilters", message)
}

fn text(written: Option<&String>) -> Option<Box<str>> {
    written.map(|text| text.as_str().into())
}

fn changes(written: &HeaderFilter, is_protected: fn(&str) -> bool) -> Result<FieldChanges, Problem> {
    let fields = |list: &[NamedValue]| -> Vec<FieldMatch> {
        list.iter()
            .map(|field| FieldMatch {
                name: field.name.to_ascii_lowercase().into(),
                value: field.value.as_str().into(),
            })
            .collect()
    };
    let (set, add) = (fields(&written.set), fields(&written.add));
    let remove: Vec<Box<str>> = written.remove.iter().map(|name| name.to_ascii_lowercase().into()).collect();
    let mut names: Vec<&str> = set.iter().chain(&add).map(|field| &*field.name).collect();
    names.extend(remove.iter().map(|name| &**name));
    names.sort_unstable();
    if let Some(name) = names.iter().find(|name| is_protected(name)) {
        return Err(unsupported(format!("no filter can change header `{name}`, which the gateways write")));
    }
    // The specification allows one action for a name.
    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next) {
        return Err(unsupported(format!("a filter changes header `{name}` twice; write one change")));
    }
    Ok(FieldChanges { set, add, remove })
}

fn redirect(written: &RedirectFilter) -> Result<Redirect, Problem> {
    let scheme = match written.scheme.as_deref() {
        None => None,
        Some("http") => Some(Scheme::Http),
        Some("https") => Some(Scheme::Https),
        Some(other) => {
            return Err(unsupported(format!(
                "`{other}` is no scheme of a redirect; write `http` or `https`"
            )));
        }
    };
    Ok(Redirect {
        scheme,
        host: text(written.hostname.as_ref()),
        port: written.port,
        path: written.path.as_ref().map(path).transpose()?,
        status: written.status_code.unwrap_or(302),
    })
}

fn path(written: &PathModifier) -> Result<PathRewrite, Problem> {
    match (written.type_.as_str(), &written.replace_full_path, &written.replace_prefix_match) {
        ("ReplaceFullPath", Some(path), None) => Ok(PathRewrite::Full(path.as_str().into())),
        ("ReplacePrefixMatch", None, Some(path)) => Ok(PathRewrite::Prefix(path.as_str().into())),
        (other, ..) => Err(unsupported(format!(
            "a path is changed by type `ReplaceFullPath` with `replaceFullPath`, or \
             `ReplacePrefixMatch` with `replacePrefixMatch`; this one says `{other}`"
        ))),
    }
}
