//! `farrier status`: who the members of an ensemble are and how each is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use farrier_client::{Client, ConnectString, ErrorCode, Host};
use serde_json::json;
use tokio::task::JoinSet;

use crate::hints;
use crate::output::{complain, conclude, print};
use crate::session::{self, IdentityOptions};
use crate::span::{self, HOUR, MS};

const EXAMPLES: &str = "\
Examples:
  farrier status
  farrier status --server zk1:2181,zk2:2181 --json

Members are those of /zookeeper/config, which any server tells; those of --server if none does, or if
that list names no client ports and several servers share a host. Where its ACL was changed, --auth-file or
--auth says who may read it. `lag` is how many transactions a
server is behind the newest of its epoch. `-` is what a server doesn't tell; the lines below the table
say which setting changes that.

Exit codes: 0 at least one server answered, 1 all that could be reached refused, 2 usage, 3 no server
could be reached.";

/// Options of `farrier status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Servers to ask first; a path behind a slash, as other commands take it, counts for nothing here
    #[arg(
        long,
        env = "FARRIER_SERVER",
        value_name = "HOST:PORT,…[/PATH]",
        default_value = "127.0.0.1:2181",
        value_parser = parse_servers
    )]
    server: ConnectString,

    /// Time that a server may take: seconds, or with a unit as in `500ms`, `5m`
    #[arg(long, value_name = "TIME", default_value = "10", allow_hyphen_values = true, value_parser = span::seconds(MS, HOUR))]
    timeout: Duration,

    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    identities: IdentityOptions,
}

fn parse_servers(text: &str) -> Result<ConnectString, String> {
    text.parse().map_err(|error: farrier_client::ConnectStringError| {
        let message = error.to_string();
        let hint = hints::bracketed(&message).map(|hint| format!(". {hint}")).unwrap_or_default();
        format!("{message}{hint}")
    })
}

/// Most members that are asked at once.
const AT_ONCE: usize = 64;

/// Transactions of a session that looks at the list of members: its begin and its end.
const OWN_TXNS: u64 = 2;

/// Pause before a server is asked again whether these have arrived. All that takes half of the patience with one server.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What a server must answer.
const WHITELIST: &str = "4lw.commands.whitelist=srvr,mntr";

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    id: Option<i64>,
    address: Host,
}

/// What came of asking one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It told of itself.
    Told(Facts),
    /// It runs, and has no quorum or has only begun.
    NotServing,
    /// It answers neither word.
    Refused,
    /// Nobody answers there.
    Unreachable(String),
}

/// What a server tells of itself.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Facts {
    role: Option<String>,
    zxid: Option<u64>,
    connections: Option<u64>,
    version: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    conclude("status", look_and_print(arguments))
}

fn look_and_print(arguments: &Arguments) -> anyhow::Result<u8> {
    let timeout = arguments.timeout;
    let identities = arguments.identities.read("status")?;
    let (members, answers, newest) = session::runtime()?.block_on(async {
        let members = find_members(&arguments.server.hosts, &identities, timeout).await;
        let mut answers = ask_all(&members, timeout).await;
        let newest = newest(&answers);
        settle(&members, &mut answers, newest, timeout).await;
        (members, answers, newest)
    });
    let text = if arguments.json { as_json(&members, &answers, newest) } else { as_table(&members, &answers, newest) };
    print(&text).context("standard output can't be written")?;
    Ok(code(&answers))
}

fn code(answers: &[Answer]) -> u8 {
    let any = |wanted: fn(&Answer) -> bool| answers.iter().any(wanted);
    if any(|a| matches!(a, Answer::Told(_) | Answer::NotServing)) {
        0
    } else if any(|a| matches!(a, Answer::Refused)) {
        1
    } else {
        3
    }
}

