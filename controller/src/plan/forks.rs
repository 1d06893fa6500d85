//! What comes of each fork: the guard and the cluster are asked, and what stands goes into the table.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sidetrack_config::Key;
use sidetrack_config::stream::Preview;

use super::claims::{Asked, Claim, Means};
use super::clones::{Clones, rolled_out};
use super::endpoints::{self, Found};
use super::index::Index;
use super::links::Links;
use super::settle::Group;
use super::status::Report;
use super::waypoints::Hop;
use super::{Fork, ForkState, Notice, Settings, guard, services};
use crate::preview::PreviewStatus;
use crate::world::Name;

/// What came of all forks.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Forks, in the order of the claims of each key.
    pub(super) forks: BTreeMap<Key, Vec<Fork>>,
    /// Previews of the table.
    pub(super) previews: BTreeMap<Key, Preview>,
    /// Services that previews of the table fork.
    pub(super) services: BTreeSet<Name>,
    /// Clones to make.
    pub(super) clones: Clones,
}

impl Judged {
    /// Says of forks whether calls from inside the cluster reach them, where waypoints see to that.
    pub(super) fn reach(&mut self, hops: &BTreeMap<Name, Hop>) {
        for fork in self.forks.values_mut().flatten().filter(|fork| fork.state == ForkState::Routed) {
            let why = match hops.get(&fork.service) {
                None | Some(Hop::Interposed(None)) => continue,
                Some(Hop::Interposed(Some(since))) => {
                    format!("calls from inside the cluster reach it on connections opened since {since}")
                }
                Some(Hop::Pending(why)) => {
                    fork.state = ForkState::NotInterposed;
                    format!("calls from inside the cluster do not reach it yet: {why}")
                }
                Some(Hop::Refused(unfit)) => {
                    format!("calls from inside the cluster do not reach it: {}", unfit.why())
                }
            };
            fork.message = format!("{}; {why}", fork.message).into();
        }
    }
}

/// Judges every claim.
///
/// A fork that is refused for what it is (it leaks, or can't be made) is in the table without an endpoint: a test that
/// means to reach it must not pass on the baseline. So is one that may not be made, where the key is at home in its
/// namespace. A stranger's is not in it, nor is one that another one stands in the way of: anybody could put other
/// people's previews out of order.
pub(super) fn judge<'a>(
    index: &Index<'a>,
    asked: &[Asked<'a>],
    groups: &mut BTreeMap<Key, Group<'a>>,
) -> Judged {
    let mut judged = Judged::default();
    let by_name: BTreeMap<&Name, &Asked<'a>> = asked.iter().map(|preview| (preview.name, preview)).collect();
    for (key, group) in groups {
        let mut table = BTreeMap::new();
        let mut forks = Vec::with_capacity(group.claims.len());
        let homes = homes(group, asked);
        for claim in &mut group.claims {
            let preview = claim.preview.and_then(|name| by_name.get(name).copied());
            let (fork, found) = judge_one(index, preview, claim, &mut judged.clones);
            if fork.state.is_routed() {
                judged.services.insert(fork.service.clone());
                table.extend(found.ports);
            } else if is_declared(fork.state, homes.contains(claim.id.namespace)) && !found.ports.is_empty() {
                judged.services.insert(fork.service.clone());
                for port in found.ports.into_keys() {
                    table.entry(port).or_default();
                }
            }
            forks.push(fork);
        }
        judged.forks.insert(*key, forks);
        // A Preview without any fork may be there for its parents. One none of whose forks can be had is not there at
        // all: requests with its key would all get the baseline.
        let empty = group.owner.is_some() && group.claims.is_empty();
        if !group.expired && (empty || !table.is_empty()) {
            judged.previews.insert(*key, preview(*key, group, table));
        }
    }
    judged
}

/// The namespaces in which a key is at home: those of its Preview and of forks that stand.
fn homes<'a>(group: &Group<'a>, asked: &[Asked<'a>]) -> BTreeSet<&'a str> {
    let owner = group.owner.and_then(|at| asked.get(at)).map(|preview| &*preview.name.namespace);
    let standing = group.claims.iter().filter(|claim| claim.refusal.is_none());
    standing.map(|claim| claim.id.namespace).chain(owner).collect()
}

/// Whether a fork that is refused is in the table nevertheless, without an endpoint.
const fn is_declared(state: ForkState, is_at_home: bool) -> bool {
    match state {
        ForkState::Leaks | ForkState::Invalid => true,
        ForkState::NotAllowed => is_at_home,
        _ => false,
    }
}

fn preview(key: Key, group: &Group<'_>, forks: BTreeMap<Box<str>, Vec<std::net::SocketAddr>>) -> Preview {
    let terms = &group.terms;
    Preview {
        key,
        forks,
        parents: terms.parents.iter().copied().filter(|parent| *parent != key).collect(),
        aliases: terms.aliases.clone(),
        hosts: terms.hosts.clone(),
        on_fork_down: terms.on_fork_down,
        expires: terms.expires,
    }
}

fn judge_one<'a>(
    index: &Index<'a>,
    asked: Option<&Asked<'a>>,
    claim: &mut Claim<'a>,
    clones: &mut Clones,
) -> (Fork, Found) {
    let name = claim.service();
    let service = index.world.services.get(&name);
    let mut found = Found::default();
    let mut wait = None;
    match service {
        None => claim.refuse(ForkState::NoService, format!("there is no Service {name}")),
        Some(service) if service.external => {
            claim.refuse(ForkState::Invalid, format!("Service {name} is of type ExternalName"));
        }
        Some(service) => {
            let ports = services::ports(&name, service).into_iter().filter(|port| port.protocol.is_some());
            let ports: Vec<_> = ports.collect();
            if ports.is_empty() {
                claim.refuse(ForkState::Invalid, format!("Service {name} has no TCP port that speaks HTTP"));
            }
            if claim.refusal.is_none()
                && let Some(asked) = asked
            {
                wait = clones.make(index, asked, claim, service);
            }
            if let Means::Workload(_, name, workload) = claim.means
                && workload.updating
            {
                wait = Some(rolled_out(name));
            }
            if claim.refusal.is_none()
                && let Some(why) = guard::leak(index, claim)
            {
                claim.refuse(ForkState::Leaks, why);
            }
            found = endpoints::find(index, claim, &ports);
            if claim.refusal.is_some() {
                found.ports.values_mut().for_each(Vec::clear);
            }
        }
    }
    if claim.refusal.is_some() && matches!(claim.means, Means::Clone(_)) {
        clones.keep(claim);
    }
    let endpoints = found.count();
    let (state, message) = match &claim.refusal {
        Some((state, why)) => (*state, why.clone()),
        None => match (wait, endpoints) {
            (Some(wait), _) => (ForkState::NotReady, wait),
            (None, 0) => (ForkState::NotReady, found.missing.clone().unwrap_or_default()),
            (None, 1) => (ForkState::Routed, "1 endpoint is ready".to_owned()),
            (None, count) => (ForkState::Routed, format!("{count} endpoints are ready")),
        },
    };
    let fork = Fork {
        key: claim.id.key,
        service: name,
        source: claim.source.clone(),
        state,
        message: message.into(),
        endpoints,
    };
    (fork, found)
}

