//! One server, from start to stop.

use crate::accept::{self, Acceptor};
use crate::activation::{self, Activations, ConfigFiles};
use crate::admin::{self, Door};
use crate::background::{self, Snapshots};
use crate::clock::Clock;
use crate::config::{ConfigError, ServerConfig};
use crate::core::{Core, ExitReason, WORKERS_MAX};
use crate::disk::{DirectoryError, DirectoryLock, LockError, RealDisk};
use crate::files::Files;
use crate::limits::ConnectionLimits;
use crate::log_reader::{self, Floor};
use crate::log_thread::{Gathering, LogThread};
use crate::mapping;
use crate::member::Membership;
use crate::peers::address::{self, Endpoint};
use crate::peers::{self, PeerListeners, PeerSettings};
use crate::restoring;
use crate::words::WordSettings;
use crate::worker::{self, HAND_OFF_MAX, WorkerSettings};
use farrier_replica::{Input, LogWork, Replica, Time, durable};
use farrier_storage::{DiskError, DiskErrorKind, LogWriter, Pending, Refusal, RefusalKind, read_pending};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU16;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// listen(2) backlog when the file is silent. With Java's 50 a burst of clients that come back overflows it while the worker has
/// something else to do, and whoever is dropped tries again only after a second.
const BACKLOG_DEFAULT: u32 = 1024;

/// How long threads that were told to end may take; a sync of a slow disk is the longest.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// Most workers that the server takes by itself.
const WORKERS_DEFAULT_MAX: usize = 8;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration asks for what this version does not do.
    #[error(transparent)]
    Unsupported(#[from] ConfigError),
    /// The client port can't be had.
    #[error("cannot listen on {address}: {error}. {}", bind_remedy(error))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// A port for the other servers can't be had.
    #[error("cannot listen on {address} for the other servers: {error}. {}", peer_bind_remedy(error))]
    BindPeers {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// A directory is missing or closed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Another process runs on these directories.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The files can't be taken up as they are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What is pending of the members can't be told.
    #[error("{0}")]
    Pending(String),
    /// The disk failed during the start.
    #[error("{0}. Nothing was acknowledged; {remedy} and start again", remedy = disk_remedy(.0))]
    Disk(#[from] DiskError),
    /// The system gives no thread, socket or random number.
    #[error("the operating system refused a resource: {0}")]
    System(#[from] io::Error),
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Is another server running there? Choose another clientPort, or stop the other",
        io::ErrorKind::AddrNotAvailable => "This machine has no such address; see clientPortAddress",
        io::ErrorKind::PermissionDenied => "Ports below 1024 need a privilege; choose another clientPort",
        _ => "See clientPort and clientPortAddress",
    }
}

fn peer_bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Is another server running there, perhaps one with the same myid?",
        io::ErrorKind::AddrNotAvailable => {
            "This machine has no such address: does myid name this machine's server.N line? If it does, see that line, and quorumListenOnAllIPs"
        }
        io::ErrorKind::PermissionDenied => "Ports below 1024 need a privilege; choose others",
        _ => "See this server's own server.N line",
    }
}

const fn disk_remedy(error: &DiskError) -> &'static str {
    match error.kind {
        DiskErrorKind::Full => "make room on that disk",
        DiskErrorKind::TooManyFiles => "raise the limit of open files (ulimit -n, LimitNOFILE= in its systemd unit)",
        _ => "mend the disk",
    }
}

impl StartError {
    /// The process's exit code, as Apache's where it has one.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Unsupported(_) => 2,
            Self::Directory(_) | Self::Refused(Refusal { kind: RefusalKind::Misplaced, .. }) => 3,
            // Apache's code for an election port.
            Self::BindPeers { .. } => 14,
            Self::Bind { .. }
            | Self::Locked(_)
            | Self::Refused(_)
            | Self::Pending(_)
            | Self::Disk(_)
            | Self::System(_) => 1,
        }
    }

    /// Whether the files are damaged, and `farrier repair` is the way on.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Refused(r) if r.kind == RefusalKind::Damage)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    address: SocketAddr,
    /// How long an orderly stop waits for outstanding writes.
    drain: Duration,
    threads: Mutex<Threads>,
    /// Locked for as long as the server runs, and as any thread of it writes there.
    _directories: Arc<DirectoryLock>,
}

