//! From the acknowledgement of NEWLEADER on: proposals are logged, acknowledged and delivered.

use super::stream::{Stream, activate};
use super::{Link, Stage, name};
use crate::core::{Core, Resign};
use crate::io::{Level, Output, Outputs, Role, WriteId};
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_proto::membership::MemberList;
use farrier_proto::quorum::{LeaderPacket, LearnerPacket};

/// Has the leader's history; whether a quorum has it is said by UPTODATE.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Adopted {
    stream: Stream,
    /// In force with UPTODATE.
    config: Option<Bytes>,
}

/// Up to date.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Broadcast {
    stream: Stream,
}

impl Adopted {
    pub(super) const fn new(stream: Stream, config: Option<Bytes>) -> Self {
        Self { stream, config }
    }

    pub(super) fn packet(
        mut self,
        core: &mut Core,
        link: Link,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<Stage, Resign> {
        let stream = &mut self.stream;
        match packet {
            LeaderPacket::Proposal { zxid, txn } => stream.proposal(core, link, zxid, txn, out)?,
            LeaderPacket::Commit { zxid } => stream.commit(core, link, zxid, out)?,
            LeaderPacket::Inform { zxid, txn } => stream.inform(core, link, zxid, txn, out)?,
            LeaderPacket::CommitAndActivate { zxid, designated } => {
                stream.commit_and_activate(core, link, zxid, designated, out)?;
            }
            LeaderPacket::InformAndActivate { zxid, designated, txn } => {
                stream.inform_and_activate(core, link, (zxid, txn), designated, out)?;
            }
            LeaderPacket::UpToDate => return self.up_to_date(core, link, out).map(Stage::Broadcast),
            // As Apache: nothing is answered before UPTODATE.
            LeaderPacket::Ping { .. } => {}
            LeaderPacket::NewLeader { .. }
            | LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => return Err(link.misplaced(&packet, "before UPTODATE")),
        }
        Ok(Stage::Adopted(self))
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self, durable: WriteId) {
        self.stream.canonicalize(durable);
    }

    fn up_to_date(mut self, core: &mut Core, link: Link, out: &mut Outputs) -> Result<Broadcast, Resign> {
        let epoch = self.stream.epoch;
        self.stream.settle_initial_history(core, out);
        if !farrier_proto::planted!(FollowerKeepsOldVote) {
            core.vote.peer_epoch = i64::from(epoch);
        }
        if let Some(config) = self.config.take().filter(|config| !self.is_undecided(core, config)) {
            activate(core, link, &config, None, out)?;
        }
        out.push(Output::Role(Role::Learning { leader: link.leader, epoch, observing: self.stream.is_observer() }));
        let last = core.history.last();
        out.note(
            Level::Info,
            format!("caught up with leader {} in epoch {epoch}: the last zxid is {last}", link.leader),
        );
        link.send(LearnerPacket::Ack { zxid: Zxid::new(epoch, 0) }, out);
        Ok(Broadcast { stream: self.stream })
    }

    /// Whether the leader proposed this configuration itself, in this epoch, and has not committed it: it has no quorum
    /// yet, may never get one, and comes into force with its commit. An Apache leader sends it with NEWLEADER all the
    /// same, and its own learners put it in force.
    fn is_undecided(&self, core: &Core, config: &Bytes) -> bool {
        let version = Zxid::from_wire(MemberList::version_of(config).cast_signed());
        version.epoch() == self.stream.epoch && version.counter() > 0 && version > core.history.delivered()
    }

    pub(super) fn durable(&mut self, link: Link, id: WriteId, out: &mut Outputs) {
        self.stream.durable(link, id, out);
    }
}

impl Broadcast {
    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self, durable: WriteId) {
        self.stream.canonicalize(durable);
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.stream.epoch
    }

    pub(super) fn packet(
        &mut self,
        core: &mut Core,
        link: Link,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        let stream = &mut self.stream;
        let observer = stream.is_observer();
        match packet {
            LeaderPacket::Proposal { zxid, txn } if !observer => stream.proposal(core, link, zxid, txn, out),
            LeaderPacket::Commit { zxid } if !observer => stream.commit(core, link, zxid, out),
            LeaderPacket::CommitAndActivate { zxid, designated } if !observer => {
                stream.commit_and_activate(core, link, zxid, designated, out)
            }
            LeaderPacket::Inform { zxid, txn } if observer => stream.inform(core, link, zxid, txn, out),
            LeaderPacket::InformAndActivate { zxid, designated, txn } if observer => {
                stream.inform_and_activate(core, link, (zxid, txn), designated, out)
            }
            LeaderPacket::Ping { zxid } => {
                out.push(Output::PingReceived { zxid });
                Ok(())
            }
            LeaderPacket::Revalidate { .. } | LeaderPacket::Sync => {
                out.push(Output::FromLeader { packet });
                Ok(())
            }
            // Of no use here. Had it been, the next proposal would show a gap.
            LeaderPacket::Proposal { .. }
            | LeaderPacket::Commit { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::Inform { .. }
            | LeaderPacket::InformAndActivate { .. }
            | LeaderPacket::UpToDate => {
                out.note(Level::Warn, format!("leader {} sends {} once too often", link.leader, name(&packet)));
                Ok(())
            }
            LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::NewLeader { .. } => Err(link.misplaced(&packet, "after UPTODATE")),
        }
    }

    pub(super) fn durable(&mut self, link: Link, id: WriteId, out: &mut Outputs) {
        self.stream.durable(link, id, out);
    }
}
