//! The leader: discovery, synchronization of learners, broadcast.

use crate::core::{Core, Resign};
use crate::io::{Input, LinkId, Outputs, SyncTicket};
use crate::peer::Status;
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_proto::quorum::LeaderPacket;

/// A server that was elected.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {}

impl Leader {
    pub(crate) fn start(_core: &mut Core, _now: u64, _out: &mut Outputs) -> Self {
        Self {}
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

    pub(crate) const fn next_zxid(&self, _core: &Core) -> Option<Zxid> {
        None
    }

    pub(crate) fn propose(&mut self, _core: &mut Core, _now: u64, _zxid: Zxid, _txn: Bytes, _out: &mut Outputs) {}

    /// False unless the epoch is established.
    pub(crate) fn sync_local(&mut self, _core: &mut Core, _now: u64, _ticket: SyncTicket, _out: &mut Outputs) -> bool {
        false
    }

    pub(crate) fn sync_learner(&mut self, _core: &mut Core, _now: u64, _link: LinkId, _out: &mut Outputs) {}

    /// Sends a packet that is ordered with nothing but itself.
    pub(crate) fn send(&mut self, _link: LinkId, _packet: LeaderPacket, _out: &mut Outputs) {}

    pub(crate) fn describe(&self, _core: &Core, _status: &mut Status) {}

    /// The end of this leadership.
    pub(crate) fn close_links(&mut self, _out: &mut Outputs) {}
}
