//! The one path by which transactions change the tree: live commits and replay alike.
//!
//! Replay may start from a snapshot that already contains effects of later transactions (Apache's do),
//! so every rule here gives the same tree when it meets effects of itself. Nothing here fails for
//! reasons of content: codes like "no node" are ordinary results.

use crate::acl_table::SharedAcl;
use crate::arena::{Fields, NodeId};
use crate::creation::Creation;
use crate::node::{Node, visible_stat};
use crate::outstanding::Places;
use crate::prep::Prep;
use crate::quota::{LIMITS, QuotaText, STATS, governed_path, stats_path};
use crate::ready::ReadyNode;
use crate::tree::{Tree, path_size, read_usage};
use farrier_proto::client::EventType;
use farrier_proto::path::split;
use farrier_proto::txn::{SetAclTxn, SetDataTxn};
use farrier_proto::{ErrorCode, Stat, Txn, TxnHeader, Zxid};
use std::borrow::Cow;

/// A change that watches are told of. Changes come in the order of the protocol: the node, then its
/// parent.
#[derive(Clone, Debug)]
pub struct Change<'t> {
    /// What happened.
    pub kind: EventType,
    /// To which node; `/` for the root.
    pub path: Cow<'t, str>,
    /// Who may hear of it: the node's own list (a deleted node's last one), the parent's for
    /// [`EventType::NodeChildrenChanged`].
    pub acl: SharedAcl,
}

/// What goes with the application of a transaction.
struct Scope<'a, 't> {
    /// Its changes, for whoever wants to hear of them: where nobody does they cost nothing.
    changes: Option<&'a mut Vec<Change<'t>>>,
    /// Where its znodes are likely to be.
    places: Places<'a>,
    /// The znode that it creates, if that was made ahead.
    made: Option<ReadyNode>,
}

impl<'t> Scope<'_, 't> {
    const fn is_wanted(&self) -> bool {
        self.changes.is_some()
    }

    fn tell(&mut self, change: impl FnOnce() -> Change<'t>) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }
}

/// Result of a transaction, or of one operation of a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied (or checked); there is nothing to tell.
    Done,
    /// A node was created.
    Created {
        /// Its path.
        path: String,
        /// Its stat after the operation.
        stat: Stat,
    },
    /// Data, ACL or membership was set: the stat after it.
    Stat(Stat),
    /// One result per operation of a multi, which has no multis in it.
    Multi(Vec<Self>),
    /// Nothing was applied, or what replay needs only; the code that the client gets. In a multi that failed all
    /// operations have it: 0 in front of the one that did.
    Failed(i32),
}

const fn failed(code: ErrorCode) -> Outcome {
    Outcome::Failed(code.code())
}

