//! `farrier admin`: what only those who run a server may ask of it, over the socket in its data directory.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use farrier_server::admin::SOCKET;
use farrier_server::config::{ConfigError, Member};
use serde_json::Value;

use crate::files::unfound;
use crate::output::{complain, print};
use crate::server::{load_file, refuse};
use crate::span::{self, HOUR, MS};

const EXAMPLES: &str = "\
Examples:
  farrier admin status --dir /var/lib/zookeeper
  farrier admin transfer-leader --dir zoo.cfg

A member of an ensemble listens on DATADIR/farrier.sock, which only the user may open as whom it runs. --dir
names the directory with its zoo.cfg, as in `farrier init`, or the data directory itself, or the file.
No target can be named for transfer-leader: the most up to date voter with the largest id wins.

Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 no server.";

const TRANSFER_EXAMPLES: &str = "\
Examples:
  farrier admin transfer-leader --dir /var/lib/zookeeper
  farrier admin transfer-leader --dir zoo.cfg --timeout 60";

const STATUS_EXAMPLES: &str = "\
Examples:
  farrier admin status --dir /var/lib/zookeeper
  farrier admin status --dir zoo.cfg";

/// Options of `farrier admin`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let another server lead, without a gap for clients beyond a reconnect
    #[command(after_help = TRANSFER_EXAMPLES)]
    TransferLeader(Place),
    /// Print what the server knows of leader, learners and itself, as JSON
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The directory that `farrier init` made, or the server's data directory, or its configuration file
    #[arg(long, value_name = "DIR|ZOO.CFG")]
    dir: PathBuf,

    /// Time that the server, or the move of the leader, may take: seconds, or with a unit as in `500ms`, `5m`
    #[arg(long, value_name = "TIME", default_value = "10", allow_hyphen_values = true, value_parser = span::seconds(MS, HOUR))]
    timeout: Duration,
}

/// Longest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;
/// Pause between two looks whether somebody leads.
const LOOK: Duration = Duration::from_millis(20);

/// Why a server could not be asked, or would not do it.
enum Failure {
    Unreachable(String),
    Refused(String),
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let (Command::TransferLeader(place) | Command::Status(place)) = &arguments.command;
    let Site { dir, members } = match site(place) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let end = Instant::now() + place.timeout;
    let result = match arguments.command {
        Command::TransferLeader(_) => transfer_leader(&dir, &members, end),
        Command::Status(_) => ask(&dir, "status", end).map(|status| status.to_string()),
    };
    let (message, code) = match result {
        Ok(text) => match print(&format!("{text}\n")) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (format!("standard output can't be written: {error}"), 1),
        },
        Err(Failure::Refused(why)) => (why, 1),
        Err(Failure::Unreachable(why)) => (why, 3),
    };
    complain("farrier admin: error", message);
    ExitCode::from(code)
}

/// The server that was named.
struct Site {
    dir: PathBuf,
    /// Where each member is, as far as a configuration file tells.
    members: BTreeMap<i64, String>,
}

fn site(place: &Place) -> Result<Site, ExitCode> {
    let file = if place.dir.is_file() { place.dir.clone() } else { place.dir.join("zoo.cfg") };
    if file.is_file() {
        let config = load_file(&file, &[]).map_err(|error| refuse("admin", &error))?.config;
        let members = config.ensemble.map(|ensemble| ensemble.members).unwrap_or_default();
        let host = |(id, member): (i64, Member)| Some((id, member.addresses.into_iter().next()?.host));
        return Ok(Site { dir: config.data_dir, members: members.into_iter().filter_map(host).collect() });
    }
    if place.dir.is_dir() {
        return Ok(Site { dir: place.dir.clone(), members: BTreeMap::new() });
    }
    let message = match place.dir.metadata() {
        Ok(_) => format!("{} is neither a data directory nor a configuration file", place.dir.display()),
        Err(error) => unfound(&place.dir, &error),
    };
    complain("farrier admin: error", message);
    Err(ExitCode::from(ConfigError::EXIT_CODE))
}

/// Asks for it, and waits until the server follows another one.
fn transfer_leader(dir: &Path, members: &BTreeMap<i64, String>, end: Instant) -> Result<String, Failure> {
    let before = ask(dir, "status", end)?;
    let answer = answer(dir, "transfer-leader", end)?;
    if let Some(refused) = refusal(&answer) {
        return Err(Failure::Refused(elsewhere(refused, answer.get("leader").and_then(Value::as_i64), members)));
    }
    let me = before.get("server").and_then(Value::as_i64);
    loop {
        let now = ask(dir, "status", end)?;
        let leader = now.get("leader").and_then(Value::as_i64);
        let established = now.get("epoch").and_then(Value::as_u64) > before.get("epoch").and_then(Value::as_u64);
        match leader {
            Some(leader) if established && Some(leader) != me => return Ok(format!("server {leader} leads")),
            Some(_) if established => {
                return Err(Failure::Refused("no other server was elected: this one leads again; see its log".into()));
            }
            Some(_) | None => {}
        }
        if Instant::now() >= end {
            return Err(Failure::Refused(
                "the leadership was given up, and nobody has it yet; see the server's log".into(),
            ));
        }
        thread::sleep(LOOK);
    }
}

/// Why it was refused, and where it would not be.
fn elsewhere(refused: &str, leader: Option<i64>, members: &BTreeMap<i64, String>) -> String {
    let Some(leader) = leader else { return refused.to_owned() };
    let at = members.get(&leader).map(|host| format!(" ({host})")).unwrap_or_default();
    format!("{refused}. Run this on the machine of server {leader}{at}, with its --dir")
}

/// One request that must be done, and its answer.
fn ask(dir: &Path, command: &str, end: Instant) -> Result<Value, Failure> {
    let answer = answer(dir, command, end)?;
    match refusal(&answer) {
        Some(refused) => Err(Failure::Refused(refused.to_owned())),
        None => Ok(answer),
    }
}

fn refusal(answer: &Value) -> Option<&str> {
    answer.get("error").and_then(Value::as_str)
}

/// One request and its answer.
fn answer(dir: &Path, command: &str, end: Instant) -> Result<Value, Failure> {
    let path = dir.join(SOCKET);
    let text = exchange(&path, command, end).map_err(|error| Failure::Unreachable(why(&path, &error)))?;
    serde_json::from_str(&text)
        .map_err(|_| Failure::Unreachable(format!("{} answers what is no JSON: {text:?}", path.display())))
}

fn exchange(path: &Path, command: &str, end: Instant) -> io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    socket.set_read_timeout(Some(left))?;
    socket.set_write_timeout(Some(left))?;
    socket.write_all(format!("{command}\n").as_bytes())?;
    let mut text = String::new();
    socket.take(ANSWER_MAX).read_to_string(&mut text)?;
    if text.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

fn why(path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the server running, as a member of an ensemble, and is this its data directory?"
        }
        io::ErrorKind::PermissionDenied => "only the user may ask as whom the server runs",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the server does not answer in time",
        _ => "is the server going down?",
    };
    format!("{}: {error}: {remedy}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_names_the_machine_of_the_leader() {
        let refused = "this server does not lead; server 2 does";
        let members = BTreeMap::from([(1, "zk1".to_owned()), (2, "zk2".to_owned())]);
        assert_eq!(
            elsewhere(refused, Some(2), &members),
            format!("{refused}. Run this on the machine of server 2 (zk2), with its --dir")
        );
        assert!(elsewhere(refused, Some(2), &BTreeMap::new()).contains("of server 2, with"));
        assert_eq!(elsewhere("nobody leads", None, &members), "nobody leads");
    }
}
