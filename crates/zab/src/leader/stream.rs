//! One learner: what it was sent, and what it said.
//!
//! Its stream is a position in the history, not a queue of packets. A learner that is slow holds up nobody, and
//! costs no memory beyond what its link may have unsent.

use crate::core::Core;
use crate::io::{LinkId, Output, Outputs, ReadId};
use crate::limits::{
    LINK_UNFLUSHED_MAX, PINGS_UNANSWERED_MAX, REVALIDATIONS_PENDING_MAX, SYNCS_PENDING_MAX, packet_bytes,
};
use bytes::Bytes;
use farrier_proto::quorum::LeaderPacket;
use farrier_proto::{ServerId, SessionId, Zxid};
use std::collections::VecDeque;

/// A learner on its link.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Learner {
    /// Who; negative if it has not said.
    pub(super) server: ServerId,
    /// Whether it came with OBSERVERINFO.
    pub(super) observer: bool,
    /// Whether it counts for quorums: a voter that came as one.
    pub(super) votes: bool,
    /// Whether it takes a COMMIT for everything before it, too.
    pub(super) cumulative: bool,
    pub(super) stage: Stage,
    /// The link is closed if nothing is heard until then; `None` while it has nothing to say.
    pub(super) silent_at: Option<u64>,
    /// It counts as alive until then.
    pub(super) alive_until: u64,
    /// The oldest proposal whose acknowledgement is awaited, and since when.
    pub(super) unacked: Option<(Zxid, u64)>,
    /// The last PROPOSAL or INFORM; before the first, where its history met ours.
    sent: Zxid,
    /// The last COMMIT; everything up to here reached it as committed.
    committed: Zxid,
    acked: Zxid,
    unflushed: usize,
    flushing: bool,
    reading: Option<Reading>,
    /// Confirmed syncs: SYNC follows the COMMIT of each.
    syncs: VecDeque<Zxid>,
    /// Answers to REVALIDATE: each follows a COMMIT, and those before it.
    revalidations: VecDeque<(Zxid, SessionId, bool)>,
    /// Rounds whose ping was sent behind UPTODATE and is not answered yet.
    pings: VecDeque<u64>,
    /// The last of them.
    pinged: u64,
    /// The last round that was answered.
    answered: u64,
    /// Whether UPTODATE was acknowledged: from here on every ping is answered.
    answers: bool,
}

/// How far a learner is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// It has not said who it is.
    Connected,
    /// It awaits LEADERINFO.
    Waiting,
    /// It has LEADERINFO.
    Offered,
    /// It sent ACKEPOCH.
    Promised { last_logged: i64 },
    /// Its last transaction is looked for on disk.
    Locating { read: ReadId, peer: Zxid },
    /// It gets the committed history up to `bound`.
    Streaming { bound: Zxid, transfer: Transfer },
    /// It got NEWLEADER, behind everything up to `bound`.
    NewLeader { bound: Zxid },
    /// It acknowledged NEWLEADER. Once the epoch is established, UPTODATE follows what is committed by then.
    Acked { upto: Option<Zxid> },
    /// It got UPTODATE.
    UpToDate,
}

/// What a synchronization costs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Transfer {
    /// DIFF or TRUNC.
    Difference,
    /// SNAP.
    Snapshot,
}

/// A read of the log on disk that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Reading {
    read: ReadId,
    to: Zxid,
}

/// What a stream needs to know of its leader.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) epoch: u32,
    pub(super) established: bool,
    /// What the leader's own log has durably: what can be read there.
    pub(super) durable: Zxid,
}

impl Learner {
    pub(super) const fn new(server: ServerId, silent_at: u64) -> Self {
        Self {
            server,
            observer: false,
            votes: false,
            cumulative: false,
            stage: Stage::Connected,
            silent_at: Some(silent_at),
            alive_until: 0,
            unacked: None,
            sent: Zxid::ZERO,
            committed: Zxid::ZERO,
            acked: Zxid::ZERO,
            unflushed: 0,
            flushing: false,
            reading: None,
            syncs: VecDeque::new(),
            revalidations: VecDeque::new(),
            pings: VecDeque::new(),
            pinged: 0,
            answered: 0,
            answers: false,
        }
    }

