//! What transactions that are prepared but not yet applied will have changed.
//!
//! Owns a record per znode and per session that such a transaction touches: enough to prepare the next
//! request against, and to predict the digest of the tree exactly. It decides nothing; [`crate::prep`]
//! does. A record goes when the last transaction that wrote it has been applied; the tree then says the
//! same.
//!
//! The digest of a znode is a CRC over path, data and stat in this order. A record keeps the CRC of the
//! first two, so that a change of the stat needs neither the data nor a copy of it.

use crate::acl_table::{AclKey, SharedAcl};
use crate::arena::{FORESEEN, Fields, NodeId};
use crate::digest::{continued, is_excluded, key, prefix};
use crate::{Node, Tree};
use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, Owner, SessionId, Zxid};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;

/// A slot's path buffer that grew beyond this is not kept for the next record.
const PATH_KEPT_MAX: usize = 256;

/// Room for more changes of one multi than this is not kept for the next.
const BEFORE_KEPT_MAX: usize = 256;

/// Beyond so many changes ahead, what is fetched first would be gone again before it is used.
const CHANGES_FORESEEN: usize = 256;

/// Open lists by permissions: one entry for everybody, the usual case.
static WORLD: LazyLock<[SharedAcl; WORLDS]> = LazyLock::new(|| {
    let list = |perms| SharedAcl::from([Acl::world(perms)]);
    core::array::from_fn(|perms| list(i32::try_from(perms).expect("five bits")))
});
/// Combinations of the five permissions.
const WORLDS: usize = 32;

/// The ACL of a pending znode.
#[derive(Clone, Debug)]
pub(crate) enum PendingAcl {
    /// The committed znode's; it holds the key until a later transaction is applied.
    Committed(AclKey),
    /// One entry for everybody, with these permissions.
    World(u8),
    /// Any other list.
    List(SharedAcl),
}

impl PendingAcl {
    pub(crate) fn of(list: &[Acl<'static>]) -> Self {
        if let [only] = list
            && only.is_world()
            && let Ok(perms) = u8::try_from(only.perms)
            && usize::from(perms) < WORLDS
        {
            return Self::World(perms);
        }
        Self::List(SharedAcl::from(list))
    }
}

/// A znode as it will be.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The transaction that last wrote it.
    pub(crate) zxid: Zxid,
    /// False after a deletion; the other fields are then stale.
    pub(crate) exists: bool,
    /// As a snapshot would store it.
    pub(crate) stat: StatPersisted,
    /// What the stat's owner means.
    pub(crate) owner: Owner,
    /// Direct children.
    pub(crate) children: usize,
    /// Bytes of data.
    pub(crate) data_len: usize,
    /// The list in force.
    pub(crate) acl: PendingAcl,
    /// What the digest begins with. `None` until the first write of a znode that exists and counts.
    pub(crate) prefix: Option<u32>,
    /// The znode's part of the tree's digest.
    digest: u32,
}

#[derive(Debug)]
struct Slot {
    path: String,
    /// The path's, as the tree computes it.
    hash: u64,
    /// The committed znode from which the record was made; nil if there was none.
    node: NodeId,
    /// `None` in a free slot.
    record: Option<Record>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PendingSession {
    Opening,
    Closing,
}

/// Where a path is recorded, from one look-up; valid until the next change.
pub(crate) struct Place<'t> {
    hash: u64,
    slot: Option<u32>,
    /// The committed znode, when there is no record.
    node: Option<(Node<'t>, Fields)>,
}

impl Place<'_> {
    /// Whether an outstanding transaction wrote the record, which may also say that there is no znode.
    pub(crate) const fn is_pending(&self) -> bool {
        self.slot.is_some()
    }
}

/// Where the znodes were that a transaction changes, one for each change, in the order of preparation. Good for a first
/// guess only: whoever is told looks what is there.
pub(crate) struct Places<'a>(Option<(&'a Outstanding, Zxid, usize)>);

impl<'a> Places<'a> {
    /// Nobody knows.
    pub(crate) const UNKNOWN: Self = Self(None);

    /// Of the oldest outstanding transaction, if that is `zxid`.
    pub(crate) const fn of(pending: &'a Outstanding, zxid: Zxid) -> Self {
        Self(Some((pending, zxid, 0)))
    }

    /// The next one; nil where there was none, and behind the last.
    pub(crate) fn next(&mut self) -> NodeId {
        let Some((pending, zxid, at)) = &mut self.0 else { return NodeId::NIL };
        match pending.queue.get(*at) {
            Some((of, slot)) if of == zxid => {
                *at += 1;
                pending.slots[*slot as usize].node
            }
            _ => NodeId::NIL,
        }
    }
}

