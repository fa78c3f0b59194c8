//! Filling a tree from a snapshot.
//!
//! Owns the checks that a snapshot's content has to pass beyond its format. Order: sessions, ACL lists,
//! znodes with parents before children, then [`TreeLoader::finish`].
//!
//! Leniences, each because Apache's fuzzy snapshots need it:
//! - A znode may name an ACL key that the table lacks: the table was written first, and a transaction
//!   that replay applies again made both. Until then, and for good where Apache lost the list, the znode
//!   gets a list that permits nothing to anybody but a super user. An empty one would permit everything.
//! - Lists without user are dropped.
//! - A znode whose parent is missing is an error. Snapshots cannot hold one, but a replayed deletion may
//!   hit a znode that has children: see [`crate::Tree::apply`].
//! - An ephemeral may belong to a session that the table lacks.

use crate::acl_table::{AclKey, SharedAcl};
use crate::arena::{Block, NodeId};
use crate::config::TreeConfig;
use crate::quota::{LIMITS, QUOTA_ROOT, governed_path};
use crate::ready::{NodeMaker, ReadyNode};
use crate::tree::Tree;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, Owner, SessionId, Zxid};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A tree that is being filled.
#[derive(Debug)]
pub struct TreeLoader {
    tree: Tree,
    keys: HashMap<i64, AclKey, FixedState>,
    root_loaded: bool,
    maker: NodeMaker,
    /// Path and id of the parent that was looked up last.
    last_parent: (String, NodeId),
}

impl TreeLoader {
    /// An empty one.
    #[must_use]
    pub fn new(config: TreeConfig) -> Self {
        Self::with_hash_seed(config, crate::tree::DEFAULT_SEED)
    }

    /// The same with a seed; see [`Tree::with_hash_seed`].
    #[must_use]
    pub fn with_hash_seed(config: TreeConfig, seed: u64) -> Self {
        Self {
            tree: Tree::with_root(config, seed),
            keys: HashMap::default(),
            root_loaded: false,
            maker: NodeMaker::new(config),
            last_parent: (String::new(), NodeId::ROOT),
        }
    }

    /// A session and its timeout in milliseconds.
    pub fn session(&mut self, session: SessionId, timeout: i32) {
        self.tree.sessions.open(session, timeout);
    }

    /// An ACL list under its key. Keys survive, except those that do not fit into 32 bits.
    ///
    /// # Errors
    /// For the key -1, which stands for the built-in list.
    pub fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), String> {
        if key == AclKey::OPEN.to_disk() {
            return Err("the ACL table has an entry for the reserved key -1".to_owned());
        }
        let list: SharedAcl = acl.into_iter().map(Acl::into_owned).collect();
        self.add_list(key, list);
        Ok(())
    }

    fn add_list(&mut self, key: i64, list: SharedAcl) -> AclKey {
        let own = match (self.keys.get(&key), u32::try_from(key)) {
            (Some(known), _) => known.to_bits(),
            (None, Ok(small)) if small != 0 && !self.tree.acls.has(small) => small,
            (None, _) => self.tree.acls.unused_key(),
        };
        let own = self.tree.acls.load(own, list);
        self.keys.insert(key, own);
        own
    }

    fn key(&mut self, key: i64) -> AclKey {
        if key == AclKey::OPEN.to_disk() {
            return AclKey::OPEN;
        }
        let known = self.keys.get(&key).copied();
        let known = known.unwrap_or_else(|| {
            let stand_in = self.add_list(key, SharedAcl::from([Acl::world(0)]));
            self.tree.stand_ins.insert(stand_in);
            stand_in
        });
        self.tree.acls.retain(known);
        known
    }

    /// A znode: made and taken in one after the other.
    ///
    /// # Errors
    /// Those of [`NodeMaker::make`] and [`Self::ready`].
    pub fn node(&mut self, path: &str, data: Option<&[u8]>, acl_key: i64, stat: StatPersisted) -> Result<(), String> {
        let node = self.maker.make(path, data, stat)?;
        self.ready(path, acl_key, node)
    }

    /// Takes in a znode that was made apart from the tree, of this very `path` and under the same configuration.
    ///
    /// # Errors
    /// When the path is taken or without parent. An owner that is illegal under the configuration counts as a
    /// session's, as it does when it is replayed from the log.
    ///
    /// # Panics
    /// When the znode was made of a path of another length.
    pub fn ready(&mut self, path: &str, acl_key: i64, node: ReadyNode) -> Result<(), String> {
        assert!(path.len() == node.path_len, "a znode is taken in under the path of which it was made");
        if path.is_empty() {
            return self.root(&node.block, acl_key);
        }
        let parent =
            self.parent(&path[..node.parent_len]).ok_or_else(|| format!("znode {path:?} comes without its parent"))?;
        let tree = &mut self.tree;
        let id = tree.arena.next_id();
        if !tree.index.insert_new(&tree.arena, path, id) {
            return Err(format!("znode {path:?} comes twice"));
        }
        let acl = self.key(acl_key);
        self.tree.place(id, parent, acl, node);
        self.tree.arena.append(parent, id);
        Ok(())
    }

    /// The znode at `path`. Snapshots mostly list siblings together, so it often is the one that was asked for last.
    fn parent(&mut self, path: &str) -> Option<NodeId> {
        if self.last_parent.0 != path || path.is_empty() {
            let id = self.tree.find(path)?;
            self.last_parent.0.clear();
            self.last_parent.0.push_str(path);
            self.last_parent.1 = id;
        }
        Some(self.last_parent.1)
    }

    fn root(&mut self, block: &Block, acl_key: i64) -> Result<(), String> {
        let (loaded, data) = (block.fields(), block.data());
        if std::mem::replace(&mut self.root_loaded, true) {
            return Err("the root comes twice".to_owned());
        }
        let owner = loaded.stat.ephemeral_owner;
        if self.tree.owner_of(owner) != Owner::Persistent {
            return Err(format!("the root has the owner {owner:#x}"));
        }
        let acl = self.key(acl_key);
        let tree = &mut self.tree;
        let mut fields = tree.arena.get(NodeId::ROOT).fields();
        tree.digest_changes(fields.share, loaded.share);
        (fields.stat, fields.share) = (loaded.stat, loaded.share);
        tree.arena.set_data(NodeId::ROOT, &fields, data);
        tree.arena.set_acl(NodeId::ROOT, acl);
        tree.size += data.map_or(0, <[u8]>::len) as u64;
        Ok(())
    }

    /// The complete tree as of `zxid`: unused ACL lists are dropped, built-in nodes that the snapshot
    /// lacks (those of 3.4 had no `/zookeeper/config`) are added, and the usage under quotas is counted.
    ///
    /// # Errors
    /// When the snapshot had no root.
    pub fn finish(self, zxid: Zxid) -> Result<Tree, String> {
        let Self { mut tree, root_loaded, .. } = self;
        if !root_loaded {
            return Err("the snapshot has no root".to_owned());
        }
        tree.acls.drop_unused();
        tree.add_missing_built_ins();
        tree.zxid = zxid;
        let quota_root = tree.find(QUOTA_ROOT).expect("built-in nodes exist");
        let mut governed = Vec::new();
        tree.walk(quota_root, |id| {
            let block = tree.arena.get(id);
            if block.name() == LIMITS
                && let Some(path) = governed_path(&tree.path_of(block.parent()))
            {
                governed.push(path.to_owned());
            }
        });
        for path in &governed {
            tree.quotas.insert(path);
            tree.recount_usage(path);
        }
        Ok(tree)
    }
}
