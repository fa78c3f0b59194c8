//! Who the members of an ensemble are, as text: lines of configuration files, of the znode `/zookeeper/config`, of
//! reconfigurations, and of what servers tell each other.

use crate::ids::ServerId;
use core::fmt::Write as _;
use core::net::Ipv6Addr;
use std::collections::BTreeMap;

/// Most lines of a list.
const LINES_MAX: usize = 4096;

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

/// A membership: everything that the text says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemberList {
    /// Members by their number.
    pub members: BTreeMap<i64, Member>,
    /// `group.G`: the members of each group; empty without hierarchical quorums.
    pub groups: BTreeMap<i64, Vec<i64>>,
    /// `weight.N`; a member without one weighs 1.
    pub weights: BTreeMap<i64, u64>,
    /// The zxid of the reconfiguration that made it, or 0.
    pub version: u64,
}

impl MemberList {
    /// Reads a text.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = core::str::from_utf8(text).map_err(|_| "the configuration is no UTF-8 text".to_owned())?;
        let mut list = Self::default();
        for (n, line) in text.lines().map(str::trim).enumerate() {
            if n >= LINES_MAX {
                return Err(format!("the configuration has more than {LINES_MAX} lines"));
            }
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| format!("`{line}` has no value"))?;
            list.set(key.trim(), value.trim()).map_err(|why| format!("{line}: {why}"))?;
        }
        Ok(list)
    }

    /// Takes one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key == "version" {
            self.version = version(value).ok_or("no hexadecimal number")?;
            return Ok(());
        }
        let Some((kind, number)) = key.split_once('.') else {
            return Err("expected server.N, group.G, weight.N or version".to_owned());
        };
        let id: i64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        match kind {
            "server" => {
                self.members.insert(id, parse_member(value)?);
            }
            "group" => {
                self.groups.insert(id, parse_group(value)?);
            }
            "weight" => {
                let weight = value.parse().map_err(|_| "not an integer; allowed: 0 and more".to_owned())?;
                self.weights.insert(id, weight);
            }
            _ => return Err("expected server.N, group.G, weight.N or version".to_owned()),
        }
        Ok(())
    }

    /// The version that a text ends with, without a look at the rest; 0 if it has none.
    #[must_use]
    pub fn version_of(text: &[u8]) -> u64 {
        let line = text.rsplit(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"version="));
        let number = line.and_then(|n| core::str::from_utf8(n).ok());
        number.and_then(|n| version(n.trim())).unwrap_or(0)
    }

    /// A member.
    #[must_use]
    pub fn get(&self, server: ServerId) -> Option<&Member> {
        self.members.get(&server.0)
    }

    /// As servers tell it to each other: Apache's form, ids in their order, and no newline behind the version.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (id, member) in &self.members {
            let mut addresses: Vec<_> = member.addresses.iter().collect();
            addresses.sort_by(|a, b| a.host.cmp(&b.host));
            let addresses: Vec<_> = addresses
                .iter()
                .map(|a| format!("{}:{}:{}", bracketed(&a.host), a.quorum_port, a.election_port))
                .collect();
            let role = match member.role {
                Role::Participant => "participant",
                Role::Observer => "observer",
            };
            // Writing to a String can't fail.
            let _ = write!(out, "server.{id}={}:{role}", addresses.join("|"));
            let client = |c: &HostPort| format!("{}:{}", bracketed(&c.host), c.port);
            match (&member.client, &member.secure_client) {
                (None, None) => {}
                (Some(plain), None) => out.push_str(&format!(";{}", client(plain))),
                (plain, Some(secure)) => {
                    let plain = plain.as_ref().map(client).unwrap_or_default();
                    out.push_str(&format!(";{plain};{}", client(secure)));
                }
            }
            out.push('\n');
        }
        for (group, ids) in &self.groups {
            let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
            let _ = writeln!(out, "group.{group}={}", ids.join(":"));
        }
        if !self.groups.is_empty() {
            for (id, _) in self.members.iter().filter(|(_, m)| m.role == Role::Participant) {
                let _ = writeln!(out, "weight.{id}={}", self.weights.get(id).copied().unwrap_or(1));
            }
        }
        let _ = write!(out, "version={:x}", self.version);
        out
    }

    /// The lines of a file for it: the same without the version, sorted, and no newline at the end.
    #[must_use]
    pub fn file_text(&self) -> String {
        let text = self.text();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("version=")).collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

const FORM: &str = "expected host:quorumPort:electionPort[:participant|observer], several joined by `|`, \
then optionally ;[clientHost:]clientPort and ;[secureHost:]securePort";

/// Reads the value of a `server.N` line.
///
/// # Errors
/// What is wrong, and the form that is expected.
pub fn parse_member(text: &str) -> Result<Member, String> {
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

/// Apache's are signed: one that it could not read would never be followed by a newer one.
fn version(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|version| i64::try_from(*version).is_ok())
}

/// Reads the value of a `group.G` line.
///
/// # Errors
/// What was expected.
pub fn parse_group(text: &str) -> Result<Vec<i64>, String> {
    let ids = text.split(':').map(|id| id.trim().parse::<i64>());
    ids.collect::<Result<_, _>>().map_err(|_| "expected server numbers joined by `:`, as in 1:2:3".to_owned())
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

    #[test]
    fn what_is_written_is_read() {
        let text = "server.1=zk1:2888:3888:participant;[::]:2181\n\
                    server.2=10.0.0.2:2888:3888|zk2:2888:3888:participant\n\
                    server.10=[::1]:2888:3888:observer;0.0.0.0:2184\n\
                    group.1=1:2\nweight.1=1\nweight.2=3\nversion=200000006";
        let list = MemberList::parse(text.as_bytes()).expect("a list");
        assert_eq!((list.text().as_str(), list.version), (text, 0x2_0000_0006));
        assert_eq!(MemberList::version_of(text.as_bytes()), 0x2_0000_0006);
        assert_eq!(list.get(ServerId(10)).expect("listed").role, Role::Observer);
        let file = list.file_text();
        assert!(file.starts_with("group.1=1:2\nserver.10=[::1]") && file.ends_with("weight.2=3"), "{file}");
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        for (text, why) in [
            (b"server.1=a:1:2\nclientPort=5".as_slice(), "clientPort=5: expected server.N"),
            (b"server.1", "has no value"),
            (b"version=x", "no hexadecimal number"),
            (b"server.1=a:1:2\n\xff", "no UTF-8"),
            (b"weight.1=-1", "not an integer"),
        ] {
            let error = MemberList::parse(text).expect_err("no list");
            assert!(error.contains(why), "{error}");
        }
        let long = "#\n".repeat(LINES_MAX + 1);
        assert!(MemberList::parse(long.as_bytes()).is_err());
        assert_eq!(MemberList::version_of(b"server.1=a"), 0);
    }
}
