//! An ensemble within the process, for the tests of programs that use one.
//!
//! These are the real servers on real sockets and files: each has its own threads, its ports on 127.0.0.1 and
//! its part of a temporary directory, and clients of any language can connect. Feature `testing`.
//!
//! ```
//! use farrier::{Client, testing::Ensemble};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ensemble = Ensemble::start(3).await?;
//! let client = Client::connect(&ensemble.connect_string()).await?;
//! client.create("/app", b"v1").await?;
//!
//! let leader = ensemble.leader().await?;
//! ensemble.kill(leader).await;
//! // The client finds another server, and that one another leader.
//! client.sync("/").await?;
//! assert_eq!(client.get("/app").await?.data, b"v1"[..]);
//!
//! ensemble.restart(leader).await?;
//! ensemble.wait_serving().await?;
//! # Ok(())
//! # }
//! ```

mod relay;

use crate::Host;
use farrier_server::config::ServerConfig;
use farrier_server::local::{self, MemberError, NoPorts, Ports};
use farrier_server::{ExitReason, Server, StartError};
use relay::Relay;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Most servers of an ensemble.
pub const SERVERS_MAX: u8 = 9;

/// `tickTime` in milliseconds: sessions last 1 to 10 seconds, and a server that others don't hear of for five ticks
/// is given up.
pub const TICK_MS: u32 = 500;

/// How long all servers together may take until they serve.
const SERVING_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long a server may take to answer a look.
const WORD_MAX: Duration = Duration::from_secs(2);

/// Ports are looked for from here, below the range from which Linux gives ports to outgoing connections: otherwise
/// one of these could sit on the port of a server that is about to start again.
const PORTS: std::ops::Range<u16> = 25_000..32_000;
/// How far apart the ports of two ensembles of one process are looked for.
const PORTS_APART: u32 = 64;
/// Sets of ports that are tried: somebody else may take one before the server does.
const ATTEMPTS: u32 = 5;

/// Why an ensemble is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsembleError {
    /// A server did not start.
    #[error("server {server} does not start: {error}")]
    Start {
        /// Its number.
        server: u8,
        /// Why.
        error: StartError,
    },
    /// A server's configuration could not be made.
    #[error("server {server} can't be configured: {error}")]
    Configuration {
        /// Its number.
        server: u8,
        /// Why.
        error: MemberError,
    },
    /// There are not enough free ports.
    #[error(transparent)]
    Ports(#[from] NoPorts),
    /// The system gives no directory, thread or socket.
    #[error("the operating system refused a resource: {0}")]
    System(#[from] io::Error),
    /// A server ended by itself while all were started.
    #[error("server {server} halted: {reason}")]
    Halted {
        /// Its number.
        server: u8,
        /// Why, and what to do about it.
        reason: String,
    },
    /// Not every server that should serve does.
    #[error("not served within {within:?}: {states}. Is a quorum running and not cut off?")]
    NotServing {
        /// How long was waited.
        within: Duration,
        /// What each server says of itself.
        states: String,
    },
}

/// Servers within this process, numbered from 1. Dropping it kills them and removes their files.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Option<Server>>,
    configs: Vec<ServerConfig>,
    relay: Option<Relay>,
    isolated: Vec<bool>,
    /// Last, since the servers write there.
    _dir: TempDir,
}

impl Ensemble {
    /// Starts so many servers, one alone or an ensemble, and returns when all serve. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// What the system refuses; [`EnsembleError::NotServing`] when the machine is too slow.
    ///
    /// # Panics
    /// If `count` is 0 or more than [`SERVERS_MAX`].
    pub async fn start(count: u8) -> Result<Self, EnsembleError> {
        Self::start_as(count, None).await
    }

    /// The same with another `syncLimit`: servers that don't hear of each other give each other up after so many ticks of
    /// [`TICK_MS`], instead of five.
    ///
    /// # Errors
    /// As [`Self::start`].
    ///
    /// # Panics
    /// As there, and if the limit is 0.
    pub async fn start_with_sync_limit(count: u8, ticks: u32) -> Result<Self, EnsembleError> {
        assert!(ticks > 0, "a syncLimit has a tick or more");
        Self::start_as(count, Some(ticks)).await
    }

