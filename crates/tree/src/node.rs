//! A znode of the committed state, as readers see it.

use crate::acl_table::{AclKey, SharedAcl};
use crate::arena::{Block, Fields, NodeId};
use crate::tree::Tree;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, Owner, Stat};

/// A view of one znode; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) id: NodeId,
}

/// What clients see, from what is stored.
pub(crate) fn visible_stat(stat: &StatPersisted, owner: Owner, data_len: usize, children: u32) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion.wrapping_mul(2).wrapping_sub(children.cast_signed()),
        aversion: stat.aversion,
        ephemeral_owner: owner.visible(),
        // Data came in a frame, whose length is a positive i32.
        data_length: i32::try_from(data_len).unwrap_or(i32::MAX),
        num_children: children.cast_signed(),
        pzxid: stat.pzxid,
    }
}

impl<'a> Node<'a> {
    fn block(&self) -> &'a Block {
        self.tree.arena.get(self.id)
    }

    /// The stat that clients see.
    #[must_use]
    pub fn stat(&self) -> Stat {
        let fields = self.block().fields();
        let owner = self.tree.owner_of(fields.stat.ephemeral_owner);
        visible_stat(&fields.stat, owner, self.block().data_len(), fields.child_count)
    }

    /// The stat that snapshots store.
    #[must_use]
    pub fn persisted(&self) -> StatPersisted {
        self.block().fields().stat
    }

    /// Data; null and empty are distinct.
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.block().data()
    }

    /// Bytes of data.
    pub(crate) fn data_len(&self) -> usize {
        self.block().data_len()
    }

    /// Key of the ACL.
    #[must_use]
    pub fn acl_key(&self) -> AclKey {
        self.block().acl()
    }

    /// The ACL.
    #[must_use]
    pub fn acl(&self) -> &'a [Acl<'static>] {
        self.tree.acl(self.acl_key())
    }

    /// The ACL, as all its users share it.
    #[must_use]
    pub fn acl_in_table(&self) -> &'a SharedAcl {
        self.tree.acls.get(self.acl_key())
    }

    /// The ACL, to be kept.
    #[must_use]
    pub fn shared_acl(&self) -> SharedAcl {
        self.tree.shared_acl(self.acl_key())
    }

    /// The node's kind.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tree.owner_of(self.persisted().ephemeral_owner)
    }

    /// Direct children.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.block().child_count() as usize
    }

    /// Names of the direct children, in the order of their creation or loading.
    pub fn children(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let arena = &self.tree.arena;
        arena.children(self.id).map(|id| arena.get(id).name())
    }

    /// [`Self::children`] in UTF-8, unchecked: for whoever passes many of them on.
    pub fn children_bytes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let arena = &self.tree.arena;
        arena.children(self.id).map(|id| arena.get(id).name_bytes())
    }

    /// Creations of children so far (wraps): the counter of sequential names, and the cversion that is
    /// stored. Clients see another one; see [`Stat::cversion`].
    #[must_use]
    pub fn created_children(&self) -> i32 {
        self.persisted().cversion
    }

    /// Full path; `""` for the root.
    #[must_use]
    pub fn path(&self) -> String {
        self.tree.path_of(self.id)
    }

    /// Share in the tree's digest; see [`crate::digest`].
    #[must_use]
    pub fn digest(&self) -> u64 {
        u64::from(self.share())
    }

    pub(crate) fn fields(&self) -> Fields {
        self.block().fields()
    }

    pub(crate) fn share(&self) -> u32 {
        self.block().share()
    }
}
