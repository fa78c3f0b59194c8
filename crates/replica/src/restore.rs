//! Filling a tree from what recovery reads.

use farrier_proto::{Acl, SessionId, Txn, TxnDigest, Zxid};
use farrier_storage::{LoggedTxn, NodeRecord, Restore, RestoreError, SnapshotDigest};
use farrier_tree::{NodeMaker, ReadyNode, Tree, TreeConfig, TreeLoader};

/// Znodes without ACL that a warning names.
const UNLISTED_NAMED: usize = 10;

/// The state that recovery restores: [`Replica::standalone`](crate::Replica::standalone) takes it over.
#[derive(Debug)]
pub struct TreeRestore {
    config: TreeConfig,
    hash_seed: u64,
    stage: Stage,
    /// Digests are compared once this transaction is applied: up to it, a fuzzy snapshot may hold
    /// effects of transactions that are replayed again.
    compare_from: Option<(Zxid, u64)>,
    from: Zxid,
    fuzzy_until: Zxid,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Stage {
    Loading(Box<TreeLoader>),
    Replaying(Box<Tree>),
}

impl TreeRestore {
    /// An empty state. `hash_seed` should be drawn anew for every process, so that nobody can choose paths
    /// that collide in its index; it changes nothing that can be seen.
    #[must_use]
    pub fn new(config: TreeConfig, hash_seed: u64) -> Self {
        let stage = Stage::Loading(Box::new(TreeLoader::with_hash_seed(config, hash_seed)));
        Self {
            config,
            hash_seed,
            stage,
            compare_from: None,
            from: Zxid::ZERO,
            fuzzy_until: Zxid::ZERO,
            warnings: Vec::new(),
        }
    }

    /// What an operator should know about the restored state.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if let Stage::Replaying(tree) = &self.stage {
            let (znodes, first) = tree.unlisted(UNLISTED_NAMED);
            if znodes > 0 {
                let more = if znodes > first.len() { ", …" } else { "" };
                warnings.push(format!(
                    "znodes whose ACL the snapshot lacks: {znodes} ({}{more}); only a super user can use them until it is set",
                    first.join(", ")
                ));
            }
        }
        warnings
    }

    /// An image of the state as it is now, for the first snapshot of a fresh directory.
    #[must_use]
    pub fn image(&mut self) -> crate::io::SnapshotImage {
        crate::io::SnapshotImage(self.tree().image())
    }

    /// The digest of the state as it is now.
    #[must_use]
    pub fn digest(&mut self) -> u64 {
        self.tree().digest()
    }

    /// A maker of znodes for [`Self::ready`] and [`Self::replay_made`].
    #[must_use]
    pub const fn maker(&self) -> NodeMaker {
        NodeMaker::new(self.config)
    }

    /// [`Restore::node`] of a znode that was made apart, by a [`Self::maker`], with its path and the key of its ACL.
    ///
    /// # Errors
    /// When the path is taken or without parent, or the snapshot has ended.
    ///
    /// # Panics
    /// When the znode was made of a path of another length.
    pub fn ready(&mut self, path: &str, acl: i64, node: ReadyNode) -> Result<(), RestoreError> {
        self.loader()?.ready(path, acl, node).map_err(RestoreError)
    }

    /// [`Restore::replay`] of a transaction whose znode was made apart, by a [`Self::maker`].
    ///
    /// # Panics
    /// When the znode was made of another transaction.
    pub fn replay_made(&mut self, txn: &LoggedTxn<'_>, made: Option<ReadyNode>) {
        let LoggedTxn { header, txn, digest, .. } = txn;
        let tree = self.tree();
        tree.replay(header, txn, made);
        if let Some((zxid, digest)) = self.compare_from
            && header.zxid >= zxid
        {
            self.compare_from = None;
            if header.zxid == zxid {
                self.compare(zxid, digest);
            }
        }
        if let Some(d) = digest
            && self.config.digest
            && d.version == TxnDigest::VERSION
            && header.zxid > self.fuzzy_until
            && self.warnings.is_empty()
        {
            self.compare(header.zxid, d.tree.cast_unsigned());
        }
    }

    /// Tells which transactions are going to be replayed next; see [`Tree::foresee`]. It changes nothing.
    pub fn foresee(&self, txns: &[LoggedTxn<'_>]) {
        if let Stage::Replaying(tree) = &self.stage {
            tree.foresee(txns.iter().filter_map(|txn| path_of(&txn.txn)).map(str::as_bytes));
        }
    }

    /// Ends a state that came over the network, and is the one at `zxid`.
    pub(crate) fn received(mut self, zxid: Zxid) -> Result<Self, RestoreError> {
        self.loaded(zxid, None)?;
        Ok(self)
    }

    /// Up to here the state may hold effects of transactions that come again: the snapshot under it was taken while
    /// they were applied.
    pub(crate) const fn fuzzy_until(&self) -> Zxid {
        self.fuzzy_until
    }

    /// The snapshot that the state was made from; zero for none.
    pub(crate) const fn begins_at(&self) -> Zxid {
        self.from
    }

    pub(crate) fn into_tree(mut self) -> Tree {
        self.tree();
        match self.stage {
            Stage::Replaying(tree) => *tree,
            Stage::Loading(_) => unreachable!("tree() has just ended the loading"),
        }
    }

    /// The tree; without a snapshot, the virgin one.
    pub(crate) fn tree(&mut self) -> &mut Tree {
        if matches!(self.stage, Stage::Loading(_)) {
            self.stage = Stage::Replaying(Box::new(Tree::with_hash_seed(self.config, self.hash_seed)));
        }
        match &mut self.stage {
            Stage::Replaying(tree) => tree,
            Stage::Loading(_) => unreachable!("the loading has just ended"),
        }
    }

    fn loader(&mut self) -> Result<&mut TreeLoader, RestoreError> {
        match &mut self.stage {
            Stage::Loading(loader) => Ok(loader),
            Stage::Replaying(_) => Err(RestoreError("a snapshot record behind the end of the snapshot".into())),
        }
    }

    fn compare(&mut self, zxid: Zxid, digest: u64) {
        let have = self.tree().digest();
        if have != digest {
            self.warnings.push(format!(
                "the tree at {zxid} has the digest {have:#x}, on disk stands {digest:#x}: this directory and its ensemble may have diverged before"
            ));
        }
    }
}

