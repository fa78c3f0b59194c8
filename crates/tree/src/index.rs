//! From full path to id.
//!
//! Owns a hash table that holds, per znode, 32 bits of its path's hash and its id; paths themselves are
//! stored nowhere. It is never iterated, so its seed shows in no result.
//!
//! Sharded, so that a table that grows stops the world for one shard only; and with shards of unequal
//! size, the largest twice the smallest, so that they grow one after the other: at any number of znodes
//! some tables are nearly full and others just doubled.

use crate::arena::{Arena, FORESEEN, NodeId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};

const SHARDS: usize = 256;
/// Values of the bits of a hash that choose the shard.
const SLOTS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    id: NodeId,
}

/// Ids of all znodes but the root.
#[derive(Debug)]
pub(crate) struct Index {
    hasher: FixedState,
    /// Shard by slot.
    shard_of: Box<[u8; SLOTS]>,
    shards: Vec<HashTable<Entry>>,
}

/// The table takes its bucket from the low bits and a filter from the top ones.
const fn spread(tag: u32) -> u64 {
    (tag as u64) << 32 | tag as u64
}

impl Index {
    pub(crate) fn new(seed: u64) -> Self {
        let shard_of = std::array::from_fn(|slot| {
            // Shard n gets a share that is proportional to 2^(n / SHARDS).
            let shard = (1.0 + slot as f64 / SLOTS as f64).log2() * SHARDS as f64;
            shard.min((SHARDS - 1) as f64) as u8
        });
        Self {
            hasher: FixedState::with_seed(seed),
            shard_of: Box::new(shard_of),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
        }
    }

    /// The znode with this path, which is not the root's, and this [hash](Self::hash).
    pub(crate) fn find(&self, arena: &Arena, path: &str, hash: u64) -> Option<NodeId> {
        let (shard, tag) = self.place_of(hash);
        self.shards[shard].find(spread(tag), |e| e.tag == tag && arena.is_at(e.id, path)).map(|e| e.id)
    }

    /// Touches what [`Self::find`] of these paths and a look at their znodes will need, in steps that do not wait for
    /// one another, so that the processor fetches for several paths at a time.
    pub(crate) fn foresee<'p>(&self, arena: &Arena, paths: impl IntoIterator<Item = &'p [u8]>) {
        let mut hashes = paths.into_iter().map(|path| self.hash_bytes(path));
        loop {
            let hashes: SmallVec<[u64; FORESEEN]> = hashes.by_ref().take(FORESEEN).collect();
            if hashes.is_empty() {
                return;
            }
            let find =
                |(shard, tag): (usize, u32)| self.shards[shard].find(spread(tag), |e| e.tag == tag).map(|e| e.id);
            let ids: SmallVec<[NodeId; FORESEEN]> =
                hashes.iter().filter_map(|hash| find(self.place_of(*hash))).collect();
            arena.look_at(ids);
        }
    }

    /// Adds a znode that the arena is about to get, unless there is one with this path; whether it was added.
    pub(crate) fn insert_new(&mut self, arena: &Arena, path: &str, id: NodeId) -> bool {
        let (shard, tag) = self.place(path);
        let same = |e: &Entry| e.tag == tag && arena.is_at(e.id, path);
        match self.shards[shard].entry(spread(tag), same, |e| spread(e.tag)) {
            hash_table::Entry::Occupied(_) => false,
            hash_table::Entry::Vacant(free) => {
                free.insert(Entry { tag, id });
                true
            }
        }
    }

    /// Removes a znode.
    pub(crate) fn remove(&mut self, path: &str, id: NodeId) {
        let (shard, tag) = self.place(path);
        let found = self.shards[shard].find_entry(spread(tag), |e| e.id == id);
        let Ok(found) = found else { panic!("a live znode is in the index") };
        found.remove();
    }

    /// Hash of a path, good for other tables too.
    pub(crate) fn hash(&self, path: &str) -> u64 {
        self.hash_bytes(path.as_bytes())
    }

    fn hash_bytes(&self, path: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path);
        hasher.finish()
    }

    fn place(&self, path: &str) -> (usize, u32) {
        self.place_of(self.hash(path))
    }

    fn place_of(&self, hash: u64) -> (usize, u32) {
        (usize::from(self.shard_of[(hash >> 52) as usize]), (hash & 0xffff_ffff) as u32)
    }
}

const _: () = assert!(SLOTS == 1 << 12 && SHARDS == 256);
