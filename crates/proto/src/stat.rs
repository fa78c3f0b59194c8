//! The stat of a znode, as clients see it and as snapshots store it.

use crate::Zxid;
use crate::jute::plain_record;

plain_record! {
    /// What clients see of a znode besides its data; 68 bytes on the wire.
    pub struct Stat {
        /// Transaction that created it.
        pub czxid: Zxid,
        /// Transaction that last set its data.
        pub mzxid: Zxid,
        /// Creation time, wall-clock milliseconds of the leader.
        pub ctime: i64,
        /// Time of the last setData.
        pub mtime: i64,
        /// Number of setData so far; wraps.
        pub version: i32,
        /// Changes of the list of children: twice the stored count of creations, less the children.
        pub cversion: i32,
        /// Number of setACL so far.
        pub aversion: i32,
        /// Owning session of an ephemeral, otherwise 0 (containers and TTL nodes too).
        pub ephemeral_owner: i64,
        /// Bytes of data; 0 for null.
        pub data_length: i32,
        /// Direct children.
        pub num_children: i32,
        /// Transaction that last created or deleted a direct child.
        pub pzxid: Zxid,
    }

    /// What a snapshot stores of a znode besides path, data and ACL; 60 bytes.
    pub struct StatPersisted {
        /// See [`Stat::czxid`].
        pub czxid: Zxid,
        /// See [`Stat::mzxid`].
        pub mzxid: Zxid,
        /// See [`Stat::ctime`].
        pub ctime: i64,
        /// See [`Stat::mtime`].
        pub mtime: i64,
        /// See [`Stat::version`].
        pub version: i32,
        /// Creations of children so far: the counter of sequential names, not the value that clients see.
        pub cversion: i32,
        /// See [`Stat::aversion`].
        pub aversion: i32,
        /// Raw owner, markers of containers and TTL nodes included; see [`crate::Owner`].
        pub ephemeral_owner: i64,
        /// See [`Stat::pzxid`].
        pub pzxid: Zxid,
    }
}

impl Copy for Stat {}
impl Copy for StatPersisted {}

impl StatPersisted {
    /// Of the built-in nodes of a virgin tree.
    pub const ZERO: Self = Self {
        czxid: Zxid::ZERO,
        mzxid: Zxid::ZERO,
        ctime: 0,
        mtime: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        pzxid: Zxid::ZERO,
    };
}

impl Stat {
    /// Bytes on the wire.
    pub const LEN: usize = 68;
}