impl Restore for TreeRestore {
    fn reset(&mut self) {
        *self = Self::new(self.config, self.hash_seed);
    }

    fn session(&mut self, session: SessionId, timeout: i32) -> Result<(), RestoreError> {
        self.loader()?.session(session, timeout);
        Ok(())
    }

    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), RestoreError> {
        self.loader()?.acl(key, acl).map_err(RestoreError)
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError> {
        self.loader()?.node(node.path, node.data, node.acl, node.stat).map_err(RestoreError)
    }

    fn loaded(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), RestoreError> {
        let fresh = Stage::Loading(Box::new(TreeLoader::with_hash_seed(self.config, self.hash_seed)));
        let Stage::Loading(loader) = std::mem::replace(&mut self.stage, fresh) else {
            return Err(RestoreError("a snapshot ends twice".into()));
        };
        self.stage = Stage::Replaying(Box::new(loader.finish(zxid).map_err(RestoreError)?));
        self.from = zxid;
        if let Some(d) = digest
            && self.config.digest
            && d.version == TxnDigest::VERSION
            && d.zxid != Zxid::ZERO
            && d.zxid >= zxid
        {
            self.fuzzy_until = d.zxid;
            if d.zxid == zxid {
                self.compare(zxid, d.digest);
            } else {
                self.compare_from = Some((d.zxid, d.digest));
            }
        }
        Ok(())
    }

    fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), RestoreError> {
        self.replay_made(txn, None);
        Ok(())
    }
}

/// Where a transaction changes something, if that is one place.
fn path_of<'t>(txn: &'t Txn<'_>) -> Option<&'t str> {
    match txn {
        Txn::Create(t) | Txn::Create2(t) => Some(&t.path),
        Txn::CreateContainer(t) => Some(&t.path),
        Txn::CreateTtl(t) => Some(&t.path),
        Txn::Delete(path) | Txn::DeleteContainer(path) => Some(path),
        Txn::SetData(t) => Some(&t.path),
        Txn::SetAcl(t) => Some(&t.path),
        Txn::Error(_)
        | Txn::CreateSession(_)
        | Txn::CloseSession(_)
        | Txn::Reconfig(_)
        | Txn::Check(_)
        | Txn::Multi(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::TxnHeader;
    use farrier_proto::stat::StatPersisted;
    use farrier_proto::txn::SetAclTxn;

    fn state(znodes: usize) -> TreeRestore {
        let mut state = TreeRestore::new(TreeConfig::default(), 1);
        state.acl(1, vec![Acl::world(31)]).unwrap();
        let paths = std::iter::once(String::new()).chain((1..=znodes).map(|n| format!("/n{n}")));
        for (n, path) in paths.enumerate() {
            let acl = if n == 0 { 1 } else { 7 };
            state.node(NodeRecord { path: &path, data: None, acl, stat: StatPersisted::ZERO }).unwrap();
        }
        state.loaded(Zxid::new(1, 0), None).unwrap();
        state
    }

    fn set_acl(state: &mut TreeRestore, counter: u32) {
        let txn = Txn::SetAcl(SetAclTxn { path: format!("/n{counter}").into(), acl: vec![Acl::world(1)], version: 1 });
        let zxid = Zxid::new(1, counter);
        let header = TxnHeader { session: SessionId(7), cxid: 0, zxid, time: 1, kind: txn.kind().code() };
        state.replay(&LoggedTxn { header, txn, digest: None, bytes: &[] }).unwrap();
    }

    #[test]
    fn acls_that_no_transaction_brings_are_warned_of() {
        assert_eq!(state(0).warnings(), [""; 0]);
        let mut two = state(2);
        set_acl(&mut two, 1);
        assert_eq!(
            two.warnings(),
            ["znodes whose ACL the snapshot lacks: 1 (/n2); only a super user can use them until it is set"]
        );
        set_acl(&mut two, 2);
        assert_eq!(two.warnings(), [""; 0]);
        let [warning] = &state(11).warnings()[..] else { panic!("one for all of them") };
        assert!(warning.contains(": 11 (/n1, ") && warning.contains("/n10, …)"), "{warning}");
    }
}
