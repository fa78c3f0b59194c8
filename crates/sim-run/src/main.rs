//! `cargo xtask sim`: many seeds on all processors, one seed to read, or the hunt for planted bugs.
//!
//! Everything that a run does is decided by the seed (`crates/sim`); here are only threads, a clock and output. A
//! program of its own, so that it builds in no time, and a second time with planted bugs.

mod campaign;
#[cfg(farrier_planted)]
mod hunt;
#[cfg(farrier_planted)]
mod record;
mod seeds;

use clap::Parser;
use farrier_sim::Failure;
use farrier_sim::plan::Plan;
use farrier_sim::run::run as play;
use farrier_sim::shrink::shrink;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Seeds that are run unless told.
const SEEDS: u64 = 100;

/// Seeds among which each planted bug must be caught, unless told.
#[cfg(farrier_planted)]
const SEEDS_OF_HUNT: u64 = 5000;

/// Run whole ensembles under seeded faults in simulation
#[derive(Debug, Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds to run [default: 100; with --planted 5000 at most for each bug]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Begin no more seeds after so many minutes, and fail if --seeds named more; with --planted, of one bug
    #[arg(long)]
    minutes: Option<u64>,
    /// Seeds at once; all processors unless told
    #[arg(long)]
    jobs: Option<usize>,
    /// Run blocks of seeds until all sessions together have run so many of this generator, or a multiple where they have;
    /// crates/sim/blocks.txt keeps them
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seed", "seeds", "first_seed", "planted"])]
    campaign: Option<u64>,
    /// Run programs with the real client and recipes on the ensembles of the seeds, instead of the simulated clients
    #[arg(long, conflicts_with_all = ["campaign", "planted", "shrink"])]
    recipes: bool,
    /// Run this one seed and write its transcript
    #[arg(long, conflicts_with_all = ["seeds", "first_seed", "minutes", "jobs"])]
    seed: Option<u64>,
    /// Where the transcript goes; the standard output unless told
    #[arg(long, requires = "seed")]
    transcript: Option<PathBuf>,
    /// If the seed fails, look for a smaller run that fails in the same way, and write the transcript of that
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Hunt for planted bugs: `all`, or names; `recorded` replays the stored catching seeds. With --seed: make this mistake
    #[arg(long, value_name = "BUGS", value_delimiter = ',')]
    planted: Vec<String>,
    /// Store the catching seeds in crates/sim/planted.txt and docs/simulation.md; they are counted from seed 1
    #[arg(long, requires = "planted", conflicts_with_all = ["seed", "first_seed"])]
    record: bool,
}

impl Arguments {
    /// What is run of each seed.
    fn play(&self) -> seeds::Play {
        if self.recipes { farrier_sim_recipes::run } else { seeds::whole }
    }

    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn deadline(&self) -> Option<Instant> {
        self.minutes.map(|m| Instant::now() + Duration::from_secs(m * 60))
    }
}

thread_local! {
    /// Where the last panic of this thread was.
    static PANIC_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // A panic is a finding of the run; it is told with the others.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
        PANIC_AT.with(|at| *at.borrow_mut() = place);
    }));
    if !arguments.planted.is_empty() {
        return planted(&arguments);
    }
    if let Some(target) = arguments.campaign {
        return campaign::run(target, &arguments);
    }
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => Ok(seeds::many(&arguments)),
    }
}

#[cfg(farrier_planted)]
fn planted(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    say(farrier_proto::planted::MARKER);
    if let Some(seed) = arguments.seed {
        let bugs = hunt::named(&arguments.planted)?;
        let [bug] = bugs[..] else { anyhow::bail!("--seed makes one mistake, not {}", bugs.len()) };
        farrier_proto::planted::activate(Some(bug));
        return one(seed, arguments);
    }
    if arguments.planted == ["recorded"] { record::replay() } else { hunt::run(arguments) }
}

#[cfg(not(farrier_planted))]
fn planted(_: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!(
        "this build holds no planted bugs; `cargo xtask sim --planted ...` makes one with --cfg farrier_planted"
    )
}

/// Where the assertion is that failed in this thread, if it was one.
fn panic_place(failure: &Failure) -> Option<String> {
    PANIC_AT.with(|at| at.borrow_mut().take()).filter(|_| failure.by == "panic")
}

/// The failure as people read it.
fn tell(seed: u64, failure: &Failure) -> String {
    let place = panic_place(failure).map_or_else(String::new, |p| format!(" ({p})"));
    format!("seed {seed} FAILED at {}: {}{place}: {}", failure.at, failure.by, failure.what)
}

fn one(seed: u64, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut plan = Plan::draw(seed);
    let mut outcome = arguments.play()(seed, true);
    if arguments.shrink
        && let Some(failure) = &outcome.failure
    {
        say(&tell(seed, failure));
        let (smaller, _) = shrink(&plan, failure, &mut |_| {});
        say(&format!(
            "shrunk from {} servers, {} clients, {} faults to {}, {}, {}",
            plan.members.len(),
            plan.clients.len(),
            plan.faults.len(),
            smaller.members.len(),
            smaller.clients.len(),
            smaller.faults.len()
        ));
        for fault in &smaller.faults {
            say(&format!("  {fault:?}"));
        }
        plan = smaller;
        outcome = play(&plan, true);
    }
    match &arguments.transcript {
        Some(path) => std::fs::write(path, &outcome.transcript)?,
        None => say(&outcome.transcript),
    }
    seeds::summary(&outcome.tally, 1, None);
    let failed = outcome.failure.is_some();
    if let Some(failure) = &outcome.failure {
        say(&tell(seed, failure));
    }
    say(&seeds::verdict(u64::from(!failed), u64::from(failed)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints a line for whoever runs the command.
#[expect(clippy::print_stdout, reason = "this is a command-line program")]
fn say(line: &str) {
    println!("{line}");
}
