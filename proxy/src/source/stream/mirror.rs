//! What the controller has said: version, hash, and what of it is not in force yet. Knows no socket, no disk and no
//! table, so that the lines of a connection and those of the journal are read by the same code.

use std::collections::{BTreeMap, HashMap, HashSet};

use sidetrack_config::stream::{
    Delta, Hello, Item, MAX_ITEM, Message, PROTOCOL, RawItems, Snapshot, TableHash, item_hash,
};

/// The most items of a table: ten times what the largest estate that we measure has.
const MAX_ITEMS: usize = 2_000_000;
/// The most bytes of items that a snapshot may have.
const MAX_BYTES: usize = 1 << 30;

/// What became of an item since the table in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, and says this.
    Set(Item),
    /// It is there and can't be understood, for this reason.
    Bad(String),
    /// It is gone.
    Removed,
}

/// Changes, by the name of the item.
pub type Changes = BTreeMap<Box<str>, Change>;

/// Where in the life of a controller a table stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The life.
    pub epoch: Box<str>,
    /// The version in it.
    pub version: u64,
}

/// What one line was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The greeting.
    Hello,
    /// A sign of life.
    Ping,
    /// The first part of a snapshot, with more to come.
    Begun,
    /// A further part of a snapshot, with more to come.
    Part,
    /// A snapshot is complete; `true`: by one part, which is the first too.
    Whole(bool),
    /// A change.
    Changed,
}

/// Why the stream can't be followed from here: a snapshot is needed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(String);

/// The state of the stream.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Of the connection.
    epoch: Option<Box<str>>,
    position: Option<Position>,
    hashes: HashMap<Box<str>, u64>,
    hash: TableHash,
    partial: Option<Partial>,
    pending: Changes,
}

/// A snapshot that has not come whole.
#[derive(Debug)]
struct Partial {
    version: u64,
    hashes: HashMap<Box<str>, u64>,
    hash: TableHash,
    bytes: usize,
    changes: Changes,
}

impl Mirror {
    /// Where it stands; `None`: a snapshot is needed.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The changes between the table in force and what was heard.
    pub const fn pending(&self) -> &Changes {
        &self.pending
    }

    /// Says that they are in force.
    pub fn settled(&mut self) {
        self.pending.clear();
    }

    /// A connection has ended: half a snapshot is none.
    pub fn disconnected(&mut self) {
        self.epoch = None;
        self.partial = None;
    }

    /// Asks for a snapshot next; what is in force stays so.
    pub fn lose_position(&mut self) {
        self.disconnected();
        self.position = None;
    }

    /// Reads one line.
    ///
    /// # Errors
    /// Why it can't be followed; nothing has changed then but that.
    pub fn line(&mut self, line: &[u8]) -> Result<Heard, Lost> {
        let message = serde_json::from_slice(line).map_err(|error| {
            Lost(format!("a line of {} bytes is no message of this protocol: {error}", line.len()))
        })?;
        match message {
            Message::Hello(hello) => self.hello(hello),
            Message::Ping(_) => Ok(Heard::Ping),
            Message::Snapshot(part) => self.part(part),
            Message::Delta(delta) => self.delta(delta),
        }
    }

    fn hello(&mut self, hello: Hello) -> Result<Heard, Lost> {
        if hello.protocol != PROTOCOL {
            return Err(Lost(format!(
                "it speaks protocol {} and this proxy {PROTOCOL}; run the same version of both",
                hello.protocol
            )));
        }
        if self.position.as_ref().is_some_and(|position| position.epoch != hello.epoch) {
            self.position = None;
        }
        self.partial = None;
        self.epoch = Some(hello.epoch);
        Ok(Heard::Hello)
    }

    fn part(&mut self, part: Snapshot) -> Result<Heard, Lost> {
        let epoch = self.epoch.clone().ok_or_else(|| Lost("a snapshot came before hello".to_owned()))?;
        let is_first = self.partial.is_none();
        let mut partial = self.partial.take().unwrap_or_else(|| Partial {
            version: part.version,
            hashes: HashMap::new(),
            hash: TableHash::default(),
            bytes: 0,
            changes: Changes::new(),
        });
        if partial.version != part.version {
            return Err(Lost(format!(
                "a part of version {} came amid version {}",
                part.version, partial.version
            )));
        }
        partial.add(part.items, &self.hashes)?;
        let Some(hash) = part.hash else {
            self.partial = Some(partial);
            return Ok(if is_first { Heard::Begun } else { Heard::Part });
        };
        if hash != partial.hash {
            return Err(Lost(format!(
                "the snapshot of version {} has the hash {}, not {hash}",
                part.version, partial.hash
            )));
        }
        for id in self.hashes.keys().filter(|id| !partial.hashes.contains_key(*id)) {
            partial.changes.insert(id.clone(), Change::Removed);
        }
        self.hashes = partial.hashes;
        self.hash = hash;
        self.pending.append(&mut partial.changes);
        self.position = Some(Position { epoch, version: part.version });
        Ok(Heard::Whole(is_first))
    }

