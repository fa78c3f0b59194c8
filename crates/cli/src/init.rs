//! `farrier init`: the files of one member of a real ensemble, and what to do next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_server::config::{ConfigError, as_value};

use crate::output::{complain, print};
use crate::server::load_file;

const EXAMPLES: &str = "\
Examples:
  farrier init --id 1 --server 1=zk1 --server 2=zk2 --server 3=zk3 --dir /var/lib/farrier
  farrier init --id 4 --server 1=zk1 --server 2=zk2 --server 3=zk3 --server 4=zk4:2888:3888:observer --dir zk

Run it on every machine with the same list and that machine's own --id. A shell wants quotes around what has a
semicolon: '1=127.0.0.1:2888:3888;2181'. An IPv6 address stands in brackets. Nothing is overwritten.

DIR gets zoo.cfg and a directory `data`, with myid. `farrier server DIR/zoo.cfg` runs the server, and
`farrier admin … --dir DIR` speaks to it.

Exit codes: 0 done, 1 something is there already or can't be written, 2 usage or configuration.";

/// Options of `farrier init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// This server's number in the list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    id: u8,

    /// A member: its number, its host, and, if they aren't 2888 and 3888, its quorum and election ports; a role may
    /// follow, and behind a semicolon its port for clients (repeatable)
    #[arg(
        long = "server",
        required = true,
        value_name = "N=HOST[:QUORUM:ELECTION[:ROLE]][;CLIENT]",
        value_parser = parse_member
    )]
    servers: Vec<(u8, String)>,

    /// Where zoo.cfg and the data directory go; made if missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Port for clients of every member that is listed without one
    #[arg(long, value_name = "PORT", default_value_t = 2181, value_parser = clap::value_parser!(u16).range(1..))]
    client_port: u16,
}

/// `N=HOST…` as a number and the value of a `server.N` line, perhaps without the port for clients.
fn parse_member(text: &str) -> Result<(u8, String), String> {
    let form = "expected N=HOST[:QUORUM:ELECTION[:ROLE]][;CLIENT], as in 1=zk1 or 1=10.0.0.1:2888:3888:observer;2181";
    let (number, value) = text.split_once('=').ok_or(form)?;
    let number = number.parse::<u8>().ok().filter(|&n| n > 0).ok_or("a server's number is 1 to 255")?;
    let (place, client) = value.split_once(';').map_or((value, None), |(place, client)| (place, Some(client)));
    if place.is_empty() || client == Some("") {
        return Err(form.to_owned());
    }
    if place.split('|').any(|place| !place.starts_with('[') && (place.contains("::") || place.matches(':').count() > 3))
    {
        return Err(format!("an IPv6 address stands in brackets, as in {number}=[::1]:2888:3888"));
    }
    let behind_host = place.rfind(']').map_or(place, |at| &place[at..]);
    let ports = if behind_host.contains(':') { "" } else { ":2888:3888" };
    let client = client.map(|client| format!(";{client}")).unwrap_or_default();
    Ok((number, format!("{place}{ports}{client}")))
}

/// The host of a member's first address.
fn host_of(place: &str) -> &str {
    match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => place.split([':', '|', ';']).next().unwrap_or(place),
    }
}

