//! `cargo xtask instructions`: what a request costs one server in instructions, beside what it cost before.
//!
//! callgrind counts them, so that the figures depend on the code and the compiler and hardly on the machine's mood. It counts
//! what runs in user space; system calls are not in it. How many writes go into one batch depends on time, so writes move by
//! a percent or two from run to run.

use crate::measure::{Common, farrier, note};
use crate::report::number;
use crate::servers::{Home, Process, Program, Stage, end_on_signals};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use farrier_bench::rows::Kind;
use farrier_bench::{Pace, Pool, Source, Span};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// A figure that moves by more than this part has to be explained.
const TOLERANCE: f64 = 0.05;
/// Where the figures are, from the workspace's root.
const FILE: &str = "bench/instructions.txt";
/// Not counted: what is built on first use.
const UNCOUNTED: u32 = 2000;
/// How long a server under callgrind may take over one question.
const SOON: Duration = Duration::from_secs(120);

/// What is counted: name, kind, connections, depth, requests.
const ROWS: &[(&str, Kind, u32, usize, u32)] = &[
    ("get-64x1", Kind::Get, 64, 1, 20_000),
    ("get-16x64", Kind::Get, 16, 64, 60_000),
    ("set-64x1", Kind::Set, 64, 1, 20_000),
    ("set-16x64", Kind::Set, 16, 64, 60_000),
    ("create-64x1", Kind::Create, 64, 1, 20_000),
    ("create-16x64", Kind::Create, 16, 64, 60_000),
];

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the figures to bench/instructions.txt; the commit says why they changed
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    common: Common,
}

/// Counts, and compares or writes.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE);
    end_on_signals()?;
    let counted = count(&arguments.common)?;
    if arguments.write {
        fs::write(&path, render(&counted)).with_context(|| path.display().to_string())?;
        crate::say(&format!("{FILE} is written"));
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (lines, moved) = compare(&read(&text)?, &counted);
    for line in lines {
        crate::say(&line);
    }
    if moved {
        crate::say(&format!(
            "some row moved by more than {:.0} %: `cargo xtask instructions --write` updates {FILE}, and the commit explains it",
            TOLERANCE * 100.0
        ));
    }
    Ok(if moved { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn count(common: &Common) -> Result<Vec<(String, f64)>> {
    let home = Home::new(&common.dir()?, "instructions-")?;
    let out = home.path().join("callgrind");
    let program = Program::Counted { binary: farrier(common)?, out: out.clone() };
    let mut counted = Vec::new();
    // One server for all rows of a kind that leaves nothing behind.
    let mut stage = Stage::new(&program, home.path(), 1)?;
    let pid = stage.ensemble.pid(0)?;
    let mut dumps = 0;
    for (name, kind, conns, depth, requests) in ROWS {
        let mut pool = Pool::open(&stage.ensemble.addrs(), *conns as usize)?;
        let mut ask = |pool: &mut Pool, left: u32| {
            let mut limited = Limited { source: stage.row(*kind, *conns), left };
            pool.run(Pace::Depth(*depth), Span::Exhausted, &mut limited, &mut || Ok(()))
        };
        ask(&mut pool, UNCOUNTED)?;
        control(home.path(), pid, "--zero")?;
        let seen = ask(&mut pool, *requests)?;
        ensure!(seen.replies == u64::from(*requests), "{} replies to {requests} requests", seen.replies);
        control(home.path(), pid, "--dump")?;
        dumps += 1;
        let dump = fs::read_to_string(numbered(&out, dumps))?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let each = total(&dump)? as f64 / f64::from(*requests);
        pool.close()?;
        stage.verify()?;
        note(&format!("{name:14} {} instructions", number(each)))?;
        counted.push(((*name).to_owned(), each));
    }
    Ok(counted)
}

/// The file of a dump that was asked for.
fn numbered(out: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", out.display()))
}

/// Asks callgrind in that process for something.
fn control(dir: &Path, pid: u32, what: &str) -> Result<()> {
    let log = dir.join("control.log");
    let mut command = Command::new("callgrind_control");
    command.arg(what).arg(pid.to_string());
    let status = Process::spawn(command, &log)?.wait(SOON).context("waiting for callgrind_control")?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    ensure!(status.success() && !text.contains("Error"), "callgrind_control {what} failed: {text}");
    Ok(())
}

/// The instructions of a dump.
fn total(dump: &str) -> Result<u64> {
    let line = dump.lines().find_map(|line| line.strip_prefix("totals:")).context("callgrind's dump has no total")?;
    line.split_ascii_whitespace().next().context("an empty total")?.parse().context("callgrind's total")
}

fn render(counted: &[(String, f64)]) -> String {
    let mut text = String::from(
        "# Instructions of user space for each request to one server, counted by callgrind: 10,000 znodes of 100 bytes, N x M is\n\
         # N connections with M requests outstanding each. Written by `cargo xtask instructions --write`; the long suite\n\
         # `instructions` fails when one moves by more than 5 %.\n",
    );
    for (name, each) in counted {
        let _ = writeln!(text, "{name:14} {each:>8.0}");
    }
    text
}

fn read(text: &str) -> Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [name, each] => found.push((name.to_owned(), each.parse().with_context(|| format!("{FILE}: {line:?}"))?)),
            _ => bail!("{FILE}: {line:?} is no name with a figure"),
        }
    }
    Ok(found)
}

/// A line for each row, and whether any moved too far, is new or is gone.
fn compare(before: &[(String, f64)], now: &[(String, f64)]) -> (Vec<String>, bool) {
    let mut moved = before.len() != now.len();
    let lines = now
        .iter()
        .map(|(name, now)| match before.iter().find(|(known, _)| known == name) {
            Some((_, before)) => {
                let change = now / before - 1.0;
                moved |= change.abs() > TOLERANCE;
                format!("{name:14} {:>8} before, {:>8} now, {:+.1} %", number(*before), number(*now), change * 100.0)
            }
            None => {
                moved = true;
                format!("{name:14} {:>8} now, and nothing before", number(*now))
            }
        })
        .collect();
    (lines, moved)
}

/// So many requests of a source.
struct Limited<S> {
    source: S,
    left: u32,
}

impl<S: Source> Source for Limited<S> {
    fn next(&mut self, conn: usize, xid: i32, out: &mut Vec<u8>) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.source.next(conn, xid, out)
    }

    fn reply(&mut self, conn: usize, tag: u64, error: i32, body: &[u8]) -> Result<()> {
        self.source.reply(conn, tag, error, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_they_are_written() {
        let counted = [("get-64x1".to_owned(), 1234.0), ("set-64x1".to_owned(), 99_999.0)];
        assert_eq!(read(&render(&counted)).unwrap(), counted);
        read("get-64x1 many\n").unwrap_err();
        read("get-64x1\n").unwrap_err();
        assert_eq!(total("events: Ir\nfn=(1)\n3 4\ntotals: 8417\n").unwrap(), 8417);
    }

    #[test]
    fn five_percent_may_go_by_and_no_more() {
        let row = |each| [("get".to_owned(), each)];
        assert!(!compare(&row(100.0), &row(104.9)).1);
        assert!(compare(&row(100.0), &row(105.1)).1);
        assert!(compare(&row(100.0), &row(94.9)).1);
        assert!(compare(&row(100.0), &[]).1, "a row is gone");
        assert!(compare(&[], &row(100.0)).1, "a row is new");
    }

    #[test]
    fn the_file_has_every_row() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE);
        let found = read(&fs::read_to_string(path).unwrap()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ROWS.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    }
}
