//! Taking over the leader's history.
//!
//! DIFF keeps what is logged, TRUNC cuts it, SNAP replaces it. What follows until NEWLEADER belongs to the leader's
//! initial history or is a proposal of its own epoch. With DIFF and TRUNC it is appended to the log as it comes; with
//! SNAP, and with a DIFF for a server without a vote, it goes into the adopted state when it is committed, and at
//! NEWLEADER that state becomes the disk's history at once. NEWLEADER is acknowledged when all that and then the epoch is on disk (safety contract 1.3).

use super::broadcast::Adopted;
use super::stream::Stream;
use super::{Link, Stage};
use crate::core::{Core, Resign};
use crate::history::History;
use crate::io::{Level, Output, Outputs, ShownConfig, WriteId};
use crate::limits::{HELD_BYTES_MAX, HELD_PACKETS_MAX, packet_bytes};
use bytes::Bytes;
use farrier_proto::Zxid;
use farrier_proto::quorum::LeaderPacket;
use std::fmt;

/// The leader knows where the history ends, and says how it goes on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Choosing {
    pub(super) epoch: u32,
    /// What ACKEPOCH said: the last transaction, or nothing.
    pub(super) base: Zxid,
}

/// The log is being cut. What comes meanwhile is held.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cutting {
    epoch: u32,
    write: WriteId,
    held: Vec<LeaderPacket>,
    held_bytes: usize,
    paused: bool,
}

/// The stream up to NEWLEADER.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Receiving {
    stream: Stream,
}

/// NEWLEADER came; history and epoch are on their way to disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Adopting {
    stream: Stream,
    write: WriteId,
    /// In force with UPTODATE.
    config: Option<Bytes>,
}

impl Choosing {
    pub(super) fn packet(
        self,
        core: &mut Core,
        link: Link,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<Stage, Resign> {
        match packet {
            LeaderPacket::Diff { .. } => {
                self.tell(link, format_args!("DIFF, which goes on behind {}", self.base), out);
                if farrier_proto::planted!(EpochBeforeHistory) {
                    core.save_current(farrier_proto::CurrentEpoch(self.epoch), out);
                }
                Ok(self.keep(core, self.base, out))
            }
            LeaderPacket::Trunc { zxid } if zxid > self.base => {
                let base = self.base;
                Err(link.violation(format_args!("TRUNC to {zxid}, but the log ends with {base}")))
            }
            LeaderPacket::Trunc { zxid } => {
                self.tell(link, format_args!("TRUNC, which cuts the log behind {zxid}"), out);
                Ok(self.keep(core, zxid, out))
            }
            // Its stream comes with `SnapReceived`.
            LeaderPacket::Snap { .. }
            | LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::NewLeader { .. }
            | LeaderPacket::UpToDate
            | LeaderPacket::Proposal { .. }
            | LeaderPacket::Commit { .. }
            | LeaderPacket::Inform { .. }
            | LeaderPacket::CommitAndActivate { .. }
            | LeaderPacket::InformAndActivate { .. }
            | LeaderPacket::Ping { .. }
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => Err(link.misplaced(&packet, "instead of DIFF, TRUNC or a whole SNAP")),
        }
    }

    /// Says whom this server follows, and what it gets.
    fn tell(&self, link: Link, what: fmt::Arguments<'_>, out: &mut Outputs) {
        out.note(Level::Info, format!("following leader {} in epoch {}: it sends {what}", link.leader, self.epoch));
    }

    /// Keeps the log up to `zxid`. A server without a vote, which offers nothing, is sent here by a leader whose history
    /// is empty: no snapshot need be on its disk, below which nothing may be logged, so this state goes there as one.
    fn keep(&self, core: &mut Core, zxid: Zxid, out: &mut Outputs) -> Stage {
        if core.history.last() == zxid {
            if core.recovering.is_voiceless() {
                return Stage::Receiving(Receiving { stream: Stream::from_snapshot(core, self.epoch) });
            }
            return Stage::Receiving(Receiving { stream: Stream::from_log(core, self.epoch) });
        }
        let write = core.truncate(zxid, out);
        Stage::Cutting(Cutting { epoch: self.epoch, write, held: Vec::new(), held_bytes: 0, paused: false })
    }

    pub(super) fn snapshot(
        &self,
        core: &mut Core,
        link: Link,
        (zxid, config): (Zxid, Option<ShownConfig>),
        out: &mut Outputs,
    ) -> Result<Receiving, Resign> {
        if zxid.epoch() > self.epoch {
            return Err(link.violation(format_args!("SNAP of {zxid}, which is behind its epoch {}", self.epoch)));
        }
        self.tell(link, format_args!("SNAP, its whole state at {zxid}"), out);
        out.push(Output::AdoptSnapshot { zxid });
        core.diverged = false;
        core.state_wanted = None;
        core.history = History::new(zxid);
        core.state_shows(config.as_ref(), out);
        Ok(Receiving { stream: Stream::from_snapshot(core, self.epoch) })
    }
}

impl Cutting {
    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) const fn canonicalize(&mut self, durable: WriteId) {
        self.write = self.write.renumbered(durable);
    }

