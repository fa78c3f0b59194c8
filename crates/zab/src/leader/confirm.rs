//! Syncs: answered only after a quorum showed that it still followed this leader when they came.
//!
//! One ping to every voter serves all syncs that came before it was sent; those that come while it is under
//! way share the next. An acknowledgement of a later proposal shows as much as an answer.

use super::Leader;
use super::stream::{Learner, Stage};
use crate::core::Core;
use crate::io::{LinkId, Output, Outputs, SyncTicket};
use crate::limits::SYNCS_PENDING_MAX;
use farrier_proto::Zxid;
use std::collections::{BTreeSet, VecDeque};

/// Syncs on their way through a quorum.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Confirmations {
    /// The round of pings under way.
    running: Option<Round>,
    /// Served by it, in the order in which they came.
    asked: VecDeque<Pending>,
    /// Came after it was sent.
    waiting: VecDeque<Pending>,
    /// Confirmed ones of this server's own clients.
    confirmed: VecDeque<(SyncTicket, Zxid)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Round {
    number: u64,
    /// The last proposal when it began.
    last: Zxid,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pending {
    whose: Whose,
    /// The last proposal when it came: it is answered behind its commit.
    target: Zxid,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Whose {
    Own(SyncTicket),
    Learner(LinkId),
}

impl Confirmations {
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.waiting.len() + self.confirmed.len()
    }

    /// A learner is gone.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.asked.retain(|p| p.whose != Whose::Learner(link));
        self.waiting.retain(|p| p.whose != Whose::Learner(link));
    }
}

impl Leader {
    /// False unless the epoch is established, or if too many wait.
    pub(crate) fn sync_local(&mut self, core: &mut Core, now: u64, ticket: SyncTicket, out: &mut Outputs) -> bool {
        self.established() && self.sync(core, now, Whose::Own(ticket), out)
    }

    pub(crate) fn sync_learner(&mut self, core: &mut Core, now: u64, link: LinkId, out: &mut Outputs) {
        if self.learners.get(&link).is_some_and(|l| l.stage == Stage::UpToDate)
            && !self.sync(core, now, Whose::Learner(link), out)
        {
            self.close(link, "too many syncs wait", out);
        }
    }

    fn sync(&mut self, core: &mut Core, now: u64, whose: Whose, out: &mut Outputs) -> bool {
        if self.confirmations.len() >= SYNCS_PENDING_MAX {
            return false;
        }
        self.confirmations.waiting.push_back(Pending { whose, target: core.history.last() });
        self.confirm(core, now, out);
        true
    }

    /// Answers what is confirmed, and asks for what waits.
    ///
    /// Before anything is committed: whatever a quorum has of later proposals confirms every sync before them, so
    /// that SYNC precedes their COMMITs. Apache's learners match commits with the requests of their clients in one order
    /// for all sessions (`CommitProcessor.queuedWriteRequests`), and a sync is one of these: a COMMIT that passes it is
    /// taken for another server's, and nothing is answered behind it any more. So whoever counts for a commit
    /// counts here, before it is up to date, too.
    pub(super) fn confirm(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        self.confirm_by_proposals(core, now, out);
        if farrier_proto::planted!(SyncUnconfirmed) {
            while let Some(pending) = self.confirmations.waiting.pop_front() {
                self.confirmed(core, now, pending, out);
            }
        }
        loop {
            if let Some(round) = self.confirmations.running {
                let mut confirming: BTreeSet<_> =
                    self.voters().filter(|l| l.confirms(round.number, round.last)).map(|l| l.server).collect();
                confirming.insert(core.me());
                if !core.ensemble.is_quorum(&confirming) {
                    // Who became a follower since then, perhaps again, may be needed.
                    let zxid = self.last_proposed(core);
                    for (link, learner) in &mut self.learners {
                        if learner.votes && learner.missed(round.number) {
                            learner.ping(*link, round.number, zxid, out);
                        }
                    }
                    break;
                }
                self.confirmations.running = None;
                while let Some(pending) = self.confirmations.asked.pop_front() {
                    self.confirmed(core, now, pending, out);
                }
            }
            if self.confirmations.waiting.is_empty() {
                break;
            }
            self.confirmations.asked = std::mem::take(&mut self.confirmations.waiting);
            let number = self.ping(core, |learner| learner.votes && learner.stage == Stage::UpToDate, out);
            self.confirmations.running = Some(Round { number, last: core.history.last() });
        }
        self.confirm_own(core, out);
    }

    /// Answers this server's own clients, once everything before their sync is delivered.
    pub(super) fn confirm_own(&mut self, core: &Core, out: &mut Outputs) {
        let delivered = core.history.delivered();
        while let Some((ticket, _)) = self.confirmations.confirmed.pop_front_if(|(_, target)| *target <= delivered) {
            out.push(Output::Synced { ticket });
        }
    }

    /// Who acknowledged a proposal followed us after everything that came before it.
    fn confirm_by_proposals(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        if self.confirmations.asked.is_empty() && self.confirmations.waiting.is_empty() {
            return;
        }
        let mut acked: Vec<_> =
            self.voters().filter(|l| l.has_acked_new_leader()).map(|l| (l.acked(), l.server)).collect();
        acked.sort_unstable();
        let mut followers = BTreeSet::from([core.me()]);
        while let Some((zxid, server)) = acked.pop() {
            followers.insert(server);
            if core.ensemble.is_quorum(&followers) {
                let before = |p: &mut Pending| p.target < zxid;
                while let Some(pending) = self.confirmations.asked.pop_front_if(before).or_else(|| {
                    if self.confirmations.asked.is_empty() {
                        self.confirmations.waiting.pop_front_if(before)
                    } else {
                        None
                    }
                }) {
                    self.confirmed(core, now, pending, out);
                }
                break;
            }
        }
        if self.confirmations.asked.is_empty() {
            self.confirmations.running = None;
        }
    }

    /// One round of pings. Returns its number.
    pub(super) fn ping(&mut self, core: &Core, to: impl Fn(&Learner) -> bool, out: &mut Outputs) -> u64 {
        self.pinged += 1;
        let zxid = self.last_proposed(core);
        for (link, learner) in &mut self.learners {
            if to(learner) {
                learner.ping(*link, self.pinged, zxid, out);
            }
        }
        self.pinged
    }

    /// What pings carry: the last proposal of the epoch, or its NEWLEADER.
    fn last_proposed(&self, core: &Core) -> Zxid {
        core.history.last().max(Zxid::new(self.epoch, 0))
    }

    fn confirmed(&mut self, core: &mut Core, now: u64, pending: Pending, out: &mut Outputs) {
        match pending.whose {
            Whose::Own(ticket) => self.confirmations.confirmed.push_back((ticket, pending.target)),
            Whose::Learner(link) => {
                let Some(learner) = self.learners.get_mut(&link) else { return };
                if learner.sync(pending.target) {
                    self.pump(core, now, link, out);
                } else {
                    self.close(link, "too many syncs wait", out);
                }
            }
        }
    }
}
