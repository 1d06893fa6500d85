//! Names that mean something already: what an alias or a host of a preview must keep clear of.

use std::collections::HashSet;

use crate::key::strip_prefix;
use crate::model::{Carriers, HostPattern, Route};

/// The labels of `host` below the longest of `domains` that it is below, and their parts between `--`.
/// `domains` is sorted, longest first.
pub(super) fn labels_below<'a>(
    host: &'a str,
    domains: &[Box<str>],
) -> impl Iterator<Item = &'a str> + use<'a> {
    let below = domains.iter().find_map(|domain| host.strip_suffix(&**domain)?.strip_suffix('.'));
    below.into_iter().flat_map(|labels| labels.split('.')).flat_map(|label| {
        let whole = label.contains("--").then_some(label);
        whole.into_iter().chain(label.split("--"))
    })
}

/// Whether a label is read as a key.
pub(super) fn begins_with_prefix(label: &str, carriers: &Carriers) -> bool {
    carriers.host_prefix.as_deref().is_some_and(|prefix| strip_prefix(label, prefix).is_some())
}

/// What routes and domains have taken: names that no preview may go by.
#[derive(Debug)]
pub struct Taken {
    /// Hosts of routes.
    hosts: HashSet<Box<str>>,
    /// Labels of hosts of routes, and of domains, below a domain.
    labels: HashSet<Box<str>>,
    domains: Vec<Box<str>>,
    /// The prefix of a key in a host, where hosts carry keys.
    host_prefix: Option<Box<str>>,
}

impl Taken {
    /// What routes and domains take.
    pub fn new(routes: &[Route], domains: &[Box<str>], carriers: &Carriers) -> Self {
        let mut taken = Self::of_domains(domains, carriers.host_prefix.as_deref());
        for route in routes {
            taken.take(&route.host);
        }
        taken
    }

    /// What `domains` take, where a key in a host begins with `host_prefix`.
    pub fn of_domains(domains: &[Box<str>], host_prefix: Option<&str>) -> Self {
        let mut domains = domains.to_vec();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        let labels =
            domains.iter().flat_map(|domain| labels_below(domain, &domains)).map(Box::from).collect();
        Self { hosts: HashSet::new(), labels, domains, host_prefix: host_prefix.map(Box::from) }
    }

    /// Takes what a route for `host` takes.
    pub fn take(&mut self, host: &HostPattern) {
        let (HostPattern::Exact(name) | HostPattern::Below(name)) = host else { return };
        self.labels.extend(labels_below(name, &self.domains).map(Box::from));
        if matches!(host, HostPattern::Exact(_)) {
            self.hosts.insert(name.clone());
        }
    }

    /// The labels of `host` below one of the domains, and their parts between `--`.
    pub fn labels<'a>(&self, host: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        labels_below(host, &self.domains)
    }

    /// Whether a preview can have `alias`.
    ///
    /// # Errors
    /// Why not, as the end of the sentence that begins with it.
    pub fn alias(&self, alias: &str) -> Result<(), String> {
        if self.labels.contains(alias) {
            return Err("is a label of a route or domain below a domain".into());
        }
        match self.hosts.contains(alias) {
            true => Err("is the host of a route".into()),
            false => Ok(()),
        }
    }

    /// Whether a preview can have `host`, which is in lower case.
    ///
    /// # Errors
    /// Why not, as the end of the sentence that begins with it.
    pub fn host(&self, host: &str) -> Result<(), String> {
        self.alias(host)?;
        if self.domains.iter().any(|domain| **domain == *host) {
            return Err("is a domain of `domains`, where everybody without a key is".into());
        }
        let prefix = self.host_prefix.as_deref();
        let key = |label: &&str| prefix.is_some_and(|prefix| strip_prefix(label, prefix).is_some());
        match labels_below(host, &self.domains).find(key) {
            Some(label) => Err(format!("has the label `{label}`, which below a domain is read as a key")),
            None => Ok(()),
        }
    }
}
