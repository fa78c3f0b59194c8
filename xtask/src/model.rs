//! `cargo xtask model`: every state of three servers within bounds.

use anyhow::Result;
use clap::Args;
use farrier_model::{Bounds, Limits, explore};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two lines about how far it is.
const PROGRESS: Duration = Duration::from_secs(30);

/// Fingerprints of eight bytes: about three gibibytes of them.
const STATES_MAX: u64 = 200_000_000;

/// Arguments of `cargo xtask model`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often a server becomes the leader
    #[arg(long, default_value_t = Bounds::USUAL.elections)]
    elections: u8,
    /// Transactions, in all
    #[arg(long, default_value_t = Bounds::USUAL.proposals, value_parser = clap::value_parser!(u8).range(..=15))]
    proposals: u8,
    /// Crashes with a restart
    #[arg(long, default_value_t = Bounds::USUAL.crashes)]
    crashes: u8,
    /// Longest time; what is not complete by then has failed
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Searches, and says what was searched.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { elections, proposals, crashes, minutes, threads } = *arguments;
    let bounds = Bounds { elections, proposals, crashes, ..Bounds::USUAL };
    crate::say(&format!("model: 3 servers, {elections} elections, {proposals} proposals, {crashes} crashes"));
    let start = Instant::now();
    let end = start + Duration::from_secs(60 * minutes);
    let told = Mutex::new(start);
    let cut_short = |states: u64| {
        let now = Instant::now();
        let mut told = told.lock().expect("nothing panics while it holds this lock");
        if now - *told >= PROGRESS {
            *told = now;
            crate::say(&format!("model: {states} states after {} s", (now - start).as_secs()));
        }
        now >= end
    };
    let limits = Limits { threads, states_max: STATES_MAX, breadth_first: false };
    let outcome = explore(&bounds, limits, &cut_short);
    let kinds: Vec<_> = outcome.seen.iter().copied().collect();
    crate::say(&format!("model: on the way: {}", kinds.join(", ")));
    // Any two of n random fingerprints are the same with about this probability.
    let missed = (outcome.states as f64).powi(2) / 2_f64.powi(65);
    crate::say(&format!(
        "model: {}: {} states, {} transitions, depth {}, {} s; two states took each other's place with probability {missed:.0e}",
        if outcome.complete { "complete" } else { "NOT complete" },
        outcome.states,
        outcome.transitions,
        outcome.depth,
        start.elapsed().as_secs(),
    ));
    if let Some((violation, path)) = &outcome.violation {
        crate::say(&format!("model: BROKEN {violation}"));
        for (n, line) in (1..).zip(path) {
            crate::say(&format!("{n:4} {line}"));
        }
    }
    Ok(if outcome.complete && outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
