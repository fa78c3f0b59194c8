//! The committed state of a server: what its queries answer.
//!
//! Owns the znodes and everything derived from them: index, ACL table, sessions, quota paths, digest.
//! Changes come from [`Tree::apply`] and, before that, from a [`crate::TreeLoader`]; nothing else.

use crate::acl_table::{AclKey, AclTable, SharedAcl};
use crate::arena::{Arena, Fields, NodeId};
use crate::config::TreeConfig;
use crate::digest::{DigestLog, node_digest};
use crate::image::{Frame, TreeImage};
use crate::index::Index;
use crate::node::Node;
use crate::quota::{QuotaPaths, QuotaText, SoftExcess, limits_path, stats_path};
use crate::ready::{NodeMaker, ReadyNode};
use crate::sessions::Sessions;
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, ErrorCode, Owner, SessionId, Zxid, perms};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Seed of the index where the caller has none.
pub(crate) const DEFAULT_SEED: u64 = 0x6661_7272_6965_7221;

/// The nodes that every tree has, besides the root, in the order of a virgin snapshot.
pub(crate) const BUILT_IN: [&str; 3] = ["/zookeeper", CONFIG_PATH, crate::quota::QUOTA_ROOT];
/// The node that tells an ensemble's membership.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// The committed state.
#[derive(Debug)]
pub struct Tree {
    pub(crate) config: TreeConfig,
    pub(crate) maker: NodeMaker,
    pub(crate) arena: Arena,
    pub(crate) index: Index,
    pub(crate) acls: AclTable,
    pub(crate) sessions: Sessions,
    pub(crate) quotas: QuotaPaths,
    pub(crate) zxid: Zxid,
    pub(crate) digest: u64,
    pub(crate) digest_log: DigestLog,
    /// Bytes of all paths (UTF-16 units, as Java counts) and data.
    pub(crate) size: u64,
    /// Keys that stand for ACL lists which the snapshot lacked, as long as a znode holds them.
    pub(crate) stand_ins: BTreeSet<AclKey>,
    /// Of an image that is on its way.
    pub(crate) begun: Option<Frame>,
}

/// What a path adds to the size of the tree.
pub(crate) fn path_size(path: &str) -> u64 {
    let units = if path.is_ascii() { path.len() } else { path.encode_utf16().count() };
    units as u64
}

impl Tree {
    /// A virgin tree: root, `/zookeeper`, `/zookeeper/config` and `/zookeeper/quota`.
    #[must_use]
    pub fn new(config: TreeConfig) -> Self {
        Self::with_hash_seed(config, DEFAULT_SEED)
    }

    /// The same with a seed for the hashes of what clients choose, so that nobody can choose names that collide. The
    /// seed shows in no result.
    #[must_use]
    pub fn with_hash_seed(config: TreeConfig, seed: u64) -> Self {
        let mut tree = Self::with_root(config, seed);
        tree.add_missing_built_ins();
        tree
    }

    /// A tree with nothing but the root.
    pub(crate) fn with_root(config: TreeConfig, seed: u64) -> Self {
        let mut tree = Self {
            config,
            maker: NodeMaker::new(config),
            arena: Arena::default(),
            index: Index::new(seed),
            acls: AclTable::new(seed),
            sessions: Sessions::default(),
            quotas: QuotaPaths::new(seed),
            zxid: Zxid::ZERO,
            digest: 0,
            digest_log: DigestLog::default(),
            // The alias "/" of the root.
            size: 1,
            stand_ins: BTreeSet::new(),
            begun: None,
        };
        let (stat, data) = (StatPersisted::ZERO, Some(b"".as_slice()));
        let share = tree.share("", data, &stat);
        let root = tree.arena.insert(NodeId::NIL, "", AclKey::OPEN, &Fields::childless(stat, share), data);
        assert!(root == NodeId::ROOT, "the root comes first");
        tree.digest_changes(0, share);
        tree
    }

    /// Creates the built-in nodes that are not there, without a transaction.
    pub(crate) fn add_missing_built_ins(&mut self) {
        for path in BUILT_IN {
            let (parent, name) = farrier_proto::path::split(path).expect("built-in paths are absolute");
            let parent = self.find(parent).expect("built-in parents come first");
            let id = self.arena.next_id();
            if !self.index.insert_new(&self.arena, path, id) {
                continue;
            }
            let (mut stat, mut acl) = (StatPersisted::ZERO, AclKey::OPEN);
            if path == CONFIG_PATH {
                acl = self.acls.intern(&[Acl::world(perms::READ)]);
                stat.aversion = -1;
            }
            let node = self.maker.made(path, name, Some(b""), stat);
            self.place(id, parent, acl, node);
            self.arena.append(parent, id);
        }
    }

