//! A point-in-time copy of the state, to be written as a snapshot while transactions go on.
//!
//! Owns shared references to everything that a snapshot stores, so it may move to another thread. It is made in
//! microseconds, and the tree then copies what it changes; or a little at a time, so that no change costs more than itself
//! (`gathering.rs`). Dropping the last image frees what the tree has replaced meanwhile: let the thread that wrote the
//! snapshot do it.

use crate::acl_table::{Lists, SharedAcl};
use crate::arena::{Chunks, NodeId};
use crate::sessions::SessionTable;
use crate::tree::Tree;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{SessionId, Zxid};
use std::sync::Arc;

/// A znode of an image.
#[derive(Clone, Copy, Debug)]
pub struct ImageNode<'a> {
    /// Full path; `""` for the root.
    pub path: &'a str,
    /// Data; null and empty are distinct.
    pub data: Option<&'a [u8]>,
    /// Key into [`TreeImage::acls`]; -1 for the built-in open list.
    pub acl: i64,
    /// Everything else.
    pub stat: StatPersisted,
}

/// See [`Tree::image`].
#[derive(Clone, Debug)]
pub struct TreeImage {
    chunks: Chunks,
    frame: Frame,
}

/// What stands in an image besides the znodes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    live: usize,
    sessions: Arc<SessionTable>,
    acls: Arc<Lists>,
    zxid: Zxid,
    digest: Option<u64>,
}

impl Frame {
    pub(crate) fn of(tree: &Tree) -> Self {
        Self {
            live: tree.arena.len(),
            sessions: Arc::clone(tree.sessions.table()),
            acls: tree.acls.snapshot(),
            zxid: tree.zxid,
            digest: tree.config.digest.then_some(tree.digest),
        }
    }
}

impl TreeImage {
    pub(crate) const fn new(frame: Frame, chunks: Chunks) -> Self {
        Self { chunks, frame }
    }

    /// The transaction that the image ends with.
    #[must_use]
    pub const fn zxid(&self) -> Zxid {
        self.frame.zxid
    }

    /// Digest of the tree, unless digests are off.
    #[must_use]
    pub const fn digest(&self) -> Option<u64> {
        self.frame.digest
    }

    /// Number of znodes, without the root's alias.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frame.live
    }

    /// Never: there is always a root.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frame.live == 0
    }

    /// Sessions with their timeouts in milliseconds, in the order of their ids.
    #[must_use]
    pub fn sessions(&self) -> Vec<(SessionId, i32)> {
        self.frame.sessions.iter().map(|(s, timeout)| (*s, *timeout)).collect()
    }

    /// The ACL table in the order of keys.
    #[must_use]
    pub fn acls(&self) -> Vec<(i64, SharedAcl)> {
        let mut acls: Vec<_> =
            self.frame.acls.iter().map(|(key, list)| (i64::from(*key), SharedAcl::clone(list))).collect();
        acls.sort_unstable_by_key(|(key, _)| *key);
        acls
    }

    /// Calls `visit` for every znode, parents before children, and stops at its first error.
    pub fn nodes<E>(&self, visit: &mut dyn FnMut(ImageNode<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut visited = 0;
        let mut done = vec![false; self.chunks.ids().count()];
        let mut path = String::new();
        let mut chain = Vec::new();
        for id in self.chunks.ids() {
            if self.chunks.get(id).is_none() || done[id.0 as usize] {
                continue;
            }
            // A free id may have been reused for a child of a younger node: ancestors that were not
            // visited yet come first.
            chain.clear();
            let mut at = id;
            loop {
                chain.push(at);
                if at == NodeId::ROOT {
                    break;
                }
                at = self.block(at).parent();
            }
            path.clear();
            for &at in chain.iter().rev() {
                let block = self.block(at);
                if at != NodeId::ROOT {
                    path.push('/');
                    path.push_str(block.name());
                }
                if std::mem::replace(&mut done[at.0 as usize], true) {
                    continue;
                }
                visited += 1;
                let stat = block.fields().stat;
                visit(ImageNode { path: &path, data: block.data(), acl: block.acl().to_disk(), stat })?;
            }
        }
        assert!(visited == self.frame.live, "an image has as many znodes as its tree had");
        Ok(())
    }

    fn block(&self, id: NodeId) -> &crate::arena::Block {
        self.chunks.get(id).expect("ancestors of a znode are live")
    }
}
