//! Many seeds on all processors, and what they come to.

use crate::{Arguments, SEEDS, say, tell};
use farrier_sim::observe::SyncKind;
use farrier_sim::plan::{FaultKind, Plan, RUN_MS_MIN, RUN_TXNS_MIN};
use farrier_sim::run::{Outcome, run as play};
use farrier_sim::tally::{FAULT_NAMES, REQUEST_NAMES, Tally};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures that are told in full.
const FAILURES_TOLD_MAX: usize = 10;

/// So many seeds must show every kind of fault, and the rates that are demanded of the generator.
const SEEDS_THAT_COUNT: u64 = 100;

/// What is run of a seed, and whether with a transcript.
pub(crate) type Play = fn(u64, bool) -> Outcome;

/// The whole plan of a seed.
pub(crate) fn whole(seed: u64, keep_transcript: bool) -> Outcome {
    play(&Plan::draw(seed), keep_transcript)
}

/// Runs them; the last line counts.
pub(crate) fn many(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let jobs = arguments.jobs();
    let (first, seeds) = (arguments.first_seed, arguments.seeds.unwrap_or(SEEDS));
    let block = run_block(first, seeds, jobs, arguments.deadline(), arguments.play());
    let took = Some((begun.elapsed(), jobs));
    let short = block.tell(took, !arguments.recipes);
    let ran = block.passed + block.failed;
    let few = too_few(ran, arguments.seeds);
    if let Some(why) = &few {
        say(&format!("falls short: {why}"));
    }
    say(&verdict(block.passed, block.failed));
    if block.failed == 0 && !short && few.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why fewer seeds than somebody asked for are no success: what says that so many pass would be wrong.
fn too_few(ran: u64, asked: Option<u64>) -> Option<String> {
    let asked = asked.filter(|asked| ran < *asked)?;
    Some(format!("the time was enough for {ran} of {asked} seeds"))
}

/// Runs so many seeds in order, and begins none after the deadline.
pub(crate) fn run_block(first: u64, seeds: u64, jobs: usize, deadline: Option<Instant>, play: Play) -> Block {
    let next = AtomicU64::new(0);
    let results = Mutex::new(Block::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while deadline.is_none_or(|d| Instant::now() < d) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= seeds {
                        return;
                    }
                    let seed = first + n;
                    let outcome = play(seed, false);
                    let told = outcome.failure.as_ref().map(|failure| tell(seed, failure));
                    results.lock().expect("no thread panics while it counts").add(&outcome, told);
                }
            });
        }
    });
    results.into_inner().expect("no thread panics while it counts")
}

/// What seeds came to.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    tally: Tally,
}

impl Block {
    /// Takes in another one.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.tally.add(&other.tally);
    }

    /// Prints counts and rates. Whether the generator fell short of what is demanded of it, if it is.
    pub(crate) fn tell(&self, took: Option<(Duration, usize)>, demanded: bool) -> bool {
        let seeds = self.passed + self.failed;
        summary(&self.tally, seeds, took);
        let short = if demanded { shortfalls(&self.tally, seeds) } else { Vec::new() };
        for line in &short {
            say(&format!("falls short: {line}"));
        }
        !short.is_empty()
    }

    fn add(&mut self, outcome: &Outcome, failure: Option<String>) {
        self.tally.add(&outcome.tally);
        let Some(told) = failure else {
            self.passed += 1;
            return;
        };
        self.failed += 1;
        if self.failed <= FAILURES_TOLD_MAX as u64 {
            say(&told);
        }
    }
}

/// What the generator must come to in the mean of many seeds, and does not.
fn shortfalls(tally: &Tally, seeds: u64) -> Vec<String> {
    if seeds < SEEDS_THAT_COUNT {
        return Vec::new();
    }
    let sync = |kind| tally.syncs.get(&kind).copied().unwrap_or(0);
    let mut short = Vec::new();
    for (what, n, least) in [
        ("leader changes", tally.leader_changes, 3),
        ("DIFF", sync(SyncKind::Diff), 1),
        ("TRUNC", sync(SyncKind::Trunc), 1),
        ("SNAP", sync(SyncKind::Snap), 1),
        ("simulated seconds", tally.simulated_us / 1_000_000, RUN_MS_MIN / 1000),
        ("transactions", tally.txns, RUN_TXNS_MIN),
    ] {
        if n < least * seeds {
            short.push(format!("{n} {what} in {seeds} seeds; the mean must be at least {least}"));
        }
    }
    let never = FAULT_NAMES.iter().chain(&REQUEST_NAMES).filter(|name| !tally.faults.contains_key(*name));
    short.extend(never.map(|name| format!("no {name} at all")));
    let kinds = FaultKind::WEIGHTS.iter().map(|(kind, _)| kind);
    short.extend(kinds.filter(|kind| !tally.planned.contains_key(kind)).map(|kind| format!("no {kind:?} at all")));
    for (what, n) in [("write", tally.failed_writes), ("sync", tally.failed_syncs)] {
        if n == 0 {
            short.push(format!("no {what} failed, though some were to"));
        }
    }
    short
}