    fn delta(&mut self, delta: Delta) -> Result<Heard, Lost> {
        let Some(position) = self.position.as_mut().filter(|_| self.partial.is_none()) else {
            return Err(Lost("a change came, and no table that it changes".to_owned()));
        };
        if self.epoch.as_ref() != Some(&position.epoch) || delta.from != position.version {
            let (from, version) = (delta.from, position.version);
            return Err(Lost(format!(
                "a change of version {from} came, and this proxy has version {version}"
            )));
        }
        let mut hash = self.hash;
        let mut removed = HashSet::new();
        for id in &delta.remove {
            if delta.upsert.contains_key(id) || !removed.insert(id) {
                return Err(Lost(format!("a change names {id} twice")));
            }
            if let Some(before) = self.hashes.get(id) {
                hash.take_hash(*before);
            }
        }
        let fresh: Vec<(Box<str>, u64, Change)> = changed(delta.upsert, &self.hashes)?;
        for (id, now, _) in &fresh {
            if let Some(before) = self.hashes.get(id) {
                hash.take_hash(*before);
            }
            hash.add_hash(*now);
        }
        if hash != delta.hash {
            return Err(Lost(format!("version {} has the hash {hash}, not {}", delta.to, delta.hash)));
        }
        self.hash = hash;
        position.version = delta.to;
        for id in delta.remove {
            if self.hashes.remove(&id).is_some() {
                self.pending.insert(id, Change::Removed);
            }
        }
        for (id, now, change) in fresh {
            self.hashes.insert(id.clone(), now);
            self.pending.insert(id, change);
        }
        match self.hashes.len() > MAX_ITEMS {
            true => Err(too_many()),
            false => Ok(Heard::Changed),
        }
    }
}

impl Partial {
    fn add(&mut self, items: RawItems, known: &HashMap<Box<str>, u64>) -> Result<(), Lost> {
        for (id, raw) in &items {
            let hash = item_hash(id, raw.get());
            self.bytes += id.len() + raw.get().len();
            self.hash.add_hash(hash);
            if self.hashes.insert(id.clone(), hash).is_some() {
                return Err(Lost(format!("a snapshot names {id} twice")));
            }
        }
        if self.hashes.len() > MAX_ITEMS {
            return Err(too_many());
        }
        if self.bytes > MAX_BYTES {
            return Err(Lost(format!("a snapshot is over {} MiB", MAX_BYTES >> 20)));
        }
        self.changes.extend(changed(items, known)?.into_iter().map(|(id, _, change)| (id, change)));
        Ok(())
    }
}

fn too_many() -> Lost {
    Lost(format!("the table has over {MAX_ITEMS} items"))
}

/// The items that are other ones than those known, each with its hash.
fn changed(items: RawItems, known: &HashMap<Box<str>, u64>) -> Result<Vec<(Box<str>, u64, Change)>, Lost> {
    let mut fresh = Vec::new();
    for (id, raw) in items {
        let text = raw.get();
        if text.len() > MAX_ITEM {
            return Err(Lost(format!("{id} has {} bytes, more than {MAX_ITEM}", text.len())));
        }
        let hash = item_hash(&id, text);
        if known.get(&id) != Some(&hash) {
            let change = read(&id, text);
            fresh.push((id, hash, change));
        }
    }
    Ok(fresh)
}

fn read(id: &str, text: &str) -> Change {
    match serde_json::from_str::<Item>(text) {
        Ok(item) if item.id() == id => Change::Set(item),
        Ok(item) => Change::Bad(format!("it is {}", item.id())),
        // The message of an error may quote a value, and those of a certificate hold a key.
        Err(_) if id.starts_with("certificate/") => Change::Bad("it is no certificate".to_owned()),
        Err(error) => Change::Bad(format!("it can't be understood: {error}")),
    }
}

#[cfg(test)]
mod tests;
