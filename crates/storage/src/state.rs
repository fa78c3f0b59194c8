//! What storage needs to know of a replica's state: how to fill it and how to walk it.

use farrier_proto::stat::StatPersisted;
use farrier_proto::{Acl, SessionId, Txn, TxnDigest, TxnHeader, Zxid};

/// A znode as a snapshot stores it.
#[derive(Clone, Copy, Debug)]
pub struct NodeRecord<'a> {
    /// Full path; `""` for the root.
    pub path: &'a str,
    /// Data; null and empty are distinct.
    pub data: Option<&'a [u8]>,
    /// Key into the ACL table; -1 is world:anyone with all permissions and is not in the table.
    pub acl: i64,
    /// Everything else.
    pub stat: StatPersisted,
}

/// The digest in a snapshot's trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotDigest {
    /// The transaction after which the tree has this digest; 0 for none.
    pub zxid: Zxid,
    /// Algorithm; see [`TxnDigest::VERSION`].
    pub version: i32,
    /// The digest.
    pub digest: u64,
}

/// A record that the state cannot take: it contradicts what came before. Says why; storage adds file
/// and offset.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

/// A state that recovery fills: one snapshot (or none), then transactions in order.
pub trait Restore {
    /// Forgets everything: a snapshot turned out to be unusable, and an older one follows.
    fn reset(&mut self);
    /// A session of the snapshot and its timeout in milliseconds.
    fn session(&mut self, session: SessionId, timeout: i32) -> Result<(), RestoreError>;
    /// An entry of the snapshot's ACL table.
    fn acl(&mut self, key: i64, acl: Vec<Acl<'_>>) -> Result<(), RestoreError>;
    /// A znode of the snapshot; parents come before children.
    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), RestoreError>;
    /// The snapshot is complete: the state is that of `zxid` (from the file's name), and of nothing
    /// later if the snapshot was point-in-time. Not called when there is no snapshot.
    fn loaded(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), RestoreError>;
    /// The next logged transaction. Results like "no node" are ordinary here: a fuzzy snapshot may
    /// contain effects of later transactions.
    fn replay(&mut self, header: &TxnHeader, txn: &Txn<'_>, digest: Option<TxnDigest>) -> Result<(), RestoreError>;
}

/// A point-in-time state to be written as a snapshot.
pub trait Image: Send + 'static {
    /// The transaction that the image ends with.
    fn zxid(&self) -> Zxid;
    /// Digest of the tree, unless digests are off.
    fn digest(&self) -> Option<u64>;
    /// Sessions with their timeouts in milliseconds.
    fn sessions(&self) -> Vec<(SessionId, i32)>;
    /// The ACL table.
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)>;
    /// Calls `visit` for every znode, parents before children, and stops at its first error.
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E>
    where
        Self: Sized;
}
