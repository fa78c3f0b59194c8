//! The leader: discovery, synchronization of learners, broadcast.
//!
//! It goes through the phases of Zab in order, each behind a quorum: it chooses an epoch above all that were
//! promised, makes sure that nobody of a quorum has a fresher history, gives that history to the learners,
//! and only when a quorum has it durably does it propose anything. It never announces a commit without a
//! quorum of durable copies, and it owns no copy of the history: what a learner still lacks is a position in it.

mod broadcast;
mod canonical;
mod confirm;
mod discovery;
mod hand_over;
mod liveness;
mod reconfiguration;
mod stream;
mod sync;
#[cfg(test)]
mod tests;

use crate::core::{Core, Resign};
use crate::io::{Input, Level, LinkId, LinkKind, Output, Outputs, Role, WriteId};
use crate::limits::{EARLY_LINKS_MAX, LEARNERS_MAX};
use crate::peer::{LearnerStatus, Phase, Status};
use confirm::Confirmations;
use farrier_proto::quorum::LearnerPacket;
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId, SessionId, Zxid};
pub use hand_over::HandOverRefused;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use stream::{Learner, Stage, View};

/// A server that was elected.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    progress: Progress,
    /// The epoch of this leadership; 0 until it is chosen.
    epoch: u32,
    /// How far this server was when it was elected.
    elected: (CurrentEpoch, Zxid),
    /// Voters heard before the epoch was chosen, this server included.
    heard: BTreeSet<ServerId>,
    /// The highest epoch that any of the learners heard until then had promised; once established, any voter.
    highest: AcceptedEpoch,
    /// Voters that promised the epoch from an older one. Their promise outlives their links: when they come
    /// again, they only say that it was given.
    promised: BTreeSet<ServerId>,
    learners: BTreeMap<LinkId, Learner>,
    /// The last id given to a learner that has none.
    anonymous: i64,
    /// Servers that could not be given a difference, since the log could not be read.
    want_snapshot: BTreeSet<ServerId>,
    /// Proposals whose own copy is not durable yet.
    writes: VecDeque<(WriteId, Zxid)>,
    /// What this server's own log has durably.
    durable: Zxid,
    confirmations: Confirmations,
    /// Number of the last round of pings.
    pinged: u64,
    /// When the wait for the quorum of this phase is given up.
    wait_until: u64,
    next_timer: u64,
    half_ticks: u64,
    /// After a pause nobody is given up before this.
    grace_until: u64,
    warned_of_rollover: bool,
    /// This leadership is being handed over, and given up then in any case.
    handing_over: Option<u64>,
    /// Because a configuration came into force in which this server does not lead.
    retiring: bool,
}

/// What a quorum is awaited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Progress {
    /// To say what it promised before.
    Choosing,
    /// For nothing: this server's own promise is being written.
    Promising,
    /// To promise the epoch.
    Gathering,
    /// To acknowledge NEWLEADER.
    Synchronizing,
    /// For each proposal.
    Broadcasting,
}

impl Leader {
    pub(crate) fn start(core: &mut Core, now: u64, out: &mut Outputs) -> Self {
        let last = core.history.last();
        let mut leader = Self {
            progress: Progress::Choosing,
            epoch: 0,
            elected: (core.current, last),
            heard: BTreeSet::from([core.me()]),
            highest: core.accepted,
            promised: BTreeSet::new(),
            learners: BTreeMap::new(),
            anonymous: 0,
            want_snapshot: BTreeSet::new(),
            writes: VecDeque::new(),
            durable: last,
            confirmations: Confirmations::default(),
            pinged: 0,
            wait_until: now + core.ticks(core.config.init_limit),
            next_timer: now + half_tick(core),
            half_ticks: 0,
            grace_until: 0,
            warned_of_rollover: false,
            handing_over: None,
            retiring: false,
        };
        out.note(Level::Info, format!("leading; the history ends at {last}"));
        if core.ensemble.is_quorum(&leader.heard) {
            // If no epoch is left, the first step says so again, and ends this.
            let _ = leader.choose_epoch(core, now, out);
        }
        leader
    }

