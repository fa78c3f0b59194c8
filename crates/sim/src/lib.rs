//! Simulated clusters: whole ensembles of the real `replica`, `zab`, `tree` and `storage` code, in one thread, from
//! one seed, under seeded faults of network, disk, process and clock.
//!
//! What happens is told as a stream of observations; checkers, one file each, read it and nothing else.
//!
//! A [`Plan`](plan::Plan) is all that a seed stands for; [`run`](run::run) plays it and answers what became of it.
//! `docs/simulation.md` tells how to add a fault or a checker.

pub mod check;
pub mod client;
mod engine;
pub mod guest;
pub mod observe;
pub mod plan;
pub mod random;
pub mod run;
pub mod shrink;
pub mod tally;

pub use engine::Failure;
