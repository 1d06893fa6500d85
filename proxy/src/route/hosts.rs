//! Host and path prefix to service: one hash for the host, one for each path segment that a route of that host
//! can have. Ten routes and a hundred thousand cost the same.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use sidetrack_config::model::{Action, HostPattern, PathMatch, Route};

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// A route that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the service.
    pub service: usize,
    /// Index of the route, as written.
    pub route: usize,
}

/// The routes of one host pattern, by path prefix.
#[derive(Debug, Default)]
struct Paths {
    root: Option<Hit>,
    deeper: Map<Hit>,
    /// Segments of the longest prefix: no request makes us look further.
    depth: usize,
}

impl Paths {
    fn insert(&mut self, path: &str, hit: Hit) {
        if path == "/" {
            self.root = Some(hit);
        } else {
            self.depth = self.depth.max(path.matches('/').count());
            self.deeper.insert(path.into(), hit);
        }
    }

    /// The longest prefix of `path` in whole segments.
    fn find(&self, path: &str) -> Option<Hit> {
        if self.depth > 0 {
            let mut ends: smallvec::SmallVec<[usize; 8]> = path
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
                ends.iter().rev().find_map(|end| path.get(..*end).and_then(|prefix| self.deeper.get(prefix)));
            if let Some(hit) = longest {
                return Some(*hit);
            }
        }
        self.root
    }
}

/// All routes of a configuration.
#[derive(Debug, Default)]
pub struct Routes {
    exact: Map<Paths>,
    below: Map<Paths>,
    any: Paths,
}

impl Routes {
    /// Builds the index of `routes`, which the check found free of twins.
    pub fn new(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Exact(host) => index.exact.entry(bare(host).into()).or_default(),
                HostPattern::Below(host) => index.below.entry(host.clone()).or_default(),
                HostPattern::Any => &mut index.any,
            };
            let Action::Forward(backends) = &route.action else { continue };
            if let (PathMatch::Prefix(path), Some(service)) =
                (&route.path, backends.iter().find_map(|backend| backend.service))
            {
                paths.insert(path, Hit { service, route: number });
            }
        }
        index
    }

    /// The route of the most specific host that has one for `path`, `*` included.
    pub fn find(&self, host: &str, path: &str) -> Option<Hit> {
        self.find_named(host, path).or_else(|| self.any.find(path))
    }

    /// The same, without the routes for any host.
    pub fn find_named(&self, host: &str, path: &str) -> Option<Hit> {
        if let Some(hit) = self.exact.get(host).and_then(|paths| paths.find(path)) {
            return Some(hit);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(hit) = self.below.get(parent).and_then(|paths| paths.find(path)) {
                return Some(hit);
            }
            rest = parent;
        }
        None
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

/// The path as a server may read it that resolves dot segments and decodes dots and slashes (RFC 3986 section
/// 6.2.2); `None` where it reads as it stands.
pub fn normalised(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let odd = bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
        || bytes
            .windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"%2e") || three.eq_ignore_ascii_case(b"%2f"));
    if !odd {
        return None;
    }
    let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
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
    Some(format!("/{}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn routes(list: &[(&str, &str)]) -> Routes {
        let list: Vec<_> = list
            .iter()
            .enumerate()
            .map(|(service, (host, path))| {
                let host = match host.strip_prefix("*.") {
                    Some(below) => HostPattern::Below(below.into()),
                    None if *host == "*" => HostPattern::Any,
                    None => HostPattern::Exact((*host).into()),
                };
                Route::to(host, *path, service)
            })
            .collect();
        Routes::new(&list)
    }

    #[test]
    fn most_specific_host_then_longest_prefix_in_whole_segments() {
        let table = routes(&[
            ("a.example.com", "/"),
            ("a.example.com", "/api/checkout"),
            ("*.example.com", "/"),
            ("*.example.com", "/only-below"),
            ("*", "/"),
            ("b.example.com", "/api"),
            ("*.b.example.com", "/"),
        ]);
        let service = |host: &str, path: &str| table.find(host, path).map(|hit| hit.service);
        assert_eq!(service("a.example.com", "/"), Some(0));
        assert_eq!(service("a.example.com", "/api/checkout"), Some(1));
        assert_eq!(service("a.example.com", "/api/checkout/7/x"), Some(1));
        assert_eq!(service("a.example.com", "/api/checkouts"), Some(0));
        assert_eq!(service("a.example.com", "/api"), Some(0));
        assert_eq!(service("x.y.example.com", "/"), Some(2));
        assert_eq!(service("x.example.com", "/only-below/1"), Some(3));
        assert_eq!(service("example.com", "/"), Some(4), "the wildcard is for hosts below");
        assert_eq!(service("b.example.com", "/api/1"), Some(5));
        assert_eq!(
            service("b.example.com", "/other"),
            Some(2),
            "a host without such a path falls to the next"
        );
        assert_eq!(service("c.b.example.com", "/"), Some(6));
    }

    #[test]
    fn what_a_lenient_server_would_read() {
        for (path, read) in [
            ("/a/b", None),
            ("/a.b/c..d", None),
            ("/a/../b", Some("/b")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a%2fb", Some("/a/b")),
            ("//a///b/", Some("/a/b")),
            ("/../..", Some("/")),
        ] {
            assert_eq!(normalised(path).as_deref(), read, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_walk_over_all(
            list in prop::collection::btree_set(("(\\*\\.)?[ab]\\.[cd]|\\*", "(/[xy]){0,3}"), 0..12),
            host in "([ab]\\.)?[ab]\\.[cd]",
            path in "(/[xyz]{1,2}){1,4}",
        ) {
            let list: Vec<(String, String)> = list.into_iter()
                .map(|(host, path)| (host, if path.is_empty() { "/".to_owned() } else { path })).collect();
            let table = routes(&list.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect::<Vec<_>>());
            let expected = list.iter().enumerate().filter(|(_, (h, p))| {
                let host_ok = match h.strip_prefix('*') {
                    Some(below) => host.ends_with(below),
                    None => *h == host,
                };
                host_ok && (p == "/" || path == *p || path.starts_with(&format!("{p}/")))
            }).max_by_key(|(_, (h, p))| (!h.starts_with('*'), h.len(), p.len())).map(|(at, _)| at);
            prop_assert_eq!(table.find(&host, &path).map(|hit| hit.route), expected);
        }

        #[test]
        fn normalising_ends(path in "/[a./%2eEfF]{0,40}") {
            if let Some(once) = normalised(&path) {
                prop_assert!(once.starts_with('/'));
                prop_assert!(!once.contains("//") && !once.contains("/../"));
            }
        }
    }
}