/// How many seeds passed and failed.
pub(crate) fn verdict(passed: u64, failed: u64) -> String {
    format!("{passed} passed, {failed} failed")
}

/// Rates and counts, so that a generator that does little is seen.
pub(crate) fn summary(tally: &Tally, seeds: u64, took: Option<(Duration, usize)>) {
    let per_seed = |n: u64| n as f64 / seeds.max(1) as f64;
    let seconds = tally.simulated_us as f64 / 1e6;
    say(&format!("{seeds} seeds, {seconds:.0} simulated seconds, {} transactions", tally.txns));
    if let Some((took, jobs)) = took {
        let real = took.as_secs_f64();
        say(&format!(
            "{real:.1} s on {jobs} threads: {:.0} simulated seconds per second, {:.0} per second and thread",
            seconds / real,
            seconds / real / jobs as f64
        ));
    }
    let sync = |kind| tally.syncs.get(&kind).copied().unwrap_or(0);
    say(&format!(
        "per seed: {:.0} simulated seconds, {:.0} transactions, {:.1} leader changes, {:.1} DIFF, {:.1} TRUNC, {:.1} SNAP",
        seconds / seeds.max(1) as f64,
        per_seed(tally.txns),
        per_seed(tally.leader_changes),
        per_seed(sync(SyncKind::Diff)),
        per_seed(sync(SyncKind::Trunc)),
        per_seed(sync(SyncKind::Snap)),
    ));
    say(&format!(
        "clients: {} requests, {} done, {} unknown, {} sessions expired, {} watch events",
        tally.calls, tally.successes, tally.unknown, tally.expired, tally.watched
    ));
    say(&format!(
        "servers: {} halted, {} snapshots taken, {} files purged, {} unsynced writes lost",
        tally.halts, tally.snapshots, tally.purged, tally.lost_writes
    ));
    let planned = FaultKind::WEIGHTS.iter().filter_map(|(kind, _)| Some((kind, tally.planned.get(kind)?)));
    let planned: Vec<String> = planned.map(|(kind, n)| format!("{kind:?} {n}")).collect();
    say(&format!("planned: {}; {} were not to be in their moment", planned.join(", "), tally.skipped));
    say(&format!("disks: {} writes and {} syncs failed", tally.failed_writes, tally.failed_syncs));
    let count = |name: &&str| format!("{name} {}", tally.faults.get(name).copied().unwrap_or(0));
    say(&format!("faults: {}", FAULT_NAMES.iter().map(count).collect::<Vec<_>>().join(", ")));
    say(&format!("asked for: {}", REQUEST_NAMES.iter().map(count).collect::<Vec<_>>().join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_fault_that_never_came_is_seen() {
        let (seeds, all) = (SEEDS_THAT_COUNT, FaultKind::WEIGHTS.map(|(kind, _)| (kind, 1)));
        let mut tally = Tally::default();
        (tally.planned, tally.failed_writes) = (all.into(), 1);
        let lacks = |tally: &Tally, what: &str| shortfalls(tally, seeds).iter().any(|line| line == what);
        assert!(
            lacks(&tally, "no sync failed, though some were to")
                && !lacks(&tally, "no write failed, though some were to")
        );
        assert!(!lacks(&tally, "no Split at all"));
        tally.planned.remove(&FaultKind::Split);
        assert!(lacks(&tally, "no Split at all"));
        assert_eq!(shortfalls(&tally, SEEDS_THAT_COUNT - 1), Vec::<String>::new());
    }

    #[test]
    fn fewer_seeds_than_were_asked_for_are_no_success() {
        assert_eq!(too_few(500, Some(500)), None);
        assert_eq!(too_few(499, Some(500)).as_deref(), Some("the time was enough for 499 of 500 seeds"));
        // Then `--minutes` says how many.
        assert_eq!(too_few(3, None), None);
    }
}
