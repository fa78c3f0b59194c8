//! From full path to id.
//!
//! Owns a hash table that holds, per znode, 32 bits of its path's hash and its id; paths themselves are
//! stored nowhere. It is never iterated, so its seed shows in no result. Sharded: a table that grows
//! stops the world for one shard only.

use crate::arena::{Arena, NodeId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

const SHARDS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    id: NodeId,
}

/// Ids of all znodes but the root.
#[derive(Debug)]
pub(crate) struct Index {
    hasher: FixedState,
    shards: Vec<HashTable<Entry>>,
}

/// The table takes its bucket from the low bits and a filter from the top ones.
const fn spread(tag: u32) -> u64 {
    (tag as u64) << 32 | tag as u64
}

impl Index {
    pub(crate) fn new(seed: u64) -> Self {
        Self { hasher: FixedState::with_seed(seed), shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }

    /// The znode with this path, which is not the root's.
    pub(crate) fn find(&self, arena: &Arena, path: &str) -> Option<NodeId> {
        let (shard, tag) = self.place(path);
        self.shards[shard].find(spread(tag), |e| e.tag == tag && is_at(arena, e.id, path)).map(|e| e.id)
    }

    /// Adds a znode whose path no other has.
    pub(crate) fn insert(&mut self, path: &str, id: NodeId) {
        let (shard, tag) = self.place(path);
        self.shards[shard].insert_unique(spread(tag), Entry { tag, id }, |e| spread(e.tag));
    }

    /// Removes a znode.
    pub(crate) fn remove(&mut self, path: &str, id: NodeId) {
        let (shard, tag) = self.place(path);
        let found = self.shards[shard].find_entry(spread(tag), |e| e.id == id);
        let Ok(found) = found else { panic!("a live znode is in the index") };
        found.remove();
    }

    fn place(&self, path: &str) -> (usize, u32) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        let hash = hasher.finish();
        ((hash >> 56) as usize, (hash & 0xffff_ffff) as u32)
    }
}

/// Whether `id` stands at `path`: its name and those of its ancestors, from the end.
fn is_at(arena: &Arena, id: NodeId, path: &str) -> bool {
    let mut rest = path.as_bytes();
    let mut at = id;
    while at != NodeId::ROOT {
        let block = arena.get(at);
        let Some(before) = rest.strip_suffix(block.name_bytes()) else { return false };
        let Some(before) = before.strip_suffix(b"/") else { return false };
        rest = before;
        at = block.parent();
    }
    rest.is_empty()
}
