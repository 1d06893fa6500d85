//! A map that many snapshots share: a change copies one shard and the list of shards, never the whole, so that
//! one new preview costs the same with 10 previews and with 100,000.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

const SHARDS: usize = 256;
/// Room that a shard may have beyond four times its entries.
const SPARE: usize = 16;

type Shard<K, V> = HashTable<(K, V)>;

/// An immutable map, cheap to clone and to change by one entry. One hash says the shard and the place in it.
#[derive(Debug)]
pub struct Sharded<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
    /// Random, since keys come from clients; the same in all clones.
    state: RandomState,
}

impl<K, V> Clone for Sharded<K, V> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), len: self.len, state: self.state.clone() }
    }
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: std::iter::repeat_n(empty, SHARDS).collect(), len: 0, state: RandomState::default() }
    }
}

/// Bits that a shard does not use: it finds a place by the lowest ones, and tells entries apart by the highest.
fn shard_of(hash: u64) -> usize {
    usize::try_from(hash >> 40).unwrap_or(0) % SHARDS
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    /// The value of `key`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key that equals `key`, and its value.
    pub fn entry<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        if self.len == 0 {
            return None;
        }
        let hash = self.state.hash_one(key);
        let shard = self.shards.get(shard_of(hash))?;
        shard.find(hash, |(known, _)| known.borrow() == key).map(|(known, value)| (known, value))
    }

    /// Sets the value of `key`, and says what it was; a key that equals one that is there does not replace that one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Self { shards, len, state } = self;
        let hash = state.hash_one(&key);
        let shard = Arc::make_mut(Arc::make_mut(shards).get_mut(shard_of(hash))?);
        if let Some((_, there)) = shard.find_mut(hash, |(known, _)| *known == key) {
            return Some(std::mem::replace(there, value));
        }
        shard.insert_unique(hash, (key, value), |(known, _)| state.hash_one(known));
        *len += 1;
        None
    }

    /// Removes `key`, and says what was there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let Self { shards, len, state } = self;
        let hash = state.hash_one(key);
        let is_it = |(known, _): &(K, V)| known.borrow() == key;
        // What is not there copies no shard.
        shards.get(shard_of(hash))?.find(hash, is_it)?;
        let shard = Arc::make_mut(Arc::make_mut(shards).get_mut(shard_of(hash))?);
        let ((_, before), _) = shard.find_entry(hash, is_it).ok()?.remove();
        // Else a map that was large once would keep its memory for ever, since a copy has the room of its original.
        if shard.capacity() > 4 * shard.len() + SPARE {
            shard.shrink_to(2 * shard.len(), |(known, _)| state.hash_one(known));
        }
        *len -= 1;
        Some(before)
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_and_snapshots_do_not_change(steps in prop::collection::vec((0u16..300, any::<Option<u8>>()), 0..200)) {
            let mut real: HashMap<u16, u8> = HashMap::new();
            let mut map = Sharded::default();
            for (key, value) in steps {
                let snapshot = map.clone();
                let seen = real.clone();
                match value {
                    Some(value) => prop_assert_eq!(map.insert(key, value), real.insert(key, value)),
                    None => prop_assert_eq!(map.remove(&key), real.remove(&key)),
                }
                prop_assert_eq!(map.len(), real.len());
                prop_assert_eq!(snapshot.get(&key), seen.get(&key));
                prop_assert_eq!(map.get(&key), real.get(&key));
            }
            let all: HashMap<u16, u8> = map.iter().map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(all, real);
        }
    }
}