    /// Sets what `/zookeeper/config` says, as members do on their own, outside transactions: the digest leaves
    /// the znode out.
    pub fn set_membership(&mut self, text: &[u8], version: Zxid, wall_ms: i64) {
        let id = self.find(CONFIG_PATH).expect("the built-in znodes are always there");
        let block = self.arena.get(id);
        let grown = text.len() as i64 - block.data_len() as i64;
        let mut fields = block.fields();
        fields.stat.mzxid = version;
        fields.stat.mtime = wall_ms;
        fields.stat.version = -1;
        self.arena.set_data(id, &fields, Some(text));
        self.size = self.size.checked_add_signed(grown).expect("the size counts what is there");
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &TreeConfig {
        &self.config
    }

    /// The last transaction that was applied.
    #[must_use]
    pub const fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Digest of the tree; 0 if digests are off.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The znode at `path`; `""` and `"/"` are the root.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node<'_>> {
        self.find(path).map(|id| Node { tree: self, id })
    }

    /// Number of znodes as Apache counts them: the root's alias `/` is one more.
    #[must_use]
    pub const fn node_count(&self) -> usize {
        self.arena.len() + 1
    }

    /// Znodes below `path`, or `None` if there is no such node. Walks the subtree, except for the root's.
    #[must_use]
    pub fn descendants(&self, path: &str) -> Option<usize> {
        let id = self.find(path)?;
        if id == NodeId::ROOT {
            return Some(self.arena.len() - 1);
        }
        let mut count = 0;
        self.walk(id, |_| count += 1);
        Some(count - 1)
    }

    /// Timeout of a session in milliseconds, if the session exists.
    #[must_use]
    pub fn session_timeout(&self, session: SessionId) -> Option<i32> {
        self.sessions.table().get(&session).copied()
    }

