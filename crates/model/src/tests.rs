//! The small form of the search; and that the checks find what is planted.

use crate::{Bounds, Limits, Outcome, Planted, Rule, explore};
use std::collections::BTreeSet;

/// Far more than any of these has.
const STATES_MAX: u64 = 2_000_000;

fn depth_first(bounds: Bounds) -> Outcome {
    explore(&bounds, Limits { threads: 2, states_max: STATES_MAX, breadth_first: false }, &|_| false)
}

fn shortest(planted: Planted) -> (Rule, Vec<String>) {
    let bounds = Bounds { planted, ..Bounds::SMALL };
    let found = explore(&bounds, Limits { threads: 1, states_max: STATES_MAX, breadth_first: true }, &|_| false);
    assert!(!found.complete, "the search ends with what it found");
    let (violation, path) = found.violation.expect("a planted bug is found");
    (violation.rule, path)
}

#[test]
fn no_state_within_small_bounds_breaks_a_rule() {
    let mut seen = BTreeSet::new();
    // One crash; and, since only what has something in common is cut, two proposals.
    for bounds in [Bounds::SMALL, Bounds { proposals: 2, crashes: 0, ..Bounds::SMALL }] {
        let outcome = depth_first(bounds);
        assert_eq!(outcome.violation, None);
        assert!(outcome.complete);
        seen.extend(outcome.seen);
    }
    // What is never reached is never checked.
    let wanted = ["ACK", "ACKEPOCH", "NEWLEADER", "PROPOSAL", "SNAP", "TRUNC", "installation", "reload", "truncation"];
    for kind in wanted {
        assert!(seen.contains(kind), "{kind} was never reached, only {seen:?}");
    }
}

#[test]
fn two_threads_visit_what_one_does_in_any_order() {
    let bounds = Bounds { crashes: 0, ..Bounds::SMALL };
    let two = depth_first(bounds);
    let one = explore(&bounds, Limits { threads: 1, states_max: STATES_MAX, breadth_first: true }, &|_| false);
    assert!(one.complete && two.complete);
    assert_eq!((one.states, one.transitions), (two.states, two.transitions));
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let asked = std::sync::atomic::AtomicU64::new(0);
    let stop = |states| {
        asked.store(states, std::sync::atomic::Ordering::Relaxed);
        true
    };
    let limits = Limits { threads: 2, states_max: STATES_MAX, breadth_first: false };
    let outcome = explore(&Bounds::SMALL, limits, &stop);
    assert!(!outcome.complete && outcome.violation.is_none());
    assert!(asked.into_inner() > 0);
}

#[test]
fn acknowledging_before_it_is_durable_is_found() {
    let (rule, path) = shortest(Planted::DurableTooEarly);
    assert_eq!(rule, Rule::Durability, "{path:#?}");
    assert!(path.last().is_some_and(|l| l.contains("Ack")), "{path:#?}");
}

#[test]
fn a_promise_that_is_forgotten_gives_an_epoch_two_leaders() {
    let (rule, path) = shortest(Planted::ForgetsPromise);
    assert_eq!(rule, Rule::OneLeader, "{path:#?}");
    assert!(path.iter().any(|l| l.contains("dies")), "{path:#?}");
}

#[test]
fn a_voter_that_forgot_a_transaction_is_found() {
    let (rule, path) = shortest(Planted::ForgetsLog);
    assert_eq!(rule, Rule::Durability, "{path:#?}");
    assert!(path.last().is_some_and(|l| l.contains("dies")), "{path:#?}");
}
