//! ZooKeeper's atomic broadcast (Zab) as one server runs it: election, discovery, synchronization,
//! broadcast.
//!
//! [`Peer`] is a deterministic state machine over opaque transactions. An [`Input`] goes in, an ordered
//! list of [`Output`]s comes out. It performs no I/O, reads no clock and draws no entropy; it can be cloned,
//! compared and hashed, so that its states can be enumerated.
//!
//! It owns the protocol: who leads, what is durable before which message leaves, what a learner lacks and
//! how it gets it, when a transaction is committed. It knows neither znodes nor sessions nor bytes on a
//! socket.
//!
//! **Durable before told.** Every write is an output with a fresh [`WriteId`]; an acknowledgement, a promise
//! or a vote that quotes it is only ever emitted by the step that takes its completion. One device takes all
//! writes in the order of their outputs, so that [`Input::Durable`] covers every earlier one.
//!
//! Packets, sequences and their history: Apache ZooKeeper 3.5 to 3.9; the paper is Junqueira, Reed and
//! Serafini, "Zab: High-performance broadcast for primary-backup systems".

mod activate;
mod config;
mod core;
mod election;
mod ensemble;
mod history;
mod io;
mod leader;
mod learner;
mod limits;
mod peer;
#[cfg(test)]
mod testing;

pub use config::{Config, Durable, Ensemble, EnsembleError, QuorumVerifier, Recovering};
pub use io::{
    Input, Level, LinkId, LinkKind, Located, Names, Output, Outputs, ReadId, Role, ShownConfig, SyncTicket, WriteId,
};
pub use leader::HandOverRefused;
pub use peer::{LearnerStatus, Peer, Phase, Status};
