//! A route as the table holds it: its conditions, and what happens, with every name made ready for the wire.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, HeaderValue};
use sidetrack_config::carriers::Place;
use sidetrack_config::model::{
    self, Carriers, FieldChanges, FieldMatch, PathMatch, PathRewrite, Redirect, RouteTimeouts, Scheme,
    is_protected_request_field, is_protected_response_field,
};

use crate::head::Head;
use crate::identify::query_value;

/// One route.
#[derive(Debug)]
pub struct Rule {
    /// Position among the routes of the configuration.
    pub index: usize,
    /// Its name; empty for a route of the file, which goes by its position.
    pub name: Box<str>,
    /// Which paths.
    pub path: PathMatch,
    /// Its place, from 1, among the rules of the same host and path, and how many those are: they are asked in order.
    pub order: (usize, usize),
    /// What else must hold; `None`: nothing.
    when: Option<Box<When>>,
    /// Changes for every backend.
    pub changes: Option<Box<Changes>>,
    /// Time-outs in place of the service's.
    pub timeouts: RouteTimeouts,
    /// What happens.
    pub action: Action,
}

/// What must hold besides host and path.
#[derive(Debug)]
struct When {
    method: Option<Box<str>>,
    headers: Vec<FieldMatch>,
    query: Vec<FieldMatch>,
    scheme: Option<Scheme>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Action {
    /// To one of these by weight.
    Forward(Box<[Backend]>),
    /// A redirect.
    Redirect(Box<Redirect>),
}

/// A service that takes a share of a rule's requests.
#[derive(Debug)]
pub struct Backend {
    /// Its index; `None`: there is no such service.
    pub service: Option<usize>,
    /// Its share.
    pub weight: u32,
    /// Changes for its share only, after those of the rule.
    pub changes: Option<Box<Changes>>,
}

/// Changes to requests and answers.
#[derive(Debug, Default)]
pub struct Changes {
    /// To the fields of the request.
    pub request: FieldEdits,
    /// To the fields of the answer.
    pub response: FieldEdits,
    /// What `Host` says upstream.
    pub host: Option<HeaderValue>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// Changes to header fields, in this order: set, add, remove.
#[derive(Debug, Default)]
pub struct FieldEdits {
    /// In place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Away.
    pub remove: Vec<HeaderName>,
}

impl Rule {
    /// The rule of `route`, at `index` of the configuration. What a filter may not change is left out of it.
    pub fn new(index: usize, route: &model::Route, carriers: &Carriers) -> Self {
        let plain = route.method.is_none()
            && route.headers.is_empty()
            && route.query.is_empty()
            && route.scheme.is_none();
        let when = (!plain).then(|| When {
            method: route.method.clone(),
            headers: route.headers.clone(),
            query: route.query.clone(),
            scheme: route.scheme,
        });
        let action = match &route.action {
            model::Action::Forward(backends) => Action::Forward(
                backends
                    .iter()
                    .map(|backend| Backend {
                        service: backend.service,
                        weight: backend.weight,
                        changes: Changes::new(&backend.filters, carriers),
                    })
                    .collect(),
            ),
            model::Action::Redirect(to) => Action::Redirect(Box::new(to.clone())),
        };
        Self {
            index,
            name: route.name.clone(),
            path: route.path.clone(),
            order: (1, 1),
            when: when.map(Box::new),
            changes: Changes::new(&route.filters, carriers),
            timeouts: route.timeouts,
            action,
        }
    }

    /// The rule that brings everything to the service `name` with this number.
    pub fn direct(service: usize, name: &str) -> Self {
        Self {
            index: service,
            name: name.into(),
            path: PathMatch::Prefix("/".into()),
            order: (1, 1),
            when: None,
            changes: None,
            timeouts: RouteTimeouts::default(),
            action: Action::Forward(Box::new([Backend { service: Some(service), weight: 1, changes: None }])),
        }
    }

    /// Whether a request meets the conditions besides host and path. `own` is our query parameter, which no condition
    /// sees, since it does not go onward.
    pub fn fits<H: Head>(&self, head: &H, own: Option<&str>) -> bool {
        let Some(when) = &self.when else { return true };
        let scheme = if head.is_secure() { Scheme::Https } else { Scheme::Http };
        // An extended CONNECT (RFC 8441) is the GET that it stands for.
        let method = if head.method() == "CONNECT" { "GET" } else { head.method() };
        when.scheme.is_none_or(|wanted| wanted == scheme)
            && when.method.as_deref().is_none_or(|wanted| wanted == method)
            && when.headers.iter().all(|wanted| has_field(head, wanted))
            && when.query.iter().all(|wanted| {
                let given = || query_value(head.query()?, &wanted.name);
                own != Some(&*wanted.name) && given().is_some_and(|value| value == *wanted.value)
            })
    }

    /// Its name, or its position in the file: `routes[3]`.
    pub fn label(&self) -> Cow<'_, str> {
        match &*self.name {
            "" => Cow::Owned(format!("routes[{}]", self.index)),
            name => Cow::Borrowed(name),
        }
    }

