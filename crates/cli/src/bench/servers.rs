//! The servers that `--start` starts: each a shell command in the foreground, in a process group of its own, and gone with
//! the command that started it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use farrier_bench::failover;
use farrier_bench::process::group_runs;
use farrier_client::Host;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::DIAL_MAX;
use crate::output::{Failure, complain};
use crate::session;
use crate::temporary;

/// How long the servers may take until all of them serve.
const SERVING_MAX: Duration = Duration::from_secs(60);
/// How long a look at a server may take, and the pause between two.
const WORD_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// How long processes that were killed may take until they are gone, and the pause between two looks at them.
const KILLED_MAX: Duration = Duration::from_secs(10);
const KILLED_LOOK: Duration = Duration::from_millis(5);
/// How long servers that are asked to end may take until they are killed.
const END_MAX: Duration = Duration::from_secs(10);
/// What is shown of the end of a log: bytes that are looked at, lines of them.
const TAIL_MAX: u64 = 8 << 10;
const TAIL_LINES: usize = 10;

/// Started servers, by their places on the command line. Dropping ends them; what they said stays then.
#[derive(Debug)]
pub(super) struct Servers {
    members: Vec<Member>,
    dir: PathBuf,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Member {
    number: usize,
    command: String,
    address: SocketAddr,
    log: PathBuf,
    group: Option<Group>,
    /// What was killed and may not be gone yet.
    killed: Option<Group>,
}

impl Servers {
    /// A server for each address, still to be started. `stop` ends every wait for them.
    pub(super) fn new(commands: &[String], addrs: &[SocketAddr], stop: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        if commands.len() != addrs.len() {
            return Err(Failure::usage(format!(
                "--start is there {} times and --server names {}: give one command for each server, in the same order",
                commands.len(),
                addrs.len()
            )));
        }
        if let Some(taken) = addrs.iter().find(|address| is_taken(**address)) {
            return Err(Failure::refused(format!(
                "something listens on {taken} already, and what --start starts there would not be what is measured"
            )));
        }
        let dir = temporary::directory("farrier-bench")?;
        let members = (1..).zip(commands.iter().zip(addrs)).map(|(number, (command, address))| Member {
            number,
            command: command.clone(),
            address: *address,
            log: dir.join(format!("{number}.log")),
            group: None,
            killed: None,
        });
        Ok(Self { members: members.collect(), dir, stop: stop.clone() })
    }

    /// Starts all of them, and waits until they serve.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.start()?;
        }
        self.wait_serving().map(drop)
    }

    /// An error if a server has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::check)
    }

    /// Waits until all serve, one of them as the leader; returns its place.
    fn wait_serving(&mut self) -> anyhow::Result<usize> {
        let runtime = session::runtime()?;
        let deadline = Instant::now() + SERVING_MAX;
        loop {
            self.go_on()?;
            let mut modes = Vec::new();
            for member in &self.members {
                let answer = runtime.block_on(Host::from(member.address).word("srvr", WORD_MAX));
                modes.push(answer.map_err(|error| error.to_string()).and_then(|text| mode(&text)));
            }
            let leads = |mode: &Result<Mode, String>| matches!(mode, Ok(Mode::Leads));
            let all_serve = modes.iter().all(Result::is_ok);
            let leader = modes.iter().position(leads);
            if let (true, Some(leader)) = (all_serve, leader)
                && modes.iter().filter(|mode| leads(mode)).count() == 1
            {
                return Ok(leader);
            }
            if Instant::now() >= deadline {
                let silent = self.members.iter().zip(&modes).find_map(|(m, mode)| Some((m, mode.as_ref().err()?)));
                let Some((member, why)) = silent else {
                    let leaders = modes.iter().filter(|mode| leads(mode)).count();
                    bail!(
                        "the servers serve, but {leaders} of them lead: are they one ensemble, and all of its servers?"
                    );
                };
                bail!("{} does not serve within {SERVING_MAX:?}: {why}; {}", member.name(), member.last_words());
            }
            sleep(LOOK);
        }
    }

    /// An error if the command is to end, or a server has.
    fn go_on(&mut self) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        self.check()
    }

    /// Ends the servers. If all went well or was interrupted, nobody needs what they said.
    pub(super) fn end(&mut self, went_well: bool) {
        for group in self.members.iter().filter_map(|member| member.group.as_ref()) {
            group.signal(Signal::TERM);
        }
        let deadline = Instant::now() + END_MAX;
        for member in &mut self.members {
            let Some(group) = member.group.take() else { continue };
            while group.runs() && Instant::now() < deadline {
                sleep(LOOK);
            }
            if group.runs() {
                let name = member.name();
                complain(
                    "farrier bench: warning",
                    format_args!("{name} did not end within {END_MAX:?} of SIGTERM, and was killed"),
                );
            }
            // Dropped, it kills what is left.
        }
        if went_well || self.stop.load(Ordering::Relaxed) {
            // Not worth a failure.
            let _ = fs::remove_dir_all(&self.dir);
        } else if self.dir.exists() {
            complain("farrier bench", format_args!("what the servers said is in {}", self.dir.display()));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if self.members.iter().any(|member| member.group.is_some()) {
            self.end(false);
        }
    }
}

