//! A command of somebody else's that runs for as long as something is held: in a process group of its own, which
//! gets this program's signals, is stopped before what is held can be lost, and is gone before that is given up.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use farrier_client::{Client, Lease, SessionId};
use farrier_recipes::{Hold, HoldState};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::oneshot;

use crate::output::complain;
use crate::signals::{StopSignal, StopSignals};

/// Exit code: what the command ran under was lost.
pub(crate) const LOST: u8 = 123;
/// Exit code: not acquired in time.
pub(crate) const NOT_ACQUIRED: u8 = 124;
/// Exit code: it failed before the command ran.
pub(crate) const NOT_STARTED: u8 = 125;
/// Exit code: the command can't be run.
const NOT_RUN: u8 = 126;
/// Exit code: there is no such command.
const NOT_FOUND: u8 = 127;

/// Time between two looks for what is left of a group: not all of its ends are told.
const LOOK: Duration = Duration::from_millis(50);

/// How long warnings may take to be written once nothing waits for them but the end.
const WRITTEN_MAX: Duration = Duration::from_secs(1);

/// First argument of this program where it is to become another one; the verb for which it does so follows, and whose child
/// it is.
const BECOME: &str = "--become-command-of";

/// Signals that are passed on.
pub(crate) struct Signals {
    stop: StopSignals,
    asked: Option<Signal>,
}

impl Signals {
    /// From now on none of them ends this program. Those that it was started to ignore, the command ignores with it.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self { stop: StopSignals::as_started().context("signals can't be handled")?, asked: None })
    }

    /// The next one. Dropping the call loses none.
    pub(crate) async fn next(&mut self) -> Signal {
        let signal = match self.stop.next().await {
            StopSignal::Interrupt => Signal::INT,
            StopSignal::Terminate => Signal::TERM,
            StopSignal::HangUp => Signal::HUP,
        };
        if signal != Signal::HUP {
            self.asked = Some(signal);
        }
        signal
    }

    /// The last one that asked to end.
    pub(crate) const fn asked(&self) -> Option<Signal> {
        self.asked
    }

    /// Waits for the servers' answer to the last request of what was held, but for nobody who wants to leave: the next
    /// signal ends the wait, and after one that asked to end it ends with the lease, behind which the answer changes
    /// nothing any more.
    ///
    /// # Errors
    /// The signal.
    pub(crate) async fn or_answer<T>(&mut self, client: &Client, answer: impl Future<Output = T>) -> Result<T, Signal> {
        let asked = self.asked;
        let lease_ends = async {
            match (asked, client.lease()) {
                (Some(signal), lease) => {
                    if let Some(lease) = lease {
                        client.sleep_until(lease.ends()).await;
                    }
                    signal
                }
                (None, _) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            signal = self.next() => Err(signal),
            signal = lease_ends => Err(signal),
        }
    }
}

/// A shell's code for the end by a signal.
pub(crate) fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(NOT_STARTED)
}

/// The command and all of its process group.
struct Group {
    leader: Pid,
    status: Option<WaitStatus>,
    ends: unix::Signal,
}

/// Why there is no group: a message and an exit code.
struct NotRun(String, u8);

impl Group {
    /// With `input`, the command finds that on its standard input.
    fn start(
        verb: &str,
        command: &[OsString],
        environment: &[(&str, String)],
        input: Option<&[u8]>,
    ) -> anyhow::Result<Result<Self, NotRun>> {
        let ends = signal(SignalKind::child()).context("signals can't be handled")?;
        // What the group leaves behind becomes ours, so that its end can be seen.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("prctl")?;
        let Some((program, words)) = command.split_first() else {
            return Ok(Err(NotRun("there is no command".to_owned(), NOT_FOUND)));
        };
        let mut spawned = below_us(verb, program);
        spawned.args(words).envs(environment.iter().map(|(name, value)| (name, value))).process_group(0);
        if input.is_some() {
            spawned.stdin(Stdio::piped());
        } else if io::IsTerminal::is_terminal(&io::stdin()) {
            // The group is in the background of the terminal, and would be stopped by a read.
            spawned.stdin(Stdio::null());
        }
        match spawned.spawn() {
            Ok(mut child) => {
                if let (Some(input), Some(pipe)) = (input, child.stdin.take()) {
                    let (mut pipe, input) = (ChildStdin::from_std(pipe).context("a pipe")?, input.to_vec());
                    // A command that does not read its input, or not all of it, does so on purpose.
                    tokio::spawn(async move { pipe.write_all(&input).await });
                }
                Ok(Ok(Self { leader: Pid::from_child(&child), status: None, ends }))
            }
            Err(error) => Ok(Err(NotRun(cannot_run(program, &error), code_of_failure(&error)))),
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process_group(self.leader, signal);
    }

    /// Completes when all of it is gone, with the command's exit code. Dropping the call loses nothing.
    async fn gone(&mut self) -> u8 {
        loop {
            if self.is_gone() {
                let status = self.status;
                let code = status.and_then(|status| u8::try_from(status.exit_status()?).ok());
                let signal = status.and_then(|status| status.terminating_signal().map(code_of_signal));
                return code.or(signal).unwrap_or(NOT_STARTED);
            }
            tokio::select! {
                _ = self.ends.recv() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn is_gone(&mut self) -> bool {
        loop {
            match rustix::process::waitpgid(self.leader, WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid == self.leader {
                        self.status = Some(status);
                    }
                }
                Ok(None) => return false,
                Err(Errno::INTR) => {}
                // None of them is a child of ours; some may be others' children.
                Err(_) => return rustix::process::test_kill_process_group(self.leader) == Err(Errno::SRCH),
            }
        }
    }
}

/// Why a program can't be run, in words.
fn cannot_run(program: &OsStr, error: &io::Error) -> String {
    format!("{} can't be run: {error}", program.display())
}

/// A shell's code for a program that can't be run.
fn code_of_failure(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }
}

/// `program`, made to die with us where the system can do that: by way of this program, which asks for that in the new
/// process and becomes the other one.
fn below_us(verb: &str, program: &OsStr) -> Command {
    if cfg!(target_os = "linux") {
        // Whatever became of the file that it was started from.
        let mut command = Command::new("/proc/self/exe");
        command.args([BECOME, verb, &std::process::id().to_string()]).arg(program);
        return command;
    }
    Command::new(program)
}

/// Becomes another program if that is what this process was started for; returns if that fails.
pub(crate) fn become_another() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != BECOME {
        return None;
    }
    let (verb, parent, program) = (words.next()?, words.next()?, words.next()?);
    #[cfg(target_os = "linux")]
    {
        let parent = parent.to_str()?.parse().ok().and_then(Pid::from_raw);
        // If this fails, the command only doesn't die with us.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if rustix::process::getppid() != parent {
            // It died before that was asked for.
            return Some(ExitCode::from(code_of_signal(Signal::KILL.as_raw())));
        }
    }
    let error = Command::new(&program).args(words).exec();
    complain(&format!("farrier {}: error", verb.display()), cannot_run(&program, &error));
    Some(ExitCode::from(code_of_failure(&error)))
}