/// The members that some server's `/zookeeper/config` lists, or the servers that were named.
async fn find_members(named: &[Host], identities: &[(String, String)], timeout: Duration) -> Vec<Member> {
    let (mut listed, mut refused) = (None, None);
    for address in named {
        match read_config(address, identities, timeout).await {
            Ok(data) => {
                listed = Some((address, data));
                break;
            }
            // Other servers have the same ACL; which of them are members is not known then.
            Err(error) if is_refusal(&error) => refused = Some(error),
            Err(error) => tracing::debug!("{address}: {error:#}"),
        }
    }
    if let (None, Some(error)) = (&listed, refused) {
        complain(
            "farrier status: warning",
            format_args!(
                "{}; asking those of --server. --auth-file or --auth says who may read it",
                hints::message(&error)
            ),
        );
    }
    let members = listed.and_then(|(address, data)| {
        let members = members_of(&String::from_utf8_lossy(&data), named, address.port);
        members.map_err(|shared| complain("farrier status: warning", shared)).ok()
    });
    match members {
        Some(members) if !members.is_empty() => members,
        Some(_) | None => named.iter().map(|address| Member { id: None, address: address.clone() }).collect(),
    }
}

/// What one server has in `/zookeeper/config`.
async fn read_config(address: &Host, identities: &[(String, String)], timeout: Duration) -> anyhow::Result<Vec<u8>> {
    // A client would try until its time is over.
    if matches!(ask(address, timeout).await, Answer::Unreachable(_) | Answer::NotServing) {
        bail!("it doesn't serve");
    }
    let mut builder = Client::builder(&address.to_string())
        .allow_read_only(true)
        .renew_session(false)
        .connect_timeout(timeout)
        .request_timeout(timeout);
    for (scheme, credentials) in identities {
        builder = builder.auth(scheme, credentials);
    }
    let client = builder.connect().await?;
    let value = client.config().await;
    // If this is lost, the session ends by its timeout.
    let _ = client.close().await;
    Ok(value?.data.to_vec())
}

/// Whether a server told that this one may not read it.
fn is_refusal(error: &anyhow::Error) -> bool {
    use farrier_client::Error::{AuthFailed, Refused};
    let is_theirs = |error: &_| matches!(error, Refused { code: ErrorCode::NoAuth, .. } | AuthFailed);
    error.downcast_ref().is_some_and(is_theirs)
}

/// Reads the list of members. A line without a client port means a server whose port stands in its own
/// file: then it is the one under which that host was named, else `port`.
///
/// # Errors
/// Two would be one.
fn members_of(config: &str, named: &[Host], port: u16) -> Result<Vec<Member>, String> {
    let mut members = Vec::new();
    for line in config.lines() {
        let Some((number, value)) = line.trim().strip_prefix("server.").and_then(|l| l.split_once('=')) else {
            continue;
        };
        let Ok(id) = number.trim().parse() else { continue };
        let Some(host) = peer_host(value) else { continue };
        let client = value.split(';').nth(1).map(str::trim).filter(|c| !c.is_empty());
        let told = client.and_then(|c| if c.contains(':') { c.parse().ok() } else { c.parse().ok().map(any) });
        let address = match told {
            Some(told) if !matches!(&*told.name, "0.0.0.0" | "::") => told,
            Some(told) => Host { name: host.into(), port: told.port },
            None => {
                let known = named.iter().find(|a| *a.name == *host).map(|a| a.port);
                Host { name: host.into(), port: known.unwrap_or(port) }
            }
        };
        members.push(Member { id: Some(id), address });
    }
    let distinct: BTreeMap<&Host, ()> = members.iter().map(|m| (&m.address, ())).collect();
    if distinct.len() == members.len() {
        return Ok(members);
    }
    let example = config.lines().map(str::trim).find(|line| line.starts_with("server.") && !line.contains(';'));
    Err(format!(
        "several servers share a host, and their server.N lines don't each name a port of its own for clients, so that nobody \
         knows which of them is which; asking those of --server. To see all with their numbers, write each one's port into \
         every zoo.cfg: {};PORT",
        example.unwrap_or("server.1=HOST:2888:3888"),
    ))
}