    async fn start_as(count: u8, sync_limit: Option<u32>) -> Result<Self, EnsembleError> {
        assert!((1..=SERVERS_MAX).contains(&count), "an ensemble has 1 to {SERVERS_MAX} servers, not {count}");
        let mut attempts = 1;
        let ensemble = loop {
            match spawn_blocking(move || Self::launch(count, sync_limit)).await.expect("starting does not panic") {
                Err(EnsembleError::Start { error, .. }) if is_taken(&error) && attempts < ATTEMPTS => attempts += 1,
                other => break other?,
            }
        };
        ensemble.wait_serving().await?;
        match (1..=count).find_map(|n| ensemble.halted(n).map(|reason| (n, reason))) {
            Some((server, reason)) => Err(EnsembleError::Halted { server, reason }),
            None => Ok(ensemble),
        }
    }

    fn launch(count: u8, sync_limit: Option<u32>) -> Result<Self, EnsembleError> {
        let dir = tempfile::Builder::new().prefix("farrier-testing-").tempdir()?;
        let ports = choose_ports(count)?;
        let mut configs = Vec::new();
        for (number, own) in (1..).zip(&ports) {
            let home = dir.path().join(number.to_string());
            let tick_ms = TICK_MS.cast_signed();
            let config = match &ports[..] {
                [_] => Ok(local::standalone(&home, own.client, tick_ms)),
                members => local::member(&home, number, members, tick_ms),
            };
            let mut config = config.map_err(|error| EnsembleError::Configuration { server: number, error })?;
            // Nothing lives long enough to be purged.
            config.storage.purge = None;
            if let (Some(ensemble), Some(ticks)) = (&mut config.ensemble, sync_limit) {
                ensemble.sync_limit = ticks;
            }
            configs.push(config);
        }
        let relay = if count > 1 { Some(Relay::start(&ports)?) } else { None };
        for (index, config) in configs.iter_mut().enumerate() {
            if let Some(relay) = &relay {
                config.detours = relay.detours(index);
            }
        }
        let isolated = vec![false; configs.len()];
        let mut ensemble =
            Self { servers: configs.iter().map(|_| None).collect(), configs, relay, isolated, _dir: dir };
        for number in 1..=count {
            let config = ensemble.configs[usize::from(number) - 1].clone();
            let started = Server::start(config).map_err(|error| EnsembleError::Start { server: number, error })?;
            ensemble.servers[usize::from(number) - 1] = Some(started);
        }
        Ok(ensemble)
    }

