//! The member list: `server.N`, `group.G`, `weight.N` and the rules that hold among them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
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
    /// Port of the election listener; never equal to `quorum_port`.
    pub election_port: u16,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address literal, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
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

    /// Members that vote.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.members.values().filter(|m| m.role == Role::Participant).count()
    }
}

const FORM: &str = "expected host:quorumPort:electionPort[:participant|observer], several joined by `|`, \
then optionally ;[clientHost:]clientPort and ;[secureHost:]securePort";

/// Reads the value of a `server.N` line.
///
/// # Errors
/// What is wrong, and the form that is expected.
pub(super) fn parse_member(text: &str) -> Result<Member, String> {
    let mut parts = text.split(';').map(str::trim);
    let peers = parts.next().unwrap_or_default();
    let client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
    let secure_client = parts.next().filter(|p| !p.is_empty()).map(parse_client).transpose()?;
    if parts.next().is_some() {
        return Err(format!("more than two client parts; {FORM}"));
    }

    let mut addresses = Vec::new();
    let mut roles = Vec::new();
    for peer in peers.split('|').map(str::trim) {
        let (address, role) = parse_peer(peer)?;
        addresses.push(address);
        roles.push(role);
    }
    if roles.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("the addresses of one server name different roles; write the same role on each".to_owned());
    }
    let role = roles[0];
    Ok(Member { addresses, role, client, secure_client })
}

fn parse_peer(text: &str) -> Result<(PeerAddress, Role), String> {
    let (host, rest) = split_host(text)?;
    let rest = rest.strip_prefix(':').ok_or_else(|| format!("no ports in `{text}`; {FORM}"))?;
    let fields: Vec<&str> = rest.split(':').collect();
    let (quorum, election, role) = match fields[..] {
        [quorum, election] => (quorum, election, Role::Participant),
        [quorum, election, role] if role.eq_ignore_ascii_case("participant") => (quorum, election, Role::Participant),
        [quorum, election, role] if role.eq_ignore_ascii_case("observer") => (quorum, election, Role::Observer),
        [_, _, role] => return Err(format!("`{role}` is no role; allowed: participant, observer")),
        _ => return Err(format!("`{text}` can't be read; {FORM}")),
    };
    if host.is_empty() {
        return Err(format!("no host in `{text}`; {FORM}"));
    }
    let (quorum_port, election_port) = (parse_port(quorum)?, parse_port(election)?);
    if quorum_port == election_port {
        return Err(format!("quorum port and election port of `{text}` must differ"));
    }
    Ok((PeerAddress { host: host.to_owned(), quorum_port, election_port }, role))
}

/// `[host:]port`; without a host every address is meant.
fn parse_client(text: &str) -> Result<HostPort, String> {
    if !text.contains(':') {
        return Ok(HostPort { host: "0.0.0.0".to_owned(), port: parse_port(text)? });
    }
    let (host, rest) = split_host(text)?;
    let port = rest.strip_prefix(':').ok_or_else(|| format!("no port in `{text}`; {FORM}"))?;
    Ok(HostPort { host: host.to_owned(), port: parse_port(port)? })
}

/// The host, without the brackets of an IPv6 literal, and what follows it.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| format!("`{text}` lacks a closing bracket"))?;
        host.parse::<Ipv6Addr>().map_err(|_| format!("`[{host}]` is no IPv6 address"))?;
        return Ok((host, rest));
    }
    Ok(text.split_at(text.find(':').unwrap_or(text.len())))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse::<u16>().ok().filter(|&port| port > 0);
    port.ok_or_else(|| format!("`{text}` is no port; allowed: 1 to 65535"))
}

/// Reads the value of a `group.G` line.
pub(super) fn parse_group(text: &str) -> Result<Vec<i64>, String> {
    let ids = text.split(':').map(|id| id.trim().parse::<i64>());
    ids.collect::<Result<_, _>>().map_err(|_| "expected server numbers joined by `:`, as in 1:2:3".to_owned())
}

/// Checks what several lines say together.
///
/// # Errors
/// What contradicts what.
pub(super) fn check_groups(config: &EnsembleConfig) -> Result<(), String> {
    if let Some(id) = config.weights.keys().find(|id| !config.members.contains_key(id)) {
        return Err(format!("weight.{id} names a server that has no server.{id} line"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: &str, quorum_port: u16, election_port: u16) -> PeerAddress {
        PeerAddress { host: host.to_owned(), quorum_port, election_port }
    }

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn reads_every_form_of_a_server_line() {
        let participant =
            |addresses, client, secure_client| Member { addresses, role: Role::Participant, client, secure_client };
        let table = [
            ("zk1:2888:3888", participant(vec![peer("zk1", 2888, 3888)], None, None)),
            ("10.0.0.1:2888:3888:participant", participant(vec![peer("10.0.0.1", 2888, 3888)], None, None)),
            ("zk1:2888:3888;2181", participant(vec![peer("zk1", 2888, 3888)], Some(at("0.0.0.0", 2181)), None)),
            (
                "[2001:db8::1]:2888:3888;[::1]:2181;2281",
                participant(vec![peer("2001:db8::1", 2888, 3888)], Some(at("::1", 2181)), Some(at("0.0.0.0", 2281))),
            ),
            ("zk1:2888:3888;;2281", participant(vec![peer("zk1", 2888, 3888)], None, Some(at("0.0.0.0", 2281)))),
            (
                "a:1:2:PARTICIPANT|b:3:4:participant; c:2181",
                participant(vec![peer("a", 1, 2), peer("b", 3, 4)], Some(at("c", 2181)), None),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse_member(text), Ok(expected), "{text}");
        }
        assert_eq!(parse_member("zk1:2888:3888:Observer").expect("valid line").role, Role::Observer);
    }

    #[test]
    fn refuses_lines_and_says_why() {
        for (text, why) in [
            ("", "no ports"),
            ("zk1", "no ports"),
            ("zk1:2888", "can't be read"),
            (":2888:3888", "no host"),
            ("zk1:2888:3888:voter", "allowed: participant, observer"),
            ("zk1:2888:2888", "must differ"),
            ("zk1:0:3888", "1 to 65535"),
            ("zk1:2888:70000", "1 to 65535"),
            ("zk1:2888:3888;x", "1 to 65535"),
            ("zk1:2888:3888;1;2;3", "more than two client parts"),
            ("[::1:2888:3888", "closing bracket"),
            ("[zk1]:2888:3888", "no IPv6 address"),
            ("2001:db8::1:2888:3888", "can't be read"),
            ("a:1:2:observer|b:1:2", "different roles"),
        ] {
            let error = parse_member(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn groups() {
        assert_eq!(parse_group("1:2: 3"), Ok(vec![1, 2, 3]));
        assert!(parse_group("1,2").is_err());
        assert!(parse_group("").is_err());
    }
}
