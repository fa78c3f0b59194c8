//! What servers say to each other: notifications on the election port, packets on the learner channel.
//!
//! The two directions of the learner channel are two types, so that neither side can be handed a packet
//! that only it may send. The bytes are those of `QuorumPacket` and `FastLeaderElection` in Apache
//! ZooKeeper 3.5 to 3.9.

mod election;
mod identities;
mod packet;
#[cfg(test)]
mod tests;

pub use election::{ElectionHeader, measure_notification};
pub use identities::Identities;
pub use packet::{PacketError, measure};

use crate::ids::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Zxid};
use bytes::Bytes;

/// Version of the learner protocol: what FOLLOWERINFO and LEADERINFO carry.
pub const LEARNER_PROTOCOL_VERSION: i32 = 0x10000;

/// Follows the data of FOLLOWERINFO, OBSERVERINFO and LEADERINFO where the sender can do with one ACK, and one COMMIT, for
/// a run of proposals; between two such servers the last of the run stands for all of it. Apache's servers don't look behind
/// the fields that they know, and never send it, so that with them each proposal has its own ACK and COMMIT.
pub const CUMULATIVE_TAG: [u8; 8] = *b"farrier1";

/// Behind a SNAP stream.
pub const SNAP_SIGNATURE: &str = "BenWasHere";

/// Longest frame on the election port.
pub const NOTIFICATION_MAX: usize = 512 * 1024;

/// Longest address text in the header of an election connection.
pub const ELECTION_ADDRESS_MAX: usize = 2048;

/// Where a server is, as notifications say it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServerState {
    /// 0: electing.
    Looking,
    /// 1: a learner with a vote.
    Following,
    /// 2: the leader.
    Leading,
    /// 3: a learner without a vote.
    Observing,
}

/// Number of an election, called `electionEpoch` or `logicalclock` in Apache. Volatile; -1 behind a
/// reconfiguration that named a leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ElectionRound(pub i64);

/// Whom a server wants to lead, and how far that one is.
///
/// Ordered as elections compare: epoch, zxid, server; all signed, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vote {
    /// The proposed leader; `i64::MIN` in the notifications of observers.
    pub leader: ServerId,
    /// Its last logged zxid. Signed: -1 from a server that may not vote, `i64::MIN` from observers.
    pub zxid: i64,
    /// Its currentEpoch; `i64::MIN` from observers.
    pub peer_epoch: i64,
}

impl Vote {
    /// What a server without a voice sends: an observer, or one that may have forgotten.
    pub const NONE: Self = Self { leader: ServerId(i64::MIN), zxid: i64::MIN, peer_epoch: i64::MIN };
}

impl PartialOrd for Vote {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Vote {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        let key = |v: &Self| (v.peer_epoch, v.zxid, v.leader.0);
        key(self).cmp(&key(other))
    }
}

/// A message of fast leader election.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Notification {
    /// Of the sender.
    pub state: ServerState,
    /// What the sender votes for.
    pub vote: Vote,
    /// The election that the vote belongs to.
    pub round: ElectionRound,
    /// Format of the message: 2 since 3.5; 0 and 1 are older.
    pub version: i32,
    /// The sender's last committed configuration (version 2 only), as text.
    pub config: Option<Bytes>,
}

impl Notification {
    /// The version that all releases since 3.5 send.
    pub const VERSION: i32 = 2;
}

/// First words of a learner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LearnerInfo {
    /// Its id. A learner that sends none gets a negative one from the leader.
    pub server: Option<ServerId>,
    /// [`LEARNER_PROTOCOL_VERSION`]; smaller before 3.4.
    pub protocol_version: i32,
    /// Version of its last committed configuration.
    pub config_version: u64,
    /// Whether it takes a COMMIT as one of everything before it, too, and so may its ACK be taken: [`CUMULATIVE_TAG`].
    pub cumulative: bool,
}

