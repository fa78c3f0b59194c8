//! `farrier init`: the files of one member of a real ensemble, and what to do next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use farrier_server::config::as_value;

use crate::output::{complain, print};
use crate::server::{load_file, refuse};

const EXAMPLES: &str = "\
Examples:
  farrier init --id 1 --server 1=zk1 --server 2=zk2 --server 3=zk3 --dir /var/lib/farrier
  farrier init --id 4 --server 1=zk1 --server 2=zk2 --server 3=zk3 --server 4=zk4:2888:3888:observer --dir zk

Run it on every machine with the same list and that machine's own --id. Nothing is overwritten.

Exit codes: 0 done, 1 something is there already or can't be written, 2 usage or configuration.";

/// Options of `farrier init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// This server's number in the list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    id: u8,

    /// A member: its number, its host, and, if they aren't 2888 and 3888, its quorum and election ports; a role may follow (repeatable)
    #[arg(
        long = "server",
        required = true,
        value_name = "N=HOST[:QUORUM:ELECTION[:ROLE]]",
        value_parser = parse_member
    )]
    servers: Vec<(u8, String)>,

    /// Where zoo.cfg and the data directory go; made if missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Port for clients
    #[arg(long, value_name = "PORT", default_value_t = 2181, value_parser = clap::value_parser!(u16).range(1..))]
    client_port: u16,
}

/// `N=HOST…` as a number and the value of a `server.N` line.
fn parse_member(text: &str) -> Result<(u8, String), String> {
    let form = "expected N=HOST[:QUORUM:ELECTION[:ROLE]], as in 1=zk1 or 1=10.0.0.1:2888:3888:observer";
    let (number, place) = text.split_once('=').ok_or(form)?;
    let number = number.parse::<u8>().ok().filter(|&n| n > 0).ok_or("a server's number is 1 to 255")?;
    let behind_host = place.rfind(']').map_or(place, |at| &place[at..]);
    match (place, behind_host.contains(':')) {
        ("", _) => Err(form.to_owned()),
        (_, true) => Ok((number, place.to_owned())),
        (_, false) => Ok((number, format!("{place}:2888:3888"))),
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut members = BTreeMap::new();
    for (number, place) in &arguments.servers {
        if members.insert(*number, place.as_str()).is_some() {
            complain("farrier init: error", format_args!("server {number} is listed twice"));
            return ExitCode::from(2);
        }
    }
    let mut places = BTreeMap::new();
    for (number, place) in &members {
        // What stands behind is the port for clients.
        let place = place.split(';').next().unwrap_or(place);
        if let Some(other) = places.insert(place, number) {
            complain(
                "farrier init: error",
                format_args!(
                    "servers {other} and {number} are both at {place}; on one machine each needs ports of its own, as in \
                     --server {other}=127.0.0.1:2888:3888 --server {number}=127.0.0.1:2889:3889"
                ),
            );
            return ExitCode::from(2);
        }
    }
    if !members.contains_key(&arguments.id) {
        complain("farrier init: error", format_args!("--id {} is none of the listed servers", arguments.id));
        return ExitCode::from(2);
    }
    let written = match Files::write(arguments, &members) {
        Ok(written) => written,
        Err(error) => {
            complain("farrier init: error", format_args!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    // The server's own reader has the last word on what was written.
    if let Err(error) = load_file(&written.cfg, &[]) {
        written.remove();
        return refuse(&error);
    }
    match print(&next_steps(arguments, &members, &written)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("farrier init: error", format_args!("standard output can't be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The two files of a member.
#[derive(Debug)]
struct Files {
    cfg: PathBuf,
    myid: PathBuf,
}

impl Files {
    /// Writes both, or neither if one is there.
    fn write(arguments: &Arguments, members: &BTreeMap<u8, &str>) -> anyhow::Result<Self> {
        let dir = std::path::absolute(&arguments.dir).with_context(|| arguments.dir.display().to_string())?;
        let data = dir.join("data");
        let files = Self { cfg: dir.join("zoo.cfg"), myid: data.join("myid") };
        for path in [&files.cfg, &files.myid, &data.join("version-2")] {
            if path.symlink_metadata().is_ok() {
                bail!("{} is there already, and nothing is overwritten; choose another --dir", path.display());
            }
        }
        fs::create_dir_all(&data).with_context(|| format!("{} can't be made", data.display()))?;
        let text = zoo_cfg(&data, arguments.client_port, members)?;
        create(&files.cfg, &text)?;
        if let Err(error) = create(&files.myid, &format!("{}\n", arguments.id)) {
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

/// A member's configuration.
fn zoo_cfg(data: &Path, client_port: u16, members: &BTreeMap<u8, &str>) -> anyhow::Result<String> {
    let data = as_value(data)
        .context("zoo.cfg can't name a directory with a backslash, a line break or bytes that are no text")?;
    let mut text = format!(
        "# Written by farrier init.\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={data}\nclientPort={client_port}\n\
         # What `farrier status` asks.\n4lw.commands.whitelist=srvr,mntr,ruok\n"
    );
    for (number, place) in members {
        let _ = writeln!(text, "server.{number}={place}");
    }
    Ok(text)
}

fn next_steps(arguments: &Arguments, members: &BTreeMap<u8, &str>, files: &Files) -> String {
    let (cfg, port) = (files.cfg.display(), arguments.client_port);
    let mut text = format!("wrote {cfg}\nwrote {}\n\nNext:\n", files.myid.display());
    let list: Vec<String> = members.iter().map(|(number, place)| format!("--server {number}={place}")).collect();
    let client = if port == 2181 { String::new() } else { format!(" --client-port {port}") };
    for number in members.keys().filter(|&&n| n != arguments.id) {
        let _ =
            writeln!(text, "  on server {number}:  farrier init --id {number} {}{client} --dir DIR", list.join(" "));
    }
    let _ = write!(
        text,
        "  farrier server {cfg} --check   what that means\n  farrier server {cfg}           run it, on every server\n  \
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
        for wrong in ["zk1", "0=zk1", "256=zk1", "x=zk1", "1="] {
            parse_member(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_directory_that_zoo_cfg_cannot_name_is_refused() {
        let members = BTreeMap::from([(1, "a:1:2")]);
        assert!(zoo_cfg(Path::new("/a\\b"), 2181, &members).is_err());
        let text = zoo_cfg(Path::new("/a b"), 2181, &members).expect("blanks are fine");
        assert!(text.contains("dataDir=/a b\n") && text.ends_with("server.1=a:1:2\n"), "{text}");
    }
}
