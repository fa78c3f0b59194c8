//! A seed is one run and no other; and the seeds that once failed.

use farrier_sim::plan::{FaultKind, Plan, PlannedFault, RUN_MS_MIN, RUN_TXNS_MIN};
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

/// A leader learns of it with the next segment of its log, before a commit needs the room.
#[test]
fn a_leader_whose_disk_is_full_hands_over_before_it_has_to_stop() {
    let mut plan = Plan::draw(5);
    plan.servers.segment_size = 256 << 10;
    let full = |n: u64| PlannedFault {
        at_ms: 10_000 * (n + 1),
        kind: FaultKind::FullDisk,
        // Whoever leads, or one after the other.
        whom: n,
        lasts_ms: 4_000,
        size: 0,
        bold: false,
    };
    plan.faults = (0..10).map(full).collect();
    let outcome = run(&plan, true);
    assert_eq!(outcome.failure, None);
    let lines = |text: &str| outcome.transcript.lines().filter(|line| line.contains(text)).count();
    assert!(lines("the next log segment cannot be prepared") > 0);
    assert!(lines("another server is to lead: the next log segment") > 0);
    assert!(lines("there is room again") > 0, "it is tried again");
}
