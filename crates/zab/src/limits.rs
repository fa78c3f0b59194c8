//! Bounds of this crate.

use farrier_proto::quorum::LeaderPacket;

/// Bytes sent to a learner beyond which it gets nothing more before all is handed to the system. What waits is a
/// position in the history, not a queue.
pub(crate) const LINK_UNFLUSHED_MAX: usize = 1 << 20;

/// Links that dialled us before we lead wait; no more than this many.
pub(crate) const EARLY_LINKS_MAX: usize = 256;

/// Between two attempts to dial the leader, in milliseconds.
pub(crate) const REDIAL_INTERVAL: u64 = 10;

/// The longest pause before a leader is joined again that was left a moment ago, in milliseconds.
pub(crate) const REJOIN_PAUSE_MAX: u64 = 1000;

/// The first repetition of a notification, in milliseconds; then twice as long each time.
pub(crate) const NOTIFICATION_INTERVAL_MIN: u64 = 20;

/// A server that has repeated its notification after so long, more than a second after it began to look for a leader, tells
/// for whom it waits.
pub(crate) const LOOKING_TOLD: u64 = 640;

/// Packets that a learner holds back while its log is being cut.
pub(crate) const HELD_PACKETS_MAX: usize = 4096;

/// Bytes of them. From half of it on the leader's link is not read from: what was read by then has to fit.
pub(crate) const HELD_BYTES_MAX: usize = 256 << 20;

/// Bytes of proposals that a learner takes before the oldest of them is committed.
pub(crate) const UNCOMMITTED_BYTES_MAX: usize = 1 << 30;

/// Learners of one leader, those without a name included.
pub(crate) const LEARNERS_MAX: usize = 1024;

/// About so many bytes go with every packet beside its transaction.
const PACKET_OVERHEAD: usize = 64;

/// What a packet of a leader counts where bytes are bounded.
pub(crate) fn packet_bytes(packet: &LeaderPacket) -> usize {
    PACKET_OVERHEAD
        + match packet {
            LeaderPacket::Proposal { txn, .. }
            | LeaderPacket::Inform { txn, .. }
            | LeaderPacket::InformAndActivate { txn, .. } => txn.len(),
            LeaderPacket::NewLeader { config, .. } => config.len(),
            LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::UpToDate
            | LeaderPacket::Commit { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::Ping { .. }
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => 0,
        }
}

/// Pings to one learner that await an answer; then it gets no more before it answers.
pub(crate) const PINGS_UNANSWERED_MAX: usize = 1024;

/// Syncs that wait at a leader; and confirmed ones that wait for their turn in one learner's stream.
pub(crate) const SYNCS_PENDING_MAX: usize = 1 << 16;

/// Answers to one learner's REVALIDATEs that wait for their turn in its stream.
pub(crate) const REVALIDATIONS_PENDING_MAX: usize = 1 << 16;

/// How long the other voters may take to get all of a leader that hands over, in milliseconds: nothing is proposed
/// meanwhile. An orderly stop must be done within five seconds.
pub(crate) const HAND_OVER_MS_MAX: u64 = 3000;

/// The last epoch: zxids are signed for others.
pub(crate) const EPOCH_MAX: u32 = 0x7fff_ffff;

/// The last number of a transaction in its epoch. Apache's leaders give up at the next one.
pub(crate) const COUNTER_LAST: u32 = 0xffff_fffe;
