//! The previews: their forks, and the names that they go by.

use std::collections::{BTreeMap, HashMap};

use super::names::{Taken, labels_below};
use super::report::Report;
use super::{access, grammar, services};
use crate::document;
use crate::document::text::{HostName, Key as KeyText, Text};
use crate::key::{Key, MAX_KEYS};
use crate::model::{Carriers, Endpoint, OnForkDown, Preview, Service};
use crate::source_map::{At, shortened};

/// What a preview is checked against.
pub(super) struct Context<'a> {
    pub(super) services: &'a [Service],
    pub(super) carriers: &'a Carriers,
    pub(super) taken: &'a Taken,
}

impl Context<'_> {
    fn key(&self, text: &str) -> Result<Key, String> {
        Key::parse(text, self.carriers.prefix()).map_err(|error| error.to_string())
    }
}

/// The previews of the main file, by their canonical keys.
pub(super) fn previews(
    written: &BTreeMap<String, document::Preview>,
    context: &Context<'_>,
    domains: &[Box<str>],
    report: &mut Report<'_>,
) -> BTreeMap<Key, Preview> {
    let root = At::ROOT;
    let at = root.key("previews");
    let mut spelled: HashMap<Key, &str> = HashMap::with_capacity(written.len());
    let mut previews = BTreeMap::new();
    for (text, written) in written {
        let at = at.key(text);
        let key = match context.key(text) {
            Ok(key) => key,
            Err(why) => {
                report.problem_at_key(&at, format!("`{}` {why}", shortened(text)), KeyText::ALLOWED);
                continue;
            }
        };
        if let Some(other) = spelled.insert(key, text) {
            let message = format!("`{text}` and `{other}` are two spellings of the key `{key}`");
            report.problem_at_key(&at, message, "each key once");
            continue;
        }
        previews.insert(key, preview(key, written, &at, context, report));
    }
    let names = Names { written, spelled: &spelled, domains, context };
    names.check(&previews, report);
    previews
}

/// What is written in the file of a preview.
pub(super) const ALLOWED: &str =
    "a preview, such as `forks: {checkout: [127.0.0.1:9110]}`; `forks: {}` for one that forks nothing";

