//! Simulated clusters: whole ensembles of the real `replica`, `zab`, `tree` and `storage` code, in one thread, from
//! one seed, under seeded faults of network, disk, process and clock.
//!
//! What happens is told as a stream of observations; checkers, one file each, read it and nothing else.

pub mod check;
pub mod client;
pub mod observe;
pub mod random;
