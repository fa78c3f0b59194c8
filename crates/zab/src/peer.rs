//! One server: its roles, and the way from one to the next.
//!
//! Settling → Looking → Leading or Learning → Settling. A role is a type of its own and is consumed by the
//! transition, so that nothing stale leaks into the next. Settling waits until every write is durable and
//! delivers what is logged: a vote quotes only what is on disk, and the state equals the log.

mod canonical;
#[cfg(test)]
mod tests;

use crate::config::{Config, Durable, Ensemble};
use crate::core::{Core, Resign};
use crate::election::{self, Elected, Election};
use crate::history::History;
use crate::io::{Input, Level, LinkId, LinkKind, Output, Outputs, Role, ShownConfig, SyncTicket, WriteId};
use crate::leader::{HandOverRefused, Leader};
use crate::learner::Learner;
use crate::limits::EARLY_LINKS_MAX;
use bytes::Bytes;
use farrier_proto::quorum::{LearnerPacket, Notification, ServerState, Vote};
use farrier_proto::{ServerId, SessionId, Zxid};
use std::collections::VecDeque;

/// One server of an ensemble. See the crate's documentation for the contract.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    core: Core,
    state: State,
    /// Learners that dialled us while we look for a leader: we may become theirs.
    early: VecDeque<LinkId>,
    /// What they said already.
    early_packets: VecDeque<(LinkId, LearnerPacket)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Waiting for writes, and for the state to be that of the disk.
    Settling {
        reload: Option<WriteId>,
    },
    Looking(Box<Election>),
    Leading(Box<Leader>),
    Learning(Box<Learner>),
}

/// How far a role got.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Zab phase 0.
    Election,
    /// Zab phase 1.
    Discovery,
    /// Zab phase 2.
    Synchronization,
    /// Zab phase 3.
    Broadcast,
}

/// A learner, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LearnerStatus {
    /// Its link.
    pub link: LinkId,
    /// Who; negative if it did not say.
    pub server: ServerId,
    /// Whether it came as an observer.
    pub observer: bool,
    /// Whether it acknowledged NEWLEADER and was heard of within `syncLimit`.
    pub synced: bool,
    /// The last proposal that it acknowledged; of an observer, the last that it was sent.
    pub acked: Zxid,
}

/// What operators are shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Status {
    /// As notifications say it.
    pub state: ServerState,
    /// How far.
    pub phase: Phase,
    /// Who leads, once an election ended.
    pub leader: Option<ServerId>,
    /// The established epoch, in broadcast.
    pub epoch: Option<u32>,
    /// The last transaction handed to the log.
    pub last_logged: Zxid,
    /// The last transaction delivered.
    pub delivered: Zxid,
    /// Leader: its learners.
    pub learners: Vec<LearnerStatus>,
    /// Leader: syncs that wait for a quorum.
    pub pending_syncs: usize,
    /// Whether the server has no voice because it may have forgotten something.
    pub recovering: bool,
    /// Whether it hands its leadership over, or did a moment ago and nobody has it yet.
    pub handing_over: bool,
}

impl Peer {
    /// A server that just started. It does nothing before its first input. What is pending in `ensemble` is what
    /// [`Output::SavePending`] wrote last.
    #[must_use]
    pub fn new(config: Config, ensemble: Ensemble, durable: Durable) -> Self {
        Self {
            core: Core::new(config, ensemble, durable),
            state: State::Settling { reload: None },
            early: VecDeque::new(),
            early_packets: VecDeque::new(),
        }
    }

    /// The same, whose state shows this configuration: if it is newer than the one in force, it came with a
    /// reconfiguration that is in the log, or was there when the state was made, and nobody knows whether it is in force.
    #[must_use]
    pub fn over_state(mut self, config: Option<&ShownConfig>, out: &mut Outputs) -> Self {
        self.core.state_shows(config, out);
        self
    }

    /// Makes this server the leader, whatever the others say.
    #[cfg(test)]
    pub(crate) fn lead(&mut self, now: u64, out: &mut Outputs) {
        self.state = State::Leading(Box::new(Leader::start(&mut self.core, now, out)));
    }