/// A packet from a learner to its leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LearnerPacket {
    /// FOLLOWERINFO (11): the first packet of a participant.
    FollowerInfo {
        /// What it promised before.
        accepted: AcceptedEpoch,
        /// Who it is.
        info: LearnerInfo,
    },
    /// OBSERVERINFO (16): the first packet of an observer.
    ObserverInfo {
        /// What it promised before.
        accepted: AcceptedEpoch,
        /// Who it is.
        info: LearnerInfo,
    },
    /// ACKEPOCH (18): the promise.
    AckEpoch {
        /// Its last logged zxid. Signed: -1 from a server that may not vote.
        last_logged: i64,
        /// `None` (-1 on the wire): does not count, since the epoch was promised before.
        current: Option<CurrentEpoch>,
    },
    /// ACK (3): everything up to here is durable; `(epoch, 0)` for NEWLEADER and after UPTODATE.
    Ack {
        /// The proposal.
        zxid: Zxid,
    },
    /// PING (5): the answer to one.
    Ping {
        /// Copied from the leader's. Signed; nothing reads it.
        zxid: i64,
        /// Sessions that were heard of since the last one, with their timeouts in milliseconds.
        touched: Vec<(SessionId, i32)>,
    },
    /// REVALIDATE (6): a client moved here.
    Revalidate {
        /// Its session.
        session: SessionId,
        /// The timeout that was negotiated, in milliseconds.
        timeout: i32,
    },
    /// REQUEST (1): a client's write or sync.
    Request(ForwardedRequest),
}

/// A request on its way to the leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ForwardedRequest {
    /// Whose.
    pub session: SessionId,
    /// The client's number for it.
    pub cxid: i32,
    /// Operation code, as in a request header; -10 and -11 create and close a session.
    pub op: i32,
    /// The request record; empty for closeSession, the timeout for createSession.
    pub body: Bytes,
    /// Of the client.
    pub identities: Identities,
}

/// A packet from a leader to one of its learners.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeaderPacket {
    /// LEADERINFO (17): the epoch that the leader proposes.
    LeaderInfo {
        /// The new epoch.
        epoch: u32,
        /// [`LEARNER_PROTOCOL_VERSION`].
        protocol_version: i32,
        /// Whether it takes an ACK as one of everything before it, too, and so may its COMMIT be taken:
        /// [`CUMULATIVE_TAG`].
        cumulative: bool,
    },
    /// DIFF (13): keep your history; what is missing follows.
    Diff {
        /// The leader's last committed zxid.
        zxid: Zxid,
    },
    /// TRUNC (14): cut your log behind this.
    Trunc {
        /// The last transaction to keep.
        zxid: Zxid,
    },
    /// SNAP (15): replace your state; the stream follows this packet on the same socket.
    Snap {
        /// The stream's.
        zxid: Zxid,
    },
    /// NEWLEADER (10): behind it everything is part of the new epoch.
    NewLeader {
        /// `(epoch, 0)`.
        zxid: Zxid,
        /// Text of the leader's configuration; empty or one byte means none.
        config: Bytes,
    },
    /// UPTODATE (12): serve.
    UpToDate,
    /// PROPOSAL (2): log it, and acknowledge.
    Proposal {
        /// The transaction's.
        zxid: Zxid,
        /// Header, body and digest: the bytes of the log record.
        txn: Bytes,
    },
    /// COMMIT (4): a quorum logged it.
    Commit {
        /// Which.
        zxid: Zxid,
    },
    /// INFORM (8): a committed transaction, to observers.
    Inform {
        /// The transaction's.
        zxid: Zxid,
        /// As in a proposal.
        txn: Bytes,
    },
    /// COMMITANDACTIVATE (9): commit of a reconfiguration.
    CommitAndActivate {
        /// Of the reconfiguration.
        zxid: Zxid,
        /// Who leads from now on.
        designated: ServerId,
    },
    /// INFORMANDACTIVATE (19): the same for observers.
    InformAndActivate {
        /// Of the reconfiguration.
        zxid: Zxid,
        /// Who leads from now on.
        designated: ServerId,
        /// As in a proposal.
        txn: Bytes,
    },
    /// PING (5): every half tick.
    Ping {
        /// The leader's last proposed zxid; copied into the answer.
        zxid: i64,
    },
    /// REVALIDATE (6): the answer, in the order of the questions.
    Revalidate {
        /// Which session.
        session: SessionId,
        /// Whether it lives.
        valid: bool,
    },
    /// SYNC (7): completes the learner's oldest sync.
    Sync,
}
