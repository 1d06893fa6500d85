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

/// What routes and domains have taken.
#[derive(Debug)]
pub struct Taken {
    /// Hosts of routes.
    hosts: HashSet<Box<str>>,
    /// Labels of hosts of routes, and of domains, below a domain.
    labels: HashSet<Box<str>>,
    domains: Vec<Box<str>>,
    host_carrier: Option<Carriers>,
}

impl Taken {
    /// Gathers it.
    pub fn new(routes: &[Route], domains: &[Box<str>], carriers: &Carriers) -> Self {
        let (mut hosts, mut labels) = (HashSet::new(), HashSet::new());
        for route in routes {
            let (HostPattern::Exact(name) | HostPattern::Below(name)) = &route.host else { continue };
            labels.extend(labels_below(name, domains).map(Box::from));
            if matches!(route.host, HostPattern::Exact(_)) {
                hosts.insert(name.clone());
            }
        }
        for domain in domains {
            labels.extend(labels_below(domain, domains).map(Box::from));
        }
        let host_carrier = carriers.host_prefix.is_some().then(|| carriers.clone());
        Self { hosts, labels, domains: domains.to_vec(), host_carrier }
    }

    /// Whether a preview can have `alias`.
    ///
    /// # Errors
    /// Why it cannot; the text ends a sentence that begins with the alias.
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
    /// Why it cannot; the text ends a sentence that begins with the host.
    pub fn host(&self, host: &str) -> Result<(), String> {
        self.alias(host)?;
        if self.domains.iter().any(|domain| **domain == *host) {
            return Err("is a domain of `domains`, where everybody without a key is".into());
        }
        let carriers = self.host_carrier.as_ref();
        let key = |label: &&str| carriers.is_some_and(|carriers| begins_with_prefix(label, carriers));
        match labels_below(host, &self.domains).find(key) {
            Some(label) => Err(format!("has the label `{label}`, which below a domain is read as a key")),
            None => Ok(()),
        }
    }
}