    /// See [`Peer::canonicalize`](crate::Peer::canonicalize).
    pub(super) fn canonicalize(&mut self) {
        self.silent_at = self.silent_at.map(|_| 0);
        self.alive_until = 0;
        self.unacked = self.unacked.map(|(zxid, _)| (zxid, 0));
        self.unflushed = 0;
        self.pings.clear();
        self.pinged = 0;
        self.answered = 0;
        self.answers = false;
    }

    /// Whether an answer from the log on disk is awaited.
    pub(super) const fn reads(&self) -> bool {
        self.reading.is_some() || matches!(self.stage, Stage::Locating { .. })
    }

    pub(super) const fn sent(&self) -> Zxid {
        self.sent
    }

    pub(super) const fn acked(&self) -> Zxid {
        self.acked
    }

    pub(super) fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    pub(super) const fn has_acked_new_leader(&self) -> bool {
        matches!(self.stage, Stage::Acked { .. } | Stage::UpToDate)
    }

    /// Whether it is there: it was heard of in time, or takes a SNAP, during which it has nothing to say. As in Apache
    /// this does not ask for more than that: a voter that still synchronizes will be of use, and a new election would
    /// only make it begin again. Nothing is committed with it before it acknowledged NEWLEADER.
    pub(super) fn is_alive(&self, now: u64) -> bool {
        now <= self.alive_until || (self.flushing && self.transfer() == Some(Transfer::Snapshot))
    }

    /// Which synchronization is under way.
    pub(super) const fn transfer(&self) -> Option<Transfer> {
        match self.stage {
            Stage::Streaming { transfer, .. } => Some(transfer),
            Stage::Connected
            | Stage::Waiting
            | Stage::Offered
            | Stage::Promised { .. }
            | Stage::Locating { .. }
            | Stage::NewLeader { .. }
            | Stage::Acked { .. }
            | Stage::UpToDate => None,
        }
    }

    /// Anything came from it.
    pub(super) fn heard(&mut self, core: &Core, now: u64) {
        let (init, sync) = (core.ticks(core.config.init_limit), core.ticks(core.config.sync_limit));
        match self.stage {
            Stage::UpToDate => {
                self.alive_until = now + sync;
                self.silent_at = Some(now + sync);
            }
            Stage::NewLeader { .. } => {
                self.alive_until = now + init + sync;
                self.silent_at = Some(now + init);
            }
            Stage::Connected
            | Stage::Waiting
            | Stage::Offered
            | Stage::Promised { .. }
            | Stage::Locating { .. }
            | Stage::Streaming { .. }
            | Stage::Acked { .. } => self.alive_until = now + init + sync,
        }
    }

    /// Whether it is up to date, and anything came from it in the last so many milliseconds.
    pub(super) fn heard_within(&self, core: &Core, now: u64, ms: u64) -> bool {
        let sync = core.ticks(core.config.sync_limit);
        self.stage == Stage::UpToDate && now + sync <= self.alive_until + ms
    }

    pub(super) fn send(&mut self, link: LinkId, packet: LeaderPacket, out: &mut Outputs) {
        self.unflushed += packet_bytes(&packet);
        out.push(Output::SendLearner { link, packet });
    }

    /// Its history is ours up to `base`, and gets to be so up to `bound`.
    pub(super) fn begin(&mut self, base: Zxid, bound: Zxid, transfer: Transfer) {
        assert!(base <= bound, "a stream begins in our committed history");
        self.sent = base;
        self.committed = base;
        self.stage = Stage::Streaming { bound, transfer };
    }

    /// Sends nothing more before all of it left. A link that takes nothing until `by` is closed.
    pub(super) fn report_flush(&mut self, link: LinkId, by: Option<u64>, out: &mut Outputs) {
        self.flushing = true;
        if self.stage != Stage::UpToDate {
            self.silent_at = by;
        }
        out.push(Output::ReportFlush { link });
    }

    /// Whether everything up to `last` reached it as committed, and was handed to the system. Asks for a report if
    /// only that is missing.
    pub(super) fn is_drained(&mut self, link: LinkId, last: Zxid, out: &mut Outputs) -> bool {
        if self.stage != Stage::UpToDate || self.committed < last {
            return false;
        }
        if self.unflushed > 0 && !self.flushing {
            self.report_flush(link, None, out);
        }
        self.unflushed == 0
    }

