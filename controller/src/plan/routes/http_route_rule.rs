//! One rule of an HTTPRoute: what it matches, and what happens then.

use sidetrack_config::read_route;
use sidetrack_config::stream::{Action, Backend, Filters, MAX_ITEM, Route, RouteTimeouts};

use super::gateway_conditions::Problem;
use super::gateway_hosts::ANY;
use super::http_route_backends::Backends;
use super::http_route_filters::{self as filters, incompatible};
use super::http_route_match::{self as matches, Matched, unsupported};
use super::http_route_timeouts as timeouts;
use crate::gateway_api::{BackendRef, Match, Rule};
use crate::world::World;

/// The most bytes of texts in one match with its filters: JSON doubles what has quotes, and it must fit an item.
const MAX_BYTES: usize = MAX_ITEM / 4;

/// What a rule comes to.
#[derive(Debug)]
pub(super) struct Compiled {
    /// Its matches by their position, each a route without name, host and rank.
    pub(super) routes: Vec<(usize, Route)>,
    /// Why it can't be served. The routes then answer 500: what could not be done may be what keeps strangers out, and
    /// another rule must not answer in its place.
    pub(super) refused: Option<Problem>,
}

/// Reads a rule of an HTTPRoute in `namespace`.
pub(super) fn compile(world: &World, namespace: &str, rule: &Rule, backends: &mut Backends) -> Compiled {
    let (matched, unmatched) = read_matches(rule);
    let outcome = match outcome(world, namespace, rule, backends) {
        Ok(outcome) => outcome,
        Err(problem) => return refuse(matched, problem),
    };
    if let Some(problem) = unmatched {
        return refuse(matched, problem);
    }
    let drafts = matched.iter().map(|(index, matched)| (*index, draft(matched.clone(), outcome.clone())));
    let checked: Result<Vec<_>, _> = drafts.map(|(index, route)| Ok((index, check(route)?))).collect();
    match checked {
        Ok(routes) => Compiled { routes, refused: None },
        Err(problem) => refuse(matched, problem),
    }
}

/// The matches of a rule that can be read, and what is wrong with the first other one.
fn read_matches(rule: &Rule) -> (Vec<(usize, Matched)>, Option<Problem>) {
    let all = [Match::default()];
    let written = if rule.matches.is_empty() { &all } else { rule.matches.as_slice() };
    let mut problem = None;
    let mut read = Vec::new();
    for (index, written) in written.iter().enumerate() {
        match matches::read(written) {
            Ok(matched) => read.push((index, matched)),
            Err(wrong) => problem = problem.or(Some(wrong)),
        }
    }
    (read, problem)
}

/// A rule that is not served.
fn refuse(matched: Vec<(usize, Matched)>, problem: Problem) -> Compiled {
    let answer = Outcome {
        filters: Filters::default(),
        timeouts: RouteTimeouts::default(),
        action: Action::Forward(Vec::new()),
    };
    let routes = matched.into_iter().map(|(index, matched)| (index, draft(matched, answer.clone())));
    let routes = routes.filter_map(|(index, route)| Some((index, check(route).ok()?))).collect();
    Compiled { routes, refused: Some(problem) }
}

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
struct Outcome {
    filters: Filters,
    timeouts: RouteTimeouts,
    action: Action,
}

fn outcome(world: &World, namespace: &str, rule: &Rule, backends: &mut Backends) -> Result<Outcome, Problem> {
    // Each one is looked for, so that what can't be found is said also where something else is wrong.
    let found: Vec<_> =
        rule.backend_refs.iter().map(|backend| backends.find(world, namespace, backend)).collect();
    let not_implemented = [("retry", &rule.retry), ("sessionPersistence", &rule.session_persistence)];
    if let Some((field, _)) =
        not_implemented.iter().find(|(_, value)| value.as_ref().is_some_and(|v| !v.is_null()))
    {
        return Err(unsupported(format!("`{field}` is not implemented; take it out")));
    }
    let read = filters::read(&rule.filters)?;
    let action = match read.redirect {
        Some(_) if !found.is_empty() => {
            return Err(incompatible(
                "a rule with `RequestRedirect` can't have `backendRefs`; take them out",
            ));
        }
        Some(redirect) => Action::Redirect(redirect),
        None => {
            let backends = rule.backend_refs.iter().zip(found).map(|(backend, name)| target(backend, name));
            Action::Forward(backends.collect::<Result<_, _>>()?)
        }
    };
    Ok(Outcome { filters: read.filters, timeouts: timeouts::read(rule.timeouts.as_ref())?, action })
}

fn target(backend: &BackendRef, service: Option<Box<str>>) -> Result<Backend, Problem> {
    let read = filters::read(&backend.filters)?;
    if read.redirect.is_some() {
        return Err(unsupported(
            "filter `RequestRedirect` of a backend is not implemented; write it at the rule",
        ));
    }
    Ok(Backend { service, weight: backend.weight.unwrap_or(1), filters: read.filters })
}

fn draft(matched: Matched, outcome: Outcome) -> Route {
    Route {
        name: "-".into(),
        host: ANY.into(),
        path: matched.path,
        method: matched.method,
        headers: matched.headers,
        query: matched.query,
        scheme: None,
        rank: Box::default(),
        filters: outcome.filters,
        timeouts: outcome.timeouts,
        action: outcome.action,
    }
}

/// What the proxies will make of a route, or why they would refuse it, and the whole table with it.
pub(super) fn check(route: Route) -> Result<Route, Problem> {
    if bytes(&route) > MAX_BYTES {
        return Err(unsupported(format!("its texts have more than {MAX_BYTES} bytes together; write less")));
    }
    let read = read_route(&route, |_| Some(0)).map_err(|error| unsupported(&*error.message))?;
    Ok(Route { path: read.path, headers: read.headers, ..route })
}

fn bytes(route: &Route) -> usize {
    let fields = |list: &[sidetrack_config::stream::FieldMatch]| -> usize {
        list.iter().map(|field| field.name.len() + field.value.len()).sum()
    };
    let changes = |filters: &Filters| {
        let both = [&filters.request, &filters.response];
        both.iter().map(|changes| fields(&changes.set) + fields(&changes.add)).sum::<usize>()
    };
    let backends = match &route.action {
        Action::Forward(backends) => backends.iter().map(|backend| changes(&backend.filters)).sum(),
        Action::Redirect(_) => 0,
    };
    fields(&route.headers) + fields(&route.query) + changes(&route.filters) + backends
}
