//! What is known of previews, over all replicas: who asks for forks, what came of it, and which proxies have it in force.
//!
//! A replica knows its own proxies. Versions of two replicas say nothing about each other, so each judges by its own,
//! and says of which items: a replica whose table is not the same yet has acknowledged nothing. One that can't be asked
//! makes a preview "not ready", and says so.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sidetrack_config::Key;
use sidetrack_config::stream::TableHash;

use super::peers::Peers;
use crate::plan::ForkState;
use crate::plan::waypoints::Gate;
use crate::preview::Phase;
use crate::publish::acks::Node;
use crate::publish::{About, Need, Publisher, Table};
use judge::judge;

/// Answers questions about previews.
#[derive(Debug)]
pub struct Previews {
    publisher: Arc<Publisher>,
    peers: Option<Peers>,
}

/// One preview, for people and for CI.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Its key.
    pub key: Key,
    /// Whether anybody asks for it, or a table has it.
    #[serde(skip)]
    pub known: bool,
    /// The first of `urls`.
    pub url: Option<String>,
    /// Links for a browser.
    pub urls: Vec<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Where it stands; `None`: it is unknown.
    pub phase: Option<Phase>,
    /// Keys whose forks serve where it has none.
    pub parents: Vec<Key>,
    /// Other names.
    pub aliases: Vec<Key>,
    /// Host names of its own.
    pub hosts: Vec<Box<str>>,
    /// Its forks.
    pub forks: Vec<ForkView>,
    /// The version of this replica's table.
    pub generation: u64,
    /// The hash of its items and its services' in the table; `None`: it is not in it.
    pub hash: Option<TableHash>,
    /// Who has it in force.
    pub proxies: Proxies,
    /// Every fork is routed, and every proxy has acknowledged that.
    pub ready: bool,
    /// It is not in the table, and every proxy has acknowledged that.
    pub deleted: bool,
    /// What is missing for `ready`, for a person.
    pub reasons: Vec<String>,
}

/// One fork of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkView {
    /// The Service that it forks, `NAMESPACE/NAME`.
    pub service: String,
    /// What came of it.
    pub state: &'static str,
    /// For a person.
    pub message: Box<str>,
    /// How many endpoints are ready.
    pub endpoints: usize,
}

/// Which proxies have a preview in force, over all replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxies {
    /// How many have a stream open.
    pub connected: usize,
    /// How many have acknowledged it.
    pub acknowledged: usize,
    /// Those that have not, yet.
    pub waiting: Vec<Box<str>>,
    /// Those that refused it.
    pub rejected: Vec<Refusal>,
    /// Waypoints of the Services that it forks that have not acknowledged it, yet: `NAMESPACE/POD`.
    pub waypoints: Vec<Box<str>>,
    /// Whether a replica has just started, so that there may be more of them.
    pub settling: bool,
    /// Replicas that did not answer.
    pub unreachable: Vec<Unreachable>,
}

/// A proxy that refused a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its name.
    pub node: Box<str>,
    /// Why, in its words.
    pub error: Box<str>,
}

/// A replica that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// Its address, or the name that gives no address.
    pub replica: String,
    /// Why.
    pub error: String,
}

/// What one replica says of itself: the answer to `?local=1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// Which process it is.
    pub epoch: Box<str>,
    /// The version of its table.
    pub generation: u64,
    /// Its proxies.
    pub nodes: Vec<Node>,
    /// Whether others may still be on their way to it: it has just started.
    #[serde(default)]
    pub settling: bool,
    /// What those must have acknowledged, for each preview in its table that was asked about.
    pub needs: BTreeMap<Key, Need>,
    /// What they must have acknowledged for each port of waypoints, by [`sidetrack_config::stream::Item::id`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Box<str>, Need>,
    /// The same of the waypoints of each namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waypoints: BTreeMap<Box<str>, Local>,
}

/// All previews.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct All {
    /// The version of this replica's table.
    pub generation: u64,
    /// One for each key.
    pub previews: Vec<View>,
}

