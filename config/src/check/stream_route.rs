//! A route as it travels -> a route of the model. The sender has checked it already; it is checked again because a rule
//! that we take for another one sends people to the wrong place.

use std::fmt;
use std::time::Duration;

use super::grammar;
use crate::model::{
    Action, Backend, FieldChanges, FieldMatch, Filters, PathMatch, PathRewrite, Redirect, Rewrite, Route,
    RouteTimeouts,
};
use crate::stream;

/// The most conditions of a kind, backends, or changes of a kind; the Gateway API stops at 16.
const MAX_LIST: usize = 64;

/// The most bytes of a value; the Gateway API stops at 4096.
const MAX_VALUE: usize = 4_096;

/// The most bytes of a name or a rank: namespace, object, rule, match and host fit.
const MAX_NAME: usize = 1_024;

/// The longest time-out. Ten years behave like for ever, and still add up with any clock.
const MAX_MILLIS: u64 = 3_650 * 24 * 60 * 60 * 1_000;

/// Why a route can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// The route's name, cut to a length that a message can bear.
    pub route: Box<str>,
    /// What is wrong, and what is allowed instead.
    pub message: Box<str>,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}: {}", self.route, self.message)
    }
}

impl std::error::Error for RouteError {}

/// Reads a route of the stream. `service` gives the index of a service by its name; a backend whose service it does
/// not know is one that can't be resolved.
///
/// # Errors
/// What of it is not allowed. A controller calls this before it sends a route, so that one wrong object can't keep
/// a whole table from being taken.
pub fn read_route(
    route: &stream::Route,
    service: impl Fn(&str) -> Option<usize>,
) -> Result<Route, RouteError> {
    read(route, service).map_err(|message| RouteError {
        route: route.name.chars().take(200).collect::<String>().into(),
        message: message.into(),
    })
}

fn read(route: &stream::Route, service: impl Fn(&str) -> Option<usize>) -> Result<Route, String> {
    for (what, text) in [("name", &route.name), ("rank", &route.rank)] {
        if text.len() > MAX_NAME {
            return Err(format!("its {what} is longer than {MAX_NAME} bytes"));
        }
    }
    if route.name.is_empty() {
        return Err("its name is empty".into());
    }
    let path = match &route.path {
        PathMatch::Exact(path) => PathMatch::Exact(legal("path", path, grammar::exact_path)?),
        PathMatch::Prefix(path) => PathMatch::Prefix(legal("path", path, grammar::path_prefix)?),
    };
    Ok(Route {
        name: route.name.clone(),
        host: legal("host", &route.host, grammar::route_host)?,
        method: route.method.as_ref().map(|name| legal("method", name, grammar::token)).transpose()?,
        headers: fields("header match", &route.headers)?,
        query: query(&route.query)?,
        scheme: route.scheme,
        rank: route.rank.clone(),
        filters: filters(&route.filters, &path)?,
        timeouts: RouteTimeouts {
            request: route.timeouts.request.map(timeout).transpose()?,
            backend_request: route.timeouts.backend_request.map(timeout).transpose()?,
        },
        action: match &route.action {
            stream::Action::Forward(backends) => {
                short("backends", backends)?;
                let backends = backends.iter().map(|backend| {
                    Ok(Backend {
                        service: backend.service.as_deref().and_then(&service),
                        weight: backend.weight,
                        filters: filters(&backend.filters, &path)?,
                    })
                });
                Action::Forward(backends.collect::<Result<_, String>>()?)
            }
            stream::Action::Redirect(to) => Action::Redirect(redirect(to, &path)?),
        },
        path,
    })
}

/// What `grammar` makes of `text`, else a sentence that names it.
fn legal<T>(what: &str, text: &str, grammar: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    grammar(text).map_err(|why| format!("{what} `{}` {why}", shown(text)))
}

