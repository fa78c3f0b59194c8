//! A seed is one run and no other; and the seeds that once failed.

use farrier_sim::plan::{Plan, RUN_MS_MIN, RUN_TXNS_MIN};
use farrier_sim::run::run;

/// Seeds that failed before something was mended, each with what it was.
const REGRESSIONS: &str = include_str!("../regressions.txt");

#[test]
fn the_same_seed_twice_is_the_same_to_the_byte() {
    for seed in [1, 2] {
        let plan = Plan::draw(seed);
        let (first, second) = (run(&plan, true), run(&plan, true));
        assert_eq!(first.failure, None);
        let at = first.transcript.lines().zip(second.transcript.lines()).find(|(a, b)| a != b);
        assert_eq!(at, None, "seed {seed}: the first lines that differ");
        assert!(first == second, "seed {seed} is two runs");
        assert_eq!(run(&plan, false).tally, first.tally, "keeping the transcript changes nothing");
    }
}

#[test]
fn a_run_counts() {
    let outcome = run(&Plan::draw(3), false);
    assert_eq!(outcome.failure, None);
    assert!(outcome.tally.simulated_us >= RUN_MS_MIN * 1000 && outcome.tally.txns >= RUN_TXNS_MIN);
}

#[test]
fn what_failed_once_holds() {
    for line in REGRESSIONS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (seed, what) = line.split_once(' ').expect("a seed and what it found");
        let seed = seed.parse().expect("a number");
        assert_eq!(run(&Plan::draw(seed), false).failure, None, "seed {seed}, which once found: {what}");
    }
}