fn any(port: u16) -> Host {
    Host { name: "0.0.0.0".into(), port }
}

/// The host of a member's first address for its peers.
fn peer_host(value: &str) -> Option<String> {
    let first = value.split(['|', ';']).next()?.trim();
    let host = match first.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => first.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

async fn ask_all(members: &[Member], timeout: Duration) -> Vec<Answer> {
    let mut answers = Vec::new();
    for some in members.chunks(AT_ONCE) {
        let mut asked = JoinSet::new();
        for (index, member) in some.iter().enumerate() {
            let address = member.address.clone();
            asked.spawn(async move { (index, ask(&address, timeout).await) });
        }
        let mut answered = asked.join_all().await;
        answered.sort_by_key(|(index, _)| *index);
        answers.extend(answered.into_iter().map(|(_, answer)| answer));
    }
    answers
}

/// Asks those again that are behind by no more than the look at the list of members has written: that was on its way to
/// them when they were asked.
async fn settle(members: &[Member], answers: &mut [Answer], newest: u64, timeout: Duration) {
    let behind = |answer: &Answer| match answer {
        Answer::Told(facts) => facts.zxid.and_then(|zxid| lag(zxid, newest)).unwrap_or(0),
        Answer::NotServing | Answer::Refused | Answer::Unreachable(_) => 0,
    };
    let end = Instant::now() + timeout / 2;
    for (member, answer) in members.iter().zip(answers) {
        while (1..=OWN_TXNS).contains(&behind(answer)) && Instant::now() < end {
            tokio::time::sleep(LOOK_PAUSE).await;
            *answer = ask(&member.address, timeout).await;
        }
    }
}

async fn ask(address: &Host, timeout: Duration) -> Answer {
    match address.word("srvr", timeout).await {
        Ok(text) => match read_srvr(&text) {
            // Only `srvr` tells the zxid; `mntr` tells the rest of it.
            Answer::Refused => match address.word("mntr", timeout).await {
                Ok(text) => read_mntr(&text),
                Err(_) => Answer::Refused,
            },
            other => other,
        },
        Err(error) => Answer::Unreachable(error.to_string()),
    }
}

fn read_srvr(text: &str) -> Answer {
    if text.contains("not currently serving requests") {
        return Answer::NotServing;
    }
    let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
    let Some(mode) = value("Mode:") else { return Answer::Refused };
    let zxid = value("Zxid:").and_then(|z| u64::from_str_radix(z.trim_start_matches("0x"), 16).ok());
    Answer::Told(Facts {
        role: Some(mode.to_owned()),
        zxid,
        connections: value("Connections:").and_then(|c| c.parse().ok()),
        version: value("Zookeeper version:").map(short_version),
    })
}

fn read_mntr(text: &str) -> Answer {
    if text.contains("not currently serving requests") {
        return Answer::NotServing;
    }
    let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('\t')).map(str::trim);
    let Some(mode) = value("zk_server_state") else { return Answer::Refused };
    Answer::Told(Facts {
        role: Some(mode.to_owned()),
        zxid: None,
        connections: value("zk_num_alive_connections").and_then(|c| c.parse().ok()),
        version: value("zk_version").map(short_version),
    })
}

/// Without the time and the commit of the build.
fn short_version(text: &str) -> String {
    let text = text.split(',').next().unwrap_or(text).trim();
    match text.rsplit_once('-') {
        Some((version, commit)) if commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()) => {
            version.to_owned()
        }
        Some(_) | None => text.to_owned(),
    }
}

/// How far a server is behind the newest of its epoch; unknown if the newest is of another one. Whoever was asked again
/// may have more by then.
fn lag(zxid: u64, newest: u64) -> Option<u64> {
    (zxid >> 32 == newest >> 32).then(|| newest.saturating_sub(zxid))
}

