//! The shell that runs a replica on real sockets, files and clocks.
//!
//! This crate owns threads, sockets, the operating system's files, configuration and the four-letter
//! words. It knows no rule of the protocol: whatever depends on a request, a session or a transaction is
//! decided in `farrier-replica`.
//!
//! Threads of one server: network workers (each with its share of the connections; the first takes them), the log thread, the
//! timer, and background threads for snapshots, for the next log segment and for purging. A member of an ensemble
//! has three more: for the sockets between servers, for looks into the log for learners, and for `farrier admin`.
//! While it starts there is one that reads the files for the one that fills the tree.

#![cfg_attr(
    test,
    expect(clippy::duplicate_mod, reason = "what threads share is compiled once more over a scheduler's primitives")
)]

mod accept;
mod activation;
pub mod admin;
mod background;
mod clock;
pub mod config;
mod connection;
mod core;
mod desk;
pub mod disk;
mod files;
#[cfg(test)]
mod interleavings;
mod limits;
mod link_outbox;
pub mod local;
mod log_queue;
mod log_reader;
mod log_thread;
mod mapping;
mod member;
mod outbox;
// Not inside, since the tests of interleavings take the file as well.
#[cfg(test)]
#[path = "outbox/tests.rs"]
mod outbox_tests;
mod peers;
mod priority;
mod quietly;
pub mod repair;
mod restoring;
mod server;
mod sync;
#[cfg(test)]
mod testing;
mod words;
mod worker;

pub use core::ExitReason;
pub use server::{Server, StartError};
pub use words::VERSION;
