//! Servers that are measured: started as an operator would start them, observed through `/proc`, and gone with the command,
//! whatever ends it.

mod members;
mod process;
mod stage;

pub(crate) use members::{CONFIGURATION as ENSEMBLE, Ensemble};
pub(crate) use process::{Home, Process, end_on_signals};
#[cfg(test)]
pub(crate) use stage::is_warmed;
pub(crate) use stage::{KEYS, ROOT, Stage, VALUE_LEN};

use anyhow::{Result, ensure};
use farrier_bench::frame::{put_read, put_request};
use farrier_bench::process::cpu_time;
use farrier_proto::OpCode;
use farrier_testkit::apache::Apache;
use farrier_testkit::raw::{Connect, framed};
use process::running;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take until its first reply, and until its orderly end.
pub(crate) const START_MAX: Duration = Duration::from_secs(180);
/// How often a client knocks at a server that does not listen yet.
const KNOCK_EVERY: Duration = Duration::from_millis(1);
/// How soon another client joins when one was accepted but has no reply.
const JOIN_EVERY: Duration = Duration::from_millis(20);
/// A server below this share of a CPU is at rest.
const REST: f64 = 0.03;
/// How long that is looked at.
const REST_LOOK: Duration = Duration::from_millis(500);
/// How long to wait for rest.
const REST_MAX: Duration = Duration::from_secs(20);

/// Who was not at rest in time, each time.
static UNREST: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Which server.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// Farrier's binary.
    Farrier(PathBuf),
    /// Farrier's binary under callgrind, whose dumps go to files that begin so.
    Counted { binary: PathBuf, out: PathBuf },
    /// Apache's release with the JVM's flags.
    Apache { release: Apache, jvm: Vec<String> },
}

impl Program {
    /// Name for tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Farrier(_) | Self::Counted { .. } => "Farrier".to_owned(),
            Self::Apache { release, .. } => format!("Apache {}", release.version),
        }
    }

    /// Lines of its configuration, besides [`CONFIGURATION`].
    pub(crate) const fn besides(&self) -> &'static [&'static str] {
        match self {
            // Snapshots come at random, and would count as somebody's requests.
            Self::Counted { .. } => &["snapCount=2000000000"],
            Self::Farrier(_) | Self::Apache { .. } => &[],
        }
    }

    pub(crate) fn command(&self, cfg: &Path) -> Command {
        match self {
            Self::Farrier(binary) => {
                let mut command = Command::new(binary);
                command.arg("server").arg(cfg).env_remove("JVMFLAGS").env_remove("SERVER_JVMFLAGS");
                command
            }
            Self::Counted { binary, out } => {
                let mut command = Command::new("valgrind");
                // The process that is counted must not begin anew.
                command
                    .env("FARRIER_HUGE_PAGES", "later")
                    .args(["--tool=callgrind", "--fair-sched=yes"])
                    .arg(format!("--callgrind-out-file={}", out.display()))
                    .arg(binary)
                    .arg("server")
                    .arg(cfg);
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
pub(crate) const CONFIGURATION: &[&str] = &["tickTime=2000", "maxClientCnxns=0", "admin.enableServer=false"];

/// Clients that want to be the first. A server that starts may accept a connection and never answer on
/// it, so whenever one was accepted another client joins a little later, and the old ones wait on.
pub(crate) struct Attempts {
    addr: SocketAddr,
    /// A client is on its way that was not accepted yet.
    knocking: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    send: SyncSender<()>,
    done: Receiver<()>,
}

impl Attempts {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let (send, done) = sync_channel(1);
        Self { addr, knocking: Arc::default(), over: Arc::default(), send, done }
    }

    /// Adds a client unless one is knocking, and waits a little; true when any of them had its reply.
    pub(crate) fn try_again(&self) -> bool {
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
    put_request(&mut ask, 1, OpCode::Exists, |out| put_read(out, "/", false));
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
pub(crate) fn complaints(log: &Path) -> Vec<String> {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).map(str::to_owned).collect()
}

/// Waits until none of all processes that this command runs uses much of a CPU, whoever is measured next: what anybody does in
/// the background must not count for that one. If that takes too long it is told by [`unrest`], and nobody waits any longer.
pub(crate) fn rest() -> Result<()> {
    // What any server left to be written in the background must not hold up the next one's syncs.
    rustix::fs::sync();
    let busy = rest_within(REST_MAX);
    if !busy.is_empty() {
        let names: Vec<String> = busy.iter().map(|pid| name_of(*pid)).collect();
        let names = names.join(", ");
        crate::measure::note(&format!(
            "{names} still at work after {} s, and nobody waits any longer",
            REST_MAX.as_secs()
        ))?;
        UNREST.lock().unwrap_or_else(PoisonError::into_inner).push(names);
    }
    Ok(())
}

/// For the report: how often somebody was not at rest when the next one was measured.
pub(crate) fn unrest() -> String {
    let times = UNREST.lock().unwrap_or_else(PoisonError::into_inner);
    match times.last() {
        None => String::new(),
        Some(last) => format!(
            "- **not at rest**: {} times somebody still used more than {:.0} % of a CPU {} s after what was measured last, and the next \
             one was measured beside that; the last time {last}\n",
            times.len(),
            REST * 100.0,
            REST_MAX.as_secs()
        ),
    }
}

/// Processes of this command that are still busy after so long.
fn rest_within(max: Duration) -> Vec<u32> {
    let begun = Instant::now();
    loop {
        // One that has gone meanwhile is at rest.
        let before: Vec<(u32, Duration)> =
            running().into_iter().filter_map(|pid| Some((pid, cpu_time(pid).ok()?))).collect();
        std::thread::sleep(REST_LOOK);
        let is_busy = |(pid, before): (u32, Duration)| {
            let used = cpu_time(pid).ok()?.saturating_sub(before);
            (used.as_secs_f64() / REST_LOOK.as_secs_f64() >= REST).then_some(pid)
        };
        let busy: Vec<u32> = before.into_iter().filter_map(is_busy).collect();
        if busy.is_empty() || begun.elapsed() >= max {
            return busy;
        }
    }
}

/// What an operator would see of it in `ps`.
fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_in_the_background_is_waited_for_and_named() {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let worker = Process::spawn(command, Path::new("/dev/null")).expect("sh runs");
        // It may not have had a processor yet.
        while !rest_within(Duration::ZERO).contains(&worker.id()) {}
        assert_eq!(name_of(worker.id()), format!("sh ({})", worker.id()));
        let pid = worker.id();
        worker.kill().expect("it can be killed");
        assert!(!rest_within(Duration::ZERO).contains(&pid));
    }
}
