//! The servers of one ensemble, each a process with directory and ports of its own on the loopback interface.

use super::super::process::{self, Attempts, Program, START_MAX};
use super::super::rates::{CONNS, pass_over};
use super::super::work::{self, Ledger, Paths, Row};
use super::super::{note, rates};
use super::{Options, ROWS};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_bench::{Pace, Pool, Span};
use farrier_testkit::ports::free_ports;
use farrier_testkit::raw::four_letter_word_within;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How many there are.
pub(super) const SERVERS: usize = 3;
/// Lines that an ensemble has besides those of every measured server.
pub(super) const CONFIGURATION: &[&str] = &["initLimit=10", "syncLimit=5"];
/// Time between two looks at a server.
const LOOK: Duration = Duration::from_millis(20);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Lines of each log in the context of an error.
const LAST_WORDS: usize = 60;

/// What a server says of itself by `srvr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) leads: bool,
    pub(super) zxid: u64,
}

impl Look {
    fn read(srvr: &str) -> Option<Self> {
        let value = |key: &str| srvr.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        let leads = match value("Mode:")? {
            "leader" => true,
            "follower" => false,
            _ => return None,
        };
        let zxid = u64::from_str_radix(value("Zxid:")?.strip_prefix("0x")?, 16).ok()?;
        Some(Self { leads, zxid })
    }
}

#[derive(Debug)]
struct Member {
    ports: [u16; 3],
    child: Option<Child>,
}

/// Three servers of one kind; killed hard when dropped.
#[derive(Debug)]
pub(super) struct Ensemble {
    program: Program,
    dir: tempfile::TempDir,
    members: Vec<Member>,
}

impl Ensemble {
    /// Starts all servers on empty directories, and waits until they serve.
    pub(super) fn start(program: &Program, base: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ensemble-").tempdir_in(base)?;
        let ports = free_ports(3 * SERVERS)?;
        let members =
            ports.chunks_exact(3).map(|p| Member { ports: [p[0], p[1], p[2]], child: None }).collect::<Vec<_>>();
        let mut ensemble = Self { program: program.clone(), dir, members };
        for index in 0..SERVERS {
            ensemble.spawn(index)?;
        }
        ensemble.wait_serving().with_context(|| ensemble.obituary())?;
        Ok(ensemble)
    }

    pub(super) const fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn name(&self) -> String {
        self.program.name()
    }