/// What a command runs under: something that others may have once its session is lost.
pub(crate) trait Leased {
    /// What messages call it.
    fn name(&self) -> &str;
    /// The session that has it.
    fn session(&self) -> SessionId;
    /// Completes when it is lost.
    fn lost(&self) -> impl Future<Output = ()>;
    /// Whether it is lost at this moment.
    fn is_lost(&self) -> bool;
}

impl Leased for Hold {
    fn name(&self) -> &str {
        self.path()
    }

    fn session(&self) -> SessionId {
        Self::session(self)
    }

    fn lost(&self) -> impl Future<Output = ()> {
        Self::lost(self)
    }

    fn is_lost(&self) -> bool {
        self.state() == HoldState::Lost
    }
}

/// How a command ended that ran under something.
pub(crate) enum End {
    /// By itself, with this exit code, and all the time under it.
    Ended(u8),
    /// It was stopped, since what it ran under was about to be lost or was.
    Lost,
    /// It was not run.
    NotRun(u8),
}

/// What is to be run.
pub(crate) struct Errand<'a> {
    /// The verb of this program that runs it.
    pub(crate) verb: &'a str,
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
    /// What is added to its environment.
    pub(crate) environment: &'a [(&'a str, String)],
    /// What it finds on its standard input, instead of this program's.
    pub(crate) input: Option<&'a [u8]>,
}

/// Writes a warning by a thread of its own, since standard error may be a pipe that is full and that nobody reads: signals
/// must not wait for that. The receiver hears when it is written.
fn warn_aside(verb: &str, name: &str, why: &str) -> oneshot::Receiver<()> {
    let (kind, text) = (format!("farrier {verb}: warning"), format!("{name}: {why}"));
    let (done, written) = oneshot::channel();
    // Without a thread there is no warning; what it would tell has been done.
    let _ = thread::Builder::new().name("warnings".to_owned()).spawn(move || {
        complain(&kind, text);
        let _ = done.send(());
    });
    written
}

/// Runs a command under `held`, and returns when all of its process group is gone. Half of the session timeout after the
/// newest request that was answered the group gets SIGTERM, and when what it runs under is lost SIGKILL.
pub(crate) async fn run_under(
    held: &impl Leased,
    client: &Client,
    errand: Errand<'_>,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let Errand { verb, command, environment, input } = errand;
    let mut group = match Group::start(verb, command, environment, input)? {
        Ok(group) => group,
        Err(NotRun(why, code)) => {
            complain(&format!("farrier {verb}: error"), why);
            return Ok(End::NotRun(code));
        }
    };
    let (mut terminated, mut killed) = (false, false);
    let half = |lease: Lease| lease.since + lease.timeout / 2;
    let lease = || client.lease().filter(|lease| lease.session == held.session());
    let mut warnings = Vec::new();
    let mut warn = |why: &str| warnings.push(warn_aside(verb, held.name(), why));
    let mut lost = std::pin::pin!(held.lost());
    let code = loop {
        let at_half = lease().map(half);
        let until_half = async {
            match at_half {
                Some(at) => client.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            code = group.gone() => break code,
            signal = signals.next() => group.signal(signal),
            () = until_half, if !terminated => {
                if lease().is_none_or(|lease| half(lease) <= client.now()) {
                    terminated = true;
                    group.signal(Signal::TERM);
                    warn("nothing came from the ensemble's leader for half of the session timeout, so the command is told to end");
                }
            }
            () = &mut lost, if !killed => {
                killed = true;
                group.signal(Signal::KILL);
                warn("it is lost, so the command is killed");
            }
        }
    };
    let written = async {
        for warning in warnings {
            // Gone only where there was no thread.
            let _ = warning.await;
        }
    };
    // Nothing depends on whether anybody reads them.
    let _ = tokio::time::timeout(WRITTEN_MAX, written).await;
    Ok(if terminated || killed || held.is_lost() { End::Lost } else { End::Ended(code) })
}