    pub(crate) fn step(&mut self, core: &mut Core, now: u64, input: Input, out: &mut Outputs) -> Result<(), Resign> {
        match input {
            Input::LinkUp { link, kind: LinkKind::Learner } => self.link_up(core, now, link, out),
            Input::LinkUp { link, kind: LinkKind::Leader(_) } => {
                out.push(Output::CloseLink { link, reason: "this server leads by now".into() });
            }
            Input::LinkDown { link } => self.forget(link, out),
            Input::LearnerPacket { link, packet } => self.packet(core, now, link, packet, out)?,
            Input::Flushed { link } => {
                if let Some(learner) = self.learners.get_mut(&link) {
                    learner.flushed();
                    self.pump(core, now, link, out);
                }
            }
            Input::Located { read, link, located } => self.located(core, now, link, read, located, out),
            Input::TxnsRead { read, link, txns } => self.txns_read(core, now, link, read, txns, out),
            Input::Durable { id } => self.own_writes(core, now, id, out),
            Input::Timer => self.timer(core, now, out)?,
            // A leader neither dials nor truncates nor reloads: what still comes of that is of an earlier role.
            // Election links are the business of the core.
            Input::ElectionUp { .. }
            | Input::ElectionDown { .. }
            | Input::Notification { .. }
            | Input::DialFailed { .. }
            | Input::LeaderPacket { .. }
            | Input::SnapProgress { .. }
            | Input::SnapReceived { .. }
            | Input::Truncated { .. }
            | Input::Reloaded { .. } => {}
        }
        self.advance(core, now, out)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        Some(self.handing_over.map_or(self.next_timer, |until| until.min(self.next_timer)))
    }

