//! The servers of one `farrier dev`: one alone, or the members of an ensemble, all in this process.

use std::fs::File;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use farrier_client::Host;
use farrier_server::local::{Ports, TICK_MS, member, standalone};
use farrier_server::{ExitReason, Server};

use super::place::Place;
use crate::session;
use crate::signals::Event;

/// How long an ensemble may take until every member serves.
const SERVING_MAX: Duration = Duration::from_secs(60);
/// Apache's marker beside the data of a member that is new.
const INITIALIZE: &str = "initialize";
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
        // None has forgotten anything, so a late one has no reason to wait for the others' history before it votes.
        let is_new = (1..).zip(ports).all(|(number, _)| !place.server_dir(number).exists());
        for (number, _) in (1..).zip(ports) {
            let dir = place.server_dir(number);
            let config = match ports {
                [own] => standalone(&dir, own.client, TICK_MS),
                members => {
                    let config = member(&dir, number, members, TICK_MS)?;
                    if is_new {
                        let file = dir.join(INITIALIZE);
                        File::create(&file).with_context(|| format!("{} can't be written", file.display()))?;
                    }
                    config
                }
            };
            let server = Server::start(config);
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
        let runtime = session::runtime()?;
        let looks = SERVING_MAX.as_millis() / LOOK.as_millis();
        for server in &self.servers {
            let address = Host::from(server.client_addr());
            let mut left = looks;
            while !runtime.block_on(address.word("srvr", WORD_MAX)).is_ok_and(|text| text.contains("Mode: ")) {
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
        self.servers.iter().for_each(Server::expect_stop);
        thread::scope(|scope| {
            for server in &self.servers {
                scope.spawn(|| server.stop());
            }
        });
    }
}