fn short<T>(what: &str, list: &[T]) -> Result<(), String> {
    match list.len() > MAX_LIST {
        true => Err(format!("it has more than {MAX_LIST} {what}")),
        false => Ok(()),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The name of a header field, in lower case.
fn field_name(text: &str) -> Result<Box<str>, String> {
    Ok(grammar::token(text)?.to_ascii_lowercase().into())
}

/// The value of a header field (RFC 9110 section 5.5): no control character but a tab.
fn field_value(text: &str) -> Result<Box<str>, String> {
    if text.len() > MAX_VALUE {
        return Err(format!("is longer than {MAX_VALUE} bytes"));
    }
    match text.chars().any(|c| c.is_ascii_control() && c != '\t') {
        true => Err("has a control character".into()),
        false => Ok(text.into()),
    }
}

fn fields(what: &str, list: &[FieldMatch]) -> Result<Vec<FieldMatch>, String> {
    short(&format!("entries for {what}"), list)?;
    list.iter()
        .map(|field| {
            Ok(FieldMatch {
                name: legal(what, &field.name, field_name)?,
                value: legal(what, &field.value, field_value)?,
            })
        })
        .collect()
}

/// Query parameters are compared decoded, so that any text may stand in them.
fn query(list: &[FieldMatch]) -> Result<Vec<FieldMatch>, String> {
    short("query matches", list)?;
    for field in list {
        if field.name.is_empty() {
            return Err("a query match has an empty name".into());
        }
        if field.name.len().max(field.value.len()) > MAX_VALUE {
            return Err(format!("query match `{}` is longer than {MAX_VALUE} bytes", shown(&field.name)));
        }
    }
    Ok(list.to_vec())
}

fn filters(filters: &Filters, path: &PathMatch) -> Result<Filters, String> {
    let rewrite = filters.rewrite.as_ref().map(|rewrite| {
        Ok::<_, String>(Rewrite {
            host: rewrite
                .host
                .as_ref()
                .map(|host| legal("new host", host, grammar::host_name))
                .transpose()?,
            path: rewrite.path.as_ref().map(|to| new_path(to, path)).transpose()?,
        })
    });
    Ok(Filters {
        request: changes("request header", &filters.request)?,
        response: changes("response header", &filters.response)?,
        rewrite: rewrite.transpose()?,
    })
}

fn changes(what: &str, changes: &FieldChanges) -> Result<FieldChanges, String> {
    short(&format!("{what}s to remove"), &changes.remove)?;
    Ok(FieldChanges {
        set: fields(what, &changes.set)?,
        add: fields(what, &changes.add)?,
        remove: changes.remove.iter().map(|name| legal(what, name, field_name)).collect::<Result<_, _>>()?,
    })
}

fn new_path(to: &PathRewrite, path: &PathMatch) -> Result<PathRewrite, String> {
    match (to, path) {
        (PathRewrite::Full(to), _) => Ok(PathRewrite::Full(legal("new path", to, grammar::url_path)?)),
        (PathRewrite::Prefix(_), PathMatch::Exact(_)) => {
            Err("it replaces a prefix and matches an exact path; match a prefix, or replace the full path"
                .into())
        }
        // Empty: the prefix is taken away.
        (PathRewrite::Prefix(to), PathMatch::Prefix(_)) if to.is_empty() => {
            Ok(PathRewrite::Prefix("/".into()))
        }
        (PathRewrite::Prefix(to), PathMatch::Prefix(_)) => {
            Ok(PathRewrite::Prefix(legal("new path prefix", to, grammar::path_prefix)?))
        }
    }
}

fn redirect(to: &Redirect, path: &PathMatch) -> Result<Redirect, String> {
    if !matches!(to.status, 301 | 302 | 303 | 307 | 308) {
        return Err(format!("redirect status {} is not 301, 302, 303, 307 or 308", to.status));
    }
    if to.port == Some(0) {
        return Err("redirect port 0 is not from 1 to 65535".into());
    }
    Ok(Redirect {
        scheme: to.scheme,
        host: to.host.as_ref().map(|host| legal("redirect host", host, grammar::host_name)).transpose()?,
        port: to.port,
        path: to.path.as_ref().map(|to| new_path(to, path)).transpose()?,
        status: to.status,
    })
}

fn timeout(millis: u64) -> Result<Duration, String> {
    match millis > MAX_MILLIS {
        true => Err(format!("time-out of {millis} ms is longer than 3650 days")),
        false => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests;
