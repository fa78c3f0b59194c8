//! The hunt: for each planted bug, seeds of the default generator, one after the other, until one fails.

use crate::record::{self, Record};
use crate::{Arguments, SEEDS_OF_HUNT, panic_place, say};
use anyhow::{Context, Result, bail};
use farrier_proto::planted::{Bug, activate};
use farrier_sim::plan::Plan;
use farrier_sim::run::run as play;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The bugs of these names, or all.
pub(crate) fn named(names: &[String]) -> Result<Vec<Bug>> {
    if names == ["all"] {
        return Ok(Bug::ALL.to_vec());
    }
    names.iter().map(|name| by_name(name).with_context(|| format!("there is no planted bug {name}"))).collect()
}

/// The bug of this name.
pub(crate) fn by_name(name: &str) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name)
}

/// Hunts for them; fails if one got away.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bugs = named(&arguments.planted)?;
    let mut caught = Vec::new();
    let mut at_large = Vec::new();
    for &bug in &bugs {
        match hunt(bug, arguments) {
            Hunted { caught: Some((record, what)), .. } => {
                say(&format!(
                    "{}: caught by {} at seed {}, after {} seeds and {} simulated seconds: {what}",
                    bug.name(),
                    record.by,
                    record.seed,
                    record.seeds,
                    record.seconds
                ));
                caught.push(record);
            }
            Hunted { seeds, simulated_us, .. } => {
                let seconds = simulated_us / 1_000_000;
                say(&format!("{}: NOT caught in {seeds} seeds and {seconds} simulated seconds", bug.name()));
                at_large.push(bug);
            }
        }
    }
    if arguments.record {
        record::store(&caught)?;
    }
    let by_checkers = caught.iter().filter(|r| r.is_by_checker()).count();
    say(&format!("{by_checkers} caught by checkers, {} by assertions", caught.len() - by_checkers));
    say(&format!("{} passed, {} failed", caught.len(), at_large.len()));
    if bugs.is_empty() {
        bail!("no bug was named");
    }
    Ok(if at_large.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of the hunt for one.
struct Hunted {
    /// By what, and what that found.
    caught: Option<(Record, String)>,
    seeds: u64,
    simulated_us: u64,
}

fn hunt(bug: Bug, arguments: &Arguments) -> Hunted {
    let deadline = arguments.deadline();
    let end = arguments.first_seed + arguments.seeds.unwrap_or(SEEDS_OF_HUNT);
    let mut hunted = Hunted { caught: None, seeds: 0, simulated_us: 0 };
    let mut from = arguments.first_seed;
    loop {
        activate(Some(bug));
        let runs = until_one_fails(from, end, arguments.jobs(), deadline);
        activate(None);
        let last = runs.failed.as_ref().map_or(end, |(seed, ..)| seed + 1);
        let counted = runs.simulated_us.iter().filter(|(seed, _)| *seed < last);
        let (seeds, us) = counted.fold((0, 0), |(n, sum), (_, us)| (n + 1, sum + us));
        hunted.seeds += seeds;
        hunted.simulated_us += us;
        let Some((seed, by, what)) = runs.failed else { return hunted };
        // What fails anyhow proves nothing about the bug.
        if let Some(failure) = play(&Plan::draw(seed), false).failure {
            say(&format!("seed {seed} fails without a planted bug: {}: {}", failure.by, failure.what));
            from = seed + 1;
            continue;
        }
        let (seeds, seconds) = (hunted.seeds, hunted.simulated_us / 1_000_000);
        hunted.caught = Some((Record { bug, seed, by, seeds, seconds }, what));
        return hunted;
    }
}

#[derive(Default)]
struct Runs {
    /// The smallest seed that failed, who found it, and what.
    failed: Option<(u64, String, String)>,
    /// Of each seed that ran.
    simulated_us: Vec<(u64, u64)>,
}

/// Runs seeds in order on all threads, and finishes those below the first that fails.
fn until_one_fails(from: u64, end: u64, jobs: usize, deadline: Option<Instant>) -> Runs {
    let next = AtomicU64::new(from);
    let stop = AtomicU64::new(end);
    let runs = Mutex::new(Runs::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while deadline.is_none_or(|d| Instant::now() < d) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = play(&Plan::draw(seed), false);
                    let mut runs = runs.lock().expect("no thread panics while it counts");
                    runs.simulated_us.push((seed, outcome.tally.simulated_us));
                    if let Some(failure) = outcome.failure {
                        stop.fetch_min(seed, Ordering::Relaxed);
                        if runs.failed.as_ref().is_none_or(|(first, ..)| seed < *first) {
                            runs.failed = Some((seed, found_by(&failure), failure.what));
                        }
                    }
                }
            });
        }
    });
    runs.into_inner().expect("no thread panics while it counts")
}

/// The checker's name, or the file of the assertion.
pub(crate) fn found_by(failure: &farrier_sim::Failure) -> String {
    match panic_place(failure) {
        Some(place) => format!("assert:{}", place.rsplit_once(':').map_or(place.as_str(), |(file, _)| file)),
        None => failure.by.clone(),
    }
}