    pub(super) fn flushed(&mut self) {
        if self.flushing {
            self.flushing = false;
            self.unflushed = 0;
            if matches!(self.stage, Stage::Streaming { .. } | Stage::Acked { .. }) {
                self.silent_at = None;
            }
        }
    }

    /// If this read is the one that was asked for, it is no longer awaited: how far it may reach. What it brings is
    /// sent with [`Self::send_read`].
    pub(super) fn takes(&mut self, read: ReadId) -> Option<Zxid> {
        self.reading.take_if(|reading| reading.read == read).map(|reading| reading.to)
    }

    /// Sends a committed transaction that was read from disk. False if it does not follow what was sent: then the
    /// log is not what it should be.
    pub(super) fn send_read(&mut self, link: LinkId, zxid: Zxid, txn: Bytes, to: Zxid, out: &mut Outputs) -> bool {
        let follows = zxid.follows(self.sent) && zxid <= to;
        if follows {
            self.send_committed(link, zxid, txn, out);
        }
        follows
    }

    /// ACK of NEWLEADER, or of UPTODATE. False if neither was sent.
    pub(super) fn ack_new_leader(&mut self) -> bool {
        match self.stage {
            Stage::NewLeader { bound } => {
                self.acked = self.acked.max(bound);
                self.stage = Stage::Acked { upto: None };
                self.silent_at = None;
                true
            }
            Stage::Acked { .. } => true,
            Stage::UpToDate => {
                self.answers = true;
                true
            }
            Stage::Connected
            | Stage::Waiting
            | Stage::Offered
            | Stage::Promised { .. }
            | Stage::Locating { .. }
            | Stage::Streaming { .. } => false,
        }
    }

    /// ACK of a proposal: it has everything up to there. False if it cannot have.
    pub(super) fn ack(&mut self, zxid: Zxid, now: u64) -> bool {
        match self.stage {
            Stage::NewLeader { .. } | Stage::Acked { .. } | Stage::UpToDate => {}
            Stage::Connected
            | Stage::Waiting
            | Stage::Offered
            | Stage::Promised { .. }
            | Stage::Locating { .. }
            | Stage::Streaming { .. } => return false,
        }
        if zxid > self.sent {
            return false;
        }
        self.acked = self.acked.max(zxid);
        if self.unacked.is_some_and(|(oldest, _)| oldest <= self.acked) {
            self.unacked = (self.sent > self.acked).then_some((self.sent, now));
        }
        true
    }

    /// Sends a ping, once the stream has begun. Behind UPTODATE its answer tells something.
    pub(super) fn ping(&mut self, link: LinkId, round: u64, zxid: Zxid, out: &mut Outputs) {
        match self.stage {
            Stage::NewLeader { .. } | Stage::Acked { .. } => {}
            Stage::UpToDate => {
                if self.pings.len() >= PINGS_UNANSWERED_MAX {
                    return;
                }
                self.pings.push_back(round);
                self.pinged = round;
            }
            Stage::Connected
            | Stage::Waiting
            | Stage::Offered
            | Stage::Promised { .. }
            | Stage::Locating { .. }
            | Stage::Streaming { .. } => return,
        }
        self.send(link, LeaderPacket::Ping { zxid: zxid.to_wire() }, out);
    }

    /// PING of a learner that is up to date. Answers to pings from before UPTODATE, which only some learners give,
    /// precede its acknowledgement.
    pub(super) fn ping_answered(&mut self) {
        if self.answers
            && let Some(round) = self.pings.pop_front()
        {
            self.answered = round;
        }
    }

    /// The oldest round of pings that it has not answered.
    pub(super) fn unanswered(&self) -> Option<u64> {
        self.pings.front().copied()
    }

    /// Whether it came too late for the ping of this round.
    pub(super) fn missed(&self, round: u64) -> bool {
        self.stage == Stage::UpToDate && self.pinged < round
    }

    /// Whether it still followed us after this round began, with `last` proposed.
    pub(super) fn confirms(&self, round: u64, last: Zxid) -> bool {
        let later = self.acked > last || farrier_proto::planted!(SyncConfirmedByOldAck) && self.acked == last;
        self.stage == Stage::UpToDate && (self.answered >= round || later)
    }

