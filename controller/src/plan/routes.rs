//! Routes: from Gateways, HTTPRoutes and Ingresses to the routes of the table.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sidetrack_config::stream::Item;

use super::{Notice, Settings, StatusWrite};
use crate::world::{Name, World};

/// What the routes of a world come to.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// Routes and certificates for the table.
    pub(super) items: Vec<Item>,
    /// What to say about the objects that they come from.
    pub(super) statuses: Vec<StatusWrite>,
    /// What to tell people.
    pub(super) notices: Vec<Notice>,
    /// The Services that a route refers to, each with the number of its port: the table has to hold them.
    pub(super) services: BTreeSet<(Name, u16)>,
    /// The hosts of routes: no preview may be called like one, and its URLs are made of them.
    pub(super) hosts: BTreeSet<Box<str>>,
}

/// Makes the routes of a world.
pub(super) fn plan(world: &World, settings: &Settings, now: Timestamp) -> Routed {
    let _ = (world, settings, now);
    Routed::default()
}
