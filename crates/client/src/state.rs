//! What can be seen of a session: its state, and how sure it is to be alive.

use crate::Time;
use farrier_proto::SessionId;
use std::sync::Arc;
use std::time::Duration;

/// State of a client's session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionState {
    /// No server gave a session yet, or none gave a new one after the last had expired.
    Connecting,
    /// A server serves the session.
    Connected {
        /// The session; another one than before if that had expired.
        session: SessionId,
        /// The server, as `host:port`.
        server: Arc<str>,
        /// The server has no quorum behind it: it answers reads, maybe old ones, and refuses writes.
        read_only: bool,
    },
    /// The connection is lost and the session may live on. The client is looking for a server.
    Suspended {
        /// The session.
        session: SessionId,
    },
    /// A server said that the session is gone, with all that was ephemeral in it. The client asks for a new one,
    /// unless it was told not to.
    Expired {
        /// The session that was.
        session: SessionId,
    },
    /// A server refuses the client's credentials. Final.
    AuthFailed,
    /// The client was closed. Final.
    Closed,
}

impl SessionState {
    /// The session that a server serves now.
    #[must_use]
    pub const fn connected(&self) -> Option<SessionId> {
        match self {
            Self::Connected { session, .. } => Some(*session),
            Self::Connecting | Self::Suspended { .. } | Self::Expired { .. } | Self::AuthFailed | Self::Closed => None,
        }
    }
}

/// What is known of a session's life: a server heard of the client at `since` or later, so the session lives at
/// least until `timeout` after it.
///
/// `since` is when the newest request or ping that *was answered* had been sent. It is worth what the clock is
/// worth: a holder that is suspended between a look and a deed can act on an old look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The session.
    pub session: SessionId,
    /// When the newest answered request or ping was sent.
    pub since: Time,
    /// The negotiated session timeout.
    pub timeout: Duration,
}

impl Lease {
    /// When whoever relies on the session has to stop: after two thirds of the timeout. The last third is for a
    /// server that dies before it passed on what it had heard.
    #[must_use]
    pub fn ends(&self) -> Time {
        self.since + self.timeout * 2 / 3
    }

    /// Whether the lease still runs at `now`.
    #[must_use]
    pub fn holds(&self, now: Time) -> bool {
        now < self.ends()
    }
}
