//! What a person is told of a preview besides what the table says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sidetrack_config::Key;

use crate::plan::{Fork, Links, Plan};
use crate::preview::{Phase, PreviewStatus};
use crate::world::World;

/// All that is known of previews, routed or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Every fork that somebody asks for, in the order of their keys.
    pub forks: Vec<Fork>,
    /// What the `Preview` object of a key says, where it has one.
    pub statuses: BTreeMap<Key, PreviewStatus>,
    /// The links of a key that has no object.
    pub links: Links,
    /// Waypoints that are ready, by namespace: who has to acknowledge a fork of a Service there.
    pub waypoints: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl About {
    /// What a plan says, and of which objects. Where two objects have one key, the older one stands for it.
    pub fn new(plan: &Plan, world: &World) -> Self {
        let mut objects: Vec<_> = world.previews.iter().collect();
        objects.sort_by_key(|(name, object)| (object.meta.created, (*name).clone()));
        let mut statuses = BTreeMap::new();
        for (name, object) in objects {
            if let (Ok(key), Some(status)) = (Key::bare(&object.spec.key), plan.previews.get(name)) {
                statuses.entry(key).or_insert_with(|| status.clone());
            }
        }
        let mut forks = plan.forks.clone();
        forks.sort_by_key(|fork| fork.key);
        let mut waypoints: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
        for (name, _) in world.waypoints.iter().filter(|(_, pod)| pod.ready) {
            waypoints.entry(name.namespace.clone()).or_default().push(name.name.clone());
        }
        Self { forks, statuses, links: plan.links.clone(), waypoints }
    }

    /// Every key that somebody asks for.
    pub fn keys(&self) -> BTreeSet<&Key> {
        self.forks.iter().map(|fork| &fork.key).chain(self.statuses.keys()).collect()
    }

    /// The forks of a key.
    pub fn forks_of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Fork> {
        let from = self.forks.partition_point(|fork| fork.key < *key);
        self.forks.iter().skip(from).take_while(move |fork| fork.key == *key)
    }

    /// Links for a browser, the best first.
    pub fn urls(&self, key: &Key) -> Vec<String> {
        match self.statuses.get(key) {
            Some(status) if !status.urls.is_empty() => status.urls.clone(),
            _ => self.links.of(key, &[]),
        }
    }

    /// When it ends, as its object says.
    pub fn expires(&self, key: &Key) -> Option<Timestamp> {
        self.statuses.get(key).and_then(|status| status.expires)
    }

    /// Where it stands: by its object, else by its forks.
    pub fn phase(&self, key: &Key) -> Phase {
        if let Some(phase) = self.statuses.get(key).and_then(|status| status.phase) {
            return phase;
        }
        let states: BTreeSet<_> = self.forks_of(key).map(|fork| fork.state).collect();
        phase_of(&states)
    }
}

fn phase_of(states: &BTreeSet<crate::plan::ForkState>) -> Phase {
    use crate::plan::ForkState as State;
    let all = |wanted: State| !states.is_empty() && states.iter().all(|state| *state == wanted);
    match states {
        _ if all(State::Routed) => Phase::Ready,
        _ if all(State::Expired) => Phase::Expired,
        states if states.iter().all(|state| state.is_routed() || *state == State::Expired) => Phase::Pending,
        _ => Phase::Degraded,
    }
}
