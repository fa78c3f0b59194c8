//! The member list with its settings, and the rules that hold among its lines.

use farrier_proto::membership::MemberList;
pub use farrier_proto::membership::{HostPort, Member, PeerAddress, Role};
pub(super) use farrier_proto::membership::{parse_group, parse_member};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who the members are, as the file says.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleConfig {
    /// This server's number, from `dataDir/myid`; `None` if that file is absent.
    pub my_id: Option<i64>,
    /// Members by their number.
    pub members: BTreeMap<i64, Member>,
    /// `group.G`: the members of each group; empty without hierarchical quorums.
    pub groups: BTreeMap<i64, Vec<i64>>,
    /// `weight.N`; a member without one weighs 1.
    pub weights: BTreeMap<i64, u64>,
    /// Version of the membership: the hexadecimal suffix of the dynamic file's name, otherwise 0.
    pub version: u64,
    /// `standaloneEnabled`.
    pub standalone_enabled: bool,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// `initLimit` in ticks.
    pub init_limit: u32,
    /// `syncLimit` in ticks.
    pub sync_limit: u32,
    /// Whatever has a default.
    pub tuning: Tuning,
}

/// Timing, sockets and synchronization of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// `connectToLearnerMasterLimit` in ticks; 0 for `initLimit`.
    pub connect_limit: u32,
    /// `cnxTimeout`: to connect to an election port; at least 1 ms.
    pub connect_timeout: Duration,
    /// `quorumCnxnTimeoutMs`: to read the header of an election connection; `None` for `syncLimit`.
    pub header_timeout: Option<Duration>,
    /// `fastleader.maxNotificationInterval`.
    pub notification_interval_max: Duration,
    /// `electionPortBindRetry`: attempts to bind a port after the first, one a second; 0 without end.
    pub bind_retries: u32,
    /// `tcpKeepAlive`: on connections between servers.
    pub keep_alive: bool,
    /// `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// `leaderServes`: a leader takes clients.
    pub leader_serves: bool,
    /// `multiAddress.enabled`: members may have several addresses.
    pub multi_address: bool,
    /// `commitLogCount`: committed transactions kept in memory; at least 500.
    pub commit_log_count: u32,
    /// `snapshotSizeFactor`; negative: the log on disk is never sent as a difference; 0: without limit.
    pub snapshot_size_factor: f64,
    /// `forceSnapshotSync`.
    pub force_snapshot_sync: bool,
    /// `leader.maxConcurrentSnapSyncs`, at least 1.
    pub snap_syncs_max: u32,
    /// `leader.maxConcurrentDiffSyncs`, at least 1.
    pub diff_syncs_max: u32,
    /// `farrier.peers=3.9`: every member applies create2 inside a multi.
    pub peers_apply_create2: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect_limit: 0,
            connect_timeout: Duration::from_secs(5),
            header_timeout: None,
            notification_interval_max: Duration::from_secs(60),
            bind_retries: 3,
            keep_alive: false,
            listen_everywhere: false,
            leader_serves: true,
            multi_address: false,
            commit_log_count: 500,
            snapshot_size_factor: 0.33,
            force_snapshot_sync: false,
            snap_syncs_max: 10,
            diff_syncs_max: 100,
            peers_apply_create2: false,
        }
    }
}

impl EnsembleConfig {
    /// An ensemble with every default and the limits of Apache's sample file, for programs that start one.
    #[must_use]
    pub fn new(my_id: i64, members: BTreeMap<i64, Member>) -> Self {
        Self {
            my_id: Some(my_id),
            members,
            groups: BTreeMap::new(),
            weights: BTreeMap::new(),
            version: 0,
            standalone_enabled: true,
            reconfig_enabled: false,
            init_limit: 10,
            sync_limit: 5,
            tuning: Tuning::default(),
        }
    }

    /// What the members tell each other of it.
    #[must_use]
    pub fn list(&self) -> MemberList {
        MemberList {
            members: self.members.clone(),
            groups: self.groups.clone(),
            weights: self.weights.clone(),
            version: self.version,
        }
    }

    /// Members that vote.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.members.values().filter(|m| m.role == Role::Participant).count()
    }
}

/// Checks what several lines say together.
///
/// # Errors
/// What contradicts what.
pub(super) fn check_groups(config: &EnsembleConfig) -> Result<(), String> {
    if config.groups.is_empty() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for (group, id) in config.groups.iter().flat_map(|(g, ids)| ids.iter().map(move |id| (g, id))) {
        if !config.members.contains_key(id) {
            return Err(format!("group.{group} names server {id}, which has no server.{id} line"));
        }
        if !seen.insert(*id) {
            return Err(format!("server {id} stands in two groups"));
        }
    }
    let voter = |m: &Member| m.role == Role::Participant;
    match config.members.iter().find(|(id, m)| voter(m) && !seen.contains(id)) {
        Some((id, _)) => Err(format!("server {id} votes and stands in no group")),
        None => Ok(()),
    }
}