    /// How many servers there are, running or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.servers.len()
    }

    /// Never: an ensemble has a server.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// What clients connect with: `127.0.0.1:PORT,127.0.0.1:PORT,…`, all servers in the order of their numbers,
    /// running or not.
    #[must_use]
    pub fn connect_string(&self) -> String {
        let all: Vec<String> = (1..=SERVERS_MAX).take(self.len()).map(|n| self.address(n).to_string()).collect();
        all.join(",")
    }

    /// Where clients reach server `n`, which keeps this address.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn address(&self, n: u8) -> SocketAddr {
        Ports::address(self.configs[self.index(n)].client.port)
    }

    /// Whether server `n` was started and neither killed since nor [halted](Self::halted).
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn is_running(&self, n: u8) -> bool {
        self.servers[self.index(n)].is_some() && self.halted(n).is_none()
    }

    /// Why server `n` ended by itself, if it did since it was started last: its log could not be written, because the disk
    /// is full, say. For clients and the other servers it is dead then; [`Self::restart`] starts it again.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn halted(&self, n: u8) -> Option<String> {
        match self.servers[self.index(n)].as_ref()?.exit_reason()? {
            ExitReason::Halted(reason) => Some(reason),
            ExitReason::Stopped => None,
        }
    }

    /// Waits until every server serves that runs and is not cut off. They need a quorum for that.
    ///
    /// # Errors
    /// [`EnsembleError::NotServing`] when that takes two minutes.
    pub async fn wait_serving(&self) -> Result<(), EnsembleError> {
        self.wait_until(|modes| modes.iter().all(|(_, mode)| mode.is_some()).then_some(())).await
    }

    /// The number of the server that leads, or is alone; waits until there is one among those that run and aren't cut
    /// off. It may lead no more when this returns.
    ///
    /// # Errors
    /// [`EnsembleError::NotServing`] when that takes two minutes.
    pub async fn leader(&self) -> Result<u8, EnsembleError> {
        let leads = |mode: &Option<String>| matches!(mode.as_deref(), Some("leader" | "standalone"));
        self.wait_until(|modes| {
            let mut leading = modes.iter().filter(|(_, mode)| leads(mode)).map(|(n, _)| *n);
            leading.next().filter(|_| leading.next().is_none())
        })
        .await
    }

    /// Asks every server that runs and isn't cut off for its mode, until `found` in that what it looks for.
    async fn wait_until<T>(&self, found: impl Fn(&[(u8, Option<String>)]) -> Option<T>) -> Result<T, EnsembleError> {
        let end = Instant::now() + SERVING_MAX;
        loop {
            let mut modes = Vec::new();
            for n in
                (1..=SERVERS_MAX).take(self.len()).filter(|n| self.is_running(*n) && !self.isolated[self.index(*n)])
            {
                modes.push((n, self.mode(n).await));
            }
            if let Some(found) = found(&modes) {
                return Ok(found);
            }
            if Instant::now() >= end {
                let state = |(n, mode): &(u8, Option<String>)| {
                    format!("server {n} {}", mode.as_deref().unwrap_or("does not serve"))
                };
                let ended = (1..=SERVERS_MAX).take(self.len()).filter_map(|n| Some((n, self.halted(n)?)));
                let ended = ended.map(|(n, reason)| format!("server {n} halted: {reason}"));
                let states: Vec<String> = modes.iter().map(state).chain(ended).collect();
                let states = if states.is_empty() { "no server runs".to_owned() } else { states.join(", ") };
                return Err(EnsembleError::NotServing { within: SERVING_MAX, states });
            }
            sleep(LOOK).await;
        }
    }

    async fn mode(&self, n: u8) -> Option<String> {
        let answer = Host::from(self.address(n)).word("srvr", WORD_MAX).await.ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Kills server `n`, as far as a process can do that with a part of itself: no request is finished, no session
    /// is closed, no leadership is handed over, every connection is cut. What the server had not yet given to the
    /// system to write is lost; what it had, stays, as it does when a process dies. What this is not: a power cut,
    /// which takes what was not synced, or a death in the middle of a write.
    ///
    /// Nothing happens if it doesn't run.
    ///
    /// # Panics
    /// If there is no such server.
    pub async fn kill(&mut self, n: u8) {
        let index = self.index(n);
        if let Some(server) = self.servers[index].take() {
            spawn_blocking(|| server.kill()).await.expect("killing does not panic");
        }
    }

    /// Starts server `n` again on its directory and ports, after killing it if it runs. Returns when it takes
    /// connections; it serves once there is a quorum, see [`Self::wait_serving`].
    ///
    /// # Errors
    /// [`EnsembleError::Start`], with the server's own words.
    ///
    /// # Panics
    /// If there is no such server.
    pub async fn restart(&mut self, n: u8) -> Result<(), EnsembleError> {
        self.kill(n).await;
        let index = self.index(n);
        let config = self.configs[index].clone();
        let started = spawn_blocking(|| Server::start(config)).await.expect("starting does not panic");
        self.servers[index] = Some(started.map_err(|error| EnsembleError::Start { server: n, error })?);
        Ok(())
    }

    /// Cuts server `n` off from all others, in both directions; clients still reach it. Nothing says so to either
    /// side: what they send waits, and if the cut ends before they have given each other up, it arrives then, as it
    /// does with a network that was down for a while. Connections that are made meanwhile are accepted, stay silent,
    /// and are closed by [`Self::heal`].
    ///
    /// # Panics
    /// If there is no such server.
    pub fn partition(&mut self, n: u8) {
        self.set_isolated(n, true);
    }

    /// Ends what [`Self::partition`] did to server `n`.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn heal(&mut self, n: u8) {
        self.set_isolated(n, false);
    }

    fn set_isolated(&mut self, n: u8, isolated: bool) {
        let index = self.index(n);
        self.isolated[index] = isolated;
        if let Some(relay) = &self.relay {
            relay.set_isolated(index, isolated);
        }
    }

    fn index(&self, n: u8) -> usize {
        let index = usize::from(n).wrapping_sub(1);
        assert!(index < self.len(), "there is no server {n}; they are numbered from 1 to {}", self.len());
        index
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        // At once: each waits for threads of its own.
        std::thread::scope(|scope| {
            for server in self.servers.iter_mut().filter_map(Option::take) {
                scope.spawn(|| server.kill());
            }
        });
    }
}

