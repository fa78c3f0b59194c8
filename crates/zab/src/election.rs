//! Fast leader election: Zab phase 0.

use crate::core::Core;
use crate::io::Outputs;
use farrier_proto::ServerId;
use farrier_proto::quorum::{ElectionRound, Notification, ServerState, Vote};

/// How an election ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Elected {
    pub(crate) vote: Vote,
    pub(crate) round: ElectionRound,
}

/// An election in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Election {
    round: ElectionRound,
}

impl Election {
    pub(crate) fn new(core: &Core) -> Self {
        Self { round: ElectionRound(core.round.0 + 1) }
    }

    /// Votes for itself and tells the others. A server that is alone elects itself at once.
    pub(crate) fn start(&mut self, _core: &mut Core, _now: u64, _out: &mut Outputs) -> Option<Elected> {
        None
    }

    pub(crate) fn notification(
        &mut self,
        _core: &mut Core,
        _now: u64,
        _from: ServerId,
        _notification: Notification,
        _out: &mut Outputs,
    ) -> Option<Elected> {
        None
    }

    /// A link came or went: whom to wait for has changed.
    pub(crate) fn links_changed(&mut self, _core: &mut Core, _now: u64, _out: &mut Outputs) -> Option<Elected> {
        None
    }

    pub(crate) fn timer(&mut self, _core: &mut Core, _now: u64, _out: &mut Outputs) -> Option<Elected> {
        None
    }

    pub(crate) const fn next_deadline(&self) -> Option<u64> {
        None
    }
}

/// What a server that has a leader, or is one, says to somebody who looks for one.
pub(crate) fn answer(_core: &Core, _state: ServerState, _from: ServerId, _n: &Notification, _out: &mut Outputs) {}
