//! What storage needs to know of a replica's state: how to fill it and how to walk it.

use farrier_proto::stat::StatPersisted;
use farrier_proto::txn::read_txn;
use farrier_proto::{Acl, DecodeError, SessionId, Txn, TxnDigest, TxnHeader, Zxid};

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

/// A transaction as it stands in the log, and what that says.
#[derive(Clone, Debug)]
pub struct LoggedTxn<'a> {
    /// All of it, for a state that does not decode it here and now.
    pub bytes: &'a [u8],
    /// How it starts.
    pub header: TxnHeader,
    /// What it does.
    pub txn: Txn<'a>,
    /// Of the tree after it.
    pub digest: Option<TxnDigest>,
}

impl<'a> LoggedTxn<'a> {
    /// Decodes a transaction.
    ///
    /// # Errors
    /// As [`read_txn`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, txn, digest) = read_txn(bytes)?;
        Ok(Self { bytes, header, txn, digest })
    }
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
///
/// A state may take in later what it is handed, on another thread. What it refuses of a snapshot it then says at a later
/// call, at [`Self::loaded`] at the latest.
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
    /// contain effects of later transactions. What is refused is refused at once: the log is cut here.
    fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), RestoreError>;
    /// All that was to be read was handed over: returns once it has been taken in. Until then nothing on disk changes.
    fn catch_up(&mut self) {}
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
