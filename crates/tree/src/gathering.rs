//! An image that comes together a few znodes at a time, while the tree changes.
//!
//! Owns what has been gathered, and what changes have replaced ahead of that. It never shares a chunk with the tree: to
//! copy a chunk at the first change in it costs a look at each of its blocks, and where any znode may change at once, all
//! those copies fall due in the same moment.

use crate::arena::{Block, Chunks, NodeId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Gathering {
    gathered: Chunks,
    /// The first id that is not gathered yet.
    next: u32,
    /// Ids from here on were not in use when it began.
    end: u32,
    /// What stood at ids from `next` on that have changed since.
    replaced: BTreeMap<NodeId, Option<Block>>,
}

impl Gathering {
    /// Of the znodes with ids below `end`, as they are now.
    pub(crate) fn new(end: u32) -> Self {
        Self { gathered: Chunks::default(), next: 0, end, replaced: BTreeMap::new() }
    }

    /// What stands at `id` is about to change.
    pub(crate) fn keep(&mut self, id: NodeId, chunks: &Chunks) {
        if (self.next..self.end).contains(&id.0) {
            self.replaced.entry(id).or_insert_with(|| chunks.get(id).cloned());
        }
    }

    /// Gathers as many more ids of `chunks`. Returns whether that was all.
    pub(crate) fn go_on(&mut self, chunks: &Chunks, ids: u32) -> bool {
        let to = self.end.min(self.next.saturating_add(ids));
        let later = self.replaced.split_off(&NodeId(to));
        let mut replaced = std::mem::replace(&mut self.replaced, later).into_iter().peekable();
        for id in (self.next..to).map(NodeId) {
            let block = match replaced.next_if(|(changed, _)| *changed == id) {
                Some((_, before)) if farrier_proto::planted!(GatheredAsItIsNow) => {
                    before.map(|before| chunks.get(id).cloned().unwrap_or(before))
                }
                Some((_, before)) => before,
                None => chunks.get(id).cloned(),
            };
            self.gathered.extend(id, block);
        }
        self.next = to;
        to == self.end
    }

    /// What was gathered.
    pub(crate) fn into_chunks(self) -> Chunks {
        assert!(self.next == self.end, "nothing is left to be gathered");
        self.gathered
    }
}
