//! What the words say on a member of an ensemble.

use crate::config::Role;
use crate::member::{self, Membership};
use farrier_proto::quorum::ServerState;
use farrier_replica::Replica;
use farrier_zab::{Phase, Status};
use std::fmt::Write as _;

/// What a word gets that needs a server with a leader while there is none.
pub(super) const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// The word that status scripts look for.
pub(super) fn mode(replica: &Replica) -> &'static str {
    match replica.peer_status().map(|s| s.state) {
        None => "standalone",
        Some(ServerState::Leading) => "leader",
        Some(ServerState::Following) => "follower",
        Some(ServerState::Observing) => "observer",
        // Whoever asks is told before that nothing is served.
        Some(ServerState::Looking) => "looking",
    }
}

/// The lines of `conf` behind those that a standalone server has too.
pub(super) fn conf(member: &Membership) -> String {
    let config = &member.config;
    let own = member.own();
    let ports = |port: fn(&crate::config::PeerAddress) -> u16| {
        let all: Vec<_> = own.addresses.iter().map(|a| port(a).to_string()).collect();
        all.join("|")
    };
    let kind = match own.role {
        Role::Participant => 0,
        Role::Observer => 1,
    };
    let (election, quorum) = (ports(|a| a.election_port), ports(|a| a.quorum_port));
    format!(
        "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={election}\nquorumPort={quorum}\npeerType={kind}\nmembership: \n{}",
        config.init_limit,
        config.sync_limit,
        member::text(config),
    )
}

/// `zk_peer_state`.
fn peer_state(status: &Status) -> String {
    let phase = match status.phase {
        Phase::Election => "election",
        Phase::Discovery => "discovery",
        Phase::Synchronization => "synchronization",
        Phase::Broadcast => "broadcast",
    };
    let state = match status.state {
        ServerState::Looking => "looking",
        ServerState::Following => "following",
        ServerState::Leading => "leading",
        ServerState::Observing => "observing",
    };
    format!("{state} - {phase}")
}

/// The rows of `mntr` that only a member has; the first of them stand behind the state.
pub(super) fn monitor_first(replica: &Replica) -> String {
    let Some(status) = replica.peer_status() else { return String::new() };
    let mut out = format!("zk_peer_state\t{}\n", peer_state(&status));
    if status.state == ServerState::Observing
        && let Some(leader) = status.leader
    {
        let _ = writeln!(out, "zk_observer_master_id\t{leader}");
    }
    out
}

/// The others.
pub(super) fn monitor_rest(replica: &Replica, member: &Membership, now: u64) -> String {
    let members = replica.ensemble_members().unwrap_or(&member.ensemble);
    let mut out = format!("zk_quorum_size\t{}\n", members.voters().len());
    let Some(status) = replica.peer_status().filter(|s| s.state == ServerState::Leading) else { return out };
    let synced = |observer, voter| {
        let counts = |l: &&farrier_zab::LearnerStatus| {
            l.synced && l.observer == observer && (observer || members.is_voter(l.server) == voter)
        };
        status.learners.iter().filter(counts).count()
    };
    for (key, value) in [
        ("learners", status.learners.len()),
        ("synced_followers", synced(false, true)),
        ("synced_non_voting_followers", synced(false, false)),
        ("synced_observers", synced(true, false)),
        ("pending_syncs", status.pending_syncs),
    ] {
        let _ = writeln!(out, "zk_{key}\t{value}");
    }
    if let Some((since, sizes)) = replica.leadership() {
        let rows = [
            ("last_proposal_size", sizes.last),
            ("max_proposal_size", sizes.max),
            ("min_proposal_size", sizes.min),
            ("leader_uptime", i64::try_from(now.saturating_sub(since)).unwrap_or(i64::MAX)),
        ];
        for (key, value) in rows {
            let _ = writeln!(out, "zk_{key}\t{value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::Zxid;

    #[test]
    fn states_in_words() {
        let mut status = Status {
            state: ServerState::Following,
            phase: Phase::Broadcast,
            leader: None,
            epoch: None,
            last_logged: Zxid::ZERO,
            delivered: Zxid::ZERO,
            learners: Vec::new(),
            pending_syncs: 0,
            recovering: false,
            handing_over: false,
        };
        assert_eq!(peer_state(&status), "following - broadcast");
        (status.state, status.phase) = (ServerState::Looking, Phase::Election);
        assert_eq!(peer_state(&status), "looking - election");
    }
}
