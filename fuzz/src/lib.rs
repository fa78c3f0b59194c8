//! Bodies that take any bytes: every decoder of the wire, of files and of configuration, and the state
//! machines behind them. A body panics when something that must hold does not.
//!
//! The driver (`cargo run -p farrier-fuzz -- --seconds 10`) mutates small seeds that are made in code. It
//! has no notion of coverage; bodies that take choices instead of formats reach deep without one.

mod disk;
mod input;
mod machine;
mod quorum;
mod run;
mod wire;

pub use disk::{fuzz_damaged_directory, fuzz_log, fuzz_records as fuzz_log_records, fuzz_small_files, fuzz_snapshot};
pub use machine::{fuzz_apply, fuzz_replica, fuzz_watches};
pub use quorum::{fuzz_leader_packets, fuzz_learner_packets};
pub use run::{Failure, Ran, run};
pub use wire::{fuzz_multi, fuzz_properties, fuzz_records, fuzz_txn};

/// A body with its seeds.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// For the command line.
    pub name: &'static str,
    /// The body.
    pub body: fn(&[u8]),
    /// What mutation starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

fn no_seeds() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Every body.
pub const TARGETS: &[Target] = &[
    Target { name: "records", body: fuzz_records, seeds: wire::record_seeds },
    Target { name: "multi", body: fuzz_multi, seeds: wire::multi_seeds },
    Target { name: "txn", body: fuzz_txn, seeds: wire::txn_seeds },
    Target { name: "leader-packets", body: fuzz_leader_packets, seeds: quorum::leader_seeds },
    Target { name: "learner-packets", body: fuzz_learner_packets, seeds: quorum::learner_seeds },
    Target { name: "properties", body: fuzz_properties, seeds: wire::properties_seeds },
    Target { name: "log", body: fuzz_log, seeds: disk::log_seeds },
    Target { name: "log-records", body: fuzz_log_records, seeds: disk::record_seeds },
    Target { name: "snapshot", body: fuzz_snapshot, seeds: disk::snapshot_seeds },
    Target { name: "small-files", body: fuzz_small_files, seeds: disk::small_seeds },
    Target { name: "damaged-directory", body: fuzz_damaged_directory, seeds: no_seeds },
    Target { name: "apply", body: fuzz_apply, seeds: no_seeds },
    Target { name: "watches", body: fuzz_watches, seeds: no_seeds },
    Target { name: "replica", body: fuzz_replica, seeds: no_seeds },
];