    /// A confirmed sync: SYNC goes behind the COMMIT of `target`. False if there are too many.
    pub(super) fn sync(&mut self, target: Zxid) -> bool {
        let fits = self.syncs.len() < SYNCS_PENDING_MAX;
        if fits {
            self.syncs.push_back(target);
        }
        fits
    }

    /// Answers REVALIDATE behind the COMMIT of `target`: at once if that was sent. False if too many wait.
    ///
    /// The answers leave in the order of the questions, since an observer master of Apache's looks only at the oldest that it
    /// passed on. None comes too late by that: what the others wait for was proposed before.
    pub(super) fn revalidated(
        &mut self,
        link: LinkId,
        target: Zxid,
        (session, valid): (SessionId, bool),
        out: &mut Outputs,
    ) -> bool {
        if self.revalidations.is_empty() && target <= self.committed {
            self.send(link, LeaderPacket::Revalidate { session, valid }, out);
            return true;
        }
        let fits = self.revalidations.len() < REVALIDATIONS_PENDING_MAX;
        if fits {
            self.revalidations.push_back((target, session, valid));
        }
        fits
    }

    /// Sends what it lacks, as far as the link takes it.
    pub(super) fn pump(&mut self, core: &mut Core, view: View, now: u64, link: LinkId, out: &mut Outputs) {
        while self.reading.is_none() && !self.flushing {
            if self.unflushed >= LINK_UNFLUSHED_MAX {
                self.report_flush(link, Some(now + core.ticks(core.config.init_limit)), out);
            } else if !self.send_next(core, view, now, link, out) {
                break;
            }
        }
    }

    /// One packet, one change of stage or one read. False if there is nothing to do.
    fn send_next(&mut self, core: &mut Core, view: View, now: u64, link: LinkId, out: &mut Outputs) -> bool {
        let delivered = core.history.delivered();
        match self.stage {
            Stage::Connected | Stage::Waiting | Stage::Offered | Stage::Promised { .. } | Stage::Locating { .. } => {
                false
            }
            Stage::Streaming { bound, transfer } => {
                if farrier_proto::planted!(NewLeaderBeforeHistory) {
                    (self.sent, self.committed) = (bound, bound);
                }
                if self.sent < bound {
                    return self.send_txn(core, view, now, bound, link, out);
                }
                // It took so long that what it lacks now is not in memory any more: still no time for NEWLEADER,
                // behind which a learner may have to keep everything in memory.
                if bound < core.history.floor() {
                    self.stage = Stage::Streaming { bound: delivered, transfer };
                    return true;
                }
                let zxid = Zxid::new(view.epoch, 0);
                self.send(link, LeaderPacket::NewLeader { zxid, config: core.newest().text().clone() }, out);
                self.stage = Stage::NewLeader { bound };
                let (init, sync) = (core.ticks(core.config.init_limit), core.ticks(core.config.sync_limit));
                self.silent_at = Some(now + init);
                self.alive_until = self.alive_until.max(now + init + sync);
                true
            }
            Stage::NewLeader { .. } => {
                self.send_commit(view, delivered, link, out) || self.send_live(core, view, now, link, out)
            }
            Stage::Acked { upto: None } => {
                if view.established {
                    self.stage = Stage::Acked { upto: Some(delivered) };
                }
                view.established
            }
            Stage::Acked { upto: Some(upto) } => {
                // Observers get nothing between NEWLEADER and UPTODATE.
                if self.observer || self.committed >= upto {
                    self.send(link, LeaderPacket::UpToDate, out);
                    self.stage = Stage::UpToDate;
                    self.heard(core, now);
                    self.unacked = (self.votes && self.sent > self.acked).then_some((self.sent, now));
                    return true;
                }
                self.send_commit(view, delivered, link, out) || self.send_live(core, view, now, link, out)
            }
            Stage::UpToDate => {
                let is_due =
                    |target: &mut Zxid| *target <= self.committed || farrier_proto::planted!(SyncOvertakesCommits);
                if self.syncs.pop_front_if(is_due).is_some() {
                    self.send(link, LeaderPacket::Sync, out);
                    return true;
                }
                let committed = self.committed;
                if let Some((_, session, valid)) = self.revalidations.pop_front_if(|(target, ..)| *target <= committed)
                {
                    self.send(link, LeaderPacket::Revalidate { session, valid }, out);
                    return true;
                }
                self.send_commit(view, delivered, link, out) || self.send_live(core, view, now, link, out)
            }
        }
    }

