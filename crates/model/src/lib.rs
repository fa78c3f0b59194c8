//! Every state that three servers can get into within bounds, over the real peer of `zab`.
//!
//! A state is three peers with their disks, the packets between them, and the truth that no server knows. Whatever
//! may happen next is tried in every state: a packet arrives, a link breaks, a write becomes durable, a server is
//! elected, gives up, dies. In each state the properties of [`Rule`] are checked. What the model leaves out and why
//! that hides nothing: `docs/model.md`.

mod check;
mod disk;
mod explore;
mod network;
mod server;
mod state;
mod symmetry;

pub use check::{Rule, Violation};
pub use explore::{Limits, Outcome, explore};

#[cfg(test)]
mod tests;

/// How much may happen. Links may break and dials may fail without a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How often a server becomes the leader.
    pub elections: u8,
    /// Transactions that are proposed, in all; at most 15.
    pub proposals: u8,
    /// Crashes, each with the loss of whatever was not durable, and a restart.
    pub crashes: u8,
    /// For tests of the model itself.
    pub planted: Planted,
}

impl Bounds {
    /// What an afternoon should cover.
    pub const USUAL: Self = Self { elections: 2, proposals: 2, crashes: 2, planted: Planted::Nothing };
    /// A part of it that takes seconds.
    pub const SMALL: Self = Self { elections: 2, proposals: 1, crashes: 1, planted: Planted::Nothing };
}

/// A bug of the machine below the peer, which the checks must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// None.
    Nothing,
    /// Appends are said to be durable before they are.
    DurableTooEarly,
    /// A restart forgets what was promised.
    ForgetsPromise,
    /// A restart forgets the last transaction of the log, and the server votes on.
    ForgetsLog,
}
