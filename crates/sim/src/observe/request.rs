//! What clients ask for, and what the answers say.

use bytes::Bytes;
use farrier_proto::client::{CreateMode, WatcherType};
use farrier_proto::{Acl, Stat, perms};

/// A request of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// create2, createContainer or createTTL; plain create if `plain`.
    Create {
        /// The path, or the prefix for sequential modes.
        path: String,
        /// The data.
        data: Bytes,
        /// The kind of znode.
        mode: CreateMode,
        /// Milliseconds, for TTL modes.
        ttl: Option<i64>,
        /// With the operation that answers without a stat.
        plain: bool,
    },
    /// delete.
    Delete {
        /// Which.
        path: String,
        /// Expected version; -1 for any.
        version: i32,
    },
    /// setData.
    SetData {
        /// Of which.
        path: String,
        /// The data.
        data: Bytes,
        /// Expected version; -1 for any.
        version: i32,
    },
    /// multi of creates, deletes, setData and checks.
    Multi(Vec<MultiPart>),
    /// exists.
    Exists {
        /// Which.
        path: String,
        /// Whether to leave a watch.
        watch: bool,
    },
    /// getData.
    GetData {
        /// Of which.
        path: String,
        /// Whether to leave a watch.
        watch: bool,
    },
    /// getChildren2.
    GetChildren {
        /// Of which.
        path: String,
        /// Whether to leave a watch.
        watch: bool,
    },
    /// setACL: everybody may do everything, and a network is named besides, of this number.
    SetAcl {
        /// Of which.
        path: String,
        /// Which network.
        network: u8,
        /// Expected aversion; -1 for any.
        version: i32,
    },
    /// getACL.
    GetAcl {
        /// Of which.
        path: String,
    },
    /// multiRead of getData and getChildren.
    MultiRead(Vec<ReadPart>),
    /// getEphemerals: those of the own session below a prefix.
    GetEphemerals {
        /// What their paths begin with.
        prefix: String,
    },
    /// getAllChildrenNumber.
    CountDescendants {
        /// Of which.
        path: String,
    },
    /// addWatch.
    AddWatch {
        /// Of which.
        path: String,
        /// Persistent-recursive instead of persistent.
        recursive: bool,
    },
    /// removeWatches.
    RemoveWatches {
        /// Of which.
        path: String,
        /// Which.
        kind: WatcherType,
    },
    /// setWatches2, the first request after a reconnect of a client that holds watches.
    SetWatches(HeldWatches),
    /// sync.
    Sync {
        /// Of which; it makes no difference.
        path: String,
    },
    /// closeSession.
    Close,
}

impl Request {
    /// Whether a transaction comes of it, be it one of an error.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Delete { .. }
                | Self::SetData { .. }
                | Self::SetAcl { .. }
                | Self::Multi(_)
                | Self::Close
        )
    }

    /// The list that setACL sets for a network.
    #[must_use]
    pub fn acl(network: u8) -> Vec<Acl<'static>> {
        let id = format!("10.0.{network}.1");
        vec![Acl::world(perms::ALL), Acl { perms: perms::READ, scheme: "ip".into(), id: id.into() }]
    }
}

/// An operation of a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiPart {
    /// create.
    Create {
        /// The path, or the prefix for sequential modes.
        path: String,
        /// The data.
        data: Bytes,
        /// Without TTL.
        mode: CreateMode,
        /// With the operation that answers without a stat.
        plain: bool,
    },
    /// delete.
    Delete {
        /// Which.
        path: String,
        /// Expected version; -1 for any.
        version: i32,
    },
    /// setData.
    SetData {
        /// Of which.
        path: String,
        /// The data.
        data: Bytes,
        /// Expected version; -1 for any.
        version: i32,
    },
    /// check.
    Check {
        /// Of which.
        path: String,
        /// Expected version; -1 for any.
        version: i32,
    },
}

/// An operation of a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadPart {
    /// getData.
    Data(String),
    /// getChildren.
    Children(String),
}

/// The watches that a client holds, as setWatches2 tells them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldWatches {
    /// The newest zxid of a reply that the client had.
    pub since: i64,
    /// One-shot, left on znodes that were there.
    pub data: Vec<String>,
    /// One-shot, left on znodes that were not there.
    pub exist: Vec<String>,
    /// One-shot, on children.
    pub child: Vec<String>,
    /// Persistent.
    pub persistent: Vec<String>,
    /// Persistent-recursive.
    pub recursive: Vec<String>,
}

/// What a successful reply says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing: delete, setWatches2, addWatch, removeWatches, sync, closeSession.
    Done,
    /// create.
    Created {
        /// The final path.
        path: String,
        /// Unless it was a plain create.
        stat: Option<Stat>,
    },
    /// setData, exists.
    Stat(Stat),
    /// getData.
    Data {
        /// Null and empty are distinct.
        data: Option<Bytes>,
        /// Of the znode.
        stat: Stat,
    },
    /// getChildren2.
    Children {
        /// In the reply's order.
        names: Vec<String>,
        /// Of the parent.
        stat: Stat,
    },
    /// getACL.
    Acl {
        /// As it is stored.
        acl: Vec<Acl<'static>>,
        /// Of the znode.
        stat: Stat,
    },
    /// multiRead: one result per operation.
    MultiRead(Vec<ReadPartReply>),
    /// getEphemerals, in the reply's order.
    Paths(Vec<String>),
    /// getAllChildrenNumber.
    Count(i32),
    /// multi: one result per operation. It failed as a whole if any is an error.
    Multi(Vec<PartReply>),
}

/// The result of one operation of a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadPartReply {
    /// getData.
    Data {
        /// Null and empty are distinct.
        data: Option<Bytes>,
        /// Of the znode.
        stat: Stat,
    },
    /// getChildren, in the reply's order.
    Children(Vec<String>),
    /// The code.
    Failed(i32),
}

/// The result of one operation of a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartReply {
    /// delete, check.
    Done,
    /// create.
    Created {
        /// The final path.
        path: String,
        /// If the result has one.
        stat: Option<Stat>,
    },
    /// setData.
    Stat(Stat),
    /// The code; 0 in front of the operation that made the multi fail.
    Failed(i32),
}