    #[cfg(test)]
    pub(crate) const fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Takes one input, at `now` milliseconds of a clock that never goes back, and appends what follows from it.
    pub fn step(&mut self, now: u64, input: Input, out: &mut Outputs) {
        match input {
            Input::ElectionUp { peer } => {
                self.core.election_links.insert(peer);
            }
            Input::ElectionDown { peer } => {
                self.core.election_links.remove(&peer);
                self.miss_voter();
            }
            Input::Durable { id } => self.core.completed(id, true),
            Input::Reloaded { id, ref config, .. } => {
                self.core.completed(id, true);
                self.core.state_shows(config.as_ref(), out);
            }
            Input::Truncated { id, done, ref config } => {
                self.core.completed(id, done);
                if done {
                    self.core.state_shows(config.as_ref(), out);
                }
            }
            Input::LinkDown { link } => {
                self.early.retain(|l| *l != link);
                self.early_packets.retain(|(l, _)| *l != link);
            }
            Input::Notification { .. }
            | Input::LinkUp { .. }
            | Input::DialFailed { .. }
            | Input::LearnerPacket { .. }
            | Input::LeaderPacket { .. }
            | Input::SnapProgress { .. }
            | Input::SnapReceived { .. }
            | Input::Flushed { .. }
            | Input::Located { .. }
            | Input::TxnsRead { .. }
            | Input::Timer => {}
        }
        let result = match (&mut self.state, input) {
            (State::Settling { reload }, Input::Reloaded { id, last, config: _ }) if *reload == Some(id) => {
                *reload = None;
                self.core.diverged = false;
                self.core.history = History::new(last);
                Ok(None)
            }
            (State::Looking(_), Input::Notification { from, notification })
                if adopts(&mut self.core, from, &notification, out) =>
            {
                self.state = State::Settling { reload: None };
                Ok(None)
            }
            (State::Looking(election), Input::Notification { from, notification }) => {
                Ok(election.notification(&mut self.core, now, from, notification, out))
            }
            (State::Looking(election), Input::ElectionUp { .. } | Input::ElectionDown { .. }) => {
                Ok(election.links_changed(&mut self.core, now, out))
            }
            (State::Looking(election), Input::Timer) => Ok(election.timer(&mut self.core, now, out)),
            (State::Settling { .. } | State::Looking(_), Input::LinkUp { link, kind: LinkKind::Learner }) => {
                self.early_link(link, out);
                Ok(None)
            }
            // Dialled for a role that ended since.
            (State::Settling { .. } | State::Looking(_), Input::LinkUp { link, kind: LinkKind::Leader(_) }) => {
                out.push(Output::CloseLink { link, reason: "nobody waits for this connection".into() });
                Ok(None)
            }
            (State::Settling { .. } | State::Looking(_), Input::LearnerPacket { link, packet }) => {
                self.early_packet(link, packet, out);
                Ok(None)
            }
            // Nobody is led or followed. What the core has to know of it, it knows.
            (
                State::Settling { .. },
                Input::Notification { .. } | Input::ElectionUp { .. } | Input::ElectionDown { .. } | Input::Timer,
            )
            | (
                State::Settling { .. } | State::Looking(_),
                Input::DialFailed { .. }
                | Input::LinkDown { .. }
                | Input::LeaderPacket { .. }
                | Input::SnapProgress { .. }
                | Input::SnapReceived { .. }
                | Input::Flushed { .. }
                | Input::Located { .. }
                | Input::TxnsRead { .. }
                | Input::Durable { .. }
                | Input::Truncated { .. }
                | Input::Reloaded { .. },
            ) => Ok(None),
            (State::Leading(_), Input::Notification { from, notification }) => {
                election::answer(&self.core, ServerState::Leading, from, &notification, out);
                Ok(None)
            }
            (State::Learning(learner), Input::Notification { from, notification }) => {
                let server_state = learning_state(&self.core);
                election::answer(&self.core, server_state, from, &notification, out);
                learner.notification(&mut self.core, from, &notification, out).map(|()| None)
            }
            (State::Leading(leader), input) => leader.step(&mut self.core, now, input, out).map(|()| None),
            (State::Learning(_), Input::LinkUp { link, kind: LinkKind::Learner }) => {
                out.push(Output::CloseLink { link, reason: "this server does not lead".into() });
                Ok(None)
            }
            (State::Learning(learner), input) => learner.step(&mut self.core, now, input, out).map(|()| None),
        };
        match result {
            Ok(None) => {}
            Ok(Some(elected)) => self.take_role(now, elected, out),
            Err(resign) => self.resign(now, resign, out),
        }
        self.forget_early(out);
        self.end_silence(now);
        self.settle(now, out);
    }

    /// The transactions that are logged, or about to be, and not delivered yet, in their order.
    pub fn undelivered(&self) -> impl Iterator<Item = &Bytes> {
        self.core.history.undelivered()
    }