/// Previews that all proxies have in force.
pub(crate) struct Acknowledged {
    /// The version of this replica's table.
    pub(crate) generation: u64,
    /// Of what they have, by key.
    pub(crate) hashes: BTreeMap<Key, TableHash>,
}

impl Previews {
    pub(super) fn new(publisher: Arc<Publisher>, peers: Option<Peers>) -> Self {
        Self { publisher, peers }
    }

    /// What this replica knows by itself, of one key or of all. `None` before its first table.
    pub fn local(&self, key: Option<&Key>) -> Option<Local> {
        self.publisher.table().map(|table| self.local_of(&table, key))
    }

    /// One preview, after asking the other replicas. `None` before the first table.
    pub async fn one(&self, key: &Key) -> Option<View> {
        let others = self.others(Some(key)).await;
        let (table, about) = self.publisher.current()?;
        let own = self.local_of(&table, Some(key));
        let mut view = view(key, &table, &about, &own, &others);
        if self.publisher.is_cut_off() {
            (view.ready, view.deleted) = (false, false);
            view.reasons.push(
                "this controller replica hears nothing from the API server: what it knows may be old"
                    .to_owned(),
            );
        }
        Some(view)
    }

    /// All previews, after asking the other replicas once. `None` before the first table.
    pub async fn all(&self) -> Option<All> {
        let others = self.others(None).await;
        let (table, about) = self.publisher.current()?;
        let own = self.local_of(&table, None);
        let keys: BTreeSet<&Key> = about.keys().into_iter().chain(table.previews().map(|p| &p.key)).collect();
        let previews = keys.into_iter().map(|key| view(key, &table, &about, &own, &others)).collect();
        Some(All { generation: table.version(), previews })
    }

    /// Which of these previews all proxies have in force, after asking the other replicas once. `None` before the first
    /// table.
    pub(crate) async fn acknowledged(&self, keys: &BTreeSet<Key>) -> Option<Acknowledged> {
        let others = self.others(None).await;
        let (table, about) = self.publisher.current()?;
        let own = self.local_of(&table, None);
        let hashes = keys.iter().filter_map(|key| {
            let hash = own.needs.get(key)?.hash?;
            let judged = everywhere(key, &own, &others, &about);
            judged.all_acknowledged().then_some((*key, hash))
        });
        Some(Acknowledged { generation: table.version(), hashes: hashes.collect() })
    }

    /// Which of these gates are open: every waypoint that they name has the ports in force as they are here. Asks the other
    /// replicas once.
    pub(crate) async fn open(&self, gates: &[(Box<str>, Gate)]) -> Vec<bool> {
        let others = self.others(None).await;
        let own = |namespace: &str| {
            let view = self.publisher.view(namespace)?;
            let table = view.table()?;
            Some(Local { ports: table.ports(), ..Local::of(&view, &table) })
        };
        let is_open = |(namespace, gate): &(Box<str>, Gate)| {
            let Some(own) = own(namespace) else { return false };
            let others = in_namespace(namespace, &others);
            gate.ports.iter().all(|port| {
                let late = judge::late(&own, &others, &gate.pods, |local| local.ports.get(port));
                late.is_some_and(|late| late.is_empty())
            })
        };
        gates.iter().map(is_open).collect()
    }

    fn local_of(&self, table: &Table, key: Option<&Key>) -> Local {
        let keys: Vec<&Key> = match key {
            Some(key) => vec![key],
            None => table.previews().map(|preview| &preview.key).collect(),
        };
        Local {
            epoch: self.publisher.epoch().into(),
            needs: keys.into_iter().map(|key| (*key, table.need(key))).collect(),
            waypoints: self.waypoints(key),
            ..Local::of(&self.publisher, table)
        }
    }

    /// What this replica knows of waypoints, by namespace: of one preview or of all that have a fork there.
    fn waypoints(&self, key: Option<&Key>) -> BTreeMap<Box<str>, Local> {
        let local = |(namespace, view): (Box<str>, Arc<Publisher>)| {
            let table = view.table()?;
            let previews = table.previews().filter(|preview| !preview.forks.is_empty());
            let meant =
                previews.map(|preview| &preview.key).filter(|other| key.is_none_or(|key| key == *other));
            let needs = meant.map(|key| (*key, table.need(key))).collect();
            Some((namespace, Local { needs, ports: table.ports(), ..Local::of(&view, &table) }))
        };
        self.publisher.views().into_iter().filter_map(local).collect()
    }