fn event_path(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Raises a parent's counter of creations to `to` (-1: by one) and sets its pzxid, unless the counter is there already;
/// whether it did.
fn count_creation(parent: &mut Fields, to: i32, zxid: Zxid) -> bool {
    let stat = &mut parent.stat;
    let to = if to == -1 { stat.cversion.wrapping_add(1) } else { to };
    if to <= stat.cversion && !farrier_proto::planted!(ReplayNotIdempotent) {
        return false;
    }
    stat.cversion = to;
    stat.pzxid = zxid;
    true
}

impl Tree {
    /// Applies a transaction, appends what watches are to be told to `changes`, if there are any, and moves
    /// [`Tree::zxid`] forward.
    ///
    /// A transaction that was applied before, or whose effects a fuzzy snapshot holds, leads to the same
    /// tree. Where such a snapshot makes a deletion meet a node with children, the children go too
    /// (silently): they are younger than the deletion, so replay is about to create them again.
    pub fn apply<'t>(
        &mut self,
        header: &TxnHeader,
        txn: &'t Txn<'_>,
        changes: Option<&mut Vec<Change<'t>>>,
    ) -> Outcome {
        self.apply_in(header, txn, &mut Scope { changes, places: Places::UNKNOWN, made: None })
    }

    /// [`Self::apply`] of a transaction that `prep` prepared, and that is its oldest.
    pub fn apply_prepared<'t>(
        &mut self,
        header: &TxnHeader,
        txn: &'t Txn<'_>,
        changes: Option<&mut Vec<Change<'t>>>,
        prep: &Prep,
    ) -> Outcome {
        self.apply_in(header, txn, &mut Scope { changes, places: prep.places(header.zxid), made: None })
    }

    /// [`Self::apply`] of a transaction of the log, and `made` is what a [`crate::NodeMaker`] made of it.
    ///
    /// # Panics
    /// When the znode was made of another transaction.
    pub fn replay(&mut self, header: &TxnHeader, txn: &Txn<'_>, made: Option<ReadyNode>) -> Outcome {
        self.apply_in(header, txn, &mut Scope { changes: None, places: Places::UNKNOWN, made })
    }

    fn apply_in<'t>(&mut self, header: &TxnHeader, txn: &'t Txn<'_>, scope: &mut Scope<'_, 't>) -> Outcome {
        let outcome = match txn {
            Txn::Error(code) => Outcome::Failed(*code),
            Txn::CreateSession(timeout) => {
                self.sessions.open(header.session, *timeout);
                Outcome::Done
            }
            Txn::CloseSession(listed) => {
                self.close_session(header, listed.as_deref().unwrap_or_default(), scope);
                Outcome::Done
            }
            Txn::SetAcl(t) => self.set_acl(t, scope),
            Txn::Multi(txns) => Outcome::Multi(self.apply_multi(header, txns, scope)),
            Txn::Create(_)
            | Txn::Create2(_)
            | Txn::CreateContainer(_)
            | Txn::CreateTtl(_)
            | Txn::Delete(_)
            | Txn::DeleteContainer(_)
            | Txn::SetData(_)
            | Txn::Reconfig(_)
            | Txn::Check(_) => self.apply_op(header, txn, scope),
        };
        self.zxid = self.zxid.max(header.zxid);
        if self.config.digest {
            self.digest_log.note(header.zxid, self.digest);
        }
        outcome
    }

    fn apply_multi<'t>(&mut self, header: &TxnHeader, txns: &'t [Txn<'_>], scope: &mut Scope<'_, 't>) -> Vec<Outcome> {
        let code = |t: &Txn<'_>| if let Txn::Error(code) = t { Some(*code) } else { None };
        if txns.iter().any(|t| code(t).is_some()) {
            return txns.iter().map(|t| Outcome::Failed(code(t).unwrap_or(0))).collect();
        }
        txns.iter().map(|t| self.apply_op(header, t, scope)).collect()
    }

    /// An operation that may stand in a multi.
    fn apply_op<'t>(&mut self, header: &TxnHeader, txn: &'t Txn<'_>, scope: &mut Scope<'_, 't>) -> Outcome {
        match txn {
            Txn::Create(_) | Txn::Create2(_) | Txn::CreateContainer(_) | Txn::CreateTtl(_) => {
                match Creation::of(header, txn) {
                    Some(creation) => self.create(header.zxid, &creation, scope),
                    None => failed(ErrorCode::BadArguments),
                }
            }
            Txn::Delete(path) | Txn::DeleteContainer(path) => self.delete(header.zxid, Cow::Borrowed(path), scope),
            Txn::SetData(t) | Txn::Reconfig(t) => self.set_data(header, t, scope),
            Txn::Check(_) => Outcome::Done,
            Txn::Error(code) => Outcome::Failed(*code),
            Txn::SetAcl(_) | Txn::CreateSession(_) | Txn::CloseSession(_) | Txn::Multi(_) => {
                // The decoder refuses them, so only our own preparation could have put them here.
                unreachable!("no multi holds a {:?}", txn.kind())
            }
        }
    }

    fn create<'t>(&mut self, zxid: Zxid, creation: &Creation<'t>, scope: &mut Scope<'_, 't>) -> Outcome {
        let path = creation.path;
        let Some((parent_path, name)) = split(path) else { return failed(ErrorCode::NoNode) };
        if name.is_empty() {
            return failed(ErrorCode::BadArguments);
        }
        let near = scope.places.next();
        // The znode itself was nowhere.
        let _ = scope.places.next();
        let Some(parent) = self.find_near(parent_path, near) else { return failed(ErrorCode::NoNode) };
        let acl = self.acls.intern(creation.acl);
        let id = self.arena.next_id();
        if !self.index.insert_new(&self.arena, path, id) {
            let id = self.find(path).expect("what the index has is found");
            let old = self.arena.get(id).acl();
            self.arena.set_acl(id, acl);
            self.acls.release(old);
            if creation.fixes_parent {
                let mut fields = self.arena.get(parent).fields();
                if count_creation(&mut fields, creation.parent_cversion, zxid) {
                    self.set_stat(parent_path, parent, &fields);
                }
            }
            return failed(ErrorCode::NodeExists);
        }
        let made = scope.made.take();
        let node = made.unwrap_or_else(|| self.maker.made(path, name, creation.data, creation.stat));
        assert!(node.is_of(path, zxid), "a znode is taken in by the transaction of which it was made");
        self.place(id, parent, acl, node);
        let mut fields = self.arena.get(parent).fields();
        if count_creation(&mut fields, creation.parent_cversion, zxid) {
            self.reshare(parent_path, parent, &mut fields);
        }
        self.arena.link(&mut fields, id);
        self.arena.set_fields(parent, &fields);
        if let Some(governed) = governed_path(parent_path) {
            match name {
                LIMITS => self.quotas.insert(governed),
                STATS => self.recount_usage(governed),
                _ => {}
            }
        }
        self.add_usage(path, 1, creation.data.map_or(0, <[u8]>::len) as i64);
        scope.tell(|| Change {
            kind: EventType::NodeCreated,
            path: Cow::Borrowed(path),
            acl: SharedAcl::clone(self.acls.get(acl)),
        });
        scope.tell(|| Change {
            kind: EventType::NodeChildrenChanged,
            path: Cow::Borrowed(event_path(parent_path)),
            acl: self.shared_acl(self.arena.get(parent).acl()),
        });
        // Read again: usage may have been written to this very znode.
        Outcome::Created { path: path.to_owned(), stat: Node { tree: self, id }.stat() }
    }

    fn delete<'t>(&mut self, zxid: Zxid, path: Cow<'t, str>, scope: &mut Scope<'_, 't>) -> Outcome {
        let Some((parent_path, name)) = split(&path) else { return failed(ErrorCode::NoNode) };
        let (near_parent, near) = (scope.places.next(), scope.places.next());
        let Some(parent) = self.find_near(parent_path, near_parent) else { return failed(ErrorCode::NoNode) };
        if name.is_empty() || crate::tree::BUILT_IN.contains(&&*path) {
            // No leader lets it pass, and the tree relies on these nodes.
            return failed(ErrorCode::BadArguments);
        }
        let mut fields = self.arena.get(parent).fields();
        if zxid > fields.stat.pzxid {
            fields.stat.pzxid = zxid;
            self.set_stat(parent_path, parent, &fields);
        }
        let Some(id) = self.find_near(&path, near) else { return failed(ErrorCode::NoNode) };
        let acl = scope.is_wanted().then(|| self.shared_acl(self.arena.get(id).acl()));
        if self.arena.get(id).child_count() > 0 {
            let mut below = Vec::new();
            self.walk(id, |id| below.push(id));
            for &child in below[1..].iter().rev() {
                let path = self.path_of(child);
                self.detach(&path, child);
            }
        }
        self.detach(&path, id);
        if let Some(acl) = acl {
            let parent_path = match &path {
                Cow::Borrowed(path) => Cow::Borrowed(event_path(&path[..parent_path.len()])),
                Cow::Owned(_) => Cow::Owned(event_path(parent_path).to_owned()),
            };
            scope.tell(|| Change { kind: EventType::NodeDeleted, path, acl });
            let parent_acl = || self.shared_acl(self.arena.get(parent).acl());
            scope.tell(|| Change { kind: EventType::NodeChildrenChanged, path: parent_path, acl: parent_acl() });
        }
        Outcome::Done
    }

    /// Removes a childless znode from everywhere, the quota's usage included. The parent keeps its stat.
    fn detach(&mut self, path: &str, id: NodeId) {
        self.digest_changes(self.arena.get(id).share(), 0);
        let block = self.arena.get(id);
        let (parent, acl, data_len) = (block.parent(), block.acl(), block.data_len());
        let owner = self.owner_of(block.fields().stat.ephemeral_owner);
        self.sessions.remove(owner, id);
        self.index.remove(path, id);
        let mut fields = self.arena.get(parent).fields();
        self.arena.unlink(&mut fields, id);
        self.arena.set_fields(parent, &fields);
        self.arena.remove(id);
        self.acls.release(acl);
        self.size -= path_size(path) + data_len as u64;
        if let Some((parent_path, LIMITS)) = split(path)
            && let Some(governed) = governed_path(parent_path)
        {
            self.quotas.remove(governed);
        }
        self.add_usage(path, -1, -(data_len as i64));
    }

    fn set_data<'t>(&mut self, header: &TxnHeader, txn: &'t SetDataTxn<'_>, scope: &mut Scope<'_, 't>) -> Outcome {
        let path = &*txn.path;
        let Some(id) = self.find_near(path, scope.places.next()) else { return failed(ErrorCode::NoNode) };
        let data = txn.data.as_deref();
        let block = self.arena.get(id);
        let grown = data.map_or(0, <[u8]>::len) as i64 - block.data_len() as i64;
        let acl = block.acl();
        let mut fields = block.fields();
        fields.stat.mtime = header.time;
        fields.stat.mzxid = header.zxid;
        fields.stat.version = txn.version;
        let share = self.share(path, data, &fields.stat);
        self.digest_changes(fields.share, share);
        fields.share = share;
        self.arena.set_data(id, &fields, data);
        self.size = self.size.checked_add_signed(grown).expect("the size counts what is there");
        let counted_at = self.add_usage(path, 0, grown);
        scope.tell(|| Change {
            kind: EventType::NodeDataChanged,
            path: Cow::Borrowed(event_path(path)),
            acl: self.shared_acl(acl),
        });
        if counted_at == Some(id) {
            // The usage was written over what was set.
            return Outcome::Stat(Node { tree: self, id }.stat());
        }
        let owner = self.owner_of(fields.stat.ephemeral_owner);
        Outcome::Stat(visible_stat(&fields.stat, owner, data.map_or(0, <[u8]>::len), fields.child_count))
    }

    fn set_acl(&mut self, txn: &SetAclTxn<'_>, scope: &mut Scope<'_, '_>) -> Outcome {
        let path = &*txn.path;
        let Some(id) = self.find_near(path, scope.places.next()) else {
            return Outcome::Failed(ErrorCode::NoNode.code());
        };
        let new = self.acls.intern(&txn.acl);
        let old = self.arena.get(id).acl();
        let mut fields = self.arena.get(id).fields();
        fields.stat.aversion = txn.version;
        self.set_stat(path, id, &fields);
        self.arena.set_acl(id, new);
        self.acls.release(old);
        Outcome::Stat(Node { tree: self, id }.stat())
    }

    fn close_session<'t>(&mut self, header: &TxnHeader, listed: &'t [Cow<'_, str>], scope: &mut Scope<'_, 't>) {
        self.sessions.close(header.session);
        if farrier_proto::planted!(EphemeralSurvivesSession) {
            for path in self.ephemerals(header.session).into_iter().skip(1) {
                self.delete(header.zxid, Cow::Owned(path), scope);
            }
            return;
        }
        for path in listed {
            self.delete(header.zxid, Cow::Borrowed(path), scope);
        }
        for path in self.ephemerals(header.session) {
            self.delete(header.zxid, Cow::Owned(path), scope);
        }
    }

    /// Adds to the usage under the deepest quota that encloses `path`. The znode that tells it, if there is one.
    fn add_usage(&mut self, path: &str, count: i64, bytes: i64) -> Option<NodeId> {
        let governed = self.quotas.enclosing(path)?;
        let stats = self.find(&stats_path(governed))?;
        let mut usage = read_usage(self.arena.get(stats).data());
        usage.add(count, bytes);
        self.write_usage(stats, &usage);
        Some(stats)
    }

    /// Counts the usage under the quota on `path` anew.
    pub(crate) fn recount_usage(&mut self, path: &str) {
        let Some(stats) = self.find(&stats_path(path)) else { return };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.find(path) {
            self.walk(top, |id| {
                count += 1;
                bytes += self.arena.get(id).data_len() as i64;
            });
        }
        self.write_usage(stats, &QuotaText::usage(count, bytes));
    }

    /// Data of a stats node; nothing else of it changes, and it has no part in the digest.
    fn write_usage(&mut self, stats: NodeId, usage: &QuotaText) {
        let text = usage.to_string();
        let block = self.arena.get(stats);
        let fields = block.fields();
        let grown = text.len() as i64 - block.data_len() as i64;
        self.arena.set_data(stats, &fields, Some(text.as_bytes()));
        self.size = self.size.checked_add_signed(grown).expect("the size counts what is there");
    }
}
