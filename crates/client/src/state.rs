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

/// What is known of a session's life: it does not end before [`Self::ends`], by what the servers' leader has heard.
///
/// Only answers that came *through the leader* count: those to writes and to `sync`. A server that is cut off from its
/// leader answers pings and reads by itself, while the leader lets the session end; that is why a lease runs out unless
/// somebody writes, or keeps it with [`crate::Client::keep_lease`].
///
/// With a session timeout `T` and a `sync` that was sent at `s` and answered: a server passes on whom it heard of every
/// half tick, and a client that keeps its lease sends a `sync` every `T / 6`. So the leader knows at least of what was
/// sent at `s - tick / 2 - T / 6`, the session lives until `s + 5T / 6 - tick / 2`, and the lease ends at `s + 2T / 3`:
/// before it, for any `T` of three ticks or more. From two ticks on that holds too, as the client reckons with what it
/// really had sent by a quarter of `T` before `s`, and then lets the lease begin earlier than at `s`; but nothing is left
/// then for pings that are late, and with a `minSessionTimeout` of less it need not hold. Under a Farrier leader, who counts the request itself, the session lives until `s + T`.
///
/// A lease is worth what the clock is worth: a holder that is suspended between a look and a deed can act on an old look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The session.
    pub session: SessionId,
    /// When the newest request was sent whose answer came through the leader; earlier if before it little was sent.
    pub since: Time,
    /// The negotiated session timeout.
    pub timeout: Duration,
}

impl Lease {
    /// When whoever relies on the session has to stop: after two thirds of the timeout.
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
