//! One server, or the servers of one ensemble, each a process with directory and ports of its own on the loopback interface.

use super::process::{Home, Process};
use super::{Attempts, Program, START_MAX};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_testkit::ports::free_ports;
use farrier_testkit::raw::four_letter_word_within;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines that an ensemble has besides those of every measured server.
pub(crate) const CONFIGURATION: &[&str] = &["initLimit=10", "syncLimit=5"];
/// Time between two looks at a server.
const LOOK: Duration = Duration::from_millis(20);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Lines of each log in the context of an error.
const LAST_WORDS: usize = 60;

/// What a server says of itself by `srvr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    pub(crate) leads: bool,
    pub(crate) zxid: u64,
}

impl Look {
    fn read(srvr: &str) -> Option<Self> {
        let value = |key: &str| srvr.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        let leads = match value("Mode:")? {
            "leader" | "standalone" => true,
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
    process: Option<Process>,
}

/// Servers of one kind: one alone, or an ensemble. Killed hard when dropped.
#[derive(Debug)]
pub(crate) struct Ensemble {
    program: Program,
    home: Home,
    members: Vec<Member>,
    /// See [`Self::configure`].
    besides: Vec<String>,
}

impl Ensemble {
    /// Starts so many servers on empty directories, and waits until they serve.
    pub(crate) fn start(program: &Program, base: &Path, size: usize) -> Result<Self> {
        let mut ensemble = Self::new(program, base, size)?;
        for index in 0..size {
            ensemble.spawn(index)?;
        }
        ensemble.wait_serving().with_context(|| ensemble.obituary())?;
        Ok(ensemble)
    }

    /// Directories and ports; nothing runs yet.
    pub(crate) fn new(program: &Program, base: &Path, size: usize) -> Result<Self> {
        let ports = free_ports(3 * size)?;
        let members = ports.chunks_exact(3).map(|p| Member { ports: [p[0], p[1], p[2]], process: None }).collect();
        Ok(Self { program: program.clone(), home: Home::new(base, "servers-")?, members, besides: Vec::new() })
    }

    pub(crate) fn name(&self) -> String {
        self.program.name()
    }

    /// How many servers there are, running or not.
    pub(crate) const fn size(&self) -> usize {
        self.members.len()
    }

    /// Where clients reach a server.
    pub(crate) fn addr(&self, index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.members[index].ports[0]))
    }

    /// Where clients reach those that run.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.running().map(|index| self.addr(index)).collect()
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|index| self.members[*index].process.is_some())
    }

    /// Process ids of those that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|m| m.process.as_ref().map(Process::id)).collect()
    }

    pub(crate) fn pid(&self, index: usize) -> Result<u32> {
        self.members[index].process.as_ref().map(Process::id).context("the server does not run")
    }

    fn place(&self, index: usize) -> PathBuf {
        self.home.path().join((index + 1).to_string())
    }

    /// Where a server keeps what it must not lose.
    pub(crate) fn data_dir(&self, index: usize) -> PathBuf {
        self.place(index).join("data")
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.place(index).join("server.log")
    }

    /// What servers that start from now on find in their configuration besides.
    pub(crate) fn configure(&mut self, lines: &[&str]) {
        self.besides = lines.iter().map(|line| (*line).to_owned()).collect();
    }

    /// Starts one server's process.
    pub(crate) fn spawn(&mut self, index: usize) -> Result<()> {
        ensure!(self.members[index].process.is_none(), "server {} runs already", index + 1);
        let data = self.data_dir(index);
        fs::create_dir_all(&data)?;
        let cfg = self.place(index).join("zoo.cfg");
        let mut text = String::new();
        let besides = self.besides.iter().map(String::as_str);
        for line in super::CONFIGURATION.iter().chain(self.program.besides()).copied().chain(besides) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "dataDir={}", data.display());
        let _ = writeln!(text, "clientPort={}\nclientPortAddress=127.0.0.1", self.members[index].ports[0]);
        if self.members.len() > 1 {
            fs::write(data.join("myid"), format!("{}\n", index + 1))?;
            let _ = writeln!(text, "{}", CONFIGURATION.join("\n"));
            for (number, member) in (1..).zip(&self.members) {
                let _ = writeln!(text, "server.{number}=127.0.0.1:{}:{}", member.ports[1], member.ports[2]);
            }
        }
        fs::write(&cfg, text)?;
        let mut command = self.program.command(&cfg);
        command.current_dir(self.place(index));
        let process = Process::spawn(command, &self.log_path(index));
        self.members[index].process = Some(process.with_context(|| format!("starting {}", self.name()))?);
        Ok(())
    }

    /// Waits until a server that was just started gives a client its first reply; returns when.
    pub(crate) fn wait_first_reply(&mut self, index: usize) -> Result<Instant> {
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

    /// Starts a server; returns the time until a client has its first reply.
    pub(crate) fn time_start(&mut self, index: usize) -> Result<Duration> {
        let begun = Instant::now();
        self.spawn(index)?;
        let served = self.wait_first_reply(index).with_context(|| self.obituary())?;
        Ok(served.duration_since(begun))
    }

    /// `kill -9`; returns when the process is gone.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        match self.members[index].process.take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM; returns when the process is gone.
    pub(crate) fn stop(&mut self, index: usize) -> Result<()> {
        let process = self.members[index].process.take().context("nothing runs")?;
        process.stop(START_MAX).with_context(|| format!("stopping server {}", index + 1))
    }

    /// Empties a server's directory, as if its machine had been replaced.
    pub(crate) fn wipe(&self, index: usize) -> Result<()> {
        ensure!(self.members[index].process.is_none(), "server {} still runs", index + 1);
        fs::remove_dir_all(self.data_dir(index)).context("emptying a data directory")
    }

    fn look(&self, index: usize) -> Option<Look> {
        four_letter_word_within(self.addr(index), "srvr", LOOK_MAX).ok().and_then(|text| Look::read(&text))
    }

    /// Waits until all that run serve under one leader, and everyone has what the leader had by then; returns the
    /// leader.
    pub(crate) fn wait_serving(&mut self) -> Result<usize> {
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

    /// An error if a server has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        for (number, member) in (1..).zip(&mut self.members) {
            if let Some(process) = &mut member.process
                && let Some(status) = process.try_wait()?
            {
                member.process = None;
                bail!("server {number} ended by itself with {status}");
            }
        }
        Ok(())
    }

    /// What the servers said that an operator would look into.
    pub(crate) fn complaints(&self) -> String {
        let mut text = String::new();
        for index in 0..self.members.len() {
            let lines = super::complaints(&self.log_path(index));
            if let Some(last) = lines.last() {
                let _ = writeln!(
                    text,
                    "- {} server {} warned {} times in its log, last: `{last}`",
                    self.name(),
                    index + 1,
                    lines.len()
                );
            }
        }
        text
    }

    /// Which servers run, and the ends of their logs: the context of an error.
    pub(crate) fn obituary(&self) -> String {
        let mut text = String::new();
        for (index, member) in self.members.iter().enumerate() {
            let state = if member.process.is_some() { "was running" } else { "was stopped" };
            let log = fs::read_to_string(self.log_path(index)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n");
            let _ = writeln!(text, "--- {} server {} {state}; its log ends so:\n{end}", self.name(), index + 1);
        }
        text
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