    /// When [`Input::Timer`] is wanted next. In the past if it is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        match &self.state {
            State::Settling { .. } => None,
            State::Looking(election) => election.next_deadline().into_iter().chain(self.core.silent_until).min(),
            State::Leading(leader) => leader.next_deadline(),
            State::Learning(learner) => learner.next_deadline(),
        }
    }

    /// The zxid of the next proposal. `None` unless this server leads an established epoch, or if the epoch's
    /// numbers are used up: then nothing is proposed any more, and the leadership ends.
    #[must_use]
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.state {
            State::Leading(leader) => leader.next_zxid(&self.core),
            State::Settling { .. } | State::Looking(_) | State::Learning(_) => None,
        }
    }

    /// Proposes a transaction.
    ///
    /// # Panics
    /// When `zxid` is not [`Self::next_zxid`].
    pub fn propose(&mut self, now: u64, zxid: Zxid, txn: Bytes, out: &mut Outputs) {
        assert_eq!(self.next_zxid(), Some(zxid), "a proposal has the zxid that was lent");
        if let State::Leading(leader) = &mut self.state {
            leader.propose(&mut self.core, now, zxid, txn, out);
        }
    }

    /// Asks for a sync of one of this leader's own clients; answered by [`Output::Synced`]. False unless this
    /// server leads an established epoch.
    pub fn sync(&mut self, now: u64, ticket: SyncTicket, out: &mut Outputs) -> bool {
        let State::Leading(leader) = &mut self.state else { return false };
        leader.sync_local(&mut self.core, now, ticket, out)
    }

    /// Asks for a sync on behalf of a learner, which gets SYNC in its turn.
    pub fn sync_learner(&mut self, now: u64, link: LinkId, out: &mut Outputs) {
        if let State::Leading(leader) = &mut self.state {
            leader.sync_learner(&mut self.core, now, link, out);
        }
    }

    /// Answers a learner's REVALIDATE, once the learner has everything up to `after` as committed, and all that is
    /// committed by now.
    pub fn answer_revalidate(
        &mut self,
        now: u64,
        link: LinkId,
        session: SessionId,
        valid: bool,
        after: Zxid,
        out: &mut Outputs,
    ) {
        if let State::Leading(leader) = &mut self.state {
            leader.answer_revalidate(&mut self.core, now, link, (session, valid), after, out);
        }
    }

    /// Answers the leader's PING with the sessions heard of since the last one.
    pub fn answer_ping(&mut self, zxid: i64, touched: Vec<(SessionId, i32)>, out: &mut Outputs) {
        self.send_leader(LearnerPacket::Ping { zxid, touched }, out);
    }

    /// Sends a REQUEST or REVALIDATE to the leader. False unless this server serves as a learner.
    pub fn send_leader(&mut self, packet: LearnerPacket, out: &mut Outputs) -> bool {
        let State::Learning(learner) = &self.state else { return false };
        learner.send(packet, out)
    }

    /// Learner: whether the leader and this server take one ACK, and one COMMIT, for a run of proposals
    /// ([`farrier_proto::quorum::CUMULATIVE_TAG`]), which no server of Apache's does.
    #[must_use]
    pub fn leader_is_cumulative(&self) -> bool {
        match &self.state {
            State::Learning(learner) => learner.leader_is_cumulative(),
            State::Settling { .. } | State::Looking(_) | State::Leading(_) => false,
        }
    }

    /// Leader: number of the last round of pings, and of the last round that every learner still there answered; 0
    /// for anybody else. After a pause a leader waits until a round that began behind it is answered before it
    /// expires a session (what touches it may still be in the sockets).
    #[must_use]
    pub fn ping_rounds(&self) -> (u64, u64) {
        match &self.state {
            State::Leading(leader) => leader.ping_rounds(),
            State::Settling { .. } | State::Looking(_) | State::Learning(_) => (0, 0),
        }
    }

    /// The state is not the one that the log makes (safety contract 7): when this role ends it is loaded again from
    /// disk.
    pub const fn state_diverged(&mut self) {
        self.core.diverged = true;
    }

    /// It is the right one after all: nothing becomes of what was asked for.
    pub fn state_agrees(&mut self) {
        self.core.diverged = false;
        match &mut self.state {
            State::Learning(learner) => learner.keep_state(),
            State::Settling { .. } | State::Looking(_) | State::Leading(_) => {}
        }
    }

    /// Asks the leader for its whole state: leaves it to come again without a history, as soon as a quorum is known to
    /// follow it without this server. False unless this server is an up-to-date learner.
    pub fn ask_for_state(&mut self, now: u64) -> bool {
        match &mut self.state {
            State::Learning(learner) => learner.ask_for_state(&self.core, now),
            State::Settling { .. } | State::Looking(_) | State::Leading(_) => false,
        }
    }

    /// Whether [`Self::hand_over`] would begin.
    ///
    /// # Errors
    /// Why it would not.
    pub fn may_hand_over(&self, now: u64) -> Result<(), HandOverRefused> {
        match &self.state {
            State::Leading(leader) => leader.may_hand_over(&self.core, now),
            State::Settling { .. } | State::Looking(_) | State::Learning(_) => {
                Err(HandOverRefused::NotLeading { leader: self.status().leader })
            }
        }
    }

    /// Lets another server lead (safety contract 8): from now on there is no [`Self::next_zxid`], and once enough of
    /// the others have everything, the role ends.
    ///
    /// # Errors
    /// Why it does not begin; then nothing changed.
    pub fn hand_over(&mut self, now: u64, out: &mut Outputs) -> Result<(), HandOverRefused> {
        self.may_hand_over(now)?;
        let State::Leading(leader) = &mut self.state else { return Ok(()) };
        leader.hand_over(&self.core, now, out)?;
        if let Err(resign) = leader.advance(&mut self.core, now, out) {
            self.resign(now, resign, out);
        }
        Ok(())
    }

    /// Whether this server leads still and hands that over.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        match &self.state {
            State::Leading(leader) => leader.is_handing_over(),
            State::Settling { .. } | State::Looking(_) | State::Learning(_) => false,
        }
    }

    /// Who the members are.
    #[must_use]
    pub const fn ensemble(&self) -> &Ensemble {
        &self.core.ensemble
    }

    /// What operators are shown.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status {
            state: self.state.server_state(&self.core),
            phase: Phase::Election,
            leader: None,
            epoch: None,
            last_logged: self.core.history.last(),
            delivered: self.core.history.delivered(),
            learners: Vec::new(),
            pending_syncs: 0,
            recovering: self.core.recovering.is_voiceless(),
            handing_over: self.core.silent_until.is_some() || self.is_handing_over(),
        };
        match &self.state {
            State::Settling { .. } | State::Looking(_) => {}
            State::Leading(leader) => leader.describe(&self.core, &mut status),
            State::Learning(learner) => learner.describe(&mut status),
        }
        status
    }

    /// Behind a hand-over: if those that can be heard could not elect a leader without this server, it must not
    /// keep silent.
    fn miss_voter(&mut self) {
        let core = &mut self.core;
        let me = core.me();
        let others = core.election_links.iter().copied().filter(|s| *s != me && core.ensemble.is_voter(*s)).collect();
        if core.silent_until.is_some() && !core.ensemble.is_quorum(&others) {
            core.silent_until = Some(0);
        }
    }

    /// Behind a hand-over: once another server leads, or that took too long, this one has a voice again.
    fn end_silence(&mut self, now: u64) {
        let Some(until) = self.core.silent_until else { return };
        match &self.state {
            State::Learning(learner) if learner.is_in_broadcast() => self.core.silent_until = None,
            State::Looking(_) | State::Settling { .. } if until <= now => {
                self.core.silent_until = None;
                if matches!(self.state, State::Looking(_)) {
                    self.state = State::Settling { reload: None };
                }
            }
            State::Looking(_) | State::Settling { .. } | State::Learning(_) | State::Leading(_) => {}
        }
    }

    fn early_link(&mut self, link: LinkId, out: &mut Outputs) {
        if self.early.len() >= EARLY_LINKS_MAX {
            out.push(Output::CloseLink { link, reason: "too many servers wait for a leader here".into() });
        } else {
            self.early.push_back(link);
        }
    }

    /// A learner says who it is, and nothing more before it is answered.
    fn early_packet(&mut self, link: LinkId, packet: LearnerPacket, out: &mut Outputs) {
        if !self.early.contains(&link) {
            return;
        }
        if self.early_packets.iter().any(|(l, _)| *l == link) {
            self.early.retain(|l| *l != link);
            self.early_packets.retain(|(l, _)| *l != link);
            out.push(Output::CloseLink { link, reason: "PeerViolation: a second packet before LEADERINFO".into() });
            return;
        }
        self.early_packets.push_back((link, packet));
    }

    /// Early links are of use to a leader only.
    fn forget_early(&mut self, out: &mut Outputs) {
        if matches!(self.state, State::Learning(_)) {
            self.early_packets.clear();
            for link in self.early.drain(..) {
                out.push(Output::CloseLink { link, reason: "this server does not lead".into() });
            }
        }
    }

    fn take_role(&mut self, now: u64, elected: Elected, out: &mut Outputs) {
        self.core.passed_over = false;
        self.core.round = elected.round;
        self.core.vote = elected.vote;
        let leader = elected.vote.leader;
        if leader != self.core.me() {
            self.state = State::Learning(Box::new(Learner::start(&mut self.core, now, leader, out)));
            return;
        }
        self.state = State::Leading(Box::new(Leader::start(&mut self.core, now, out)));
        for link in std::mem::take(&mut self.early) {
            self.step(now, Input::LinkUp { link, kind: LinkKind::Learner }, out);
        }
        for (link, packet) in std::mem::take(&mut self.early_packets) {
            self.step(now, Input::LearnerPacket { link, packet }, out);
        }
    }

    fn resign(&mut self, now: u64, resign: Resign, out: &mut Outputs) {
        out.note(resign.level, resign.reason);
        let uninstalled = match &mut self.state {
            State::Settling { .. } | State::Looking(_) => false,
            State::Leading(leader) => {
                leader.close_links(out);
                false
            }
            State::Learning(learner) => {
                learner.close_link(out);
                self.core.passed_over = learner.is_passed_over(&self.core);
                learner.has_uninstalled_snapshot() && !farrier_proto::planted!(UninstalledStateKept)
            }
        };
        let reload = (uninstalled || self.core.diverged).then(|| self.core.write_id());
        if resign.hands_over {
            self.core.silent_until = Some(now + self.core.ticks(self.core.config.init_limit));
        }
        out.push(Output::Role(Role::Looking));
        if let Some(id) = reload {
            out.push(Output::Reload { id });
        }
        self.state = State::Settling { reload };
        self.settle(now, out);
    }

    /// Begins an election once everything is on disk and in the state.
    fn settle(&mut self, now: u64, out: &mut Outputs) {
        if let State::Settling { reload: None } = self.state
            && self.core.is_settled()
        {
            if farrier_proto::planted!(LoggedTailNotReplayed) {
                self.core.history.truncate(self.core.history.delivered());
            }
            let last = self.core.history.last();
            self.core.deliver(last, out);
            if let Some(leader) = self.core.designated.take()
                && (leader != self.core.me() || self.core.may_vote())
            {
                let peer_epoch = i64::from(self.core.current.0);
                let vote = Vote { leader, zxid: last.to_wire(), peer_epoch };
                let round = self.core.round;
                return self.take_role(now, Elected { vote, round }, out);
            }
            let mut election = Box::new(Election::new(&self.core));
            let elected = election.start(&mut self.core, now, out);
            self.state = State::Looking(election);
            if let Some(elected) = elected {
                self.take_role(now, elected, out);
            }
        }
    }
}

