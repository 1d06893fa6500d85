//! One version of the table, what led to it, and its snapshot.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sidetrack_config::Key;
use sidetrack_config::stream::{Item, MAX_ITEM, MAX_LINE, Preview, TableHash, item_hash};
use tokio::sync::OnceCell;

use super::line;

/// How large a part of a snapshot grows before it is closed: the next item may be as large as an item gets, and the
/// line is still far from [`MAX_LINE`].
const PART: usize = 1 << 20;

/// One version of the table.
#[derive(Debug)]
pub struct Table {
    version: u64,
    items: BTreeMap<Box<str>, Arc<Stored>>,
    hash: TableHash,
    snapshot: OnceCell<Arc<[Bytes]>>,
}

/// An item, the text that it travels as, and since when.
#[derive(Debug)]
struct Stored {
    item: Item,
    json: Box<RawValue>,
    hash: u64,
    changed: u64,
}

/// What a proxy must have acknowledged for a preview, by the replica that says so. Versions differ between replicas;
/// `hash` does not: it is of the items themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// The version in which the preview or a service that it forks last changed; of a preview that is not in the table,
    /// the newest.
    pub version: u64,
    /// The hash of the preview and those services; `None`: it is not in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<TableHash>,
}

/// What an update amounts to.
pub(super) struct Change {
    /// The new table and the line that leads to it, unless that is too long; `None`: nothing changed.
    pub(super) table: Option<(Table, Option<Bytes>)>,
    /// Items that were too large.
    pub(super) left_out: Vec<Box<str>>,
}

/// [`sidetrack_config::stream::Message`], borrowed: items are not copied to be sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Outgoing<'a> {
    Snapshot(Part<'a>),
    Delta(Delta<'a>),
}

#[derive(Serialize)]
struct Part<'a> {
    version: u64,
    items: BTreeMap<&'a str, &'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<TableHash>,
}

#[derive(Serialize)]
struct Delta<'a> {
    from: u64,
    to: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    upsert: BTreeMap<&'a str, &'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remove: Vec<&'a str>,
    hash: TableHash,
}

impl Stored {
    /// `None`: it is too large for a line.
    fn new(id: &str, item: Item, changed: u64) -> Option<Self> {
        let json = to_raw_value(&item).ok().filter(|json| json.get().len() + id.len() <= MAX_ITEM)?;
        Some(Self { hash: item_hash(id, json.get()), item, json, changed })
    }
}

/// Compares `items` with the table before, and makes the next one of what is new and what stays.
pub(super) fn change(old: Option<&Table>, items: BTreeMap<Box<str>, Item>, version: u64) -> Change {
    let none = BTreeMap::new();
    let before = old.map_or(&none, |old| &old.items);
    let mut next = BTreeMap::new();
    let (mut upsert, mut left_out) = (Vec::new(), Vec::new());
    let mut hash = old.map(|old| old.hash).unwrap_or_default();
    for (id, item) in items {
        match before.get(&id) {
            Some(stored) if stored.item == item => {
                next.insert(id, Arc::clone(stored));
            }
            _ => match Stored::new(&id, item, version) {
                Some(stored) => {
                    hash.add_hash(stored.hash);
                    upsert.push(id.clone());
                    next.insert(id, Arc::new(stored));
                }
                None => left_out.push(id),
            },
        }
    }
    let mut remove = Vec::new();
    for (id, stored) in before {
        match next.get(id) {
            Some(kept) if Arc::ptr_eq(kept, stored) => continue,
            Some(_) => {}
            None => remove.push(&**id),
        }
        hash.take_hash(stored.hash);
    }
    if old.is_some() && upsert.is_empty() && remove.is_empty() {
        return Change { table: None, left_out };
    }
    let upsert = upsert.iter().filter_map(|id| Some((&**id, &*next.get(id)?.json))).collect();
    let from = old.map_or(0, |old| old.version);
    // Nobody can have been at the version before the first.
    let delta = old.map(|_| line(&Outgoing::Delta(Delta { from, to: version, upsert, remove, hash })));
    let delta = delta.filter(|delta| delta.len() <= MAX_LINE);
    let table = Table { version, items: next, hash, snapshot: OnceCell::new() };
    Change { table: Some((table, delta)), left_out }
}

