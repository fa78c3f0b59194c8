//! How inputs and outputs look in a transcript.

use farrier_proto::Zxid;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket, Notification, ServerState};
use farrier_zab::Role;

pub(crate) fn zxid(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch(), zxid.counter())
}

fn signed(raw: i64) -> String {
    if raw < 0 { if raw == i64::MIN { "none".into() } else { raw.to_string() } } else { zxid(Zxid::from_wire(raw)) }
}

pub(crate) fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Looking => "LOOKING",
        ServerState::Following => "FOLLOWING",
        ServerState::Leading => "LEADING",
        ServerState::Observing => "OBSERVING",
    }
}

pub(crate) fn notification(n: &Notification) -> String {
    let vote = if n.vote.leader.0 == i64::MIN {
        "nobody".into()
    } else {
        format!("{} ({} e{})", n.vote.leader, signed(n.vote.zxid), n.vote.peer_epoch)
    };
    format!("{} {vote} r{}", state(n.state), n.round.0)
}

pub(crate) fn learner_packet(packet: &LearnerPacket) -> String {
    match packet {
        LearnerPacket::FollowerInfo { accepted, .. } => format!("FOLLOWERINFO e{}", accepted.0),
        LearnerPacket::ObserverInfo { accepted, .. } => format!("OBSERVERINFO e{}", accepted.0),
        LearnerPacket::AckEpoch { last_logged, current } => {
            let current = current.map_or_else(|| "uncounted".into(), |epoch| format!("e{}", epoch.0));
            format!("ACKEPOCH {} {current}", signed(*last_logged))
        }
        LearnerPacket::Ack { zxid: z } => format!("ACK {}", zxid(*z)),
        LearnerPacket::Ping { .. } => "PING".into(),
        LearnerPacket::Revalidate { session, .. } => format!("REVALIDATE {session}"),
        LearnerPacket::Request(request) => format!("REQUEST op {}", request.op),
    }
}

pub(crate) fn leader_packet(packet: &LeaderPacket) -> String {
    match packet {
        LeaderPacket::LeaderInfo { epoch, .. } => format!("LEADERINFO e{epoch}"),
        LeaderPacket::Diff { zxid: z } => format!("DIFF {}", zxid(*z)),
        LeaderPacket::Trunc { zxid: z } => format!("TRUNC {}", zxid(*z)),
        LeaderPacket::Snap { zxid: z } => format!("SNAP {}", zxid(*z)),
        LeaderPacket::NewLeader { zxid: z, .. } => format!("NEWLEADER {}", zxid(*z)),
        LeaderPacket::UpToDate => "UPTODATE".into(),
        LeaderPacket::Proposal { zxid: z, .. } => format!("PROPOSAL {}", zxid(*z)),
        LeaderPacket::Commit { zxid: z } => format!("COMMIT {}", zxid(*z)),
        LeaderPacket::Inform { zxid: z, .. } => format!("INFORM {}", zxid(*z)),
        LeaderPacket::CommitAndActivate { zxid: z, .. } => format!("COMMITANDACTIVATE {}", zxid(*z)),
        LeaderPacket::InformAndActivate { zxid: z, .. } => format!("INFORMANDACTIVATE {}", zxid(*z)),
        LeaderPacket::Ping { .. } => "PING".into(),
        LeaderPacket::Revalidate { session, valid } => format!("REVALIDATE {session} {valid}"),
        LeaderPacket::Sync => "SYNC".into(),
    }
}

pub(crate) fn role(role: Role) -> String {
    match role {
        Role::Looking => "role looking".into(),
        Role::Learning { leader, epoch, observing: false } => format!("role following {leader} e{epoch}"),
        Role::Learning { leader, epoch, observing: true } => format!("role observing {leader} e{epoch}"),
        Role::Leading { epoch } => format!("role leading e{epoch}"),
    }
}
