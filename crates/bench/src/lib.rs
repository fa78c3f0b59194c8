//! Load on servers that speak ZooKeeper's protocol, and what it costs them: the generator behind `farrier bench` and
//! behind the project's own measurements.
//!
//! One thread holds all connections ([`Pool`]). What is asked and what a good answer looks like is a [`Source`]'s
//! business; every source checks its answers, and those that write keep a ledger, so that every acknowledged write can
//! be looked for afterwards. In [`failover`] connections are lost on purpose, and each session has a thread of its own.

mod bare;
pub mod door;
pub mod echo;
pub mod failover;
pub mod fanout;
pub mod frame;
mod handshake;
pub mod herald;
pub mod locks;
pub mod open_files;
pub mod plan;
mod pool;
pub mod process;
pub mod rows;
mod script;
pub mod sessions;

pub use hdrhistogram::Histogram;
pub use pool::{Pace, Pool, Progress, Source, Span, Window};
pub use script::Script;
