//! One key, one preview: claims come together here, and where two exclude each other the older one stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use sidetrack_config::Key;

use super::claims::{Asked, Claim, Means, of_preview};
use super::index::{ForkId, Index};
use super::terms::{self, Terms};
use super::{ForkState, Notice};
use crate::names::ALLOW_FORKS_FROM;
use crate::world::{Labels, Name};

/// All that is said about one key.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    /// The Preview whose key it is, by its place among those that ask.
    pub(super) owner: Option<usize>,
    /// Every claim, refused ones included.
    pub(super) claims: Vec<Claim<'a>>,
    /// On these terms.
    pub(super) terms: Terms,
    /// Since when the key is there: its Preview's age, else that of the oldest fork.
    pub(super) created: Timestamp,
    /// Whether it has ended.
    pub(super) expired: bool,
}

/// Brings all claims together by key.
pub(super) fn settle<'a>(
    index: &Index<'a>,
    asked: &mut [Asked<'a>],
    labels: Vec<Claim<'a>>,
    now: Timestamp,
    notices: &mut Vec<Notice>,
) -> BTreeMap<Key, Group<'a>> {
    let mut by_key: BTreeMap<Key, (Vec<usize>, Vec<Claim<'a>>)> = BTreeMap::new();
    for (at, preview) in asked.iter().enumerate() {
        if let Ok(key) = preview.key {
            by_key.entry(key).or_default().0.push(at);
        }
    }
    for mut claim in labels {
        permit(index, &mut claim);
        by_key.entry(claim.id.key).or_default().1.push(claim);
    }
    let mut groups = BTreeMap::new();
    for (key, (previews, labels)) in by_key {
        groups.insert(key, group(index, key, asked, previews, labels, now, notices));
    }
    groups
}

fn group<'a>(
    index: &Index<'a>,
    key: Key,
    asked: &mut [Asked<'a>],
    mut previews: Vec<usize>,
    mut labels: Vec<Claim<'a>>,
    now: Timestamp,
    notices: &mut Vec<Notice>,
) -> Group<'a> {
    // One that has ended claims nothing any more, so that a key can be had again.
    let has_ended = |preview: &Asked<'_>| preview.terms.expires.is_some_and(|end| end <= now);
    previews.sort_by(|a, b| match (asked.get(*a), asked.get(*b)) {
        (Some(a), Some(b)) => (has_ended(a), a.age()).cmp(&(has_ended(b), b.age())),
        _ => a.cmp(b),
    });
    let mut owner = previews.first().copied();
    let mut claims = Vec::new();
    let first = owner.and_then(|at| asked.get(at)).map(|preview| preview.name.to_string());
    for at in previews {
        let Some(preview) = asked.get_mut(at) else { continue };
        let ended = has_ended(preview);
        let mut listed = of_preview(index, preview, key);
        listed.iter_mut().for_each(|claim| permit(index, claim));
        if owner == Some(at) {
            meet(&mut listed, &mut labels);
        } else {
            let why = format!("key `{key}` belongs to Preview {}", first.as_deref().unwrap_or_default());
            let state = if ended { ForkState::Expired } else { ForkState::Conflict };
            listed.iter_mut().for_each(|claim| claim.refuse(state, why.clone()));
            preview.conflict = Some(why);
        }
        claims.append(&mut listed);
    }
    claims.append(&mut labels);
    claims.sort_by(|a, b| (a.age(), &a.id).cmp(&(b.age(), &b.id)));
    one_repository(key, asked, &mut owner, &mut claims);
    one_source(&mut claims);
    let mut group = Group { owner, claims, ..Group::default() };
    set_terms(index, key, asked, &mut group, now, notices);
    group.expired = group.terms.expires.is_some_and(|end| end <= now);
    if group.expired {
        for claim in &mut group.claims {
            claim.refuse(ForkState::Expired, "its TTL is over");
        }
    }
    group
}