/// The members with a port for clients each, or why they can't be.
fn members(arguments: &Arguments) -> Result<BTreeMap<u8, String>, String> {
    let mut members = BTreeMap::new();
    for (number, place) in &arguments.servers {
        if members.insert(*number, place.clone()).is_some() {
            return Err(format!("server {number} is listed twice"));
        }
    }
    if !members.contains_key(&arguments.id) {
        return Err(format!("--id {} is none of the listed servers", arguments.id));
    }
    let (mut places, mut hosts) = (BTreeMap::new(), BTreeMap::new());
    for (number, member) in &members {
        let place = member.split(';').next().unwrap_or(member);
        // A client's address is the host's unless another one is named; nobody can have the same port there.
        let client = member.split_once(';').map(|(_, client)| client.to_owned());
        let client = client.unwrap_or_else(|| arguments.client_port.to_string());
        let other = places.insert(place, number).or_else(|| hosts.insert((host_of(place), client), number));
        if let Some(other) = other {
            let host = host_of(place);
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            return Err(format!(
                "servers {other} and {number} have the same ports on {host}; on one machine each needs ports of its own for \
                 its peers and for clients, as in --server '{other}={host}:2888:3888;2181' --server \
                 '{number}={host}:2889:3889;2182'"
            ));
        }
    }
    for member in members.values_mut().filter(|member| !member.contains(';')) {
        let _ = write!(member, ";{}", arguments.client_port);
    }
    Ok(members)
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let members = match members(arguments) {
        Ok(members) => members,
        Err(why) => {
            complain("farrier init: error", why);
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    let written = match Files::write(arguments, &members) {
        Ok(written) => written,
        Err(error) => {
            complain("farrier init: error", format_args!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    // The server's own reader has the last word on what was written.
    let loaded = match load_file(&written.cfg, &[]) {
        Ok(loaded) => loaded,
        Err(error) => {
            written.remove();
            // Their places are lines of a file that is gone.
            let problems: Vec<&str> = error.problems.iter().map(|problem| problem.message.as_str()).collect();
            complain("farrier init: error", format_args!("{}\nNothing was written.", problems.join("\n")));
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    match print(&next_steps(arguments, &members, &written, loaded.config.client.port)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("farrier init: error", format_args!("standard output can't be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The two files of a member, and the directories that were made for them, the innermost first.
#[derive(Debug)]
struct Files {
    cfg: PathBuf,
    myid: PathBuf,
    made: Vec<PathBuf>,
}

impl Files {
    /// Writes both, or neither if one is there.
    fn write(arguments: &Arguments, members: &BTreeMap<u8, String>) -> anyhow::Result<Self> {
        let dir = std::path::absolute(&arguments.dir).with_context(|| arguments.dir.display().to_string())?;
        let data = dir.join("data");
        let made = data.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
        let files = Self { cfg: dir.join("zoo.cfg"), myid: data.join("myid"), made };
        for path in [&files.cfg, &files.myid, &data.join("version-2")] {
            if path.symlink_metadata().is_ok() {
                bail!("{} is there already, and nothing is overwritten; choose another --dir", path.display());
            }
        }
        let text = zoo_cfg(&data, members)?;
        fs::create_dir_all(&data).with_context(|| format!("{} can't be made", data.display()))?;
        let created = create(&files.cfg, &text).and_then(|()| create(&files.myid, &format!("{}\n", arguments.id)));
        if let Err(error) = created {
            files.remove();
            return Err(error);
        }
        Ok(files)
    }

    /// Takes back what was written.
    fn remove(&self) {
        for path in [&self.cfg, &self.myid] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    complain("farrier init: warning", format_args!("{} stays behind: {error}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        for dir in &self.made {
            // Somebody may have put something there meanwhile.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Writes a file that isn't there yet, and makes it last.
fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{} can't be written", path.display()))
}

/// A member's configuration. The port for clients stands in the members' lines: from there every server can tell all
/// of them.
fn zoo_cfg(data: &Path, members: &BTreeMap<u8, String>) -> anyhow::Result<String> {
    let data = as_value(data)
        .context("zoo.cfg can't name a directory with a backslash, a line break or bytes that are no text")?;
    let mut text = format!(
        "# Written by farrier init.\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={data}\n\
         # What `farrier status` and probes ask.\n4lw.commands.whitelist=srvr,mntr,ruok\n"
    );
    for (number, place) in members {
        let _ = writeln!(text, "server.{number}={place}");
    }
    Ok(text)
}

fn next_steps(arguments: &Arguments, members: &BTreeMap<u8, String>, files: &Files, port: u16) -> String {
    let cfg = files.cfg.display();
    let mut text = format!("wrote {cfg}\nwrote {}\n\nNext:\n", files.myid.display());
    let list: Vec<String> = members.iter().map(|(number, place)| format!("--server '{number}={place}'")).collect();
    for number in members.keys().filter(|&&n| n != arguments.id) {
        let _ = writeln!(text, "  on server {number}:  farrier init --id {number} {} --dir DIR", list.join(" "));
    }
    let run = if members.len() == 1 { "run it" } else { "run it, on every server" };
    let _ = write!(
        text,
        "  farrier server {cfg} --check   what that means\n  farrier server {cfg}           {run}\n  \
         farrier status --server 127.0.0.1:{port}   see who leads\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_get_the_usual_ports() {
        assert_eq!(parse_member("1=zk1"), Ok((1, "zk1:2888:3888".to_owned())));
        assert_eq!(parse_member("2=[::1]"), Ok((2, "[::1]:2888:3888".to_owned())));
        assert_eq!(parse_member("3=[::1]:1:2"), Ok((3, "[::1]:1:2".to_owned())));
        assert_eq!(parse_member("255=h:1:2:observer;2182"), Ok((255, "h:1:2:observer;2182".to_owned())));
        assert_eq!(parse_member("1=h;2182"), Ok((1, "h:2888:3888;2182".to_owned())));
        assert_eq!(parse_member("1=a:1:2|b:1:2"), Ok((1, "a:1:2|b:1:2".to_owned())));
        for wrong in ["zk1", "0=zk1", "256=zk1", "x=zk1", "1=", "1=;2181", "1=h;"] {
            parse_member(wrong).expect_err(wrong);
        }
        for wrong in ["1=::1", "1=fe80::1:2888:3888", "1=1:2:3:4:5:6:7:8:2888:3888"] {
            assert!(parse_member(wrong).is_err_and(|why| why.contains("in brackets")), "{wrong}");
        }
    }

    #[test]
    fn a_directory_that_zoo_cfg_cannot_name_is_refused() {
        let members = BTreeMap::from([(1, "a:1:2;3".to_owned())]);
        assert!(zoo_cfg(Path::new("/a\\b"), &members).is_err());
        let text = zoo_cfg(Path::new("/a b"), &members).expect("blanks are fine");
        assert!(text.contains("dataDir=/a b\n") && text.ends_with("server.1=a:1:2;3\n"), "{text}");
    }
}
