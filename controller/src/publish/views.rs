//! Who is told what: gateways everything but ports of waypoints, the waypoints of a namespace what they need for the
//! Services that they serve, and sidecars what their calls may be for. Each view is a table of its own, with its own
//! versions and acknowledgements.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sidetrack_config::stream::{Item, Preview, Service};

use super::{About, Publisher, lock};

/// The most namespaces with waypoints.
const MAX: usize = 1024;

/// Items of a table, by [`Item::id`].
pub type Items = BTreeMap<Box<str>, Item>;

/// The tables of waypoints, by namespace.
#[derive(Debug, Default)]
pub(super) struct Views {
    by_namespace: Mutex<BTreeMap<Box<str>, Arc<Publisher>>>,
    /// That of sidecars; `None`: there are none.
    pub(super) sidecars: Option<Arc<Publisher>>,
}

impl Views {
    /// The one of a namespace, if its waypoints are to have one.
    pub(super) fn of(&self, namespace: &str) -> Option<Arc<Publisher>> {
        lock(&self.by_namespace).get(namespace).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<Publisher>)> {
        let views = lock(&self.by_namespace);
        views.iter().map(|(namespace, view)| (namespace.clone(), Arc::clone(view))).collect()
    }

    /// Makes these the tables; those of other namespaces end. Gives what was too large, or too much.
    pub(super) fn update(
        &self,
        items: &Items,
        inside: Items,
        views: BTreeMap<Box<str>, Items>,
    ) -> Vec<Box<str>> {
        let mut left_out = Vec::new();
        if let Some(sidecars) = &self.sidecars {
            left_out.extend(sidecars.update(of_sidecars(items, inside), About::default()).left_out);
        }
        let mut kept = BTreeMap::new();
        for (namespace, own) in views {
            if kept.len() >= MAX {
                left_out.push(format!("the table of the waypoints of {namespace}").into());
                continue;
            }
            let view = self.of(&namespace).unwrap_or_else(|| Arc::new(Publisher::new()));
            left_out.extend(view.update(of_waypoints(items, own), About::default()).left_out);
            kept.insert(namespace, view);
        }
        let before = std::mem::replace(&mut *lock(&self.by_namespace), kept);
        let kept = self.all();
        for (namespace, view) in before {
            if kept.iter().all(|(other, _)| *other != namespace) {
                view.end();
            }
        }
        left_out
    }
}

/// The table of gateways. One that is older than this controller refuses a service with a field that it does not know,
/// and has no use for this one.
pub(super) fn of_gateways(items: Items) -> Items {
    let without = |item| match item {
        Item::Service(service) => Item::Service(Service { addresses: Vec::new(), ..service }),
        item => item,
    };
    items.into_iter().map(|(id, item)| (id, without(item))).collect()
}

/// The table of sidecars: their calls go to any service, those `inside` that nobody else is told of included, and to hosts
/// of previews. They end no TLS, and what is behind other hosts of the edge is a gateway's to say.
fn of_sidecars(items: &Items, inside: Items) -> Items {
    let seen = |item: &Item| match item {
        Item::Service(_) | Item::Preview(_) | Item::Gone(_) | Item::Secrets(_) => Some(item.clone()),
        Item::Route(_) | Item::Certificate(_) | Item::Port(_) => None,
    };
    let shared = items.iter().filter_map(|(id, item)| Some((id.clone(), seen(item)?)));
    shared.chain(inside).collect()
}

/// The table of the waypoints of a namespace: `own` are its ports and services. A preview without a fork of those is
/// known all the same: its name is no unknown one, and it may have parents that have one.
fn of_waypoints(items: &Items, own: Items) -> Items {
    let seen = |item: &Item| match item {
        Item::Preview(preview) => {
            let forks = preview.forks.iter();
            let forks = forks.filter(|(service, _)| own.contains_key(format!("service/{service}").as_str()));
            Some(Item::Preview(Preview {
                key: preview.key,
                forks: forks.map(|(service, endpoints)| (service.clone(), endpoints.clone())).collect(),
                parents: preview.parents.clone(),
                aliases: preview.aliases.clone(),
                hosts: Vec::new(),
                on_fork_down: preview.on_fork_down,
                expires: preview.expires,
            }))
        }
        Item::Gone(_) | Item::Secrets(_) => Some(item.clone()),
        Item::Service(_) | Item::Route(_) | Item::Certificate(_) | Item::Port(_) => None,
    };
    let shared: Vec<_> = items.iter().filter_map(|(id, item)| Some((id.clone(), seen(item)?))).collect();
    own.into_iter().chain(shared).collect()
}
