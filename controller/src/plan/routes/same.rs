//! Routes of two objects that match the same requests: the older object decides, and the other one is told.

use std::collections::{BTreeMap, BTreeSet};

use sidetrack_config::stream::{FieldMatch, PathMatch, Route, Scheme};

use super::Collected;

/// What a route matches on one kind of listener, so that two can be compared.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Matched<'a> {
    host: &'a str,
    path: (bool, &'a str),
    is_https: bool,
    method: Option<&'a str>,
    headers: BTreeSet<(&'a str, &'a str)>,
    query: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Matched<'a> {
    fn of(route: &'a Route, is_https: bool) -> Self {
        let fields =
            |list: &'a [FieldMatch]| list.iter().map(|field| (&*field.name, &*field.value)).collect();
        let path = match &route.path {
            PathMatch::Exact(path) => (true, &**path),
            PathMatch::Prefix(path) => (false, &**path),
        };
        Self {
            host: &route.host,
            path,
            is_https,
            method: route.method.as_deref(),
            headers: fields(&route.headers),
            query: fields(&route.query),
        }
    }
}

/// Tells each object of which a route is never met because an older one has the same.
pub(super) fn warn(collected: &mut Collected) {
    let mut first: BTreeMap<Matched<'_>, (&str, usize)> = BTreeMap::new();
    let mut same: BTreeMap<(usize, usize), &Route> = BTreeMap::new();
    for (source, route) in &collected.routes {
        for is_https in [false, true] {
            let scheme = if is_https { Scheme::Https } else { Scheme::Http };
            if route.scheme.is_some_and(|only| only != scheme) {
                continue;
            }
            let entry = first.entry(Matched::of(route, is_https)).or_insert((&route.rank, *source));
            let (winner, loser) = match *entry {
                (rank, other) if *rank <= *route.rank => (other, *source),
                (_, other) => (*source, other),
            };
            if winner == *source {
                *entry = (&route.rank, *source);
            }
            if winner != loser {
                same.entry((loser, winner)).or_insert(route);
            }
        }
    }
    let tell = same.into_iter().filter_map(|((loser, winner), route)| {
        let (loser, winner) = (collected.sources.get(loser)?, collected.sources.get(winner)?);
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.path;
        let (kind, name) = (&winner.kind, &winner.name);
        let message = format!(
            "{kind} `{name}` is older and matches the same requests, as for `{}{path}`: it serves them",
            route.host
        );
        Some((loser.clone(), message))
    });
    for (about, message) in tell.collect::<Vec<_>>() {
        collected.warn(about, "SameRoute", message);
    }
}
