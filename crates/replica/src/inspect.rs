//! What the four-letter words show. Read-only.

use crate::conn::Phase;
use crate::io::{ConnId, Time};
use crate::members::{Membership, Term};
use crate::replica::Replica;
use crate::stats::{LatencyStats, ServerStats, Sizes};
use core::net::SocketAddr;
use farrier_proto::{SessionId, Zxid};
use farrier_tree::{Tree, WatchTable};

/// A connection, as `cons` and `stat` list it.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its name.
    pub conn: ConnId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its session, once established.
    pub session: Option<SessionId>,
    /// Requests that wait for an answer.
    pub queued: usize,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Short name of the last operation; "NA" before the first.
    pub last_op: &'static str,
    /// When it was taken.
    pub established: Time,
    /// Negotiated timeout in milliseconds.
    pub timeout: i32,
    /// Last xid; negative before the first.
    pub last_cxid: i64,
    /// Last zxid sent; negative before the first.
    pub last_zxid: i64,
    /// Monotonic milliseconds of the last reply.
    pub last_response: u64,
    /// Latency of the last request.
    pub last_latency: u64,
    /// Of all.
    pub latency: LatencyStats,
    /// Whether it is being read from.
    pub reading: bool,
}

/// Sessions that expire together.
#[derive(Clone, Debug)]
pub struct SessionBucket {
    /// Monotonic milliseconds.
    pub expires: u64,
    /// Who.
    pub sessions: Vec<SessionId>,
}

impl Replica {
    /// The committed tree.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The watches.
    #[must_use]
    pub const fn watches(&self) -> &WatchTable<ConnId> {
        &self.watches
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &ServerStats {
        &self.stats
    }

    /// Last transaction applied.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.tree.zxid()
    }

    /// Requests proposed and not yet answered.
    #[must_use]
    pub fn outstanding_requests(&self) -> usize {
        self.outstanding.len() + self.forwarded
    }

    /// Connections, four-letter words not among them.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.conns.len()
    }

    /// Sessions that live.
    #[must_use]
    pub fn session_count(&self) -> usize {
        if self.membership.proposes() { self.tracker.len() } else { self.tree.session_count() }
    }

    /// Whether clients are served: always, or in an ensemble while there is a leader, and the tree is not fenced.
    #[must_use]
    pub const fn is_serving(&self) -> bool {
        self.membership.is_serving() && !self.is_fenced()
    }

    /// Whether the tree is not the leader's, so that no clients are served.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.digests.is_fenced()
    }

    /// In an ensemble, what is to be told of elections, leader and learners.
    #[must_use]
    pub fn peer_status(&self) -> Option<farrier_zab::Status> {
        match &self.membership {
            Membership::Alone(_) => None,
            Membership::Ensemble(members) => Some(members.peer.status()),
        }
    }

    /// On a leader: since which monotonic millisecond, and what it proposed.
    #[must_use]
    pub const fn leadership(&self) -> Option<(u64, Sizes)> {
        match &self.membership {
            Membership::Ensemble(members) => match &members.term {
                Term::Leading(leading) => Some((leading.since, leading.proposal_sizes)),
                Term::Looking | Term::Learning(_) => None,
            },
            Membership::Alone(_) => None,
        }
    }

    /// In an ensemble, the members as this server knows them.
    #[must_use]
    pub fn ensemble_members(&self) -> Option<&farrier_zab::Ensemble> {
        match &self.membership {
            Membership::Alone(_) => None,
            Membership::Ensemble(members) => Some(members.peer.ensemble()),
        }
    }

    /// Resets the server's counters (`srst`).
    pub fn reset_stats(&mut self) {
        self.stats = ServerStats::default();
        if let Some(leading) = self.membership.leading() {
            leading.proposal_sizes = Sizes::default();
        }
    }

    /// Resets the connections' counters (`crst`).
    pub fn reset_connection_stats(&mut self) {
        for conn in self.conns.values_mut() {
            let s = &mut conn.stats;
            (s.received, s.sent, s.last_op) = (0, 0, "NA");
            (s.last_cxid, s.last_zxid, s.last_response, s.last_latency) = (-1, -1, 0, 0);
            s.latency = LatencyStats::default();
        }
    }

    /// A word counts as a received packet and a connection while it runs.
    pub fn count_word(&mut self) {
        self.stats.received += 1;
    }

    /// How likely the throttle is to refuse the next connect request.
    #[must_use]
    pub const fn connection_drop_chance(&self) -> f64 {
        self.throttle.drop_chance()
    }

    /// Whether this server follows or observes a leader, which decides on the end of sessions.
    #[must_use]
    pub const fn is_learning(&self) -> bool {
        self.membership.is_learning()
    }

    /// All connections, in the order of their names.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all: Vec<_> = self
            .conns
            .iter()
            .map(|(id, c)| ConnectionInfo {
                conn: id,
                peer: c.peer,
                session: matches!(c.phase, Phase::Serving | Phase::Ending).then_some(c.session),
                queued: c.waiting.len(),
                received: c.stats.received,
                sent: c.stats.sent,
                last_op: c.stats.last_op,
                established: c.stats.established,
                timeout: c.timeout,
                last_cxid: c.stats.last_cxid,
                last_zxid: c.stats.last_zxid,
                last_response: c.stats.last_response,
                last_latency: c.stats.last_latency,
                latency: c.stats.latency,
                reading: !c.paused,
            })
            .collect();
        all.sort_by_key(|c| c.conn);
        all
    }

    /// The session of a connection.
    #[must_use]
    pub fn session_of(&self, conn: ConnId) -> Option<SessionId> {
        self.conns.get(conn).map(|c| c.session)
    }

    /// Sessions by the moment at which they expire.
    #[must_use]
    pub fn session_buckets(&self) -> Vec<SessionBucket> {
        self.tracker
            .buckets()
            .map(|(expires, sessions)| SessionBucket { expires, sessions: sessions.iter().copied().collect() })
            .collect()
    }
}
