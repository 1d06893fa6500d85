//! The terms of a preview: how long it lives, its parents, its other names, and what happens when a fork is down. A
//! `Preview` object says them in its spec, forks by label say them in annotations.

use jiff::Timestamp;
use sidetrack_config::Key;
use sidetrack_config::check::{host_name, ttl};
use sidetrack_config::key::MAX_KEYS;
use sidetrack_config::stream::OnForkDown;

use super::labels::is_kept;
use crate::names::{ALIASES, BRANCH, COMMIT, ON_FORK_DOWN, PARENTS, REPOSITORY, TTL};
use crate::preview::{self, PreviewSpec};
use crate::world::{ForkSettings, Labels, Meta};

/// The most aliases or hosts of one preview.
const MAX_NAMES: usize = 16;

/// What annotations of a fork say, and what of it can't be read, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ForkTerms {
    /// What they say.
    pub(super) settings: ForkSettings,
    /// Whether the TTL does not count.
    pub(super) keep: bool,
    /// What can't be read.
    pub(super) problems: Vec<String>,
}

/// The terms of one preview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Its parents, as written.
    pub(super) parents: Vec<Key>,
    /// Its aliases, as written: others may have them too.
    pub(super) aliases: Vec<Key>,
    /// Its hosts, as written: others may have them too.
    pub(super) hosts: Vec<Box<str>>,
    /// When a fork is down.
    pub(super) on_fork_down: OnForkDown,
    /// When it ends.
    pub(super) expires: Option<Timestamp>,
}

/// Reads the terms that annotations give, the first of `sources` that has one counts.
pub(super) fn of_fork(sources: &[&Labels], prefix: &str) -> ForkTerms {
    let find = |name: &str| sources.iter().find_map(|labels| labels.get(name)).map(|text| text.trim());
    let mut terms = ForkTerms { keep: sources.iter().any(|labels| is_kept(labels)), ..ForkTerms::default() };
    let ForkTerms { settings, problems, .. } = &mut terms;
    settings.ttl = find(TTL).and_then(|text| read(TTL, text, ttl(text), problems));
    settings.parents = keys(PARENTS, find(PARENTS), MAX_KEYS, prefix, problems);
    settings.aliases = keys(ALIASES, find(ALIASES), MAX_NAMES, prefix, problems);
    settings.on_fork_down = find(ON_FORK_DOWN).and_then(|text| {
        let known = match text {
            "fail" => Ok(OnForkDown::Fail),
            "baseline" => Ok(OnForkDown::Baseline),
            "hold" => Ok(OnForkDown::Hold),
            _ => Err("is none of `fail`, `baseline`, `hold`".to_owned()),
        };
        read(ON_FORK_DOWN, text, known, problems)
    });
    let text = |name: &str| find(name).filter(|text| !text.is_empty()).map(Box::from);
    settings.repository = text(REPOSITORY);
    settings.branch = text(BRANCH);
    settings.commit = text(COMMIT);
    terms
}

/// Reads the terms of a `Preview` object.
pub(super) fn of_preview(meta: &Meta, spec: &PreviewSpec, prefix: &str, problems: &mut Vec<String>) -> Terms {
    let keep = is_kept(&meta.labels) || is_kept(&meta.annotations);
    let life = spec.ttl.as_deref().and_then(|text| read("spec.ttl", text, ttl(text.trim()), problems));
    let hosts = spec.hosts.iter().take(MAX_NAMES);
    Terms {
        parents: list("spec.parents", spec.parents.iter().map(String::as_str), MAX_KEYS, prefix, problems),
        aliases: list("spec.aliases", spec.aliases.iter().map(String::as_str), MAX_NAMES, prefix, problems),
        hosts: hosts.filter_map(|text| read("spec.hosts", text, host_name(text), problems)).collect(),
        on_fork_down: match spec.on_fork_down {
            preview::OnForkDown::Fail => OnForkDown::Fail,
            preview::OnForkDown::Baseline => OnForkDown::Baseline,
            preview::OnForkDown::Hold => OnForkDown::Hold,
        },
        expires: life.filter(|_| !keep).and_then(|life| end(meta.created, life)),
    }
}

/// When what began at `from` ends; `None` where no clock counts so far.
pub(super) fn end(from: Timestamp, life: std::time::Duration) -> Option<Timestamp> {
    from.checked_add(life).ok()
}

fn keys(name: &str, text: Option<&str>, max: usize, prefix: &str, problems: &mut Vec<String>) -> Vec<Key> {
    let texts = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    list(name, texts.filter(|text| !text.is_empty()), max, prefix, problems)
}

fn list<'a>(
    name: &str,
    texts: impl Iterator<Item = &'a str>,
    max: usize,
    prefix: &str,
    problems: &mut Vec<String>,
) -> Vec<Key> {
    let mut keys = Vec::new();
    for text in texts {
        let key = Key::parse(text, prefix).map_err(|error| error.to_string());
        let Some(key) = read(name, text, key, problems) else { continue };
        if keys.len() == max {
            problems.push(format!("`{name}` names more than {max}: `{key}` and what follows are left out"));
            break;
        }
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn read<T>(name: &str, text: &str, result: Result<T, String>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|why| problems.push(format!("`{name}`: `{text}` {why}"))).ok()
}