/// What a server is put together from.
struct Parts<'a> {
    config: &'a ServerConfig,
    listener: TcpListener,
    address: SocketAddr,
    member: Option<(Membership, PeerListeners)>,
    disk: Arc<RealDisk>,
    directories: Arc<DirectoryLock>,
    clock: Clock,
    made: Time,
    seed: u64,
    writer: LogWriter<RealDisk>,
    floor: Arc<Floor>,
    replica: Replica,
}

#[derive(Debug)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    log: Option<JoinHandle<()>>,
    peers: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    door: Option<Arc<Door>>,
}

impl Server {
    /// Starts a server and returns once it serves.
    ///
    /// The ports are bound before anything is written but a lock file that is there already, since Apache takes no lock: a
    /// Java server that still runs there keeps us out. Where a server of ours has run, its lock comes before the ports:
    /// whoever holds that mostly has them too, and the directory is the better reason.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let member = Membership::of(&config)?;
        let locked = DirectoryLock::existing(&config.data_dir, &config.data_log_dir)?;
        let listener = bind(&config)?;
        let peer_listeners = member.as_ref().map(bind_peers).transpose()?;
        let address = listener.local_addr()?;
        let disk = RealDisk::open(&config.data_dir, &config.data_log_dir, config.storage.datadir_autocreate)?;
        let directories = Arc::new(locked.complete(&config.data_dir, &config.data_log_dir)?);
        let disk = Arc::new(disk);

