//! Host and path to the rules of that place: one hash for the host, one for each path segment that a route of that
//! host can have. Ten routes and a hundred thousand cost the same.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use sidetrack_config::model::{Carriers, HostPattern, PathMatch, Route};
use smallvec::SmallVec;

use super::rule::Rule;

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// The rules of one host and path by index, in the order in which they are asked.
type Candidates = SmallVec<[usize; 1]>;

/// The routes of one host pattern, by path.
#[derive(Debug, Default)]
struct Paths {
    exact: Map<Candidates>,
    root: Candidates,
    deeper: Map<Candidates>,
    /// Segments of the longest prefix: no request makes us look further.
    depth: usize,
}

impl Paths {
    fn at(&mut self, path: &PathMatch) -> &mut Candidates {
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Prefix(path) if &**path == "/" => &mut self.root,
            PathMatch::Prefix(path) => {
                self.depth = self.depth.max(path.matches('/').count());
                self.deeper.entry(path.clone()).or_default()
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.root.is_empty() && self.deeper.is_empty()
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Candidates> {
        self.exact.values_mut().chain(self.deeper.values_mut()).chain([&mut self.root])
    }

    /// What `pick` finds among the candidates of the path itself, else of its longest prefix in whole segments that
    /// has something for it.
    fn find<T>(&self, path: &str, pick: impl Fn(&Candidates) -> Option<T>) -> Option<T> {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(path).and_then(&pick)
        {
            return Some(found);
        }
        if self.depth > 0 {
            let mut ends: SmallVec<[usize; 8]> = path
                .bytes()
                .enumerate()
                .skip(1)
                .filter_map(|(at, byte)| (byte == b'/').then_some(at))
                .take(self.depth)
                .collect();
            if ends.len() < self.depth {
                ends.push(path.len());
            }
            let longest =
                ends.iter().rev().find_map(|end| self.deeper.get(path.get(..*end)?).and_then(&pick));
            if longest.is_some() {
                return longest;
            }
        }
        pick(&self.root)
    }
}

/// All routes of a configuration.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    exact: Map<Paths>,
    below: Map<Paths>,
    any: Paths,
}

impl Routes {
    /// Builds the index of `routes`. `carriers` name fields that no filter may change.
    pub fn new(routes: &[Route], carriers: &Carriers) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Exact(host) => index.exact.entry(bare(host).into()).or_default(),
                HostPattern::Below(host) => index.below.entry(host.clone()).or_default(),
                HostPattern::Any => &mut index.any,
            };
            paths.at(&route.path).push(number);
            index.rules.push(Rule::new(number, route, carriers));
        }
        index.sort(routes);
        index
    }

    /// Brings the rules of each host and path into the order of the Gateway API: one with a method, most header
    /// fields, most query parameters, the smaller rank; then as they were written.
    fn sort(&mut self, routes: &[Route]) {
        let Self { rules, exact, below, any } = self;
        let all = exact.values_mut().chain(below.values_mut()).chain([any]).flat_map(Paths::all);
        for candidates in all.filter(|candidates| candidates.len() > 1) {
            candidates.sort_by_key(|at| {
                (rules.get(*at).map(Rule::precedence), routes.get(*at).map(|route| &route.rank), *at)
            });
            for (place, at) in candidates.iter().enumerate() {
                if let Some(rule) = rules.get_mut(*at) {
                    rule.order = (place + 1, candidates.len());
                }
            }
        }
    }

    /// The first rule that `fits` of the most specific host that has one for `path`, `*` included.
    pub fn find(&self, host: &str, path: &str, fits: impl Fn(&Rule) -> bool) -> Option<&Rule> {
        self.find_named(host, path, &fits).or_else(|| self.any.find(path, self.first(&fits)))
    }

    /// Whether there is a route for exactly this host.
    pub fn has(&self, host: &str) -> bool {
        self.exact.contains_key(host)
    }

    /// Whether there is a route for this host, or one for any.
    pub fn names(&self, host: &str) -> bool {
        let parents = std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'));
        self.exact.contains_key(host)
            || !self.any.is_empty()
            || (!self.below.is_empty()
                && parents.map(|(_, rest)| rest).any(|rest| self.below.contains_key(rest)))
    }

    /// The same, without the routes for any host.
    pub fn find_named(&self, host: &str, path: &str, fits: impl Fn(&Rule) -> bool) -> Option<&Rule> {
        let first = self.first(&fits);
        if let Some(found) = self.exact.get(host).and_then(|paths| paths.find(path, &first)) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.below.get(parent).and_then(|paths| paths.find(path, &first)) {
                return Some(found);
            }
            rest = parent;
        }
        None
    }

    /// Gives the first of some candidates that `fits`.
    fn first<'t>(&'t self, fits: impl Fn(&Rule) -> bool) -> impl Fn(&Candidates) -> Option<&'t Rule> {
        move |candidates| candidates.iter().filter_map(|at| self.rules.get(*at)).find(|rule| fits(rule))
    }
}

/// A host as requests are asked for it: an IPv6 address without its brackets.
pub fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Whether `host` is `domain` or below it; both in lower case.
pub fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The path as a server may read it that resolves dot segments, decodes what needs no encoding (RFC 3986 section 6.2.2)
/// and slashes, and takes a backslash for a slash as browsers do; `None` where it reads as it stands.
pub fn normalised(path: &str) -> Option<String> {
    let is_odd = |pair: &[u8]| matches!(pair, b"//" | b"/.");
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\')) && !path.as_bytes().windows(2).any(is_odd) {
        return None;
    }
    let decoded = decoded(path);
    if decoded == path && !path.as_bytes().windows(2).any(is_odd) {
        return None;
    }
    // A last dot segment leaves its slash (RFC 3986 section 5.2.4), which an exact path can tell.
    let is_folder = matches!(decoded.rsplit('/').next(), Some("" | "." | ".."));
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let slash = if is_folder && !segments.is_empty() { "/" } else { "" };
    Some(format!("/{}{slash}", segments.join("/")))
}

/// `path` with its slashes, and without percent-encodings of characters that need none.
fn decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let byte = from.get(1..3).filter(|_| from.starts_with('%'));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        let (character, length) = match byte {
            Some(character @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | '/')) => {
                (character, 3)
            }
            Some('\\') => ('/', 3),
            _ if from.starts_with('\\') => ('/', 1),
            _ => ('%', 1),
        };
        out.push(character);
        rest = from.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
