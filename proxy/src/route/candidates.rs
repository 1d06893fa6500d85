//! Which previews have a key of this index: what a trace id says in the clear ([`crate::context::hidden`]). A list of a few
//! pointers for each of the 4,096 indices, shared between snapshots as the previews themselves are, so that a change copies
//! the sixteen lists of one shard. A gateway reads no trace ids and has none of it.

use std::sync::Arc;

use sidetrack_config::Key;

use super::sharded::Sharded;
use super::table::Preview;
use crate::context::hidden::index;

/// Index of the key -> previews.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates(Sharded<u16, Box<[Arc<Preview>]>>);

impl Candidates {
    /// Adds a preview in place of the one of the same key.
    pub(crate) fn insert(&mut self, preview: &Arc<Preview>) {
        let others = self.without(&preview.key);
        let list = others.chain([Arc::clone(preview)]).collect();
        self.0.insert(index(&preview.key), list);
    }

    /// Takes the preview of `key` out.
    pub(crate) fn remove(&mut self, key: &Key) {
        let list: Box<[_]> = self.without(key).collect();
        if list.is_empty() {
            self.0.remove(&index(key));
        } else {
            self.0.insert(index(key), list);
        }
    }

    fn without<'a>(&self, key: &'a Key) -> impl Iterator<Item = Arc<Preview>> + use<'a> {
        let before = self.0.get(&index(key)).cloned().unwrap_or_default();
        before.into_vec().into_iter().filter(|preview| preview.key != *key)
    }

    /// The keys that have this index.
    pub(crate) fn keys(&self, index: u16) -> impl Iterator<Item = &Key> {
        self.0.get(&index).into_iter().flatten().map(|preview| &preview.key)
    }
}