    async fn others(&self, key: Option<&Key>) -> Vec<Result<Local, Unreachable>> {
        match &self.peers {
            Some(peers) => peers.ask(key).await,
            None => Vec::new(),
        }
    }
}

impl Local {
    fn of(publisher: &Publisher, table: &Table) -> Self {
        Self {
            epoch: publisher.epoch().into(),
            generation: table.version(),
            nodes: publisher.acks().nodes(Instant::now()),
            settling: publisher.acks().is_settling(Instant::now()),
            needs: BTreeMap::new(),
            ports: BTreeMap::new(),
            waypoints: BTreeMap::new(),
        }
    }
}

/// What replicas say of the waypoints of a namespace; those that do not answer are told of elsewhere.
fn in_namespace<'o>(namespace: &str, others: &'o [Result<Local, Unreachable>]) -> Vec<&'o Local> {
    others.iter().filter_map(|other| other.as_ref().ok()?.waypoints.get(namespace)).collect()
}

/// Who has a preview in force: gateways, and the waypoints of the Services that it forks.
fn everywhere(key: &Key, own: &Local, others: &[Result<Local, Unreachable>], about: &About) -> Proxies {
    let mut proxies = judge(key, own, others);
    for (namespace, here) in own.waypoints.iter().filter(|(_, here)| here.needs.contains_key(key)) {
        let pods = about.waypoints.get(namespace).map_or(&[][..], Vec::as_slice);
        let others = in_namespace(namespace, others);
        let late = judge::late(here, &others, pods, |local| local.needs.get(key));
        let late = late.unwrap_or_default().into_iter();
        proxies.waypoints.extend(late.map(|pod| Box::from(format!("{namespace}/{pod}"))));
    }
    proxies
}

fn view(key: &Key, table: &Table, about: &About, own: &Local, others: &[Result<Local, Unreachable>]) -> View {
    let proxies = everywhere(key, own, others, about);
    let hash = own.needs.get(key).and_then(|need| need.hash);
    let forks: Vec<ForkView> = about
        .forks_of(key)
        .map(|fork| ForkView {
            service: fork.service.to_string(),
            state: fork.state.as_str(),
            message: fork.message.clone(),
            endpoints: fork.endpoints,
        })
        .collect();
    let known = hash.is_some() || !forks.is_empty() || about.statuses.contains_key(key);
    let phase = known.then(|| about.phase(key));
    let mut reasons = Vec::new();
    if hash.is_none() {
        reasons.push(if known { "the table does not hold it" } else { "nothing asks for it" }.to_owned());
    }
    if phase == Some(Phase::Pending) && forks.is_empty() {
        reasons.push("no fork of it is there yet".to_owned());
    }
    let waiting = forks.iter().filter(|fork| fork.state != ForkState::Routed.as_str());
    reasons.extend(waiting.map(|fork| format!("fork of {}: {}: {}", fork.service, fork.state, fork.message)));
    if let Some(phase) = phase.filter(|phase| *phase != Phase::Ready && reasons.is_empty()) {
        reasons.push(format!("it is {phase:?}"));
    }
    reasons.extend(proxies.reasons());
    let urls = if known { about.urls(key) } else { Vec::new() };
    let routed = table.preview(key);
    let expires = about.expires(key).or_else(|| routed?.expires);
    View {
        key: *key,
        known,
        url: urls.first().cloned(),
        urls,
        expires,
        phase,
        parents: routed.map(|preview| preview.parents.clone()).unwrap_or_default(),
        aliases: routed.map(|preview| preview.aliases.clone()).unwrap_or_default(),
        hosts: routed.map(|preview| preview.hosts.clone()).unwrap_or_default(),
        forks,
        generation: table.version(),
        hash,
        ready: reasons.is_empty(),
        deleted: hash.is_none() && proxies.all_acknowledged(),
        proxies,
        reasons,
    }
}