/// The cells of a row: epoch, zxid, lag, connections, version; what isn't known is `None`.
struct Row {
    role: String,
    epoch: Option<u64>,
    zxid: Option<u64>,
    lag: Option<u64>,
    connections: Option<u64>,
    version: Option<String>,
}

fn row(answer: &Answer, newest: u64) -> Row {
    let (role, facts) = match answer {
        Answer::Told(facts) => (facts.role.clone().unwrap_or_default(), facts.clone()),
        Answer::NotServing => ("not serving".to_owned(), Facts::default()),
        Answer::Refused => ("refuses to tell".to_owned(), Facts::default()),
        Answer::Unreachable(_) => ("unreachable".to_owned(), Facts::default()),
    };
    Row {
        role,
        epoch: facts.zxid.map(|z| z >> 32),
        zxid: facts.zxid,
        lag: facts.zxid.and_then(|z| lag(z, newest)),
        connections: facts.connections,
        version: facts.version,
    }
}

fn newest(answers: &[Answer]) -> u64 {
    let zxid = |answer: &Answer| match answer {
        Answer::Told(facts) => facts.zxid,
        Answer::NotServing | Answer::Refused | Answer::Unreachable(_) => None,
    };
    answers.iter().filter_map(zxid).max().unwrap_or(0)
}

/// Why cells of a row are empty, and what to do about it.
fn remark(member: &Member, answer: &Answer) -> Option<String> {
    let address = &member.address;
    match answer {
        Answer::Told(facts) if facts.zxid.is_none() => {
            Some(format!("{address} doesn't answer srvr; set {WHITELIST} in its zoo.cfg"))
        }
        Answer::Told(_) => None,
        Answer::NotServing => Some(format!("{address} runs and has no quorum; its log says for whom it waits")),
        Answer::Refused => Some(format!("{address} answers neither srvr nor mntr; set {WHITELIST} in its zoo.cfg")),
        Answer::Unreachable(error) => Some(format!("{address}: {error}")),
    }
}

