//! Other names of previews: each has one owner. The older preview keeps a name, the newer loses that name and nothing
//! else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sidetrack_config::Key;
use sidetrack_config::check::{Taken, route_host};

use super::Settings;
use super::claims::{Asked, Claim};
use super::settle::Group;
use super::{ForkState, Notice};

/// Takes away the names that somebody else has: routes and domains, other keys, older previews.
pub(super) fn settle(
    groups: &mut BTreeMap<Key, Group<'_>>,
    asked: &mut [Asked<'_>],
    settings: &Settings,
    hosts: &BTreeSet<Box<str>>,
    notices: &mut Vec<Notice>,
) {
    let mut taken = Taken::of_domains(&settings.domains, Some(&settings.host_prefix));
    hosts.iter().filter_map(|host| route_host(host).ok()).for_each(|host| taken.take(&host));
    let alive = groups.iter().filter(|(_, group)| !group.expired && is_named(group));
    let mut order: Vec<(jiff::Timestamp, Key)> = alive.map(|(key, group)| (group.created, *key)).collect();
    order.sort();
    let keys: BTreeSet<Key> =
        groups.iter().filter(|(_, group)| !group.expired).map(|(key, _)| *key).collect();
    let mut names =
        Names { taken, keys, aliases: HashMap::new(), hosts: HashMap::new(), labels: HashMap::new() };
    for (_, key) in order {
        let Some(group) = groups.get_mut(&key) else { continue };
        let mut lost = Vec::new();
        let mut keep = |kind: &str, name: &str, result: Result<(), String>| {
            result.map_err(|why| lost.push(format!("{kind} `{name}` {why}"))).is_ok()
        };
        group
            .terms
            .aliases
            .retain(|alias| *alias != key && keep("alias", alias.as_str(), names.alias(key, *alias)));
        group.terms.hosts.retain(|host| keep("host", host, names.host(key, host)));
        match group.owner.and_then(|at| asked.get_mut(at)) {
            Some(preview) => preview.problems.append(&mut lost),
            None => tell(&group.claims, lost, notices),
        }
    }
}

fn is_named(group: &Group<'_>) -> bool {
    !group.terms.aliases.is_empty() || !group.terms.hosts.is_empty()
}

fn tell(claims: &[Claim<'_>], lost: Vec<String>, notices: &mut Vec<Notice>) {
    let standing = |claim: &&Claim<'_>| !matches!(claim.refusal, Some((ForkState::Conflict, _)));
    let Some(claim) = claims.iter().find(standing) else { return };
    for message in lost {
        let about = claim.source.clone();
        notices.push(Notice { about, warning: true, reason: "NameTaken", message: message.into() });
    }
}

/// Who has what.
struct Names {
    taken: Taken,
    keys: BTreeSet<Key>,
    aliases: HashMap<Box<str>, Key>,
    hosts: HashMap<Box<str>, Key>,
    /// Labels below a domain that a host has.
    labels: HashMap<Box<str>, Key>,
}

impl Names {
    fn alias(&mut self, key: Key, alias: Key) -> Result<(), String> {
        self.taken.alias(alias.as_str())?;
        if self.keys.contains(&alias) {
            return Err("is the key of another preview".into());
        }
        let other = [&self.aliases, &self.labels].into_iter().find_map(|names| names.get(alias.as_str()));
        if let Some(other) = other.filter(|other| **other != key) {
            return Err(format!("belongs to preview `{other}`, which is older"));
        }
        self.aliases.insert(alias.as_str().into(), key);
        Ok(())
    }

    fn host(&mut self, key: Key, host: &str) -> Result<(), String> {
        self.taken.host(host)?;
        let labels: Vec<&str> = self.taken.labels(host).collect();
        let alias = labels.iter().find_map(|label| self.aliases.get(*label));
        if let Some(other) = self.hosts.get(host).or(alias).filter(|other| **other != key) {
            return Err(format!("belongs to preview `{other}`, which is older"));
        }
        self.hosts.insert(host.into(), key);
        for label in labels {
            self.labels.entry(label.into()).or_insert(key);
        }
        Ok(())
    }
}
