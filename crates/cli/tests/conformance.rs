//! Every conformance case against the binary. One test per profile, and per lane where a
//! profile has slow cases; a failure lists the cases with what was expected and what was seen.

use farrier_testkit::case::{Lane, Profile};
use farrier_testkit::conformance::{Filter, cases, run};
use farrier_testkit::server::Target;

fn filter(profile: Profile, lanes: &[Lane]) -> Filter {
    Filter { profiles: vec![profile], lanes: lanes.to_vec(), ..Filter::default() }
}

fn check(profile: Profile, lanes: &[Lane]) {
    let target = Target::Farrier(env!("CARGO_BIN_EXE_farrier").into());
    let report = run(&target, &filter(profile, lanes)).expect("the servers start");
    let failures = report.failures().count();
    assert_eq!(failures, 0, "{failures} of {} cases differ\n{}", report.rows.len(), report.failure_list());
}

const SHARED: &[Lane] = &[Lane::Virgin, Lane::Empty, Lane::Shared];

/// A test per group, and the list of groups.
macro_rules! groups {
    ($($name:ident: $profile:ident, $lanes:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check(Profile::$profile, $lanes);
            }
        )*

        const GROUPS: &[(Profile, &[Lane])] = &[$((Profile::$profile, $lanes),)*];
    };
}

groups! {
    profile_d: D, SHARED;
    profile_d_slow: D, &[Lane::Slow];
    profile_d_restart: D, &[Lane::Restart];
    profile_d_own: D, &[Lane::Own];
    profile_s: S, &[];
    profile_x: X, &[];
    profile_e: E, &[];
    profile_k: K, &[];
    profile_m: M, &[];
    profile_q: Q, &[];
    profile_g: G, &[];
}

#[test]
fn every_case_is_in_exactly_one_group() {
    for case in cases() {
        let groups = GROUPS.iter().filter(|(profile, lanes)| filter(*profile, lanes).takes(&case)).count();
        assert_eq!(groups, 1, "case {}", case.number);
    }
}