impl failover::Servers for Servers {
    fn addrs(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    fn wait_leader(&mut self) -> anyhow::Result<usize> {
        self.wait_serving()
    }

    fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let member = &mut self.members[place];
        let group = member.group.take().with_context(|| format!("{} does not run", member.name()))?;
        group.signal(Signal::KILL);
        member.killed.insert(group).wait_over()
    }

    fn bring_back(&mut self, place: usize) -> anyhow::Result<()> {
        let member = &mut self.members[place];
        if let Some(group) = member.killed.take() {
            group.wait_gone().with_context(|| member.name())?;
        }
        ensure!(
            !is_taken(member.address),
            "{} was killed, and something still listens on {}: the command has to run the server in the foreground",
            member.name(),
            member.address
        );
        member.start()?;
        self.wait_serving().map(drop)
    }

    fn check(&mut self) -> anyhow::Result<()> {
        self.go_on()
    }
}

impl Member {
    fn start(&mut self) -> anyhow::Result<()> {
        let group = Group::start(&self.command, &self.log).with_context(|| format!("starting {}", self.name()))?;
        self.group = Some(group);
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let Some(group) = self.group.take_if(|group| group.is_over()) else { return Ok(()) };
        let status = group.end().with_context(|| self.name())?;
        bail!("{} ended by itself, {status}; {}", self.name(), self.last_words())
    }

    fn name(&self) -> String {
        format!("server {} (`{}`)", self.number, self.command)
    }

    /// The end of what it said.
    fn last_words(&self) -> String {
        let shown = self.log.display();
        match tail(&self.log) {
            Ok(text) if text.is_empty() => format!("it said nothing in {shown}"),
            Ok(text) => format!("{shown} ends with\n{text}"),
            Err(error) => format!("{shown} can't be read: {error}"),
        }
    }
}

/// A shell, and all that it started.
#[derive(Debug)]
struct Group {
    /// Nobody waits for it before the group gets its last signal, so that the group's number is no other's.
    shell: Child,
    is_reaped: bool,
}

