//! Memory and start, empty and full.

use super::etcd::{Etcd, Members};
use super::figures::{Figures, Metric, Who};
use super::{Options, join, snapshot};
use crate::measure::note;
use crate::report::number;
use crate::servers::{Ensemble, Program, Stage, rest};
use anyhow::{Context as _, Result};
use farrier_bench::process::memory;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(3);
/// Rounds of joins at most, which take half a minute for each contestant.
const JOINS: u32 = 2;

/// Starts on empty directories, each round, and what an empty server holds.
pub(super) fn empty(options: &Options, who: Who, program: &Program, figures: &mut Figures) -> Result<()> {
    let mut server = Ensemble::new(program, &options.dir, 1)?;
    rest()?;
    let took = server.time_start(0)?;
    sleep(SETTLE);
    let rss = megabytes(memory(server.pid(0)?, "VmRSS")?);
    figures.add("start-empty", who, Metric::Seconds, took.as_secs_f64());
    figures.add("rss-empty", who, Metric::Mb, rss);
    note(&format!("start empty    {:14} {} s, {} MB", server.name(), number(took.as_secs_f64()), number(rss)))
}

/// The same of one member of etcd's.
pub(super) fn empty_etcd(options: &Options, etcd: &Etcd, figures: &mut Figures) -> Result<()> {
    rest()?;
    let (members, took) = Members::start(etcd, &options.dir, 1)?;
    sleep(SETTLE);
    let pid = *members.pids().first().context("one member runs")?;
    let rss = megabytes(memory(pid, "VmRSS")?);
    figures.add("start-empty", Who::Etcd, Metric::Seconds, took.as_secs_f64());
    figures.add("rss-empty", Who::Etcd, Metric::Mb, rss);
    note(&format!("start empty    etcd           {} s, {} MB", number(took.as_secs_f64()), number(rss)))
}

/// One server with all znodes: memory, restarts, snapshots beside sets. All are up at a time, and take turns in each round.
/// Returns what to tell of it.
pub(super) fn full(options: &Options, programs: &[(Who, Program)], figures: &mut Figures) -> Result<String> {
    let mut told = String::new();
    let mut stages = Vec::new();
    for (who, program) in programs {
        let begun = Instant::now();
        let stage = Stage::sized(program, &options.dir, 1, options.znodes, snapshot::CONNS)?;
        let took = begun.elapsed();
        rest()?;
        sleep(SETTLE);
        let pid = stage.ensemble.pid(0)?;
        let rss = megabytes(memory(pid, "VmRSS")?);
        figures.add("rss-full", *who, Metric::Mb, rss);
        note(&format!(
            "full           {:14} {} MB, started and filled in {} s",
            stage.name(),
            number(rss),
            number(took.as_secs_f64())
        ))?;
        if *who == Who::Apache {
            told = format!("- Apache's live set when full, after a full collection: {}\n", live_set(pid));
        }
        stages.push((*who, stage));
    }
    // Before any load, so that everybody has made the same transactions since it was empty; and before the turns, which
    // leave logs behind that no snapshot shortens.
    for round in 0..options.rounds {
        for turn in 0..stages.len() {
            let index = (turn + round as usize) % stages.len();
            let (who, stage) = &mut stages[index];
            stage.ensemble.stop(0)?;
            rest()?;
            let took = stage.ensemble.time_start(0)?;
            figures.add("start-full", *who, Metric::Seconds, took.as_secs_f64());
            note(&format!("restart {round}      {:14} {} s", stage.name(), number(took.as_secs_f64())))?;
            stage.count_first()?;
        }
    }
    told.push_str(&snapshot::turns(&mut stages, options, figures)?);
    stages.iter().try_for_each(|(_, stage)| stage.verify())?;
    Ok(told)
}

/// Followers of three that join: behind, and with nothing. All are up at a time, and take turns.
pub(super) fn joins(options: &Options, programs: &[(Who, Program)], figures: &mut Figures) -> Result<String> {
    let mut stages = Vec::new();
    for (who, program) in programs {
        stages.push((*who, Stage::warmed(program, &options.dir, 3, options.warm)?));
    }
    let rounds = options.rounds.min(JOINS);
    for round in 0..rounds {
        for turn in 0..stages.len() {
            let index = (turn + round as usize) % stages.len();
            let (who, stage) = &mut stages[index];
            let name = format!("behind{round}");
            let seen = join::behind(stage, options.behind, &name).with_context(|| stage.ensemble.obituary())?;
            figures.add("join-behind", *who, Metric::Seconds, seen.caught_up.as_secs_f64());
            note(&format!("join behind    {:14} {} s", stage.name(), number(seen.caught_up.as_secs_f64())))?;
        }
    }
    for (_, stage) in &mut stages {
        stage.fill(options.znodes)?;
    }
    for round in 0..rounds {
        for turn in 0..stages.len() {
            let index = (turn + round as usize) % stages.len();
            let (who, stage) = &mut stages[index];
            let name = format!("empty{round}");
            let seen = join::empty(stage, &name).with_context(|| stage.ensemble.obituary())?;
            stage.count(options.znodes + rounds * options.behind)?;
            figures.add("join-empty", *who, Metric::Seconds, seen.caught_up.as_secs_f64());
            figures.add("join-empty", *who, Metric::P99Ms, seen.during_ms);
            figures.add("rss-snap", *who, Metric::Mb, megabytes(seen.peak));
            note(&format!(
                "join empty     {:14} serves after {} s, has all after {} s; others' p99 {} ms before, {} ms meanwhile; leader {} MB",
                stage.name(),
                number(seen.serves.as_secs_f64()),
                number(seen.caught_up.as_secs_f64()),
                number(seen.before_ms),
                number(seen.during_ms),
                number(megabytes(seen.peak)),
            ))?;
        }
    }
    Ok(String::new())
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What the JVM's own tool says about the heap.
fn live_set(pid: u32) -> String {
    let ask = |command: &str| Command::new("jcmd").args([&pid.to_string(), command]).output();
    if let Err(e) = ask("GC.run") {
        return format!("unknown ({e})");
    }
    match ask("GC.heap_info") {
        Ok(out) => String::from_utf8_lossy(&out.stdout)
            .lines()
            .find(|l| l.contains("used"))
            .map_or_else(|| "unknown".to_owned(), |l| format!("`{}`", l.trim())),
        Err(e) => format!("unknown ({e})"),
    }
}
