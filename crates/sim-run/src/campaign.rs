//! A campaign: so many seeds of one generator, in blocks, over as many sessions as it takes. Each block that was run is a
//! line of `crates/sim/blocks.txt`; the next session goes on behind the last one.

use crate::seeds::{Block, run_block, verdict, whole};
use crate::{Arguments, say};
use anyhow::{Context, Result, bail};
use farrier_sim::plan::GENERATOR;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Seeds of a block; none is begun when the time is over.
const BLOCK_SEEDS: u64 = 100;

/// A line of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    generator: u32,
    commit: String,
    first: u64,
    seeds: u64,
    failed: u64,
}

impl Line {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [generator, commit, first, seeds, failed] = words[..] else {
            bail!("is no generator, commit, first seed, seeds, failures")
        };
        let commit = commit.to_owned();
        Ok(Self {
            generator: generator.parse()?,
            commit,
            first: first.parse()?,
            seeds: seeds.parse()?,
            failed: failed.parse()?,
        })
    }
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "sim", "blocks.txt"].iter().collect()
}

fn load() -> Result<Vec<Line>> {
    let path = path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|(n, l)| Line::parse(l).with_context(|| format!("{}:{}: `{l}`", path.display(), n + 1)))
        .filter(|line| line.as_ref().map_or(true, |l| l.generator == GENERATOR))
        .collect()
}

/// The commit that is run, with a `+` if something of the code is not committed.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| -> Result<String> {
        let out = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        if !out.status.success() {
            bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "..", ":!../sim/blocks.txt"])?;
    Ok(if changed.is_empty() { commit } else { commit + "+" })
}

/// Up to how many seeds a session goes on that begins behind `done` of them: where all that was asked for is done, as many
/// again, since a session that runs nothing shows nothing.
fn goal(done: u64, asked: u64) -> Result<u64> {
    let rounds = done.checked_div(asked).context("--campaign needs at least one seed")?;
    Ok((rounds + 1) * asked)
}

/// Goes on up to `asked` seeds, or a multiple of that. Fails if a seed of this session does, or if it runs none.
pub(crate) fn run(asked: u64, arguments: &Arguments) -> Result<ExitCode> {
    let (begun, deadline) = (Instant::now(), arguments.deadline());
    let commit = commit()?;
    let before = load()?;
    let mut next = before.iter().map(|l| l.first + l.seeds).max().unwrap_or(1);
    let (mut done, mut failures) = before.iter().fold((0, 0), |(n, f), l| (n + l.seeds, f + l.failed));
    say(&format!("generator {GENERATOR}: {done} seeds so far, {failures} of them failed"));
    let target = goal(done, asked)?;
    let mut session = Block::default();
    while done < target && deadline.is_none_or(|d| Instant::now() < d) {
        let seeds = BLOCK_SEEDS.min(target - done);
        let block = run_block(next, seeds, arguments.jobs(), None, whole);
        let line = format!("{GENERATOR} {commit} {next} {seeds} {}\n", block.failed);
        let path = path();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path);
        file.as_mut()
            .map_err(|e| std::io::Error::new(e.kind(), e.to_string()))
            .and_then(|f| f.write_all(line.as_bytes()))
            .with_context(|| format!("cannot append to {}", path.display()))?;
        (done, failures, next) = (done + seeds, failures + block.failed, next + seeds);
        say(&format!("{done} of {target} seeds, {failures} of them failed"));
        session.absorb(&block);
    }
    let short = session.tell(Some((begun.elapsed(), arguments.jobs())), true);
    say(&format!("generator {GENERATOR}: {done} of {target} seeds, {failures} of them failed"));
    let ran_none = session.passed + session.failed == 0;
    if ran_none {
        say("falls short: the time was enough for no seed");
    }
    say(&verdict(session.passed, session.failed));
    Ok(if session.failed == 0 && !short && !ran_none { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_that_is_done_begins_another_round() {
        for (done, target) in [(0, 20_000), (19_999, 20_000), (20_000, 40_000), (20_100, 40_000)] {
            assert_eq!(goal(done, 20_000).expect("seeds are asked for"), target);
        }
        assert!(goal(5, 0).is_err());
    }
}