/// Three free ports for each server.
fn choose_ports(count: u8) -> Result<Vec<Ports>, NoPorts> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let width = u32::from(PORTS.end - PORTS.start);
    let spread = std::process::id().wrapping_mul(97).wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed) * PORTS_APART);
    let first = PORTS.start + u16::try_from(spread % width).expect("the range is one of ports");
    let free = local::next_free(first, 3 * usize::from(count), &[])?;
    Ok(free.chunks_exact(3).map(|p| Ports { client: p[0], quorum: p[1], election: p[2] }).collect())
}

/// Whether somebody was faster to take a port.
fn is_taken(error: &StartError) -> bool {
    match error {
        StartError::Bind { error, .. } | StartError::BindPeers { error, .. } => {
            error.kind() == io::ErrorKind::AddrInUse
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;
    use std::fs;

    /// Without its directory a server goes on until it needs the next file of its log.
    #[tokio::test]
    async fn a_server_whose_log_fails_is_dead_and_says_why() {
        let mut ensemble = Ensemble::start(3).await.expect("three servers");
        let leader = ensemble.leader().await.expect("a leader");
        let index = ensemble.index(leader);
        ensemble.configs[index].storage.snap_count = 10;
        ensemble.configs[index].storage.preallocate = 0;
        ensemble.restart(leader).await.expect("it starts again");
        ensemble.wait_serving().await.expect("all three serve");
        assert_eq!(ensemble.halted(leader), None);

        let (dir, away) = (ensemble.configs[index].data_dir.join("version-2"), ensemble._dir.path().join("away"));
        fs::rename(&dir, &away).expect("renamed");
        let client = Client::builder(&ensemble.connect_string()).request_timeout(SERVING_MAX).connect().await;
        let client = client.expect("a session");
        let mut writes = 0;
        let reason = loop {
            // Whatever becomes of it: the server may be the one that halts.
            let _ = client.create(&format!("/{writes}"), b"").await;
            if let Some(reason) = ensemble.halted(leader) {
                break reason;
            }
            writes += 1;
            assert!(writes < 1000, "it goes on");
        };
        assert!(reason.contains("the transaction log failed") && reason.contains("Remedy: "), "{reason}");
        assert!(!ensemble.is_running(leader));
        assert_ne!(ensemble.leader().await.expect("another leader"), leader);
        let patience = Instant::now() + SERVING_MAX;
        while std::net::TcpStream::connect(ensemble.address(leader)).is_ok() {
            assert!(Instant::now() < patience, "it listens");
            sleep(LOOK).await;
        }
        client.create("/after", b"").await.expect("two are a quorum");

        fs::rename(&away, &dir).expect("renamed");
        ensemble.restart(leader).await.expect("it starts again");
        ensemble.wait_serving().await.expect("all three serve");
        assert!(ensemble.is_running(leader));
        let own = Client::builder(&ensemble.address(leader).to_string()).request_timeout(SERVING_MAX).connect().await;
        let own = own.expect("a session");
        own.sync("/").await.expect("a quorum is there");
        assert!(own.exists("/after").await.expect("an answer").is_some());
    }
}
