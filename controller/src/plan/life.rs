//! Life and death of keys: since when they are there, which have ended, and when the plan has to be made anew.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use sidetrack_config::Key;
use sidetrack_config::stream::{Gone, Item};

use super::ForkState;
use super::settle::Group;
use crate::world::World;

/// How long a key that ended is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The most keys that are remembered after their end.
const MAX_GONE: usize = 10_000;

/// What the lives of all keys come to.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Since when each key is there.
    pub(super) seen: BTreeMap<Key, Timestamp>,
    /// Keys that ended, and when.
    pub(super) gone: BTreeMap<Key, Timestamp>,
    /// When the next one ends, is to be warned of, or is forgotten.
    pub(super) next: Option<Timestamp>,
}

/// Whether a key is there: somebody who may claims it.
fn is_there(group: &Group<'_>) -> bool {
    let may = |state: ForkState| !matches!(state, ForkState::NotAllowed);
    group.owner.is_some()
        || group.claims.iter().any(|claim| claim.refusal.as_ref().is_none_or(|(state, _)| may(*state)))
}

/// Judges the lives of all keys. `is_published` says whether a key is in the table.
pub(super) fn plan(
    world: &World,
    groups: &BTreeMap<Key, Group<'_>>,
    is_published: impl Fn(&Key) -> bool,
    warn_before: Duration,
    now: Timestamp,
) -> Life {
    let mut life = Life::default();
    for (key, group) in groups.iter().filter(|(_, group)| is_there(group)) {
        life.seen.insert(*key, world.seen.get(key).copied().unwrap_or(now));
        if let Some(end) = group.terms.expires {
            let warning = end.checked_sub(warn_before).ok();
            life.wake([warning, Some(end)].into_iter().flatten(), now);
            if group.expired {
                life.gone.insert(*key, end);
            }
        }
    }
    let ended = world.seen.keys().filter(|key| !life.seen.contains_key(*key)).map(|key| (*key, now));
    // What was remembered already comes last: it says when a key really ended.
    let ended: Vec<_> = ended.chain(world.gone.iter().map(|(key, at)| (*key, *at))).collect();
    life.gone.extend(ended);
    life.gone.retain(|key, at| !is_published(key) && forgotten(*at).is_some_and(|end| now < end));
    if life.gone.len() > MAX_GONE {
        let mut newest: Vec<(Timestamp, Key)> = life.gone.iter().map(|(key, at)| (*at, *key)).collect();
        newest.sort_by(|a, b| b.cmp(a));
        newest.truncate(MAX_GONE);
        life.gone = newest.into_iter().map(|(at, key)| (key, at)).collect();
    }
    let ends: Vec<_> = life.gone.values().filter_map(|at| forgotten(*at)).collect();
    life.wake(ends, now);
    life
}

fn forgotten(at: Timestamp) -> Option<Timestamp> {
    at.checked_add(REMEMBERED).ok()
}

impl Life {
    fn wake(&mut self, at: impl IntoIterator<Item = Timestamp>, now: Timestamp) {
        let next = at.into_iter().filter(|at| *at > now).chain(self.next).min();
        self.next = next;
    }

    /// The keys that ended, for the table.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.gone.iter().map(|(key, at)| Item::Gone(Gone { key: *key, at: *at }))
    }
}
