//! An ensemble of servers on the loopback interface, each Apache or Farrier, each in a process of its own.
//!
//! It owns ports, directories, configurations and processes. A member keeps its number, ports and
//! directories for the whole run, whatever program runs on them; signals go to processes that were
//! started here, by their id. What a server prints stays in a file beside its data.

use crate::ports::free_ports;
use crate::raw::four_letter_word_within;
use crate::server::{Target, tail};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an ensemble may take until all that should serve do.
pub const SERVING_MAX: Duration = Duration::from_secs(240);
/// How long a server may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(120);
/// How long a four-letter word may take here: a stopped process does not answer at all.
const WORD_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How every member is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `tickTime` in milliseconds.
    pub tick_ms: u32,
    /// `syncLimit`: ticks for which a peer may be silent.
    pub sync_limit: u32,
    /// Further lines of `zoo.cfg`.
    pub zoo: Vec<String>,
    /// `-D` flags without the `-D`.
    pub flags: Vec<String>,
    /// Whether the list of servers tells where their clients connect.
    pub list_clients: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tick_ms: 2000,
            sync_limit: 5,
            zoo: ["maxClientCnxns=0", "maxSessionTimeout=60000", "preAllocSize=2048", "extendedTypesEnabled=true"]
                .map(str::to_owned)
                .into(),
            flags: Vec::new(),
            list_clients: false,
        }
    }
}

/// Where a member runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its only address.
    pub ip: IpAddr,
    /// What stands in front of the server's command; it must become that command, with the same process id.
    pub launcher: Vec<OsString>,
}

impl Place {
    /// Beside the tests.
    #[must_use]
    pub const fn loopback() -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), launcher: Vec::new() }
    }

    fn launch(&self, server: Command) -> Command {
        let Some((first, rest)) = self.launcher.split_first() else { return server };
        let mut command = Command::new(first);
        command.args(rest).arg(server.get_program()).args(server.get_args());
        for (key, value) in server.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }
}

/// What a member says of itself by `srvr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It observes.
    Observer,
    /// It is alone.
    Standalone,
}

impl Mode {
    fn read(srvr: &str) -> Option<Self> {
        let word = srvr.lines().find_map(|l| l.strip_prefix("Mode: "))?;
        match word.trim() {
            "leader" => Some(Self::Leader),
            "follower" => Some(Self::Follower),
            "observer" => Some(Self::Observer),
            "standalone" => Some(Self::Standalone),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Member {
    target: Target,
    observer: bool,
    place: Place,
    client_port: u16,
    quorum_port: u16,
    election_port: u16,
    child: Option<Child>,
}

/// The members, numbered from 1 in `zoo.cfg` and from 0 here; killed hard when dropped.
#[derive(Debug)]
pub struct Members {
    dir: tempfile::TempDir,
    settings: Settings,
    members: Vec<Member>,
}

impl Members {
    /// Prepares members on the loopback interface; none runs yet. The flag tells which observe.
    pub fn new(members: &[(Target, bool)], settings: Settings) -> Result<Self> {
        Self::at(members, settings, |_| Place::loopback())
    }

    /// Prepares members, each in its place; none runs yet.
    pub fn at(members: &[(Target, bool)], settings: Settings, place: impl Fn(usize) -> Place) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("farrier-ensemble-").tempdir()?;
        let ports = free_ports(3 * members.len())?;
        let members = members
            .iter()
            .zip(ports.chunks_exact(3))
            .enumerate()
            .map(|(index, ((target, observer), ports))| Member {
                target: target.clone(),
                observer: *observer,
                place: place(index),
                client_port: ports[0],
                quorum_port: ports[1],
                election_port: ports[2],
                child: None,
            })
            .collect();
        Ok(Self { dir, settings, members })
    }

    /// Starts all members and waits until all serve.
    pub fn start(members: &[(Target, bool)], settings: Settings) -> Result<Self> {
        let mut all = Self::new(members, settings)?;
        for index in 0..all.len() {
            all.spawn(index)?;
        }
        all.wait_serving()?;
        Ok(all)
    }

    /// How many there are, running or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where clients reach a member.
    #[must_use]
    pub fn addr(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.members[index].place.ip, self.members[index].client_port)
    }

    /// Where clients reach all of them.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        (0..self.len()).map(|index| self.addr(index)).collect()
    }

    /// What runs, or would run, as this member.
    #[must_use]
    pub fn target(&self, index: usize) -> &Target {
        &self.members[index].target
    }

