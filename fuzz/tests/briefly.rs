//! Every body for a moment, always on the same first inputs.

use farrier_fuzz::{TARGETS, Target, run};
use std::time::Duration;

#[test]
fn every_body_runs() {
    for target in TARGETS {
        let ran = run(target, 1, Duration::from_millis(300)).unwrap_or_else(|f| panic!("{}: {f:02x?}", target.name));
        assert!(ran.inputs > 0, "{}", target.name);
    }
}

#[test]
fn a_panic_is_found_and_told() {
    let body = |data: &[u8]| assert!(data.len() < 100, "a long input");
    let target = Target { name: "long", body, seeds: Vec::new };
    let failure = run(&target, 1, Duration::from_secs(10)).expect_err("some input is long");
    assert!(failure.input.len() >= 100 && failure.message.contains("a long input"), "{failure:?}");
}