impl Table {
    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The hash of all its items.
    pub fn hash(&self) -> TableHash {
        self.hash
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The text that an item travels as.
    #[cfg(test)]
    pub(super) fn text(&self, id: &str) -> Option<&str> {
        self.items.get(id).map(|stored| stored.json.get())
    }

    /// The preview of a key.
    pub fn preview(&self, key: &Key) -> Option<&Preview> {
        match self.items.get(format!("preview/{key}").as_str()).map(|stored| &stored.item) {
            Some(Item::Preview(preview)) => Some(preview),
            _ => None,
        }
    }

    /// All its previews.
    pub fn previews(&self) -> impl Iterator<Item = &Preview> {
        self.items.values().filter_map(|stored| match &stored.item {
            Item::Preview(preview) => Some(preview),
            _ => None,
        })
    }

    /// What a proxy must have acknowledged so that it has the preview of `key` as it is here, or has it no more.
    pub fn need(&self, key: &Key) -> Need {
        let Some(preview) = self.preview(key) else { return Need { version: self.version, hash: None } };
        let services = preview.forks.keys().map(|service| format!("service/{service}"));
        let mut need = Need { version: 0, hash: None };
        let mut hash = TableHash::default();
        for id in services.chain([format!("preview/{key}")]) {
            if let Some(stored) = self.items.get(id.as_str()) {
                hash.add_hash(stored.hash);
                need.version = need.version.max(stored.changed);
            }
        }
        need.hash = Some(hash);
        need
    }

    /// What a waypoint must have acknowledged of a port so that it has it as it is here, with the service behind it; by the
    /// port's [`Item::id`]. `None`: one of the two is not here.
    pub fn port(&self, id: &str) -> Option<Need> {
        let stored = self.items.get(id)?;
        let Item::Port(port) = &stored.item else { return None };
        let service = self.items.get(format!("service/{}", port.service).as_str())?;
        let mut hash = TableHash::default();
        hash.add_hash(stored.hash);
        hash.add_hash(service.hash);
        Some(Need { version: stored.changed.max(service.changed), hash: Some(hash) })
    }

    /// The same for all of its ports.
    pub fn ports(&self) -> BTreeMap<Box<str>, Need> {
        let ports = self.items.range::<str, _>((Bound::Included("port/"), Bound::Unbounded));
        let ids = ports.map(|(id, _)| id).take_while(|id| id.starts_with("port/"));
        ids.filter_map(|id| Some((id.clone(), self.port(id)?))).collect()
    }

    /// The whole table in lines. Made once, off the runtime's threads, and shared.
    pub(super) async fn snapshot(self: &Arc<Self>) -> Arc<[Bytes]> {
        let make = || async {
            let table = Arc::clone(self);
            // It fails only when the runtime ends, and with it the stream.
            tokio::task::spawn_blocking(move || table.parts().into()).await.unwrap_or_default()
        };
        Arc::clone(self.snapshot.get_or_init(make).await)
    }

    fn parts(&self) -> Vec<Bytes> {
        let mut lines = Vec::new();
        let mut part = Part { version: self.version, items: BTreeMap::new(), hash: None };
        let mut size = 0;
        for (id, stored) in &self.items {
            if size > PART {
                let full = Part { version: self.version, items: std::mem::take(&mut part.items), hash: None };
                lines.push(line(&Outgoing::Snapshot(full)));
                size = 0;
            }
            size += id.len() + stored.json.get().len();
            part.items.insert(id, &stored.json);
        }
        part.hash = Some(self.hash);
        lines.push(line(&Outgoing::Snapshot(part)));
        lines
    }
}