/// Refuses a fork of a Service whose namespace does not allow it: any namespace could take over any Service otherwise.
fn permit(index: &Index<'_>, claim: &mut Claim<'_>) {
    let (namespace, service) = claim.id.service;
    if namespace == claim.id.namespace {
        return;
    }
    let world = index.world;
    let service = world.services.get(&Name::new(namespace, service)).map(|service| &service.meta);
    let home = world.namespaces.get(&Name::new("", namespace)).map(|home| &home.meta);
    let mut said = [service, home].into_iter().flatten().flat_map(|meta| [&meta.annotations, &meta.labels]);
    if !said.any(|labels| allows(labels, claim.id.namespace)) {
        let why = format!(
            "namespace {namespace} does not allow it: annotate the Service or the Namespace with \
             `{ALLOW_FORKS_FROM}: {}`",
            claim.id.namespace
        );
        claim.refuse(ForkState::NotAllowed, why);
    }
}

fn allows(labels: &Labels, namespace: &str) -> bool {
    let list = labels.get(ALLOW_FORKS_FROM).map(|text| text.split(','));
    list.into_iter().flatten().map(str::trim).any(|allowed| allowed == "*" || allowed == namespace)
}

/// What a Preview lists without saying where it comes from is the fork that is labelled so in its namespace.
fn meet<'a>(listed: &mut Vec<Claim<'a>>, labels: &mut [Claim<'a>]) {
    let mut oldest: HashMap<ForkId<'a>, usize> = HashMap::new();
    for (at, claim) in labels.iter().enumerate() {
        let best = oldest.entry(claim.id.clone()).or_insert(at);
        if labels.get(*best).is_some_and(|other| claim.age() < other.age()) {
            *best = at;
        }
    }
    listed.retain(|claim| {
        if !matches!(claim.means, Means::Awaited) || claim.refusal.is_some() {
            return true;
        }
        let Some(meant) = oldest.get(&claim.id).and_then(|at| labels.get_mut(*at)) else { return true };
        meant.preview = claim.preview;
        meant.created = meant.created.min(claim.created);
        false
    });
}