/// Whether somebody has a newer configuration in force than this server, which looks for a leader. Then it is in
/// force here too, and the election begins anew.
///
/// The sender need not be a member: as for Apache's servers (`FastLeaderElection.WorkerReceiver`, before it asks for a
/// valid voter). Where the old members are gone, the new ones are all that is left to tell, and one that went may tell
/// as well. What is in force was acknowledged by a quorum of what was before, so that a newer version is never another
/// branch.
fn adopts(core: &mut Core, from: ServerId, notification: &Notification, out: &mut Outputs) -> bool {
    let Some(text) = &notification.config else { return false };
    let before = core.ensemble.version();
    if let Err(why) = core.activate(text, None, None, out) {
        out.note(Level::Warn, format!("the configuration of server {from} cannot be read: {why}"));
    }
    core.ensemble.version() > before
}

impl State {
    fn server_state(&self, core: &Core) -> ServerState {
        match self {
            Self::Settling { .. } | Self::Looking(_) => ServerState::Looking,
            Self::Leading(_) => ServerState::Leading,
            Self::Learning(_) => learning_state(core),
        }
    }
}

fn learning_state(core: &Core) -> ServerState {
    if core.ensemble.is_observer(core.me()) { ServerState::Observing } else { ServerState::Following }
}

impl Resign {
    /// The link to the leader, or the quorum, is gone.
    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::new(Level::Warn, reason)
    }
}
