//! The servers of one `farrier dev`: one alone, or the members of an ensemble, all in this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use farrier_server::config::{FourLetterWords, Overrides, ServerConfig, load};
use farrier_server::{ExitReason, Server};

use super::place::{Place, Ports};
use crate::client::Address;
use crate::init::as_value;
use crate::signals::Event;

/// How long an ensemble may take until every member serves.
const SERVING_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a member of this process may take to answer a look.
const WORD_MAX: Duration = Duration::from_secs(2);

/// Servers that were started. Dropping stops them.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Starts one server for each of `ports`.
    pub(super) fn start(place: &Place, ports: &[Ports]) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for (number, own) in (1..).zip(ports) {
            let dir = place.server_dir(number);
            let config = match ports {
                [_] => ServerConfig::standalone(&dir, SocketAddr::from((Ipv4Addr::LOCALHOST, own.client))),
                members => member(&dir, number, own, members)?,
            };
            let server = Server::start(helpful(config));
            servers.push(server.map_err(|e| anyhow::anyhow!("server {number} is not started: {e}"))?);
        }
        Ok(Self { servers })
    }

    /// Where clients connect, in the order of the numbers.
    pub(super) fn client_ports(&self) -> Vec<u16> {
        self.servers.iter().map(|s| s.client_addr().port()).collect()
    }

    /// What clients are given.
    pub(super) fn connect_string(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(|s| s.client_addr().to_string()).collect();
        addresses.join(",")
    }

    /// Waits until every server serves; false if a signal came first.
    pub(super) fn wait_serving(&self, events: &Receiver<Event>) -> anyhow::Result<bool> {
        let looks = SERVING_MAX.as_millis() / LOOK.as_millis();
        for server in &self.servers {
            let address = server.client_addr();
            let address = Address { host: address.ip().to_string(), port: address.port() };
            let mut left = looks;
            while !address.word("srvr", WORD_MAX).is_ok_and(|text| text.contains("Mode: ")) {
                match events.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) if left > 0 => left -= 1,
                    Ok(Event::Stop(_)) => return Ok(false),
                    Ok(Event::ServerEnded(..) | Event::CommandEnded(_)) => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        bail!("the server on {address} does not serve within {SERVING_MAX:?}; see the log above");
                    }
                }
            }
        }
        Ok(true)
    }

    /// Waits until a signal stops all servers. One that fails leaves the others alone; an error if one did.
    pub(super) fn run_until_stopped(&self, send: &SyncSender<Event>, events: &Receiver<Event>) -> anyhow::Result<()> {
        thread::scope(|scope| {
            for (index, server) in self.servers.iter().enumerate() {
                scope.spawn(move || send.try_send(Event::ServerEnded(index, server.wait())));
            }
            let mut running = self.servers.len();
            let mut halted = Vec::new();
            while running > 0 {
                match events.recv().context("this function holds a sender")? {
                    Event::Stop(signal) => {
                        tracing::info!("{}: stopping", signal.name());
                        self.stop();
                    }
                    Event::ServerEnded(index, reason) => {
                        running -= 1;
                        if let ExitReason::Halted(reason) = reason {
                            tracing::error!("server {} halted: {reason}", index + 1);
                            halted.push(format!("server {} halted: {reason}", index + 1));
                        }
                    }
                    Event::CommandEnded(_) => {}
                }
            }
            if halted.is_empty() { Ok(()) } else { bail!("{}", halted.join("; ")) }
        })
    }

    /// Stops all servers at once: one after the other, the last would wait for a quorum that is gone.
    pub(super) fn stop(&self) {
        thread::scope(|scope| {
            for server in &self.servers {
                scope.spawn(|| server.stop());
            }
        });
    }
}

/// Everything that helps to try things, nothing that loses data.
fn helpful(mut config: ServerConfig) -> ServerConfig {
    config.tick_time_ms = 2000;
    config.min_session_timeout_ms = 2 * config.tick_time_ms;
    config.max_session_timeout_ms = 20 * config.tick_time_ms;
    config.client.max_per_address = 0;
    config.tree.extended_types = true;
    config.words = FourLetterWords::All;
    config
}

/// The configuration of a member, as a `zoo.cfg` beside its data, with which `farrier server` would run it
/// too.
fn member(dir: &Path, number: u8, own: &Ports, members: &[Ports]) -> anyhow::Result<ServerConfig> {
    let lines = (1..).zip(members).map(|(n, ports): (u8, _)| {
        format!("server.{n}=127.0.0.1:{}:{};127.0.0.1:{}\n", ports.quorum, ports.election, ports.client)
    });
    let shown = as_value(dir)?;
    let text = format!(
        "# Written by farrier dev at every start.\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={shown}\n\
         clientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nextendedTypesEnabled=true\n\
         4lw.commands.whitelist=*\n{}",
        own.client,
        lines.collect::<String>()
    );
    let (cfg, myid) = (dir.join("zoo.cfg"), dir.join("myid"));
    fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
    fs::write(&myid, format!("{number}\n")).with_context(|| format!("{} can't be written", myid.display()))?;
    fs::write(&cfg, text).with_context(|| format!("{} can't be written", cfg.display()))?;
    match load(&cfg, &Overrides::default()) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => bail!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_one_list_and_differ_in_number_port_and_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = |n: u16| Ports { client: 2181 + n, quorum: 2888 + n, election: 3888 + n };
        let list = [ports(0), ports(1), ports(2)];
        let configs: Vec<ServerConfig> = (1..=3)
            .map(|n| member(&dir.path().join(n.to_string()), n, &list[usize::from(n) - 1], &list).expect("valid"))
            .collect();
        let ensembles: Vec<_> = configs.iter().map(|c| c.ensemble.as_ref().expect("an ensemble")).collect();
        assert_eq!(ensembles.iter().map(|e| e.my_id).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert!(ensembles.iter().all(|e| e.members == ensembles[0].members && e.members.len() == 3));
        assert_eq!(configs.iter().map(|c| c.client.port).collect::<Vec<_>>(), [2181, 2182, 2183]);
        assert_ne!(configs[0].data_dir, configs[1].data_dir);
    }
}