    pub(super) fn hold(mut self, link: Link, packet: LeaderPacket, out: &mut Outputs) -> Result<Self, Resign> {
        let bytes = self.held_bytes + packet_bytes(&packet);
        if self.held.len() == HELD_PACKETS_MAX || bytes > HELD_BYTES_MAX {
            return Err(Resign::new(Level::Warn, "too many packets came while the log was being cut"));
        }
        self.held.push(packet);
        self.held_bytes = bytes;
        if !self.paused && (self.held.len() >= HELD_PACKETS_MAX / 2 || bytes >= HELD_BYTES_MAX / 2) {
            self.paused = true;
            out.push(Output::PauseLink { link: link.id });
        }
        Ok(self)
    }

    pub(super) fn is_done_by(&self, id: WriteId) -> bool {
        self.write == id
    }

    /// The log is cut. Also what was held, and whether the link is paused.
    pub(super) fn done(&mut self, core: &Core) -> (Receiving, Vec<LeaderPacket>, bool) {
        (Receiving { stream: Stream::from_log(core, self.epoch) }, std::mem::take(&mut self.held), self.paused)
    }
}

impl Receiving {
    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self, durable: WriteId) {
        self.stream.canonicalize(durable);
    }

    /// Whether the state is to become the disk's history.
    pub(super) const fn is_to_be_installed(&self) -> bool {
        self.stream.is_unlogged()
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
            LeaderPacket::NewLeader { zxid, config } => {
                return Ok(Stage::Adopting(self.new_leader(core, link, zxid, config, out)?));
            }
            // As Apache: nothing is answered before UPTODATE.
            LeaderPacket::Ping { .. } => {}
            LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::UpToDate
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => return Err(link.misplaced(&packet, "before NEWLEADER")),
        }
        Ok(Stage::Receiving(self))
    }

    fn new_leader(
        mut self,
        core: &mut Core,
        link: Link,
        zxid: Zxid,
        config: Bytes,
        out: &mut Outputs,
    ) -> Result<Adopting, Resign> {
        let epoch = self.stream.epoch;
        if zxid != Zxid::new(epoch, 0) {
            return Err(link.violation(format_args!("NEWLEADER {zxid} after LEADERINFO of epoch {epoch}")));
        }
        // Not that of a server that stood alone, which is given company.
        if self.stream.last(core).epoch() > 0 {
            core.learn_of_history(format_args!("leader {} has a history", link.leader), out)?;
        }
        let config = Some(config).filter(|config| config.len() > 1);
        if let Some(config) = &config {
            let told = core.told_by_leader(config, out);
            told.map_err(|why| link.violation(format_args!("its configuration cannot be read: {why}")))?;
        }
        let config = config.filter(|config| config != core.ensemble.text());
        let write = self.stream.complete_initial_history(core, out);
        Ok(Adopting { stream: self.stream, write, config })
    }
}

impl Adopting {
    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self, durable: WriteId) {
        self.write = self.write.renumbered(durable);
        self.stream.canonicalize(durable);
    }

    pub(super) fn packet(
        mut self,
        core: &mut Core,
        link: Link,
        packet: LeaderPacket,
        out: &mut Outputs,
    ) -> Result<Self, Resign> {
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
            LeaderPacket::Ping { .. } => {}
            LeaderPacket::UpToDate
            | LeaderPacket::NewLeader { .. }
            | LeaderPacket::LeaderInfo { .. }
            | LeaderPacket::Diff { .. }
            | LeaderPacket::Trunc { .. }
            | LeaderPacket::Snap { .. }
            | LeaderPacket::Revalidate { .. }
            | LeaderPacket::Sync => return Err(link.misplaced(&packet, "before it got ACK of NEWLEADER")),
        }
        Ok(self)
    }

    pub(super) fn is_adopted_by(&self, id: WriteId) -> bool {
        self.write <= id
    }

    /// History and epoch are on disk.
    pub(super) fn adopted(mut self, link: Link, durable: WriteId, out: &mut Outputs) -> Adopted {
        self.stream.acknowledge(link, durable, out);
        Adopted::new(self.stream, self.config)
    }
}