/// One preview, by itself.
pub(super) fn preview(
    key: Key,
    written: &document::Preview,
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Preview {
    Preview {
        forks: forks(written, &at.key("forks"), context, report),
        parents: parents(key, &written.parents, &at.key("parents"), context, report),
        aliases: aliases(key, &written.aliases, &at.key("aliases"), context, report),
        hosts: hosts(&written.hosts, &at.key("hosts"), context, report),
        ttl: written.ttl.as_ref().and_then(|text| report.read(&at.key("ttl"), text, grammar::ttl)),
        on_fork_down: match written.on_fork_down {
            None | Some(document::OnForkDown::Fail) => OnForkDown::Fail,
            Some(document::OnForkDown::Baseline) => OnForkDown::Baseline,
            Some(document::OnForkDown::Hold) => OnForkDown::Hold,
        },
        access: access::access(written.access.as_ref(), &at.key("access"), context.carriers, report),
    }
}

fn forks(
    written: &document::Preview,
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<usize, Vec<Endpoint>> {
    let mut forks = BTreeMap::new();
    for (name, written) in &written.forks {
        let at = at.key(name);
        let endpoints = services::endpoints(written, &at, report);
        match services::find(context.services, name) {
            Ok(service) => {
                forks.insert(service, endpoints);
            }
            Err(_) if report.is_troubled(&At::ROOT, "services") => {}
            Err((message, allowed)) => report.problem_at_key(&at, message, allowed),
        }
    }
    forks
}

fn parents(
    key: Key,
    written: &[KeyText],
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Vec<Key> {
    if written.len() > MAX_KEYS {
        report.problem(at, format!("names {} parents", written.len()), format!("at most {MAX_KEYS}"));
    }
    let mut parents = Vec::new();
    for (index, text) in written.iter().enumerate().take(MAX_KEYS) {
        let parent = report.read(&at.index(index), text, |text| match context.key(text)? {
            own if own == key => Err("is the preview itself".to_owned()),
            twice if parents.contains(&twice) => Err("is named twice".to_owned()),
            parent => Ok(parent),
        });
        parents.extend(parent);
    }
    parents
}

fn aliases(
    key: Key,
    written: &[KeyText],
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Vec<Key> {
    report.read_all(at, written, |text| {
        let alias = context.key(text)?;
        if alias == key {
            return Err("is the key of this preview already".into());
        }
        context.taken.alias(alias.as_str())?;
        Ok(alias)
    })
}

fn hosts(written: &[HostName], at: &At<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Vec<Box<str>> {
    if context.carriers.host_prefix.is_none() && !written.is_empty() {
        let message = "no host names a preview while `carriers.hostPrefix` is false, these neither";
        report.warning(at, message, "no hosts, or a `carriers.hostPrefix` such as `pr-`");
    }
    report.read_all(at, written, |text| {
        let host = grammar::host_name(text)?;
        context.taken.host(&host)?;
        Ok(host)
    })
}

/// What the previews of one file say about each other.
struct Names<'a> {
    written: &'a BTreeMap<String, document::Preview>,
    /// Each key as it was written.
    spelled: &'a HashMap<Key, &'a str>,
    domains: &'a [Box<str>],
    context: &'a Context<'a>,
}

impl Names<'_> {
    fn check(&self, previews: &BTreeMap<Key, Preview>, report: &mut Report<'_>) {
        let mut aliases: HashMap<&str, Key> = HashMap::new();
        let mut hosts: HashMap<&str, Key> = HashMap::new();
        for (key, preview) in previews {
            for alias in &preview.aliases {
                if previews.contains_key(alias) {
                    self.refuse_alias(
                        *key,
                        *alias,
                        format!("`{alias}` is the key of another preview"),
                        report,
                    );
                } else if let Some(other) = aliases.insert(alias.as_str(), *key) {
                    self.refuse_alias(*key, *alias, taken(alias.as_str(), "an alias", other, *key), report);
                }
            }
            for host in &preview.hosts {
                if let Some(other) = hosts.insert(host, *key) {
                    self.refuse_host(*key, host, taken(host, "a host", other, *key), report);
                }
            }
            self.warn_of_parents(*key, preview, previews, report);
        }
        // `demo.D` is the host of the preview with the alias `demo`, so no other preview can have it.
        for (key, preview) in previews.iter().filter(|(_, preview)| !preview.hosts.is_empty()) {
            for host in &preview.hosts {
                let owner =
                    |label| aliases.get(label).filter(|other| *other != key).map(|other| (label, other));
                if let Some((label, other)) = labels_below(host, self.domains).find_map(owner) {
                    let why = format!("`{host}` has the label `{label}`, an alias of preview `{other}`");
                    self.refuse_host(*key, host, why, report);
                }
            }
        }
    }

    fn warn_of_parents(
        &self,
        key: Key,
        preview: &Preview,
        previews: &BTreeMap<Key, Preview>,
        report: &mut Report<'_>,
    ) {
        for (index, parent) in preview.parents.iter().enumerate() {
            if !previews.contains_key(parent) {
                let message = format!("there is no preview `{parent}` in this file");
                let allowed = "the key of a preview here or in `previewsDir`; an unknown parent is skipped";
                self.at(key, "parents", Some(index), |at| report.warning(at, message, allowed));
            }
        }
    }

    fn refuse_alias(&self, key: Key, alias: Key, why: String, report: &mut Report<'_>) {
        let spelled = self.spelled.get(&key).and_then(|spelled| self.written.get(*spelled));
        let same = |text: &KeyText| self.context.key(text.text()) == Ok(alias);
        let index = spelled.and_then(|written| written.aliases.iter().rposition(same));
        self.at(key, "aliases", index, |at| report.problem(at, why, OWN_NAME));
    }

    fn refuse_host(&self, key: Key, host: &str, why: String, report: &mut Report<'_>) {
        let spelled = self.spelled.get(&key).and_then(|spelled| self.written.get(*spelled));
        let same = |text: &HostName| grammar::host_name(text.text()).is_ok_and(|other| *other == *host);
        let index = spelled.and_then(|written| written.hosts.iter().rposition(same));
        self.at(key, "hosts", index, |at| report.problem(at, why, OWN_NAME));
    }

    fn at(&self, key: Key, list: &str, index: Option<usize>, then: impl FnOnce(&At<'_>)) {
        let root = At::ROOT;
        let previews = root.key("previews");
        let preview = previews.key(self.spelled.get(&key).copied().unwrap_or_default());
        then(&preview.key(list).index(index.unwrap_or_default()));
    }
}

const OWN_NAME: &str = "a name of its own for each preview";

fn taken(name: &str, what: &str, other: Key, key: Key) -> String {
    match other == key {
        true => format!("`{name}` is named twice"),
        false => format!("`{name}` is {what} of preview `{other}` already"),
    }
}
