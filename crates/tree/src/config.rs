//! What the tree has to know of a server's configuration.

/// Settings that change what transactions and stored owners mean. All members of an ensemble have to
/// agree on the first two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeConfig {
    /// `zookeeper.extendedTypesEnabled`: owners with the TTL mark are TTL nodes. Off, they are
    /// ephemerals of a session that never existed.
    pub extended_types: bool,
    /// `zookeeper.emulate353TTLNodes`: negative owners of 3.5.3 are TTL nodes too.
    pub ttl_353: bool,
    /// `zookeeper.digest.enabled`: keep a digest of the tree. Off, it is 0 and costs nothing.
    pub digest: bool,
    /// `zookeeper.closeSessionTxn.enabled`: the transaction that closes a session lists its ephemerals. Off
    /// only for followers of 3.5; such a transaction gets no digest here, since Apache's servers with the list on
    /// would read it as the body (what Apache's servers with the list off write has one, and is read).
    pub list_closed: bool,
    /// `zookeeper.enforceQuota`: refuse writes beyond a hard quota.
    pub enforce_quota: bool,
}

impl Default for TreeConfig {
    /// The defaults of Apache ZooKeeper 3.9.
    fn default() -> Self {
        Self { extended_types: false, ttl_353: false, digest: true, list_closed: true, enforce_quota: false }
    }
}
