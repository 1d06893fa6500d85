//! A map that many snapshots share: a change copies one shard and the list of shards, never the whole, so that
//! one new preview costs the same with 10 previews and with 100,000.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};

const SHARDS: usize = 256;
/// Room that a shard may have beyond four times its entries.
const SPARE: usize = 16;

type Shard<K, V> = HashMap<K, V, RandomState>;

/// An immutable map, cheap to clone and to change by one entry.
#[derive(Debug)]
pub struct Sharded<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
}

impl<K, V> Clone for Sharded<K, V> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), len: self.len }
    }
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: std::iter::repeat_n(empty, SHARDS).collect(), len: 0 }
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    // Which shard is no secret, so a fixed seed will do; inside a shard the map's own seed is random.
    usize::try_from(FixedState::with_seed(0x51de).hash_one(key) >> 56).unwrap_or(0) % SHARDS
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
        self.shards.get(shard_of(key))?.get_key_value(key)
    }

    /// Sets the value of `key`, and says what it was; a key that equals one that is there does not replace that one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of::<K>(&key))?;
        let before = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes `key`, and says what was there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of(key))?;
        let shard = Arc::make_mut(shard);
        let before = shard.remove(key);
        // Else a map that was large once would keep its memory for ever, since a copy has the room of its original.
        if shard.capacity() > 4 * shard.len() + SPARE {
            shard.shrink_to(2 * shard.len());
        }
        self.len -= usize::from(before.is_some());
        before
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
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
    use super::*;
    use proptest::prelude::*;

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