    /// Sessions with their timeouts in milliseconds, in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.sessions.table().iter().map(|(s, timeout)| (*s, *timeout))
    }

    /// Number of sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.table().len()
    }

    /// Paths of a session's ephemerals, sorted.
    #[must_use]
    pub fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let mut paths: Vec<String> = self.sessions.of_session(session).map(|id| self.path_of(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// Paths of a session's ephemerals, in no order: each is put together only when it is asked for.
    pub fn ephemeral_paths(&self, session: SessionId) -> impl Iterator<Item = String> {
        self.sessions.of_session(session).map(|id| self.path_of(id))
    }

    /// Number of a session's ephemerals.
    #[must_use]
    pub fn ephemerals_count_of(&self, session: SessionId) -> usize {
        self.sessions.count_of_session(session)
    }

    /// Bytes of the paths of a session's ephemerals. Looks at each of them.
    #[must_use]
    pub fn ephemerals_path_bytes(&self, session: SessionId) -> usize {
        self.sessions.of_session(session).map(|id| self.path_of(id).len()).sum()
    }

    /// Sessions that own ephemerals, whether or not they exist.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.owners()
    }

    /// Number of ephemerals.
    #[must_use]
    pub const fn ephemerals_count(&self) -> usize {
        self.sessions.ephemeral_count()
    }

    /// Size of all paths and data, as Apache estimates it.
    #[must_use]
    pub const fn approximate_data_size(&self) -> u64 {
        self.size
    }

    /// Paths of containers that lost their last child, or never had one for more than
    /// `never_used_ms` (0: never), and of childless TTL nodes that are older than their TTL. The sweeper
    /// tries to delete them; whether it may is decided when the request is prepared. At most `most`.
    #[must_use]
    pub fn expired_candidates(&self, wall_ms: i64, never_used_ms: i64, most: usize) -> Vec<String> {
        let all = self.sessions.containers().chain(self.sessions.ttls());
        let over = all.filter(|id| self.is_over(*id, wall_ms, never_used_ms));
        over.take(most).map(|id| self.path_of(id)).collect()
    }

    /// Whether the znode at `path` would be among [`Self::expired_candidates`] now.
    #[must_use]
    pub fn is_expired_candidate(&self, path: &str, wall_ms: i64, never_used_ms: i64) -> bool {
        self.find(path).is_some_and(|id| self.is_over(id, wall_ms, never_used_ms))
    }

    fn is_over(&self, id: NodeId, wall_ms: i64, never_used_ms: i64) -> bool {
        let fields = self.arena.get(id).fields();
        let age = wall_ms.saturating_sub(fields.stat.mtime);
        let is_over = match self.owner_of(fields.stat.ephemeral_owner) {
            Owner::Container if farrier_proto::planted!(UnusedContainerSwept) => true,
            Owner::Container => fields.stat.cversion > 0 || (never_used_ms != 0 && age > never_used_ms),
            Owner::Ttl(ttl) => ttl != 0 && i64::try_from(ttl).is_ok_and(|ttl| age > ttl),
            Owner::Persistent | Owner::Ephemeral(_) => false,
        };
        is_over && fields.child_count == 0
    }

    /// Digests after the transactions whose zxid is a multiple of 128, oldest first; the last 1024.
    pub fn digest_log(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.digest_log.iter()
    }

    /// Znodes whose ACL list the snapshot lacked and which no transaction has given one since: how many, and the
    /// paths of the first `most`. Only a super user may use them.
    #[must_use]
    pub fn unlisted(&self, most: usize) -> (usize, Vec<String>) {
        if self.stand_ins.iter().all(|key| !self.acls.has(key.to_bits())) {
            return (0, Vec::new());
        }
        let chunks = self.arena.chunks();
        let holds = |id: &NodeId| chunks.get(*id).is_some_and(|block| self.stand_ins.contains(&block.acl()));
        let path = |id| if id == NodeId::ROOT { "/".to_owned() } else { self.path_of(id) };
        let mut held = chunks.ids().filter(holds);
        let paths: Vec<_> = held.by_ref().take(most).map(path).collect();
        (paths.len() + held.count(), paths)
    }

    /// The list of a key that [`Node::acl_key`] gave out and whose node still holds it.
    ///
    /// # Panics
    /// For any other key.
    #[must_use]
    pub fn acl(&self, key: AclKey) -> &[Acl<'static>] {
        self.acls.get(key)
    }

    pub(crate) fn shared_acl(&self, key: AclKey) -> SharedAcl {
        SharedAcl::clone(self.acls.get(key))
    }

    /// Whether a write at `path` that adds `count_delta` znodes and `byte_delta` bytes of data keeps
    /// within the hard limits of the deepest quota that encloses it, and which soft one it exceeds where there is no hard
    /// one. Always, and none, when [`TreeConfig::enforce_quota`] is off.
    ///
    /// # Errors
    /// [`ErrorCode::QuotaExceeded`], and [`ErrorCode::MarshallingError`] for limits that are not in the
    /// form of a quota.
    pub fn check_quota(&self, path: &str, count_delta: i64, byte_delta: i64) -> Result<Option<SoftExcess>, ErrorCode> {
        if !self.config.enforce_quota {
            return Ok(None);
        }
        let Some(governed) = self.quotas.enclosing(path) else { return Ok(None) };
        let Some(limits) = self.node(&limits_path(governed)) else { return Ok(None) };
        let limits = limits.data().ok_or(ErrorCode::MarshallingError)?;
        let limits = QuotaText::parse(limits).map_err(|_| ErrorCode::MarshallingError)?;
        let Some(usage) = self.node(&stats_path(governed)) else { return Ok(None) };
        let usage = read_usage(usage.data());
        let mut excess = None;
        for (what, soft, hard, used, delta) in [
            ("znodes", limits.count(), limits.count_hard_limit(), usage.count(), count_delta),
            ("bytes", limits.bytes(), limits.byte_hard_limit(), usage.bytes(), byte_delta),
        ] {
            let usage = used.saturating_add(delta);
            let over = |limit: i64| limit > -1 && delta != 0 && usage > limit;
            if over(hard) {
                return Err(ErrorCode::QuotaExceeded);
            }
            if hard <= -1 && over(soft) {
                excess.get_or_insert_with(|| SoftExcess { path: governed.to_owned(), what, limit: soft, usage });
            }
        }
        Ok(excess)
    }

    /// The state as it is now, unaffected by what is applied later. Takes time by the number of chunks (a 255th of the znodes),
    /// and the first change in each of them copies it; see [`Self::begin_image`].
    #[must_use]
    pub fn image(&self) -> TreeImage {
        TreeImage::new(Frame::of(self), self.arena.chunks().clone())
    }

    /// Begins an image of the state as it is now, which [`Self::gather_image`] brings together. One that was begun and not
    /// finished is forgotten.
    pub fn begin_image(&mut self) {
        self.arena.begin_gathering();
        self.begun = Some(Frame::of(self));
    }

    /// Goes on with the image that was begun, by at most so many znodes. What it shows is what [`Self::image`] would have
    /// shown when it was begun, however the tree has changed since. `None` as long as it is not whole, and where none was
    /// begun.
    pub fn gather_image(&mut self, znodes: u32) -> Option<TreeImage> {
        let chunks = self.arena.gather(znodes)?;
        let frame = self.begun.take().expect("an image begins with its frame");
        Some(TreeImage::new(frame, chunks))
    }

    /// Looks where requests and changes at these paths are going to look, and does nothing else. Among many znodes they
    /// mostly wait for memory; whoever has several of them ahead can so wait for all at once. What is no path does no harm.
    pub fn foresee<'p>(&self, paths: impl IntoIterator<Item = &'p [u8]>) {
        self.index.foresee(&self.arena, paths);
    }

    /// [`Self::foresee`] of a few znodes that are known.
    pub(crate) fn look_at(&self, ids: impl IntoIterator<Item = NodeId>) {
        self.arena.look_at(ids);
    }

    pub(crate) fn find(&self, path: &str) -> Option<NodeId> {
        self.find_hashed(path, self.hash_of(path))
    }

    /// [`Self::find`] of a path at which `near` is likely to be, if it is anywhere.
    pub(crate) fn find_near(&self, path: &str, near: NodeId) -> Option<NodeId> {
        if self.arena.is_live(near) && self.arena.is_at(near, path) { Some(near) } else { self.find(path) }
    }

    /// Hash of a path by this tree's seed.
    pub(crate) fn hash_of(&self, path: &str) -> u64 {
        self.index.hash(path)
    }

    /// [`Self::find`] of a path whose [hash](Self::hash_of) is known.
    pub(crate) fn find_hashed(&self, path: &str, hash: u64) -> Option<NodeId> {
        if path.is_empty() || path == "/" { Some(NodeId::ROOT) } else { self.index.find(&self.arena, path, hash) }
    }

    /// The meaning of an owner field. One that is illegal under the configuration is taken for a
    /// session's: it can then be seen and deleted.
    pub(crate) fn owner_of(&self, raw: i64) -> Owner {
        Owner::decode(raw, self.config.extended_types, self.config.ttl_353).unwrap_or(Owner::Ephemeral(SessionId(raw)))
    }

    /// Full path; `""` for the root.
    pub(crate) fn path_of(&self, id: NodeId) -> String {
        let mut names: SmallVec<[&str; 16]> = SmallVec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let block = self.arena.get(at);
            names.push(block.name());
            at = block.parent();
        }
        let mut path = String::with_capacity(names.iter().map(|name| 1 + name.len()).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Visits a znode and everything below it, parents first.
    pub(crate) fn walk(&self, top: NodeId, mut visit: impl FnMut(NodeId)) {
        let mut open = vec![top];
        while let Some(id) = open.pop() {
            visit(id);
            open.extend(self.arena.children(id));
        }
    }

    /// Stores a new znode that has its place in the index, everywhere but among its parent's children and in the quota's
    /// usage.
    pub(crate) fn place(&mut self, id: NodeId, parent: NodeId, acl: AclKey, node: ReadyNode) {
        let ReadyNode { block, owner, size, .. } = node;
        self.digest_changes(0, block.share());
        let placed = self.arena.insert_loose(block, parent, acl);
        assert!(placed == id, "the arena gives the id that it foretold");
        self.sessions.add(self.owner_of(owner), id);
        self.size += size;
    }

    /// A znode's share becomes another one.
    pub(crate) const fn digest_changes(&mut self, old: u32, new: u32) {
        self.digest = self.digest.wrapping_sub(old as u64).wrapping_add(new as u64);
    }

    /// What a znode like this adds to the digest.
    pub(crate) fn share(&self, path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u32 {
        if self.config.digest { node_digest(path, data, stat) } else { 0 }
    }

    /// Replaces fields, but for the share, which follows from them, and keeps the digest true.
    pub(crate) fn set_stat(&mut self, path: &str, id: NodeId, fields: &Fields) {
        let mut fields = *fields;
        self.reshare(path, id, &mut fields);
        self.arena.set_fields(id, &fields);
    }

    /// Computes the share anew, in the digest too. The caller stores the fields.
    pub(crate) fn reshare(&mut self, path: &str, id: NodeId, fields: &mut Fields) {
        let share = self.share(path, self.arena.get(id).data(), &fields.stat);
        self.digest_changes(fields.share, share);
        fields.share = share;
    }
}

/// Usage as a stats node holds it. Clients can write anything there; what is no usage counts as none.
pub(crate) fn read_usage(data: Option<&[u8]>) -> QuotaText {
    data.and_then(|text| QuotaText::parse(text).ok()).unwrap_or_else(|| QuotaText::usage(0, 0))
}

#[cfg(test)]
mod tests;
