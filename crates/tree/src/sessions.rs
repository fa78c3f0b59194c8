//! Sessions that the state knows, and the znodes that go without a client's asking: ephemerals by
//! session, containers and TTL nodes.
//!
//! Owns the sets of ids, ordered, so that everything derived from them is the same on every run.
//! Timing of sessions is none of its business.

use crate::arena::NodeId;
use farrier_proto::{Owner, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sessions with their timeouts in milliseconds.
pub(crate) type SessionTable = BTreeMap<SessionId, i32>;

/// Who owns what.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Shared with images; copied when a session comes or goes while one is held.
    table: Arc<SessionTable>,
    ephemerals: BTreeMap<SessionId, BTreeSet<NodeId>>,
    ephemeral_count: usize,
    containers: BTreeSet<NodeId>,
    ttls: BTreeSet<NodeId>,
}

impl Sessions {
    pub(crate) fn open(&mut self, session: SessionId, timeout: i32) {
        Arc::make_mut(&mut self.table).insert(session, timeout);
    }

    pub(crate) fn close(&mut self, session: SessionId) {
        if self.table.contains_key(&session) {
            Arc::make_mut(&mut self.table).remove(&session);
        }
    }

    pub(crate) fn table(&self) -> &Arc<SessionTable> {
        &self.table
    }

    /// Registers a znode with its owner.
    pub(crate) fn add(&mut self, owner: Owner, id: NodeId) {
        let fresh = match owner {
            Owner::Persistent => true,
            Owner::Ephemeral(session) => {
                self.ephemeral_count += 1;
                self.ephemerals.entry(session).or_default().insert(id)
            }
            Owner::Container => self.containers.insert(id),
            Owner::Ttl(_) => self.ttls.insert(id),
        };
        assert!(fresh, "a znode is registered with its owner once");
    }

    /// Takes a znode from its owner.
    pub(crate) fn remove(&mut self, owner: Owner, id: NodeId) {
        let known = match owner {
            Owner::Persistent => true,
            Owner::Ephemeral(session) => {
                let of_session = self.ephemerals.get_mut(&session);
                let of_session = of_session.expect("a session with an ephemeral has a set");
                let known = of_session.remove(&id);
                if of_session.is_empty() {
                    self.ephemerals.remove(&session);
                }
                self.ephemeral_count -= 1;
                known
            }
            Owner::Container => self.containers.remove(&id),
            Owner::Ttl(_) => self.ttls.remove(&id),
        };
        assert!(known, "a znode that goes is registered with its owner");
    }

    pub(crate) fn of_session(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.ephemerals.get(&session).into_iter().flatten().copied()
    }

    pub(crate) fn count_of_session(&self, session: SessionId) -> usize {
        self.ephemerals.get(&session).map_or(0, BTreeSet::len)
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    pub(crate) const fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = NodeId> {
        self.containers.iter().copied()
    }

    pub(crate) fn ttls(&self) -> impl Iterator<Item = NodeId> {
        self.ttls.iter().copied()
    }
}