/// One key for two repositories that no single Preview lists: the older claim stays.
fn one_repository<'a>(
    key: Key,
    asked: &mut [Asked<'a>],
    owner: &mut Option<usize>,
    claims: &mut [Claim<'a>],
) {
    let preview = owner.and_then(|at| asked.get_mut(at));
    let theirs = preview.as_ref().and_then(|preview| {
        let name = repository(preview.object.spec.repository.as_deref()?);
        Some((preview.age().0, preview.age().1.to_owned(), name))
    });
    let open = claims.iter().filter(|claim| claim.refusal.is_none() && claim.preview.is_none());
    let oldest = open
        .filter_map(|claim| {
            Some((claim.created, claim.source.uid.to_string(), repository(claim.repository.as_deref()?)))
        })
        .chain(theirs.clone())
        .min();
    let Some((_, _, oldest)) = oldest else { return };
    let why = format!("key `{key}` belongs to repository {oldest}, which claimed it first");
    if let (Some(preview), Some((_, _, name))) = (preview, theirs)
        && name != oldest
    {
        for claim in claims.iter_mut().filter(|claim| claim.preview == Some(preview.name)) {
            // A labelled fork stands by itself again.
            claim.preview = None;
            if !matches!(claim.means, Means::Workload(..) | Means::Pods)
                && claim.source.kind.as_ref() == "Preview"
            {
                claim.preview = Some(preview.name);
                claim.refuse(ForkState::Conflict, why.clone());
            }
        }
        preview.conflict = Some(why.clone());
        *owner = None;
    }
    for claim in claims.iter_mut().filter(|claim| claim.preview.is_none()) {
        if claim.repository.as_deref().is_some_and(|name| repository(name) != oldest) {
            claim.refuse(ForkState::Conflict, why.clone());
        }
    }
}

/// A repository as it is compared: people write it in several ways.
fn repository(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    text.strip_suffix(".git").unwrap_or(text).to_ascii_lowercase()
}

/// Two sources for one fork: the older claim stays. `claims` are sorted by age.
fn one_source(claims: &mut [Claim<'_>]) {
    let mut first: HashMap<(&str, &str), (usize, String)> = HashMap::new();
    let mut rivals = Vec::new();
    for (at, claim) in claims.iter_mut().enumerate() {
        if claim.refusal.is_some() {
            continue;
        }
        let source = format!("{} {}", claim.source.kind, claim.source.name);
        let Some((winner, name)) = first.get(&claim.id.service) else {
            first.insert(claim.id.service, (at, source));
            continue;
        };
        claim.refuse(ForkState::Conflict, format!("{name} claimed this fork first"));
        if let Means::Workload(kind, name, _) = &claim.means {
            rivals.push((*winner, (*kind, *name)));
        }
    }
    for (winner, rival) in rivals {
        if let Some(claim) = claims.get_mut(winner) {
            claim.rivals.push(rival);
        }
    }
}

/// The terms of a key: its Preview's; without one those of its forks, the oldest that says something counts.
fn set_terms<'a>(
    index: &Index<'a>,
    key: Key,
    asked: &[Asked<'a>],
    group: &mut Group<'a>,
    now: Timestamp,
    notices: &mut Vec<Notice>,
) {
    for claim in &group.claims {
        for problem in &claim.terms.problems {
            notices.push(Notice {
                about: claim.source.clone(),
                warning: true,
                reason: "InvalidSetting",
                message: format!("{problem}; it is left out").into(),
            });
        }
    }
    if let Some(preview) = group.owner.and_then(|at| asked.get(at)) {
        group.terms = preview.terms.clone();
        group.created = preview.object.meta.created;
        return;
    }
    let standing = || group.claims.iter().filter(|claim| claim.refusal.is_none());
    group.created = standing().map(|claim| claim.created).min().unwrap_or(now);
    let mut differing: BTreeSet<(usize, &'static str)> = BTreeSet::new();
    let settings: Vec<_> = standing().map(|claim| &claim.terms.settings).collect();
    let mut terms = Terms {
        parents: chosen(
            "parents",
            &settings,
            |said| Some(&said.parents).filter(|list| !list.is_empty()),
            &mut differing,
        )
        .cloned()
        .unwrap_or_default(),
        aliases: chosen(
            "aliases",
            &settings,
            |said| Some(&said.aliases).filter(|list| !list.is_empty()),
            &mut differing,
        )
        .cloned()
        .unwrap_or_default(),
        hosts: Vec::new(),
        on_fork_down: chosen("on-fork-down", &settings, |said| said.on_fork_down.as_ref(), &mut differing)
            .copied()
            .unwrap_or_default(),
        expires: None,
    };
    let ttl = chosen("ttl", &settings, |said| said.ttl.as_ref(), &mut differing).copied();
    let since = index.world.seen.get(&key).copied().unwrap_or(now);
    if !standing().any(|claim| claim.terms.keep) {
        terms.expires = ttl.and_then(|ttl| terms::end(since, ttl));
    }
    for (at, setting) in differing {
        if let Some(claim) = standing().nth(at) {
            let message =
                format!("an older fork of key `{key}` says something else for `{setting}`, and that counts");
            let about = claim.source.clone();
            notices.push(Notice {
                about,
                warning: true,
                reason: "DifferentSetting",
                message: message.into(),
            });
        }
    }
    group.terms = terms;
}

/// What the first one says; notes those that say something else.
fn chosen<'s, S, T: PartialEq + ?Sized>(
    name: &'static str,
    settings: &[&'s S],
    read: impl Fn(&'s S) -> Option<&'s T>,
    differing: &mut BTreeSet<(usize, &'static str)>,
) -> Option<&'s T> {
    let mut first = None;
    for (at, said) in settings.iter().enumerate() {
        let Some(value) = read(said) else { continue };
        match first {
            None => first = Some(value),
            Some(other) if other != value => {
                differing.insert((at, name));
            }
            Some(_) => {}
        }
    }
    first
}
