//! Tests of the plan: clusters that are made up, and what must come of them.

mod clones;
mod cluster;
mod inside;
mod labels;
mod laws;
mod previews;
mod waypoints;

use std::net::SocketAddr;

use sidetrack_config::stream::{Item, Preview, Service};

use super::{ForkState, Plan};

impl Plan {
    fn service(&self, name: &str) -> &Service {
        match self.items.get(&*format!("service/{name}")) {
            Some(Item::Service(service)) => service,
            _ => panic!("no service {name} in {:?}", self.items.keys()),
        }
    }

    fn preview(&self, key: &str) -> Option<&Preview> {
        match self.items.get(&*format!("preview/{key}"))? {
            Item::Preview(preview) => Some(preview),
            other => panic!("{other:?}"),
        }
    }

    /// The endpoints of a fork; `None`: it is not in the table.
    fn endpoints(&self, key: &str, service: &str) -> Option<&[SocketAddr]> {
        Some(self.preview(key)?.forks.get(service)?)
    }

    fn states(&self) -> Vec<(String, ForkState)> {
        self.forks.iter().map(|fork| (fork.source.name.name.to_string(), fork.state)).collect()
    }

    fn notices_of(&self, reason: &str) -> Vec<&str> {
        self.notices.iter().filter(|notice| notice.reason == reason).map(|notice| &*notice.message).collect()
    }
}
