//! Proposals and commits of one connection: what may follow what, what is logged, delivered and acknowledged.
//!
//! Every proposal follows the one before it (safety contract 4.5), and a commit names the oldest one that is not
//! delivered or, where both ends take it so, a later one that came, and stands for all before it. What the
//! synchronization began from is skipped when it comes again: Apache's leaders send what their snapshot has already.

use super::Link;
use crate::activate::configuration;
use crate::core::{Core, Resign};
use crate::io::{Level, Outputs, WriteId};
use crate::limits::UNCOMMITTED_BYTES_MAX;
use bytes::Bytes;
use farrier_proto::quorum::LearnerPacket;
use farrier_proto::{ServerId, Zxid};
use std::collections::VecDeque;

/// One connection's proposals.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stream {
    pub(super) epoch: u32,
    /// Known to be committed, and delivered: what is said about it again changes nothing.
    settled: Zxid,
    /// With a state that is not on its way to disk, as a SNAP's: its proposals that are not committed yet. They follow the history
    /// and are in no log.
    unlogged: Option<VecDeque<(Zxid, Bytes)>>,
    /// Bytes of proposals that are not committed.
    uncommitted_bytes: usize,
    /// Appended proposals of this epoch that are to be acknowledged, in order. Observers have none.
    unacknowledged: VecDeque<(WriteId, Zxid)>,
    /// What this server is to the leader.
    observer: bool,
    /// NEWLEADER came: whatever follows is of its epoch.
    initial_history_complete: bool,
    /// The acknowledgement of NEWLEADER left. Nothing is acknowledged before it.
    acknowledging: bool,
}

impl Stream {
    /// After DIFF or TRUNC: what comes is appended to the log.
    pub(super) fn from_log(core: &Core, epoch: u32) -> Self {
        Self {
            epoch,
            settled: core.history.last(),
            unlogged: None,
            uncommitted_bytes: 0,
            unacknowledged: VecDeque::new(),
            observer: core.ensemble.is_observer(core.me()),
            initial_history_complete: false,
            acknowledging: false,
        }
    }

    /// Where the state in memory becomes the disk's history: after SNAP, once the history is that of the snapshot.
    pub(super) fn from_snapshot(core: &Core, epoch: u32) -> Self {
        Self { unlogged: Some(VecDeque::new()), ..Self::from_log(core, epoch) }
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self, durable: WriteId) {
        for (id, _) in &mut self.unacknowledged {
            *id = id.renumbered(durable);
        }
    }

    pub(super) const fn is_observer(&self) -> bool {
        self.observer
    }

    /// Whether what comes is not logged: the state is not on its way to disk yet.
    pub(super) const fn is_unlogged(&self) -> bool {
        self.unlogged.is_some()
    }

    /// The last transaction that came or was there.
    pub(super) fn last(&self, core: &Core) -> Zxid {
        let unlogged = self.unlogged.as_ref().and_then(|unlogged| unlogged.back());
        unlogged.map_or_else(|| core.history.last(), |(zxid, _)| *zxid)
    }

    /// The oldest proposal that is not delivered.
    fn next<'a>(&'a self, core: &'a Core) -> Option<&'a (Zxid, Bytes)> {
        match &self.unlogged {
            Some(unlogged) => unlogged.front(),
            None => core.history.after(core.history.delivered()),
        }
    }

    /// Whether this is a proposal that is not delivered. The oldest one is there.
    fn awaits(&self, core: &Core, zxid: Zxid) -> bool {
        match &self.unlogged {
            Some(unlogged) => unlogged.binary_search_by_key(&zxid, |(zxid, _)| *zxid).is_ok(),
            None => core.history.at_or_before(zxid) == zxid,
        }
    }

    pub(super) fn proposal(
        &mut self,
        core: &mut Core,
        link: Link,
        zxid: Zxid,
        txn: Bytes,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        if zxid <= self.settled {
            return Ok(());
        }
        let last = self.last(core);
        if zxid == last {
            // A request that an Apache leader cannot parse takes the zxid of the one before it.
            out.note(Level::Warn, format!("leader {} proposes {zxid} twice", link.leader));
            return Ok(());
        }
        if !zxid.follows(last) {
            return Err(link.violation(format_args!("proposal {zxid} does not follow {last}")));
        }
        if zxid.epoch() > self.epoch || (self.initial_history_complete && zxid.epoch() != self.epoch) {
            return Err(link.violation(format_args!("proposal {zxid} is not of its epoch {}", self.epoch)));
        }
        self.uncommitted_bytes += txn.len();
        if self.uncommitted_bytes > UNCOMMITTED_BYTES_MAX {
            return Err(link.violation(format_args!("too much is not committed before proposal {zxid}")));
        }
        if let Some(unlogged) = &mut self.unlogged {
            // Its quorums count already: what the disk has instead comes back if this state never gets there.
            core.note_pending(&txn, out);
            unlogged.push_back((zxid, txn));
        } else {
            self.append(core, zxid, txn, out);
            if farrier_proto::planted!(AckBeforeSync) && self.acknowledging {
                self.durable(link, WriteId(u64::MAX), out);
            }
        }
        Ok(())
    }

    /// Into history and log. What belongs to an earlier epoch is acknowledged as a whole, with NEWLEADER.
    fn append(&mut self, core: &mut Core, zxid: Zxid, txn: Bytes, out: &mut Outputs) {
        let write = core.append(zxid, txn, out);
        if !self.observer && zxid.epoch() == self.epoch && zxid.counter() != 0 {
            self.unacknowledged.push_back((write, zxid));
        }
    }