    /// What the order of candidates goes by besides rank, smaller first.
    pub(super) fn precedence(&self) -> (bool, std::cmp::Reverse<(usize, usize)>) {
        let when = self.when.as_ref();
        let fields = when.map_or((0, 0), |when| (when.headers.len(), when.query.len()));
        (when.is_none_or(|when| when.method.is_none()), std::cmp::Reverse(fields))
    }
}

/// Whether the lines of a field, joined with commas (RFC 9110 section 5.3), say what is wanted.
fn has_field<H: Head>(head: &H, wanted: &FieldMatch) -> bool {
    let mut lines = head.lines(&wanted.name);
    let Some(first) = lines.next() else { return false };
    let mut left = wanted.value.as_bytes().strip_prefix(first);
    for line in lines {
        left = left.and_then(|left| left.strip_prefix(b",")?.strip_prefix(line));
    }
    left.is_some_and(<[u8]>::is_empty)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())?;
        match &self.path {
            PathMatch::Exact(path) => write!(f, " (path {path} exactly")?,
            PathMatch::Prefix(path) => write!(f, " (path {path}")?,
        }
        if let Some(when) = &self.when {
            if let Some(method) = &when.method {
                write!(f, ", method {method}")?;
            }
            for field in &when.headers {
                write!(f, ", header {}: {}", field.name, field.value)?;
            }
            for field in &when.query {
                write!(f, ", query {}={}", field.name, field.value)?;
            }
            match when.scheme {
                Some(Scheme::Http) => f.write_str(", in clear")?,
                Some(Scheme::Https) => f.write_str(", over TLS")?,
                None => {}
            }
        }
        f.write_str(")")
    }
}

impl Changes {
    fn new(filters: &model::Filters, carriers: &Carriers) -> Option<Box<Self>> {
        if filters.is_empty() {
            return None;
        }
        let rewrite = filters.rewrite.as_ref();
        Some(Box::new(Self {
            request: FieldEdits::new(&filters.request, |name| {
                is_protected_request_field(name) || is_carrier(name, carriers)
            }),
            response: FieldEdits::new(&filters.response, is_protected_response_field),
            host: rewrite
                .and_then(|rewrite| HeaderValue::from_bytes(rewrite.host.as_deref()?.as_bytes()).ok()),
            path: rewrite.and_then(|rewrite| rewrite.path.clone()),
        }))
    }
}

/// Whether a key is read from this field under the names of this configuration.
fn is_carrier(name: &str, carriers: &Carriers) -> bool {
    let mut places = carriers.aliases.iter().flat_map(|tool| tool.places);
    carriers.header.as_deref() == Some(name)
        || places.any(|place| matches!(place, Place::Header(field) if *field == name))
}

impl FieldEdits {
    fn new(changes: &FieldChanges, is_protected: impl Fn(&str) -> bool) -> Self {
        let name = |name: &str| match is_protected(name) {
            true => None,
            false => HeaderName::from_bytes(name.as_bytes()).ok(),
        };
        let field = |field: &FieldMatch| {
            Some((name(&field.name)?, HeaderValue::from_bytes(field.value.as_bytes()).ok()?))
        };
        Self {
            set: changes.set.iter().filter_map(field).collect(),
            add: changes.add.iter().filter_map(field).collect(),
            remove: changes.remove.iter().filter_map(|field| name(field)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sidetrack_config::model::{Filters, HostPattern};

    use super::*;
    use crate::fixture::estate_with;

    #[test]
    fn no_filter_touches_the_key_or_the_framing() {
        let table = estate_with("carriers: {header: x-preview, aliases: [okteto]}");
        let own = ["x-preview", "X-Okteto-Divert", "baggage", "traceparent", "X-Forwarded-For", "host", "te"];
        let names = || own.into_iter().chain(["x-pr-id", "content-length", "connection", "x-free"]);
        let lines = || names().map(|name| FieldMatch { name: name.to_lowercase().into(), value: "1".into() });
        let changes = FieldChanges {
            set: lines().collect(),
            add: lines().collect(),
            remove: lines().map(|field| field.name).collect(),
        };
        let mut route = model::Route::to(HostPattern::Any, "/", 0);
        route.filters = Filters { request: changes.clone(), response: changes, rewrite: None };
        let rule = Rule::new(0, &route, &table.estate.carriers);
        let Changes { request, response, .. } = *rule.changes.unwrap();
        let free = HeaderName::from_static("x-free");
        assert_eq!(request.set, [(free.clone(), HeaderValue::from_static("1"))]);
        assert_eq!(request.add, request.set);
        assert_eq!(request.remove, [free]);
        assert!(response.remove.contains(&HeaderName::from_static("x-preview")), "answers carry no key");
        assert!(!response.remove.iter().any(|name| name == "connection" || name == "content-length"));
    }

    #[test]
    fn a_rule_says_what_it_asks_for() {
        let mut route = model::Route::to(HostPattern::Any, "/", 0);
        let table = crate::fixture::estate();
        assert_eq!(Rule::new(3, &route, &table.estate.carriers).to_string(), "routes[3] (path /)");
        route.name = "shop/web/0".into();
        route.path = PathMatch::Exact("/a".into());
        route.method = Some("GET".into());
        route.headers = vec![FieldMatch { name: "x-a".into(), value: "1".into() }];
        route.query = vec![FieldMatch { name: "v".into(), value: "2".into() }];
        route.scheme = Some(Scheme::Https);
        assert_eq!(
            Rule::new(3, &route, &table.estate.carriers).to_string(),
            "shop/web/0 (path /a exactly, method GET, header x-a: 1, query v=2, over TLS)"
        );
    }
}
