//! Who proposed what on top of what: the tree of proposals, and how far of it is committed.
//!
//! A leader's proposals of an epoch are a chain, so a branch of the tree is an epoch, and its foot is what the epoch's
//! first proposal stands on.

use crate::observe::Moment;
use bytes::Bytes;
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// A transaction as it was first handed to a log: on the leader that proposed it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What its log ended with.
    pub parent: Zxid,
    /// Header, body and digest.
    pub txn: Bytes,
    /// Whose log it was.
    pub by: ServerId,
    /// When.
    pub at: Moment,
}

/// All proposals, and those that are committed.
#[derive(Debug, Default)]
pub struct History {
    proposals: BTreeMap<Zxid, Proposal>,
    /// By epoch: what its first proposal stands on.
    feet: BTreeMap<u32, Zxid>,
    /// In order.
    committed: Vec<Zxid>,
}

impl History {
    /// The proposal with this number.
    #[must_use]
    pub fn proposal(&self, zxid: Zxid) -> Option<&Proposal> {
        self.proposals.get(&zxid)
    }

    /// The last committed transaction; [`Zxid::ZERO`] before the first.
    #[must_use]
    pub fn tip(&self) -> Zxid {
        self.committed.last().copied().unwrap_or_default()
    }

    /// Everything committed, in order.
    #[must_use]
    pub fn committed(&self) -> &[Zxid] {
        &self.committed
    }

    /// Whether a history that ends with `has` lacks something committed that the one which ends with `had` holds.
    #[must_use]
    pub fn lacks(&self, has: Zxid, had: Zxid) -> bool {
        let newest = self.committed.iter().rev().find(|zxid| self.holds(had, **zxid));
        newest.is_some_and(|zxid| !self.holds(has, *zxid))
    }

    /// How many committed transactions there are up to this one; `None` if it is not among them.
    #[must_use]
    pub fn position(&self, zxid: Zxid) -> Option<usize> {
        if zxid == Zxid::ZERO {
            return Some(0);
        }
        self.committed.binary_search(&zxid).ok().map(|i| i + 1)
    }

    /// Whether whoever has `later` has `zxid` too.
    #[must_use]
    pub fn holds(&self, later: Zxid, zxid: Zxid) -> bool {
        let mut at = later;
        loop {
            if at.epoch() == zxid.epoch() || zxid == Zxid::ZERO {
                return zxid <= at;
            }
            match self.feet.get(&at.epoch()) {
                Some(foot) if at > zxid => at = *foot,
                _ => return false,
            }
        }
    }

    /// What lies between `from` (exclusive) and `to` (inclusive); `None` if `to` does not stand on `from`.
    #[must_use]
    pub fn between(&self, from: Zxid, to: Zxid) -> Option<Vec<Zxid>> {
        let mut path = Vec::new();
        let mut at = to;
        while at != from {
            if at < from {
                return None;
            }
            path.push(at);
            at = self.proposals.get(&at)?.parent;
        }
        path.reverse();
        Some(path)
    }

    pub(super) fn propose(&mut self, zxid: Zxid, proposal: Proposal) -> bool {
        if self.proposals.contains_key(&zxid) {
            return false;
        }
        self.feet.entry(zxid.epoch()).or_insert(proposal.parent);
        self.proposals.insert(zxid, proposal);
        true
    }

    pub(super) fn commit(&mut self, zxid: Zxid) {
        self.committed.push(zxid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_and_what_they_hold() {
        let mut h = History::default();
        let mut add = |zxid, parent| {
            let proposal = Proposal { parent, txn: Bytes::new(), by: ServerId(1), at: Moment::default() };
            assert!(h.propose(zxid, proposal));
        };
        let z = Zxid::new;
        add(z(1, 1), Zxid::ZERO);
        add(z(1, 2), z(1, 1));
        add(z(1, 3), z(1, 2));
        add(z(2, 1), z(1, 2));
        add(z(3, 1), z(1, 3));
        assert!(h.holds(z(2, 1), z(1, 2)) && !h.holds(z(2, 1), z(1, 3)));
        assert!(h.holds(z(3, 1), z(1, 3)) && !h.holds(z(3, 1), z(2, 1)));
        assert!(h.holds(z(1, 1), Zxid::ZERO) && h.holds(Zxid::ZERO, Zxid::ZERO) && !h.holds(Zxid::ZERO, z(1, 1)));
        assert_eq!(h.between(z(1, 1), z(2, 1)), Some(vec![z(1, 2), z(2, 1)]));
        assert_eq!(h.between(z(1, 3), z(2, 1)), None);
        assert_eq!(h.between(z(2, 1), z(2, 1)), Some(vec![]));
    }
}
