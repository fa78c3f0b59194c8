//! What the words say on a member of an ensemble.

use crate::config::Role;
use crate::member::Membership;
use farrier_proto::membership::MemberList;
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

/// The lines of `conf` behind those that a standalone server has too. `members` is the text of the configuration that is
/// in force, which is not that of the start after a reconfiguration.
pub(super) fn conf(member: &Membership, members: Option<&[u8]>) -> String {
    let config = &member.config;
    let list = members.and_then(|text| MemberList::parse(text).ok()).unwrap_or_else(|| config.list());
    // A server that was taken out of the list is still what it was.
    let own = list.get(member.me).unwrap_or_else(|| member.own());
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
        list.text(),
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
    use crate::config::{EnsembleConfig, ServerConfig};
    use farrier_proto::Zxid;
    use std::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn conf_tells_the_members_of_now() {
        let at_start = "server.1=a:2888:3888:observer;0.0.0.0:2181\nserver.2=b:2888:3888:participant\n\
            server.3=c:2888:3888:participant\nversion=0";
        let members = MemberList::parse(at_start.as_bytes()).expect("a list").members;
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("myid"), "1").expect("written");
        let config = ServerConfig {
            ensemble: Some(EnsembleConfig::new(1, members)),
            ..ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let member = Membership::of(&config).expect("valid").expect("an ensemble");
        let ports = "electionAlg=3\nelectionPort=3888\nquorumPort=2888\npeerType=1\nmembership: \n";
        for members in [None, Some(at_start.as_bytes())] {
            let text = conf(&member, members);
            assert_eq!(text, format!("initLimit=10\nsyncLimit=5\n{ports}{at_start}"));
        }
        let moved =
            "server.1=a:12888:13888:participant;0.0.0.0:2181\nserver.2=b:2888:3888:participant\nversion=100000005";
        let text = conf(&member, Some(moved.as_bytes()));
        let ports = "electionAlg=3\nelectionPort=13888\nquorumPort=12888\npeerType=0\nmembership: \n";
        assert_eq!(text, format!("initLimit=10\nsyncLimit=5\n{ports}{moved}"));
        let without = "server.2=b:2888:3888:participant\nversion=100000006";
        assert!(conf(&member, Some(without.as_bytes())).ends_with(&format!("peerType=1\nmembership: \n{without}")));
    }

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