        let clock = Clock::new();
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let seed = u64::from_le_bytes(seed);
        let (recover, snapshots) = (mapping::recover(&config, &disk), mapping::snapshots(&config));
        let (state, recovered) = restoring::restore(&disk, &recover, &snapshots, mapping::tree(&config), seed)?;
        for warning in recovered.warnings.iter().chain(&state.warnings()) {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            "state restored: last zxid {}, snapshot {}, {} transactions replayed",
            recovered.last_zxid,
            recovered.snapshot_zxid.map_or_else(|| "none".to_owned(), |z| z.to_string()),
            recovered.replayed
        );
        let pending = pending_members(&config, member.as_ref(), &disk)?;
        let writer =
            LogWriter::open(disk.clone(), &recovered, mapping::log(&config)).with_txn_max(mapping::txn_max(&config));
        let settings = mapping::replica(&config, member.as_ref(), seed);
        let (last, replayed, made) = (recovered.last_zxid, recovered.replayed, clock.now());
        let replica = match &member {
            None => Replica::standalone(settings, state, last, replayed, made),
            Some(m) => Replica::ensemble(
                settings,
                m.zab(&config, seed),
                m.with_pending(&pending),
                durable(&recovered),
                state,
                replayed,
                made,
            ),
        };
        let floor = Arc::new(Floor::default());
        floor.set(recovered.mark.floor);
        let member = member.zip(peer_listeners);
        Self::run(Parts {
            config: &config,
            listener,
            address,
            member,
            disk,
            directories,
            clock,
            made,
            seed,
            writer,
            floor,
            replica,
        })
    }

    fn run(parts: Parts<'_>) -> Result<Self, StartError> {
        let Parts { config, listener, address, member, disk, directories, clock, made, seed, writer, floor, replica } =
            parts;
        let workers = worker_count(config);
        let (image_sender, images) = sync_channel(1);
        let core = Arc::new(Core::new(replica, made, clock, workers));
        let limits = Arc::new(ConnectionLimits::new(config.client.max_per_address, config.client.max_total));
        let settings = WorkerSettings {
            frame_max: config.limits.jute_max_buffer,
            sessionless_timeout: config.client.sessionless_timeout,
            limits: limits.clone(),
            words: Arc::new(word_settings(config, member.as_ref().map(|(m, _)| m), address, clock)),
        };
        let mut threads = Threads { workers: Vec::new(), log: None, peers: None, others: Vec::new(), door: None };
        let spawn = |name: &str, f: Box<dyn FnOnce() + Send>| {
            // A thread that outlives the server keeps others off its files.
            let locked = directories.clone();
            let run = move || {
                let _locked = locked;
                f();
            };
            std::thread::Builder::new().name(name.into()).spawn(run)
        };

        let files = Arc::new(Files::default());
        let (prepare, wanted) = sync_channel(1);
        let segment_size = config.storage.preallocate;
        let preparing = segment_size > 0;
        if preparing {
            let (shared, disk, guard) = (core.clone(), disk.clone(), files.clone());
            let run = move || background::run_preparer(&shared, &disk, segment_size, &wanted, &guard);
            threads.others.push(spawn("segments", Box::new(run))?);
            request(&prepare);
        }
        let log = LogThread {
            gathering: Gathering {
                max_batch: config.storage.max_batch as usize,
                gather: config.storage.flush_delay,
                idle: config.storage.write_queue_poll.max(Duration::from_millis(1)),
                slow: config.storage.fsync_warning,
            },
            alone: member.is_none(),
            work: LogWork {
                disk: disk.clone(),
                writer,
                snapshot_options: mapping::snapshots(config),
                recover: mapping::recover(config, &disk),
                tree: mapping::tree(config),
                hash_seed: seed,
            },
            snapshots: Snapshots(image_sender),
            files: files.clone(),
            floor: floor.clone(),
        };
        let shared = core.clone();
        let run = move || log.run(&shared, || request(&prepare));
        threads.log = Some(spawn("log", Box::new(run))?);

        let (shared, snapshot_disk, options, guard) =
            (core.clone(), disk.clone(), mapping::snapshots(config), files.clone());
        let run = move || background::run_snapshots(&shared, &snapshot_disk, options, &images, &guard);
        threads.others.push(spawn("snapshots", Box::new(run))?);
        if let Some((policy, interval)) = mapping::purge(config) {
            let (shared, disk) = (core.clone(), disk.clone());
            let run = move || background::run_purge(&shared, &disk, &policy, interval, &files);
            threads.others.push(spawn("purge", Box::new(run))?);
        }
        let alone = member.is_none();
        let own_client = member.as_ref().and_then(|(member, _)| member.own().client.clone());
        let (client, moves) = watch::channel(own_client);
        if let Some((member, listeners)) = member {
            let own: Vec<_> = member.own().addresses.iter().map(|a| a.host.as_str()).collect();
            tracing::info!("server {} of {}, at {}", member.me, member.config.members.len(), own.join(", "));
            let shared = core.clone();
            let txn_max = mapping::txn_max(config);
            let run = move || log_reader::run(&shared, &*disk, &floor, txn_max);
            threads.others.push(spawn("log reader", Box::new(run))?);
            match Door::open(&config.data_dir) {
                Ok(door) => {
                    let (shared, door, me) = (core.clone(), Arc::new(door), member.me);
                    threads.door = Some(door.clone());
                    threads.others.push(spawn("admin", Box::new(move || door.run(&shared, me)))?);
                }
                // Clients and the other servers do not need it.
                Err(error) => tracing::warn!(
                    "`farrier admin` will not work: cannot listen on {}: {error}",
                    config.data_dir.join(admin::SOCKET).display()
                ),
            }
            let activations = Arc::new(Activations::default());
            if let Some(file) = config.config_file.as_ref().filter(|_| config.reconfig_enabled) {
                let (shared, queue, files) = (core.clone(), activations.clone(), ConfigFiles::new(file, member.me));
                let run = move || activation::run(&shared, &queue, &files);
                threads.others.push(spawn("configuration", Box::new(run))?);
            }
            let (shared, settings): (_, PeerSettings) = (core.clone(), member.peers(config, seed, activations, client));
            let run = move || peers::run(&shared, settings, listeners);
            threads.peers = Some(spawn("peers", Box::new(run))?);
        }
        let shared = core.clone();
        threads.others.push(spawn("timer", Box::new(move || shared.run_timer()))?);

        let (senders, accepted): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HAND_OFF_MAX)).unzip();
        let keep_alive = config.client.tcp_keep_alive;
        let backlog = backlog(config);
        let mut acceptor = Some(Acceptor { listener, workers: senders, limits, keep_alive, backlog, moves });
        for (index, accepted) in accepted.into_iter().enumerate() {
            let (shared, settings, acceptor) = (core.clone(), settings.clone(), acceptor.take());
            let run = move || worker::run(&shared, index, settings, accepted, acceptor);
            threads.workers.push(spawn("network", Box::new(run))?);
        }
        // A member serves once it has a leader.
        let what = if alone { "serving" } else { "listening for" };
        tracing::info!("{what} clients on {address}, network workers: {workers}");
        Ok(Self {
            core,
            address,
            drain: config.request_throttle.shutdown_timeout,
            threads: Mutex::new(threads),
            _directories: directories,
        })
    }

    /// Where clients connect, unless a reconfiguration gave this server another address for them since it started.
    #[must_use]
    pub const fn client_addr(&self) -> SocketAddr {
        self.address
    }

    /// Blocks until the server ends by itself or by [`Self::stop`] from elsewhere. One that halted closes its ports and
    /// connections by itself; [`Self::stop`] then waits for its threads.
    pub fn wait(&self) -> ExitReason {
        self.core.wait()
    }

    /// Why the server ended, if it did: what [`Self::wait`] would return, without the wait.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.core.wait_drained(Duration::ZERO)
    }

    /// The server is about to be stopped together with others of its ensemble: that they go away is nothing to warn of.
    pub fn expect_stop(&self) {
        self.core.expect_stop();
    }

    /// Orderly stop: no new requests, outstanding writes are finished and answered, the log is closed.
    /// Returns why the server ended, which is a failure if it had halted before, or if outstanding writes
    /// took longer than `request_throttler.shutdownTimeout`. Bounded in time whatever the disk does.
    pub fn stop(&self) -> ExitReason {
        self.core.step(Input::Stop);
        let reason = self.core.wait_drained(self.drain).unwrap_or_else(|| self.core.give_up_draining());
        self.core.close();
        // A snapshot or a purge that runs is given up, but after a failure nobody waits even for that: they
        // may hang on the same disk.
        self.join(reason == ExitReason::Stopped);
        reason
    }

    /// Ends the server as the death of its process would, as far as that can be had within a process: no
    /// request is finished, no session closed, no leadership handed over, and every connection is cut. What was
    /// not yet given to the system to write is lost, a snapshot on its way included; what was, stays, as it
    /// stays in the system's cache when a process dies. A write to the log that runs in this moment ends first.
    pub fn kill(self) {
        self.core.kill();
        self.join(true);
    }
}

