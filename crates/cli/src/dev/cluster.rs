//! The servers of one `farrier dev`: one alone, or the members of an ensemble, all in this process.

use std::fs::{self, File};
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
/// What a server makes in its directory at its first start.
const DATA: &str = "version-2";
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
        // None has forgotten anything, so a late one has no reason to wait for the others' history before it votes. All are
        // told before the first one starts: if this run ends in between, the next one can't tell any more who was new.
        let dirs = || (1..).zip(ports).map(|(number, _)| place.server_dir(number));
        if ports.len() > 1 && dirs().all(|dir| !dir.join(DATA).exists()) {
            for dir in dirs() {
                let file = dir.join(INITIALIZE);
                let made = fs::create_dir_all(&dir).and_then(|()| File::create(&file));
                made.with_context(|| format!("{} can't be written", file.display()))?;
            }
        }
        let mut servers = Vec::new();
        for (number, _) in (1..).zip(ports) {
            let dir = place.server_dir(number);
            let config = match ports {
                [own] => standalone(&dir, own.client, TICK_MS),
                members => member(&dir, number, members, TICK_MS)?,
            };
            let server = Server::start(config);
            servers.push(server.map_err(|e| anyhow::anyhow!("server {number} is not started: {e}"))?);
        }
        Ok(Self { servers })
    }

    /// What clients are given.
    pub(super) fn connect_string(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(|s| s.client_addr().to_string()).collect();
        addresses.join(",")
    }

    /// Runs `body` while `send` is told of every server that ends, and stops all of them behind it.
    pub(super) fn watched<T>(&self, send: &SyncSender<Event>, body: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            for (index, server) in self.servers.iter().enumerate() {
                scope.spawn(move || send.try_send(Event::ServerEnded(index, server.wait())));
            }
            let outcome = body();
            // Those threads wait for it. Where it matters what came of it, `body` has done it already.
            drop(self.stop());
            outcome
        })
    }

    /// Waits until every server serves; false if a signal came first. An error if one halted.
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
                    Ok(Event::ServerEnded(index, ExitReason::Halted(reason))) => bail!(halted(index, &reason)),
                    Ok(Event::ServerEnded(_, ExitReason::Stopped) | Event::CommandEnded(_)) => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        bail!("the server on {address} does not serve within {SERVING_MAX:?}; see the log above");
                    }
                }
            }
        }
        Ok(true)
    }

    /// Waits until a signal asks to stop. An error as soon as a server halts: the others are likely to run out of the same
    /// disk, and nobody tries things with what is left.
    pub(super) fn wait_stop(events: &Receiver<Event>) -> anyhow::Result<()> {
        loop {
            match events.recv().context("whoever started the servers holds a sender")? {
                Event::Stop(signal) => {
                    tracing::info!("{}: stopping", signal.name());
                    return Ok(());
                }
                Event::ServerEnded(index, ExitReason::Halted(reason)) => {
                    let what = halted(index, &reason);
                    // At once: to stop the others can take a while.
                    tracing::error!("{what}");
                    bail!(what);
                }
                Event::ServerEnded(_, ExitReason::Stopped) | Event::CommandEnded(_) => {}
            }
        }
    }

    /// Stops all servers at once: one after the other, the last would wait for a quorum that is gone. An error if one had
    /// halted, or could not answer everything in time.
    pub(super) fn stop(&self) -> anyhow::Result<()> {
        self.servers.iter().for_each(Server::expect_stop);
        let reasons: Vec<ExitReason> = thread::scope(|scope| {
            let stopping: Vec<_> = self.servers.iter().map(|server| scope.spawn(|| server.stop())).collect();
            stopping.into_iter().map(|thread| thread.join().expect("stopping does not panic")).collect()
        });
        let failed: Vec<String> = reasons
            .iter()
            .enumerate()
            .filter_map(|(index, reason)| match reason {
                ExitReason::Halted(reason) => Some(halted(index, reason)),
                ExitReason::Stopped => None,
            })
            .collect();
        if failed.is_empty() { Ok(()) } else { bail!(failed.join("; ")) }
    }
}

/// What is told of a server that ended by itself.
pub(super) fn halted(index: usize, reason: &str) -> String {
    format!("server {} halted: {reason}", index + 1)
}