/// All that is outstanding.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// What each transaction wrote, oldest first.
    queue: VecDeque<(Zxid, u32)>,
    sessions: HashMap<SessionId, (Zxid, PendingSession), FixedState>,
    session_queue: VecDeque<(Zxid, SessionId)>,
    /// Existing ephemerals among the records, by owner.
    owned: HashMap<SessionId, usize, FixedState>,
    /// Digest of the tree after everything that is outstanding; valid while the queue is not empty.
    predicted: u64,
    undo: Option<Undo>,
    /// Memory for the next [`Undo::before`].
    before: Vec<(u32, Option<Record>)>,
}

/// How to take back the operations of a multi.
#[derive(Debug)]
struct Undo {
    predicted: u64,
    queue_len: usize,
    /// What stood in a slot before, oldest first; `None` for a slot that was free.
    before: Vec<(u32, Option<Record>)>,
}

impl Outstanding {
    /// Znodes and sessions with a record.
    pub(crate) fn len(&self) -> usize {
        self.index.len() + self.sessions.len()
    }

    /// Digest of the tree after everything that is outstanding.
    pub(crate) fn predicted(&self, tree: &Tree) -> u64 {
        if self.queue.is_empty() { tree.digest() } else { self.predicted }
    }

    pub(crate) fn find<'t>(&self, tree: &'t Tree, path: &str) -> Place<'t> {
        let path = key(path);
        let hash = tree.hash_of(path);
        let slot = self.find_slot(path, hash);
        let id = if slot.is_none() { tree.find_hashed(path, hash) } else { None };
        let node = id.map(|id| Node { tree, id });
        Place { hash, slot, node: node.map(|node| (node, node.fields())) }
    }

    fn record(&self, slot: u32) -> &Record {
        self.slots[slot as usize].record.as_ref().expect("a slot in the index holds a record")
    }

    /// The record, or what the committed znode tells; `None` if the znode does not exist.
    pub(crate) fn view<'a>(&'a self, place: &'a Place<'_>) -> Option<View<'a>> {
        match place.slot {
            Some(slot) => Some(self.record(slot)).filter(|r| r.exists).map(View::Pending),
            None => place.node.as_ref().map(|(node, fields)| View::Committed(*node, fields)),
        }
    }

    /// Changes the record of a path, making it first if need be, and the predicted digest with it.
    ///
    /// # Panics
    /// When the transaction is older than one that wrote the record.
    pub(crate) fn write(
        &mut self,
        tree: &Tree,
        place: Place<'_>,
        path: &str,
        zxid: Zxid,
        change: impl FnOnce(&mut Record),
    ) {
        let path = key(path);
        if self.queue.is_empty() {
            self.predicted = tree.digest();
        }
        let counted = tree.config().digest && !is_excluded(path);
        let slot = match place.slot {
            Some(slot) => {
                if let Some(undo) = &mut self.undo {
                    undo.before.push((slot, self.slots[slot as usize].record.clone()));
                }
                slot
            }
            None => {
                let slot = self.claim(&place, path);
                if let Some(undo) = &mut self.undo {
                    undo.before.push((slot, None));
                }
                slot
            }
        };
        let record = self.slots[slot as usize].record.as_mut().expect("a slot that was found or claimed is in use");
        assert!(record.zxid <= zxid, "records are written in the order of transactions");
        let before = (record.exists.then_some(record.owner), record.digest);
        change(record);
        record.zxid = zxid;
        record.digest = if counted && record.exists {
            // Whoever sets data sets this too, so that without it they are the committed znode's.
            let data = || place.node.as_ref().and_then(|(node, _)| node.data());
            continued(*record.prefix.get_or_insert_with(|| prefix(path, data())), &record.stat)
        } else {
            0
        };
        let after = (record.exists.then_some(record.owner), record.digest);
        self.predicted = self.predicted.wrapping_sub(u64::from(before.1)).wrapping_add(u64::from(after.1));
        // A record counts from its first write on, even if that did not touch the owner.
        let was = if place.slot.is_some() { before.0 } else { None };
        self.recount(was, after.0);
        self.queue.push_back((zxid, slot));
    }

    /// The prefix of a record whose data is about to be set.
    pub(crate) fn prefix(tree: &Tree, path: &str, data: Option<&[u8]>) -> Option<u32> {
        (tree.config().digest && !is_excluded(path)).then(|| prefix(path, data))
    }

    fn recount(&mut self, before: Option<Owner>, after: Option<Owner>) {
        if before == after {
            return;
        }
        if let Some(Owner::Ephemeral(s)) = before {
            let count = self.owned.get_mut(&s).expect("a recorded ephemeral is counted");
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&s);
            }
        }
        if let Some(Owner::Ephemeral(s)) = after {
            *self.owned.entry(s).or_insert(0) += 1;
        }
    }

    fn claim(&mut self, place: &Place<'_>, path: &str) -> u32 {
        let Place { hash, node, .. } = place;
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            self.slots.push(Slot { path: String::new(), hash: *hash, node: NodeId::NIL, record: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 outstanding changes")
        };
        let entry = &mut self.slots[slot as usize];
        entry.path.push_str(path);
        entry.hash = *hash;
        entry.node = node.as_ref().map_or(NodeId::NIL, |(node, _)| node.id);
        entry.record = Some(load(node.as_ref()));
        let slots = &self.slots;
        self.index.insert_unique(*hash, slot, |slot| slots[*slot as usize].hash);
        slot
    }

    fn release(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let record = entry.record.take().expect("a slot that is released was in use");
        let hash = entry.hash;
        entry.path.clear();
        if entry.path.capacity() > PATH_KEPT_MAX {
            entry.path = String::new();
        }
        self.index.find_entry(hash, |other| *other == slot).expect("a slot in use is in the index").remove();
        self.free.push(slot);
        self.recount(record.exists.then_some(record.owner), None);
    }

    /// From here on, [`Self::rollback`] can take changes of znodes back.
    pub(crate) fn begin(&mut self, tree: &Tree) {
        assert!(self.undo.is_none(), "multis do not nest");
        let before = std::mem::take(&mut self.before);
        self.undo = Some(Undo { predicted: self.predicted(tree), queue_len: self.queue.len(), before });
    }

    pub(crate) fn keep(&mut self) {
        let undo = self.undo.take().expect("a multi that ends has begun");
        self.keep_memory(undo.before);
    }

    fn keep_memory(&mut self, mut before: Vec<(u32, Option<Record>)>) {
        if before.capacity() <= BEFORE_KEPT_MAX {
            before.clear();
            self.before = before;
        }
    }

    pub(crate) fn rollback(&mut self) {
        let mut undo = self.undo.take().expect("a multi that is taken back has begun");
        for (slot, before) in undo.before.drain(..).rev() {
            let Some(before) = before else {
                self.release(slot);
                continue;
            };
            let owner = before.exists.then_some(before.owner);
            let undone = self.slots[slot as usize].record.replace(before);
            let undone = undone.expect("a slot that was written is in use");
            self.recount(undone.exists.then_some(undone.owner), owner);
        }
        self.queue.truncate(undo.queue_len);
        self.predicted = undo.predicted;
        self.keep_memory(undo.before);
    }

    /// Looks where the application of what was prepared up to `zxid`, or its beginning, is going to look, and
    /// [`Self::applied`].
    pub(crate) fn foresee(&self, tree: &Tree, zxid: Zxid) {
        let coming = self.queue.iter().take_while(|(written, _)| *written <= zxid).take(CHANGES_FORESEEN);
        let mut slots = coming.map(|(_, slot)| &self.slots[*slot as usize]);
        loop {
            let mut seen = 0;
            let nodes: SmallVec<[NodeId; FORESEEN]> = slots
                .by_ref()
                .take(FORESEEN)
                .map(|slot| {
                    seen ^= slot.record.as_ref().map_or(0, |record| record.zxid.get());
                    slot.node
                })
                .collect();
            std::hint::black_box(seen);
            if nodes.is_empty() {
                return;
            }
            tree.look_at(nodes);
        }
    }

    /// Forgets what only transactions up to `zxid` wrote.
    pub(crate) fn applied(&mut self, zxid: Zxid) {
        while let Some((written, slot)) = self.queue.front().copied()
            && written <= zxid
        {
            self.queue.pop_front();
            // A transaction may have written the record twice; it is gone after the first.
            if self.slots[slot as usize].record.as_ref().is_some_and(|r| r.zxid == written) {
                self.release(slot);
            }
        }
        while let Some((written, session)) = self.session_queue.front().copied()
            && written <= zxid
        {
            self.session_queue.pop_front();
            if self.sessions.get(&session).is_some_and(|(last, _)| *last == written) {
                self.sessions.remove(&session);
            }
        }
    }

    pub(crate) fn open_session(&mut self, session: SessionId, zxid: Zxid) {
        self.sessions.insert(session, (zxid, PendingSession::Opening));
        self.session_queue.push_back((zxid, session));
    }

    pub(crate) fn close_session(&mut self, session: SessionId, zxid: Zxid) {
        self.sessions.insert(session, (zxid, PendingSession::Closing));
        self.session_queue.push_back((zxid, session));
    }

    pub(crate) fn is_closing(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|(_, state)| *state == PendingSession::Closing)
    }

    /// Whether a request of the session may be prepared.
    pub(crate) fn is_open(&self, tree: &Tree, session: SessionId) -> bool {
        match self.sessions.get(&session) {
            Some((_, PendingSession::Opening)) => true,
            Some((_, PendingSession::Closing)) => false,
            None => tree.session_timeout(session).is_some(),
        }
    }

    /// The session's ephemerals, pending creations included and pending deletions left out, sorted.
    pub(crate) fn ephemerals(&self, tree: &Tree, session: SessionId) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = tree.ephemerals(session).into_iter().collect();
        if !self.index.is_empty() {
            paths.retain(|path| match self.find_slot(path, tree.hash_of(path)) {
                None => true,
                Some(slot) => self.record(slot).exists && self.record(slot).owner == Owner::Ephemeral(session),
            });
        }
        if self.owned.contains_key(&session) {
            let records = self.slots.iter().filter_map(|s| s.record.as_ref().map(|r| (&s.path, r)));
            let own = records.filter(|(_, r)| r.exists && r.owner == Owner::Ephemeral(session));
            paths.extend(own.map(|(path, _)| path.clone()));
        }
        paths
    }

    fn find_slot(&self, path: &str, hash: u64) -> Option<u32> {
        self.index.find(hash, |slot| self.slots[*slot as usize].path == path).copied()
    }
}

