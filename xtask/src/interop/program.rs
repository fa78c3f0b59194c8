//! Runs one program of `interop` and speaks its line protocol: `ok NAME`, `FAIL NAME: WHY`,
//! `RESTART? kill|term` answered by `DONE`, `OURS? VERB…` for our recipes ([`Peer`]), `HOLD?` and `LET GO?` for our
//! locks ([`Holder`]), and `END PASSED FAILED` as the last line.

use super::holder::Holder;
use super::peer::Peer;
use super::{Report, Verdict};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use farrier_testkit::server::Server;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Longest silence of a program: above every wait of its own.
const SILENCE_MAX: Duration = Duration::from_secs(240);
/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(60);
/// Lines of a program that may wait for us.
const LINES_MAX: usize = 1024;

/// What a program's last line said.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl End {
    /// What stands behind `END`. A program that came to no verdict has shown nothing.
    fn read(counts: &str) -> Result<Self> {
        let (passed, failed) = counts.split_once(' ').context("END without counts")?;
        let end = Self { passed: passed.parse()?, failed: failed.parse()? };
        ensure!(end.passed + end.failed > 0, "END with no verdict at all: nothing was run");
        Ok(end)
    }
}

/// Runs the program against the server, restarting that when asked. Verdicts go to the report as they
/// come; an error means that the program did not come to its end.
pub(super) fn run(mut command: Command, server: &mut Server, report: &mut Report, brief: bool) -> Result<End> {
    let dir = tempfile::tempdir()?;
    let errors = dir.path().join("stderr");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&errors)?)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    let result = talk(&mut child, server, report, brief);
    if result.is_err() {
        // It may have ended by itself; either way it has to be gone.
        let _ = child.kill();
    }
    child.wait().context("waiting for the program's end")?;
    result.with_context(|| format!("its log ends with:\n{}", tail(&errors)))
}

fn talk(child: &mut Child, server: &mut Server, report: &mut Report, brief: bool) -> Result<End> {
    let lines = lines(child)?;
    let mut input = child.stdin.take().context("no standard input")?;
    let mut peer = None;
    let mut holder = None;
    loop {
        let line = match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("silent for {} s", SILENCE_MAX.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("ended without a verdict"),
        };
        if let Some(how) = line.strip_prefix("RESTART? ") {
            match how {
                "kill" => {}
                "term" => stop(server)?,
                _ => bail!("unknown way to restart: {how}"),
            }
            server.restart()?;
            writeln!(input, "DONE").context("answering the program")?;
        } else if let Some(what) = line.strip_prefix("OURS? ") {
            let peer = match &peer {
                Some(peer) => peer,
                None => peer.insert(Peer::connect(server.addr())?),
            };
            writeln!(input, "{}", peer.obey(what)?).context("answering the program")?;
        } else if line.starts_with("HOLD? ") || line.starts_with("LET GO? ") {
            let holder = match &mut holder {
                Some(holder) => holder,
                none => none.insert(Holder::new(server.addr())?),
            };
            let answer = match (line.strip_prefix("HOLD? "), line.strip_prefix("LET GO? ")) {
                (Some(wanted), _) => holder.hold(wanted),
                (None, path) => holder.let_go(path.unwrap_or_default()).map(|()| "DONE"),
            };
            // An answer that is none fails the step that asked.
            let answer = answer.map_or_else(|error| format!("{error:#}"), str::to_owned);
            writeln!(input, "{}", answer.replace('\n', " ")).context("answering the program")?;
        } else if let Some(verdict) = Verdict::read(&line) {
            if brief && verdict.outcome.is_ok() {
                report.passed += 1;
            } else {
                report.check(verdict.name, verdict.outcome.map_err(|why| anyhow!("{why}")))?;
            }
        } else if let Some(counts) = line.strip_prefix("END ") {
            return End::read(counts);
        } else {
            report.say(format_args!("     {line}"))?;
        }
    }
}

/// Its standard output, line by line, until it closes.
pub(super) fn lines(child: &mut Child) -> Result<Receiver<String>> {
    let out = child.stdout.take().context("no standard output")?;
    let (sender, receiver) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Stops a server in the orderly way and waits until its process has ended.
pub(super) fn stop(server: &mut Server) -> Result<()> {
    let pid = server.pid().context("the server does not run")?.to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status().context("running kill")?;
    ensure!(status.success(), "kill -TERM {pid} failed");
    let end = Instant::now() + STOP_MAX;
    while runs(&pid) {
        ensure!(Instant::now() < end, "the server did not end within {} s of SIGTERM", STOP_MAX.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Only collects what is left of the process.
    server.kill()
}

/// Whether a child of ours still runs; one that has ended stays listed as a zombie until it is waited for.
fn runs(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the command's name, which is in parentheses and may hold any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_verdict_is_none() {
        let end = End::read("3 0").expect("counts");
        assert_eq!((end.passed, end.failed), (3, 0));
        End::read("0 1").expect("it failed, and says so");
        for text in ["0 0", "3", "x 0", "-1 0"] {
            End::read(text).expect_err(text);
        }
    }
}