impl Server {
    /// Ends the threads, which were told to.
    fn join(&self, with_background: bool) {
        let mut threads = self.threads.lock().expect("nothing panics while it holds this lock");
        if let Some(door) = threads.door.take() {
            door.close();
        }
        let workers = std::mem::take(&mut threads.workers);
        let all = workers.into_iter().chain(threads.log.take()).chain(threads.peers.take());
        let others = std::mem::take(&mut threads.others).into_iter().filter(|_| with_background);
        join(all.chain(others).collect());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.core.is_killed() {
            self.stop();
        }
    }
}

/// Waits for threads that were told to end, within [`JOIN_MAX`].
fn join(mut threads: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + JOIN_MAX;
    loop {
        for ended in threads.extract_if(.., |t| t.is_finished()) {
            if ended.join().is_err() {
                tracing::error!("a thread of the server had panicked");
            }
        }
        if threads.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default();
        tracing::error!("the thread `{name}` does not end and is left behind; does the disk answer?");
    }
}

/// Configurations of members that may come into force, or may have: what a leader told this server, and what it told Apache's
/// server on the same files.
fn pending_members(
    config: &ServerConfig,
    member: Option<&Membership>,
    disk: &RealDisk,
) -> Result<Vec<Vec<u8>>, StartError> {
    let Some(member) = member.filter(|_| config.reconfig_enabled) else { return Ok(Vec::new()) };
    let told = match read_pending(disk)? {
        Pending::Nothing => None,
        Pending::Config(text) => Some(text),
        Pending::Damaged(path) => {
            return Err(StartError::Pending(format!(
                "{path} is damaged. It holds the members of a reconfiguration that may be in force by now. If none was under way \
                 when this server was last up, remove it and start again; otherwise let the configuration name the members \
                 that are in force first"
            )));
        }
    };
    let file = config.config_file.as_deref().map(|file| ConfigFiles::new(file, member.me));
    let next = file.map(|files| files.next()).transpose().map_err(|error| StartError::Pending(error.to_string()))?;
    Ok(told.into_iter().chain(next.flatten()).collect())
}