/// Says what came of it.
#[derive(Debug)]
pub(super) struct Reporter<'r, 'a> {
    pub(super) asked: &'r [Asked<'a>],
    pub(super) groups: &'r BTreeMap<Key, Group<'a>>,
    pub(super) judged: &'r Judged,
    pub(super) links: &'r Links,
    pub(super) settings: &'r Settings,
    pub(super) now: Timestamp,
}

impl Reporter<'_, '_> {
    /// The status of every Preview.
    pub(super) fn previews(&self, notices: &mut Vec<Notice>) -> BTreeMap<Name, PreviewStatus> {
        let mut statuses = BTreeMap::new();
        for (at, asked) in self.asked.iter().enumerate() {
            let group = asked.key.as_ref().ok().and_then(|key| self.groups.get(key));
            let own = group.filter(|group| group.owner == Some(at));
            let forks: Vec<_> =
                group.into_iter().flat_map(|group| self.forks_of(asked, group, own.is_some())).collect();
            let report = Report {
                asked,
                group: own,
                forks: &forks,
                links: self.links,
                warn_before: self.settings.warn_before,
                now: self.now,
            };
            report.notices(notices);
            statuses.insert(asked.name.clone(), report.status());
        }
        statuses
    }

    /// The forks that a Preview speaks for: those that it lists, and where the key is its own those besides that are
    /// routed. What strangers claim in vain says nothing about it.
    fn forks_of<'s>(
        &'s self,
        asked: &'s Asked<'_>,
        group: &'s Group<'_>,
        is_own: bool,
    ) -> impl Iterator<Item = (&'s Claim<'s>, &'s Fork)> {
        let forks = asked.key.as_ref().ok().and_then(|key| self.judged.forks.get(key));
        let mut services = BTreeSet::new();
        let mut both: Vec<_> = group
            .claims
            .iter()
            .zip(forks.into_iter().flatten())
            .filter(|(claim, fork)| claim.preview == Some(asked.name) || (is_own && fork.state.is_routed()))
            .collect();
        both.sort_by_key(|(claim, fork)| (claim.preview != Some(asked.name), &fork.service));
        both.retain(|(_, fork)| services.insert(&fork.service));
        both.into_iter().map(|(claim, fork)| (claim as &Claim<'s>, fork))
    }

    /// What people should hear about forks.
    pub(super) fn forks(&self, notices: &mut Vec<Notice>) {
        for (key, group) in self.groups {
            let expiring = self.is_expiring(group);
            for (claim, fork) in group.claims.iter().zip(self.judged.forks.get(key).into_iter().flatten()) {
                let mut tell = |warning, reason, message: &str| {
                    let about = fork.source.clone();
                    notices.push(Notice { about, warning, reason, message: message.into() });
                };
                let text = format!("fork of {} for key `{key}`: {}", fork.service, fork.message);
                match fork.state {
                    ForkState::Routed | ForkState::NotReady | ForkState::NotInterposed
                        if claim.preview.is_none() && expiring =>
                    {
                        let end = group.terms.expires.map(|end| end.to_string()).unwrap_or_default();
                        tell(
                            true,
                            "Expiring",
                            &format!("fork of {} for key `{key}` ends at {end}", fork.service),
                        );
                    }
                    ForkState::Routed | ForkState::NotReady | ForkState::NotInterposed => {}
                    ForkState::NoService => tell(true, "NoService", &text),
                    ForkState::NotAllowed => tell(true, "NotAllowed", &text),
                    ForkState::Leaks => tell(true, "Leaks", &text),
                    ForkState::Conflict => tell(true, "Conflict", &text),
                    ForkState::Invalid => tell(true, "ForkInvalid", &text),
                    ForkState::Expired if fork.source.kind.as_ref() == "Preview" => {}
                    ForkState::Expired => {
                        tell(
                            false,
                            "Expired",
                            &format!("{text}; it is not routed any more, and stays deployed"),
                        );
                    }
                }
            }
        }
    }

    fn is_expiring(&self, group: &Group<'_>) -> bool {
        let warning = group.terms.expires.and_then(|end| end.checked_sub(self.settings.warn_before).ok());
        warning.is_some_and(|warning| warning <= self.now)
    }
}
