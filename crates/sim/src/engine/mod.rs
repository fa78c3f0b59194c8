//! The engine: one world, in one thread, from one plan.
//!
//! Servers are the real `Replica` over the real storage code; this module gives them time, a disk that forgets, and a
//! network that holds up. It re-implements nothing that the server's shell decides: what is done on disk and in which
//! order is [`farrier_replica::LogWork`] in both.

mod act;
mod channel;
mod clock;
mod describe;
mod election;
mod event;
mod faults;
mod guests;
mod machine;
mod net;
mod people;
mod phases;
mod probe;
mod process;
mod queue;
mod takeover;
mod transcript;
mod world;

pub use world::Failure;
pub(crate) use world::World;
