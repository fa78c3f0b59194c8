//! Settings of a peer, and what it starts from.

pub use crate::ensemble::{Ensemble, EnsembleError, QuorumVerifier};
use crate::limits::COUNTER_LAST;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, Zxid};

/// Settings. Milliseconds and ticks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This server (`myid`).
    pub server: ServerId,
    /// `tickTime` in milliseconds; at least 1.
    pub tick_time: u64,
    /// `initLimit` in ticks: for discovery and synchronization, each wait by itself.
    pub init_limit: u64,
    /// `syncLimit` in ticks: without contact a peer is lost.
    pub sync_limit: u64,
    /// `connectToLearnerMasterLimit` in ticks; 0 for `init_limit`.
    pub connect_limit: u64,
    /// How long an election waits for a better vote once it has a quorum, unless everybody reachable agreed.
    pub finalize_wait: u64,
    /// Longest interval between repeated notifications (`zookeeper.fastleader.maxNotificationInterval`).
    pub notification_interval_max: u64,
    /// Committed transactions kept in memory for learners that lack them (`zookeeper.commitLogCount`).
    pub window_txns: usize,
    /// Bytes of them.
    pub window_bytes: usize,
    /// `zookeeper.snapshotSizeFactor` in thousandths: the log on disk is sent as a difference up to this part of
    /// the newest snapshot's size; 0 without limit; `None` never.
    pub log_diff_permille: Option<u64>,
    /// `zookeeper.forceSnapshotSync`: every learner gets a SNAP.
    pub force_snapshot_sync: bool,
    /// Most learners without a vote that get a SNAP at once (`zookeeper.leader.maxConcurrentSnapSyncs`).
    pub snap_syncs_max: usize,
    /// Most that get a DIFF or TRUNC at once (`maxConcurrentDiffSyncs`).
    pub diff_syncs_max: usize,
    /// The last number that a transaction gets in its epoch, behind which another one has to begin. At least 1; only
    /// tests have reason to choose another than the default.
    pub counter_last: u32,
    /// `reconfigEnabled`: configurations that a leader activates, or that are newer, come into force.
    pub reconfig: bool,
    /// Whether one ACK and one COMMIT may stand for a run of proposals, with peers that say the same of themselves
    /// ([`CUMULATIVE_TAG`](farrier_proto::quorum::CUMULATIVE_TAG)). Only tests have reason to turn it off.
    pub cumulative: bool,
    /// Decides random delays.
    pub seed: u64,
}

impl Config {
    /// Apache ZooKeeper's defaults with the limits of its sample configuration.
    #[must_use]
    pub const fn new(server: ServerId) -> Self {
        Self {
            server,
            tick_time: 2000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            finalize_wait: 200,
            notification_interval_max: 60_000,
            window_txns: 500,
            window_bytes: 32 << 20,
            log_diff_permille: Some(330),
            force_snapshot_sync: false,
            snap_syncs_max: 10,
            diff_syncs_max: 100,
            counter_last: COUNTER_LAST,
            reconfig: false,
            cumulative: true,
            seed: 0,
        }
    }
}

/// Whether a server remembers everything that it acknowledged (safety contract 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Recovering {
    /// It does.
    No,
    /// Nothing was ever here, or everything is gone: it has a voice until a peer shows that the ensemble has a
    /// history. Then it is [`Self::Promise`].
    Fresh,
    /// Its history may lack what it acknowledged: no voter until an established leader gave it all.
    History,
    /// Even what it promised may be lost.
    Promise,
}

impl Recovering {
    /// Whether such a server must not vote, nor count for anything.
    #[must_use]
    pub const fn is_voiceless(self) -> bool {
        match self {
            Self::No | Self::Fresh => false,
            Self::History | Self::Promise => true,
        }
    }
}

/// What the disk says at the start; all of it durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Durable {
    /// File `acceptedEpoch`.
    pub accepted: AcceptedEpoch,
    /// File `currentEpoch`.
    pub current: CurrentEpoch,
    /// The last logged transaction; the state above has all of them.
    pub last_logged: Zxid,
    /// Whether that is all.
    pub recovering: Recovering,
}
