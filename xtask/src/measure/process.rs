//! The measured processes: started as an operator would start them, observed through `/proc`.

use super::work;
use anyhow::{Context as _, Result, bail, ensure};
use farrier_bench::process::cpu_times;
use farrier_testkit::apache::Apache;
use farrier_testkit::ports::free_ports;
use farrier_testkit::raw::{Connect, framed};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a server may take until its first reply, and until its orderly end.
pub(super) const START_MAX: Duration = Duration::from_secs(180);
/// How often a client knocks at a server that does not listen yet.
const KNOCK_EVERY: Duration = Duration::from_millis(1);
/// How soon another client joins when one was accepted but has no reply.
const JOIN_EVERY: Duration = Duration::from_millis(20);
/// A server below this share of a CPU is at rest.
const REST: f64 = 0.03;
/// How long to wait for rest.
const REST_MAX: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// Farrier's binary.
    Farrier(PathBuf),
    /// Apache's release with the JVM's flags.
    Apache { release: Apache, jvm: Vec<String> },
}

impl Program {
    /// Name for tables.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Farrier(_) => "Farrier".to_owned(),
            Self::Apache { release, .. } => format!("Apache {}", release.version),
        }
    }

    pub(super) const fn is_farrier(&self) -> bool {
        matches!(self, Self::Farrier(_))
    }

    pub(super) fn command(&self, cfg: &Path) -> Command {
        match self {
            Self::Farrier(binary) => {
                let mut command = Command::new(binary);
                command.arg("server").arg(cfg).env_remove("JVMFLAGS").env_remove("SERVER_JVMFLAGS");
                command
            }
            Self::Apache { release, jvm } => {
                let mut command = Command::new("java");
                command
                    .args(jvm)
                    .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
                    .args(["-cp", &release.class_path(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
                    .arg(cfg);
                command
            }
        }
    }
}

/// Lines of the configuration that differ from both servers' defaults.
pub(super) const CONFIGURATION: &[&str] = &["tickTime=2000", "maxClientCnxns=0", "admin.enableServer=false"];

/// A server on a directory of its own; killed hard when dropped.
#[derive(Debug)]
pub(super) struct Server {
    program: Program,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A directory and a port; nothing runs yet.
    pub(super) fn new(program: &Program, base: &Path) -> Result<Self> {
        fs::create_dir_all(base)?;
        let dir = tempfile::Builder::new().prefix("measure-").tempdir_in(base)?;
        fs::create_dir_all(dir.path().join("data"))?;
        let port = free_ports(1)?[0];
        Ok(Self { program: program.clone(), dir, port, child: None })
    }

    pub(super) const fn program(&self) -> &Program {
        &self.program
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Starts the process; returns the time until the first reply to a request.
    pub(super) fn start(&mut self) -> Result<Duration> {
        ensure!(self.child.is_none(), "the server runs already");
        let cfg = self.dir.path().join("zoo.cfg");
        let mut text = CONFIGURATION.join("\n");
        text.push_str(&format!(
            "\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n",
            self.dir.path().join("data").display(),
            self.port
        ));
        fs::write(&cfg, text)?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.program.command(&cfg);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.program.name()))?);
        let attempts = Attempts::new(self.addr());
        while begun.elapsed() < START_MAX {
            if attempts.try_again() {
                return Ok(begun.elapsed());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("{} ended with {status} while starting:\n{}", self.program.name(), self.last_words());
            }
        }
        bail!("{} does not serve:\n{}", self.program.name(), self.last_words())
    }

    /// SIGTERM, and the time until the process is gone.
    pub(super) fn stop(&mut self) -> Result<Duration> {
        let pid = Pid::from_child(self.child.as_ref().context("nothing runs")?);
        let begun = Instant::now();
        kill_process(pid, Signal::TERM)?;
        while begun.elapsed() < START_MAX {
            let child = self.child.as_mut().context("nothing runs")?;
            if child.try_wait()?.is_some() {
                self.child = None;
                return Ok(begun.elapsed());
            }
            std::thread::sleep(KNOCK_EVERY);
        }
        bail!("{} does not stop", self.program.name())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).context("nothing runs")
    }

    /// Waits until it hardly uses the CPU.
    pub(super) fn rest(&self) -> Result<()> {
        rest(&[self.pid()?])
    }

    /// Size of its data directory in bytes.
    pub(super) fn disk_bytes(&self) -> Result<u64> {
        size_below(&self.dir.path().join("data"))
    }

    /// Lines of its log that warn or complain.
    pub(super) fn complaints(&self) -> Vec<String> {
        complaints(&self.log_path())
    }

    /// Whether it still runs, and the end of its log: the context of an error.
    pub(super) fn obituary(&mut self) -> String {
        let state = match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => "runs".to_owned(),
            Some(Ok(Some(status))) => format!("ended with {status}"),
            Some(Err(e)) => format!("can't be asked: {e}"),
            None => "was stopped".to_owned(),
        };
        format!("{} {state}; its log ends so:\n{}", self.program.name(), self.last_words())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may be gone already; there is nobody to tell.
        let _ = self.kill();
    }
}

fn size_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// Clients that want to be the first. A server that starts may accept a connection and never answer on
/// it, so whenever one was accepted another client joins a little later, and the old ones wait on.
pub(super) struct Attempts {
    addr: SocketAddr,
    /// A client is on its way that was not accepted yet.
    knocking: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    send: SyncSender<()>,
    done: Receiver<()>,
}

impl Attempts {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let (send, done) = sync_channel(1);
        Self { addr, knocking: Arc::default(), over: Arc::default(), send, done }
    }

    /// Adds a client unless one is knocking, and waits a little; true when any of them had its reply.
    pub(super) fn try_again(&self) -> bool {
        if !self.knocking.swap(true, Ordering::SeqCst) {
            let (addr, over, send) = (self.addr, self.over.clone(), self.send.clone());
            let knocking = self.knocking.clone();
            std::thread::spawn(move || {
                let stream = loop {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    match TcpStream::connect(addr) {
                        Ok(stream) => break stream,
                        Err(_) => std::thread::sleep(KNOCK_EVERY),
                    }
                };
                knocking.store(false, Ordering::SeqCst);
                if first_reply(stream).is_ok() {
                    // Full when another client was as fast.
                    let _ = send.try_send(());
                }
            });
        }
        self.done.recv_timeout(JOIN_EVERY).is_ok()
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Opens a session and asks whether the root exists.
fn first_reply(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(START_MAX))?;
    let mut ask = framed(&Connect::default().encode());
    ask.extend_from_slice(&work::exists_root(1));
    stream.write_all(&ask)?;
    for _ in ["handshake", "exists"] {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = usize::try_from(i32::from_be_bytes(len))?;
        ensure!(len < 4096, "a reply of {len} bytes");
        stream.read_exact(&mut vec![0; len])?;
    }
    Ok(())
}

/// Lines of a log that warn or complain.
pub(super) fn complaints(log: &Path) -> Vec<String> {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).map(str::to_owned).collect()
}

/// Waits until these processes together hardly use the CPU: what they do in the background must not count
/// for the next one.
pub(super) fn rest(pids: &[u32]) -> Result<()> {
    let deadline = Instant::now() + REST_MAX;
    let period = Duration::from_millis(500);
    while Instant::now() < deadline {
        let before = cpu_times(pids)?;
        std::thread::sleep(period);
        if (cpu_times(pids)? - before).as_secs_f64() / period.as_secs_f64() < REST {
            break;
        }
    }
    Ok(())
}
