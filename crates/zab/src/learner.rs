//! A learner, with a vote or without: discovery, synchronization and broadcast from the other side.

use crate::core::{Core, Resign};
use crate::io::{Input, Outputs};
use crate::peer::Status;
use farrier_proto::ServerId;
use farrier_proto::quorum::LearnerPacket;

/// A server that follows or observes a leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Learner {
    leader: ServerId,
}

impl Learner {
    pub(crate) fn start(_core: &mut Core, _now: u64, leader: ServerId, _out: &mut Outputs) -> Self {
        Self { leader }
    }

    pub(crate) fn step(
        &mut self,
        _core: &mut Core,
        _now: u64,
        _input: Input,
        _out: &mut Outputs,
    ) -> Result<(), Resign> {
        Ok(())
    }

    pub(crate) const fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// False unless this server is up to date.
    pub(crate) fn send(&self, _packet: LearnerPacket, _out: &mut Outputs) -> bool {
        false
    }

    pub(crate) fn describe(&self, status: &mut Status) {
        status.leader = Some(self.leader);
    }

    pub(crate) fn close_link(&mut self, _out: &mut Outputs) {}

    /// Whether a state from the leader is in memory that is not on its way to disk.
    pub(crate) const fn has_uninstalled_snapshot(&self) -> bool {
        false
    }
}
