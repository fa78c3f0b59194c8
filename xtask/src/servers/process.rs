//! Processes and directories that must not outlive the command, interrupted or not.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Time between two looks at a process that was asked to end.
const LOOK: Duration = Duration::from_millis(1);
/// Exit code of a command that a signal ended.
const INTERRUPTED: i32 = 130;

/// What is there now. Whoever starts or reaps a process holds it meanwhile, so that no number in it is another process's.
#[derive(Debug)]
struct Held {
    pids: Vec<u32>,
    dirs: Vec<PathBuf>,
}

static HELD: Mutex<Held> = Mutex::new(Held { pids: Vec::new(), dirs: Vec::new() });

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every [`Process`] that runs.
pub(super) fn running() -> Vec<u32> {
    held().pids.clone()
}

/// From now on SIGINT, SIGTERM and SIGHUP end every [`Process`], remove every [`Home`], and end the command.
pub(crate) fn end_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("waiting for signals")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        let held = held();
        for pid in &held.pids {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                // It may have ended by itself; nobody reaps it any more.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for dir in &held.dirs {
            // A process that dies may still write for a moment.
            for _ in 0..100 {
                if fs::remove_dir_all(dir).is_ok() || !dir.exists() {
                    break;
                }
                std::thread::sleep(10 * LOOK);
            }
        }
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

/// A process of ours; killed hard when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command whose output goes to the end of a file.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut held = held();
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        held.pids.push(child.id());
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let mut held = held();
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            held.pids.retain(|pid| *pid != self.child.id());
        }
        Ok(ended)
    }

    /// `kill -9`; returns when it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.end()
    }

    /// SIGTERM; returns when it is gone.
    pub(crate) fn stop(self, within: Duration) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait(within).map(drop)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, within: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        bail!("process {} does not end within {within:?}", self.id())
    }

    fn end(&mut self) -> Result<()> {
        let mut held = held();
        self.child.kill()?;
        self.child.wait()?;
        held.pids.retain(|pid| *pid != self.child.id());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell.
        let _ = self.end();
    }
}

/// A directory that goes with its owner.
#[derive(Debug)]
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    /// A new directory in `base`.
    pub(crate) fn new(base: &Path, prefix: &str) -> Result<Self> {
        fs::create_dir_all(base)?;
        let mut held = held();
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(base)?;
        held.dirs.push(dir.path().to_owned());
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        held().dirs.retain(|dir| dir != self.0.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_held_until_it_is_reaped() {
        let home = Home::new(&std::env::temp_dir(), "held-").expect("a directory");
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let process = Process::spawn(sleep, &home.path().join("log")).expect("sleep runs");
        let pid = process.id();
        assert!(held().pids.contains(&pid) && held().dirs.iter().any(|dir| dir == home.path()));
        process.kill().expect("it can be killed");
        assert!(!held().pids.contains(&pid));
        let path = home.path().to_owned();
        drop(home);
        assert!(!path.exists() && !held().dirs.contains(&path));
        let mut soon = Command::new("true");
        soon.arg("0");
        let process = Process::spawn(soon, Path::new("/dev/null")).expect("true runs");
        process.stop(Duration::from_secs(30)).expect("it ends");
    }
}