impl Group {
    /// A command whose output goes to the end of a file.
    fn start(command: &str, log: &Path) -> anyhow::Result<Self> {
        let open = File::options().create(true).append(true).open(log);
        let log = open.with_context(|| format!("{} can't be written", log.display()))?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { shell: shell.spawn().context("sh can't be run")?, is_reaped: false })
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.shell)
    }

    fn signal(&self, signal: Signal) {
        // While the shell is not waited for, there is such a group, and it is ours.
        let _ = kill_process_group(self.id(), signal);
    }

    /// Whether the shell has ended; it stays to be waited for.
    fn is_over(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // What can't be waited for isn't there.
        waitid(WaitId::Pid(self.id()), options).map_or(true, |status| status.is_some())
    }

    /// Whether anything of the group still runs.
    fn runs(&self) -> bool {
        // Without /proc the shell stands for all.
        group_runs(self.shell.id()).unwrap_or_else(|_| !self.is_over())
    }

    /// Waits for the end of the shell.
    fn wait_over(&self) -> anyhow::Result<()> {
        Self::wait_until(|| self.is_over())
    }

    /// Waits for the end of all.
    fn wait_gone(self) -> anyhow::Result<()> {
        Self::wait_until(|| !self.runs())
    }

    fn wait_until(is_so: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + KILLED_MAX;
        while !is_so() {
            ensure!(Instant::now() < deadline, "it still runs {KILLED_MAX:?} after SIGKILL");
            sleep(KILLED_LOOK);
        }
        Ok(())
    }

    /// Kills what is left; returns how the shell ended.
    fn end(mut self) -> io::Result<ExitStatus> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        if !self.is_reaped {
            self.signal(Signal::KILL);
        }
        self.is_reaped = true;
        self.shell.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing can be done about one that is not ours to wait for.
        let _ = self.reap();
    }
}

/// What a server is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Leads,
    Follows,
}

/// What a server says of itself in its answer to `srvr`, or why it serves nobody.
fn mode(srvr: &str) -> Result<Mode, String> {
    match srvr.lines().find_map(|line| line.strip_prefix("Mode: ")) {
        Some("leader" | "standalone") => Ok(Mode::Leads),
        Some("follower" | "observer") => Ok(Mode::Follows),
        Some(mode) => Err(format!("it is in mode {mode}")),
        None => Err(format!("it answers srvr with {:?}", srvr.lines().next().unwrap_or_default())),
    }
}

/// Whether something listens there.
fn is_taken(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DIAL_MAX).is_ok()
}

/// The last lines of a file.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn refused(commands: &[&str], addrs: &[SocketAddr]) -> String {
        let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
        let error = Servers::new(&commands, addrs, &Arc::default()).expect_err("it was refused");
        format!("{error:#}")
    }

    #[test]
    fn each_server_needs_a_command_and_an_address_that_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = listener.local_addr().expect("it is bound");
        assert!(refused(&["true", "true"], &[taken]).contains("2 times and --server names 1"));
        assert!(refused(&["true"], &[taken]).contains("something listens on"));
    }

    #[test]
    fn a_server_says_what_it_is() {
        assert_eq!(mode("Zookeeper version: x\nMode: leader\n"), Ok(Mode::Leads));
        assert_eq!(mode("Mode: standalone"), Ok(Mode::Leads));
        assert_eq!(mode("Mode: observer\n"), Ok(Mode::Follows));
        assert_eq!(mode("Mode: read-only\n"), Err("it is in mode read-only".to_owned()));
        let listed = mode("srvr is not executed because it is not in the whitelist.\n").expect_err("it says nothing");
        assert!(listed.contains("whitelist"), "{listed}");
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("log");
        let lines: Vec<String> = (0..2000).map(|number| format!("line {number}")).collect();
        fs::write(&file, lines.join("\n")).expect("a file");
        let end = tail(&file).expect("it is there");
        assert_eq!(end.lines().collect::<Vec<_>>(), lines[1990..]);
        fs::write(&file, "").expect("a file");
        assert_eq!(tail(&file).expect("it is there"), "");
    }

    #[test]
    fn a_group_goes_with_all_that_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let group = Group::start("trap '' TERM; sleep 600 & sleep 600; wait", &log).expect("sh runs");
        let id = group.shell.id();
        assert!(group.runs() && !group.is_over());
        drop(group);
        while group_runs(id).expect("/proc") {
            sleep(KILLED_LOOK);
        }
        let group = Group::start("exit 3", &log).expect("sh runs");
        group.wait_over().expect("it ends");
        assert_eq!(group.end().expect("it is ours").code(), Some(3));
    }
}
