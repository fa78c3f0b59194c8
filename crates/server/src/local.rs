//! Servers that one program runs on the loopback interface, to try things and to test against: which ports they
//! get, and how they are configured. Everything that helps, nothing that loses data.

use crate::config::{ConfigError, FourLetterWords, Overrides, ServerConfig, as_value, load};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Ports that are tried from the first one on.
const PORTS_MAX: u16 = 100;

/// The ports of one server, all on 127.0.0.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// `clientPort`.
    pub client: u16,
    /// Where its followers connect while it leads.
    pub quorum: u16,
    /// Where votes arrive.
    pub election: u16,
}

impl Ports {
    /// Where `port` is.
    #[must_use]
    pub const fn address(port: u16) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }
}

/// Fewer ports are free than were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{found} of the ports from {first} to {last} are free, and {wanted} are needed")]
pub struct NoPorts {
    found: usize,
    wanted: usize,
    first: u16,
    last: u16,
}

/// The next `count` free ports from `first` on, besides those that are spoken for; a hundred are looked at. They are
/// free when this returns, and nobody holds them.
///
/// # Errors
/// When too few of these are free.
pub fn next_free(first: u16, count: usize, taken: &[u16]) -> Result<Vec<u16>, NoPorts> {
    let last = first.saturating_add(PORTS_MAX - 1);
    let free = (first..=last).filter(|port| !taken.contains(port) && is_free(*port));
    let found: Vec<u16> = free.take(count).collect();
    if found.len() < count {
        return Err(NoPorts { found: found.len(), wanted: count, first, last });
    }
    Ok(found)
}

/// Whether nobody listens on `port` of the loopback address.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(Ports::address(port)).is_ok()
}

/// Why a member can't be configured.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// A file of it can't be written.
    #[error("{} can't be written: {error}", file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The path can't stand in a configuration file.
    #[error("{}: zoo.cfg can't name a directory with a backslash, a line break or bytes that are no text", .0.display())]
    Path(PathBuf),
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// `tickTime` of those who only try things, in milliseconds.
pub const TICK_MS: i32 = 2000;

/// A server that is alone, on a client port. Sessions may last 2 to 20 ticks.
#[must_use]
pub fn standalone(dir: &Path, client: u16, tick_ms: i32) -> ServerConfig {
    let mut config = ServerConfig::standalone(dir, Ports::address(client));
    config.tick_time_ms = tick_ms;
    config.min_session_timeout_ms = 2 * config.tick_time_ms;
    config.max_session_timeout_ms = 20 * config.tick_time_ms;
    config.client.max_per_address = 0;
    config.tree.extended_types = true;
    config.words = FourLetterWords::All;
    config
}

/// Server `number`, from 1 on, of those that have these ports in the order of their numbers. Its directory gets a
/// `zoo.cfg`, with which `farrier server` would run it too, and a `myid`. Sessions may last 2 to 20 ticks.
///
/// # Errors
/// When the files can't be written, or the directory's name can't stand in one.
pub fn member(dir: &Path, number: u8, members: &[Ports], tick_ms: i32) -> Result<ServerConfig, MemberError> {
    let own = members.get(usize::from(number).wrapping_sub(1)).expect("a member's number is one of the list");
    let listed = (1..).zip(members).map(|(n, ports): (u8, _)| {
        format!("server.{n}=127.0.0.1:{}:{};127.0.0.1:{}\n", ports.quorum, ports.election, ports.client)
    });
    let value = as_value(dir).ok_or_else(|| MemberError::Path(dir.to_owned()))?;
    let text = format!(
        "# Written at every start.\ntickTime={tick_ms}\ninitLimit=10\nsyncLimit=5\ndataDir={value}\n\
         clientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nextendedTypesEnabled=true\n\
         4lw.commands.whitelist=*\n{}",
        own.client,
        listed.collect::<String>()
    );
    let (cfg, myid) = (dir.join("zoo.cfg"), dir.join("myid"));
    let write = |file: &Path, written: io::Result<()>| {
        written.map_err(|error| MemberError::Write { file: file.to_owned(), error })
    };
    write(dir, fs::create_dir_all(dir))?;
    write(&myid, fs::write(&myid, format!("{number}\n")))?;
    write(&cfg, fs::write(&cfg, text))?;
    Ok(load(&cfg, &Overrides::default())?.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_one_list_and_differ_in_number_port_and_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = |n: u16| Ports { client: 2181 + n, quorum: 2888 + n, election: 3888 + n };
        let list = [ports(0), ports(1), ports(2)];
        let configs: Vec<ServerConfig> =
            (1..=3).map(|n| member(&dir.path().join(n.to_string()), n, &list, TICK_MS).expect("valid")).collect();
        let ensembles: Vec<_> = configs.iter().map(|c| c.ensemble.as_ref().expect("an ensemble")).collect();
        assert_eq!(ensembles.iter().map(|e| e.my_id).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert!(ensembles.iter().all(|e| e.members == ensembles[0].members && e.members.len() == 3));
        assert_eq!(configs.iter().map(|c| c.client.port).collect::<Vec<_>>(), [2181, 2182, 2183]);
        assert_ne!(configs[0].data_dir, configs[1].data_dir);
    }

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        let taken = TcpListener::bind(Ports::address(0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        assert!(!is_free(port));
        if let Ok(found) = next_free(port, 2, &[port.saturating_add(1)]) {
            assert!(found[0] > port.saturating_add(1) && found[1] > found[0]);
        }
        let error = next_free(u16::MAX, 2, &[]).expect_err("there is one at most").to_string();
        assert!(error.contains("of the ports from 65535 to 65535 are free, and 2 are needed"), "{error}");
    }
}