/// Asks for a prepared segment, unless that is asked already.
fn request(prepare: &SyncSender<()>) {
    let _ = prepare.try_send(());
}

/// One worker for two processors, unless the operator gives a number. The others are for the log, the peers and the
/// kernel's network; and the replica is stepped by one worker at a time, so that on two processors a second one costs
/// more than it brings (see "Workers" in docs/measurements.md).
fn worker_count(config: &ServerConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.workers.unwrap_or_else(|| (cores / 2).min(WORKERS_DEFAULT_MAX)).clamp(1, WORKERS_MAX)
}

pub(crate) fn word_settings(
    config: &ServerConfig,
    member: Option<&Membership>,
    address: SocketAddr,
    clock: Clock,
) -> WordSettings {
    WordSettings {
        member: member.cloned(),
        whitelist: config.words.clone(),
        client_port: AtomicU16::new(address.port()),
        data_dir: config.data_dir.join("version-2"),
        data_log_dir: config.data_log_dir.join("version-2"),
        tick_time: config.tick_time_ms,
        max_client_connections: config.client.max_per_address,
        min_session_timeout: config.min_session_timeout_ms,
        max_session_timeout: config.max_session_timeout_ms,
        backlog: config.client.backlog.map_or(-1, i64::from),
        started_mono: clock.now().mono,
        trace_mask: WordSettings::default_trace_mask(),
    }
}

fn backlog(config: &ServerConfig) -> i32 {
    i32::try_from(config.client.backlog.unwrap_or(BACKLOG_DEFAULT)).unwrap_or(i32::MAX)
}

fn bind(config: &ServerConfig) -> Result<TcpListener, StartError> {
    let listener = accept::listen(config.client.address, config.client.port, backlog(config));
    listener.map_err(|(address, error)| StartError::Bind { address, error })
}

