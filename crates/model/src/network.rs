//! Links of the learner channel: FIFO both ways. One that breaks does so at both ends at once, and what is under way
//! is lost.

use crate::disk::Entry;
use farrier_proto::quorum::{LEARNER_PROTOCOL_VERSION, LeaderPacket, LearnerInfo, LearnerPacket};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};
use std::collections::VecDeque;

/// From a learner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Up {
    Info(AcceptedEpoch),
    AckEpoch(i64, Option<CurrentEpoch>),
    Ack(Zxid),
}

impl Up {
    /// `None` for packets that the model leaves out.
    pub(crate) const fn of(packet: &LearnerPacket) -> Option<Self> {
        match packet {
            LearnerPacket::FollowerInfo { accepted, .. } | LearnerPacket::ObserverInfo { accepted, .. } => {
                Some(Self::Info(*accepted))
            }
            LearnerPacket::AckEpoch { last_logged, current } => Some(Self::AckEpoch(*last_logged, *current)),
            LearnerPacket::Ack { zxid } => Some(Self::Ack(*zxid)),
            LearnerPacket::Ping { .. } | LearnerPacket::Revalidate { .. } | LearnerPacket::Request(_) => None,
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Info(_) => "FOLLOWERINFO",
            Self::AckEpoch(..) => "ACKEPOCH",
            Self::Ack(_) => "ACK",
        }
    }

    pub(crate) const fn packet(self, from: ServerId) -> LearnerPacket {
        match self {
            Self::Info(accepted) => {
                let protocol_version = LEARNER_PROTOCOL_VERSION;
                let info = LearnerInfo { server: Some(from), protocol_version, config_version: 0, cumulative: true };
                LearnerPacket::FollowerInfo { accepted, info }
            }
            Self::AckEpoch(last_logged, current) => LearnerPacket::AckEpoch { last_logged, current },
            Self::Ack(zxid) => LearnerPacket::Ack { zxid },
        }
    }
}

/// From a leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Down {
    Packet(LeaderPacket),
    /// With the state behind it.
    Snapshot(Vec<Entry>),
}

impl Down {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Packet(LeaderPacket::LeaderInfo { .. }) => "LEADERINFO",
            Self::Packet(LeaderPacket::Diff { .. }) => "DIFF",
            Self::Packet(LeaderPacket::Trunc { .. }) => "TRUNC",
            Self::Packet(LeaderPacket::NewLeader { .. }) => "NEWLEADER",
            Self::Packet(LeaderPacket::UpToDate) => "UPTODATE",
            Self::Packet(LeaderPacket::Proposal { .. }) => "PROPOSAL",
            Self::Packet(LeaderPacket::Commit { .. }) => "COMMIT",
            Self::Packet(
                LeaderPacket::Snap { .. }
                | LeaderPacket::Inform { .. }
                | LeaderPacket::CommitAndActivate { .. }
                | LeaderPacket::InformAndActivate { .. }
                | LeaderPacket::Ping { .. }
                | LeaderPacket::Revalidate { .. }
                | LeaderPacket::Sync,
            ) => "a packet without a place in this model",
            Self::Snapshot(_) => "SNAP",
        }
    }
}

/// One connection, with what is on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    /// The epoch of LEADERINFO, once it arrived.
    pub(crate) offered: u32,
}

impl Link {
    /// Whether the next packet from the leader changes nothing but what the learner forgets when it loses the leader.
    /// It arrives at once then: whether it does or not is the same to everybody else, and to the disk.
    pub(crate) fn brings_nothing_lasting(&self) -> bool {
        match self.down.front() {
            Some(Down::Packet(packet)) => {
                matches!(packet, LeaderPacket::Diff { .. } | LeaderPacket::Commit { .. } | LeaderPacket::UpToDate)
            }
            Some(Down::Snapshot(_)) | None => false,
        }
    }
}