/// The record to start from: the committed znode's, or that of a missing one.
fn load(node: Option<&(Node<'_>, Fields)>) -> Record {
    let Some((node, Fields { stat, share, child_count, .. })) = node else {
        return Record {
            zxid: Zxid::ZERO,
            exists: false,
            stat: new_stat(Zxid::ZERO, 0, Owner::Persistent),
            owner: Owner::Persistent,
            children: 0,
            data_len: 0,
            acl: PendingAcl::Committed(AclKey::OPEN),
            prefix: None,
            digest: 0,
        };
    };
    Record {
        zxid: Zxid::ZERO,
        exists: true,
        stat: *stat,
        owner: node.tree.owner_of(stat.ephemeral_owner),
        children: *child_count as usize,
        data_len: node.data_len(),
        acl: PendingAcl::Committed(node.acl_key()),
        prefix: None,
        digest: *share,
    }
}

/// The stat of a znode that is created.
pub(crate) const fn new_stat(zxid: Zxid, time: i64, owner: Owner) -> StatPersisted {
    StatPersisted {
        czxid: zxid,
        mzxid: zxid,
        ctime: time,
        mtime: time,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: owner.encode(),
        pzxid: zxid,
    }
}

/// An existing znode, as the next transaction will find it.
pub(crate) enum View<'a> {
    Pending(&'a Record),
    Committed(Node<'a>, &'a Fields),
}

impl View<'_> {
    pub(crate) const fn stat(&self) -> &StatPersisted {
        match self {
            Self::Pending(r) => &r.stat,
            Self::Committed(_, fields) => &fields.stat,
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Pending(r) => r.owner,
            Self::Committed(n, fields) => n.tree.owner_of(fields.stat.ephemeral_owner),
        }
    }

    pub(crate) const fn has_children(&self) -> bool {
        self.child_count() > 0
    }

    /// Direct children.
    pub(crate) const fn child_count(&self) -> usize {
        match self {
            Self::Pending(r) => r.children,
            Self::Committed(_, fields) => fields.child_count as usize,
        }
    }

    pub(crate) fn data_len(&self) -> usize {
        match self {
            Self::Pending(r) => r.data_len,
            Self::Committed(n, _) => n.data_len(),
        }
    }

    pub(crate) fn acl<'a>(&'a self, tree: &'a Tree) -> &'a SharedAcl {
        match self {
            Self::Pending(r) => match &r.acl {
                PendingAcl::Committed(key) => tree.acls.get(*key),
                PendingAcl::World(perms) => &WORLD[usize::from(*perms)],
                PendingAcl::List(list) => list,
            },
            Self::Committed(n, _) => n.acl_in_table(),
        }
    }
}
