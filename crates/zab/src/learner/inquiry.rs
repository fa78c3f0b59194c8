//! Whether a quorum follows the leader without this server, which wants to leave it for a moment.
//!
//! Servers that have a leader name it, and its epoch, to whoever looks for one and has no voice. The protocol has no
//! other word by which a learner could ask that.

use super::{Learner, Stage};
use crate::core::{Core, Resign};
use crate::election;
use crate::io::{Level, Outputs};
use farrier_proto::ServerId;
use farrier_proto::quorum::{Notification, ServerState};
use std::collections::BTreeSet;

/// Who follows the leader, this server left out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Inquiry {
    following: BTreeSet<ServerId>,
    /// When the others are asked, for the first time or again.
    pub(super) ask_at: u64,
}

impl Learner {
    /// This server's state is not the leader's: it leaves to get that, as soon as a quorum stays without it. False
    /// unless it is up to date.
    pub(crate) fn ask_for_state(&mut self, core: &Core, now: u64) -> bool {
        if !self.is_in_broadcast() {
            return false;
        }
        // If the state went wrong on several servers, it did so with the same transaction. They take turns: one has
        // initLimit to come back.
        let others = core.ensemble.voters().iter().filter(|s| **s != self.leader);
        let turn = others.take_while(|s| **s != core.me()).count() as u64;
        let turn = if core.ensemble.is_voter(core.me()) { turn } else { 0 };
        let ask_at = now + turn * core.ticks(core.config.init_limit);
        self.inquiry = Some(Inquiry { following: BTreeSet::new(), ask_at });
        true
    }

    /// The state is the leader's after all.
    pub(crate) fn keep_state(&mut self) {
        self.inquiry = None;
    }

    /// Asks when it is time to. A server without a vote is missed by nobody.
    pub(super) fn inquire(&mut self, core: &mut Core, now: u64, out: &mut Outputs) -> Result<(), Resign> {
        let Some(inquiry) = &mut self.inquiry else { return Ok(()) };
        if now < inquiry.ask_at {
            return Ok(());
        }
        if !core.ensemble.is_voter(core.me()) {
            return Err(self.leave_for_state(core));
        }
        inquiry.ask_at = now + core.ticks(1);
        inquiry.following.clear();
        election::inquire(core, out);
        Ok(())
    }

    /// A voter says whom it follows, or that it looks for somebody.
    pub(crate) fn notification(
        &mut self,
        core: &mut Core,
        from: ServerId,
        n: &Notification,
        out: &mut Outputs,
    ) -> Result<(), Resign> {
        let has_leader = matches!(n.state, ServerState::Following | ServerState::Leading);
        // Who has this very leader may have it since a moment ago.
        let ours = has_leader && n.vote.leader == self.leader;
        if n.vote.peer_epoch > 0 && !ours && core.ensemble.is_voter(from) && from != core.me() {
            core.learn_of_history(format_args!("server {from} knows epoch {}", n.vote.peer_epoch), out)?;
        }
        self.elected_leads(core, from, n)?;
        let Stage::Broadcast(broadcast) = &self.stage else { return Ok(()) };
        let Some(inquiry) = &mut self.inquiry else { return Ok(()) };
        let follows = match n.state {
            ServerState::Following | ServerState::Leading => {
                n.vote.leader == self.leader && n.vote.peer_epoch == i64::from(broadcast.epoch())
            }
            ServerState::Looking | ServerState::Observing => false,
        };
        if !follows || from == core.me() {
            return Ok(());
        }
        inquiry.following.insert(from);
        if core.ensemble.is_quorum(&inquiry.following) { Err(self.leave_for_state(core)) } else { Ok(()) }
    }

    /// Whether the server that was elected says otherwise while it is dialled. Who heard fewer servers elects earlier: in
    /// an ensemble that starts, a better vote may come to the elected one itself in the 200 ms that Apache's servers give
    /// it (`FastLeaderElection.finalizeWait`). It tells, and accepts nobody: dialling it for initLimit would leave this
    /// server out of the election, or of the ensemble.
    fn elected_leads(&self, core: &mut Core, from: ServerId, n: &Notification) -> Result<(), Resign> {
        // Of an earlier round it may be what a new link repeats.
        if from != self.leader || n.round < core.round || !matches!(self.stage, Stage::Connecting(_)) {
            return Ok(());
        }
        let other = core.ensemble.is_voter(n.vote.leader) && n.vote.leader != from;
        let anew = n.state == ServerState::Looking && n.round > core.round;
        if anew {
            // What stood between the two ended with its term, and it may begin the next one for this server's sake.
            core.setback = None;
        }
        let (gone, does) = match n.state {
            ServerState::Looking => (other || anew, "looks for a leader"),
            ServerState::Following => (other, "follows another"),
            ServerState::Leading | ServerState::Observing => (false, ""),
        };
        if gone { Err(Resign::lost(format!("server {from}, which was elected, {does}"))) } else { Ok(()) }
    }

    /// It comes again at once: this is no sign of two servers that do not get on.
    fn leave_for_state(&mut self, core: &mut Core) -> Resign {
        if let Stage::Broadcast(broadcast) = &self.stage {
            core.state_wanted = Some(broadcast.epoch());
        }
        let reason = format!("the state here is not the one of leader {}: its whole state is asked for", self.leader);
        self.reason.clone_from(&reason);
        Resign::new(Level::Warn, reason)
    }
}
