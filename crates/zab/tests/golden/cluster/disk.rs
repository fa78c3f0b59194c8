//! A server's disk: what survives a crash, and what writes make of it.

use crate::print;
use bytes::Bytes;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use farrier_zab::{Located, Recovering};

/// What a tree is here: everything that was ever applied to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) zxid: Zxid,
    pub(crate) applied: Vec<(Zxid, Bytes)>,
}

impl Tree {
    pub(crate) fn apply(&mut self, zxid: Zxid, txn: Bytes) {
        assert!(zxid > self.zxid, "{} is applied behind {}", print::zxid(zxid), print::zxid(self.zxid));
        self.zxid = zxid;
        self.applied.push((zxid, txn));
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) accepted: u32,
    pub(crate) current: u32,
    pub(crate) recovering: Recovering,
    pub(crate) snapshot: Tree,
    pub(crate) log: Vec<(Zxid, Bytes)>,
}

impl Disk {
    pub(super) fn empty() -> Self {
        Self { accepted: 0, current: 0, recovering: Recovering::No, snapshot: Tree::default(), log: Vec::new() }
    }

    pub(super) fn last(&self) -> Zxid {
        self.log.last().map_or(self.snapshot.zxid, |(zxid, _)| *zxid)
    }

    pub(super) fn tree(&self) -> Tree {
        let mut tree = self.snapshot.clone();
        for (zxid, txn) in &self.log {
            tree.apply(*zxid, txn.clone());
        }
        tree
    }

    /// Carries a write out.
    pub(super) fn take(&mut self, write: Write) -> Written {
        match write {
            Write::Append(zxid, txn) => {
                let last = self.last();
                assert!(zxid.follows(last), "{} is logged behind {}", print::zxid(zxid), print::zxid(last));
                self.log.push((zxid, txn));
            }
            Write::Recovering => self.recovering = Recovering::Promise,
            Write::Accepted(epoch) => self.accepted = epoch.0,
            Write::Current(epoch) => {
                self.current = epoch.0;
                self.recovering = Recovering::No;
            }
            Write::Truncate(after) => return Written::Truncated(self.cut(after)),
            Write::Install(tree, epoch) => {
                self.snapshot = tree;
                self.log.clear();
                self.current = epoch.0;
                self.recovering = Recovering::No;
            }
            Write::Reload => return Written::Reloaded,
        }
        Written::Durable
    }

    fn cut(&mut self, after: Zxid) -> bool {
        let known = after == self.snapshot.zxid || self.log.iter().any(|(zxid, _)| *zxid == after);
        if known {
            self.log.retain(|(zxid, _)| *zxid <= after);
        }
        known
    }

    pub(super) fn locate(&self, zxid: Zxid) -> Located {
        let logged = self.log.iter().map(|(z, _)| *z).rfind(|z| *z <= zxid);
        let before = logged.or_else(|| (self.snapshot.zxid <= zxid).then_some(self.snapshot.zxid));
        let behind = self.log.iter().filter(|(z, _)| before.is_some_and(|before| *z > before));
        Located { before, bytes_behind: behind.map(|(_, txn)| txn.len() as u64).sum(), snapshot_bytes: 1000 }
    }

    pub(super) fn read(&self, after: Zxid, to: Zxid) -> Vec<(Zxid, Bytes)> {
        if after < self.snapshot.zxid {
            return Vec::new();
        }
        self.log.iter().filter(|(zxid, _)| *zxid > after && *zxid <= to).cloned().collect()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Append(Zxid, Bytes),
    Recovering,
    Accepted(AcceptedEpoch),
    Current(CurrentEpoch),
    Truncate(Zxid),
    Install(Tree, CurrentEpoch),
    Reload,
}

/// What a write that is done is answered with.
pub(super) enum Written {
    Durable,
    /// Whether it could be.
    Truncated(bool),
    Reloaded,
}
