//! Where the data of `farrier dev` is, and what is kept there: how many servers, and their client ports.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use farrier_server::config::properties;
use farrier_server::local::{Ports, is_free, next_free};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::SERVERS_MAX;
use crate::temporary;

/// First port for clients that is tried, and first ports for peers: the usual ones. All lie below the
/// range from which outgoing connections get theirs.
const CLIENT_PORT: u16 = 2181;
const QUORUM_PORT: u16 = 2888;
const ELECTION_PORT: u16 = 3888;

/// File in `--data DIR` that keeps the number of servers and their ports.
const KEPT: &str = "farrier-dev.properties";

/// Others that choose ports at this moment are waited for so often, with a pause of so long.
const TURNS: u32 = 200;
const TURN: Duration = Duration::from_millis(50);

/// Waits until no other `farrier dev` of this program chooses ports; two at once would choose the same. While the file is
/// held, which is the program's own, none does. Without it this goes on: then a port may be found taken.
pub(super) fn turn_to_choose() -> Option<File> {
    let file = File::open(std::env::current_exe().ok()?).ok()?;
    for _ in 0..TURNS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(TURN),
            Err(_) => return None,
        }
    }
    None
}

/// A directory that stays, or one that goes when this does.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    temporary: bool,
    /// Client ports that the directory kept from an earlier run, one for each server.
    kept: Option<Vec<u16>>,
}

