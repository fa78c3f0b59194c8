//! The member list: `server.N`, `group.G`, `weight.N` and the rules that hold among them.

use std::collections::BTreeMap;

/// Who the members are, as the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Part of a member in the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Votes.
    Participant,
    /// Learns without a vote.
    Observer,
}

/// One `server.N` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where its peers reach it; at least one.
    pub addresses: Vec<PeerAddress>,
    /// Participant or observer.
    pub role: Role,
    /// Plain client address, if the line has one.
    pub client: Option<HostPort>,
    /// TLS client address, if the line has one.
    pub secure_client: Option<HostPort>,
}

/// One peer-facing address of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Name or address literal, without brackets.
    pub host: String,
    /// Port of the leader's learner listener.
    pub quorum_port: u16,
    /// Port of the election listener; absent only where it isn't needed.
    pub election_port: Option<u16>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address literal, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}