    pub(super) fn commit(&mut self, core: &mut Core, link: Link, zxid: Zxid, out: &mut Outputs) -> Result<(), Resign> {
        if zxid <= self.settled {
            return Ok(());
        }
        match self.next(core) {
            Some((next, _)) if *next == zxid || (link.cumulative && *next < zxid && self.awaits(core, zxid)) => {}
            Some((next, _)) => {
                return Err(link.violation(format_args!("commit of {zxid}, but {next} is the oldest proposal")));
            }
            None => {
                return Err(link.violation(format_args!("commit of {zxid}, but no proposal waits for one")));
            }
        }
        let all = link.cumulative && farrier_proto::planted!(CommitDeliversAll);
        while self.next(core).is_some_and(|(next, _)| *next <= zxid || all) {
            self.deliver_next(core, out);
        }
        if !self.initial_history_complete {
            // Nobody waits for the acknowledgement of what came as committed.
            while self.unacknowledged.pop_front_if(|(_, waiting)| *waiting <= zxid).is_some() {}
        }
        Ok(())
    }

    /// A commit of a reconfiguration.
    pub(super) fn commit_and_activate(
        &mut self,
        core: &mut Core,
        link: Link,
        zxid: Zxid,
        designated: ServerId,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        if zxid <= self.settled {
            return Ok(());
        }
        let config = match self.next(core) {
            Some((next, txn)) if *next == zxid => configuration(txn),
            Some(_) | None => None,
        };
        self.commit(core, link, zxid, out)?;
        let Some(config) = config else {
            return Err(link.violation(format_args!("{zxid} is to be activated and is no reconfiguration")));
        };
        activate(core, link, &config, Some(designated), out)
    }

    /// A proposal and its commit in one.
    pub(super) fn inform(
        &mut self,
        core: &mut Core,
        link: Link,
        zxid: Zxid,
        txn: Bytes,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        if self.is_known(core, zxid) {
            return Ok(());
        }
        self.proposal(core, link, zxid, txn, out)?;
        self.commit(core, link, zxid, out)
    }

    /// The same of a reconfiguration.
    pub(super) fn inform_and_activate(
        &mut self,
        core: &mut Core,
        link: Link,
        (zxid, txn): (Zxid, Bytes),
        designated: ServerId,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        if self.is_known(core, zxid) {
            return Ok(());
        }
        self.proposal(core, link, zxid, txn, out)?;
        self.commit_and_activate(core, link, zxid, designated, out)
    }

    /// Settled, or the last one once more.
    fn is_known(&self, core: &Core, zxid: Zxid) -> bool {
        zxid <= self.settled || (zxid == self.last(core) && zxid <= core.history.delivered())
    }

    /// NEWLEADER: everything of the initial history came, and goes to disk before the epoch does.
    pub(super) fn complete_initial_history(&mut self, core: &mut Core, out: &mut Outputs) -> WriteId {
        self.initial_history_complete = true;
        let epoch = farrier_proto::CurrentEpoch(self.epoch);
        let Some(unlogged) = self.unlogged.take() else { return core.save_current(epoch, out) };
        let write = core.install(epoch, out);
        for (zxid, txn) in unlogged {
            self.append(core, zxid, txn, out);
        }
        write
    }

    /// UPTODATE: a quorum has the initial history, so it is committed even where no commit came.
    pub(super) fn settle_initial_history(&mut self, core: &mut Core, out: &mut Outputs) {
        while self
            .next(core)
            .is_some_and(|(zxid, _)| zxid.epoch() < self.epoch || farrier_proto::planted!(UpToDateCommitsAll))
        {
            self.deliver_next(core, out);
        }
        let delivered = core.history.delivered();
        if delivered.epoch() < self.epoch {
            self.settled = delivered;
        }
    }

    /// NEWLEADER's acknowledgement is the first, and proposals' follow.
    pub(super) fn acknowledge(&mut self, link: Link, durable: WriteId, out: &mut Outputs) {
        link.send(LearnerPacket::Ack { zxid: Zxid::new(self.epoch, 0) }, out);
        self.acknowledging = true;
        self.durable(link, durable, out);
    }

    /// Acknowledges what is on disk, if NEWLEADER is acknowledged.
    pub(super) fn durable(&mut self, link: Link, id: WriteId, out: &mut Outputs) {
        assert!(self.acknowledging, "nothing is acknowledged before NEWLEADER");
        let mut newest = None;
        while let Some((_, zxid)) = self.unacknowledged.pop_front_if(|(write, _)| *write <= id) {
            newest = Some(zxid);
            if !link.cumulative {
                link.send(LearnerPacket::Ack { zxid }, out);
            }
        }
        if let Some(zxid) = newest.filter(|_| link.cumulative) {
            link.send(LearnerPacket::Ack { zxid }, out);
        }
    }

    fn deliver_next(&mut self, core: &mut Core, out: &mut Outputs) {
        let (zxid, txn) = self.next(core).cloned().expect("only what is there is delivered");
        self.uncommitted_bytes -= txn.len();
        if let Some(unlogged) = &mut self.unlogged {
            unlogged.pop_front();
            core.history.append(zxid, txn);
        }
        core.deliver(zxid, out);
    }
}

/// What the leader says is in force; if that changes the part of this server or of the leader, they part.
pub(super) fn activate(
    core: &mut Core,
    link: Link,
    config: &Bytes,
    designated: Option<ServerId>,
    out: &mut Outputs,
) -> Result<(), Resign> {
    match core.activate(config, Some(link.leader), designated, out) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let version = core.ensemble.version();
            Err(Resign::new(
                Level::Info,
                format!("configuration {version:#x} changes who leads, or this server's part"),
            ))
        }
        Err(why) => Err(link.violation(format_args!("its configuration cannot be read: {why}"))),
    }
}
