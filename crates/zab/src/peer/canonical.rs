//! For tools that enumerate the states of whole ensembles: two peers that differ in names and times only are the same.

use super::{Peer, State};
use crate::io::{Names, WriteId};
use farrier_proto::quorum::LearnerPacket;

impl Peer {
    /// Takes out what tells nothing but how this server came to be what it is.
    ///
    /// - Writes are numbered from 1 again, beginning with the first that is not durable. Reads are if none is under
    ///   way.
    /// - Every time is 0. A peer that is only ever stepped at time 0 never waits and gives up nothing; a timer in the
    ///   far future finds every deadline behind it.
    /// - Links have taken whatever was sent. Pings were all answered; syncs must not be under way.
    /// - The rounds of elections begin anew, so whoever drives the peer has to decide who is elected.
    /// - What a leader needs no more in its phase is gone.
    pub fn canonicalize(&mut self) {
        let has_role = match self.state {
            State::Settling { .. } | State::Looking(_) => false,
            State::Leading(_) | State::Learning(_) => true,
        };
        let durable = self.core.canonicalize(has_role);
        match &mut self.state {
            State::Settling { reload } => *reload = reload.map(|id: WriteId| id.renumbered(durable)),
            State::Looking(election) => election.canonicalize(),
            State::Leading(leader) => leader.canonicalize(&mut self.core, durable),
            State::Learning(learner) => learner.canonicalize(durable),
        }
    }

    /// The same server in an ensemble whose servers and links have other names. The configuration is the same: its
    /// voters must be renamed among each other.
    #[must_use]
    pub fn renamed(&self, names: Names<'_>) -> Self {
        let mut peer = self.clone();
        peer.core.rename(names);
        match &mut peer.state {
            State::Settling { .. } => {}
            State::Looking(election) => election.rename(names),
            State::Leading(leader) => leader.rename(names),
            State::Learning(learner) => learner.rename(names),
        }
        for link in &mut peer.early {
            *link = (names.link)(*link);
        }
        for (link, packet) in &mut peer.early_packets {
            *link = (names.link)(*link);
            match packet {
                LearnerPacket::FollowerInfo { info, .. } | LearnerPacket::ObserverInfo { info, .. } => {
                    info.server = info.server.map(names.server);
                }
                LearnerPacket::AckEpoch { .. }
                | LearnerPacket::Ack { .. }
                | LearnerPacket::Ping { .. }
                | LearnerPacket::Revalidate { .. }
                | LearnerPacket::Request(_) => {}
            }
        }
        peer
    }
}
