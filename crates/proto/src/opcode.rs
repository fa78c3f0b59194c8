//! Request types.

use crate::numbered::numbered;

numbered! {
    /// The type of a request, as in its header. Errors and notifications have numbers too, but a request may
    /// not carry them.
    pub enum OpCode {
        /// create; replies with the path.
        Create = 1,
        /// delete.
        Delete = 2,
        /// exists; may leave a watch even when it answers "no node".
        Exists = 3,
        /// getData.
        GetData = 4,
        /// setData.
        SetData = 5,
        /// getACL.
        GetAcl = 6,
        /// setACL.
        SetAcl = 7,
        /// getChildren; replies with names.
        GetChildren = 8,
        /// sync.
        Sync = 9,
        /// ping.
        Ping = 11,
        /// getChildren2; replies with names and stat.
        GetChildren2 = 12,
        /// check; inside a multi only.
        Check = 13,
        /// multi.
        Multi = 14,
        /// create2; replies with path and stat.
        Create2 = 15,
        /// reconfig.
        Reconfig = 16,
        /// checkWatches.
        CheckWatches = 17,
        /// removeWatches.
        RemoveWatches = 18,
        /// createContainer.
        CreateContainer = 19,
        /// deleteContainer; the sweeper's, not for clients.
        DeleteContainer = 20,
        /// createTTL.
        CreateTtl = 21,
        /// multiRead.
        MultiRead = 22,
        /// auth.
        Auth = 100,
        /// setWatches.
        SetWatches = 101,
        /// sasl.
        Sasl = 102,
        /// getEphemerals.
        GetEphemerals = 103,
        /// getAllChildrenNumber.
        GetAllChildrenNumber = 104,
        /// setWatches2.
        SetWatches2 = 105,
        /// addWatch.
        AddWatch = 106,
        /// whoAmI.
        WhoAmI = 107,
        /// createSession; made by servers, not for clients.
        CreateSession = -10,
        /// closeSession.
        CloseSession = -11,
    }
}

impl OpCode {
    /// Whether the request goes through the ordered log.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Create2
                | Self::CreateContainer
                | Self::CreateTtl
                | Self::Delete
                | Self::DeleteContainer
                | Self::SetData
                | Self::SetAcl
                | Self::Multi
                | Self::Reconfig
                | Self::CreateSession
                | Self::CloseSession
        )
    }
}