    /// Number and program of a member, for messages.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        let member = &self.members[index];
        format!("server {} ({}{})", index + 1, member.target.name(), if member.observer { ", observer" } else { "" })
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.home(index).join("data")
    }

    /// Its main configuration file.
    #[must_use]
    pub fn config_file(&self, index: usize) -> PathBuf {
        self.home(index).join("zoo.cfg")
    }

    fn home(&self, index: usize) -> PathBuf {
        self.dir.path().join((index + 1).to_string())
    }

    /// The directory of everything, for a copy.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything that a member wrote to its standard output and error, over all its starts.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        fs::read(self.home(index).join("server.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether its process was started and not ended from here.
    #[must_use]
    pub fn is_started(&self, index: usize) -> bool {
        self.members[index].child.is_some()
    }

    /// Starts a member's process without waiting for it to serve.
    pub fn spawn(&mut self, index: usize) -> Result<()> {
        ensure!(!self.is_started(index), "{} runs already", self.name(index));
        let data = self.data_dir(index);
        fs::create_dir_all(&data)?;
        fs::write(data.join("myid"), format!("{}\n", index + 1))?;
        fs::write(self.config_file(index), self.zoo_cfg(index))?;
        self.spawn_as_it_is(index)
    }

    /// The same with the configuration that is there.
    pub fn spawn_as_it_is(&mut self, index: usize) -> Result<()> {
        ensure!(!self.is_started(index), "{} runs already", self.name(index));
        let (home, cfg) = (self.home(index), self.config_file(index));
        let log = File::options().create(true).append(true).open(home.join("server.log"))?;
        let member = &mut self.members[index];
        let mut command = member.place.launch(member.target.command(&cfg, &self.settings.flags, "info"));
        command.current_dir(home).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", member.target.name()))?;
        member.child = Some(child);
        Ok(())
    }

    fn zoo_cfg(&self, index: usize) -> String {
        let me = &self.members[index];
        let mut text = format!(
            "tickTime={}\ninitLimit=10\nsyncLimit={}\ndataDir={}\nclientPort={}\nclientPortAddress={}\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n",
            self.settings.tick_ms,
            self.settings.sync_limit,
            self.data_dir(index).display(),
            me.client_port,
            me.place.ip
        );
        if me.observer {
            text.push_str("peerType=observer\n");
        }
        for line in &self.settings.zoo {
            text.push_str(line);
            text.push('\n');
        }
        for (number, member) in (1..).zip(&self.members) {
            let role = if member.observer { ":observer" } else { "" };
            let Place { ip, .. } = member.place;
            let _ = write!(text, "server.{number}={ip}:{}:{}{role}", member.quorum_port, member.election_port);
            if self.settings.list_clients {
                let _ = write!(text, ";{ip}:{}", member.client_port);
            }
            text.push('\n');
        }
        text
    }

    /// Kills a member hard, if it runs. A stopped process dies too.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().context("killing a server")?;
            child.wait().context("waiting for a server's end")?;
        }
        Ok(())
    }

    /// Asks a member to end, and waits until it did.
    pub fn stop(&mut self, index: usize) -> Result<()> {
        self.signal(index, Signal::TERM)?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(child) = &mut self.members[index].child
                && child.try_wait()?.is_some()
            {
                self.members[index].child = None;
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        bail!("{} did not end after SIGTERM", self.name(index))
    }

    /// Stops a member's process where it stands, and waits until none of its threads runs any more. The signal
    /// alone doesn't say so: a busy machine lets the others go on until the thread that was chosen for it is scheduled.
    pub fn pause(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::STOP)?;
        let child = self.members[index].child.as_ref().context("the process is ours")?;
        let deadline = Instant::now() + STOP_MAX;
        while !is_stopped(child.id())? {
            ensure!(Instant::now() < deadline, "{} did not stand still after SIGSTOP", self.name(index));
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets a paused process go on.
    pub fn resume(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::CONT)
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        let child =
            self.members[index].child.as_ref().with_context(|| format!("{} is not running", self.name(index)))?;
        kill_process(Pid::from_child(child), signal).with_context(|| format!("signalling {}", self.name(index)))
    }

    /// Makes another program run as this member from its next start on, on the same directory.
    pub fn swap(&mut self, index: usize, target: &Target) -> Result<()> {
        ensure!(!self.is_started(index), "{} still runs", self.name(index));
        self.members[index].target = target.clone();
        Ok(())
    }

    /// Empties a member's data directory, as if its machine had been replaced.
    pub fn wipe(&self, index: usize) -> Result<()> {
        ensure!(!self.is_started(index), "{} still runs", self.name(index));
        fs::remove_dir_all(self.data_dir(index)).context("emptying a data directory")
    }

    /// What a member says of its mode; `None` if it doesn't serve.
    #[must_use]
    pub fn mode(&self, index: usize) -> Option<Mode> {
        four_letter_word_within(self.addr(index), "srvr", WORD_PATIENCE).ok().and_then(|text| Mode::read(&text))
    }

    /// What a member that serves, or is about to, says of its mode; a busy one may take its time.
    pub fn wait_mode(&self, index: usize) -> Result<Mode> {
        let deadline = Instant::now() + SERVING_MAX;
        while Instant::now() < deadline {
            if let Some(mode) = self.mode(index) {
                return Ok(mode);
            }
            std::thread::sleep(LOOK);
        }
        bail!("{} does not tell its mode", self.name(index))
    }

    /// The only member that says that it leads; nothing if there is none or more than one.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let mut found = (0..self.len()).filter(|&i| self.is_started(i) && self.mode(i) == Some(Mode::Leader));
        found.next().filter(|_| found.next().is_none())
    }

    /// Waits until every started member serves under one leader, which is returned.
    pub fn wait_serving(&mut self) -> Result<usize> {
        let started: Vec<usize> = (0..self.len()).filter(|&i| self.is_started(i)).collect();
        self.wait_serving_of(&started)
    }

    /// Waits until these members serve, and one of them leads.
    pub fn wait_serving_of(&mut self, which: &[usize]) -> Result<usize> {
        let deadline = Instant::now() + SERVING_MAX;
        let mut modes = Vec::new();
        while Instant::now() < deadline {
            self.check_alive()?;
            modes = which.iter().map(|&index| self.mode(index)).collect();
            let leaders = modes.iter().filter(|m| **m == Some(Mode::Leader)).count();
            if leaders == 1 && modes.iter().all(Option::is_some) {
                let leading = modes.iter().position(|m| *m == Some(Mode::Leader)).unwrap_or_default();
                return Ok(which[leading]);
            }
            std::thread::sleep(LOOK);
        }
        let said: Vec<String> =
            which.iter().zip(&modes).map(|(&i, mode)| format!("{}: {mode:?}", self.name(i))).collect();
        bail!("not every server serves: {}", said.join(", "))
    }

    /// Whether a started process has ended by itself; it counts as not started then.
    pub fn has_ended(&mut self, index: usize) -> Result<bool> {
        let Some(child) = &mut self.members[index].child else { return Ok(false) };
        let ended = child.try_wait()?.is_some();
        if ended {
            self.members[index].child = None;
        }
        Ok(ended)
    }

    /// That no started process has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        for index in 0..self.len() {
            if let Some(child) = &mut self.members[index].child
                && let Some(status) = child.try_wait()?
            {
                self.members[index].child = None;
                bail!("{} ended by itself with {status}", self.name(index));
            }
        }
        Ok(())
    }

    /// The ends of all logs, for a failure.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for index in 0..self.len() {
            // Without our own looks.
            let log: Vec<String> = self
                .log(index)
                .lines()
                .filter(|l| !l.to_lowercase().contains("processing srvr command"))
                .map(str::to_owned)
                .collect();
            let _ = writeln!(text, "--- {}\n{}", self.name(index), tail(&log.join("\n")));
        }
        text
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for index in 0..self.len() {
            // The process may be gone already; there is nobody to tell.
            let _ = self.kill(index);
        }
    }
}

/// Whether every thread of a process stands still, as `/proc` tells it: the letter behind the name in parentheses.
fn is_stopped(pid: u32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'X' | 'Z')) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_from_srvr() {
        assert_eq!(Mode::read("Zookeeper version: x\nMode: follower\nNode count: 5\n"), Some(Mode::Follower));
        assert_eq!(Mode::read("This ZooKeeper instance is not currently serving requests\n"), None);
    }

    #[test]
    fn every_member_has_the_same_list_and_its_own_ports() {
        let farrier = Target::Farrier(PathBuf::from("/nowhere"));
        let all = Members::new(&[(farrier.clone(), false), (farrier, true)], Settings::default()).expect("prepared");
        let list =
            |text: &str| text.lines().filter(|l| l.starts_with("server.")).map(str::to_owned).collect::<Vec<_>>();
        let (first, second) = (all.zoo_cfg(0), all.zoo_cfg(1));
        assert_eq!(list(&first), list(&second));
        assert_eq!(list(&first).len(), 2);
        assert!(list(&first)[1].ends_with(":observer"));
        assert!(second.contains("peerType=observer") && !first.contains("peerType"));
        assert!(first.contains(&format!("clientPort={}\n", all.members[0].client_port)));
    }
}