/// The ports for peers, at this server's own addresses. A name may not be known yet, or a port still held by a
/// process that ends: tried again as often as the operator says.
fn bind_peers(member: &Membership) -> Result<PeerListeners, StartError> {
    let tuning = &member.config.tuning;
    let mut attempts = 0;
    let mut listen = |host: &str, port: u16| loop {
        let endpoint = Endpoint { host: host.to_owned(), port };
        match address::listen(&endpoint, tuning.listen_everywhere) {
            Ok(listener) => return Ok(listener),
            Err((address, error)) => {
                attempts += 1;
                if tuning.bind_retries > 0 && attempts > tuning.bind_retries {
                    return Err(StartError::BindPeers { address, error });
                }
                tracing::warn!("cannot listen on {} for the other servers: {error}; trying again", endpoint.text());
                std::thread::sleep(peers::BIND_RETRY);
            }
        }
    };
    let mut listeners = PeerListeners { election: Vec::new(), quorum: Vec::new() };
    let mut bound = Vec::new();
    for address in &member.own().addresses {
        // Every address of the machine is bound once for each port.
        let name = |port: u16| (if tuning.listen_everywhere { String::new() } else { address.host.clone() }, port);
        for (list, port) in
            [(&mut listeners.election, address.election_port), (&mut listeners.quorum, address.quorum_port)]
        {
            if !bound.contains(&name(port)) {
                list.push(listen(&address.host, port)?);
                bound.push(name(port));
            }
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn members_that_are_pending_come_from_both_kinds_of_servers_and_not_from_a_damaged_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("myid"), "1").expect("written");
        let list = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nversion=0";
        let list = farrier_proto::membership::MemberList::parse(list.as_bytes()).expect("a list");
        let file = dir.path().join("zoo.cfg");
        let mut config = ServerConfig {
            ensemble: Some(crate::config::EnsembleConfig::new(1, list.members)),
            reconfig_enabled: true,
            config_file: Some(file),
            ..ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let member = Membership::of(&config).expect("valid");
        let disk = RealDisk::open(dir.path(), dir.path(), true).expect("a disk");
        let pending = |config: &ServerConfig| pending_members(config, member.as_ref(), &disk);
        assert_eq!(pending(&config).expect("readable"), Vec::<Vec<u8>>::new());
        let next = dir.path().join("zoo.cfg.dynamic.next");
        std::fs::write(&next, "server.1=a:1:2\nversion=5").expect("written");
        assert_eq!(pending(&config).expect("readable"), [b"server.1=a:1:2\nversion=5".to_vec()]);
        std::fs::write(dir.path().join("farrier.pending"), "farrier.pending 1 00000000\n?").expect("written");
        let error = pending(&config).expect_err("nobody knows what it said").to_string();
        assert!(error.contains("farrier.pending is damaged") && !error.contains("mend the disk"), "{error}");
        config.reconfig_enabled = false;
        assert_eq!(pending(&config).expect("members come from the file alone"), Vec::<Vec<u8>>::new());
    }

    /// By default there is one worker on two processors, so that nothing else deals connections out to several.
    #[test]
    fn every_worker_serves_the_connections_that_the_first_deals_it() {
        use std::io::{Read as _, Write as _};

        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.workers = Some(3);
        config.client.max_per_address = 6;
        let server = Server::start(config).expect("it starts");
        let dial = || std::net::TcpStream::connect(server.client_addr()).expect("it listens");
        let patience = Instant::now() + Duration::from_secs(60);
        for round in 0..4 {
            // Two for each; whoever is gone leaves its place, though perhaps not at once.
            let all: Vec<_> = (0..6).map(|_| dial()).collect();
            for mut conn in all {
                let mut text = String::new();
                loop {
                    let asked = conn.write_all(b"srvr").and_then(|()| conn.read_to_string(&mut text));
                    if asked.is_ok() && text.contains("Mode: standalone") {
                        break;
                    }
                    assert!(round > 0 && Instant::now() < patience, "{asked:?} {text}");
                    std::thread::sleep(Duration::from_millis(5));
                    (conn, text) = (dial(), String::new());
                }
            }
        }
        assert_eq!(server.stop(), ExitReason::Stopped);
    }

    #[test]
    fn a_server_that_halted_closes_its_ports_by_itself() {
        use std::io::Read as _;

        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = ServerConfig::standalone(dir.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let server = Server::start(config).expect("it starts");
        let mut before = std::net::TcpStream::connect(server.client_addr()).expect("it listens");
        before.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        assert_eq!(server.exit_reason(), None);
        server.core.step(Input::WriteFailed { error: "the disk is gone".into() });
        let reason = ExitReason::Halted("the disk is gone".into());
        assert_eq!(server.exit_reason(), Some(reason.clone()));
        // It may not have been taken yet.
        let reset = |e: io::Error| if e.kind() == io::ErrorKind::ConnectionReset { Ok(0) } else { Err(e) };
        assert_eq!(before.read(&mut [0]).or_else(reset).expect("it is closed"), 0);
        let patience = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(server.client_addr()).is_ok() {
            assert!(Instant::now() < patience, "it listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(server.stop(), reason);
    }

    #[test]
    fn a_full_disk_has_its_own_remedy() {
        let error = |kind| {
            StartError::from(DiskError { operation: "write", path: "/p".into(), kind, message: "why".into() })
                .to_string()
        };
        assert!(error(DiskErrorKind::Full).ends_with("; make room on that disk and start again"));
        assert!(error(DiskErrorKind::Other).ends_with("; mend the disk and start again"));
    }
}