    /// Answers REVALIDATE behind the COMMIT of `after`, and of what is committed by now: whatever of this could be taken for the
    /// answer to a request of the session's next connection is applied there before that is served. Apache's leaders have one
    /// queue for all that a learner gets.
    pub(crate) fn answer_revalidate(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        answer: (SessionId, bool),
        after: Zxid,
        out: &mut Outputs,
    ) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if learner.revalidated(link, after.max(core.history.delivered()), answer, out) {
            self.pump(core, now, link, out);
        } else {
            self.close(link, "too many sessions wait for an answer", out);
        }
    }

    pub(crate) fn describe(&self, core: &Core, status: &mut Status) {
        status.phase = match self.progress {
            Progress::Choosing | Progress::Promising | Progress::Gathering => Phase::Discovery,
            Progress::Synchronizing => Phase::Synchronization,
            Progress::Broadcasting => Phase::Broadcast,
        };
        status.leader = Some(core.me());
        status.epoch = self.established().then_some(self.epoch);
        status.learners = self
            .learners
            .iter()
            .map(|(link, learner)| LearnerStatus {
                link: *link,
                server: learner.server,
                observer: learner.observer,
                synced: learner.has_acked_new_leader(),
                acked: if learner.observer { learner.sent() } else { learner.acked() },
            })
            .collect();
        status.pending_syncs =
            self.confirmations.len() + self.learners.values().map(Learner::pending_syncs).sum::<usize>();
    }

    /// The end of this leadership.
    pub(crate) fn close_links(&mut self, out: &mut Outputs) {
        while let Some(link) = self.learners.keys().next().copied() {
            self.close(link, "this server leads no more", out);
        }
    }

    /// Number of the last round of pings, and of the last one that every learner still there answered.
    pub(crate) fn ping_rounds(&self) -> (u64, u64) {
        let answered = self.learners.values().filter_map(Learner::unanswered).min().map_or(self.pinged, |r| r - 1);
        (self.pinged, answered)
    }

    fn established(&self) -> bool {
        self.progress == Progress::Broadcasting
    }

    /// Goes on to the next phase when the quorum for it is there.
    pub(crate) fn advance(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        if self.progress == Progress::Choosing && core.ensemble.is_quorum(&self.heard) {
            self.choose_epoch(core, now, out)?;
        }
        if self.progress == Progress::Promising
            && (core.accepted.0 == self.epoch || farrier_proto::planted!(OfferBeforeOwnPromise))
        {
            self.offer_epoch(core, now, out);
        }
        if self.progress == Progress::Gathering && core.ensemble.is_quorum(&self.promised) {
            self.begin_synchronization(core, now, out);
        }
        if self.progress == Progress::Synchronizing
            && (core.current.0 == self.epoch || farrier_proto::planted!(EstablishedBeforeOwnEpoch))
        {
            let mut acked: BTreeSet<_> = self.voters().filter(|l| l.has_acked_new_leader()).map(|l| l.server).collect();
            acked.insert(core.me());
            if core.ensemble.is_quorum(&acked) || farrier_proto::planted!(EstablishedOnPromises) {
                self.establish(core, now, out);
            }
        }
        if self.established() {
            // In this order: a SYNC goes before the COMMIT of anything proposed later.
            self.confirm(core, now, out);
            self.commit(core, now, out);
            self.confirm_own(core, out);
            if self.is_used_up(core)
                && !self.is_handing_over()
                && self.hand_over(core, now, out).is_err()
                && core.history.delivered() == core.history.last()
            {
                return Err(Resign::new(
                    Level::Warn,
                    "the epoch's transaction numbers are used up: a new one is needed",
                ));
            }
            self.finish_hand_over(core, now, out)?;
        }
        Ok(())
    }

    /// A quorum has the initial history: it is committed, and the epoch is this server's.
    fn establish(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        assert_eq!(core.history.delivered(), core.history.last(), "the initial history is delivered");
        self.progress = Progress::Broadcasting;
        core.vote.peer_epoch = i64::from(self.epoch);
        out.note(Level::Info, format!("leading epoch {} behind {}", self.epoch, core.history.last()));
        self.complete_reconfiguration(core, now, out);
        out.push(Output::Role(Role::Leading { epoch: self.epoch }));
        self.pump_all(core, now, out);
    }

    fn link_up(&mut self, core: &Core, now: u64, link: LinkId, out: &mut Outputs) {
        let nameless = self.learners.values().filter(|l| l.stage == Stage::Connected).count();
        if nameless >= EARLY_LINKS_MAX || self.learners.len() >= LEARNERS_MAX {
            out.push(Output::CloseLink { link, reason: "this leader has too many learners".into() });
            return;
        }
        let init = core.ticks(core.config.init_limit);
        self.anonymous -= 1;
        self.learners.insert(link, Learner::new(ServerId(self.anonymous), now + init));
    }

    fn packet(
        &mut self,
        core: &mut Core,
        now: u64,
        link: LinkId,
        packet: LearnerPacket,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        let Some(learner) = self.learners.get_mut(&link) else { return Ok(()) };
        learner.heard(core, now);
        let (server, stage) = (learner.server, learner.stage);
        match packet {
            LearnerPacket::FollowerInfo { accepted, info } => self.info(core, now, link, accepted, info, false, out),
            LearnerPacket::ObserverInfo { accepted, info } => self.info(core, now, link, accepted, info, true, out),
            LearnerPacket::AckEpoch { last_logged, current } => {
                return self.ack_epoch(core, now, link, last_logged, current, out);
            }
            LearnerPacket::Ack { zxid } => self.ack(core, now, link, zxid, out),
            LearnerPacket::Ping { .. } => match stage {
                Stage::Connected | Stage::Waiting | Stage::Offered => {
                    self.close(link, "PeerViolation: PING before the epoch was promised", out);
                }
                // Of learners that answer before UPTODATE; others do not, so that it cannot be counted.
                Stage::Promised { .. }
                | Stage::Locating { .. }
                | Stage::Streaming { .. }
                | Stage::NewLeader { .. }
                | Stage::Acked { .. } => {}
                Stage::UpToDate => {
                    learner.ping_answered();
                    out.push(Output::FromLearner { link, server, packet });
                }
            },
            LearnerPacket::Revalidate { .. } | LearnerPacket::Request(_) => {
                if stage == Stage::UpToDate {
                    out.push(Output::FromLearner { link, server, packet });
                } else {
                    self.close(link, "PeerViolation: a request before UPTODATE", out);
                }
            }
        }
        Ok(())
    }

    /// Learners that vote.
    fn voters(&self) -> impl Iterator<Item = &Learner> {
        self.learners.values().filter(|l| l.votes || farrier_proto::planted!(ObserversCount))
    }

    fn close(&mut self, link: LinkId, reason: impl Into<String>, out: &mut Outputs) {
        out.push(Output::CloseLink { link, reason: reason.into() });
        self.forget(link, out);
    }

    fn forget(&mut self, link: LinkId, out: &mut Outputs) {
        if let Some(learner) = self.learners.remove(&link)
            && learner.stage == Stage::UpToDate
        {
            self.confirmations.forget(link);
            out.push(Output::LearnerGone { link });
        }
    }

    fn view(&self) -> View {
        View { epoch: self.epoch, established: self.established(), durable: self.durable }
    }

    /// Sends a learner what it lacks, as far as its link takes it.
    fn pump(&mut self, core: &mut Core, now: u64, link: LinkId, out: &mut Outputs) {
        let view = self.view();
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.pump(core, view, now, link, out);
        }
    }

    fn pump_all(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        let view = self.view();
        for (link, learner) in &mut self.learners {
            learner.pump(core, view, now, *link, out);
        }
    }
}

/// Half a tick, as pings go.
fn half_tick(core: &Core) -> u64 {
    (core.config.tick_time / 2).max(1)
}