fn as_table(members: &[Member], answers: &[Answer], newest: u64) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["id", "address", "role", "epoch", "last zxid", "lag", "connections", "version"]);
    for (member, answer) in members.iter().zip(answers) {
        let row = row(answer, newest);
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.add_row([
            member.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            member.address.to_string(),
            row.role,
            number(row.epoch),
            row.zxid.map_or_else(|| "-".to_owned(), |z| format!("0x{z:x}")),
            number(row.lag),
            number(row.connections),
            row.version.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if matches!(index, 0 | 3..=6) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let remarks: Vec<String> = members.iter().zip(answers).filter_map(|(m, a)| remark(m, a)).collect();
    if !remarks.is_empty() {
        let _ = writeln!(text, "\n{}", remarks.join("\n"));
    }
    text
}

fn as_json(members: &[Member], answers: &[Answer], newest: u64) -> String {
    let rows: Vec<serde_json::Value> = members
        .iter()
        .zip(answers)
        .map(|(member, answer)| {
            let row = row(answer, newest);
            json!({
                "id": member.id,
                "address": member.address.to_string(),
                "role": row.role,
                "epoch": row.epoch,
                "zxid": row.zxid.map(|z| format!("0x{z:x}")),
                "lag": row.lag,
                "connections": row.connections,
                "version": row.version,
                "remark": remark(member, answer),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Host {
        text.parse().expect("an address")
    }

    fn found(config: &str, named: &str) -> Option<Vec<String>> {
        let members = members_of(config, &[address(named)], address(named).port).ok()?;
        Some(members.iter().map(|m| format!("{} {}", m.id.expect("it was listed"), m.address)).collect())
    }

    #[test]
    fn members_are_read_from_the_config_znode() {
        let config = "server.1=zk1:2888:3888:participant;0.0.0.0:2181\n\
                      server.2=zk2:2888:3888:participant;10.0.0.2:2182\n\
                      server.3=[::1]:2888:3888|zk3b:2888:3888:observer;2183\nversion=100000000";
        let expected = ["1 zk1:2181", "2 10.0.0.2:2182", "3 [::1]:2183"].map(str::to_owned).to_vec();
        assert_eq!(found(config, "zk1:2181"), Some(expected));
        assert_eq!(found("", "zk1"), Some(vec![]));
    }

    #[test]
    fn a_missing_client_port_is_the_one_that_was_named_unless_hosts_are_shared() {
        let config = "server.1=zk1:1:2:participant\nserver.2=zk2:1:2:participant\nversion=0";
        assert_eq!(found(config, "zk1:9"), Some(vec!["1 zk1:9".to_owned(), "2 zk2:9".to_owned()]));
        let shared = members_of("server.1=h:1:2\nserver.2=h:3:4\n", &[address("h:9")], 9).expect_err("one host");
        assert!(shared.contains("don't each name a port of its own"), "{shared}");
        for lines in ["server.1=h:1:2;9\nserver.2=h:3:4\n", "server.1=h:1:2;9\nserver.2=h:3:4;9\n"] {
            assert_eq!(
                members_of(lines, &[address("h:9")], 9).expect_err(lines).split("; ").next(),
                shared.split("; ").next()
            );
        }
        assert!(shared.ends_with("write each one's port into every zoo.cfg: server.1=h:1:2;PORT"), "{shared}");
    }

    #[test]
    fn srvr_and_mntr_are_read() {
        let commit = "d9a0".repeat(10);
        let text =
            format!("Zookeeper version: 3.9.5-{commit}, built on x\nConnections: 3\nZxid: 0x200000007\nMode: leader\n");
        let facts = Facts {
            role: Some("leader".into()),
            zxid: Some(0x2_0000_0007),
            connections: Some(3),
            version: Some("3.9.5".into()),
        };
        assert_eq!(read_srvr(&text), Answer::Told(facts));
        assert_eq!(read_srvr("This ZooKeeper instance is not currently serving requests\n"), Answer::NotServing);
        assert_eq!(read_srvr("srvr is not executed because it is not in the whitelist.\n"), Answer::Refused);
        let Answer::Told(facts) = read_mntr("zk_version\t3.9.4-farrier-0.1.0, built on x\nzk_server_state\tfollower\n")
        else {
            panic!("mntr is told")
        };
        assert_eq!((facts.role.as_deref(), facts.version.as_deref()), (Some("follower"), Some("3.9.4-farrier-0.1.0")));
    }

    #[test]
    fn the_table_shows_lag_and_says_what_to_set() {
        let told = |zxid| Answer::Told(Facts { role: Some("follower".into()), zxid: Some(zxid), ..Facts::default() });
        let members: Vec<Member> =
            (1..=4).map(|id| Member { id: Some(id), address: address(&format!("zk{id}")) }).collect();
        let answers = [told(0x3_0000_0009), told(0x3_0000_0004), told(0x2_0000_0009), Answer::Refused];
        let text = as_table(&members, &answers, newest(&answers));
        let cells: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(cells[1], ["1", "zk1:2181", "follower", "3", "0x300000009", "0", "-", "-"]);
        assert_eq!(cells[2][5], "5");
        assert_eq!(cells[3][5], "-", "another epoch");
        assert!(
            text.contains("zk4:2181 answers neither srvr nor mntr; set 4lw.commands.whitelist=srvr,mntr"),
            "{text}"
        );
        let rows: serde_json::Value =
            serde_json::from_str(&as_json(&members, &answers, newest(&answers))).expect("valid");
        assert_eq!((&rows[1]["lag"], &rows[3]["zxid"]), (&json!(5), &json!(null)));
    }

    #[test]
    fn exit_codes() {
        let unreachable = || Answer::Unreachable("x".into());
        assert_eq!(code(&[unreachable(), Answer::NotServing]), 0);
        assert_eq!(code(&[unreachable(), Answer::Refused]), 1);
        assert_eq!(code(&[unreachable()]), 3);
    }
}