impl Place {
    pub(super) fn prepare(data: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = data else {
            return Ok(Self { dir: temporary::directory("farrier-dev")?, temporary: true, kept: None });
        };
        fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
        let dir = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
        let file = dir.join(KEPT);
        let kept = match fs::read(&file) {
            Ok(bytes) => Some(read_kept(&bytes).with_context(|| file.display().to_string())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", file.display())),
        };
        Ok(Self { dir, temporary: false, kept })
    }

    /// The directory of a server, numbered from 1.
    pub(super) fn server_dir(&self, number: u8) -> PathBuf {
        self.dir.join(number.to_string())
    }

    /// Whether nothing is kept of an earlier run.
    pub(super) const fn is_new(&self) -> bool {
        self.kept.is_none()
    }

    /// How many servers to run. What a directory was used for is never converted.
    pub(super) fn count(&self, wanted: Option<u8>, default: u8) -> anyhow::Result<u8> {
        let kept = match &self.kept {
            Some(kept) => u8::try_from(kept.len()).context("too many servers")?,
            None => match self.found()? {
                Some(found) => found,
                None => return Ok(wanted.unwrap_or(default)),
            },
        };
        match wanted {
            Some(wanted) if wanted != kept => bail!(
                "{} belongs to {kept} server{}, and another number can't be made of {}; use another directory",
                self.dir.display(),
                if kept == 1 { "" } else { "s" },
                if kept == 1 { "it" } else { "them" }
            ),
            Some(_) | None => Ok(kept),
        }
    }

    /// How many servers have left a directory, for where nothing was kept: the file was lost, or written too late by older
    /// versions of this program.
    fn found(&self) -> anyhow::Result<Option<u8>> {
        let found = (1..=SERVERS_MAX).rev().find(|number| self.server_dir(*number).exists());
        // One alone has no number.
        if found == Some(1) && self.server_dir(1).join("myid").exists() {
            bail!(
                "{0} has the data of one member of several servers, and without {KEPT} nobody knows how many they were; use \
                 another directory, or remove {0}",
                self.dir.display()
            );
        }
        Ok(found)
    }

    /// Free ports for `count` servers. Client ports are the next ones from `wanted` on, and ports between servers the next
    /// ones behind these; those that were kept are never exchanged in silence. Nobody else knows the ports between servers,
    /// so they may change.
    pub(super) fn choose_ports(&self, count: u8, wanted: Option<u16>) -> anyhow::Result<Vec<Ports>> {
        let clients = match (wanted, &self.kept) {
            (None, Some(kept)) => self.still_free(kept)?,
            (wanted, _) => next_free(wanted.unwrap_or(CLIENT_PORT), usize::from(count), &[])?,
        };
        let (quorum_from, election_from) = wanted.map_or((QUORUM_PORT, ELECTION_PORT), |port| (port, port));
        let quorum = next_free(quorum_from, usize::from(count), &clients)?;
        let taken: Vec<u16> = clients.iter().chain(&quorum).copied().collect();
        let election = next_free(election_from, usize::from(count), &taken)?;
        let ports = clients.into_iter().zip(quorum).zip(election);
        Ok(ports.map(|((client, quorum), election)| Ports { client, quorum, election }).collect())
    }

    fn still_free(&self, kept: &[u16]) -> anyhow::Result<Vec<u16>> {
        if let Some(port) = kept.iter().find(|&&port| !is_free(port)) {
            let file = self.dir.join(KEPT);
            bail!("port {port}, which {} keeps, is taken; stop what uses it, or give --port", file.display());
        }
        Ok(kept.to_vec())
    }

    /// Writes down the number of servers and their client ports, for the next run.
    pub(super) fn keep(&self, ports: &[Ports]) -> anyhow::Result<()> {
        let clients: Vec<u16> = ports.iter().map(|ports| ports.client).collect();
        if self.temporary || self.kept.as_ref() == Some(&clients) {
            return Ok(());
        }
        let (file, fresh) = (self.dir.join(KEPT), self.dir.join("farrier-dev.tmp"));
        let ports: Vec<String> = clients.iter().map(u16::to_string).collect();
        let text = format!("# Written by farrier dev.\nservers={}\nports={}\n", clients.len(), ports.join(","));
        // It has to be there when the servers' data is.
        let write = || {
            let mut to = File::create(&fresh)?;
            to.write_all(text.as_bytes())?;
            to.sync_all()?;
            fs::rename(&fresh, &file)?;
            File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| format!("{} can't be written", file.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!("{} can't be removed: {error}", self.dir.display());
        }
    }
}

/// The client ports of the servers to which a directory belongs.
fn read_kept(bytes: &[u8]) -> anyhow::Result<Vec<u16>> {
    let found = properties::parse(bytes).map_err(|error| anyhow::anyhow!("line {}: {}", error.line, error.message))?;
    let value = |key: &str| found.entries.iter().rev().find(|e| e.key == key).map(|e| e.value.as_str());
    let servers = value("servers").context("no line `servers=`")?;
    let text = value("ports").context("no line `ports=`")?;
    let port = |part: &str| part.trim().parse().ok().filter(|&port: &u16| port > 0);
    let ports: Option<Vec<u16>> = text.split(',').map(port).collect();
    let ports = ports.with_context(|| format!("ports={text}: expected ports, separated by commas"))?;
    if servers.trim().parse() != Ok(ports.len()) {
        bail!("servers={servers} and ports={text}: expected one port for each server");
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn nowhere(kept: Option<Vec<u16>>) -> Place {
        Place { dir: PathBuf::from("/nowhere"), temporary: false, kept }
    }

    #[test]
    fn the_kept_file_names_servers_and_their_ports() {
        assert_eq!(read_kept(b"# x\nservers=1\nports=2183\n").expect("valid"), [2183]);
        assert_eq!(read_kept(b"servers=3\nports=1,2, 3\n").expect("valid"), [1, 2, 3]);
        for (text, why) in [
            (&b"servers=3\nports=1,2"[..], "one port for each server"),
            (b"ports=1", "no line `servers=`"),
            (b"servers=1", "no line `ports=`"),
            (b"servers=1\nports=0", "expected ports"),
            (b"servers=1\nports=\\u1", "line 2"),
        ] {
            let error = read_kept(text).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn another_number_of_servers_is_refused() {
        assert_eq!(nowhere(None).count(None, 1).expect("the default"), 1);
        assert_eq!(nowhere(None).count(Some(5), 1).expect("as wanted"), 5);
        let kept = nowhere(Some(vec![1, 2, 3]));
        assert_eq!(kept.count(None, 1).expect("as kept"), 3);
        assert_eq!(kept.count(Some(3), 1).expect("as kept"), 3);
        let error = kept.count(Some(1), 1).expect_err("another number").to_string();
        assert!(error.contains("/nowhere belongs to 3 servers"), "{error}");
    }

    #[test]
    fn without_the_file_what_is_there_says_how_many() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("zk");
        for (made, myid, default) in [("1", None, 1), ("3", Some("1/myid"), 3)] {
            fs::create_dir_all(data.join(made)).expect("made");
            if let Some(myid) = myid {
                fs::write(data.join(myid), "1\n").expect("written");
            }
            let place = Place::prepare(Some(&data)).expect("read");
            assert_eq!(place.count(None, 5).expect("as found"), default);
            assert_eq!(place.count(Some(default), 5).expect("as found"), default);
            let error = place.count(Some(2), 5).expect_err("another number").to_string();
            assert!(error.contains(&format!("zk belongs to {default} server")), "{error}");
        }
        // Cut off behind the first of several.
        fs::remove_dir(data.join("3")).expect("removed");
        for wanted in [None, Some(1), Some(3)] {
            let error = Place::prepare(Some(&data)).expect("read").count(wanted, 1).expect_err("unknown").to_string();
            assert!(error.contains("one member of several servers"), "{error}");
        }
    }

    #[test]
    fn a_taken_port_gives_way_to_the_next_unless_it_was_kept() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        if let Ok(chosen) = nowhere(None).choose_ports(1, Some(port)) {
            assert!(chosen[0].client > port);
        }
        let error = nowhere(Some(vec![port])).choose_ports(1, None).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("port {port}, which /nowhere/{KEPT} keeps, is taken")), "{error}");
    }

    #[test]
    fn all_ports_of_all_servers_differ() {
        let wanted = QUORUM_PORT - 2;
        let chosen = nowhere(None).choose_ports(5, Some(wanted)).expect("there are free ports");
        let mut all: Vec<u16> = chosen.iter().flat_map(|p| [p.client, p.quorum, p.election]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 15, "{chosen:?}");
        assert!(all.iter().all(|port| *port >= wanted), "{chosen:?}");
    }

    #[test]
    fn a_place_keeps_what_it_was_given_and_a_temporary_one_goes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("zk");
        let place = Place::prepare(Some(&data)).expect("made");
        assert_eq!(place.kept, None);
        let ports = |client| Ports { client, quorum: 1, election: 2 };
        place.keep(&[ports(2199), ports(2200)]).expect("written");
        drop(place);
        assert_eq!(Place::prepare(Some(&data)).expect("read").kept, Some(vec![2199, 2200]));

        let place = Place::prepare(None).expect("made");
        let gone = place.dir.clone();
        assert!(gone.is_dir());
        drop(place);
        assert!(!gone.exists());
    }
}