    /// COMMIT of the oldest proposal that was sent, if it is committed; where it stands for those before it, of the newest
    /// one that no SYNC and no answer to REVALIDATE has to precede. Behind NEWLEADER these are of our own epoch, and have no
    /// gaps.
    fn send_commit(&mut self, view: View, delivered: Zxid, link: LinkId, out: &mut Outputs) -> bool {
        let newest = self.sent.min(delivered);
        if self.committed >= newest {
            return false;
        }
        let zxid = if self.cumulative && farrier_proto::planted!(CommitOfWhatWasSent) {
            self.sent
        } else if self.cumulative {
            self.before_answers(newest)
        } else {
            let next = if self.committed.epoch() == view.epoch { self.committed.next() } else { None };
            next.unwrap_or_else(|| Zxid::new(view.epoch, 1))
        };
        assert!(zxid > self.committed && zxid <= self.sent, "{zxid} is committed and was sent");
        self.committed = zxid;
        if farrier_proto::planted!(CommitsWhileSyncingLost) && self.stage != Stage::UpToDate {
            return true;
        }
        self.send(link, LeaderPacket::Commit { zxid }, out);
        true
    }

    /// The newest up to `zxid` that no SYNC and no answer to REVALIDATE has to precede.
    fn before_answers(&self, zxid: Zxid) -> Zxid {
        let targets = self.syncs.front().into_iter().chain(self.revalidations.front().map(|(target, ..)| target));
        targets.fold(zxid, |zxid, target| zxid.min(*target))
    }

    /// PROPOSAL of what is proposed, INFORM of what is committed.
    fn send_live(&mut self, core: &mut Core, view: View, now: u64, link: LinkId, out: &mut Outputs) -> bool {
        if farrier_proto::planted!(ProposalsWhileSyncingLost) && self.stage != Stage::UpToDate {
            self.sent = self.sent.max(core.history.last());
            return false;
        }
        let to = match (self.observer, self.stage) {
            (false, _) => core.history.last(),
            (true, Stage::UpToDate) => core.history.delivered(),
            (true, _) => return false,
        };
        self.sent < to && self.send_txn(core, view, now, to, link, out)
    }

    /// The next transaction, which is not beyond `to`: from memory, or from disk.
    fn send_txn(&mut self, core: &mut Core, view: View, now: u64, to: Zxid, link: LinkId, out: &mut Outputs) -> bool {
        if self.sent < core.history.floor() {
            // A page is sent whole.
            let to = self.before_answers(to.min(core.history.floor()).min(view.durable));
            if to <= self.sent {
                return false;
            }
            let read = core.read_id();
            self.reading = Some(Reading { read, to });
            out.push(Output::ReadTxns { read, link, after: self.sent, to });
            return true;
        }
        let (zxid, txn) = core.history.after(self.sent).cloned().expect("there is a transaction behind what was sent");
        let committed = matches!(self.stage, Stage::Streaming { .. }) || self.observer;
        if committed {
            self.send_committed(link, zxid, txn, out);
        } else {
            self.sent = zxid;
            if self.votes && self.stage == Stage::UpToDate && self.unacked.is_none() {
                self.unacked = Some((zxid, now));
            }
            self.send(link, LeaderPacket::Proposal { zxid, txn }, out);
        }
        true
    }

    /// A committed transaction, all before it being sent as committed.
    fn send_committed(&mut self, link: LinkId, zxid: Zxid, txn: Bytes, out: &mut Outputs) {
        assert_eq!(self.sent, self.committed, "commits go out in the order of the history");
        self.sent = zxid;
        self.committed = zxid;
        if self.observer && self.stage == Stage::UpToDate {
            self.send(link, LeaderPacket::Inform { zxid, txn }, out);
        } else {
            self.send(link, LeaderPacket::Proposal { zxid, txn }, out);
            self.send(link, LeaderPacket::Commit { zxid }, out);
        }
    }
}
