//! The processes of an application, and the program that puts them to work.
//!
//! The program prints `did KIND N` as it goes and `broken: WHY` when something fails, reads `END` from its standard
//! input, and then prints verdicts: `ok NAME: SEEN`, `FAIL NAME: WHY`, and `END PASSED FAILED` as the last line.

use super::super::program::lines;
use super::Verdict;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// How often everything has to be done between two steps of a takeover.
const BETWEEN: u64 = 5;
/// How long that may take.
const PROGRESS_MAX: Duration = Duration::from_secs(420);
/// How long the verdicts may take.
const VERDICTS_MAX: Duration = Duration::from_secs(600);
/// Time between two looks at the processes.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of a log that stand in a failure.
const TAIL_LINES: usize = 30;

/// A process with a log; killed hard when dropped.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a command that logs to `dir`/`name`.log.
    pub(super) fn start(name: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.current_dir(dir).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Everything that it logged.
    pub(super) fn log(&self) -> Result<String> {
        read(&self.log)
    }

    /// The end of its log, with a heading.
    pub(super) fn tail(&self) -> String {
        tail(self.name, &self.log)
    }

    fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that puts others to work.
#[derive(Debug)]
pub(super) struct Workload {
    program: Program,
    lines: Receiver<String>,
    /// How often each kind was done.
    done: BTreeMap<String, u64>,
}

impl Workload {
    /// Starts a command that keeps to the protocol of this module.
    pub(super) fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join("workload.log");
        command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let child = command.spawn().context("starting the workload")?;
        let mut program = Program { name: "workload", child, log };
        let lines = lines(&mut program.child)?;
        Ok(Self { program, lines, done: BTreeMap::new() })
    }

    /// Everything that it logged.
    pub(super) fn log(&self) -> Result<String> {
        self.program.log()
    }

    /// The end of its log, with a heading.
    pub(super) fn tail(&self) -> String {
        self.program.tail()
    }

    /// Waits until every kind was done a few times more, counted from now, with all `programs` alive.
    pub(super) fn wait_progress(&mut self, kinds: &[&str], programs: &mut [Program]) -> Result<()> {
        self.take_what_waits()?;
        let goals: BTreeMap<&str, u64> = kinds.iter().map(|&kind| (kind, self.count(kind) + BETWEEN)).collect();
        let deadline = Instant::now() + PROGRESS_MAX;
        loop {
            let missing: Vec<&str> =
                goals.iter().filter(|(kind, goal)| self.count(kind) < **goal).map(|(kind, _)| *kind).collect();
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "no {} was done {BETWEEN} times in {PROGRESS_MAX:?}",
                missing.join(", no ")
            );
            programs.iter_mut().try_for_each(Program::check_alive)?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => self.take(&line)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the workload ended by itself"),
            }
        }
    }

    fn count(&self, kind: &str) -> u64 {
        self.done.get(kind).copied().unwrap_or(0)
    }

    fn take_what_waits(&mut self) -> Result<()> {
        loop {
            match self.lines.try_recv() {
                Ok(line) => self.take(&line)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => bail!("the workload ended by itself"),
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<()> {
        if let Some(rest) = line.strip_prefix("did ") {
            let kind = rest.split(' ').next().unwrap_or_default();
            *self.done.entry(kind.to_owned()).or_default() += 1;
        } else {
            ensure!(!line.starts_with("broken: "), "the workload is {line}");
        }
        Ok(())
    }

    /// Lets it come to its end; its verdicts.
    pub(super) fn end(&mut self) -> Result<Vec<Verdict>> {
        let mut input = self.program.child.stdin.take().context("no standard input")?;
        writeln!(input, "END").context("ending the workload")?;
        let deadline = Instant::now() + VERDICTS_MAX;
        let mut verdicts = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("no verdict within {VERDICTS_MAX:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the workload ended without its last line"),
            };
            if let Some(counts) = line.strip_prefix("END ") {
                let passed = verdicts.iter().filter(|v: &&Verdict| v.outcome.is_ok()).count();
                let told = format!("{passed} {}", verdicts.len() - passed);
                ensure!(
                    counts == told && !verdicts.is_empty(),
                    "the workload counts {counts}, its verdicts are {told}"
                );
                return Ok(verdicts);
            }
            verdicts.extend(Verdict::read(&line));
        }
    }
}

fn read(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(name: &str, log: &Path) -> String {
    let text = read(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripted(script: &str, dir: &Path) -> Workload {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        Workload::start(shell, dir).expect("there is a shell")
    }

    #[test]
    fn progress_is_counted_by_kind_and_verdicts_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = "for n in 1 2 3 4 5; do echo did a $n; echo did b $n; done; read end; \
                      echo did a 6; echo 'ok x: fine'; echo 'FAIL y: no good'; echo END 1 1";
        let mut workload = scripted(script, dir.path());
        workload.done.insert("a".to_owned(), 0);
        workload.wait_progress(&["a", "b"], &mut []).expect("both are done five times");
        let verdicts = workload.end().expect("it comes to its end");
        assert_eq!(verdicts.len(), 2);
        assert_eq!(verdicts[0].outcome, Ok("fine".to_owned()));
        assert_eq!((verdicts[1].name.as_str(), &verdicts[1].outcome), ("y", &Err("no good".to_owned())));
    }

    #[test]
    fn what_breaks_or_ends_too_early_is_no_progress() {
        let dir = tempfile::tempdir().expect("a directory");
        let broken = scripted("echo broken: by hand; read end", dir.path()).wait_progress(&["a"], &mut []);
        assert!(broken.expect_err("it is broken").to_string().contains("by hand"));
        let ended = scripted("echo did a 1", dir.path()).wait_progress(&["a"], &mut []);
        assert!(ended.expect_err("it has ended").to_string().contains("ended by itself"));
        let verdicts = scripted("read end; echo ok x: fine; echo END 2 0", dir.path()).end();
        assert!(verdicts.expect_err("the counts differ").to_string().contains("counts 2 0"));
    }
}