    /// Where clients reach a server.
    pub(super) fn addr(&self, index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.members[index].ports[0]))
    }

    /// Where clients reach those that run.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        self.running().map(|index| self.addr(index)).collect()
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|index| self.members[*index].child.is_some())
    }

    /// Process ids of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|m| m.child.as_ref().map(Child::id)).collect()
    }

    pub(super) fn pid(&self, index: usize) -> Result<u32> {
        self.members[index].child.as_ref().map(Child::id).context("the server does not run")
    }

    fn home(&self, index: usize) -> PathBuf {
        self.dir.path().join((index + 1).to_string())
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.home(index).join("server.log")
    }

    /// Starts one server's process.
    pub(super) fn spawn(&mut self, index: usize) -> Result<()> {
        ensure!(self.members[index].child.is_none(), "server {} runs already", index + 1);
        let home = self.home(index);
        let data = home.join("data");
        fs::create_dir_all(&data)?;
        fs::write(data.join("myid"), format!("{}\n", index + 1))?;
        let cfg = home.join("zoo.cfg");
        let mut text = format!("{}\n{}\n", process::CONFIGURATION.join("\n"), CONFIGURATION.join("\n"));
        let _ = writeln!(text, "dataDir={}", data.display());
        let _ = writeln!(text, "clientPort={}\nclientPortAddress=127.0.0.1", self.members[index].ports[0]);
        for (number, member) in (1..).zip(&self.members) {
            let _ = writeln!(text, "server.{number}=127.0.0.1:{}:{}", member.ports[1], member.ports[2]);
        }
        fs::write(&cfg, text)?;
        let log = File::options().create(true).append(true).open(self.log_path(index))?;
        let mut command = self.program.command(&cfg);
        command.current_dir(home).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.members[index].child = Some(command.spawn().with_context(|| format!("starting {}", self.name()))?);
        Ok(())
    }

    /// Waits until a server that was just started gives a client its first reply; returns when.
    pub(super) fn wait_first_reply(&mut self, index: usize) -> Result<Instant> {
        let deadline = Instant::now() + START_MAX;
        let attempts = Attempts::new(self.addr(index));
        while Instant::now() < deadline {
            if attempts.try_again() {
                return Ok(Instant::now());
            }
            self.check_alive()?;
        }
        bail!("server {} gives no client a reply", index + 1)
    }

    /// `kill -9`; returns when the process is gone.
    pub(super) fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Empties a server's directory, as if its machine had been replaced.
    pub(super) fn wipe(&self, index: usize) -> Result<()> {
        ensure!(self.members[index].child.is_none(), "server {} still runs", index + 1);
        fs::remove_dir_all(self.home(index).join("data")).context("emptying a data directory")
    }

    fn look(&self, index: usize) -> Option<Look> {
        four_letter_word_within(self.addr(index), "srvr", LOOK_MAX).ok().and_then(|text| Look::read(&text))
    }

    /// Waits until all that run serve under one leader, and everyone has what the leader had by then; returns the
    /// leader.
    pub(super) fn wait_serving(&mut self) -> Result<usize> {
        let deadline = Instant::now() + START_MAX;
        let mut goal = None;
        let mut looks = Vec::new();
        while Instant::now() < deadline {
            self.check_alive()?;
            looks = self.running().map(|index| (index, self.look(index))).collect();
            let mut leaders = looks.iter().filter_map(|(i, look)| look.filter(|l| l.leads).map(|l| (*i, l.zxid)));
            if let (Some((leader, zxid)), None) = (leaders.next(), leaders.next()) {
                // Before the first transaction of an epoch Apache's leader shows a zxid that no follower gets.
                let begun = zxid & 0xffff_ffff != 0;
                let goal = *goal.get_or_insert(if begun { zxid } else { 0 });
                if looks.iter().all(|(_, look)| look.is_some_and(|l| l.zxid >= goal)) {
                    return Ok(leader);
                }
            }
            std::thread::sleep(LOOK);
        }
        bail!("not every server serves and has caught up: {looks:?}")
    }

    fn check_alive(&mut self) -> Result<()> {
        for (number, member) in (1..).zip(&mut self.members) {
            if let Some(child) = &mut member.child
                && let Some(status) = child.try_wait()?
            {
                member.child = None;
                bail!("server {number} ended by itself with {status}");
            }
        }
        Ok(())
    }

    /// Creates what rows need.
    pub(super) fn set_up(&self) -> Result<()> {
        pass_over(&self.addrs(), work::root(CONNS))?;
        pass_over(&self.addrs(), work::setup(CONNS))?;
        Ok(())
    }

    /// Puts load of all rows on it for so long, which does not count.
    pub(super) fn warm(&self, time: Duration, paths: &Paths, ledger: &mut Ledger) -> Result<()> {
        let each = time / u32::try_from(ROWS.len())?;
        for row in ROWS {
            let mut pool = Pool::open(&self.addrs(), row.conns)?;
            let mut source = Row::new(row.kind, u32::try_from(row.conns)?, paths, ledger);
            let span = Span::Timed { ramp: Duration::ZERO, window: each };
            pool.run(Pace::Depth(row.depth), span, &mut source, &mut || Ok(()))?;
            pool.close()?;
        }
        self.rest()
    }

    /// A started and warmed ensemble.
    pub(super) fn ready(program: &Program, options: &Options, paths: &Paths, ledger: &mut Ledger) -> Result<Self> {
        let ensemble = Self::start(program, &options.dir)?;
        note(&format!("warming three of {} for {} s", program.name(), options.warm.as_secs()))?;
        let warmed = ensemble.set_up().and_then(|()| ensemble.warm(options.warm, paths, ledger));
        warmed.with_context(|| ensemble.obituary()).context("warming")?;
        Ok(ensemble)
    }

    /// Reads every acknowledged write back from every server that runs.
    pub(super) fn verify(&self, paths: &Paths, ledger: &Ledger) -> Result<()> {
        for index in self.running() {
            let addr = [self.addr(index)];
            pass_over(&addr, work::sync(CONNS))
                .and_then(|_| pass_over(&addr, work::check_keys(CONNS, paths, ledger)))
                .with_context(|| format!("reading back from server {}", index + 1))?;
        }
        Ok(())
    }

    /// Waits until the servers hardly use the CPU.
    pub(super) fn rest(&self) -> Result<()> {
        // What any server left to be written in the background must not hold up the next one's syncs.
        rustix::fs::sync();
        process::rest(&self.pids())
    }

    /// CPU time of everybody at this moment.
    pub(super) fn probe(&self) -> Result<rates::Cpu> {
        rates::cpu(&self.pids())
    }

    /// What the servers said that an operator would look into.
    pub(super) fn complaints(&self) -> String {
        let mut text = String::new();
        for index in 0..SERVERS {
            let lines = process::complaints(&self.log_path(index));
            if let Some(last) = lines.last() {
                let _ = write!(
                    text,
                    "\n{} server {} warned {} times in its log, last: `{last}`\n",
                    self.name(),
                    index + 1,
                    lines.len()
                );
            }
        }
        text
    }

    /// Which servers run, and the ends of their logs: the context of an error.
    pub(super) fn obituary(&self) -> String {
        let mut text = String::new();
        for (index, member) in self.members.iter().enumerate() {
            let state = if member.child.is_some() { "was running" } else { "was stopped" };
            let log = fs::read_to_string(self.log_path(index)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n");
            let _ = writeln!(text, "--- {} server {} {state}; its log ends so:\n{end}", self.name(), index + 1);
        }
        text
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            // The process may be gone already; there is nobody to tell.
            let _ = self.kill(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_needs_a_role_and_a_zxid() {
        let text = "Zookeeper version: x\nZxid: 0x10000000a\nMode: follower\nNode count: 5\n";
        assert_eq!(Look::read(text), Some(Look { leads: false, zxid: 0x1_0000_000a }));
        assert_eq!(Look::read(&text.replace("follower", "leader")).map(|l| l.leads), Some(true));
        assert_eq!(Look::read("This ZooKeeper instance is not currently serving requests\n"), None);
    }
}
