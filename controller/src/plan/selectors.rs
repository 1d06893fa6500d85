//! Which selectors match a set of labels, without asking every one of them.

use std::collections::HashMap;

use super::labels::is_subset;
use crate::world::{Labels, Name, Objects, Service};

/// A label as a key and a value.
type Label<'a> = (&'a str, &'a str);

/// The Services of a namespace, each under one label of its selector.
type Buckets<'a> = HashMap<Label<'a>, Vec<(&'a Name, &'a Service)>>;

/// Services by what they select. Each is kept under the rarest label of its selector in its namespace: `app: checkout`
/// finds a handful where `part-of: shop` would find all.
#[derive(Debug, Default)]
pub(super) struct Selectors<'a> {
    namespaces: HashMap<&'a str, Buckets<'a>>,
}

impl<'a> Selectors<'a> {
    /// The selectors of all Services that have one.
    pub(super) fn new(services: &'a Objects<Service>) -> Self {
        let mut counts: HashMap<(&str, Label<'_>), usize> = HashMap::new();
        for (name, service) in services {
            for label in pairs(&service.selector) {
                *counts.entry((&name.namespace, label)).or_default() += 1;
            }
        }
        let mut namespaces: HashMap<&str, Buckets<'_>> = HashMap::new();
        for (name, service) in services {
            let count = |label: &Label<'_>| counts.get(&(&*name.namespace, *label)).copied();
            let Some(rarest) = pairs(&service.selector).min_by_key(count) else { continue };
            let bucket = namespaces.entry(&name.namespace).or_default().entry(rarest).or_default();
            bucket.push((name, &**service));
        }
        Self { namespaces }
    }

    /// The Services of `namespace` that select pods with `labels`, in the order of their names within each label.
    pub(super) fn matching<'b>(
        &'b self,
        namespace: &str,
        labels: &'b Labels,
    ) -> impl Iterator<Item = (&'a Name, &'a Service)> + use<'a, 'b> {
        let buckets = self.namespaces.get(namespace);
        let found = buckets.into_iter().flat_map(move |buckets| {
            pairs(labels).filter_map(move |label| buckets.get(&label)).flatten().copied()
        });
        found.filter(move |(_, service)| is_subset(&service.selector, labels))
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = Label<'_>> {
    labels.iter().map(|(key, value)| (&**key, &**value))
}
